package control

import (
	"fmt"
	"iter"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

var nodeRow = Row{
	Kind:       schema.KindNode,
	Controller: controllerCell{Do: Controller{"node", nodeTriggers, reconcileNode}},
	Created:    createdCell{None: asWritten},
	Remove:     removeCell{None: justDeleted},
	Dependents: dependentsCell{Do: podsOnNode},
	Collect:    collectCell{None: needsNothing},
	Done:       doneCell{None: neverDone},
	Configured: configuredCell{None: notInGit},
	StandIn:    standInCell{Do: standInNode},
}

// lifecycleTaints are the taints that say what state a node is in. They are this
// controller's alone; all others are the node's configuration.
var lifecycleTaints = []corev1.Taint{
	{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute},
	{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute},
	{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodeDiskPressure, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodePIDPressure, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodeNetworkUnavailable, Effect: corev1.TaintEffectNoSchedule},
	schema.StartsFailing,
}

// IsLifecycleTaint reports whether a taint says what state the node is in, which
// makes it this room's to add and remove.
func IsLifecycleTaint(t corev1.Taint) bool {
	return slices.ContainsFunc(lifecycleTaints, func(l corev1.Taint) bool { return l.MatchTaint(&t) })
}

// nodeTriggers visits a changed node, the tainted node that a pod was bound to, and the
// node of a pod that cannot be started, or can again.
func nodeTriggers(r state.Reader, c state.Change) []schema.Key {
	if c.Key.Kind == schema.KindNode {
		return []schema.Key{c.Key}
	}
	pod, ok := c.New.(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" {
		return nil
	}
	if old, ok := c.Old.(*corev1.Pod); ok && old.Spec.NodeName == pod.Spec.NodeName && old.UID == pod.UID {
		if pod.DeletionTimestamp == nil && health.Unstarted(old) != health.Unstarted(pod) {
			return []schema.Key{{Kind: schema.KindNode, Name: pod.Spec.NodeName}}
		}
		return nil
	}
	node, ok := state.Get[*corev1.Node](r, "", pod.Spec.NodeName)
	if !ok || len(noExecute(node)) == 0 {
		return nil
	}
	return []schema.Key{schema.KeyOf(node)}
}

// reconcileNode turns a node's conditions into taints and lets go the pods that do
// not tolerate them, at once or when their time is over. The pods of a silent node
// are no longer ready: nobody knows, and no service may count on them. Their node
// says otherwise once it speaks again.
func reconcileNode(c *Context, key schema.Key) (wake time.Time) {
	node, ok := state.Get[*corev1.Node](c.Tx, "", key.Name)
	if !ok {
		return wake
	}
	next := state.Edit(node)
	wake = judgeStarts(c, next)
	next.Spec.Taints = taintsOf(c, next)
	putChanged(c, node, next)
	wake = earliest(wake, moveUnstarted(c, next))
	if nodeCondition(next, corev1.NodeReady) == corev1.ConditionUnknown {
		for pod := range state.By[*corev1.Pod](c.Tx, state.PodsByNode, key.Name) {
			clearReadiness(c, pod)
		}
	}
	taints := noExecute(next)
	if len(taints) == 0 {
		return wake
	}
	for pod := range state.By[*corev1.Pod](c.Tx, state.PodsByNode, key.Name) {
		if active(pod) {
			wake = earliest(wake, evict(c, pod, key.Name, taints))
		}
	}
	return wake
}

// clearReadiness makes a pod unready whose node says nothing any more.
func clearReadiness(c *Context, pod *corev1.Pod) {
	if !health.Ready(pod) {
		return
	}
	next := *pod // shares what does not change with the frozen one
	next.Status.Conditions = slices.Clone(pod.Status.Conditions)
	for i := range next.Status.Conditions {
		cond := &next.Status.Conditions[i]
		if cond.Type == corev1.PodReady {
			cond.Status, cond.LastTransitionTime = corev1.ConditionFalse, c.Stamp()
			cond.Reason, cond.Message = schema.ReasonNodeSilent, "node "+pod.Spec.NodeName+" does not report"
		}
	}
	c.Tx.Put(&next)
}

// taintsOf keeps the node's own taints first, then those its state calls for, in
// the order of lifecycleTaints, each with the time it was added.
func taintsOf(c *Context, node *corev1.Node) []corev1.Taint {
	var out []corev1.Taint
	for _, t := range node.Spec.Taints {
		if !IsLifecycleTaint(t) {
			out = append(out, t)
		}
	}
	for _, t := range lifecycleTaints {
		if !calledFor(node, t.Key) {
			continue
		}
		if i := slices.IndexFunc(node.Spec.Taints, func(have corev1.Taint) bool { return have.MatchTaint(&t) }); i >= 0 {
			t = node.Spec.Taints[i]
		} else {
			now := c.Stamp()
			t.TimeAdded = &now
		}
		out = append(out, t)
	}
	return out
}

func calledFor(node *corev1.Node, taint string) bool {
	switch taint {
	case corev1.TaintNodeNotReady:
		s := nodeCondition(node, corev1.NodeReady)
		return s != corev1.ConditionTrue && s != corev1.ConditionUnknown
	case corev1.TaintNodeUnreachable:
		return nodeCondition(node, corev1.NodeReady) == corev1.ConditionUnknown
	case corev1.TaintNodeUnschedulable:
		return node.Spec.Unschedulable
	case corev1.TaintNodeMemoryPressure:
		return nodeCondition(node, corev1.NodeMemoryPressure) == corev1.ConditionTrue
	case corev1.TaintNodeDiskPressure:
		return nodeCondition(node, corev1.NodeDiskPressure) == corev1.ConditionTrue
	case corev1.TaintNodePIDPressure:
		return nodeCondition(node, corev1.NodePIDPressure) == corev1.ConditionTrue
	case corev1.TaintNodeNetworkUnavailable:
		return nodeCondition(node, corev1.NodeNetworkUnavailable) == corev1.ConditionTrue
	case schema.StartsFailing.Key:
		return nodeCondition(node, schema.ConditionStartsFailing) == corev1.ConditionTrue
	}
	return false
}

// nodeCondition is "" for a condition that nobody wrote.
func nodeCondition(node *corev1.Node, t corev1.NodeConditionType) corev1.ConditionStatus {
	for _, cond := range node.Status.Conditions {
		if cond.Type == t {
			return cond.Status
		}
	}
	return ""
}

func noExecute(node *corev1.Node) []corev1.Taint {
	var out []corev1.Taint
	for _, t := range node.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			out = append(out, t)
		}
	}
	return out
}

// evict lets the pod go when its tolerance of any taint is over, and otherwise
// returns when the first one will be; zero when it tolerates all for good.
func evict(c *Context, pod *corev1.Pod, node string, taints []corev1.Taint) (wake time.Time) {
	for i := range taints {
		until, forever := toleratedUntil(c, pod, &taints[i])
		if forever {
			continue
		}
		if until.After(c.Now) {
			wake = earliest(wake, until)
			continue
		}
		why := fmt.Sprintf("node %s has taint %s", node, taints[i].ToString())
		DeletePod(c, disrupted(c, pod, "DeletionByTaintManager", why), why)
		return time.Time{}
	}
	return wake
}

// toleratedUntil takes the shortest of the tolerations that match, as Kubernetes
// does; a taint without a time counts from the pod's creation.
func toleratedUntil(c *Context, pod *corev1.Pod, taint *corev1.Taint) (until time.Time, forever bool) {
	since := pod.CreationTimestamp.Time
	if taint.TimeAdded != nil {
		since = taint.TimeAdded.Time
	}
	found := false
	for _, t := range pod.Spec.Tolerations {
		if !t.ToleratesTaint(klog.Logger{}, taint, false) {
			continue
		}
		found = true
		if t.TolerationSeconds != nil {
			until = earliest(until, since.Add(time.Duration(max(0, *t.TolerationSeconds))*time.Second))
		}
	}
	if !found {
		return c.Now, false
	}
	if taint.Key == corev1.TaintNodeNotReady && !until.IsZero() && neverRan(pod) {
		until = earliest(until, since.Add(neverRanAfter))
	}
	return until, until.IsZero()
}

func podsOnNode(r state.Reader, node schema.Object) iter.Seq[schema.Object] {
	return r.By(state.PodsByNode, node.GetName())
}

// standInNode stands for a node until it reports.
func standInNode(c *Context, about metav1.ObjectMeta) schema.Object {
	silent := corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: schema.ReasonNodeSilent,
		Message: "its record could not be read; it has not reported yet", LastHeartbeatTime: c.Stamp(), LastTransitionTime: c.Stamp(),
	}
	return &corev1.Node{ObjectMeta: about, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{silent}}}
}

// neverRanAfter is how long a pod waits that its node, which says that it cannot work,
// never started: nothing is lost by trying another node.
const neverRanAfter = 30 * time.Second

// neverRan reports whether the pod has an owner that makes another, and none of its
// containers was ever made.
func neverRan(pod *corev1.Pod) bool {
	made := func(s corev1.ContainerStatus) bool { return s.ContainerID != "" || s.RestartCount > 0 }
	return metav1.GetControllerOfNoCopy(pod) != nil && pod.Status.Phase != corev1.PodRunning &&
		!slices.ContainsFunc(pod.Status.InitContainerStatuses, made) && !slices.ContainsFunc(pod.Status.ContainerStatuses, made)
}
