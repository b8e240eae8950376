package plan_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"fairlead/reconciler/plan"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/chance"
	"fairlead/schema/objecttest"
)

// drawNodes is a small cluster with two zones.
func drawNodes(t *rapid.T) []model {
	nodes := uniform(rapid.IntRange(1, 4).Draw(t, "nodes"), "1", "1Gi")
	for i := range nodes {
		nodes[i].cpu = rapid.SampledFrom([]string{"1", "1500m", "2"}).Draw(t, "cpu")
		nodes[i].labels = map[string]string{"zone": string(rune('a' + i%2))}
	}
	return nodes
}

// drawTree is what a random commit asks for.
func drawTree(t *rapid.T, n int, tight bool) []*schema.Desired {
	var objects []schema.Object
	for _, name := range []string{"a", "b", "c"} {
		if rapid.IntRange(0, 4).Draw(t, "has "+name) > 0 {
			objects = append(objects, drawDeployment(t, name, tight), service(name, rapid.Int32Range(80, 82).Draw(t, "port")))
		}
	}
	if rapid.Bool().Draw(t, "has config") {
		objects = append(objects, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: "config", Namespace: "default"},
			Data:       map[string]string{"key": rapid.SampledFrom([]string{"", "x", "x\ny\n"}).Draw(t, "value")},
		})
	}
	if rapid.Bool().Draw(t, "has pod") {
		objects = append(objects, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bare", Namespace: "default"}, Spec: drawPod(t, "1", tight)})
	}
	return asDesired("main", n, objects)
}

// asDesired is what the n-th commit of a source asks for.
func asDesired(source schema.SourceName, n int, objects []schema.Object) []*schema.Desired {
	out := make([]*schema.Desired, len(objects))
	for i, o := range objects {
		o = state.Edit(o)
		schema.Default(o)
		at := schema.Position{Path: "all.yaml", Line: i + 1, Column: 1}
		schema.SetOrigin(o, schema.Origin{Source: source, Path: at.Path, Line: at.Line, Commit: objecttest.Commit(n)})
		out[i] = &schema.Desired{Object: o, Position: at, Locate: func(string) schema.Position { return at }}
	}
	return out
}

func service(name string, port int32) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Port: port}}},
	}
}

func drawDeployment(t *rapid.T, name string, tight bool) *appsv1.Deployment {
	replicas := rapid.Int32Range(0, 4).Draw(t, "replicas")
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels}, MinReadySeconds: rapid.SampledFrom([]int32{0, 0, 3}).Draw(t, "minReady"),
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: drawPod(t, rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "version"), tight)},
		},
	}
	if rapid.IntRange(0, 3).Draw(t, "recreate") == 0 {
		d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType
		return d
	}
	surge := intstr.FromInt32(rapid.Int32Range(0, 2).Draw(t, "surge"))
	unavailable := intstr.FromInt32(rapid.Int32Range(0, 2).Draw(t, "unavailable"))
	if surge.IntVal == 0 && unavailable.IntVal == 0 {
		surge = intstr.FromInt32(1)
	}
	d.Spec.Strategy = appsv1.DeploymentStrategy{
		Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable},
	}
	return d
}

func drawPod(t *rapid.T, version string, tight bool) corev1.PodSpec {
	requests := []string{"10m", "0.02", "30m"}
	if tight {
		requests = []string{"50m", "0.1", "250m", "400m"}
	}
	spec := corev1.PodSpec{Containers: []corev1.Container{{
		Name: "c", Image: "localhost/c:" + version,
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(rapid.SampledFrom(requests).Draw(t, "request")),
		}},
	}}}
	if rapid.IntRange(0, 4).Draw(t, "in a zone") == 0 {
		spec.NodeSelector = map[string]string{"zone": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "zone")}
	}
	return spec
}

// TestWhatIsPlannedHappens plans and applies random revisions one after the other:
// the pods are then those that the plan said and where it said, and planning again
// finds nothing to do. Where room is tight a pod may have to go elsewhere because
// others have not left yet; its revision then says so.
func TestWhatIsPlannedHappens(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		c := newCluster(t, drawNodes(t)...)
		tight := rapid.Bool().Draw(t, "tight")
		for n := range rapid.IntRange(1, 4).Draw(t, "revisions") {
			cand := c.sealed(n+1, drawTree(t, n+1, tight), nil)
			cand.Overrides.AllowPrune = 1000
			want := expected(c.placed(), c.plan(planned(cand)))
			p := c.push(cand)
			if p.Verdict == plan.Refused {
				continue
			}
			if len(p.Unplaced) > 0 {
				return // which of them gets what room there is, is not promised
			}
			rev, _ := state.Revision(c.machine.Snapshot(), schema.RevisionOf("main", cand.Commit.Hash))
			if !tight && len(rev.Status.Differs) > 0 {
				t.Fatalf("revision %d: %v", n+1, rev.Status.Differs)
			}
			for _, wrong := range unexplained(c.placed(), want, rev.Status.Differs) {
				t.Fatalf("after revision %d: %s; differs: %v", n+1, wrong, rev.Status.Differs)
			}
			if again := c.plan(planned(cand)); again.Verdict != plan.None {
				t.Fatalf("planned again: %s", again.Summary())
			}
		}
	})
}

// unexplained lists the pods that are not as planned, other than those that a note
// says run elsewhere.
func unexplained(got, want, notes []string) (out []string) {
	if len(got) != len(want) {
		return []string{fmt.Sprintf("%d pods, planned were %d: %v, planned %v", len(got), len(want), got, want)}
	}
	for i := range got {
		name, on, _ := strings.Cut(got[i], " on ")
		plannedName, plannedOn, _ := strings.Cut(want[i], " on ")
		note := fmt.Sprintf("differs from plan: pod %s runs on %s, planned %s: ", name, on, plannedOn)
		if name != plannedName || on != plannedOn && !slices.ContainsFunc(notes, func(s string) bool { return strings.HasPrefix(s, note) }) {
			out = append(out, got[i]+", planned was "+want[i])
		}
	}
	return out
}

// TestForkLeavesTheClusterAlone: whatever is planned, no object of the snapshot it
// began from changes, and planning twice gives the same bytes.
func TestForkLeavesTheClusterAlone(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		c := newCluster(t, drawNodes(t)...)
		first := c.sealed(1, drawTree(t, 1, true), nil)
		c.push(first)
		cand := planned(c.sealed(2, drawTree(t, 2, true), nil))
		switch rapid.IntRange(0, 4).Draw(t, "candidate") {
		case 0:
			cand = plan.Candidate{Drain: []schema.NodeName{"n1"}}
		case 1:
			cand = plan.Candidate{Lose: []schema.NodeName{"n1"}}
		case 2:
			cand.Lose = []schema.NodeName{"n1"}
		case 3:
			cand.Against = &plan.Against{Commit: objecttest.Commit(3), Objects: drawTree(t, 3, true)}
		}
		base := c.machine.Snapshot()
		before := checksum(t, base)
		one, two := c.plan(cand), c.plan(cand)
		if got := checksum(t, base); got != before {
			t.Fatal("planning changed the snapshot it began from")
		}
		a, _ := json.Marshal(one)
		b, _ := json.Marshal(two)
		if string(a) != string(b) {
			t.Fatalf("two plans of the same differ:\n%s\n%s", a, b)
		}
	})
}

func checksum(t *rapid.T, r state.Reader) string {
	var all []string
	for _, k := range schema.Kinds() {
		for obj := range r.List(k.Kind, "") {
			data, err := json.Marshal(obj)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(data))
		}
	}
	return schema.Hash(append(all, fmt.Sprint(r.Counters())))
}
