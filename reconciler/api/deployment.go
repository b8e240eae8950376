package api

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/schema"
)

var deploymentRow = row{
	kind: schema.KindDeployment,
	columns: slices.Concat([]column{
		nameColumn, {name: "Ready"}, {name: "Up-to-date", kind: "integer"}, {name: "Available", kind: "integer"},
	}, workloadColumns),
	cells:    typedCells(deploymentCells),
	fields:   fieldsCell{None: onlyNames},
	narrow:   narrowCell{None: noIndex},
	shared:   sharedCell{None: notShared},
	concerns: concernsCell{None: notOwn},
	maker:    makerCell{None: byCluster},
	refuse:   refuseCell{None: byOrigin},
	reach:    reachCell{None: noAddress},
	fresh:    freshCell{None: allStored},
}

func deploymentCells(d *appsv1.Deployment, now metav1.Time) []any {
	ready := fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, health.Desired(d.Spec.Replicas))
	return append([]any{d.Name, ready, int64(d.Status.UpdatedReplicas), int64(d.Status.AvailableReplicas)},
		workloadCells(d.CreationTimestamp, now, d.Spec.Template, d.Spec.Selector)...)
}
