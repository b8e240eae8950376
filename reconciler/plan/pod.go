package plan

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

var podRow = row{
	kind:    schema.KindPod,
	count:   countCell{None: "it is one pod, which is there or not"},
	current: currentCell{None: "it makes nothing"},
	report:  reportCell{Do: modelReady},
}

// modelReady is the pod as an agent reports it once everything went well.
func modelReady(pod *corev1.Pod, now time.Time) *corev1.Pod {
	next := state.Edit(pod)
	at := metav1.NewTime(now)
	next.Status.Phase = corev1.PodRunning
	next.Status.StartTime = &at
	for _, t := range []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
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
