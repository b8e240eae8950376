package plan

import (
	appsv1 "k8s.io/api/apps/v1"

	"fairlead/reconciler/health"
	"fairlead/schema"
)

var deploymentRow = row{
	kind:  schema.KindDeployment,
	count: countCell{Do: func(obj schema.Object) int32 { return health.Desired(obj.(*appsv1.Deployment).Spec.Replicas) }},
	current: currentCell{Do: func(obj, made schema.Object) bool {
		rs, ok := made.(*appsv1.ReplicaSet)
		return ok && schema.HasTemplateOf(rs, obj.(*appsv1.Deployment))
	}},
	report: reportCell{None: "its replica sets make the pods"},
}
