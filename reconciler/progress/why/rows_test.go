package why

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/rowtest"
)

func TestEveryKindHasItsRow(t *testing.T) { rowtest.Check(t, rows) }

// An object that nobody can explain is not said to be well: not by itself, and not
// among the workloads of a revision.
func TestAKindWithoutARowIsNotWell(t *testing.T) {
	tx := state.Empty(state.Counters{}).Begin()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "a"}}
	schema.SetOrigin(pod, schema.Origin{Source: "main", Commit: "c1"})
	rev := &schema.Revision{
		ObjectMeta: metav1.ObjectMeta{Name: "main-c1"}, Spec: schema.RevisionSpec{Source: "main", Commit: "c1"},
		Status: schema.RevisionStatus{Phase: schema.PhaseRollingOut},
	}
	tx.Put(pod)
	tx.Put(rev)
	withoutPods := schema.RowsOf(func(r *row) schema.Kind { return r.kind }, slices.DeleteFunc(slices.Clone(rows.All()), func(r row) bool { return r.kind == schema.KindPod })...)
	for _, obj := range []schema.Object{pod, rev} {
		c := &chain{r: tx, rows: withoutPods}
		got := c.explain(obj)
		if got.code != health.Unknown || got.text != "this version cannot explain objects of kind Pod" {
			t.Errorf("%s: got %+v", schema.KeyOf(obj), got)
		}
	}
}
