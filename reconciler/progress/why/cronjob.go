package why

import (
	"slices"

	batchv1 "k8s.io/api/batch/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

var cronJobRow = row{
	kind: schema.KindCronJob, fromGit: true, needed: true,
	tell: tell(func(c *chain, cj *batchv1.CronJob) cause { return c.cronJob(cj) }),
}

// cronJob tells of its last run.
func (c *chain) cronJob(cj *batchv1.CronJob) cause {
	w := c.workload(cj)
	jobs := slices.Collect(state.By[*batchv1.Job](c.r, state.JobsByOwner, string(cj.UID)))
	if len(jobs) == 0 {
		return cause{code: health.Healthy, text: "it waits for its next run: " + w.Progress()}
	}
	return c.job(slices.MaxFunc(jobs, func(a, b *batchv1.Job) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) }))
}
