package settle

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/objecttest"
)

// failingNode is a cluster of one deployment whose pods cannot be started on n1.
type failingNode struct {
	t  *testing.T
	e  *Engine
	q  *Queue
	tx *state.Txn
	at time.Duration
}

func newFailingNode(t *testing.T, nodes ...string) *failingNode {
	f := &failingNode{t: t, e: engine(), q: NewQueue(), tx: state.Empty(state.Counters{}).Begin()}
	for _, name := range nodes {
		f.tx.Put(objecttest.Node(name, "1", "1Gi"))
	}
	changes, _ := Difference(f.tx, "main", desired(deployment("api", 1)))
	Apply(f.e.Context(f.tx, now), changes)
	f.settle()
	return f
}

func (f *failingNode) settle() {
	for f.e.Run(f.tx, f.q, now.Add(f.at)); !f.q.Rested(); {
		f.e.Run(f.tx, f.q, now.Add(f.at))
	}
}

// pod is the one that is not on its way out.
func (f *failingNode) pod() *corev1.Pod {
	f.t.Helper()
	var found []*corev1.Pod
	for p := range state.All[*corev1.Pod](f.tx, "") {
		if p.DeletionTimestamp == nil {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		f.t.Fatalf("%d pods", len(found))
	}
	return found[0]
}

// report is what a node says of the pod: on n1 it cannot be started, elsewhere it runs.
// Pods that are to go are gone.
func (f *failingNode) report() {
	f.t.Helper()
	for p := range state.All[*corev1.Pod](f.tx, "") {
		if p.DeletionTimestamp != nil {
			f.tx.Delete(schema.KeyOf(p))
		}
	}
	next := state.Edit(f.pod())
	next.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: schema.ReasonNodeError, Message: "no space left on device"}}}}
	if next.Spec.NodeName != "n1" {
		next.Status.ContainerStatuses[0] = corev1.ContainerStatus{Name: "c", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
		next.Status.Conditions = append(next.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	}
	f.tx.Put(next)
	f.settle()
}

// pass lets time go by, wake-up by wake-up, up to at.
func (f *failingNode) pass(at time.Duration) {
	for next := f.q.NextWake(); !next.IsZero() && next.Sub(now) <= at; next = f.q.NextWake() {
		f.at = max(f.at, next.Sub(now))
		f.settle()
	}
	f.at = at
	f.settle()
}

func (f *failingNode) avoided() bool {
	n, _ := state.Get[*corev1.Node](f.tx, "", "n1")
	cond, _ := health.NodeCondition(n, schema.ConditionStartsFailing)
	tainted := slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&schema.StartsFailing) })
	if tainted != (cond.Status == corev1.ConditionTrue) {
		f.t.Errorf("taint %v, condition %+v", tainted, cond)
	}
	return tainted
}

// again takes the pod away, so that another is made.
func (f *failingNode) again() {
	f.tx.Delete(schema.KeyOf(f.pod()))
	f.settle()
}

// A pod that its node, which is ready, cannot start is made anew on another one, once;
// the node is avoided for a while, longer each time.
func TestWhatANodeCannotStartGoesElsewhere(t *testing.T) {
	f := newFailingNode(t, "n1", "n2")
	if got := f.pod().Spec.NodeName; got != "n1" {
		t.Fatalf("at first on %s", got)
	}
	f.report()
	f.pass(29 * time.Second)
	if got := f.pod().Spec.NodeName; got != "n1" || !f.avoided() {
		t.Errorf("too early on %s, avoided %v", got, f.avoided())
	}
	f.pass(30 * time.Second)
	if got := f.pod().Spec.NodeName; got != "n2" {
		t.Fatalf("it stays on %s", got)
	}
	f.report()
	f.pass(5 * time.Minute)
	f.again()
	if got := f.pod().Spec.NodeName; got != "n2" {
		t.Errorf("the next one is made on %s", got)
	}
	f.report()
	f.pass(7 * time.Minute)
	if f.avoided() {
		t.Error("the node is avoided for ever")
	}
	f.again()
	if got := f.pod().Spec.NodeName; got != "n1" {
		t.Fatalf("the node is not tried again: %s", got)
	}
	f.report()
	f.pass(8 * time.Minute)
	f.report()
	f.pass(17 * time.Minute)
	if f.pod().Spec.NodeName != "n2" || !f.avoided() {
		t.Error("the second time it is not avoided for longer")
	}
	f.pass(20 * time.Minute)
	if f.avoided() {
		t.Error("the node is avoided for ever")
	}
}

// Where it was planned is no reason to go where it cannot be started.
func TestAPlanGivesWayToANodeThatCannotStart(t *testing.T) {
	f := newFailingNode(t, "n1", "n2")
	f.report()
	src := &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}}
	src.Status.Applied.Commit = "c1"
	rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: string(schema.RevisionOf("main", "c1"))}}
	rev.Status.Placements = map[string]schema.NodeName{"default/x": "n1"}
	x := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "x"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	schema.SetOrigin(x, schema.Origin{Source: "main", Path: "x.yaml", Line: 1, Commit: "c1"})
	for _, obj := range []schema.Object{src, rev, x} {
		f.tx.Put(obj)
	}
	f.settle()
	placed, _ := state.Get[*corev1.Pod](f.tx, "default", "x")
	told, _ := state.Revision(f.tx, schema.RevisionName(rev.Name))
	want := []string{"differs from plan: pod default/x runs on n2, planned n1: pods cannot be started there at present"}
	if placed.Spec.NodeName != "n2" || !slices.Equal(told.Status.Differs, want) {
		t.Errorf("on %s: %q", placed.Spec.NodeName, told.Status.Differs)
	}
}

// Where no other node takes it, the pod stays where it is and nothing is written.
func TestWhatNoOtherNodeTakesStays(t *testing.T) {
	f := newFailingNode(t, "n1")
	f.report()
	was, before := f.pod().Name, f.tx.Counters().ResourceVersion
	f.pass(9 * time.Minute) // less than its progress deadline
	if got := f.pod(); got.Name != was || f.tx.Counters().ResourceVersion != before {
		t.Errorf("pod %s became %s, %d writes", was, got.Name, f.tx.Counters().ResourceVersion-before)
	}
}
