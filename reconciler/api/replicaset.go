package api

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/schema"
)

var replicaSetRow = row{
	kind: schema.KindReplicaSet,
	columns: slices.Concat([]column{
		nameColumn, {name: "Desired", kind: "integer"}, {name: "Current", kind: "integer"}, {name: "Ready", kind: "integer"},
	}, workloadColumns),
	cells:    typedCells(replicaSetCells),
	fields:   fieldsCell{None: onlyNames},
	narrow:   narrowCell{None: noIndex},
	shared:   sharedCell{None: notShared},
	concerns: concernsCell{None: notOwn},
	maker:    makerCell{None: byCluster},
	refuse:   refuseCell{None: byOrigin},
	reach:    reachCell{None: noAddress},
	fresh:    freshCell{None: allStored},
}

func replicaSetCells(rs *appsv1.ReplicaSet, now metav1.Time) []any {
	return append([]any{rs.Name, int64(health.Desired(rs.Spec.Replicas)), int64(rs.Status.Replicas), int64(rs.Status.ReadyReplicas)},
		workloadCells(rs.CreationTimestamp, now, rs.Spec.Template, rs.Spec.Selector)...)
}
