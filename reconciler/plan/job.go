package plan

import (
	batchv1 "k8s.io/api/batch/v1"

	"fairlead/schema"
)

var jobRow = row{
	kind:    schema.KindJob,
	count:   countCell{Do: func(obj schema.Object) int32 { return jobPods(obj.(*batchv1.Job)) }},
	current: currentCell{None: "it makes pods of one template only"},
	report:  reportCell{Do: modelReady},
}

// jobPods is how many pods a Job runs at once. A plan has them run and not end: it tells
// what room the Job takes.
func jobPods(job *batchv1.Job) int32 {
	switch {
	case job.Spec.Suspend != nil && *job.Spec.Suspend:
		return 0
	case job.Spec.Completions == nil:
		return *job.Spec.Parallelism
	}
	return max(0, min(*job.Spec.Parallelism, *job.Spec.Completions-job.Status.Succeeded))
}
