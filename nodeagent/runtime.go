package nodeagent

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/pod"
	"fairlead/schema/wire"
)

// Runtime runs containers. It keeps its own truth: what it says of life and
// death comes from the kernel, not from a database. Every call is bounded by
// its context. Packages podman and runtimetest implement it; one contract test
// holds both.
type Runtime interface {
	// List gives every container of this node, strays included, sorted by ID.
	List(ctx context.Context) ([]pod.Found, error)
	// Create makes a container without starting it. A name that is taken by a
	// container that does not run is taken over. ErrNoImage if the image is not
	// present; Create never pulls. ErrNode if the node is why it fails, as of Start.
	Create(ctx context.Context, spec pod.ContainerSpec) (id string, err error)
	// Start runs a created container; when it returns the main process runs or
	// has already ended.
	Start(ctx context.Context, id string) error
	// Wait returns when the container's main process is dead. One that is not
	// running returns at once.
	Wait(ctx context.Context, id string) (pod.Exit, error)
	// Signal sends a signal to the main process; zero is the image's stop
	// signal, else SIGTERM. A container that is not running is no error.
	Signal(ctx context.Context, id string, signal syscall.Signal) error
	// Remove removes a container, whatever its state; one that is not there is no error.
	Remove(ctx context.Context, id string) error
	// ReleasePod removes what the pod's containers left: cgroups and processes in them.
	ReleasePod(ctx context.Context, uid types.UID) error
	// Image finds an image by reference; ErrNoImage if it is not present.
	Image(ctx context.Context, ref string) (pod.Image, error)
	Images(ctx context.Context) ([]pod.Image, error)
	// Pull fetches an image, also one that is present. ErrNoImage if its registry
	// does not have it, ErrDenied if it does not let this node have it, ErrNoRegistry
	// if it could not be asked, ErrNode if the node cannot keep it.
	Pull(ctx context.Context, ref string, as pod.Credential) (pod.Image, error)
	// Exec runs a command in a running container as its main process was run, with
	// the same environment, and waits for its end, for at most limit from its
	// start. Nothing that it started outlives it. What does not start at all is an
	// error. The wait for other commands to be started counts for nothing; only the
	// context bounds it.
	Exec(ctx context.Context, id string, command []string, limit time.Duration) (pod.ExecResult, error)
}

// ErrNoImage says that an image is not present on the node.
var ErrNoImage = errors.New("image not present")

// ErrNoRegistry says that the registry of an image does not answer: whether it has
// the image is not known.
var ErrNoRegistry = errors.New("registry unavailable")

// ErrDenied says that a registry does not let this node have an image.
var ErrDenied = errors.New("registry denies access")

// ErrNode says that the node, and not what it was to do, is why it was not done.
var ErrNode = errors.New("the node cannot do it")

// ErrUnavailable says that the runtime did not answer: whether the call had an
// effect is not known. Any method of Runtime may wrap it.
var ErrUnavailable = errors.New("container runtime unavailable")

// Network is everything between pods: sandboxes and the node's tables.
// Implementations are called for different pods concurrently.
type Network interface {
	// Set programs routes, services, host ports and names to be what work says.
	// It is idempotent; one caller at a time.
	Set(work *wire.Work, hostPorts []pod.HostPort) error
	// CreateSandbox gives the pod its namespaces and address, or returns those it has.
	CreateSandbox(c pod.SandboxConfig) (pod.Sandbox, error)
	DeleteSandbox(uid types.UID) error
	// Sandboxes are those on the node with their addresses; one that is half-made has none.
	Sandboxes() (map[types.UID]netip.Addr, error)
}

// Volumes prepares what containers mount.
type Volumes interface {
	// Prepare makes the pod's volumes and brings their content up to date,
	// changing nothing that is right.
	Prepare(p *corev1.Pod, data pod.Data, at pod.Place) error
	// Bind fixes what one start of a container shows at its volumeMounts and
	// returns a path for each, in their order, that no container can make lead
	// elsewhere. The paths hold until Unbind, which comes once the container runs.
	Bind(p *corev1.Pod, c *corev1.Container) ([]string, error)
	// Unbind takes back what is bound for a start of the pod; nothing is no error.
	Unbind(uid types.UID) error
	// Remove deletes the pod's volumes, mounts included; none is no error.
	Remove(uid types.UID) error
}

// Master is the agent's connection to the control plane.
type Master interface {
	// Follow hands every change of the node's work to emit until ctx ends,
	// reconnecting as often as needed. It starts from version and items, which
	// may be zero.
	Follow(ctx context.Context, version uint64, items wire.Items, emit func(Update))
	// Report tells the master; nil means it was heard.
	Report(ctx context.Context, r *wire.Report) error
	// SendLog answers a log request with body or, when there is no log, with why.
	SendLog(ctx context.Context, id string, body io.Reader, why error) error
}

// Update is one change of work. Work is whole and must not be changed; what did
// not change since the update before is shared with it.
type Update struct {
	Version uint64
	Items   wire.Items
	Work    *wire.Work // nil if only Logs came
	Changed Families
	Logs    []wire.LogRequest
}

// Families says which parts of a Work differ from the one before.
type Families struct {
	Head, Peers, Pods, Data, Services bool
	Records                           bool // what is kept for the master
}
