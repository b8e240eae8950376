package health

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// mostAlike bounds the pods of one owner that are compared with one that cannot be
// started: of those that are alike a few tell enough.
const mostAlike = 100

// startReasons are those for which a container or a pod was not started, whoever is
// to blame.
var startReasons = []string{schema.ReasonNodeError, schema.ReasonContainerCreate, schema.ReasonContainerRun, schema.ReasonMount}

// Unstarted reports whether the pod's node says that it could not start the pod, or
// one of its containers.
func Unstarted(pod *corev1.Pod) bool {
	if pod.Spec.NodeName == "" || pod.DeletionTimestamp != nil || Ended(pod) {
		return false
	}
	if cond, ok := Condition(pod, corev1.PodReadyToStartContainers); ok && cond.Status == corev1.ConditionFalse && slices.Contains(startReasons, cond.Reason) {
		return true
	}
	waits := func(s corev1.ContainerStatus) bool {
		return s.State.Waiting != nil && slices.Contains(startReasons, s.State.Waiting.Reason)
	}
	return slices.ContainsFunc(pod.Status.InitContainerStatuses, waits) || slices.ContainsFunc(pod.Status.ContainerStatuses, waits)
}

// KeptByNode tells of a pod that its node keeps from being started, though the node is
// ready; false of any other.
func KeptByNode(r state.Reader, pod *corev1.Pod) (Trouble, bool) {
	if !Unstarted(pod) {
		return Trouble{}, false
	}
	t := OfPod(r, pod)
	return t, t.Code == NodeFailing
}

// compared is a trouble as it looks beside the pods like it: what starts on another
// node is not why it does not start on this one.
func compared(r state.Reader, pod *corev1.Pod, t Trouble) Trouble {
	if t.Code != StartFailing && t.Code != SetupFailing {
		return t
	}
	like, ok := startedElsewhere(r, pod)
	if !ok {
		return t
	}
	as := newTrouble(NodeFailing, fmt.Sprintf("%s; pod %s, of the same template, runs on %s", t.Text, like.Name, like.Spec.NodeName))
	as.Container = t.Container
	return as
}

// startedElsewhere is a pod of the same owner that runs on another node.
func startedElsewhere(r state.Reader, pod *corev1.Pod) (*corev1.Pod, bool) {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return nil, false
	}
	looked := 0
	for like := range state.By[*corev1.Pod](r, state.PodsByOwner, string(owner.UID)) {
		if looked++; looked > mostAlike {
			break
		}
		if like.Spec.NodeName != pod.Spec.NodeName && like.DeletionTimestamp == nil && Ready(like) {
			return like, true
		}
	}
	return nil, false
}
