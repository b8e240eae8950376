package pod

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/schema"
	"fairlead/schema/wire"
)

// Wanted is one pod that Work binds to this node.
type Wanted struct {
	wire.PodWork
	// Data identifies the ConfigMaps and Secrets its volumes show; a change
	// means "prepare the volumes again".
	Data string
}

// Observed is what the agent knows of one pod: its own record joined with what
// truly runs. It is what the agent keeps on disk between lives, so every time
// in it is wall clock of this one host.
type Observed struct {
	UID       types.UID           `json:"uid"`
	Namespace string              `json:"namespace"`
	Name      string              `json:"name"`
	Epoch     int64               `json:"epoch"`
	IPs       schema.List[string] `json:"ip,omitempty"`     // one, IPv4
	BootID    string              `json:"bootID,omitempty"` // of the boot the record was written in
	// StartedAt is when the agent first saw the pod.
	StartedAt time.Time `json:"startedAt"`
	// Sandbox and Volumes are what this life of the agent has made or adopted;
	// they are made again, idempotently, in the next.
	Sandbox      bool `json:"-"`
	VolumesReady bool `json:"-"`
	// UnderWay says that operations of the pod are being carried out, or were and what
	// they did is not known: a container may come up that was ordered before the pod's end.
	UnderWay    bool                 `json:"-"`
	Volumes     string               `json:"-"`              // Wanted.Data of the last preparation
	Setup       Failure              `json:"setup,omitzero"` // of sandbox, volumes and their removal
	Initialized bool                 `json:"initialized,omitempty"`
	Containers  map[string]Container `json:"containers,omitempty"` // newest attempt, by container name
	Leftovers   []Leftover           `json:"-"`
	// EndingAt is when the first of the pod's containers was told to end because the pod
	// is to end: its grace counts from then.
	EndingAt time.Time `json:"endingAt,omitzero"`
	// OverdueAt is when the pod was found to have been active for longer than it may. It
	// is not ready from then on, and ends once the tables have lost it.
	OverdueAt time.Time `json:"overdueAt,omitzero"`
	// DeletionSeen is when the agent first saw the pod's deletion.
	DeletionSeen time.Time        `json:"deletionSeen,omitzero"`
	Grace        time.Duration    `json:"grace"`              // for a pod that left Work without a word
	Released     bool             `json:"released,omitempty"` // sandbox, volumes and address given back
	Status       corev1.PodStatus `json:"status"`             // as last told; carries transition times
}

// Leftover is a container of the pod that must go: an older attempt, or one of
// which nothing is known.
type Leftover struct {
	ID     string
	Alive  bool
	Reason string
}

// Container is the newest attempt of one container of a pod.
type Container struct {
	ID       string `json:"id,omitempty"`
	Present  bool   `json:"present,omitempty"` // the runtime still has it
	Attempt  int    `json:"attempt"`           // from 0; the restart count
	SpecHash string `json:"specHash,omitempty"`
	Image    string `json:"image,omitempty"`
	ImageID  string `json:"imageID,omitempty"`

	// Sidecar is 1 and more for a sidecar, in the order of their start, else 0. It is
	// kept for the end of a pod whose spec is not known any more.
	Sidecar int `json:"sidecar,omitempty"`

	State      State     `json:"state,omitempty"`
	StartedAt  time.Time `json:"startedAt,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
	ExitCode   int32     `json:"exitCode,omitempty"`
	Reason     string    `json:"reason,omitempty"` // of the exit
	// Message is what it left to be said of its end, once Heard tells that this was
	// looked for.
	Message string `json:"message,omitempty"`
	Heard   bool   `json:"heard,omitempty"`

	StopReason string        `json:"stopReason,omitempty"` // why SIGTERM went out
	TermAt     time.Time     `json:"termAt,omitzero"`
	KillAt     time.Time     `json:"killAt,omitzero"`
	StopGrace  time.Duration `json:"stopGrace,omitempty"`

	Crashes int     `json:"crashes,omitempty"` // exits in a row without a long run
	Failure Failure `json:"failure,omitzero"`
	// Pulled is 1 + the attempt for which imagePullPolicy Always was satisfied.
	Pulled int `json:"pulled,omitempty"`

	// PostStarted tells that the postStart hook has passed, or that there is none;
	// PostStartFailed why it did not.
	PostStarted     bool   `json:"postStarted,omitempty"`
	PostStartFailed string `json:"postStartFailed,omitempty"`
	// PreStopAt is when the preStop hook began: the grace counts from then. PreStopped
	// tells that it is through, however it ended.
	PreStopAt  time.Time `json:"preStopAt,omitzero"`
	PreStopped bool      `json:"preStopped,omitempty"`

	Started  bool   `json:"started,omitempty"` // startup probe passed
	Ready    bool   `json:"ready,omitempty"`
	Unlively string `json:"unlively,omitempty"` // why liveness or startup failed for good
	// Unmonitored is when it was found to run without its conmon. It is not
	// ready from then on, and is replaced once the tables have lost it.
	Unmonitored time.Time                        `json:"unmonitored,omitzero"`
	Last        *corev1.ContainerStateTerminated `json:"last,omitempty"`
}

// Failure is a step that failed and will be tried again after a back-off. The
// zero value means "none".
type Failure struct {
	Reason  string    `json:"reason,omitempty"`
	Message string    `json:"message,omitempty"`
	Count   int       `json:"count,omitempty"`
	At      time.Time `json:"at,omitzero"`
}

// Back-off of restarts and retries, as Kubernetes has them.
const (
	backoffFirst = 10 * time.Second
	backoffMost  = 5 * time.Minute
	longRun      = 10 * time.Minute // a run this long starts the back-off anew
	setupFirst   = 1 * time.Second  // sandbox and volumes: local, cheap to try
)

func doubling(first time.Duration, n int) time.Duration {
	d := first
	for ; n > 1 && d < backoffMost; n-- {
		d *= 2
	}
	return min(d, backoffMost)
}

// Again is the same step failing once more.
func (f Failure) Again(reason, message string, now time.Time) Failure {
	return Failure{Reason: reason, Message: message, Count: f.Count + 1, At: now}
}

// Retry forgets the wait, not the count: something the step depends on changed.
func (f Failure) Retry() Failure {
	f.At = time.Time{}
	return f
}

func (f Failure) due(first time.Duration) time.Time {
	if f.Count == 0 || f.At.IsZero() {
		return time.Time{}
	}
	return f.At.Add(doubling(first, f.Count))
}

// RestartAt is when the next attempt of an exited container may start: the
// first restart at once, then 10 s doubling to 5 m.
func (c Container) RestartAt() time.Time {
	if c.Crashes <= 1 {
		return time.Time{}
	}
	return c.FinishedAt.Add(doubling(backoffFirst, c.Crashes-1))
}

// Exited is c after its main process ended.
func (c Container) Exited(e Exit) Container {
	c.State, c.ExitCode, c.FinishedAt = StateExited, e.Code, e.FinishedAt
	c.Started, c.Ready = false, false
	switch {
	case e.OOMKilled:
		c.Reason = schema.ReasonOOMKilled
	case e.Rebooted:
		c.Reason = schema.ReasonNodeRebooted
	case c.Unlively != "" && (!c.TermAt.IsZero() || !c.KillAt.IsZero()):
		c.Reason = schema.ReasonUnhealthy
	case c.PostStartFailed != "" && (!c.TermAt.IsZero() || !c.KillAt.IsZero()):
		c.Reason = schema.ReasonPostStart
	case !c.Unmonitored.IsZero():
		c.Reason = schema.ReasonConmonDied
	case e.Unknown:
		c.Reason = schema.ReasonStatusUnknown
	case e.Code == 0:
		c.Reason = "Completed"
	default:
		c.Reason = "Error"
	}
	if c.FinishedAt.Sub(c.StartedAt) >= longRun {
		c.Crashes = 0
	}
	c.Crashes++
	return c
}

// Next is the attempt that follows c, just started as id.
func (c Container) Next(id string, attempt int, specHash, image, imageID string, now time.Time) Container {
	n := Container{
		ID: id, Present: true, Attempt: attempt, SpecHash: specHash, Image: image, ImageID: imageID,
		State: StateRunning, StartedAt: now, Crashes: c.Crashes, Last: c.Last, Pulled: c.Pulled, Sidecar: c.Sidecar,
	}
	if c.State == StateExited {
		n.Last = c.terminated()
	}
	return n
}

func (c Container) terminated() *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		ExitCode: c.ExitCode, Reason: c.Reason, ContainerID: containerID(c.ID),
		StartedAt: metav1.NewTime(c.StartedAt), FinishedAt: metav1.NewTime(c.FinishedAt),
	}
	switch c.Reason {
	case schema.ReasonStatusUnknown:
		t.Message = "the container ended while nothing watched it"
	case schema.ReasonConmonDied:
		t.Message = "its conmon had died, and it was stopped to be replaced"
	case schema.ReasonNodeRebooted:
		t.Message = "the node booted while the container ran"
	case schema.ReasonUnhealthy:
		t.Message = c.Unlively
	case schema.ReasonPostStart:
		t.Message = c.PostStartFailed
	}
	t.Message = nonEmpty(t.Message, c.Message)
	return t
}

func containerID(id string) string {
	if id == "" {
		return ""
	}
	return "podman://" + id
}

func (c Container) alive() bool {
	return c.State == StateRunning || c.State == StateUnknown
}
