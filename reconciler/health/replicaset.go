package health

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

var replicaSetRow = row{
	kind:    schema.KindReplicaSet,
	of:      schema.Cell[judgement]{Do: replicaSet},
	in:      schema.Cell[workloads]{None: "it is only ever a Deployment's"},
	current: schema.Cell[owning]{None: "its template never changes"},
}

func replicaSet(r state.Reader, obj schema.Object, now time.Time) Workload {
	rs := obj.(*appsv1.ReplicaSet)
	want := Desired(rs.Spec.Replicas)
	w := Workload{
		Complete: rs.Status.ObservedGeneration >= rs.Generation && rs.Status.ReadyReplicas >= want,
		Unseen:   rs.Status.ObservedGeneration < rs.Generation,
		progress: func() string { return fmt.Sprintf("%d of %d ready", rs.Status.ReadyReplicas, want) },
		Troubles: none[Trouble], Pods: ownedPods(r, rs),
	}
	if !w.Complete {
		w.Troubles = func(yield func(Trouble) bool) { podTroubles(r, rs, rs.Spec.MinReadySeconds, now, yield) }
	}
	return w
}
