package api

import (
	"iter"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// row is how one kind's collection is shown and selected from.
type row struct {
	kind schema.Kind
	// columns are what Kubernetes prints for the kind, ours are in the same manner;
	// cells are those of one object, in the same order.
	columns []column
	cells   cellsFunc
	// fields adds the fields that a fieldSelector may name beside name and namespace:
	// those Kubernetes has for the kind.
	fields fieldsCell
	// narrow finds the objects that may match by an index, false where it cannot.
	narrow narrowCell
	// shared are the items of what all nodes are told that a change of an object may
	// change; called while the door's lock is held.
	shared sharedCell
	// concerns marks the nodes whose own part a change may concern; called while the
	// door's lock is held.
	concerns concernsCell
	// maker tells who makes the objects of a kind that stand in no source.
	maker makerCell
	// refuse is the whole answer to a change of an object that describes itself.
	refuse refuseCell
	// reach is how to talk to an object that has an address.
	reach reachCell
	// fresh adds when the node that an object is named after reported last, which
	// nobody stores.
	fresh freshCell
}

type (
	cellsFunc  = func(obj schema.Object, now metav1.Time) []any
	fieldsFunc = func(set fields.Set, obj schema.Object)
	narrowFunc = func(r state.Reader, sel selection) (iter.Seq[schema.Object], bool)
	fieldsCell = schema.Cell[fieldsFunc]
	narrowCell = schema.Cell[narrowFunc]

	refuseFunc = func(w *write) string
	reachFunc  = func(obj schema.Object) string
	freshFunc  = func(obj schema.Object, heard time.Time) schema.Object

	makerCell  = schema.Cell[string]
	refuseCell = schema.Cell[refuseFunc]
	reachCell  = schema.Cell[reachFunc]
	freshCell  = schema.Cell[freshFunc]

	sharedCell   = schema.Cell[func(c state.Change) []string]
	concernsCell = schema.Cell[func(d *Door, c state.Change, dirty map[schema.NodeName]bool)]
)

// Reasons that several kinds share.
const (
	onlyNames = "Kubernetes selects by no other field of it"
	noIndex   = "it is not asked for by what an index holds"
	notShared = "not all nodes are told of it"
	notOwn    = "no node is told of it alone"
	byCluster = "what no source declares of it is made by the cluster itself"
	byOrigin  = "it stands in Git, or is made of what does: the answer says where"
	noAddress = "it has no address"
	allStored = "all of it is stored"
)

var rows = schema.RowsOf(func(r *row) schema.Kind { return r.kind },
	namespaceRow, nodeRow, podRow, serviceRow, configMapRow, secretRow, eventRow, deploymentRow, replicaSetRow, jobRow, cronJobRow, endpointSliceRow, sourceRow, revisionRow,
)

func typedCells[T schema.Object](cells func(T, metav1.Time) []any) cellsFunc {
	return func(obj schema.Object, now metav1.Time) []any { return cells(obj.(T), now) }
}

func typedFields[T schema.Object](fill func(fields.Set, T)) fieldsFunc {
	return func(set fields.Set, obj schema.Object) { fill(set, obj.(T)) }
}
