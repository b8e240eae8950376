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
	next.Status.InitContainerStatuses, next.Status.ContainerStatuses = nil, nil
	for i := range pod.Spec.InitContainers {
		next.Status.InitContainerStatuses = append(next.Status.InitContainerStatuses, modelContainer(&pod.Spec.InitContainers[i], !schema.IsSidecar(&pod.Spec.InitContainers[i]), at))
	}
	for i := range pod.Spec.Containers {
		next.Status.ContainerStatuses = append(next.Status.ContainerStatuses, modelContainer(&pod.Spec.Containers[i], false, at))
	}
	return next
}

// modelContainer is one that runs and is ready, or has done its work.
func modelContainer(c *corev1.Container, done bool, at metav1.Time) corev1.ContainerStatus {
	started := !done
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Ready: true, Started: &started}
	if done {
		s.State.Terminated = &corev1.ContainerStateTerminated{Reason: "Completed", StartedAt: at, FinishedAt: at}
	} else {
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: at}
	}
	return s
}
