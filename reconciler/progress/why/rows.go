package why

import (
	"fairlead/reconciler/health"
	"fairlead/schema"
)

// row is how objects of one kind are explained.
type row struct {
	kind schema.Kind
	// fromGit says that the object stands in Git or follows from one that does: the
	// chain begins with the commit, and an object that is well is told to be as it is
	// because of a commit that did not come through.
	fromGit bool
	// needed says that the chains of other objects go over objects of this kind.
	needed bool
	// tell adds the links that come after those from Git, and finds the cause.
	tell tellCell
}

type tellCell = schema.Cell[func(c *chain, obj schema.Object) cause]

func tell[T schema.Object](of func(c *chain, obj T) cause) tellCell {
	return tellCell{Do: func(c *chain, obj schema.Object) cause { return of(c, obj.(T)) }}
}

var rows = schema.RowsOf(func(r *row) schema.Kind { return r.kind },
	deploymentRow, replicaSetRow, jobRow, cronJobRow, podRow, serviceRow, nodeRow, sourceRow, revisionRow,
	readOnly(schema.KindNamespace, "it holds others and does nothing itself"),
	readOnly(schema.KindConfigMap, "it is only read"),
	readOnly(schema.KindSecret, "it is only read"),
	row{kind: schema.KindEndpointSlice, fromGit: true, needed: true, tell: tellCell{None: "its Service tells of it"}},
	row{kind: schema.KindEvent, fromGit: true, needed: true, tell: tellCell{None: "it tells of the past"}},
)

func readOnly(kind schema.Kind, reason string) row {
	return row{kind: kind, fromGit: true, tell: tellCell{None: reason}}
}

// Needs are the kinds that the reader of an explanation must have beside the
// object's own.
func Needs() (kinds []schema.Kind) {
	for _, row := range rows.All() {
		if row.needed {
			kinds = append(kinds, row.kind)
		}
	}
	return kinds
}

// Kinds are those whose objects have something to tell of themselves.
func Kinds() (kinds []schema.Kind) {
	for _, row := range rows.All() {
		if row.tell.Do != nil {
			kinds = append(kinds, row.kind)
		}
	}
	return kinds
}

// tellOf adds what the object's kind has to tell, and finds the cause. An object that
// does nothing is as it was applied; of a kind without a row nobody can say how it is.
func (c *chain) tellOf(row *row, obj schema.Object) cause {
	switch {
	case row == nil:
		kind := schema.KindOf(obj)
		c.add(obj, Link{State: "unknown"})
		return cause{code: health.Unknown, text: "this version cannot explain objects of kind " + string(kind)}
	case row.tell.Do == nil:
		c.add(obj, Link{State: "applied", OK: true})
		return cause{code: health.Healthy, text: "it is as Git asks"}
	}
	return row.tell.Do(c, obj)
}
