package settle

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/control"
	"fairlead/reconciler/health"
	"fairlead/reconciler/scheduler"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// MaxDiffers bounds the notes a revision keeps of placements that came out
// other than planned.
const MaxDiffers = 20

// MaxScheduledEvents bounds the events one Run writes of pods that were bound:
// thousands at once would push all others out, and cost as much as the bindings.
// The pods themselves say where they went, and when.
const MaxScheduledEvents = 100

// PlannedRoomWait is how long a pod waits, from its creation, for room on the node
// where it was planned while others have room: about what an old pod takes to leave
// the service tables and end. A pod that goes elsewhere at once may take what the
// plan gives to another one that is not made yet.
const PlannedRoomWait = 10 * time.Second

// place binds an unbound pod, or writes down why it is not; wake is when to try
// again, zero for when something changes.
func (r *run) place(key schema.Key) (wake time.Time) {
	pod, ok := state.Get[*corev1.Pod](r.tx, key.Namespace, key.Name)
	if !ok || pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil {
		return time.Time{}
	}
	c := r.choose(pod)
	switch {
	case c.Node == "":
		r.refuse(pod, c.Decision)
		return time.Time{}
	case !c.until.IsZero():
		r.await(pod, c.planned)
		return c.until
	}
	bound := state.Shallow(pod)
	bound.Annotations = make(map[string]string, len(pod.Annotations)+1)
	maps.Copy(bound.Annotations, pod.Annotations)
	bound.Status.Conditions = slices.DeleteFunc(slices.Clone(pod.Status.Conditions), isLacking)
	r.bind(bound, c)
	return time.Time{}
}

// putPod stores a pod that is new, bound if a node takes it. If none does, its
// creation has it placed, and refused with a reason, like any other that waits.
func (r *run) putPod(pod *corev1.Pod) {
	c := r.choose(pod)
	if c.Node == "" || !c.until.IsZero() {
		r.tx.Put(pod)
		return
	}
	r.bind(pod, c)
	r.q.view.Assume(pod, c.Node) // for those that are made by the same visit
}

// choice is where a pod goes, and where its revision planned it.
type choice struct {
	scheduler.Decision
	planned  schema.NodeName // "" for no plan of it
	revision *schema.Revision
	until    time.Time // it waits for the planned node until then, zero for not
}

// view is what placement knows of the cluster.
func (r *run) view() *scheduler.View {
	if r.q.view == nil {
		r.q.view = scheduler.NewView(r.tx)
	}
	return r.q.view
}

func (r *run) takenElsewhere(pod *corev1.Pod) bool { return r.view().TakenElsewhere(pod) }

func (r *run) choose(pod *corev1.Pod) choice {
	c := choice{}
	c.revision, c.planned = plannedNode(r.tx, pod)
	c.Decision = r.view().Schedule(pod, c.planned)
	if c.planned == "" || c.Node == "" || c.Node == c.planned || !r.q.view.LacksRoom(pod, c.planned) {
		return c
	}
	made := pod.CreationTimestamp.Time
	if made.IsZero() {
		made = r.ctx.Now
	}
	if age := r.ctx.Now.Sub(made); age >= 0 && age < PlannedRoomWait { // less than none: the clock was put back
		c.until = made.Add(PlannedRoomWait)
	}
	return c
}

// bind stores the pod, which it changes in place, as committed to the node chosen.
// The epoch is the resourceVersion before the binding: it grows with every binding
// of the cluster.
func (r *run) bind(pod *corev1.Pod, c choice) {
	pod.Spec.NodeName = string(c.Node)
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, schema.AnnotationEpoch, strconv.FormatUint(r.tx.Counters().ResourceVersion, 10))
	setPodScheduled(pod, corev1.ConditionTrue, "", "", r.ctx.Stamp())
	r.tx.Put(pod)
	if r.bound++; r.bound <= MaxScheduledEvents {
		control.Event(r.ctx, pod, corev1.EventTypeNormal, "Scheduled", fmt.Sprintf("assigned %s/%s to %s", pod.Namespace, pod.Name, c.Node))
	}
	if c.planned != "" && c.Node != c.planned {
		noteDifference(r.tx, c.revision, fmt.Sprintf("differs from plan: pod %s/%s runs on %s, planned %s: %s", pod.Namespace, pod.Name, c.Node, c.planned, strings.Join(c.Against, ", ")))
	}
}

func (r *run) refuse(pod *corev1.Pod, d scheduler.Decision) {
	edited := state.Edit(pod)
	refused := setPodScheduled(edited, corev1.ConditionFalse, corev1.PodReasonUnschedulable, d.Message, r.ctx.Stamp())
	if !setPodCondition(edited, corev1.PodCondition{Type: schema.ConditionLacking, Status: corev1.ConditionTrue, Reason: d.Lacks, LastTransitionTime: r.ctx.Stamp()}) && !refused {
		return
	}
	r.tx.Put(edited)
	control.Event(r.ctx, edited, corev1.EventTypeWarning, "FailedScheduling", d.Message)
}

// await writes down that the pod waits for room on the node where it was planned.
func (r *run) await(pod *corev1.Pod, planned schema.NodeName) {
	edited := state.Edit(pod)
	edited.Status.Conditions = slices.DeleteFunc(edited.Status.Conditions, isLacking)
	message := fmt.Sprintf("planned on %s, which has no room yet", planned)
	if setPodScheduled(edited, corev1.ConditionFalse, schema.ReasonPlannedNodeFull, message, r.ctx.Stamp()) {
		r.tx.Put(edited)
	}
}

func isLacking(c corev1.PodCondition) bool { return c.Type == schema.ConditionLacking }

// setPodScheduled reports whether the condition changed.
func setPodScheduled(pod *corev1.Pod, status corev1.ConditionStatus, reason, message string, now metav1.Time) bool {
	return setPodCondition(pod, corev1.PodCondition{Type: corev1.PodScheduled, Status: status, Reason: reason, Message: message, LastTransitionTime: now})
}

// setPodCondition keeps the transition time where the status did not change.
func setPodCondition(pod *corev1.Pod, want corev1.PodCondition) bool {
	i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == want.Type })
	if i < 0 {
		pod.Status.Conditions = append(pod.Status.Conditions, want)
		return true
	}
	have := &pod.Status.Conditions[i]
	if have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message {
		return false
	}
	if have.Status == want.Status {
		want.LastTransitionTime = have.LastTransitionTime
	}
	*have = want
	return true
}

// plannedNode is where the source's applied revision planned the pod to run.
func plannedNode(r state.Reader, pod *corev1.Pod) (*schema.Revision, schema.NodeName) {
	src, ok := state.Source(r, schema.SourceOf(pod))
	if !ok || src.Status.Applied.Commit == "" {
		return nil, ""
	}
	rev, ok := health.Applied(r, src)
	if !ok {
		return nil, ""
	}
	return rev, rev.Status.Placements[pod.Namespace+"/"+pod.Name]
}

func noteDifference(tx *state.Txn, rev *schema.Revision, note string) {
	if slices.Contains(rev.Status.Differs, note) || len(rev.Status.Differs) >= MaxDiffers {
		return
	}
	edited := state.Edit(rev)
	edited.Status.Differs = append(edited.Status.Differs, note)
	tx.Put(edited)
}

// placementTriggers: an unbound pod is tried when it appears, and all of them
// again when a node changes or a bound pod gives its room back.
func placementTriggers(r state.Reader, c state.Change) []schema.Key {
	pod, isPod := c.New.(*corev1.Pod)
	if isPod && pod.Spec.NodeName == "" {
		if c.Old == nil {
			return []schema.Key{c.Key}
		}
		return nil
	}
	if !givesRoom(c) {
		return nil
	}
	var keys []schema.Key
	for p := range state.By[*corev1.Pod](r, state.PodsByNode, "") {
		keys = append(keys, schema.KeyOf(p))
	}
	return keys
}

// givesRoom reports whether a pod may fit after a change that did not before.
func givesRoom(c state.Change) bool {
	switch c.Key.Kind {
	case schema.KindNode:
		return true
	case schema.KindPod:
		held := roomTaken(c.Old)
		return held != "" && held != roomTaken(c.New)
	}
	return false
}

// roomTaken names the node on which the pod holds room, "" for none.
func roomTaken(obj schema.Object) string {
	pod, ok := obj.(*corev1.Pod)
	if !ok || pod == nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return ""
	}
	return pod.Spec.NodeName
}
