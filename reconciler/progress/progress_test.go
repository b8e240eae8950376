package progress

import (
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/objecttest"
)

var now = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func cluster(objects ...schema.Object) state.Reader {
	tx := state.Empty(state.Counters{}).Begin()
	for _, o := range objects {
		schema.SetOrigin(o, schema.Origin{Source: "main", Path: "x.yaml", Line: 1, Commit: "c1"})
		tx.Restore(o)
	}
	return tx.Commit()
}

func deployment(name string, status appsv1.DeploymentStatus) *appsv1.Deployment {
	three := int32(3)
	status.ObservedGeneration++
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Generation: 1}, Spec: appsv1.DeploymentSpec{Replicas: &three}, Status: status}
}

func node(ready corev1.ConditionStatus) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
		{Type: corev1.NodeReady, Status: ready, Reason: schema.ReasonRuntimeUnavailable, Message: "Podman does not answer"},
	}}}
}

func TestLines(t *testing.T) {
	unseen := deployment("a", appsv1.DeploymentStatus{})
	unseen.Generation = 2
	got := Lines(cluster(
		deployment("e", appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3}),
		deployment("b", appsv1.DeploymentStatus{Replicas: 4, UpdatedReplicas: 1, AvailableReplicas: 3}),
		deployment("c", appsv1.DeploymentStatus{Replicas: 5, UpdatedReplicas: 3, AvailableReplicas: 4}),
		deployment("d", appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 2}),
		unseen,
		objecttest.Pod("job", "n1"),
	), "main", now)
	want := []string{
		"deployment shop/a: not looked at yet",
		"deployment shop/b: 1 of 3 updated, 3 available",
		"deployment shop/c: 2 old to stop, 4 of 3 available",
		"deployment shop/d: 2 of 3 available",
		"deployment shop/e: 3 of 3 available, done",
		"pod shop/job: Pending",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTrouble(t *testing.T) {
	container := func(s corev1.ContainerStatus) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			s.Name = "app"
			p.UID = "u"
			p.Status.ContainerStatuses = []corev1.ContainerStatus{s}
		}
	}
	starting := objecttest.Pod("a", "n1", container(corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}))
	crashing := objecttest.Pod("b", "n1", container(corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}))
	probed := objecttest.Pod("c", "n1", container(corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}))
	answer := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "e"}, InvolvedObject: corev1.ObjectReference{UID: "u", FieldPath: schema.ContainerField(probed, "app")},
		Reason: schema.ReasonUnhealthy, Message: "readiness probe failed: HTTP 404 from /healthz",
	}
	unplaced := objecttest.Pod("d", "n1", func(p *corev1.Pod) {
		p.Spec.NodeName = ""
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "no room"}}
	})
	want := []string{
		"pod shop/b: container app of pod b waits: CrashLoopBackOff",
		"pod shop/c: container app of pod c runs, but: readiness probe failed: HTTP 404 from /healthz",
		"pod shop/d: no node takes pod d: no room",
	}
	if got := Troubles(cluster(starting, crashing, probed, unplaced, answer, node(corev1.ConditionTrue)), "main", now); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
