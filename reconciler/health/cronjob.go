package health

import (
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

var cronJobRow = row{
	kind:    schema.KindCronJob,
	of:      schema.Cell[judgement]{Do: cronJob},
	in:      schema.Cell[workloads]{Do: bySource(schema.KindCronJob)},
	current: schema.Cell[owning]{Do: isLaterThanTemplate},
}

// cronJob is complete as soon as it is there: how its runs end is not for the revision
// that brought it, which they outlive.
func cronJob(_ state.Reader, obj schema.Object, _ time.Time) Workload {
	cj := obj.(*batchv1.CronJob)
	return Workload{
		Complete: true, progress: func() string { return cronJobProgress(cj) },
		Troubles: none[Trouble], Pods: none[*corev1.Pod],
	}
}

func cronJobProgress(cj *batchv1.CronJob) string {
	said := "never run"
	if at := cj.Status.LastScheduleTime; at != nil {
		said = "last run " + at.UTC().Format(time.RFC3339)
	}
	if n := len(cj.Status.Active); n > 0 {
		said += fmt.Sprintf(", %d active", n)
	}
	if cj.Spec.Suspend != nil && *cj.Spec.Suspend {
		said += ", suspended"
	}
	return said
}

// isLaterThanTemplate reports whether a Job was made from the template that the CronJob
// has now.
func isLaterThanTemplate(_ state.Reader, owner, owned schema.Object) bool {
	job, ok := owned.(*batchv1.Job)
	return ok && metav1.IsControlledBy(job, owner) && schema.OriginOf(job).Commit == schema.OriginOf(owner).Commit
}
