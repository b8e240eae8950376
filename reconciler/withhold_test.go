package reconciler

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/control"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

func sized(name string, bytes int) *corev1.ConfigMap {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Data: map[string]string{"k": strings.Repeat("x", bytes)}}
	schema.SetOrigin(cm, schema.Origin{Source: "main", Path: "a.yaml", Line: 1, Commit: "0123456789abcdef"})
	return cm
}

// What the store would not take stays as it was, its revision is Invalid, and all
// else of the round happens. It is told once.
func TestWhatCannotBeStoredIsWithheld(t *testing.T) {
	engine := settle.NewEngine(control.Config{})
	tx := state.Empty(state.Counters{}).Begin()
	tx.Put(&schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}})
	rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-0123456789ab"}, Spec: schema.RevisionSpec{Source: "main", Commit: "0123456789abcdef"}}
	rev.Enter(schema.PhaseRollingOut, metav1.Time{}, "applied")
	tx.Put(rev)
	tx.Put(sized("grows", 10))
	m := NewMachine(engine, tx.Commit(), nil)
	now := time.Unix(1_700_000_000, 0)
	for turn := range 2 {
		tx := m.snapshot.Begin()
		tx.Put(sized("grows", wire.MaxObjectBytes))
		tx.Put(sized("new", wire.MaxObjectBytes))
		tx.Put(sized("good", turn))
		out := m.round(tx, now, nil)
		for _, ch := range out.Changes {
			if ch.New != nil {
				if err := wire.CheckRecord(ch.New); err != nil {
					t.Errorf("%s is to be written: %v", ch.Key, err)
				}
			}
		}
		if want := 2 * (1 - turn); len(out.Withheld) != want {
			t.Errorf("turn %d: told of %v", turn, out.Withheld)
		}
		get := func(name string) *corev1.ConfigMap {
			cm, _ := state.Get[*corev1.ConfigMap](out.Snapshot, "shop", name)
			return cm
		}
		if cm := get("grows"); cm == nil || len(cm.Data["k"]) != 10 {
			t.Errorf("turn %d: what grew too large is not as it was", turn)
		}
		if get("new") != nil || get("good") == nil || len(get("good").Data["k"]) != turn {
			t.Errorf("turn %d: new %v, good %v", turn, get("new"), get("good"))
		}
		got, _ := state.Revision(out.Snapshot, schema.RevisionName(rev.Name))
		if got.Status.Phase != schema.PhaseInvalid || !strings.Contains(phaseReason(got), "cannot be stored: ") {
			t.Errorf("turn %d: the revision is %s: %s", turn, got.Status.Phase, phaseReason(got))
		}
		now = now.Add(time.Second)
	}
}
