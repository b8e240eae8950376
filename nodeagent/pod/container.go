package pod

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Labels on every container of ours: what adoption and garbage collection go by.
const (
	LabelCluster   = "fairlead/cluster"
	LabelNode      = "fairlead/node"
	LabelPodUID    = "fairlead/pod-uid"
	LabelNamespace = "fairlead/namespace"
	LabelPod       = "fairlead/pod"
	LabelContainer = "fairlead/container"
	LabelSpecHash  = "fairlead/spec-hash"
	LabelAttempt   = "fairlead/attempt"
	LabelEpoch     = "fairlead/epoch"
	LabelRevision  = "fairlead/revision"
	LabelIP        = "fairlead/ip" // the pod's addresses
)

// LabelListSeparator stands between the values of a label that holds several.
const LabelListSeparator = ","

// ContainerSpec is everything a container runtime needs to create one
// container. Slices are in the order to use.
type ContainerSpec struct {
	Name    string // unique on the node
	Image   string // reference or id, present on the node
	Pod     types.UID
	Labels  map[string]string
	Sandbox Sandbox
	Env     []EnvVar
	// Command replaces the image's entrypoint and Args its command; a Command
	// without Args drops the image's command too. Both nil keep the image's.
	Command []string
	Args    []string
	// Shown is Command and Args as they may be told and written to disk: what
	// comes from a Secret is left as $(NAME). Nil where nothing does.
	Shown      []string
	WorkingDir string // empty keeps the image's
	Commands   bool   // are going to be run in it
	Mounts     []Mount
	LogPath    string // k8s-file log, its directory exists
	Resources  Resources
	Security   Security
}

// EnvVar is one resolved variable. Value is bytes, without NUL.
type EnvVar struct {
	Name, Value string
	Secret      bool // Value is or contains one of a Secret
}

// Mount binds a path of the node into the container.
type Mount struct {
	Source, Target string
	ReadOnly       bool
	Propagation    string // "" is private; else rslave or rshared
}

// Resources are cgroup limits; zero means none.
type Resources struct {
	CPUShares   uint64
	CPUQuota    int64 // microseconds per CPUPeriod
	CPUPeriod   uint64
	MemoryBytes int64
	OOMScoreAdj int
	// PodCPUShares is the weight of the pod as a whole among pods.
	PodCPUShares uint64
}

// Security is what the container may do; the zero value is the runtime's default.
type Security struct {
	User            string // "uid", "uid:gid" or "name:gid"; empty keeps the image's
	Groups          []string
	CapAdd, CapDrop []string
	Privileged      bool
	ReadOnlyRoot    bool
	NoNewPrivileges bool
	Seccomp         string // a file with a profile, RuntimeDefault or Unconfined; empty is RuntimeDefault where the kernel has seccomp
}

// What Seccomp may be besides a file.
const (
	RuntimeDefault = "runtime/default" // the runtime's own, which the container does not run without
	Unconfined     = "unconfined"      // any system call may be made
)

// State of a container by the agent's own truth, not the runtime's word alone.
type State string

// The states. Unknown means that the runtime and the kernel disagree in a way
// that forbids touching it: the runtime forgot a container that lives. Stray is
// a live container the runtime never finished making.
const (
	StateNone    State = ""
	StateCreated State = "created"
	StateRunning State = "running"
	StateExited  State = "exited"
	StateUnknown State = "unknown"
	StateStray   State = "stray"
)

// Found is one container as a runtime lists it.
type Found struct {
	ID         string
	Labels     map[string]string // empty for a stray
	Pod        types.UID
	State      State
	ImageID    string
	CreatedAt  time.Time
	StartedAt  time.Time
	FinishedAt time.Time
	ExitCode   int32
	// Unmonitored tells that it runs and its conmon is dead: what it prints is
	// lost, and how it ends nobody will know.
	Unmonitored bool
}

// Exit tells how a container's main process ended.
type Exit struct {
	Code       int32
	OOMKilled  bool
	Unknown    bool // the code was lost; Code is 137
	Rebooted   bool // the machine booted meanwhile
	FinishedAt time.Time
}

// Image is one image of the node.
type Image struct {
	ID    string
	Names []string
	Bytes int64
	User  string // whom it runs as, "7", "web" or "web:staff"; empty is root. Image and Pull tell it, Images need not
}

// ExecResult is how a command run in a container ended.
type ExecResult struct {
	Code   int
	Output string // of both streams, bounded
	// TimedOut tells that it took longer than it may and was ended; Code says nothing.
	TimedOut bool
}
