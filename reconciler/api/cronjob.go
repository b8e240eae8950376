package api

import (
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

var cronJobRow = row{
	kind: schema.KindCronJob,
	columns: slices.Concat([]column{
		nameColumn, {name: "Schedule"}, {name: "Timezone"}, {name: "Suspend"}, {name: "Active", kind: "integer"}, {name: "Last Schedule"},
	}, workloadColumns),
	cells:    typedCells(cronJobCells),
	fields:   fieldsCell{None: onlyNames},
	narrow:   narrowCell{None: noIndex},
	shared:   sharedCell{None: notShared},
	concerns: concernsCell{None: notOwn},
	maker:    makerCell{None: byCluster},
	refuse:   refuseCell{None: byOrigin},
	reach:    reachCell{None: noAddress},
	fresh:    freshCell{None: allStored},
}

func cronJobCells(cj *batchv1.CronJob, now metav1.Time) []any {
	zone, suspended, last := none, unset, none
	if cj.Spec.TimeZone != nil {
		zone = *cj.Spec.TimeZone
	}
	if cj.Spec.Suspend != nil {
		suspended = map[bool]string{false: "False", true: "True"}[*cj.Spec.Suspend]
	}
	if at := cj.Status.LastScheduleTime; at != nil {
		last = age(*at, now)
	}
	return append([]any{cj.Name, cj.Spec.Schedule, zone, suspended, int64(len(cj.Status.Active)), last},
		workloadCells(cj.CreationTimestamp, now, cj.Spec.JobTemplate.Spec.Template, cj.Spec.JobTemplate.Spec.Selector)...)
}
