package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler/scheduler"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// fork is a cluster of its own with a clock of its own and model agents: each
// makes a bound pod ready after its probes' least delay and lets a terminating
// one go at once.
type fork struct {
	engine  *settle.Engine
	base    *state.Snapshot
	tx      *state.Txn
	queue   *settle.Queue
	start   time.Time
	now     time.Time
	ready   map[schema.Key]time.Time // when a model agent reports the pod ready
	going   []schema.Key             // pods a model agent lets go at its next turn
	stopped map[types.UID]string     // why a pod of the base was stopped
	seen    int                      // changes of tx already looked at
	bound   string                   // which bound ended the fork, "" for none
}

func newFork(engine *settle.Engine, base *state.Snapshot, queue *settle.Queue, now time.Time) *fork {
	q := queue.Clone()
	q.ForgetWakes()
	f := &fork{engine: engine, base: base, tx: base.Begin(), queue: q, start: now, now: now, ready: map[schema.Key]time.Time{}, stopped: map[types.UID]string{}}
	for pod := range state.All[*corev1.Pod](base, "") {
		f.hand(pod)
	}
	return f
}

// run settles, lets the agents act, and jumps to the next thing due, until
// nothing is.
func (f *fork) run() {
	for range MaxForkTurns {
		f.engine.Run(f.tx, f.queue, f.now)
		if !f.queue.Rested() {
			continue
		}
		f.watchPods()
		if f.act() {
			continue
		}
		next := f.next()
		switch {
		case next.IsZero():
			return
		case next.Sub(f.start) > MaxForkTime:
			f.bound = "not settled after " + MaxForkTime.String() + " of the plan's own time"
			return
		}
		f.now = next
	}
	f.bound = fmt.Sprintf("not settled after %d turns", MaxForkTurns)
}

// next is when something is due: a pod becoming ready, or, while pods are under
// way, what a controller asked for.
func (f *fork) next() time.Time {
	var next time.Time
	for _, at := range f.ready {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	if wake := f.queue.NextWake(); !wake.IsZero() && (next.IsZero() || wake.Before(next)) {
		next = wake
	}
	return next
}

// watchPods hands the model agents the pods that the fork bound or began to
// terminate since the last turn.
func (f *fork) watchPods() {
	for _, ch := range f.tx.ChangesAfter(&f.seen) {
		if pod, ok := ch.New.(*corev1.Pod); ok {
			f.hand(pod)
		}
	}
}

func (f *fork) hand(pod *corev1.Pod) {
	key := schema.KeyOf(pod)
	if pod.DeletionTimestamp != nil {
		f.going = append(f.going, key)
		delete(f.ready, key)
		return
	}
	if pod.Spec.NodeName == "" || pod.Status.Phase != corev1.PodPending {
		return
	}
	if _, ok := f.ready[key]; !ok {
		f.ready[key] = f.now.Add(leastDelay(pod))
	}
}

// act lets the model agents do what is due at f.now; it reports whether they
// did anything.
func (f *fork) act() bool {
	acted := len(f.going) > 0
	for _, key := range f.going {
		if pod, ok := f.tx.Get(key).(*corev1.Pod); ok {
			f.stopped[pod.UID] = stopReason(f.tx, pod)
			f.tx.Delete(key)
		}
	}
	f.going = nil
	for _, key := range slices.SortedFunc(maps.Keys(f.ready), schema.Key.Compare) {
		if f.ready[key].After(f.now) {
			continue
		}
		delete(f.ready, key)
		if pod, ok := f.tx.Get(key).(*corev1.Pod); ok {
			f.tx.Put(modelReady(pod, f.now))
			acted = true
		}
	}
	return acted
}

func (f *fork) changes() []state.Change { return f.tx.Changes() }

func stopReason(r state.Reader, pod *corev1.Pod) string {
	ref := metav1.GetControllerOf(pod)
	if ref == nil {
		return "no longer in the tree"
	}
	if r.Get(schema.Key{Kind: schema.Kind(ref.Kind), Namespace: pod.Namespace, Name: ref.Name}) == nil {
		return ref.Kind + " " + ref.Name + " goes"
	}
	return ref.Kind + " " + ref.Name + " wants fewer"
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// leastDelay is the soonest a pod's probes let it be ready.
func leastDelay(pod *corev1.Pod) time.Duration {
	var most int32
	for _, c := range pod.Spec.Containers {
		var d int32
		if c.StartupProbe != nil {
			d += c.StartupProbe.InitialDelaySeconds
		}
		if c.ReadinessProbe != nil {
			d += c.ReadinessProbe.InitialDelaySeconds + (c.ReadinessProbe.SuccessThreshold-1)*c.ReadinessProbe.PeriodSeconds
		}
		most = max(most, d)
	}
	return time.Duration(most) * time.Second
}

// modelReady is the pod as an agent reports it once everything went well. A pod
// that is not restarted has done its work instead.
func modelReady(pod *corev1.Pod, now time.Time) *corev1.Pod {
	next := state.Edit(pod)
	at := metav1.NewTime(now)
	next.Status.Phase = corev1.PodRunning
	next.Status.StartTime = &at
	for _, t := range []corev1.PodConditionType{corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		next.Status.Conditions = append(slices.DeleteFunc(next.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == t }),
			corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: at})
	}
	next.Status.ContainerStatuses = nil
	for _, c := range pod.Spec.Containers {
		started := true
		next.Status.ContainerStatuses = append(next.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, Ready: true, Started: &started,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at}},
		})
	}
	return next
}

func (f *fork) refusal(pod *corev1.Pod) []scheduler.NodeReason {
	return scheduler.NewView(f.tx).Schedule(pod, "").Reasons
}

// capacity sums requests before and after, for each node and resource.
func (f *fork) capacity() []Capacity {
	before, after := requested(f.base), requested(f.tx)
	var out []Capacity
	for node := range state.All[*corev1.Node](f.tx, "") {
		for _, res := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			allocatable := node.Status.Allocatable[res]
			b, a := before[node.Name][res], after[node.Name][res]
			out = append(out, Capacity{Node: schema.NodeName(node.Name), Resource: string(res), Allocatable: allocatable.String(), Before: b.String(), After: a.String()})
		}
	}
	slices.SortFunc(out, func(a, b Capacity) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Resource, b.Resource))
	})
	return out
}

func requested(r state.Reader) map[string]map[corev1.ResourceName]resource.Quantity {
	out := map[string]map[corev1.ResourceName]resource.Quantity{}
	for node := range state.All[*corev1.Node](r, "") {
		sums := map[corev1.ResourceName]resource.Quantity{}
		for pod := range state.By[*corev1.Pod](r, state.PodsByNode, node.Name) {
			for res, q := range scheduler.Requests(pod) {
				sum := sums[res]
				sum.Add(q)
				sums[res] = sum
			}
		}
		out[node.Name] = sums
	}
	return out
}
