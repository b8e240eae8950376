package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/chance"
	"fairlead/schema/objecttest"
)

func genNode(t *rapid.T, name string) *corev1.Node {
	n := objecttest.Node(name, fmt.Sprintf("%dm", rapid.IntRange(0, 8).Draw(t, "cpu")*500), fmt.Sprintf("%dMi", rapid.IntRange(0, 8).Draw(t, "memory")*512))
	n.Labels["zone"] = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "zone")
	if rapid.IntRange(0, 9).Draw(t, "sick") == 0 {
		notReady("")(n)
	}
	if rapid.IntRange(0, 4).Draw(t, "tainted") == 0 {
		taint("gpu", rapid.SampledFrom([]corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule}).Draw(t, "effect"))(n)
	}
	return n
}

func genPod(t *rapid.T, name string) *corev1.Pod {
	p := pod(name, fmt.Sprintf("%dm", rapid.IntRange(0, 6).Draw(t, "cpu")*250), fmt.Sprintf("%dMi", rapid.IntRange(0, 4).Draw(t, "memory")*256))
	switch rapid.IntRange(0, 5).Draw(t, "asks") {
	case 0:
		hostPort80(rapid.SampledFrom([]string{"", "10.0.0.1", "10.0.0.2"}).Draw(t, "ip"))(p)
	case 1:
		requireZone(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "zone"))(p)
	case 2:
		tolerate("gpu")(p)
	case 3:
		preferZone("b")(p)
	}
	if rapid.Bool().Draw(t, "owned") {
		ownedBy(rapid.SampledFrom([]string{"r1", "r2"}).Draw(t, "rs"), "app=x")(p)
	}
	return p
}

func genCluster(t *rapid.T) (nodes []*corev1.Node, pods []*corev1.Pod) {
	for i := range rapid.IntRange(0, 5).Draw(t, "nodes") {
		nodes = append(nodes, genNode(t, fmt.Sprintf("n%d", i)))
	}
	for i := range rapid.IntRange(1, 20).Draw(t, "pods") {
		pods = append(pods, genPod(t, fmt.Sprintf("p%02d", i)))
	}
	return nodes, pods
}

// Whatever is asked: no node above its capacity, no host port twice, and a refusal
// that names every node with at least one reason.
func TestPlacementsAreFeasible(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		nodes, pods := genCluster(t)
		tx := cluster()
		for _, n := range nodes {
			tx.Put(n)
		}
		for _, p := range pods {
			d := schedule(tx, p, "")
			if d.Node != "" {
				p.Spec.NodeName = string(d.Node)
				tx.Put(p)
				continue
			}
			against := NewView(tx).Against(p)
			if len(against) != len(nodes) {
				t.Fatalf("refusal of %s names %d of %d nodes", p.Name, len(against), len(nodes))
			}
			for i, r := range against {
				if r.Node != schema.NodeName(nodes[i].Name) || len(r.Reasons) == 0 {
					t.Fatalf("refusal of %s says nothing about %s: %+v", p.Name, nodes[i].Name, r)
				}
				checkNumbers(t, tx, nodes[i], p, r.Reasons)
			}
		}
		for _, n := range nodes {
			checkNode(t, tx, n)
		}
	})
}

func checkNode(t *rapid.T, r state.Reader, n *corev1.Node) {
	var cpu, memory int64
	var ports []hostPort
	for p := range state.By[*corev1.Pod](r, state.PodsByNode, n.Name) {
		requests := p.Spec.Containers[0].Resources.Requests
		cpu += requests.Cpu().MilliValue()
		memory += requests.Memory().Value()
		for _, port := range hostPorts(p) {
			for _, other := range ports {
				if port.clashes(other) {
					t.Fatalf("host port twice on %s: %+v", n.Name, port)
				}
			}
			ports = append(ports, port)
		}
	}
	if cpu > n.Status.Allocatable.Cpu().MilliValue() || memory > n.Status.Allocatable.Memory().Value() {
		t.Fatalf("%s is over its capacity: cpu %dm, memory %d", n.Name, cpu, memory)
	}
}

// checkNumbers adds up what a refusal must say of CPU and memory: the numbers of
// what is short, and nothing of what is not.
func checkNumbers(t *rapid.T, r state.Reader, n *corev1.Node, p *corev1.Pod, told []string) {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		want, used, all := p.Spec.Containers[0].Resources.Requests[name], resource.Quantity{}, n.Status.Allocatable[name]
		for other := range state.By[*corev1.Pod](r, state.PodsByNode, n.Name) {
			used.Add(other.Spec.Containers[0].Resources.Requests[name])
		}
		after := used.DeepCopy()
		after.Add(want)
		short := !want.IsZero() && after.Cmp(all) > 0
		i := slices.IndexFunc(told, func(s string) bool { return strings.HasPrefix(s, string(name)+": ") })
		if short != (i >= 0) {
			t.Fatalf("%s: wanted %s of %s, used %s of %s, told %q", n.Name, &want, name, &used, &all, told)
		}
		if !short {
			continue
		}
		numbers := strings.FieldsFunc(told[i], func(r rune) bool { return r == ' ' || r == ',' })
		for j, q := range []resource.Quantity{want, used, all} {
			if got, err := resource.ParseQuantity(numbers[2+2*j]); err != nil || got.Cmp(q) != 0 {
				t.Fatalf("%s: number %d of %q is not %s", n.Name, j, told[i], &q)
			}
		}
	}
}

// The order in which nodes and bound pods came does not show in a decision.
func TestInputOrderDoesNotMatter(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		nodes, pods := genCluster(t)
		var objs []schema.Object
		for _, n := range nodes {
			objs = append(objs, n)
		}
		for i, p := range pods[1:] {
			if len(nodes) > 0 {
				p.Spec.NodeName = nodes[i%len(nodes)].Name
			}
			objs = append(objs, p)
		}
		want := schedule(cluster(objs...), pods[0], "")
		got := schedule(cluster(rapid.Permutation(objs).Draw(t, "order")...), pods[0], "")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("another order decides otherwise (-first +second):\n%s", diff)
		}
	})
}

// A view that follows changes equals one made anew, also when it had assumed the
// binding before.
func TestUpdateEqualsANewView(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		nodes, pods := genCluster(t)
		tx := cluster()
		v := NewView(tx)
		for step := range rapid.IntRange(1, 30).Draw(t, "steps") {
			label := fmt.Sprint("step", step)
			switch rapid.IntRange(0, 4).Draw(t, label) {
			case 0:
				if len(nodes) > 0 {
					tx.Put(state.Edit(rapid.SampledFrom(nodes).Draw(t, label)))
				}
			case 1:
				if len(nodes) > 0 {
					tx.Delete(schema.KeyOf(rapid.SampledFrom(nodes).Draw(t, label)))
				}
			case 2:
				tx.Delete(schema.KeyOf(rapid.SampledFrom(pods).Draw(t, label)))
			case 3:
				p := state.Edit(rapid.SampledFrom(pods).Draw(t, label))
				p.Status.Phase = rapid.SampledFrom([]corev1.PodPhase{corev1.PodRunning, corev1.PodFailed}).Draw(t, label)
				if old, ok := state.Get[*corev1.Pod](tx, p.Namespace, p.Name); ok {
					p.Spec.NodeName = old.Spec.NodeName
				}
				tx.Put(p)
			case 4:
				p := state.Edit(rapid.SampledFrom(pods).Draw(t, label))
				if tx.Get(schema.KeyOf(p)) != nil {
					break
				}
				if d := v.Schedule(p, ""); d.Node != "" {
					v.Assume(p, d.Node)
					p.Spec.NodeName = string(d.Node)
					tx.Put(p)
				}
			}
			for _, c := range tx.TakeDirty() {
				v.Update(tx, c)
			}
		}
		checkView(t, tx, v)
	})
}

func checkView(t *rapid.T, r state.Reader, v *View) {
	opts := []cmp.Option{
		cmp.AllowUnexported(NodeInfo{}, podKey{}, counted{}, group{}, use{}, hostPort{}),
		cmpopts.IgnoreFields(NodeInfo{}, "token"), cmpopts.EquateEmpty(),
	}
	if diff := cmp.Diff(NewView(r).nodes, v.nodes, opts...); diff != "" {
		t.Fatalf("the view lost its way (-new +updated):\n%s", diff)
	}
}
