package sim

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// row is what the simulation knows of a kind: what the team asks for of it, and what
// the kind promises. What holds whatever the kind stands in truth.go.
type row struct {
	kind schema.Kind

	asks schema.Cell[asking]
	// holds looks at an object after every round: what must be true at every instant.
	holds schema.Cell[func(*truth, *state.Snapshot, schema.Object)]
	// leaves is told of a pod of one that a round lets go; was is the cluster before.
	leaves schema.Cell[func(t *truth, was, is *state.Snapshot, p *corev1.Pod)]
	// missing reports whether an object that Git asks for may be missing, for it goes by
	// itself and is not made again before the next commit.
	missing schema.Cell[func(*truth, schema.Key) bool]
	// outlives reports whether an object may be there that the tree gone back to does not
	// ask for.
	outlives schema.Cell[func(schema.Object) bool]
	// rests says, once faults have stopped, what is still to come of an object; "" for
	// nothing. It adds the pods that are there for it to pods.
	rests schema.Cell[func(*truth, schema.Object, podSet) string]
}

// asking is how the team asks for objects of a kind. Each kind draws from chance of its
// own, so that what is asked for of one does not change what is asked for of another.
type asking struct {
	begin  func(*team) []workload
	change func(*team, []workload) (next []workload, what string)
	// last is what is asked for when faults are over: all of it comes to run.
	last func(workload) workload
	text func(workload) string // its manifests
	// flawless reports whether it comes to run.
	flawless func(workload) bool
}

// workload is one thing that the team asks for. What a field means is its kind's to say.
type workload struct {
	kind        schema.Kind
	name        string
	tag         string // of its image: what its processes do
	replicas    int
	surge, down int
	recreate    bool
	liveness    bool
	config      int
	job         jobAsk
}

// podSet are the pods that are there for something.
type podSet map[types.UID]*corev1.Pod

var rows = schema.RowsOf(func(r *row) schema.Kind { return r.kind },
	deploymentRow, jobRow, cronJobRow, podRow, serviceRow,
	promisesNothing(schema.KindReplicaSet, "its Deployment's promises are looked at"),
	promisesNothing(schema.KindNamespace, "there is one, and nobody takes it away"),
	promisesNothing(schema.KindConfigMap, "a Deployment brings its own"),
	promisesNothing(schema.KindSecret, "none is asked for: its values have tests of their own"),
	promisesNothing(schema.KindSource, "there is one: see truth.source"),
	promisesNothing(schema.KindRevision, "a rollback is due for a failed one: see truth.source"),
	promisesNothing(schema.KindNode, "see truth.nodeChanged and truth.capacity"),
	promisesNothing(schema.KindEvent, "it tells of the past"),
	promisesNothing(schema.KindEndpointSlice, "what nodes make of it is looked at: see service.go"),
)

// neverDone is why nothing of a kind outlives its tree.
const neverDone = "its work is never done"

func promisesNothing(kind schema.Kind, reason string) row {
	return row{
		kind: kind, asks: schema.Cell[asking]{None: reason},
		holds:    schema.Cell[func(*truth, *state.Snapshot, schema.Object)]{None: reason},
		leaves:   schema.Cell[func(t *truth, was, is *state.Snapshot, p *corev1.Pod)]{None: reason},
		missing:  schema.Cell[func(*truth, schema.Key) bool]{None: "it never goes by itself"},
		outlives: schema.Cell[func(schema.Object) bool]{None: neverDone},
		rests:    schema.Cell[func(*truth, schema.Object, podSet) string]{None: reason},
	}
}
