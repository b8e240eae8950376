package health

import (
	"fmt"
	"iter"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

var jobRow = row{
	kind:    schema.KindJob,
	of:      schema.Cell[judgement]{Do: job},
	in:      schema.Cell[workloads]{Do: ownJobs},
	current: schema.Cell[owning]{None: "its template never changes"},
}

// JobCondition is the condition of that type if it is true.
func JobCondition(j *batchv1.Job, t batchv1.JobConditionType) (batchv1.JobCondition, bool) {
	for _, cond := range j.Status.Conditions {
		if cond.Type == t && cond.Status == corev1.ConditionTrue {
			return cond, true
		}
	}
	return batchv1.JobCondition{}, false
}

// JobFinished reports whether a Job is over, well or not.
func JobFinished(j *batchv1.Job) bool { return !JobFinishedAt(j).IsZero() }

// JobFinishedAt is when a Job was over, zero while it is not.
func JobFinishedAt(j *batchv1.Job) time.Time {
	for _, t := range []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed} {
		if cond, ok := JobCondition(j, t); ok {
			return cond.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// ownJobs are a source's Jobs that no CronJob made.
func ownJobs(r state.Reader, source schema.SourceName) iter.Seq[schema.Object] {
	return func(yield func(schema.Object) bool) {
		for obj := range r.BySource(schema.KindJob, source) {
			if metav1.GetControllerOfNoCopy(obj) == nil && !yield(obj) {
				return
			}
		}
	}
}

// job is complete when it succeeded, or is suspended as it is asked to be. It has
// failed as soon as that is decided, whatever its last pods still do.
func job(r state.Reader, obj schema.Object, _ time.Time) Workload {
	j := obj.(*batchv1.Job)
	_, done := JobCondition(j, batchv1.JobComplete)
	_, suspended := JobCondition(j, batchv1.JobSuspended)
	asked := j.Spec.Suspend != nil && *j.Spec.Suspend
	w := Workload{
		Complete: done || asked && suspended, Unseen: j.Status.StartTime == nil && len(j.Status.Conditions) == 0,
		progress: func() string { return jobProgress(j) }, Moved: jobMoved(r, j), Troubles: none[Trouble], Pods: ownedPods(r, j),
	}
	if w.Complete {
		return w
	}
	cond, failed := JobCondition(j, batchv1.JobFailureTarget)
	if !failed {
		w.Troubles = jobTroubles(r, j)
		return w
	}
	found := jobFailure(r, j, cond)
	w.Troubles = just(found)
	if found.Fault != Cluster && found.Fault != Registry {
		w.Failed = &found
	}
	return w
}

func jobProgress(j *batchv1.Job) string {
	s := &j.Status
	counts := fmt.Sprintf("%d succeeded", s.Succeeded)
	if j.Spec.Completions != nil {
		counts = fmt.Sprintf("%d of %d succeeded", s.Succeeded, *j.Spec.Completions)
	}
	if s.Failed > 0 {
		counts += fmt.Sprintf(", %d failed", s.Failed)
	}
	if cond, ok := JobCondition(j, batchv1.JobFailureTarget); ok {
		return counts + ", it failed: " + cond.Reason
	}
	if _, ok := JobCondition(j, batchv1.JobComplete); ok {
		return counts + ", done"
	}
	if _, ok := JobCondition(j, batchv1.JobSuspended); ok {
		return counts + ", suspended"
	}
	return counts + fmt.Sprintf(", %d active", s.Active)
}

// jobMoved is when a pod of a Job last started or ended, or the Job itself.
func jobMoved(r state.Reader, j *batchv1.Job) time.Time {
	at := j.CreationTimestamp.Time
	later := func(t time.Time) {
		if t.After(at) {
			at = t
		}
	}
	if j.Status.StartTime != nil {
		later(j.Status.StartTime.Time)
	}
	for pod := range ownedPods(r, j) {
		later(ScheduledAt(pod))
		later(ReadySince(pod))
	}
	return at
}

// jobTroubles are what keeps pods of a Job from working. One that runs works, whatever
// its probes say, and one that failed is replaced as the Job says.
func jobTroubles(r state.Reader, j *batchv1.Job) iter.Seq[Trouble] {
	return func(yield func(Trouble) bool) {
		for pod := range ownedPods(r, j) {
			if Ended(pod) || pod.DeletionTimestamp != nil {
				continue
			}
			if t := OfPod(r, pod); !t.Running && !t.Well() && !yield(t) {
				return
			}
		}
	}
}

// isDisrupted reports whether a pod was ended for a reason that is not its own.
func isDisrupted(pod *corev1.Pod) bool {
	cond, ok := Condition(pod, corev1.DisruptionTarget)
	return ok && cond.Status == corev1.ConditionTrue
}

// jobFailure is why a Job failed: what the last of its pods to fail shows. Where no
// pod is left that shows anything, the Job's own condition says it.
func jobFailure(r state.Reader, j *batchv1.Job, cond batchv1.JobCondition) Trouble {
	found := newTrouble(Failed, "job "+j.Name+" failed: "+cond.Reason+colon(cond.Message))
	var last *corev1.Pod
	for pod := range ownedPods(r, j) {
		if (pod.Status.Phase == corev1.PodFailed || isDisrupted(pod)) && (last == nil || ReadySince(pod).After(ReadySince(last))) {
			last = pod
		}
	}
	if last == nil {
		return found
	}
	shown := OfPod(r, last)
	if disrupted, _ := Condition(last, corev1.DisruptionTarget); isDisrupted(last) {
		shown = newTrouble(NodeNotReady, "pod "+last.Name+" was ended: "+disrupted.Message)
	}
	shown.Text = found.Text + "; " + shown.Text
	return shown
}
