package scheduler

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/chance"
)

// history is a cluster under change with the view that follows it.
type history struct {
	*rapid.T
	tx    *state.Txn
	view  *View
	step  int
	made  int
	kinds []*corev1.Pod // templates: the pods of one owner are alike
}

func newHistory(t *rapid.T) *history {
	h := &history{T: t, tx: cluster()}
	for i := range rapid.IntRange(0, 9).Draw(t, "nodes") {
		h.tx.Put(genNode(t, fmt.Sprintf("n%d", i)))
	}
	for i := range rapid.IntRange(1, 4).Draw(t, "kinds") {
		kind := genPod(t, "kind")
		ownedBy(fmt.Sprintf("rs%d", i), rapid.SampledFrom([]string{"app=x", "app=y"}).Draw(t, "app"))(kind)
		h.kinds = append(h.kinds, kind)
	}
	h.tx.TakeDirty()
	h.view = NewView(h.tx)
	return h
}

func (h *history) draw(what string, n int) int {
	return rapid.IntRange(0, n-1).Draw(h.T, fmt.Sprint(what, h.step))
}

// pick is any object of its kind, false if there is none.
func pick[T schema.Object](h *history) (T, bool) {
	var all []T
	for o := range state.All[T](h.tx, "") {
		all = append(all, o)
	}
	if len(all) == 0 {
		var none T
		return none, false
	}
	return all[h.draw("which", len(all))], true
}

func edit[T schema.Object](h *history, f func(T)) {
	if o, ok := pick[T](h); ok {
		next := state.Edit(o)
		f(next)
		h.tx.Put(next)
	}
}

// newPod is one of a kind that came before, or one like no other.
func (h *history) newPod() *corev1.Pod {
	h.made++
	p := genPod(h.T, "")
	if i := h.draw("kind", len(h.kinds)+1); i < len(h.kinds) {
		p = h.kinds[i].DeepCopy()
	}
	p.Name = fmt.Sprintf("p%02d", h.made)
	return p
}

// change is one thing that happens to a cluster.
func (h *history) change() {
	h.step++
	switch h.draw("change", 12) {
	case 0:
		n := genNode(h.T, fmt.Sprintf("n%d", h.draw("name", 10)))
		h.tx.Put(n)
	case 1:
		if n, ok := pick[*corev1.Node](h); ok {
			h.tx.Delete(schema.KeyOf(n))
		}
	case 2:
		if p, ok := pick[*corev1.Pod](h); ok {
			h.tx.Delete(schema.KeyOf(p))
		}
	case 3:
		edit(h, func(p *corev1.Pod) {
			p.Status.Phase = rapid.SampledFrom([]corev1.PodPhase{corev1.PodRunning, corev1.PodFailed}).Draw(h.T, fmt.Sprint("phase", h.step))
		})
	case 4:
		edit(h, func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} })
	case 5:
		edit(h, func(n *corev1.Node) {
			n.Labels["zone"] = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(h.T, fmt.Sprint("zone", h.step))
		})
	default:
		h.place(h.newPod())
	}
	h.follow()
}

func (h *history) follow() {
	for _, c := range h.tx.TakeDirty() {
		h.view.Update(h.tx, c)
	}
}

// place binds the pod where the view says, which is where a scan says.
func (h *history) place(p *corev1.Pod) {
	got := h.view.Schedule(p, "")
	if want := NewView(h.tx).Scan(p); got.Node != want {
		h.Fatalf("step %d: %s goes to %q, a scan says %q", h.step, p.Name, got.Node, want)
	}
	if got.Node == "" {
		return
	}
	p.Spec.NodeName = string(got.Node)
	h.tx.Put(p)
}

// fork is the history of a plan: the same cluster, from here on another one.
func (h *history) fork() *history {
	s := h.tx.Commit()
	h.tx = s.Begin()
	other := *h
	other.tx, other.view = s.Begin(), h.view.Clone()
	return &other
}

// Whatever happened to the cluster, the node chosen is the one that a scan over
// all of them finds best. A clone of the view goes its own way, and neither sees
// the other.
func TestPlacementEqualsAScan(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		all := []*history{newHistory(t)}
		for i := range rapid.IntRange(1, 60).Draw(t, "changes") {
			h := all[rapid.IntRange(0, len(all)-1).Draw(t, fmt.Sprint("history", i))]
			if len(all) < 3 && rapid.IntRange(0, 9).Draw(t, fmt.Sprint("fork", i)) == 0 {
				all = append(all, h.fork())
			}
			h.change()
		}
		for _, h := range all {
			checkView(t, h.tx, h.view)
		}
	})
}
