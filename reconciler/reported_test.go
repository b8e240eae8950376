package reconciler_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

const pool = "node-restriction.kubernetes.io/pool"

// liar is a cluster whose node n1 has the reserved label pool=blue and says of itself
// what lie makes of its report.
type liar struct {
	*cluster
	before *state.Snapshot
}

func newLiar(t *testing.T) *liar {
	l := &liar{cluster: newCluster(t, 2)}
	l.rest(shop(t, "100000000000", "v1", nil))
	l.tell(func(*reconciler.NodeReport) {})
	l.before = l.machine.Snapshot()
	return l
}

// tell steps twice with n1's lie, so that what is told each time shows.
func (l *liar) tell(lie func(*reconciler.NodeReport)) {
	for range 2 {
		l.now = l.now.Add(time.Second)
		in := []reconciler.Input{}
		for i, node := range l.nodes {
			r := l.report(i, node)
			r.Report.Info.Architecture = "amd64"
			if i == 0 {
				r.Labels = map[string]string{pool: "blue"}
				lie(&r)
			}
			in = append(in, r)
		}
		l.machine.Step(l.now, in)
	}
}

func (l *liar) node(name string) *corev1.Node {
	n, _ := state.Get[*corev1.Node](l.machine.Snapshot(), "", name)
	return n
}

func (l *liar) podOf(node string) *corev1.Pod {
	for p := range state.By[*corev1.Pod](l.machine.Snapshot(), state.PodsByNode, node) {
		return p
	}
	l.t.Fatalf("no pod runs on %s", node)
	return nil
}

// told are the events of a reason, "name: message (count)".
func (l *liar) told(reason string) (out []string) {
	for e := range state.All[*corev1.Event](l.machine.Snapshot(), "") {
		if e.Reason == reason {
			out = append(out, fmt.Sprintf("%s: %s (%d)", e.InvolvedObject.Name, e.Message, e.Count))
		}
	}
	return out
}

func (l *liar) wantTold(reason, text string) {
	l.t.Helper()
	told := l.told(reason)
	if len(told) != 1 || !strings.Contains(told[0], text) || !strings.HasSuffix(told[0], "(1)") {
		l.t.Errorf("told: %q, want once: %q", told, text)
	}
}

func label(key, value string) func(*reconciler.NodeReport) {
	return func(r *reconciler.NodeReport) { r.Report.Labels = map[string]string{"disk": "ssd", key: value} }
}

// Each thing that a node may not say of itself is not taken, is told once, and harms
// nothing else that it says.
func TestNodesSayOnlyWhatTheyMay(t *testing.T) {
	for name, test := range map[string]struct {
		lie  func(*reconciler.NodeReport)
		told string
	}{
		"another's name":             {label(corev1.LabelHostname, "n2"), "n1: label kubernetes.io/hostname=n2 is not taken: it is the node's name, n1"},
		"a restricted label":         {label(pool, "red"), "n1: label node-restriction.kubernetes.io/pool=red is not taken: only the master's registry gives it"},
		"a restricted one of others": {label("x.node-restriction.kubernetes.io/tier", "1"), "only the master's registry gives it"},
		"a role":                     {label("node-role.kubernetes.io/control-plane", ""), "only the master's registry gives it"},
		"a label of Kubernetes'":     {label("kubernetes.io/pool", "red"), "only the master's registry gives it"},
		"a label of k8s.io":          {label("team.k8s.io/pool", "red"), "only the master's registry gives it"},
		"a label of ours":            {label("fairlead/pool", "red"), "only the master's registry gives it"},
		"another system":             {label(corev1.LabelOSStable, "plan9"), "it is linux"},
		"no label":                   {label("a b", "c"), "the key is not valid"},
		"no label's value":           {label("tier", strings.Repeat("v", 64)), "the value is not valid"},
		"a taint of the master's": {func(r *reconciler.NodeReport) {
			label("zone", "a")(r)
			r.Report.Taints = []corev1.Taint{{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}}
		}, "taint node.kubernetes.io/not-ready:NoExecute is not taken"},
		"a taint without effect": {func(r *reconciler.NodeReport) {
			label("zone", "a")(r)
			r.Report.Taints = []corev1.Taint{{Key: "x", Effect: "Perhaps"}}
		}, "taint x:Perhaps is not taken"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLiar(t)
			l.tell(test.lie)
			n := l.node("n1")
			want := map[string]string{corev1.LabelHostname: "n1", corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64", "disk": "ssd", pool: "blue"}
			if n.Labels["zone"] != "" {
				want["zone"] = "a"
			}
			if !equality.Semantic.DeepEqual(n.Labels, want) || len(n.Spec.Taints) > 0 {
				t.Errorf("n1 has labels %v, taints %v, want %v", n.Labels, n.Spec.Taints, want)
			}
			l.wantTold(schema.ReasonReportRefused, test.told)
			l.unharmed()
		})
	}
}

// unharmed sees that the other node and its pods are as they were before the lie.
func (l *liar) unharmed() {
	l.t.Helper()
	now := l.machine.Snapshot()
	for _, obj := range []schema.Object{l.before.Get(schema.Key{Kind: schema.KindNode, Name: "n2"})} {
		if got := now.Get(schema.KeyOf(obj)); got != obj {
			l.t.Errorf("%s has changed: %v", schema.KeyOf(obj), got)
		}
	}
	for p := range state.By[*corev1.Pod](l.before, state.PodsByNode, "n2") {
		if got := now.Get(schema.KeyOf(p)); got != schema.Object(p) {
			l.t.Errorf("%s has changed: %v", schema.KeyOf(p), got)
		}
	}
}

// A label that nodes may give themselves is taken, and the registry's wins.
func TestLabelsOfTheConfigurationAreTaken(t *testing.T) {
	l := newLiar(t)
	own := map[string]string{
		"disk": "ssd", "example.org/rack": "r1", corev1.LabelHostname: "n1", corev1.LabelArchStable: "riscv64",
		corev1.LabelTopologyZone: "a", corev1.LabelInstanceTypeStable: "big", "node.kubernetes.io/x": "y", "kubelet.kubernetes.io/x": "y",
	}
	l.tell(func(r *reconciler.NodeReport) { r.Report.Labels = own })
	for key, want := range own {
		if got := l.node("n1").Labels[key]; got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if told := l.told(schema.ReasonReportRefused); len(told) > 0 {
		t.Errorf("told: %q", told)
	}
	l.tell(func(r *reconciler.NodeReport) {
		r.Report.Labels = map[string]string{corev1.LabelTopologyZone: "b"}
		r.Labels = map[string]string{corev1.LabelTopologyZone: "a"}
	})
	if got := l.node("n1").Labels[corev1.LabelTopologyZone]; got != "a" {
		t.Errorf("the node's zone is %q over the registry's", got)
	}
}

// A node that reports an address that is not its own keeps its own, takes no pods
// until that is put right, and is told how.
func TestNodesKeepTheirRegisteredAddress(t *testing.T) {
	for _, reported := range []string{"192.0.2.2", "192.0.2.77", "", "10.112.0.1", "elsewhere"} {
		l := newLiar(t)
		l.tell(func(r *reconciler.NodeReport) { r.Report.NodeIPs = schema.List[string]{reported} })
		n := l.node("n1")
		if got := n.Status.Addresses[0]; got.Type != corev1.NodeInternalIP || got.Address != "192.0.2.1" {
			t.Errorf("reports %q: n1 is at %v", reported, got)
		}
		i := slices.IndexFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
		if ready := n.Status.Conditions[i]; ready.Status != corev1.ConditionFalse || ready.Reason != schema.ReasonBadAddress || !strings.Contains(ready.Message, "fairlead token --node n1") {
			t.Errorf("reports %q: %v", reported, ready)
		}
		for p := range state.By[*corev1.Pod](l.machine.Snapshot(), state.PodsByNode, "n1") {
			if p.Status.HostIP != "192.0.2.1" {
				t.Errorf("reports %q: pod %s is on %s", reported, p.Name, p.Status.HostIP)
			}
		}
		l.unharmed()
		l.tell(func(*reconciler.NodeReport) {})
		if n := l.node("n1"); n.Status.Conditions[i].Status != corev1.ConditionTrue {
			t.Errorf("with its own address again: %v", n.Status.Conditions[i])
		}
	}
	l := newLiar(t)
	l.tell(func(r *reconciler.NodeReport) {
		r.Address, r.NoAddress, r.Report.NodeIPs = "", "nodeIP 192.0.2.2 is that of node n2", schema.List[string]{"192.0.2.2"}
	})
	if n := l.node("n1"); len(n.Status.Addresses) != 1 || !strings.Contains(fmt.Sprint(n.Status.Conditions), "is that of node n2") {
		t.Errorf("without any: %v %v", n.Status.Addresses, n.Status.Conditions)
	}
}

// A condition that stays False and changes its reason or message is another one to who
// watches it, and one that says the same is not: reports come every two seconds.
func TestAChangedReasonOfANodeIsSeen(t *testing.T) {
	l := newLiar(t)
	ready := func() (corev1.NodeCondition, string) {
		n := l.node("n1")
		i := slices.IndexFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
		return n.Status.Conditions[i], n.ResourceVersion
	}
	var since metav1.Time
	version := ""
	for i, trouble := range []wire.NodeProblem{
		{Reason: schema.ReasonRuntimeUnavailable, Message: "no socket"},
		{Reason: schema.ReasonRuntimeUnavailable, Message: "no cgroups"},
		{Reason: schema.ReasonNetworkUnavailable, Message: "no cgroups"},
	} {
		l.tell(func(r *reconciler.NodeReport) { r.Report.Problem = &trouble })
		cond, now := ready()
		if cond.Status != corev1.ConditionFalse || cond.Reason != trouble.Reason || cond.Message != trouble.Message || now == version {
			t.Errorf("after %v: %v at %s, before at %s", trouble, cond, now, version)
		}
		if i == 0 {
			since = cond.LastTransitionTime
		} else if !cond.LastTransitionTime.Equal(&since) {
			t.Errorf("after %v: not ready since %s, was since %s", trouble, cond.LastTransitionTime, since)
		}
		version = now
		l.tell(func(r *reconciler.NodeReport) { r.Report.Problem = &trouble })
		if _, again := ready(); again != version {
			t.Errorf("the same report again made version %s of %s", again, version)
		}
	}
}

// Of pods a node says only what is its own to say: of those bound to it, within
// bounds, and no address that is not theirs.
func TestNodesSpeakOfTheirOwnPods(t *testing.T) {
	first := func(r *reconciler.NodeReport) *wire.PodReport { return &r.Report.Pods[0] }
	for name, test := range map[string]struct {
		lie    func(l *liar, r *reconciler.NodeReport)
		reason string // of the event that tells of it, "" for none
		told   string
	}{
		"another's pod": {func(l *liar, r *reconciler.NodeReport) {
			pod := l.podOf("n2")
			r.Report.Pods = append(r.Report.Pods, wire.PodReport{UID: pod.UID, Namespace: pod.Namespace, Name: pod.Name, Status: corev1.PodStatus{Phase: corev1.PodFailed}})
		}, schema.ReasonReportRefused, "which is not bound to this node"},
		"another's pod gone": {func(l *liar, r *reconciler.NodeReport) {
			r.Report.Pods = append(r.Report.Pods, wire.PodReport{UID: l.podOf("n2").UID, Gone: true})
		}, schema.ReasonReportRefused, "which is not bound to this node"},
		"a pod nobody knows": {func(l *liar, r *reconciler.NodeReport) {
			r.Report.Pods = append(r.Report.Pods, wire.PodReport{UID: "nobody", Status: corev1.PodStatus{PodIP: "10.112.0.9"}})
		}, "", ""},
		"events of another's pod": {func(l *liar, r *reconciler.NodeReport) {
			r.Report.Events = []wire.Event{{Pod: l.podOf("n2").UID, Type: "Warning", Reason: "Lie", Message: "it burns"}}
		}, "Lie", ""},
		"events of a container there is not": {func(l *liar, r *reconciler.NodeReport) {
			r.Report.Events = []wire.Event{{Pod: first(r).UID, Container: "none", Type: "Warning", Reason: "Lie", Message: "it burns"}}
		}, "Lie", ""},
		"its own pod gone that is to stay": {func(_ *liar, r *reconciler.NodeReport) { first(r).Gone = true }, "", ""},
		"an address of another's range":    {func(_ *liar, r *reconciler.NodeReport) { first(r).Status.PodIP = "10.112.4.77" }, schema.ReasonBadAddress, "outside its range"},
		"an address of no range":           {func(_ *liar, r *reconciler.NodeReport) { first(r).Status.PodIP = "192.0.2.2" }, schema.ReasonBadAddress, "outside its range"},
		"an address in another spelling":   {func(_ *liar, r *reconciler.NodeReport) { first(r).Status.PodIP = "::ffff:10.112.0.1" }, schema.ReasonBadAddress, "outside its range"},
		"no address":                       {func(_ *liar, r *reconciler.NodeReport) { first(r).Status.PodIP = "10.112.0.1/32" }, schema.ReasonBadAddress, "outside its range"},
		"an address of its other pod": {func(l *liar, r *reconciler.NodeReport) {
			first(r).Status.PodIP = r.Report.Pods[1].Status.PodIP
		}, schema.ReasonBadAddress, "which is that of pod"},
		"more addresses": {func(_ *liar, r *reconciler.NodeReport) {
			s := &first(r).Status
			s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: "10.112.4.77"})
			s.HostIP, s.HostIPs = "192.0.2.2", []corev1.HostIP{{IP: "192.0.2.2"}}
		}, "", ""},
		"conditions of the master's": {func(_ *liar, r *reconciler.NodeReport) {
			s := &first(r).Status
			s.Conditions = append(s.Conditions, corev1.PodCondition{Type: schema.ConditionLacking, Status: "True"},
				corev1.PodCondition{Type: corev1.PodScheduled, Status: "False"}, corev1.PodCondition{Type: corev1.PodReady, Status: "False"}, corev1.PodCondition{Type: corev1.PodInitialized, Status: "Perhaps"})
		}, "", ""},
		"containers there are not": {func(_ *liar, r *reconciler.NodeReport) {
			s := &first(r).Status
			s.ContainerStatuses = append(s.ContainerStatuses, s.ContainerStatuses[0], corev1.ContainerStatus{Name: "none"})
			s.InitContainerStatuses = []corev1.ContainerStatus{{Name: "none"}}
			s.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "none"}}
		}, "", ""},
		"a phase there is not": {func(_ *liar, r *reconciler.NodeReport) { first(r).Status.Phase = "Glorious" }, "", ""},
		"what is not a node's": {func(_ *liar, r *reconciler.NodeReport) {
			s := &first(r).Status
			s.QOSClass, s.NominatedNodeName, s.ObservedGeneration = "Guaranteed", "n2", 7
			s.ContainerStatuses[0].Resources = &corev1.ResourceRequirements{}
			s.ContainerStatuses[0].VolumeMounts = make([]corev1.VolumeMountStatus, 3)
		}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLiar(t)
			want := map[string]corev1.PodStatus{}
			for p := range state.All[*corev1.Pod](l.before, "") {
				want[p.Name] = p.Status
			}
			l.tell(func(r *reconciler.NodeReport) { test.lie(l, r) })
			if test.told != "" {
				l.wantTold(test.reason, test.told)
			} else if told := append(l.told(test.reason), l.told(schema.ReasonReportRefused)...); len(told) > 0 {
				t.Errorf("told: %q", told)
			}
			count := 0
			for p := range state.All[*corev1.Pod](l.machine.Snapshot(), "") {
				count++
				if !equality.Semantic.DeepEqual(p.Status, want[p.Name]) {
					t.Errorf("pod %s on %s: got %+v\nwant %+v", p.Name, p.Spec.NodeName, p.Status, want[p.Name])
				}
			}
			if count != len(want) {
				t.Errorf("%d pods, want %d", count, len(want))
			}
			l.unharmed()
		})
	}
}

// Whatever a node says is bounded before it is kept.
func TestReportsAreBounded(t *testing.T) {
	l := newLiar(t)
	long := strings.Repeat("é", 1<<20)
	late := metav1.NewTime(time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -23*3600)))
	l.tell(func(in *reconciler.NodeReport) {
		r := &in.Report
		r.BootID, r.Info.OSImage, r.Info.KernelVersion, r.Info.Architecture = long, long, long, long
		r.Problem = &wire.NodeProblem{Reason: long, Message: long}
		r.Labels = map[string]string{}
		for i := range 1000 {
			name := fmt.Sprintf("%s-%d", strings.Repeat("x", 40), i)
			r.Labels[name] = "v"
			r.Taints = append(r.Taints, corev1.Taint{Key: name, Effect: corev1.TaintEffectPreferNoSchedule})
			r.Images = append(r.Images, corev1.ContainerImage{Names: append(make([]string, 1000), long), SizeBytes: -1})
			r.Capacity[corev1.ResourceName(name)] = resource.MustParse("1")
			r.Events = append(r.Events, wire.Event{Pod: r.Pods[0].UID, Reason: "Many", Message: fmt.Sprint(i)})
		}
		r.Capacity[corev1.ResourceCPU], r.Allocatable[corev1.ResourceCPU] = resource.MustParse("-5"), resource.MustParse("9e18")
		s := &r.Pods[0].Status
		s.Message, s.Reason, s.StartTime = long, long, &late
		cs := &s.ContainerStatuses[0]
		cs.Image, cs.ImageID, cs.ContainerID, cs.RestartCount = long, long, long, math.MaxInt32
		end := &corev1.ContainerStateTerminated{Reason: long, Message: long, ContainerID: long, StartedAt: late, FinishedAt: late}
		cs.State, cs.LastTerminationState = corev1.ContainerState{Terminated: end}, corev1.ContainerState{Terminated: end, Running: &corev1.ContainerStateRunning{}, Waiting: &corev1.ContainerStateWaiting{}}
	})
	for _, obj := range []schema.Object{l.node("n1"), l.podOf("n1")} {
		data, err := wire.EncodeObject(obj)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > 64<<10 {
			t.Errorf("%s takes %d bytes", schema.KeyOf(obj), len(data))
		}
		back, err := wire.DecodeObject(schema.KindOf(obj), data)
		if err != nil || !equality.Semantic.DeepEqual(obj, back) {
			t.Errorf("%s is not read back as it was: %v", schema.KeyOf(obj), err)
		}
	}
	n := l.node("n1")
	if cpu := n.Status.Capacity.Cpu(); cpu.Sign() < 0 || !n.Status.Allocatable.Cpu().IsZero() || n.Status.Images[0].SizeBytes != 0 {
		t.Errorf("n1 has capacity %v, allocatable %v", cpu, n.Status.Allocatable.Cpu())
	}
	if got := len(l.told("Many")); got != 200 {
		t.Errorf("%d events of one report are taken, want 200", got)
	}
	for p := range state.By[*corev1.Pod](l.machine.Snapshot(), state.PodsByNode, "n1") {
		for _, cs := range p.Status.ContainerStatuses {
			if end := cs.LastTerminationState.Terminated; cs.RestartCount > 1_000_000 || end != nil && !end.FinishedAt.IsZero() {
				t.Errorf("%s: %+v", p.Name, cs)
			}
		}
	}
}

// addressed is a cluster whose node n1 runs at least three pods, and the addresses
// they have by the order of its reports.
func addressed(t *testing.T) (l *liar, had []string) {
	l = &liar{cluster: newCluster(t, 1)}
	l.rest(shop(t, "100000000000", "v1", nil))
	l.tell(func(r *reconciler.NodeReport) {
		for _, p := range r.Report.Pods {
			had = append(had, p.Status.PodIP)
		}
	})
	if had = had[:len(had)/2]; len(had) < 3 {
		t.Fatalf("n1 has %d pods", len(had))
	}
	l.before = l.machine.Snapshot()
	return l, had
}

// A report is judged as a whole: what its pods have after it must fit together, in
// whatever order it names them.
func TestAddressesMoveWithinAReport(t *testing.T) {
	const free = "10.112.0.200"
	first := func(r *reconciler.NodeReport, i int, ip string) { r.Report.Pods[i].Status.PodIP = ip }
	for name, test := range map[string]struct {
		report func(r *reconciler.NodeReport, had []string)
		want   func(had []string) []string
		told   int // pods whose address is refused
	}{
		"two exchanged": {
			func(r *reconciler.NodeReport, had []string) { first(r, 0, had[1]); first(r, 1, had[0]) },
			func(had []string) []string { return []string{had[1], had[0], had[2]} }, 0,
		},
		"three in turn": {
			func(r *reconciler.NodeReport, had []string) {
				first(r, 0, had[1])
				first(r, 1, had[2])
				first(r, 2, had[0])
			},
			func(had []string) []string { return []string{had[1], had[2], had[0]} }, 0,
		},
		"one moves on, another takes its place": {
			func(r *reconciler.NodeReport, had []string) { first(r, 0, had[1]); first(r, 1, free) },
			func(had []string) []string { return []string{had[1], free, had[2]} }, 0,
		},
		"one ends, another takes its place": {
			func(r *reconciler.NodeReport, had []string) {
				first(r, 0, had[1])
				r.Report.Pods[1].Status.Phase = corev1.PodSucceeded
			},
			func(had []string) []string { return []string{had[1], had[1], had[2]} }, 0,
		},
		"one keeps what another wants": {
			func(r *reconciler.NodeReport, had []string) { first(r, 0, had[1]) },
			func(had []string) []string { return had[:3] }, 1,
		},
		"one not in the report keeps what another wants": {
			func(r *reconciler.NodeReport, had []string) {
				first(r, 0, had[1])
				r.Report.Pods = slices.Delete(r.Report.Pods, 1, 2)
			},
			func(had []string) []string { return had[:3] }, 1,
		},
		"two want the same free one": {
			func(r *reconciler.NodeReport, _ []string) { first(r, 0, free); first(r, 1, free) },
			func(had []string) []string { return []string{free, had[1], had[2]} }, 1,
		},
		"a row that ends outside the range": {
			func(r *reconciler.NodeReport, had []string) {
				first(r, 0, had[1])
				first(r, 1, had[2])
				first(r, 2, "192.0.2.2")
			},
			func(had []string) []string { return had[:3] }, 3,
		},
		"a pod twice": {
			func(r *reconciler.NodeReport, had []string) {
				again := r.Report.Pods[0]
				again.Status.PodIP = had[1]
				r.Report.Pods = append(r.Report.Pods, again)
			},
			func(had []string) []string { return had[:3] }, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, had := addressed(t)
			var pods []wire.PodReport
			l.tell(func(r *reconciler.NodeReport) { pods = slices.Clone(r.Report.Pods); test.report(r, had) })
			for i, want := range test.want(had) {
				pod, _ := state.PodByUID(l.machine.Snapshot(), pods[i].UID)
				if pod.Status.PodIP != want {
					t.Errorf("pod %d of %v has %s, want %s", i, had, pod.Status.PodIP, want)
				}
			}
			if told := l.told(schema.ReasonBadAddress); len(told) != test.told {
				t.Errorf("told: %q, want %d", told, test.told)
			}
		})
	}
}

// A pod that has ended keeps its address for show only: it does not hold it again
// beside the one that has it by now.
func TestAnEndedPodDoesNotTakeItsAddressBack(t *testing.T) {
	l, had := addressed(t)
	l.tell(func(r *reconciler.NodeReport) {
		r.Report.Pods[1].Status.Phase = corev1.PodSucceeded
		r.Report.Pods[0].Status.PodIP = had[1]
	})
	var uid types.UID
	l.tell(func(r *reconciler.NodeReport) {
		uid = r.Report.Pods[1].UID
		r.Report.Pods[0].Status.PodIP, r.Report.Pods[1].Status.PodIP = had[1], had[1]
	})
	if pod, _ := state.PodByUID(l.machine.Snapshot(), uid); pod.Status.Phase != corev1.PodSucceeded {
		t.Errorf("it is %s at %s", pod.Status.Phase, pod.Status.PodIP)
	}
	l.wantTold(schema.ReasonBadAddress, "which is that of pod")
}
