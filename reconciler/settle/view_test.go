package settle

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/chance"
	"fairlead/schema/objecttest"
)

// The view that a queue keeps from round to round decides as one made anew for
// each: whatever happens, also while plans go their own way on copies of it.
func TestKeptViewDecidesAsANewOne(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		e := engine()
		kept, anew := NewQueue(), NewQueue()
		one, two := state.Empty(state.Counters{}), state.Empty(state.Counters{})
		for i := range rapid.IntRange(1, 15).Draw(t, "rounds") {
			if rapid.IntRange(0, 3).Draw(t, fmt.Sprint("plan", i)) == 0 {
				tx, q := one.Begin(), kept.Clone()
				happen(t, fmt.Sprint("planned", i), tx)
				e.Run(tx, q, now)
			}
			tx := one.Begin()
			happen(t, fmt.Sprint("round", i), tx)
			seen := 0
			changes := tx.ChangesAfter(&seen) // each, in the order in which they came
			e.Run(tx, kept, now)
			one = tx.Commit()

			tx = two.Begin()
			for _, c := range changes {
				if c.New == nil {
					tx.Delete(c.Key)
				} else {
					tx.Put(state.Edit(c.New))
				}
			}
			anew.view = nil
			e.Run(tx, anew, now)
			two = tx.Commit()
			if diff := cmp.Diff(bound(two), bound(one)); diff != "" {
				t.Fatalf("round %d: pods are elsewhere (-new view +kept view):\n%s", i, diff)
			}
		}
	})
}

// happen is what comes from outside in one round.
func happen(t *rapid.T, label string, tx *state.Txn) {
	for i := range rapid.IntRange(0, 4).Draw(t, label) {
		label := fmt.Sprint(label, ".", i)
		name := fmt.Sprint(rapid.IntRange(0, 3).Draw(t, label+" name"))
		switch rapid.IntRange(0, 4).Draw(t, label+" what") {
		case 0:
			tx.Put(objecttest.Node("n"+name, rapid.SampledFrom([]string{"1", "2"}).Draw(t, label+" cpu"), "1Gi"))
		case 1:
			tx.Delete(schema.Key{Kind: schema.KindNode, Name: "n" + name})
		case 2:
			d := deployment("d"+name, rapid.Int32Range(0, 5).Draw(t, label+" replicas"))
			d.Spec.Template.Spec.Containers[0].Image = rapid.SampledFrom([]string{"localhost/c:v1", "localhost/c:v2"}).Draw(t, label+" image")
			if old, ok := state.Get[*appsv1.Deployment](tx, "default", d.Name); ok {
				d.UID, d.Generation, d.Status = old.UID, old.Generation+1, old.Status
			}
			tx.Put(d)
		default: // agents: pods become ready, those that terminate go
			for pod := range state.All[*corev1.Pod](tx, "") {
				switch {
				case pod.Spec.NodeName == "":
				case pod.DeletionTimestamp != nil:
					tx.Delete(schema.KeyOf(pod))
				case pod.Status.Phase == corev1.PodPending:
					next := state.Edit(pod)
					next.Status.Phase = corev1.PodRunning
					next.Status.Conditions = append(next.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
					tx.Put(next)
				}
			}
		}
	}
}

func bound(r state.Reader) (out []string) {
	for pod := range state.All[*corev1.Pod](r, "") {
		out = append(out, pod.Name+" on "+pod.Spec.NodeName)
	}
	return out
}
