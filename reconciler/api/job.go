package api

import (
	"fmt"
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/duration"

	"fairlead/reconciler/health"
	"fairlead/schema"
)

var jobRow = row{
	kind: schema.KindJob,
	columns: slices.Concat([]column{
		nameColumn, {name: "Status"}, {name: "Completions"}, {name: "Duration"},
	}, workloadColumns),
	cells: typedCells(jobCells),
	fields: fieldsCell{Do: typedFields(func(set fields.Set, job *batchv1.Job) {
		set["status.successful"] = strconv.Itoa(int(job.Status.Succeeded))
	})},
	narrow:   narrowCell{None: noIndex},
	shared:   sharedCell{None: notShared},
	concerns: concernsCell{None: notOwn},
	maker:    makerCell{None: byCluster},
	refuse:   refuseCell{None: byOrigin},
	reach:    reachCell{None: noAddress},
	fresh:    freshCell{None: allStored},
}

func jobCells(job *batchv1.Job, now metav1.Time) []any {
	return append([]any{job.Name, jobStatus(job), completions(job), jobDuration(job, now)},
		workloadCells(job.CreationTimestamp, now, job.Spec.Template, job.Spec.Selector)...)
}

func jobStatus(job *batchv1.Job) string {
	for _, t := range []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed, batchv1.JobSuspended, batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet} {
		if _, ok := health.JobCondition(job, t); ok {
			return string(t)
		}
	}
	return "Running"
}

func completions(job *batchv1.Job) string {
	switch spec := &job.Spec; {
	case spec.Completions != nil:
		return fmt.Sprintf("%d/%d", job.Status.Succeeded, *spec.Completions)
	case spec.Parallelism != nil && *spec.Parallelism > 1:
		return fmt.Sprintf("%d/1 of %d", job.Status.Succeeded, *spec.Parallelism)
	}
	return fmt.Sprintf("%d/1", job.Status.Succeeded)
}

func jobDuration(job *batchv1.Job, now metav1.Time) string {
	switch start, end := job.Status.StartTime, job.Status.CompletionTime; {
	case start == nil:
		return ""
	case end == nil:
		return duration.HumanDuration(now.Sub(start.Time))
	default:
		return duration.HumanDuration(end.Sub(start.Time))
	}
}
