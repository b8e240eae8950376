package plan

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler/control"
	"fairlead/reconciler/health"
	"fairlead/reconciler/scheduler"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Bounds of one run of a fork: how long in its own time, and how many turns.
const (
	MaxForkTime  = 30 * time.Minute
	MaxForkTurns = 1_000
)

// lingers is how long a terminating pod keeps its room at most. A real one takes
// about as long to leave the service tables and end. Too short a time would plan
// places that are not free yet when their pods come; too long a one does not:
// what fits beside a pod that lingers fits once it is gone.
const lingers = 5 * time.Second

// fork is a cluster of its own with a clock of its own and model agents: each
// makes a bound pod ready after its probes' least delay and lets a terminating
// one go after a while. The agents of nodes that are not ready do nothing.
type fork struct {
	engine *settle.Engine
	base   *state.Snapshot
	tx     *state.Txn
	queue  *settle.Queue
	now    time.Time
	ready  map[schema.Key]time.Time // when a model agent reports the pod ready
	going  map[schema.Key]time.Time // when it lets the pod go
	seen   int                      // changes of tx already looked at
	bound  string                   // which bound ended the fork, "" for none
	// happens is what befalls a node at present, "" while the tree settles;
	// causes holds it for every pod made or let go meanwhile.
	happens string
	causes  map[types.UID]string
	rows    schema.Rows[row]
	// unforeseen are the makers of pods of which no row says what becomes of them.
	unforeseen map[string]bool
	// awaited are the ConfigMaps and Secrets that are not there, with whose pods wait for
	// them.
	awaited map[schema.Key][]string
}

func newFork(engine *settle.Engine, base *state.Snapshot, queue *settle.Queue, now time.Time) *fork {
	q := queue.Clone()
	engine.ForgetWakes(q)
	f := &fork{
		engine: engine.Foreseeing(), base: base, tx: base.Begin(), queue: q, now: now,
		ready: map[schema.Key]time.Time{}, going: map[schema.Key]time.Time{}, causes: map[types.UID]string{},
		rows: rows, unforeseen: map[string]bool{}, awaited: map[schema.Key][]string{},
	}
	for pod := range state.All[*corev1.Pod](base, "") {
		f.hand(pod)
	}
	return f
}

// rested is a fork of the cluster as it will be once what is under way has ended.
func rested(engine *settle.Engine, base *state.Snapshot, queue *settle.Queue, now time.Time) *fork {
	f := newFork(engine, base, queue, now)
	f.run()
	return f.next()
}

// next is a fork of what f came to; f is used up.
func (f *fork) next() *fork {
	next := newFork(f.engine, f.tx.Commit(), f.queue, f.now)
	next.bound, next.unforeseen, next.awaited = f.bound, f.unforeseen, f.awaited
	return next
}

func (f *fork) context() *control.Context { return f.engine.Context(f.tx, f.now) }

// run settles, lets the agents act, and jumps to the next thing due, until
// nothing is.
func (f *fork) run() {
	start := f.now
	for range MaxForkTurns {
		f.engine.Run(f.tx, f.queue, f.now)
		if !f.queue.Rested() {
			continue
		}
		f.watchPods()
		if f.act() {
			continue
		}
		due := f.due()
		switch {
		case due.IsZero():
			return
		case due.Sub(start) > MaxForkTime:
			f.bound = "not settled after " + MaxForkTime.String() + " of the plan's own time"
			return
		}
		f.now = due
	}
	f.bound = fmt.Sprintf("not settled after %d turns", MaxForkTurns)
}

// due is when something happens next: a pod becomes ready or goes, or a controller
// asked to look again.
func (f *fork) due() time.Time {
	next := f.queue.NextWake()
	for _, times := range []map[schema.Key]time.Time{f.ready, f.going} {
		for _, at := range times {
			if next.IsZero() || at.Before(next) {
				next = at
			}
		}
	}
	return next
}

// watchPods notes for what reason pods came and went since the last turn, and
// hands the model agents those that were bound or began to terminate.
func (f *fork) watchPods() {
	for _, ch := range f.tx.ChangesAfter(&f.seen) {
		old, _ := ch.Old.(*corev1.Pod)
		pod, _ := ch.New.(*corev1.Pod)
		if f.happens != "" {
			switch {
			case old == nil && pod != nil:
				f.causes[pod.UID] = f.happens
			case old != nil && old.DeletionTimestamp == nil && (pod == nil || pod.DeletionTimestamp != nil):
				f.causes[old.UID] = f.happens
			}
		}
		if pod != nil {
			f.hand(pod)
		}
	}
}

func (f *fork) hand(pod *corev1.Pod) {
	key := schema.KeyOf(pod)
	switch {
	case pod.DeletionTimestamp != nil:
		later(f.going, key, f.now.Add(lingerTime(pod)))
		delete(f.ready, key)
	case pod.Spec.NodeName != "" && pod.Status.Phase == corev1.PodPending:
		later(f.ready, key, f.now.Add(leastDelay(pod)))
	}
}

// later notes a time unless one is noted already.
func later(times map[schema.Key]time.Time, key schema.Key, at time.Time) {
	if _, ok := times[key]; !ok {
		times[key] = at
	}
}

func lingerTime(pod *corev1.Pod) time.Duration {
	if grace := pod.DeletionGracePeriodSeconds; grace != nil {
		return min(lingers, time.Duration(*grace)*time.Second)
	}
	return lingers
}

// act lets the model agents do what is due at f.now; it reports whether they
// did anything.
func (f *fork) act() bool {
	acted := false
	for _, key := range f.dueOf(f.going) {
		if pod, ok := f.tx.Get(key).(*corev1.Pod); ok && health.NodeReady(f.tx, pod.Spec.NodeName) {
			f.tx.Delete(key)
			acted = true
		}
	}
	for _, key := range f.dueOf(f.ready) {
		if pod, ok := f.tx.Get(key).(*corev1.Pod); ok && health.NodeReady(f.tx, pod.Spec.NodeName) {
			if next, known := f.reported(pod); known {
				f.tx.Put(next)
				acted = true
			}
		}
	}
	return acted
}

// dueOf takes what is due out of times, sorted.
func (f *fork) dueOf(times map[schema.Key]time.Time) []schema.Key {
	keys := slices.SortedFunc(maps.Keys(times), schema.Key.Compare)
	keys = slices.DeleteFunc(keys, func(key schema.Key) bool { return times[key].After(f.now) })
	for _, key := range keys {
		delete(times, key)
	}
	return keys
}

// leastDelay is the soonest a pod's probes let it be ready. What comes after a sidecar
// begins when that has started.
func leastDelay(pod *corev1.Pod) time.Duration {
	var begun, most int32
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if !schema.IsSidecar(c) {
			continue
		}
		started, ready := probeDelays(c)
		begun, most = begun+started, max(most, begun+ready)
	}
	for i := range pod.Spec.Containers {
		_, ready := probeDelays(&pod.Spec.Containers[i])
		most = max(most, begun+ready)
	}
	return time.Duration(most) * time.Second
}

// probeDelays is how many seconds after its start a container counts as started, and as
// ready, at the soonest.
func probeDelays(c *corev1.Container) (started, ready int32) {
	if hook := schema.Hooks(c)[schema.PostStart]; hook != nil && hook.Sleep != nil {
		started = int32(hook.Sleep.Seconds) // within the pod's grace, which is an int32
	}
	if p := c.StartupProbe; p != nil {
		started += p.InitialDelaySeconds
	}
	ready = started
	if p := c.ReadinessProbe; p != nil {
		ready += p.InitialDelaySeconds + (p.SuccessThreshold-1)*p.PeriodSeconds
	}
	return started, ready
}

func (f *fork) refusal(pod *corev1.Pod) []scheduler.NodeReason {
	return scheduler.NewView(f.tx).Against(pod)
}
