package plan

import (
	appsv1 "k8s.io/api/apps/v1"

	"fairlead/reconciler/health"
	"fairlead/schema"
)

var replicaSetRow = row{
	kind:    schema.KindReplicaSet,
	count:   countCell{Do: func(obj schema.Object) int32 { return health.Desired(obj.(*appsv1.ReplicaSet).Spec.Replicas) }},
	current: currentCell{None: "it makes pods of one template only"},
	report:  reportCell{Do: modelReady},
}
