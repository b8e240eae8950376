package rowtest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/schema"
)

type row struct {
	kind  schema.Kind
	label string
	act   schema.Cell[func()]
	Many  schema.Cell[[]string]
}

func kindOf(r *row) schema.Kind { return r.kind }

func TestWhatIsForgottenIsFound(t *testing.T) {
	rows := schema.RowsOf(kindOf,
		row{kind: schema.KindPod, act: schema.Cell[func()]{Do: func() {}}, Many: schema.Cell[[]string]{None: "a reason"}},
		row{kind: schema.KindNode, label: "x", Many: schema.Cell[[]string]{Do: []string{"a"}, None: "a reason"}},
	)
	got := Missing(rows, []schema.KindInfo{schema.Info(schema.KindPod), schema.Info(schema.KindNode), schema.Info(schema.KindService)})
	want := []string{
		"kind Node: cell act is missing: say what is done for the kind, or in None why nothing is",
		"kind Node: cell Many says both what is done and why nothing is",
		"kind Service has no row in this table",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTwoRowsOfOneKindPanic(t *testing.T) {
	defer func() {
		if got := recover(); got != "schema: kind Pod has two rows" {
			t.Errorf("got %v", got)
		}
	}()
	schema.RowsOf(kindOf, row{kind: schema.KindPod}, row{kind: schema.KindPod})
}
