package control

import (
	"math"
	"slices"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/objecttest"
)

func countedJob(change func(*batchv1.Job)) *batchv1.Job {
	job := objecttest.Job("many", func(j *batchv1.Job) { j.Namespace, j.UID = "shop", "many" }, change)
	schema.Default(job)
	return job
}

// Of the pods that ended a bounded number stays, and each is counted all the same: those
// that failed stay longest.
func TestEndedPodsOfAJobAreBounded(t *testing.T) {
	const completions, parallelism, failures = 4000, 1000, 20
	w := newWorld(t)
	w.node("n1")
	w.put(countedJob(func(job *batchv1.Job) {
		n, p, limit := int32(completions), int32(parallelism), int32(failures)
		job.Spec.Completions, job.Spec.Parallelism, job.Spec.BackoffLimit = &n, &p, &limit
	}))
	w.run(nil)
	failed := 0
	for range 100 {
		if len(w.pods("shop")) > maxEndedPods+parallelism {
			t.Fatalf("there are %d pods, at most %d may have ended", len(w.pods("shop")), maxEndedPods)
		}
		for _, p := range slices.Collect(state.By[*corev1.Pod](w.tx, state.PodsByNode, "")) {
			w.edit(p, func(p *corev1.Pod) {
				p.Spec.NodeName, p.Status.Phase = "n1", corev1.PodSucceeded
				if failed < failures {
					p.Status.Phase = corev1.PodFailed
					failed++
				}
			})
		}
		w.run(nil)
		w.reap()
		w.run(nil)
		w.pass(jobBackoffMost)
	}
	job := get[*batchv1.Job](w, "shop", "many")
	left := map[corev1.PodPhase]int{}
	for _, p := range w.pods("shop") {
		left[p.Status.Phase]++
	}
	if job.Status.Succeeded != completions || job.Status.Failed != failures || job.Status.CompletionTime == nil {
		t.Errorf("counted: %+v", job.Status)
	}
	if left[corev1.PodFailed] != failures || left[corev1.PodSucceeded] != maxEndedPods-failures {
		t.Errorf("left are %v, want %d and all that failed", left, maxEndedPods)
	}
}

// A visit costs what of a Job is there, and not what the Job has done: with two billion
// pods behind it, of which none is left, it does no more than with ten. One that looked
// at each number would not end.
func TestAVisitOfAJobCostsWhatIsThere(t *testing.T) {
	visit := func(done int, mode batchv1.CompletionMode) float64 {
		w := newWorld(t)
		counted := spans{{0, done - 1}}.String()
		w.put(countedJob(func(job *batchv1.Job) {
			n, p := int32(done+2), int32(2)
			job.Spec.Completions, job.Spec.Parallelism, job.Spec.CompletionMode = &n, &p, &mode
			job.Status.Succeeded = int32(done)
			if mode == batchv1.IndexedCompletion {
				job.Status.CompletedIndexes = counted
			}
			job.Annotations = map[string]string{schema.AnnotationLedger: jobLedger{Made: done, Counted: counted}.String()}
		}))
		w.run(nil)
		if job := get[*batchv1.Job](w, "shop", "many"); job.Status.Active != 2 || int(job.Status.Succeeded) != done || job.Status.Failed != 0 {
			t.Fatalf("after %d: %+v", done, job.Status)
		}
		return testing.AllocsPerRun(100, func() { reconcileJob(w.context(), schema.Key{Kind: schema.KindJob, Namespace: "shop", Name: "many"}) })
	}
	for _, mode := range []batchv1.CompletionMode{batchv1.NonIndexedCompletion, batchv1.IndexedCompletion} {
		// Longer numbers take a few more bytes, and growing for them another turn.
		if few, many := visit(10, mode), visit(math.MaxInt32-2, mode); many > few+10 {
			t.Errorf("%s: a visit allocates %v times with ten pods behind it, %v with two billion", mode, few, many)
		}
	}
}
