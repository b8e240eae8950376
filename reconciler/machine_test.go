package reconciler_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler"
	"fairlead/reconciler/control"
	"fairlead/reconciler/plan"
	"fairlead/reconciler/scheduler"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/reconciler/work"
	"fairlead/schema"
	"fairlead/schema/load"
	"fairlead/schema/objecttest"
	"fairlead/schema/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is a Machine with model agents: each runs what it is told at once and
// lets a pod go once it is drained. The machine is pure, so this is all there is.
type cluster struct {
	t       *testing.T
	engine  *settle.Engine
	machine *reconciler.Machine
	now     time.Time
	nodes   []schema.NodeName
	broken  func(*corev1.Pod) bool                             // pods that never become ready
	tried   func(*corev1.Pod) bool                             // pods whose container was restarted
	output  func(*corev1.Pod) []string                         // last lines that a pod's node tells with its status, nil for none
	ended   func(*corev1.Pod) *corev1.ContainerStateTerminated // how the container of a pod that is broken or was restarted ended last
	works   func(*corev1.Pod) *corev1.ContainerStateTerminated // how the work of a pod ended, nil for one that runs on
	started map[types.UID]bool
	given   int // addresses
	writes  int
}

func newCluster(t *testing.T, nodes int) *cluster {
	engine := settle.NewEngine(control.Config{
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), DNS: netip.MustParseAddr("10.96.0.10"), NodePortFirst: 30000, NodePortLast: 32767,
	})
	src := schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: schema.DefaultSourceSpec(schema.SourceSpec{Embedded: true})}
	c := &cluster{t: t, engine: engine, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), started: map[types.UID]bool{}, broken: func(*corev1.Pod) bool { return false }, tried: func(*corev1.Pod) bool { return false }}
	c.machine = reconciler.NewMachine(engine, state.Empty(state.Counters{ResourceVersion: 1 << 40}), []schema.Source{src})
	for i := range nodes {
		c.nodes = append(c.nodes, schema.NodeName(fmt.Sprintf("n%d", i+1)))
	}
	c.rest()
	return c
}

// restart drops the machine's memory and starts again from what is durable.
func (c *cluster) restart() {
	src := slices.Collect(state.All[*schema.Source](c.machine.Snapshot(), ""))
	c.machine = reconciler.NewMachine(c.engine, c.machine.Snapshot(), []schema.Source{*state.Edit(src[0])})
}

// step is one round a second, with a report and an acknowledgement of each node.
func (c *cluster) step(extra ...reconciler.Input) (changed int) {
	c.now = c.now.Add(time.Second)
	inputs := extra
	for i, node := range c.nodes {
		inputs = append(inputs, c.report(i, node), reconciler.Acknowledgement{Node: node, Version: c.machine.Snapshot().Counters().ResourceVersion})
	}
	out := c.machine.Step(c.now, inputs)
	c.writes += len(out.Changes)
	return len(out.Changes)
}

// rest steps until nothing changes.
func (c *cluster) rest(first ...reconciler.Input) {
	c.t.Helper()
	changed := c.step(first...)
	for range 200 {
		quiet := changed == 0
		changed = c.step()
		if quiet && changed == 0 {
			return
		}
	}
	c.t.Fatal("the cluster does not come to rest in 200 rounds")
}

func (c *cluster) report(i int, node schema.NodeName) reconciler.NodeReport {
	cidr := fmt.Sprintf("10.112.%d.0/22", 4*i)
	res := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourcePods: resource.MustParse("20")}
	r := wire.Report{Node: node, BootID: "b", NodeIPs: schema.List[string]{fmt.Sprintf("192.0.2.%d", i+1)}, Capacity: res, Allocatable: res}
	w := work.For(c.machine.Snapshot(), node, wire.ClusterInfo{}, func(string, string) (map[string][]byte, bool) { return nil, true })
	for _, uid := range slices.Sorted(maps.Keys(w.Pods)) {
		p := w.Pods[uid]
		pr := wire.PodReport{UID: uid, Namespace: p.Pod.Namespace, Name: p.Pod.Name, Epoch: p.Epoch}
		pr.Gone = p.Drained
		pr.Status = c.podStatus(p.Pod, i)
		if c.output != nil {
			if lines := c.output(p.Pod); lines != nil {
				pr.Logs = []wire.LogTail{{Container: p.Pod.Spec.Containers[0].Name, Lines: lines}}
			}
		}
		r.Pods = append(r.Pods, pr)
		c.started[uid] = true
	}
	return reconciler.NodeReport{PodCIDR: cidr, Address: r.NodeIPs.First(), Report: r}
}

// address is one of the node's that no pod has had before.
func (c *cluster) address(i int) string {
	c.given++
	return fmt.Sprintf("10.112.%d.%d", 4*i+c.given>>8&3, c.given&255)
}

func (c *cluster) podStatus(pod *corev1.Pod, node int) corev1.PodStatus {
	// An address stays the pod's own whatever else runs on the node.
	ip := ""
	if have, ok := state.PodByUID(c.machine.Snapshot(), pod.UID); ok && have.Status.PodIP != "" {
		ip = have.Status.PodIP
	} else {
		ip = c.address(node)
	}
	ready := corev1.ConditionTrue
	state := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	if c.broken(pod) {
		ready = corev1.ConditionFalse
		state = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "exit code 1"}}
	}
	if c.works != nil {
		if end := c.works(pod); end != nil {
			return endedStatus(pod, end, ip)
		}
	}
	var last *corev1.ContainerStateTerminated
	if c.ended != nil && (c.broken(pod) || c.tried(pod)) {
		last = c.ended(pod)
	}
	started := true
	restarts := int32(0)
	if c.tried(pod) {
		restarts = 1
	}
	return corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
		Conditions: []corev1.PodCondition{
			{Type: corev1.ContainersReady, Status: ready}, {Type: corev1.PodReady, Status: ready, LastTransitionTime: metav1.NewTime(c.now.Truncate(time.Hour))},
		},
		ContainerStatuses: []corev1.ContainerStatus{{Name: pod.Spec.Containers[0].Name, Image: pod.Spec.Containers[0].Image, Ready: ready == corev1.ConditionTrue, Started: &started, State: state, RestartCount: restarts, LastTerminationState: corev1.ContainerState{Terminated: last}}},
	}
}

// endedStatus is that of a pod that is not started again.
func endedStatus(pod *corev1.Pod, end *corev1.ContainerStateTerminated, ip string) corev1.PodStatus {
	phase := corev1.PodSucceeded
	if end.ExitCode != 0 {
		phase = corev1.PodFailed
	}
	return corev1.PodStatus{
		Phase: phase, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
		Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "PodCompleted", LastTransitionTime: end.FinishedAt}},
		ContainerStatuses: []corev1.ContainerStatus{{Name: pod.Spec.Containers[0].Name, Image: pod.Spec.Containers[0].Image, State: corev1.ContainerState{Terminated: end}}},
	}
}

// shop is the example's tree with every image at version, changed by edit.
func shop(t *testing.T, commit schema.Commit, version string, edit func([]*schema.Desired) []*schema.Desired) reconciler.Candidate {
	t.Helper()
	tree, err := load.Directory("../examples/shop")
	if err != nil {
		t.Fatal(err)
	}
	tree.Commit = schema.CommitObject{Hash: commit, Subject: version, Author: "A <a@example.org>"}
	for i := range tree.Files {
		open := tree.Files[i].Open
		tree.Files[i].Open = func() ([]byte, error) {
			data, err := open()
			return []byte(strings.ReplaceAll(string(data), ":v1", ":"+version)), err
		}
	}
	r := load.Load(context.Background(), tree, schema.DefaultSourceSpec(schema.SourceSpec{}), load.Options{Source: "main"})
	if len(r.Diagnostics) > 0 {
		t.Fatalf("examples/shop: %v", r.Diagnostics)
	}
	r.Objects, _ = reconciler.NewVault([]byte("k")).Seal(r.Objects)
	if edit != nil {
		r.Objects = edit(r.Objects)
	}
	return reconciler.Candidate{Source: "main", Commit: tree.Commit, Tree: schema.TreeHash("tree-" + string(commit)), Objects: r.Objects}
}

// push plans a candidate on the cluster as it is and applies it.
func (c *cluster) push(cand reconciler.Candidate) *plan.Plan {
	p := plan.Compute(c.engine, c.machine.Snapshot(), c.machine.Queue(), plan.Candidate{Source: cand.Source, Commit: cand.Commit.Hash, Tree: cand.Tree, Objects: cand.Objects, Overrides: cand.Overrides}, c.now)
	cand.Plan = p
	c.rest(cand)
	return p
}

// untilPhase steps until the commit's revision is in a phase.
func (c *cluster) untilPhase(commit schema.Commit, phase schema.Phase) {
	c.t.Helper()
	for range 1000 {
		if c.revision(commit).Status.Phase == phase {
			return
		}
		c.step()
	}
	c.t.Fatalf("revision of %s is not %s after 1000s: %+v", commit, phase, c.revision(commit).Status.Phases)
}

func (c *cluster) source() *schema.Source {
	src, _ := state.Source(c.machine.Snapshot(), "main")
	return src
}

// placed is "namespace/name on node" of every pod, sorted.
func (c *cluster) placed() []string {
	var out []string
	for p := range state.All[*corev1.Pod](c.machine.Snapshot(), "") {
		out = append(out, fmt.Sprintf("%s/%s on %s", p.Namespace, p.Name, p.Spec.NodeName))
	}
	return out
}

func (c *cluster) revision(commit schema.Commit) *schema.Revision {
	c.t.Helper()
	rev, ok := state.Revision(c.machine.Snapshot(), schema.RevisionOf("main", commit))
	if !ok {
		c.t.Fatalf("no revision of commit %s", commit)
	}
	return rev
}

// expected is what the pods are once the plan came true.
func expected(before []string, p *plan.Plan) []string {
	out := slices.Clone(before)
	for _, pod := range p.Pods {
		if pod.Action == "start" {
			out = append(out, fmt.Sprintf("%s/%s on %s", pod.Namespace, pod.Name, pod.Node))
			continue
		}
		out = slices.DeleteFunc(out, func(s string) bool { return strings.HasPrefix(s, pod.Namespace+"/"+pod.Name+" ") })
	}
	slices.Sort(out)
	return out
}

func TestWhatIsPlannedHappens(t *testing.T) {
	c := newCluster(t, 3)
	steps := []reconciler.Candidate{
		shop(t, objecttest.Commit(1), "v1", nil),
		shop(t, objecttest.Commit(2), "v2", nil),
		shop(t, objecttest.Commit(3), "v2", scale("api", 5)),
		shop(t, objecttest.Commit(4), "v2", without("web")),
		shop(t, objecttest.Commit(5), "v1", nil),
	}
	for _, cand := range steps {
		before := c.placed()
		p := c.push(cand)
		if got, want := c.placed(), expected(before, p); !slices.Equal(got, want) {
			t.Fatalf("after %s the pods are\n  %s\nplanned were\n  %s", cand.Commit.Hash, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
		if rev := c.revision(cand.Commit.Hash); rev.Status.Phase != schema.PhaseHealthy || len(rev.Status.Differs) > 0 {
			t.Fatalf("revision %s is %s, differs %v: %v", rev.Name, rev.Status.Phase, rev.Status.Differs, rev.Status.Phases)
		}
		again := plan.Compute(c.engine, c.machine.Snapshot(), c.machine.Queue(), plan.Candidate{Source: "main", Objects: cand.Objects}, c.now)
		if again.Verdict != plan.None {
			t.Fatalf("planned again after %s: %s %+v", cand.Commit.Hash, again.Summary(), again.Objects)
		}
	}
}

func scale(name string, replicas int32) func([]*schema.Desired) []*schema.Desired {
	return func(objects []*schema.Desired) []*schema.Desired {
		for i := range objects {
			if d, ok := objects[i].Object.(*appsv1.Deployment); ok && d.Name == name {
				d.Spec.Replicas = &replicas
			}
		}
		return objects
	}
}

func without(name string) func([]*schema.Desired) []*schema.Desired {
	return func(objects []*schema.Desired) []*schema.Desired {
		return slices.DeleteFunc(objects, func(d *schema.Desired) bool { return d.Object.GetName() == name })
	}
}

func TestServiceEndpointsFollowReadyPods(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	var ips []string
	for slice := range state.All[*discoveryv1.EndpointSlice](c.machine.Snapshot(), "shop") {
		if slice.Labels[discoveryv1.LabelServiceName] != "api" {
			continue
		}
		for _, e := range slice.Endpoints {
			if *e.Conditions.Ready {
				ips = append(ips, e.Addresses...)
			}
		}
	}
	if len(ips) != 3 {
		t.Errorf("service api has ready endpoints %v, want those of 3 pods", ips)
	}
	w := work.For(c.machine.Snapshot(), "n1", wire.ClusterInfo{}, func(string, string) (map[string][]byte, bool) { return nil, true })
	if s := w.Services["shop/web"]; s.ClusterIPs.First() == "" || s.Ports[0].NodePort != 30080 || len(s.Endpoints) != 2 {
		t.Errorf("node n1 is told of service web as %+v", s)
	}
}

func TestRestRoundsWriteNothing(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	c.writes = 0
	for range 120 {
		c.step()
	}
	if c.writes != 0 {
		t.Errorf("%d changes in two quiet minutes", c.writes)
	}
}

func TestRestartChangesNothing(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	before := c.placed()
	c.writes = 0
	c.restart()
	c.rest()
	if got := c.placed(); !slices.Equal(got, before) || c.writes != 0 {
		t.Errorf("after a restart %d changes; pods\n  %s\nwere\n  %s", c.writes, strings.Join(got, "\n  "), strings.Join(before, "\n  "))
	}
}

func TestInvalidCandidateChangesNothing(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	before := c.placed()
	bad := shop(t, objecttest.Commit(2), "v2", nil)
	bad.Diagnostics = schema.Diagnostics{{Position: schema.Position{Path: "api.yaml", Line: 3, Column: 1}, Severity: schema.Error, Message: "bad"}}
	c.push(bad)
	if got := c.placed(); !slices.Equal(got, before) {
		t.Errorf("pods changed to %v", got)
	}
	rev := c.revision(objecttest.Commit(2))
	src, _ := state.Source(c.machine.Snapshot(), "main")
	if rev.Status.Phase != schema.PhaseInvalid || src.Status.Applied.Commit != objecttest.Commit(1) || src.Status.Desired.Commit != objecttest.Commit(2) {
		t.Errorf("phase %s, applied %s, desired %s", rev.Status.Phase, src.Status.Applied.Commit, src.Status.Desired.Commit)
	}
}

func TestNewerCommitSupersedesAStuckOne(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	c.broken = func(p *corev1.Pod) bool { return strings.HasSuffix(p.Spec.Containers[0].Image, ":v2") }
	stuck := shop(t, objecttest.Commit(2), "v2", nil)
	c.step(stuck)
	for range 10 {
		c.step()
	}
	if phase := c.revision(objecttest.Commit(2)).Status.Phase; phase != schema.PhaseRollingOut {
		t.Fatalf("a revision with crashing pods is %s after ten seconds", phase)
	}
	ready := 0
	for p := range state.All[*corev1.Pod](c.machine.Snapshot(), "shop") {
		if p.Labels["app"] == "api" && strings.HasSuffix(p.Spec.Containers[0].Image, ":v1") && p.DeletionTimestamp == nil {
			ready++
		}
	}
	if ready != 3 {
		t.Errorf("%d old pods of api serve beside the crashing ones, want all 3 (maxUnavailable 0)", ready)
	}
	c.push(shop(t, objecttest.Commit(3), "v3", nil))
	if got := c.revision(objecttest.Commit(2)).Status.Phase; got != schema.PhaseSuperseded {
		t.Errorf("the stuck revision is %s: %+v", got, c.revision(objecttest.Commit(2)).Status.Phases)
	}
	if got := c.revision(objecttest.Commit(3)).Status.Phase; got != schema.PhaseHealthy {
		t.Errorf("its successor is %s", got)
	}
}

func TestFailedRevisionSaysWhy(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	c.broken = func(p *corev1.Pod) bool { return strings.HasSuffix(p.Spec.Containers[0].Image, ":v2") }
	c.step(shop(t, objecttest.Commit(2), "v2", nil))
	for range 700 {
		c.step()
	}
	rev := c.revision(objecttest.Commit(2))
	last := rev.Status.Phases[len(rev.Status.Phases)-1]
	if rev.Status.Phase != schema.PhaseFailed || !strings.Contains(last.Reason, "CrashLoopBackOff") {
		t.Errorf("phase %s: %s", rev.Status.Phase, last.Reason)
	}
}

func TestSilentNodeAndPause(t *testing.T) {
	c := newCluster(t, 3)
	readyNodes := func() (out []string) {
		for n := range state.All[*corev1.Node](c.machine.Snapshot(), "") {
			for _, cond := range n.Status.Conditions {
				if cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue {
					out = append(out, n.Name)
				}
			}
		}
		return out
	}
	all := c.nodes
	c.nodes = all[:2]
	for range 45 {
		c.step()
	}
	if got := readyNodes(); !slices.Equal(got, []string{"n1", "n2"}) {
		t.Errorf("n3 is silent for 45s, ready are %v", got)
	}
	c.nodes = nil
	for range 120 {
		c.step()
	}
	if got := readyNodes(); !slices.Equal(got, []string{"n1", "n2"}) {
		t.Errorf("everybody is silent: evictions are paused, yet ready are %v", got)
	}
	paused := func() (n int) {
		for node := range state.All[*corev1.Node](c.machine.Snapshot(), "") {
			if slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == schema.ConditionPaused }) {
				n++
			}
		}
		return n
	}
	if n := paused(); n != 3 {
		t.Errorf("%d nodes say that evictions are paused, want 3", n)
	}
	c.nodes = all
	c.step()
	if got := readyNodes(); len(got) != 3 {
		t.Errorf("all report again, ready are %v", got)
	}
	if n := paused(); n != 0 {
		t.Errorf("all report again, yet evictions are paused on %d nodes", n)
	}
}

// Nodes come back from a pause one after the other: who is the last has a while to
// be heard, and is given up after it.
func TestALateNodeAfterAPause(t *testing.T) {
	c := newCluster(t, 3)
	ready := func() string {
		node, _ := state.Get[*corev1.Node](c.machine.Snapshot(), "", "n3")
		for _, cond := range node.Status.Conditions {
			if cond.Type == corev1.NodeReady {
				return string(cond.Status)
			}
		}
		return ""
	}
	all := c.nodes
	c.nodes = nil
	for range 60 {
		c.step()
	}
	c.nodes = all[:2]
	for range 15 {
		if c.step(); ready() != "True" {
			t.Fatalf("the pause has ended and n3 is given up on the spot: %s", ready())
		}
	}
	for range 10 {
		c.step()
	}
	if ready() != "Unknown" {
		t.Errorf("n3 is silent for long after the pause, and Ready is %q", ready())
	}
}

func TestSilenceIsTold(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	marked := func() (out []string) {
		for p := range state.All[*corev1.Pod](c.machine.Snapshot(), "") {
			if slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == schema.ConditionStale }) {
				out = append(out, p.Spec.NodeName)
			}
		}
		return slices.Compact(slices.Sorted(slices.Values(out)))
	}
	all := c.nodes
	c.nodes = all[:2]
	for range 4 {
		c.step()
	}
	if got := marked(); len(got) > 0 {
		t.Errorf("stale after 4s of silence: %v", got)
	}
	for range 3 {
		c.step()
	}
	if got := marked(); !slices.Equal(got, []string{"n3"}) {
		t.Errorf("stale after 7s of silence of n3: %v", got)
	}
	c.nodes = all
	c.step()
	if got := marked(); len(got) > 0 {
		t.Errorf("stale though n3 reports again: %v", got)
	}
}

// What a round publishes stays as it is, whatever the next ones make of it: pods that
// no node took are bound once there are nodes, and then report what they do.
func TestWhatWasPublishedStays(t *testing.T) {
	c := newCluster(t, 3)
	all := c.nodes
	c.nodes = nil
	inputs := []reconciler.Input{shop(t, objecttest.Commit(1), "v1", func(objects []*schema.Desired) []*schema.Desired {
		return scale("web", 60)(objects)
	})}
	refused, bound := 0, 0
	for step := range 12 {
		if step == 4 {
			c.nodes = append(all, "n4", "n5", "n6")
		}
		before := c.machine.Snapshot()
		frozen := map[schema.Object]string{}
		for _, kind := range schema.Kinds() {
			for obj := range before.List(kind.Kind, "") {
				frozen[obj] = schema.Hash(obj)
			}
		}
		c.step(inputs...)
		inputs = nil
		for obj, was := range frozen {
			if is := schema.Hash(obj); is != was {
				t.Errorf("step %d changed %s in place", step, schema.KeyOf(obj))
			}
		}
		for old := range state.All[*corev1.Pod](before, "") {
			next, ok := state.Get[*corev1.Pod](c.machine.Snapshot(), old.Namespace, old.Name)
			switch {
			case !ok || old.Spec.NodeName != "":
			case next.Spec.NodeName != "":
				bound++
			case len(next.Status.Conditions) > 0:
				refused++
			}
		}
	}
	if refused == 0 || bound == 0 {
		t.Errorf("%d times a pod waited, %d were bound later: nothing was tested", refused, bound)
	}
}

func TestPruneLeavesNothing(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	empty := shop(t, objecttest.Commit(2), "v1", func([]*schema.Desired) []*schema.Desired { return nil })
	empty.Overrides.AllowPrune = 9
	c.push(empty)
	for _, k := range schema.Kinds() {
		switch k.Kind {
		case schema.KindNode, schema.KindEvent, schema.KindSource, schema.KindRevision:
			continue
		}
		for o := range c.machine.Snapshot().List(k.Kind, "") {
			if o.GetName() != "default" {
				t.Errorf("%s is left", schema.KeyOf(o))
			}
		}
	}
}

func TestPlanRefusesWhatBelongsToOthers(t *testing.T) {
	c := newCluster(t, 1)
	d := &schema.Desired{
		Object:   &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: schema.DefaultSourceSpec(schema.SourceSpec{Embedded: true, Branch: "other"})},
		Position: schema.Position{Path: "s.yaml", Line: 1, Column: 1}, Locate: func(string) schema.Position { return schema.Position{Path: "s.yaml", Line: 1} },
	}
	p := plan.Compute(c.engine, c.machine.Snapshot(), c.machine.Queue(), plan.Candidate{Source: "main", Objects: []*schema.Desired{d}}, c.now)
	if p.Verdict != plan.Refused || len(p.Diagnostics) != 1 || !strings.Contains(p.Diagnostics[0].String(), "s.yaml:1:1: Source main is the master's configuration") {
		t.Errorf("%s: %v", p.Verdict, p.Diagnostics)
	}
}

func TestUnplacedPodNamesEveryNode(t *testing.T) {
	c := newCluster(t, 3)
	p := c.push(shop(t, objecttest.Commit(1), "v1", func(objects []*schema.Desired) []*schema.Desired {
		for i := range objects {
			if d, ok := objects[i].Object.(*appsv1.Deployment); ok && d.Name == "store" {
				d.Spec.Template.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("3")
			}
		}
		return objects
	}))
	if len(p.Unplaced) != 1 || len(p.Unplaced[0].Nodes) != 3 {
		t.Fatalf("unplaced: %+v", p.Unplaced)
	}
	slices.SortFunc(p.Unplaced[0].Nodes, func(a, b scheduler.NodeReason) int { return cmp.Compare(a.Node, b.Node) })
	if got := strings.Join(p.Unplaced[0].Nodes[0].Reasons, ";"); !strings.Contains(got, "cpu") || !strings.Contains(got, "3") {
		t.Errorf("n1 refuses with %q", got)
	}
	if phase := c.revision(objecttest.Commit(1)).Status.Phase; phase != schema.PhaseStalled && phase != schema.PhaseRollingOut {
		t.Errorf("phase %s", phase)
	}
}

func TestMassDeletionIsHeldUntilACommitAllowsIt(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	before := c.placed()
	most := func(objects []*schema.Desired) []*schema.Desired {
		return without("web")(without("api")(without("store")(objects)))
	}
	p := c.push(shop(t, objecttest.Commit(2), "v1", most))
	if p.Verdict != plan.Held || !strings.Contains(p.Summary(), "Fairlead-Allow-Prune: 6") {
		t.Errorf("planned: %s %s", p.Verdict, p.Summary())
	}
	if rev := c.revision(objecttest.Commit(2)); rev.Status.Phase != schema.PhaseHeld {
		t.Errorf("phase %s", rev.Status.Phase)
	}
	if got := c.placed(); !slices.Equal(got, before) || c.source().Status.Applied.Commit != objecttest.Commit(1) {
		t.Errorf("applied %s, pods %v", c.source().Status.Applied.Commit, got)
	}
	little := shop(t, objecttest.Commit(3), "v1", most)
	little.Overrides.AllowPrune = 5
	if p := c.push(little); p.Verdict != plan.Held {
		t.Errorf("5 allowed, 6 go: %s", p.Summary())
	}
	enough := shop(t, objecttest.Commit(4), "v1", most)
	enough.Overrides.AllowPrune = 6
	c.push(enough)
	if rev := c.revision(objecttest.Commit(4)); rev.Status.Phase != schema.PhaseHealthy || len(c.placed()) != 0 {
		t.Errorf("phase %s, pods %v", rev.Status.Phase, c.placed())
	}
	if got := c.revision(objecttest.Commit(3)).Status.Phase; got != schema.PhaseSuperseded {
		t.Errorf("the held revision is %s", got)
	}
}

// failing is a cluster that runs v1 and was asked for v2, whose pods crash.
func failing(t *testing.T) *cluster {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	c.broken = func(p *corev1.Pod) bool { return strings.HasSuffix(p.Spec.Containers[0].Image, ":v2") }
	c.step(shop(t, objecttest.Commit(2), "v2", nil))
	c.untilPhase(objecttest.Commit(2), schema.PhaseFailed)
	return c
}

// goBack is what the follower hands to the loop when a revision failed.
func (c *cluster) goBack(cand reconciler.Candidate) {
	failed, to := settle.GoesBackTo(c.machine.Snapshot(), c.source())
	if failed == nil || to.Spec.Commit != cand.Commit.Hash {
		c.t.Fatalf("the cluster goes back from %v to %v", failed, to)
	}
	cand.RollbackOf = schema.RevisionName(failed.Name)
	c.push(cand)
}

func TestFailedRevisionGoesBackAndStaysBack(t *testing.T) {
	c := failing(t)
	c.goBack(shop(t, objecttest.Commit(1), "v1", nil))
	rev, src := c.revision(objecttest.Commit(2)), c.source()
	if rev.Status.Phase != schema.PhaseRolledBack || !rev.Status.Quarantined || rev.Status.RolledBackTo != objecttest.Commit(1) {
		t.Errorf("failed revision: %s quarantined %v, back to %s", rev.Status.Phase, rev.Status.Quarantined, rev.Status.RolledBackTo)
	}
	if src.Status.Applied.Commit != objecttest.Commit(1) || src.Status.Desired.Commit != objecttest.Commit(2) || !strings.Contains(src.Status.Conditions[0].Message, "CrashLoopBackOff") {
		t.Errorf("source: applied %s desired %s, %s", src.Status.Applied.Commit, src.Status.Desired.Commit, src.Status.Conditions[0].Message)
	}
	if got := c.revision(objecttest.Commit(1)).Status.Phase; got != schema.PhaseHealthy {
		t.Errorf("the revision that runs again is %s", got)
	}
	for p := range state.All[*corev1.Pod](c.machine.Snapshot(), "shop") {
		if !strings.HasSuffix(p.Spec.Containers[0].Image, ":v1") {
			t.Errorf("pod %s runs %s", p.Name, p.Spec.Containers[0].Image)
		}
	}
	if failed, _ := settle.GoesBackTo(c.machine.Snapshot(), src); failed != nil {
		t.Errorf("it would go back from %s again", failed.Name)
	}
}

func TestFailedTreeIsHeldUntilACommitRetriesIt(t *testing.T) {
	c := failing(t)
	c.goBack(shop(t, objecttest.Commit(1), "v1", nil))
	same := shop(t, objecttest.Commit(3), "v2", nil)
	same.Tree = schema.TreeHash("tree-" + string(objecttest.Commit(2)))
	if p := c.push(same); p.Verdict != plan.Held || !strings.Contains(p.Summary(), "Fairlead-Retry") {
		t.Errorf("the failed tree again: %s", p.Summary())
	}
	c.broken = func(*corev1.Pod) bool { return false }
	again := same
	again.Commit.Hash = objecttest.Commit(4)
	again.Overrides.Retry = "the registry was wrong"
	c.push(again)
	if got := c.revision(objecttest.Commit(4)).Status.Phase; got != schema.PhaseHealthy {
		t.Errorf("retried: %s", got)
	}
}

func TestFixAfterRollbackGoesAhead(t *testing.T) {
	c := failing(t)
	c.goBack(shop(t, objecttest.Commit(1), "v1", nil))
	c.push(shop(t, objecttest.Commit(3), "v3", nil))
	if got := c.revision(objecttest.Commit(3)).Status.Phase; got != schema.PhaseHealthy {
		t.Errorf("the fix is %s", got)
	}
}

func TestNothingToGoBackTo(t *testing.T) {
	c := newCluster(t, 3)
	c.broken = func(*corev1.Pod) bool { return true }
	c.step(shop(t, objecttest.Commit(1), "v1", nil))
	c.untilPhase(objecttest.Commit(1), schema.PhaseFailed)
	if failed, _ := settle.GoesBackTo(c.machine.Snapshot(), c.source()); failed != nil {
		t.Error("a first revision that failed has nothing to go back to")
	}
}

// A pod that no probe vouches for is ready from its first instant, also one that
// crashes in the next: its revision is not called healthy on that word alone.
func TestProbelessPodsMustLiveAWhile(t *testing.T) {
	probeless := func(objects []*schema.Desired) []*schema.Desired {
		for i := range objects {
			if d, ok := objects[i].Object.(*appsv1.Deployment); ok {
				d.Spec.Template.Spec.Containers[0].ReadinessProbe = nil
			}
		}
		return objects
	}
	c := newCluster(t, 3)
	c.step(shop(t, objecttest.Commit(1), "v1", probeless))
	began := c.now
	c.untilPhase(objecttest.Commit(1), schema.PhaseHealthy)
	if took := c.now.Sub(began); took < control.DefaultProofOfLife {
		t.Errorf("healthy %s after its pods began", took)
	}
	dies := c.now.Add(2 * time.Second)
	c.broken = func(p *corev1.Pod) bool {
		return strings.HasSuffix(p.Spec.Containers[0].Image, ":v2") && c.now.After(dies)
	}
	c.step(shop(t, objecttest.Commit(2), "v2", probeless))
	c.untilPhase(objecttest.Commit(2), schema.PhaseFailed)
}
