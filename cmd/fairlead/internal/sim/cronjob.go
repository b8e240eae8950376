package sim

import (
	"fmt"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// A CronJob promises at most one Job for a time, and with Forbid or Replace at most one
// that works. What its Jobs promise is in job.go.
var cronJobRow = row{
	kind: schema.KindCronJob,
	asks: schema.Cell[asking]{Do: asking{
		begin: firstCronJobs, change: changeCronJobs, last: lastCronJob, text: cronJobText,
		flawless: func(workload) bool { return true },
	}},
	holds:    schema.Cell[func(*truth, *state.Snapshot, schema.Object)]{Do: (*truth).runsOnce},
	leaves:   schema.Cell[func(t *truth, was, is *state.Snapshot, p *corev1.Pod)]{None: "no pod is a CronJob's"},
	missing:  schema.Cell[func(*truth, schema.Key) bool]{None: "it never goes by itself"},
	outlives: schema.Cell[func(schema.Object) bool]{None: neverDone},
	rests:    schema.Cell[func(*truth, schema.Object, podSet) string]{None: "its Jobs are looked at: the last one is suspended, so that it comes to rest"},
}

// firstCronJobs are none in most seeds; else one that runs every minute.
func firstCronJobs(t *team) []workload {
	if t.crons.IntN(jobsAskedFor) != 0 {
		return nil
	}
	a := workload{kind: schema.KindCronJob, name: "cron0", tag: "done", replicas: 1 + t.crons.IntN(2), job: drawJob(t.crons)}
	a.job.policy = []batchv1.ConcurrencyPolicy{batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent}[t.crons.IntN(3)]
	return []workload{a}
}

// changeCronJobs suspends and resumes, and lets runs fail and work again: that touches
// no revision.
func changeCronJobs(t *team, next []workload) ([]workload, string) {
	if len(next) == 0 || t.crons.IntN(3) != 0 {
		return next, ""
	}
	a := &next[0]
	if t.crons.IntN(2) == 0 {
		a.job.suspended = !a.job.suspended
		return next, fmt.Sprintf(" %s suspended: %v", a.name, a.job.suspended)
	}
	a.tag, a.job.backoff = "crash", 1
	if t.crons.IntN(2) == 0 {
		a.tag, a.job.backoff = "done", patience
	}
	return next, fmt.Sprintf(" %s to %s", a.name, a.tag)
}

func lastCronJob(a workload) workload {
	a.job.suspended = true
	return a
}

func cronJobText(a workload) string {
	run := a
	run.job.suspended = false
	return fmt.Sprintf(`apiVersion: batch/v1
kind: CronJob
metadata: {name: %s, namespace: shop}
spec:
  schedule: "* * * * *"
  concurrencyPolicy: %s
  suspend: %v
  jobTemplate:
    spec:
%s`, a.name, a.job.policy, a.job.suspended, strings.ReplaceAll("    "+strings.TrimSuffix(jobSpec(run), "\n"), "\n", "\n    ")+"\n")
}

// runsOnce: a time has one Job, whatever is lost, and where runs may not overlap one of
// them works.
func (t *truth) runsOnce(s *state.Snapshot, obj schema.Object) {
	cj := obj.(*batchv1.CronJob)
	runs := t.work.runs[cj.UID]
	if runs == nil {
		runs = map[string]types.UID{}
		t.work.runs[cj.UID] = runs
	}
	working := 0
	for job := range state.All[*batchv1.Job](s, cj.Namespace) {
		if !metav1.IsControlledBy(job, cj) {
			continue
		}
		at := job.Annotations[batchv1.CronJobScheduledTimestampAnnotation]
		if was, ok := runs[at]; ok && was != job.UID {
			t.w.broken("S2", "cron job %s has another job %s for %s", cj.Name, job.Name, at)
		}
		runs[at] = job.UID
		if !jobIsOver(job) {
			working++
		}
	}
	if working > 1 && cj.Spec.ConcurrencyPolicy != batchv1.AllowConcurrent {
		t.w.broken("S2", "cron job %s has %d jobs at work, its policy is %s", cj.Name, working, cj.Spec.ConcurrencyPolicy)
	}
}
