package schema

import (
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A version that fills in more, or less, than the one that recorded a Job's work knows
// that it is done.
func TestFinishedWorkIsKnownWhateverIsFilledIn(t *testing.T) {
	written := func() *batchv1.Job {
		return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "migrate", Namespace: "shop"}, Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "localhost/migrate:1"}},
		}}}}
	}
	now := written()
	Default(now)
	then := FinishedRecordOf(now)
	then.Whole = "what an earlier version filled in"
	given := now.DeepCopy()
	given.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
	explicit := written()
	setPointer(&explicit.Spec.BackoffLimit, defaultBackoffLimit)
	Default(explicit)
	other := written()
	setPointer(&other.Spec.BackoffLimit, 1)
	Default(other)
	for name, c := range map[string]struct {
		job  *batchv1.Job
		want bool
	}{
		"the same": {now, true}, "with what the cluster gave it": {given, true}, "with a default written out": {explicit, true}, "another": {other, false},
	} {
		if _, ok := Finished([]FinishedRecord{then}, c.job); ok != c.want {
			t.Errorf("%s: known %v, want %v", name, ok, c.want)
		}
	}
}
