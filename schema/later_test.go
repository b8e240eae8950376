package schema

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// What an earlier version stored equals the same manifest read today: else every
// workload would be rolled out anew by an upgrade, and every pod of Git be refused.
func TestLaterDefaultsOfStoredObjects(t *testing.T) {
	today := sampleDeployment()
	Default(today)
	if today.Spec.Template.Spec.SecurityContext == nil {
		t.Fatal("clients crash on pods without a securityContext")
	}
	stored := today.DeepCopy()
	stored.Spec.Template.Spec.SecurityContext = nil // as before it was defaulted
	set := &appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Template: *stored.Spec.Template.DeepCopy()}}
	pod := &corev1.Pod{Spec: *stored.Spec.Template.Spec.DeepCopy()}
	for _, obj := range []Object{stored, set, pod} {
		AddLaterDefaults(obj)
	}
	if changes := Diff(stored, today); len(changes) > 0 {
		t.Errorf("the Deployment differs: %+v", changes)
	}
	if !HasTemplateOf(set, today) {
		t.Error("its replica set has another template")
	}
	was := &corev1.Pod{Spec: *today.Spec.Template.Spec.DeepCopy()}
	if problems := ValidateUpdate(pod, was); len(problems) > 0 {
		t.Errorf("a pod of Git is refused: %+v", problems)
	}
	raw := &corev1.Pod{}
	if AddLaterDefaults(raw); raw.Spec.SecurityContext != nil {
		t.Error("what was never defaulted is changed")
	}
}
