package progress

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

func deployment(name string, status appsv1.DeploymentStatus) *appsv1.Deployment {
	three := int32(3)
	status.ObservedGeneration++
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Generation: 1}, Spec: appsv1.DeploymentSpec{Replicas: &three}, Status: status}
}

func TestLines(t *testing.T) {
	unseen := deployment("a", appsv1.DeploymentStatus{})
	unseen.Generation = 2
	got := Lines([]*appsv1.Deployment{
		deployment("e", appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3}),
		deployment("b", appsv1.DeploymentStatus{Replicas: 4, UpdatedReplicas: 1, AvailableReplicas: 3}),
		deployment("c", appsv1.DeploymentStatus{Replicas: 5, UpdatedReplicas: 3, AvailableReplicas: 4}),
		deployment("d", appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 2}),
		unseen,
	})
	want := []string{
		"deployment shop/a: not looked at yet",
		"deployment shop/b: 1 of 3 updated, 3 available",
		"deployment shop/c: 2 old to stop, 4 of 3 available",
		"deployment shop/d: 2 of 3 available",
		"deployment shop/e: 3 of 3 available, done",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTrouble(t *testing.T) {
	unplaced := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "b"}, Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "no room"},
	}}}
	waiting := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "a"}, Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
		{Name: "x", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}},
		{Name: "y", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}},
	}}}
	want := []string{"pod shop/a: container y: CrashLoopBackOff", "pod shop/b: Unschedulable: no room"}
	if got := Trouble([]*corev1.Pod{unplaced, waiting}); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestVerdict(t *testing.T) {
	for phase, want := range map[schema.Phase]string{
		schema.PhaseRollingOut: "ROLLING OUT main-1: why",
		schema.PhaseStalled:    "ROLLING OUT main-1: why",
		schema.PhaseHealthy:    "HEALTHY main-1: why",
		schema.PhaseInvalid:    "FAILED main-1: why",
		schema.PhaseHeld:       "FAILED main-1: held: why",
		schema.PhaseRolledBack: "FAILED main-1: why",
		schema.PhaseSuperseded: "SUPERSEDED main-1: why",
	} {
		rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-1"}}
		rev.Enter(phase, metav1.Time{}, "why")
		if got := Verdict(rev); got != want {
			t.Errorf("%s: %q, want %q", phase, got, want)
		}
	}
}
