// Package control answers "what follows from this object?": pure controllers,
// one file per kind, that turn desired objects into the objects they own and
// write status. A controller is a function of (transaction, key, now); it reads
// no clock, no randomness and no map order, and a second visit without a change
// writes nothing. The settle engine alone calls them; placing pods on nodes is
// the scheduler's and running them the agents'.
package control

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Context is what one visit may use. Times that controllers write are Now cut to
// the second, as the wire formats keep them.
type Context struct {
	Tx     *state.Txn
	Now    time.Time
	Config Config
	// PutPod stores a pod that a controller made, with the node it is to run on where
	// one takes it: thousands made at once are then stored once each. Nil stores it
	// without one. The pod is the callee's from then on, but for what it shares with
	// its template.
	PutPod func(pod *corev1.Pod)
	// TakenElsewhere reports whether a node that is not known to fail would take a pod
	// like one that its own node cannot start. Nil is for nobody who knows.
	TakenElsewhere func(pod *corev1.Pod) bool
}

// Config is what the controllers need to know of the cluster. A duration of zero
// is its default.
type Config struct {
	ServiceCIDR                 netip.Prefix // IPv4
	DNS                         netip.Addr   // reserved in ServiceCIDR, given to no service
	NodePortFirst, NodePortLast uint16       // both included
	EvictionAfter               time.Duration
	ProgressDeadline            time.Duration
	StallAfter                  time.Duration
	ProofOfLife                 time.Duration
	EndedPodKept                time.Duration
	// Foreseen says that the cluster is a plan's: what only the time brings does not
	// happen in it, as a CronJob's next run or the end of a Job's time to live.
	Foreseen bool
}

// Defaults of Config's durations.
const (
	// DefaultEvictionAfter is how long a pod stays bound to a node that is not
	// ready or unreachable, unless it says otherwise itself.
	DefaultEvictionAfter = 300 * time.Second
	// DefaultProgressDeadline is for workloads and sources that name none.
	DefaultProgressDeadline = schema.DefaultProgressDeadline
	// DefaultProofOfLife is how long a pod without a readiness probe must have run
	// before the revision that brought it may be called healthy.
	DefaultProofOfLife = 3 * time.Second
	// DefaultStallAfter is how long a rollout may stand still for lack of
	// capacity or images before its revision is called Stalled: longer than an
	// old pod usually needs to make room.
	DefaultStallAfter = 30 * time.Second
	// DefaultEndedPodKept is how long a replica set keeps a pod that ended, so
	// that its message and log can be read.
	DefaultEndedPodKept = time.Minute
)

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// Controller is one kind of controller.
type Controller struct {
	Name string
	// Triggers lists the keys to visit because of a change. It looks at what is
	// there now and at both sides of the change; too many keys cost time, too few
	// lose work.
	Triggers func(r state.Reader, c state.Change) []schema.Key
	// Reconcile visits a key, which may be gone, and returns when to visit it
	// again without a change; zero is never.
	Reconcile func(c *Context, key schema.Key) (wake time.Time)
}

// Table lists the controllers in the order they are told of a change: what collects
// garbage, then the kinds' own.
func Table() []Controller {
	out := []Controller{{"garbage", garbageTriggers, reconcileGarbage}}
	for _, row := range rows.All() {
		if row.Controller.Do.Reconcile != nil {
			out = append(out, row.Controller.Do)
		}
	}
	return out
}

// OwnAnnotations are the annotations that the cluster writes on objects which
// stand in Git; applying an object keeps them.
var OwnAnnotations = []string{annotationRevision, schema.AnnotationEpoch, schema.AnnotationDrained, schema.AnnotationLedger}

func (c *Context) putPod(pod *corev1.Pod) {
	if c.PutPod == nil {
		c.Tx.Put(pod)
		return
	}
	c.PutPod(pod)
}

// Stamp is the visit's time as objects carry it.
func (c *Context) Stamp() metav1.Time { return metav1.NewTime(c.Now.UTC().Truncate(time.Second)) }

// putChanged stores next unless it equals old.
func putChanged[T schema.Object](c *Context, old, next T) bool {
	if equality.Semantic.DeepEqual(old, next) {
		return false
	}
	c.Tx.Put(next)
	return true
}

// earliest is the sooner of two wake-ups; zero means none.
func earliest(a, b time.Time) time.Time {
	switch {
	case a.IsZero():
		return b
	case b.IsZero() || a.Before(b):
		return a
	}
	return b
}

// changedSides yields the object before and after a change, whichever exist, if
// they are of type T.
func changedSides[T schema.Object](c state.Change) []T {
	var out []T
	for _, side := range []schema.Object{c.Old, c.New} {
		if obj, ok := side.(T); ok {
			out = append(out, obj)
		}
	}
	return out
}

// ownKey is the trigger of a kind's own objects.
func ownKey(kind schema.Kind, c state.Change) []schema.Key {
	if c.Key.Kind != kind {
		return nil
	}
	return []schema.Key{c.Key}
}
