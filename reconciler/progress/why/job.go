package why

import (
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/health"
	"fairlead/schema"
)

var jobRow = row{
	kind: schema.KindJob, fromGit: true, needed: true,
	tell: tell(func(c *chain, job *batchv1.Job) cause {
		c.owners(job)
		return c.job(job)
	}),
}

// job tells of the pods that work, of a Job that failed of the last one that did.
func (c *chain) job(job *batchv1.Job) cause {
	w := c.workload(job)
	switch {
	case w.Unseen:
		return cause{code: health.RollingOut, text: "its latest change is not processed yet"}
	case w.Complete && health.JobFinished(job):
		return cause{code: health.Completed, text: "job " + job.Name + " has done its work: " + w.Progress()}
	case w.Complete:
		return cause{code: health.Healthy, text: "job " + job.Name + " is suspended, as Git asks"}
	}
	if _, failed := health.JobCondition(job, batchv1.JobFailureTarget); failed {
		return c.failedJob(job, w)
	}
	working := slices.DeleteFunc(c.podsOf(job), health.Ended)
	if len(working) == 0 {
		return cause{code: health.RollingOut, text: "job " + job.Name + " makes its next pod after a back-off: " + w.Progress()}
	}
	found := c.worstOf(working)
	if found.code == health.Healthy {
		return cause{code: health.RollingOut, text: "job " + job.Name + " works: " + w.Progress()}
	}
	return found
}

func (c *chain) failedJob(job *batchv1.Job, w health.Workload) cause {
	found := cause{code: health.Failed, text: "job " + job.Name + " failed"}
	for t := range w.Troubles {
		found.code, found.text = t.Code, t.Text
	}
	var last *corev1.Pod
	for _, pod := range c.podsOf(job) {
		if pod.Status.Phase == corev1.PodFailed && (last == nil || health.ReadySince(pod).After(health.ReadySince(last))) {
			last = pod
		}
	}
	if last != nil {
		found.log = c.pod(last).log
	}
	return found
}
