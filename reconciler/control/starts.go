package control

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// A node may pass its checks and still be why a pod does not start there: a full disk,
// no file handles left, a device that others have. While it is, new pods avoid it where
// another node takes them, and a pod that waits on it is made anew elsewhere. Where no
// other node takes it, it stays and is tried again there.
const (
	// startsRetried is how long a node may try to start a pod before that goes
	// elsewhere: a few attempts of the agent, whose pauses double from a second on. It
	// is how often a pod that stays is looked at, too.
	startsRetried = 30 * time.Second
	// avoidedFirst is how long a node is avoided after the last pod that it could not
	// start, doubled each time that it fails again soon after, up to avoidedMost: each
	// time costs the pods that try it startsRetried.
	avoidedFirst = 5 * time.Minute
	avoidedMost  = time.Hour
)

// reasonMoved is that of the condition DisruptionTarget of a pod that never started
// where it was, and is made anew elsewhere: it is no failure of what owns it.
const reasonMoved = "NotStartedThere"

// judgeStarts notes in the node's conditions whether it keeps pods from being started,
// and returns when to look again. In a plan nothing of it changes.
func judgeStarts(c *Context, node *corev1.Node) (wake time.Time) {
	if c.Config.Foreseen {
		return wake
	}
	trouble, unstarted := firstKept(c.Tx, node.Name)
	if unstarted {
		wake = c.Now.Add(startsRetried) // what is like it may start elsewhere
	}
	cond, known := health.NodeCondition(node, schema.ConditionStartsFailing)
	failing := known && cond.Status == corev1.ConditionTrue
	switch {
	case trouble != nil && failing && cond.Reason == schema.ReasonNodeError, trouble == nil && !failing:
		return wake
	case trouble != nil:
		if !failing {
			cond = corev1.NodeCondition{LastTransitionTime: c.Stamp(), LastHeartbeatTime: cond.LastTransitionTime}
			setAnnotation(node, schema.AnnotationStartsFailed, strconv.Itoa(failedBefore(c, node, cond.LastHeartbeatTime)+1))
		}
		cond.Status, cond.Reason, cond.LastHeartbeatTime = corev1.ConditionTrue, schema.ReasonNodeError, c.Stamp()
		cond.Message = fmt.Sprintf("%s; pods go to other nodes where those take them, until %s after the last one that cannot be started", trouble.Text, avoided(node))
	case cond.Reason == schema.ReasonNodeError:
		cond.Reason, cond.LastHeartbeatTime = schema.ReasonStartsFailed, c.Stamp()
		wake = earliest(wake, c.Now.Add(avoided(node)))
	case cond.LastHeartbeatTime.Add(avoided(node)).After(c.Now):
		return earliest(wake, cond.LastHeartbeatTime.Add(avoided(node)))
	default:
		cond.Status, cond.Reason, cond.Message = corev1.ConditionFalse, schema.ReasonStartsTried, "it is used like any other node again"
		cond.LastHeartbeatTime, cond.LastTransitionTime = c.Stamp(), c.Stamp()
	}
	cond.Type = schema.ConditionStartsFailing
	putNodeCondition(node, cond)
	return wake
}

// firstKept is the trouble of the first pod on a node that the node keeps from being
// started, nil for none; unstarted says that one is there that cannot be started,
// whoever is to blame.
func firstKept(r state.Reader, node string) (trouble *health.Trouble, unstarted bool) {
	for pod := range state.By[*corev1.Pod](r, state.PodsByNode, node) {
		if !health.Unstarted(pod) {
			continue
		}
		if t, ok := health.KeptByNode(r, pod); ok {
			return &t, true
		}
		unstarted = true
	}
	return nil, unstarted
}

// failedBefore is how often in a row the node was avoided before; usedAgain is since
// when it no longer is.
func failedBefore(c *Context, node *corev1.Node, usedAgain metav1.Time) int {
	if usedAgain.IsZero() || c.Now.Sub(usedAgain.Time) >= avoided(node) {
		return 0
	}
	n, _ := strconv.Atoi(node.Annotations[schema.AnnotationStartsFailed]) // none is 0
	return n
}

// avoided is how long the node is avoided for as often as it failed in a row.
func avoided(node *corev1.Node) time.Duration {
	n, _ := strconv.Atoi(node.Annotations[schema.AnnotationStartsFailed]) // none is 0
	d := avoidedFirst
	for ; n > 1 && d < avoidedMost; n-- {
		d *= 2
	}
	return min(d, avoidedMost)
}

func putNodeCondition(node *corev1.Node, cond corev1.NodeCondition) {
	i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == cond.Type })
	if i < 0 {
		node.Status.Conditions = append(node.Status.Conditions, cond)
		return
	}
	node.Status.Conditions[i] = cond
}

// moveUnstarted lets go the pods that the node could not start for long enough, if
// another is made in their place and another node takes it.
func moveUnstarted(c *Context, node *corev1.Node) (wake time.Time) {
	cond, _ := health.NodeCondition(node, schema.ConditionStartsFailing)
	if cond.Status != corev1.ConditionTrue || cond.Reason != schema.ReasonNodeError || c.TakenElsewhere == nil {
		return wake
	}
	for pod := range state.By[*corev1.Pod](c.Tx, state.PodsByNode, node.Name) {
		t, kept := health.KeptByNode(c.Tx, pod)
		if !kept || metav1.GetControllerOfNoCopy(pod) == nil {
			continue
		}
		since := cond.LastTransitionTime.Time
		if t.Since.After(since) {
			since = t.Since
		}
		switch due := since.Add(startsRetried); {
		case due.After(c.Now):
			wake = earliest(wake, due)
		case c.TakenElsewhere(pod):
			why := fmt.Sprintf("node %s could not start it for %s, and another node takes it: %s", node.Name, startsRetried, t.Text)
			DeletePod(c, disrupted(c, pod, reasonMoved, why), why)
		}
	}
	return wake
}
