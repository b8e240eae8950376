package settle

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/control"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/objecttest"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func engine() *Engine {
	return NewEngine(control.Config{ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), NodePortFirst: 30000, NodePortLast: 32767})
}

func deployment(name string, replicas int32) *appsv1.Deployment {
	d := objecttest.Deployment(name, replicas, func(d *appsv1.Deployment) { d.Generation = 1 })
	schema.Default(d)
	return d
}

func desired(objects ...schema.Object) []*schema.Desired {
	var out []*schema.Desired
	for i, o := range objects {
		schema.SetOrigin(o, schema.Origin{Source: "main", Path: "all.yaml", Line: i + 1, Commit: "c1"})
		at := schema.Position{Path: "all.yaml", Line: i + 1, Column: 1}
		out = append(out, &schema.Desired{Object: o, Position: at, Locate: func(string) schema.Position { return at }})
	}
	return out
}

// settled applies objects to an empty cluster and runs until nothing waits.
func settled(t *testing.T, objects ...schema.Object) (*Engine, *state.Snapshot, *Queue) {
	t.Helper()
	e, q := engine(), NewQueue()
	tx := state.Empty(state.Counters{}).Begin()
	changes, diags := Difference(tx, "main", desired(objects...))
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	Apply(e.Context(tx, now), changes)
	for range 100 {
		e.Run(tx, q, now)
		if q.Rested() {
			return e, tx.Commit(), q
		}
	}
	t.Fatal("does not settle")
	return nil, nil, nil
}

func TestSettlesDownToPods(t *testing.T) {
	_, s, q := settled(t, deployment("api", 3))
	if n := s.Len(schema.KindPod); n != 3 {
		t.Errorf("%d pods, want 3", n)
	}
	if len(q.Parked()) > 0 {
		t.Errorf("parked: %v", q.Parked())
	}
	for p := range state.All[*corev1.Pod](s, "") {
		if p.Spec.NodeName != "" || len(p.Status.Conditions) == 0 || !strings.Contains(p.Status.Conditions[0].Message, "0/0 nodes") {
			t.Errorf("pod %s without a node says %+v", p.Name, p.Status.Conditions)
		}
	}
}

// Whoever follows the cluster sees a replica set's pods come with their node; only
// one that none takes comes without, and is told why.
func TestPodsAreMadeOnTheirNode(t *testing.T) {
	e, q := engine(), NewQueue()
	tx := state.Empty(state.Counters{}).Begin()
	small := objecttest.Node("n1", "1", "1Gi", roomy)
	small.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("2")
	tx.Put(small)
	changes, _ := Difference(tx, "main", desired(deployment("api", 3)))
	Apply(e.Context(tx, now), changes)
	for e.Run(tx, q, now); !q.Rested(); {
		e.Run(tx, q, now)
	}
	seen, all := 0, map[string][]string{}
	for _, c := range tx.ChangesAfter(&seen) {
		if pod, ok := c.New.(*corev1.Pod); ok {
			all[pod.Name] = append(all[pod.Name], pod.Spec.NodeName)
		}
	}
	got := slices.SortedFunc(maps.Values(all), slices.Compare)
	if want := [][]string{{"", ""}, {"n1"}, {"n1"}}; !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("the pods' nodes, each time one was stored: %q, want %q", got, want)
	}
}

func TestBigApplyIsCarriedOver(t *testing.T) {
	_, s, _ := settled(t, deployment("api", MaxChanged+500))
	if n := s.Len(schema.KindPod); n != MaxChanged+500 {
		t.Errorf("%d pods, want %d", n, MaxChanged+500)
	}
}

func TestDifferenceAfterApplyIsEmpty(t *testing.T) {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "api"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "api"}, Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}}}}
	schema.Default(svc)
	objects := []schema.Object{deployment("api", 2), svc}
	_, s, _ := settled(t, objects...)
	live, _ := state.Get[*corev1.Service](s, "default", "api")
	if live.Spec.ClusterIP == "" || live.Spec.Ports[0].NodePort == 0 {
		t.Fatalf("service was given address %q port %d", live.Spec.ClusterIP, live.Spec.Ports[0].NodePort)
	}
	changes, diags := Difference(s, "main", desired(objects...))
	if len(changes)+len(diags) > 0 {
		t.Errorf("applied again: %+v %v", changes, diags)
	}
}

func TestDifferenceTellsFieldsAndPrunes(t *testing.T) {
	_, s, _ := settled(t, deployment("api", 2), deployment("web", 1))
	next := deployment("api", 5)
	changes, diags := Difference(s, "main", desired(next))
	if len(diags) > 0 || len(changes) != 2 {
		t.Fatalf("changes %+v, diagnostics %v", changes, diags)
	}
	if c := changes[0]; c.Action != Update || c.Key.Name != "api" || len(c.Fields) != 1 || c.Fields[0] != (schema.FieldChange{Path: "spec.replicas", From: "2", To: "5"}) {
		t.Errorf("%+v", c)
	}
	if c := changes[1]; c.Action != Prune || c.Key.Name != "web" {
		t.Errorf("%+v", c)
	}
	if changes, _ := Difference(s, "other", nil); len(changes) > 0 {
		t.Errorf("another source prunes %+v", changes)
	}
}

// What goes is found whether an object was compared before or not, whether another
// comes for it, and though one is named twice.
func TestDifferencePrunes(t *testing.T) {
	_, s, _ := settled(t, deployment("api", 2), deployment("web", 1), deployment("job", 1))
	all := desired(deployment("api", 2), deployment("job", 1), deployment("web", 1))
	for i := range all {
		all[i].Same = new(schema.Same)
	}
	fresh := desired(deployment("new", 1))[0]
	for _, c := range []struct {
		name    string
		desired []*schema.Desired
		want    string
	}{
		{"nothing goes", all, ""},
		{"compared before", all, ""},
		{"one goes", all[:2], "prune web"},
		{"one goes, one comes", []*schema.Desired{all[0], all[1], fresh}, "create new, prune web"},
		{"one is named twice", []*schema.Desired{all[0], all[0], all[1]}, "prune web"},
		{"in no order", []*schema.Desired{all[2], all[0]}, "prune job"},
		{"all go", nil, "prune api, prune job, prune web"},
	} {
		changes, diags := Difference(s, "main", c.desired)
		var got []string
		for _, ch := range changes {
			got = append(got, string(ch.Action)+" "+ch.Key.Name)
		}
		if strings.Join(got, ", ") != c.want || len(diags) > 0 {
			t.Errorf("%s: %v %v, want %s", c.name, got, diags, c.want)
		}
	}
}

func TestImmutableChangeIsRefusedAtItsLine(t *testing.T) {
	_, s, _ := settled(t, deployment("api", 2))
	next := deployment("api", 2)
	next.Spec.Selector.MatchLabels = map[string]string{"app": "other"}
	next.Spec.Template.Labels = next.Spec.Selector.MatchLabels
	_, diags := Difference(s, "main", desired(next))
	if !diags.HasErrors() || diags[0].Line != 1 {
		t.Errorf("diagnostics: %v", diags)
	}
}

// Two controllers that undo each other are parked, and a change from outside
// gives them another chance.
func TestFightIsParked(t *testing.T) {
	flip := func(want string) func(*control.Context, schema.Key) time.Time {
		return func(c *control.Context, key schema.Key) time.Time {
			ns, ok := state.Get[*corev1.Namespace](c.Tx, "", key.Name)
			if ok && ns.Labels["owner"] != want {
				next := state.Edit(ns)
				next.Labels = map[string]string{"owner": want}
				c.Tx.Put(next)
			}
			return time.Time{}
		}
	}
	same := func(_ state.Reader, c state.Change) []schema.Key { return []schema.Key{c.Key} }
	e := &Engine{controllers: []control.Controller{{Name: "one", Triggers: same, Reconcile: flip("one")}, {Name: "two", Triggers: same, Reconcile: flip("two")}, {Name: "placement"}}}
	q := NewQueue()
	tx := state.Empty(state.Counters{}).Begin()
	tx.Put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x"}})
	e.Run(tx, q, now)
	if !q.Rested() || len(q.Parked()) == 0 || !strings.Contains(q.Parked()[0], "Namespace x parked after 20 visits") {
		t.Fatalf("rested %v, parked %v", q.Rested(), q.Parked())
	}
	told := 0
	for e := range state.All[*corev1.Event](tx, "") {
		if e.Reason == schema.ReasonParked && e.InvolvedObject.Name == "x" {
			told++
		}
	}
	if told != len(q.Parked()) {
		t.Errorf("%d of %d parkings are told in events", told, len(q.Parked()))
	}
	ns, _ := state.Get[*corev1.Namespace](tx, "", "x")
	before := ns.ResourceVersion
	touched := state.Edit(ns)
	touched.Annotations = map[string]string{"by": "outside"}
	tx.Put(touched)
	e.Run(tx, q, now)
	ns, _ = state.Get[*corev1.Namespace](tx, "", "x")
	if ns.ResourceVersion == before || len(q.Parked()) == 0 {
		t.Error("a change from outside does not lift the parking")
	}
}

// A rollout of many small steps is no fight: what agents report between them is
// outside input, also for what is visited only because of what follows from it.
func TestLongRolloutIsNotParked(t *testing.T) {
	e, s, q := settled(t, deployment("api", 1))
	tx := s.Begin()
	tx.Put(objecttest.Node("n1", "10", "1Gi", roomy))
	e.Run(tx, q, now)
	for range 3 * MaxVisits {
		for pod := range state.All[*corev1.Pod](tx, "") {
			next := state.Edit(pod)
			next.Status.Phase = corev1.PodRunning
			ready := corev1.ConditionTrue
			if len(next.Status.Conditions) > 1 && next.Status.Conditions[1].Status == ready {
				ready = corev1.ConditionFalse
			}
			next.Status.Conditions = []corev1.PodCondition{next.Status.Conditions[0], {Type: corev1.PodReady, Status: ready}}
			tx.Put(next)
		}
		e.Run(tx, q, now)
	}
	if len(q.Parked()) > 0 {
		t.Errorf("parked: %v", q.Parked())
	}
}

// What placement knows of the cluster is kept from one Run to the next: it
// decides as one that looks at everything anew, also after changes that came
// from outside in between.
func TestKeptViewPlacesAsANewOne(t *testing.T) {
	placements := func(keep bool) map[string]string {
		e, s, q := settled(t, deployment("api", 6))
		tx := s.Begin()
		run := func() {
			if !keep {
				q = q.Clone()
			}
			e.Run(tx, q, now)
		}
		tx.Put(objecttest.Node("n1", "1", "1Gi", roomy))
		run()
		tx.Put(objecttest.Node("n2", "1", "1Gi", roomy))
		for i, pod := range slices.Collect(state.All[*corev1.Pod](tx, "")) {
			if i < 3 {
				tx.Delete(schema.KeyOf(pod))
			}
		}
		run()
		tx.Delete(schema.Key{Kind: schema.KindNode, Name: "n1"})
		tx = tx.Commit().Begin()
		more := deployment("web", 4)
		changes, _ := Difference(tx, "web", desired(more))
		Apply(e.Context(tx, now), changes)
		run()
		out := map[string]string{}
		for pod := range state.All[*corev1.Pod](tx, "") {
			out[pod.Name] = pod.Spec.NodeName
		}
		return out
	}
	kept, anew := placements(true), placements(false)
	if diff := cmp.Diff(anew, kept); diff != "" {
		t.Errorf("a kept view places otherwise (-anew +kept):\n%s", diff)
	}
	if len(kept) < 10 {
		t.Errorf("%d pods are there, want 10 at least: %v", len(kept), kept)
	}
}

// However much a round makes, no pod of it is left to be placed in another: it
// would be made durable twice.
func TestPodsArePlacedInTheRoundThatMakesThem(t *testing.T) {
	e, q := engine(), NewQueue()
	tx := state.Empty(state.Counters{}).Begin()
	for _, name := range []string{"n1", "n2", "n3"} {
		tx.Put(objecttest.Node(name, "100", "1Gi", roomy))
	}
	changes, _ := Difference(tx, "main", desired(deployment("api", MaxChanged), deployment("web", 200)))
	Apply(e.Context(tx, now), changes)
	for round := 1; !q.Rested() || round == 1; round++ {
		e.Run(tx, q, now)
		for range state.By[*corev1.Pod](tx, state.PodsByNode, "") {
			t.Fatalf("round %d leaves pods without a node", round)
		}
		tx = tx.Commit().Begin()
	}
	if n := tx.Len(schema.KindPod); n != MaxChanged+200 {
		t.Errorf("%d pods, want %d", n, MaxChanged+200)
	}
}

// Pods that wait are tried again when room was given back, not when it was taken:
// else placing many costs the square of their number.
func TestWaitingPodsAreTriedWhenRoomIsGivenBack(t *testing.T) {
	tx := state.Empty(state.Counters{}).Begin()
	pod := func(name, node string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: node}}
	}
	tx.Put(pod("waits", ""))
	ended := pod("a", "n1")
	ended.Status.Phase = corev1.PodSucceeded
	for _, test := range []struct {
		what     string
		old, new schema.Object
		tried    int
	}{
		{"bound", pod("a", ""), pod("a", "n1"), 0},
		{"reported", pod("a", "n1"), pod("a", "n1"), 0},
		{"ended", pod("a", "n1"), ended, 1},
		{"moved", pod("a", "n1"), pod("a", "n2"), 1},
		{"deleted", pod("a", "n1"), nil, 1},
		{"deleted before it was bound", pod("a", ""), nil, 0},
	} {
		c := state.Change{Key: schema.KeyOf(test.old), Old: test.old, New: test.new}
		if got := len(placementTriggers(tx, c)); got != test.tried {
			t.Errorf("a pod is %s: %d pods are tried, want %d", test.what, got, test.tried)
		}
	}
}

// A pod that lacks nothing but room where it was planned waits for it a while; it
// goes elsewhere at once when something else is in the way.
func TestAPodWaitsForRoomWhereItWasPlanned(t *testing.T) {
	const differs = "differs from plan: pod default/new runs on n2, planned n1: "
	for _, test := range []struct {
		what       string
		meanwhile  func(tx *state.Txn)
		at         time.Duration // when it is bound
		node, note string
	}{
		{"room comes in time", func(tx *state.Txn) { tx.Delete(schema.Key{Kind: schema.KindPod, Namespace: "default", Name: "old"}) }, PlannedRoomWait / 2, "n1", ""},
		{"room does not come", nil, PlannedRoomWait, "n2", differs + "cpu: wanted 600m, used 600m of 1"},
		{"the node is gone", func(tx *state.Txn) { tx.Delete(schema.Key{Kind: schema.KindNode, Name: "n1"}) }, PlannedRoomWait / 2, "n2", differs + "no such node"},
	} {
		t.Run(test.what, func(t *testing.T) {
			e, q := engine(), NewQueue()
			tx := state.Empty(state.Counters{}).Begin()
			pod := func(name string) *corev1.Pod {
				p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, CreationTimestamp: metav1.NewTime(now)}, Spec: corev1.PodSpec{
					Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("600m")}}}},
				}}
				schema.SetOrigin(p, schema.Origin{Source: "main", Path: "all.yaml", Line: 1, Commit: "c1"})
				return p
			}
			old, src := pod("old"), &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}}
			old.Spec.NodeName = "n1"
			src.Status.Applied.Commit = "c1"
			rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: string(schema.RevisionOf("main", "c1"))}}
			rev.Status.Placements = map[string]schema.NodeName{"default/new": "n1"}
			for _, obj := range []schema.Object{objecttest.Node("n1", "1", "1Gi", roomy), objecttest.Node("n2", "1", "1Gi"), old, src, rev, pod("new")} {
				tx.Put(obj)
			}
			bound := func() string {
				p, _ := state.Get[*corev1.Pod](tx, "default", "new")
				return p.Spec.NodeName
			}
			settle := func(at time.Duration) {
				for e.Run(tx, q, now.Add(at)); !q.Rested(); {
					e.Run(tx, q, now.Add(at))
				}
			}
			settle(0)
			waiting, _ := state.Get[*corev1.Pod](tx, "default", "new")
			if c := waiting.Status.Conditions; bound() != "" || len(c) != 1 || c[0].Reason != schema.ReasonPlannedNodeFull {
				t.Fatalf("at first it is on %q: %+v", bound(), c)
			}
			if want := now.Add(PlannedRoomWait); !q.NextWake().Equal(want) {
				t.Errorf("it is looked at again at %v, want %v", q.NextWake(), want)
			}
			if test.meanwhile != nil {
				test.meanwhile(tx)
			}
			settle(PlannedRoomWait / 2)
			if test.at > PlannedRoomWait/2 {
				if bound() != "" {
					t.Errorf("too early on %s", bound())
				}
				settle(test.at)
			}
			after, _ := state.Revision(tx, schema.RevisionName(rev.Name))
			if got := strings.Join(after.Status.Differs, "; "); bound() != test.node || got != test.note {
				t.Errorf("on %q, want %q; differs %q, want %q", bound(), test.node, got, test.note)
			}
		})
	}
}

// roomy lets a node take what these tests make at once.
func roomy(n *corev1.Node) { n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("500") }
