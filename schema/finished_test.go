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
	other.Spec.Template.Spec.Containers[0].Image = "localhost/migrate:2"
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

// What may change of a Job that is there, which runs it no second time, does not run
// one again that is gone.
func TestWorkIsTheSameWhereAJobMayChangeInPlace(t *testing.T) {
	size := func(completions, parallelism int32) func(*batchv1.JobSpec) {
		return func(s *batchv1.JobSpec) { s.Completions, s.Parallelism = &completions, &parallelism }
	}
	indexed := func(change func(*batchv1.JobSpec)) func(*batchv1.JobSpec) {
		return func(s *batchv1.JobSpec) { setPointer(&s.CompletionMode, batchv1.IndexedCompletion); change(s) }
	}
	with := func(change func(*batchv1.JobSpec)) *batchv1.Job {
		job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "migrate", Namespace: "shop"}}
		job.Spec.Template.Spec = corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "localhost/migrate:1"}}}
		change(&job.Spec)
		Default(job)
		return job
	}
	plain := func(*batchv1.JobSpec) {}
	for name, c := range map[string]struct {
		did, asks func(*batchv1.JobSpec)
		same      bool
	}{
		"parallelism":           {size(9, 1), size(9, 3), true},
		"suspend":               {plain, func(s *batchv1.JobSpec) { setPointer(&s.Suspend, true) }, true},
		"activeDeadlineSeconds": {plain, func(s *batchv1.JobSpec) { setPointer(&s.ActiveDeadlineSeconds, 9) }, true},
		"backoffLimit":          {plain, func(s *batchv1.JobSpec) { setPointer(&s.BackoffLimit, 9) }, true},
		"ttl":                   {plain, func(s *batchv1.JobSpec) { setPointer(&s.TTLSecondsAfterFinished, 9) }, true},
		"podReplacementPolicy":  {plain, func(s *batchv1.JobSpec) { setPointer(&s.PodReplacementPolicy, batchv1.Failed) }, true},
		"maxFailedIndexes": {indexed(size(9, 1)), indexed(func(s *batchv1.JobSpec) {
			size(9, 1)(s)
			setPointer(&s.MaxFailedIndexes, 2)
		}), true},
		"the size of an Indexed Job": {indexed(size(3, 3)), indexed(size(5, 5)), true},
		"its parallelism, up to all": {indexed(size(5, 2)), indexed(size(5, 5)), true},
		"its parallelism, from all":  {indexed(size(5, 5)), indexed(size(5, 2)), true},
		"both of an Indexed Job":     {indexed(size(5, 2)), indexed(size(7, 7)), true},
		"both, to fewer at once":     {indexed(size(5, 5)), indexed(size(7, 2)), false},
		"completions":                {size(3, 3), size(5, 5), false},
		"indexes alone":              {indexed(size(5, 2)), indexed(size(6, 2)), false},
		"its mode":                   {size(3, 3), indexed(size(3, 3)), false},
		"one or a queue":             {plain, func(s *batchv1.JobSpec) { setPointer(&s.Parallelism, 1) }, false},
		"backoffLimitPerIndex":       {indexed(size(3, 3)), indexed(func(s *batchv1.JobSpec) { size(3, 3)(s); setPointer(&s.BackoffLimitPerIndex, 1) }), false},
		"the image":                  {plain, func(s *batchv1.JobSpec) { s.Template.Spec.Containers[0].Image = "localhost/migrate:2" }, false},
		"labels of its pods":         {plain, func(s *batchv1.JobSpec) { s.Template.Labels = map[string]string{"a": "b"} }, false},
	} {
		did, asks := with(c.did), with(c.asks)
		record := FinishedRecordOf(did)
		earlier := record
		earlier.Whole = "what an earlier version filled in"
		for _, r := range []FinishedRecord{record, earlier} {
			if _, ok := Finished([]FinishedRecord{r}, asks); ok != c.same {
				t.Errorf("%s: the same work: %v, want %v", name, ok, c.same)
			}
		}
		started := did.DeepCopy()
		started.Status.StartTime = &metav1.Time{}
		if inPlace := len(ValidateUpdate(started, asks)) == 0; inPlace != c.same {
			t.Errorf("%s: it may change in place: %v, and is the same work: %v", name, inPlace, c.same)
		}
	}
}

// A Job that failed is tried again once anything that it is asked for changes: to give it
// more time is the fix. What an earlier version remembers of one that did its work counts.
func TestAFailedJobIsTriedAgainForAnyChange(t *testing.T) {
	job := func(change func(*batchv1.JobSpec)) *batchv1.Job {
		job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "migrate", Namespace: "shop"}}
		job.Spec.Template.Spec = corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "localhost/migrate:1"}}}
		change(&job.Spec)
		Default(job)
		return job
	}
	plain := job(func(*batchv1.JobSpec) {})
	failed := []FinishedRecord{FailedRecordOf(plain)}
	if _, ok := Finished(failed, plain); !ok {
		t.Error("it is made again though nothing changed")
	}
	for name, change := range map[string]func(*batchv1.JobSpec){
		"activeDeadlineSeconds": func(s *batchv1.JobSpec) { setPointer(&s.ActiveDeadlineSeconds, 9) },
		"backoffLimit":          func(s *batchv1.JobSpec) { setPointer(&s.BackoffLimit, 9) },
		"the image":             func(s *batchv1.JobSpec) { s.Template.Spec.Containers[0].Image = "localhost/migrate:2" },
	} {
		if _, ok := Finished(failed, job(change)); ok {
			t.Errorf("with another %s it is not tried again", name)
		}
	}
}

// An earlier version left the size of an Indexed Job out of what it remembers, where it
// could be resized.
func TestResizedWorkOfAnEarlierVersionIsKnown(t *testing.T) {
	job := func(completions, parallelism int32, change func(*batchv1.JobSpec)) *batchv1.Job {
		job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "migrate", Namespace: "shop"}, Spec: batchv1.JobSpec{Completions: &completions, Parallelism: &parallelism}}
		setPointer(&job.Spec.CompletionMode, batchv1.IndexedCompletion)
		job.Spec.Template.Spec = corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "localhost/migrate:1"}}}
		change(&job.Spec)
		Default(job)
		return job
	}
	plain := func(*batchv1.JobSpec) {}
	earlier := FinishedRecordOf(job(5, 5, plain))
	earlier.Spec, earlier.Sized, earlier.Whole = earlier.Sized, "", "without its size"
	for name, c := range map[string]struct {
		asks *batchv1.Job
		want bool
	}{
		"as it was": {job(5, 5, plain), true}, "fewer at once": {job(5, 2, plain), true}, "resized": {job(7, 7, plain), true},
		"another": {job(5, 5, func(s *batchv1.JobSpec) { s.Template.Spec.Containers[0].Image = "localhost/migrate:2" }), false},
	} {
		if _, ok := Finished([]FinishedRecord{earlier}, c.asks); ok != c.want {
			t.Errorf("%s: known %v, want %v", name, ok, c.want)
		}
	}
}
