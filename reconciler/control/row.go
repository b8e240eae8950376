package control

import (
	"iter"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Row is what the engine and the loop know of one kind: each file of a kind fills
// one, and no code that handles any object knows a kind by name. Whoever finds no row
// for a kind leaves its objects as they are.
type Row struct {
	Kind schema.Kind
	// Controller turns its objects into what follows from them.
	Controller controllerCell
	// Created completes an object that is about to be created, in place.
	Created createdCell
	// Remove lets an object go and says why, where more is to be done than to delete
	// it.
	Remove removeCell
	// Dependents are the objects that cannot be without obj, which is gone.
	Dependents dependentsCell
	// Collect removes an object if what it depends on is gone.
	Collect collectCell
	// Done reports whether an object has done its work, which is not to be done twice.
	Done doneCell
	// Configured says of an object that comes from no source what it is, where Git may
	// not take it over.
	Configured configuredCell
	// StandIn takes the place of an object whose record cannot be read, so that what
	// depends on it is not taken for left behind.
	StandIn standInCell
}

type (
	controllerCell = schema.Cell[Controller]
	createdCell    = schema.Cell[func(c *Context, obj schema.Object)]
	removeCell     = schema.Cell[func(c *Context, obj schema.Object, why string)]
	dependentsCell = schema.Cell[func(r state.Reader, obj schema.Object) iter.Seq[schema.Object]]
	collectCell    = schema.Cell[func(c *Context, obj schema.Object)]
	doneCell       = schema.Cell[func(obj schema.Object) bool]
	configuredCell = schema.Cell[string]
	standInCell    = schema.Cell[func(c *Context, about metav1.ObjectMeta) schema.Object]
)

// rows stand in the order in which their controllers are told of a change.
var rows = schema.RowsOf(func(r *Row) schema.Kind { return r.Kind },
	namespaceRow, nodeRow, deploymentRow, replicaSetRow, jobRow, cronJobRow, podRow, serviceRow, endpointSliceRow, configMapRow, secretRow, eventRow, sourceRow, revisionRow,
)

// Of is the row of a kind, nil for one that this version cannot handle.
func Of(kind schema.Kind) *Row { return rows.Of(kind) }

// Reasons that several kinds share.
const (
	noController = "nothing follows from it by itself"
	asWritten    = "it is created as it is written"
	notInGit     = "it does not stand in Git"
	justDeleted  = "deleting the object is all there is to do"
	nothingNeeds = "no other object ends with it"
	needsNothing = "it ends with no other object"
	neverDone    = "its work has no end"
	takenOver    = "the source takes it over"
	noStandIn    = "nothing is removed because it is missing"
)
