package scheduler

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/objecttest"
)

func pod(name, cpu, memory string, change ...func(*corev1.Pod)) *corev1.Pod {
	requests := corev1.ResourceList{}
	if cpu != "" {
		requests["cpu"] = resource.MustParse(cpu)
	}
	if memory != "" {
		requests["memory"] = resource.MustParse(memory)
	}
	asks := func(p *corev1.Pod) {
		p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: requests}}}
	}
	return objecttest.Pod(name, "", append([]func(*corev1.Pod){asks}, change...)...)
}

func on(node string) func(*corev1.Pod)           { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
func phase(ph corev1.PodPhase) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Status.Phase = ph } }

func ownedBy(rs string, labels ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: rs, UID: types.UID(rs), Controller: &yes}}
		p.Labels = map[string]string{"pod-template-hash": rs}
		for _, l := range labels {
			k, v, _ := strings.Cut(l, "=")
			p.Labels[k] = v
		}
	}
}

func hostPort80(ip string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80, HostIP: ip, Protocol: corev1.ProtocolTCP}}
	}
}

func taint(key string, effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: effect}) }
}

func tolerate(key string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists})
	}
}

func label(k, v string) func(*corev1.Node) { return func(n *corev1.Node) { n.Labels[k] = v } }

func notReady(message string) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Message: message}}
	}
}

func cluster(objs ...schema.Object) *state.Txn {
	tx := state.Empty(state.Counters{}).Begin()
	for _, o := range objs {
		tx.Put(state.Edit(o))
	}
	return tx
}

func schedule(r state.Reader, pod *corev1.Pod, prefer schema.NodeName) Decision {
	return NewView(r).Schedule(pod, prefer)
}

func inZone(op corev1.NodeSelectorOperator, zones ...string) corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: op, Values: zones}}}
}

func requireZone(zones ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{inZone(corev1.NodeSelectorOpIn, zones...)}},
		}}
	}
}

func preferZone(zone string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: 10, Preference: inZone(corev1.NodeSelectorOpIn, zone)}},
		}}
	}
}

func TestSchedulePicks(t *testing.T) {
	two := []schema.Object{objecttest.Node("n1", "2", "2Gi"), objecttest.Node("n2", "2", "2Gi")}
	tests := []struct {
		name    string
		cluster []schema.Object
		pod     *corev1.Pod
		prefer  schema.NodeName
		want    schema.NodeName
	}{
		{"the lower name among equals", two, pod("p", "1", ""), "", "n1"},
		{"the preferred node", two, pod("p", "1", ""), "n2", "n2"},
		{"another where the preferred is full", append(two, pod("a", "2", "", on("n2"))), pod("p", "1", ""), "n2", "n1"},
		{"another where the preferred is gone", two, pod("p", "1", ""), "n9", "n1"},
		{"the less requested", append(two, pod("a", "500m", "", on("n1"))), pod("p", "1", ""), "", "n2"},
		{"by count where nothing is requested", append(two, pod("a", "", "", on("n1"))), pod("p", "", ""), "", "n2"},
		{"fewer of the owner before less requested",
			append(two, pod("a", "100m", "", on("n1"), ownedBy("rs")), pod("b", "1", "", on("n2"))), pod("p", "500m", "", ownedBy("rs")), "", "n2"},
		{"fewer of the workload's other replica sets",
			append(two, pod("a", "100m", "", on("n1"), ownedBy("old", "app=x")), pod("b", "1", "", on("n2"))), pod("p", "500m", "", ownedBy("new", "app=x")), "", "n2"},
		{"pods that end do not count for spread",
			append(two, pod("a", "", "", on("n1"), ownedBy("rs"), func(p *corev1.Pod) { now := metav1.Now(); p.DeletionTimestamp = &now }), pod("b", "1", "", on("n2"))), pod("p", "500m", "", ownedBy("rs")), "", "n1"},
		{"ended pods hold nothing", append(two, pod("a", "2", "", on("n1"), phase(corev1.PodFailed)), pod("b", "2", "", on("n2"), phase(corev1.PodSucceeded))), pod("p", "2", ""), "", "n1"},
		{"no node that avoids it", []schema.Object{objecttest.Node("n1", "2", "2Gi", taint("old", corev1.TaintEffectPreferNoSchedule)), objecttest.Node("n2", "2", "2Gi"), pod("a", "1", "", on("n2"))}, pod("p", "1", ""), "", "n2"},
		{"preferred affinity before spread", []schema.Object{objecttest.Node("n1", "2", "2Gi"), objecttest.Node("n2", "2", "2Gi", label("zone", "b")), pod("a", "1", "", on("n2"), ownedBy("rs"))}, pod("p", "1", "", ownedBy("rs"), preferZone("b")), "", "n2"},
		{"required affinity", []schema.Object{objecttest.Node("n1", "2", "2Gi", label("zone", "a")), objecttest.Node("n2", "2", "2Gi", label("zone", "b"))}, pod("p", "", "", requireZone("b", "c")), "", "n2"},
		{"a node whose taint it tolerates", []schema.Object{objecttest.Node("n1", "2", "2Gi", taint("gpu", corev1.TaintEffectNoSchedule))}, pod("p", "", "", tolerate("gpu")), "", "n1"},
		{"a node with the host port on another address", []schema.Object{objecttest.Node("n1", "2", "2Gi"), pod("a", "", "", on("n1"), hostPort80("10.0.0.1"))}, pod("p", "", "", hostPort80("10.0.0.2")), "", "n1"},
		{"a full node for one that asks for nothing", []schema.Object{objecttest.Node("n1", "1", "1Gi"), pod("a", "1", "1Gi", on("n1"))}, pod("p", "", ""), "", "n1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := schedule(cluster(tt.cluster...), tt.pod, tt.prefer)
			if d.Node != tt.want {
				t.Errorf("got node %q (%s), want %q", d.Node, d.Message, tt.want)
			}
		})
	}
}

func TestScheduleRefuses(t *testing.T) {
	tests := []struct {
		name    string
		cluster []schema.Object
		pod     *corev1.Pod
		want    string
	}{
		{"an empty cluster", nil, pod("p", "", ""), "0/0 nodes can take it: the cluster has no node"},
		{"every reason of every node",
			[]schema.Object{objecttest.Node("n1", "2", "1Gi"), pod("a", "1800m", "512Mi", on("n1")), objecttest.Node("n2", "8", "8Gi", taint("gpu", corev1.TaintEffectNoSchedule)), objecttest.Node("n3", "8", "8Gi", notReady("silent for 40s"), taint(corev1.TaintNodeUnreachable, corev1.TaintEffectNoSchedule))},
			pod("p", "500m", "768Mi"),
			"0/3 nodes can take it: n1: cpu: wanted 500m, used 1800m of 2, memory: wanted 768Mi, used 512Mi of 1Gi; n2: taint gpu:NoSchedule not tolerated; n3: not ready (silent for 40s)"},
		{"a host port",
			[]schema.Object{objecttest.Node("n1", "2", "2Gi"), pod("a", "", "", on("n1"), hostPort80("10.0.0.1"))}, pod("p", "", "", hostPort80("")),
			"0/1 nodes can take it: n1: host port 80/TCP is used by shop/a"},
		{"a cordoned node", []schema.Object{objecttest.Node("n1", "2", "2Gi", func(n *corev1.Node) { n.Spec.Unschedulable = true }, taint(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule))}, pod("p", "", ""),
			"0/1 nodes can take it: n1: unschedulable"},
		{"a node selector", []schema.Object{objecttest.Node("n1", "2", "2Gi", label("disk", "hdd"))}, pod("p", "", "", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd", "zone": "a"} }),
			"0/1 nodes can take it: n1: node selector: not disk=ssd, zone=a"},
		{"required affinity", []schema.Object{objecttest.Node("n1", "2", "2Gi")}, pod("p", "", "", requireZone("a")),
			"0/1 nodes can take it: n1: required node affinity does not match"},
		{"the count of pods", []schema.Object{objecttest.Node("n1", "2", "2Gi", func(n *corev1.Node) { n.Status.Allocatable["pods"] = resource.MustParse("1") }), pod("a", "", "", on("n1"))}, pod("p", "", ""),
			"0/1 nodes can take it: n1: pods: used 1 of 1"},
		{"a resource the node does not have", []schema.Object{objecttest.Node("n1", "2", "2Gi")}, pod("p", "", "", func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests["example.com/gpu"] = resource.MustParse("1")
		}),
			"0/1 nodes can take it: n1: example.com/gpu: wanted 1, used 0 of 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := schedule(cluster(tt.cluster...), tt.pod, "")
			if d.Node != "" {
				t.Fatalf("got node %q, want a refusal", d.Node)
			}
			if diff := cmp.Diff(tt.want, d.Message); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestScheduleTellsWhyNotThePreferred(t *testing.T) {
	d := schedule(cluster(objecttest.Node("n1", "2", "2Gi"), objecttest.Node("n2", "1", "2Gi")), pod("p", "2", ""), "n2")
	want := Decision{Node: "n1", Against: []string{"cpu: wanted 2, used 0 of 1"}}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("decision (-want +got):\n%s", diff)
	}
}

func TestMessageIsBounded(t *testing.T) {
	tx := cluster()
	for i := range 3 * MaxMessageNodes {
		tx.Put(objecttest.Node(fmt.Sprintf("n%03d", i), "1", "1Gi"))
	}
	d := schedule(tx, pod("p", "2", ""), "")
	if got, want := len(NewView(tx).Against(pod("p", "2", ""))), 3*MaxMessageNodes; got != want {
		t.Errorf("reasons name %d nodes, want %d", got, want)
	}
	if want := fmt.Sprintf("; and %d more", 2*MaxMessageNodes); !strings.HasSuffix(d.Message, want) {
		t.Errorf("message %q does not end in %q", d.Message, want)
	}
}

func TestInitContainersAndSidecarsCount(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	p := pod("p", "500m", "", func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{
			{Name: "sidecar", RestartPolicy: &always, Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("200m")}}},
			{Name: "migrate", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("900m")}}},
		}
	})
	if got, want := useOf(p).requests.MilliCPU, int64(1100); got != want {
		t.Errorf("got %dm, want %dm: an init container runs beside the sidecars before it", got, want)
	}
}

func names(v *View) []schema.NodeName {
	out := make([]schema.NodeName, len(v.nodes))
	for i, n := range v.nodes {
		out[i] = n.name
	}
	return out
}

func TestUpdateFollowsNodes(t *testing.T) {
	tx := cluster(objecttest.Node("n2", "2", "2Gi"))
	tx.TakeDirty()
	v := NewView(tx)
	tx.Put(objecttest.Node("n1", "1", "1Gi"))
	tx.Put(objecttest.Node("n3", "1", "1Gi"))
	tx.Delete(schema.Key{Kind: schema.KindNode, Name: "n2"})
	for _, c := range tx.TakeDirty() {
		v.Update(tx, c)
	}
	if diff := cmp.Diff([]schema.NodeName{"n1", "n3"}, names(v)); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
}
