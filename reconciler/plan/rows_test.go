package plan

import (
	"slices"
	"strings"
	"testing"

	"fairlead/reconciler/settle"
	"fairlead/schema"
	"fairlead/schema/rowtest"
)

func TestEveryKindHasItsRow(t *testing.T) { rowtest.Check(t, rows) }

// A plan that does not know what becomes of pods says so, and does not take them for
// ready.
func TestWhatIsNotForeseenIsTold(t *testing.T) {
	_, f := benchCluster(nil)
	f.rows = schema.RowsOf(func(r *row) schema.Kind { return r.kind }, slices.DeleteFunc(slices.Clone(rows.All()), func(r row) bool { return r.kind == schema.KindReplicaSet })...)
	changes, diags := settle.Difference(f.tx, "main", benchTree(4))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	settle.Apply(f.context(), changes)
	f.run()
	p := newPlan(Candidate{Source: "main"})
	p.tellPods(f)
	told := slices.ContainsFunc(p.Reasons, func(s string) bool {
		return strings.HasPrefix(s, "this version does not know what becomes of the pods of ReplicaSet app-00000-")
	})
	if !told {
		t.Errorf("got reasons %q", p.Reasons)
	}
	if len(p.Pods) != 1 || p.Pods[0].Action != "start" {
		t.Errorf("got pods %+v", p.Pods)
	}
}
