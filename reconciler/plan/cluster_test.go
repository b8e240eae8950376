package plan_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler"
	"fairlead/reconciler/control"
	"fairlead/reconciler/plan"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/reconciler/work"
	"fairlead/schema"
	"fairlead/schema/load"
	"fairlead/schema/objecttest"
	"fairlead/schema/wire"
)

// cluster is the master's Machine with model agents that run what they are told
// at once: what a plan is held against.
type cluster struct {
	t       failer
	engine  *settle.Engine
	machine *reconciler.Machine
	now     time.Time
	nodes   []model
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// model is a node of the cluster.
type model struct {
	name   schema.NodeName
	cpu    string
	memory string
	labels map[string]string
	silent bool
	full   bool // no container can be started on it
}

func newCluster(t failer, nodes ...model) *cluster {
	engine := settle.NewEngine(control.Config{
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), DNS: netip.MustParseAddr("10.96.0.10"), NodePortFirst: 30000, NodePortLast: 32767,
	})
	src := schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: schema.DefaultSourceSpec(schema.SourceSpec{Embedded: true})}
	c := &cluster{t: t, engine: engine, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), nodes: nodes}
	c.machine = reconciler.NewMachine(engine, state.Empty(state.Counters{ResourceVersion: 1 << 40}), []schema.Source{src})
	c.rest()
	return c
}

// uniform is n nodes alike, n1 and on.
func uniform(n int, cpu, memory string) []model {
	nodes := make([]model, n)
	for i := range nodes {
		nodes[i] = model{name: schema.NodeName(fmt.Sprintf("n%d", i+1)), cpu: cpu, memory: memory}
	}
	return nodes
}

// step is one round a second, with a report and an acknowledgement of each node.
func (c *cluster) step(inputs ...reconciler.Input) (changed int) {
	c.now = c.now.Add(time.Second)
	for i, node := range c.nodes {
		if !node.silent {
			inputs = append(inputs, c.report(i, node), reconciler.Acknowledgement{Node: node.name, Version: c.machine.Snapshot().Counters().ResourceVersion})
		}
	}
	return len(c.machine.Step(c.now, inputs).Changes)
}

// quietRounds without a change are rest: longer than any minReadySeconds in use,
// and than a pod waits for its planned node.
const quietRounds = int(settle.PlannedRoomWait/time.Second) + 1

// rest steps until nothing changes.
func (c *cluster) rest(first ...reconciler.Input) {
	c.t.Helper()
	c.step(first...)
	quiet := 0
	for range 400 {
		if c.step() > 0 {
			quiet = 0
		} else if quiet++; quiet == quietRounds {
			return
		}
	}
	c.t.Fatalf("the cluster does not come to rest")
}

func (c *cluster) report(i int, node model) reconciler.NodeReport {
	res := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(node.cpu), corev1.ResourceMemory: resource.MustParse(node.memory), corev1.ResourcePods: resource.MustParse("20")}
	r := wire.Report{Node: node.name, BootID: "b", NodeIPs: schema.List[string]{fmt.Sprintf("192.0.2.%d", i+1)}, Capacity: res, Allocatable: res, Labels: node.labels}
	w := work.For(c.machine.Snapshot(), node.name, wire.ClusterInfo{}, func(string, string) (map[string][]byte, bool) { return nil, true })
	for _, uid := range slices.Sorted(maps.Keys(w.Pods)) {
		p := w.Pods[uid]
		r.Pods = append(r.Pods, wire.PodReport{
			UID: uid, Namespace: p.Pod.Namespace, Name: p.Pod.Name, Epoch: p.Epoch, Gone: p.Drained, Status: c.running(i, p.Pod),
		})
	}
	return reconciler.NodeReport{PodCIDR: fmt.Sprintf("10.112.%d.0/22", 4*i), Address: r.NodeIPs.First(), Report: r}
}

// running is a ready pod's status; it stays the same once it was told.
func (c *cluster) running(node int, pod *corev1.Pod) corev1.PodStatus {
	since, ip := metav1.NewTime(c.now), ""
	if have, ok := state.PodByUID(c.machine.Snapshot(), pod.UID); ok && have.Status.PodIP != "" {
		ip = have.Status.PodIP
		for _, cond := range have.Status.Conditions {
			if cond.Type == corev1.PodReady {
				since = cond.LastTransitionTime
			}
		}
	}
	for n := 1; ip == ""; n++ {
		candidate := fmt.Sprintf("10.112.%d.%d", 4*node, n)
		if !slices.ContainsFunc(slices.Collect(state.All[*corev1.Pod](c.machine.Snapshot(), "")), func(p *corev1.Pod) bool { return p.Status.PodIP == candidate }) {
			ip = candidate
		}
	}
	started := true
	status := corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}}
	for _, t := range []corev1.PodConditionType{corev1.ContainersReady, corev1.PodReady} {
		status.Conditions = append(status.Conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: since})
	}
	for _, ctr := range pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, corev1.ContainerStatus{
			Name: ctr.Name, Image: ctr.Image, Ready: true, Started: &started, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		})
	}
	if c.nodes[node].full {
		status.Conditions = nil
		for i := range status.ContainerStatuses {
			status.ContainerStatuses[i] = corev1.ContainerStatus{Name: pod.Spec.Containers[i].Name, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: schema.ReasonNodeError, Message: "no space left"}}}
		}
	}
	return status
}

// tree reads a directory as the n-th commit.
func (c *cluster) tree(dir string, n int) reconciler.Candidate {
	c.t.Helper()
	tree, err := load.Directory(dir)
	if err != nil {
		c.t.Fatalf("%v", err)
	}
	tree.Commit = schema.CommitObject{Hash: objecttest.Commit(n), Subject: "a change", Author: "A <a@example.org>"}
	r := load.Load(context.Background(), tree, schema.DefaultSourceSpec(schema.SourceSpec{}), load.Options{Source: "main"})
	return c.sealed(n, r.Objects, r.Diagnostics)
}

func (c *cluster) sealed(n int, objects []*schema.Desired, diags schema.Diagnostics) reconciler.Candidate {
	objects, _ = reconciler.NewVault([]byte("k")).Seal(objects)
	return reconciler.Candidate{Source: "main", Commit: schema.CommitObject{Hash: objecttest.Commit(n)}, Tree: schema.TreeHash("tree-" + string(objecttest.Commit(n))), Objects: objects, Diagnostics: diags}
}

func (c *cluster) plan(cand plan.Candidate) *plan.Plan {
	return plan.Compute(c.engine, c.machine.Snapshot(), c.machine.Queue(), cand, c.now)
}

func planned(cand reconciler.Candidate) plan.Candidate {
	return plan.Candidate{Source: cand.Source, Commit: cand.Commit.Hash, Tree: cand.Tree, Objects: cand.Objects, Overrides: cand.Overrides, Diagnostics: cand.Diagnostics}
}

// push plans a candidate on the cluster as it is and applies it.
func (c *cluster) push(cand reconciler.Candidate) *plan.Plan {
	c.t.Helper()
	p := c.plan(planned(cand))
	cand.Plan = p
	c.rest(cand)
	return p
}

// placed is "namespace/name on node" of every pod that stays, sorted.
func (c *cluster) placed() []string {
	var out []string
	for p := range state.All[*corev1.Pod](c.machine.Snapshot(), "") {
		if p.DeletionTimestamp == nil {
			out = append(out, fmt.Sprintf("%s/%s on %s", p.Namespace, p.Name, p.Spec.NodeName))
		}
	}
	return out
}

// expected is what the pods are once the plan came true.
func expected(before []string, p *plan.Plan) []string {
	out := slices.Clone(before)
	for _, pod := range p.Pods {
		out = slices.DeleteFunc(out, func(s string) bool { return strings.HasPrefix(s, pod.Namespace+"/"+pod.Name+" ") })
	}
	for _, pod := range p.Pods {
		if pod.Action == "start" {
			out = append(out, fmt.Sprintf("%s/%s on %s", pod.Namespace, pod.Name, pod.Node))
		}
	}
	slices.Sort(out)
	return out
}
