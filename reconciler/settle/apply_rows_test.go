package settle

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

// What nobody knows how to keep is not written over: a forgotten row would otherwise
// wipe a status.
func TestAKindWithoutARowIsNotMerged(t *testing.T) {
	live := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "shop"}, Spec: corev1.PodSpec{NodeName: "n1"}}
	desired := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "shop"}}
	if next, _, ok := merge(nil, live, desired); ok || next != nil {
		t.Errorf("without a row: got %v, want a refusal", next)
	}
	next, _, ok := merge(schema.Of(schema.KindPod), live, desired)
	if !ok || next.(*corev1.Pod).Spec.NodeName != "n1" {
		t.Errorf("with its row: got %v", next)
	}
	diag := unknownKind(schema.KeyOf(live), schema.Position{Path: "a.yaml", Line: 3})
	if diag.Severity != schema.Error || !strings.Contains(diag.Message, "Pod shop/a cannot be changed") {
		t.Errorf("got %s", diag)
	}
}
