package reconciler_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler"
	"fairlead/reconciler/plan"
	"fairlead/reconciler/state"
	"fairlead/reconciler/work"
	"fairlead/schema"
	"fairlead/schema/objecttest"
	"fairlead/schema/wire"
)

var keeper = work.NewKeeper([]byte("the cluster's secret"))

// kept is what the node's agent has of the snapshot.
func kept(s *state.Snapshot, node schema.NodeName) wire.Kept {
	w := work.For(s, node, wire.ClusterInfo{}, func(string, string) (map[string][]byte, bool) { return nil, true })
	items := wire.Split(&w)
	for uid := range w.Pods {
		items[wire.FamilySeals+"/"+string(uid)] = keeper.Seal(wire.FamilyPods+"/"+string(uid), items[wire.FamilyPods+"/"+string(uid)])
	}
	for _, info := range schema.Kinds() {
		for obj := range s.List(info.Kind, "") {
			if key, ok := work.RecordKey(obj); ok {
				items[key] = keeper.Record(key, obj)
			}
		}
	}
	return wire.Kept{Version: s.Counters().ResourceVersion, Items: items.Keepsakes()}
}

func recall(t *testing.T, s *state.Snapshot, node schema.NodeName) reconciler.Recovered {
	t.Helper()
	memory, err := keeper.Recall(node, kept(s, node))
	if err != nil {
		t.Fatal(err)
	}
	return reconciler.Recovered{Node: node, Memory: memory}
}

// lost is a cluster whose store was wiped: what its nodes say of the time before.
type lost struct {
	before  *state.Snapshot
	answers map[schema.NodeName]reconciler.Input
	reports map[schema.NodeName]reconciler.Input
}

// wipe takes the machine's memory and store away. The new store is younger.
func (c *cluster) wipe() lost {
	c.t.Helper()
	l := lost{c.machine.Snapshot(), map[schema.NodeName]reconciler.Input{}, map[schema.NodeName]reconciler.Input{}}
	for i, node := range c.nodes {
		l.answers[node] = recall(c.t, l.before, node)
		l.reports[node] = c.report(i, node)
	}
	src := state.Edit(c.source())
	src.ObjectMeta, src.Status = metav1.ObjectMeta{Name: src.Name}, schema.SourceStatus{}
	c.machine = reconciler.NewMachine(c.engine, state.Empty(state.Counters{ResourceVersion: 1 << 41}), []schema.Source{*src})
	c.machine.Recover(c.nodes)
	return l
}

// hear steps the machine once with what these nodes say.
func (c *cluster) hear(l lost, nodes ...schema.NodeName) reconciler.Output {
	c.now = c.now.Add(time.Second)
	var inputs []reconciler.Input
	for _, node := range nodes {
		inputs = append(inputs, l.answers[node], l.reports[node])
	}
	return c.machine.Step(c.now, inputs)
}

// facts is the cluster as one can tell that it is the same: without versions,
// events, and the times at which conditions changed.
func facts(t *testing.T, s *state.Snapshot) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, info := range schema.Kinds() {
		for obj := range s.List(info.Kind, "") {
			obj := obj.DeepCopyObject().(schema.Object)
			obj.SetResourceVersion("")
			switch o := obj.(type) {
			case *corev1.Event:
				continue
			case *discoveryv1.EndpointSlice:
				o.UID, o.CreationTimestamp, o.Generation = "", metav1.Time{}, 0
			case *corev1.Node:
				for i := range o.Status.Conditions {
					o.Status.Conditions[i].LastTransitionTime, o.Status.Conditions[i].LastHeartbeatTime = metav1.Time{}, metav1.Time{}
				}
			case *corev1.Pod:
				for i := range o.Status.Conditions {
					o.Status.Conditions[i].LastTransitionTime = metav1.Time{}
				}
			case *appsv1.Deployment:
				for i := range o.Status.Conditions {
					o.Status.Conditions[i].LastTransitionTime, o.Status.Conditions[i].LastUpdateTime = metav1.Time{}, metav1.Time{}
				}
			}
			data, err := json.MarshalIndent(obj, "", " ")
			if err != nil {
				t.Fatal(err)
			}
			out[schema.KeyOf(obj).String()] = string(data)
		}
	}
	return out
}

func TestWipedStoreIsRecovered(t *testing.T) {
	c := failing(t)
	c.goBack(shop(t, objecttest.Commit(1), "v1", nil))
	c.rest()
	l := c.wipe()
	out := c.hear(l, c.nodes...)
	if len(c.machine.Awaited()) > 0 || len(out.Changes) == 0 {
		t.Fatalf("all have answered; awaited are %v, %d changes", c.machine.Awaited(), len(out.Changes))
	}
	if diff := cmp.Diff(facts(t, l.before), facts(t, out.Snapshot)); diff != "" {
		t.Errorf("the cluster after one round (-before +after):\n%s", diff)
	}
	if had, has := l.before.Counters().Creations, out.Counters.Creations; has < had {
		t.Errorf("%d creations are counted, there were %d: identities would come twice", has, had)
	}
	for _, ch := range out.Changes {
		if ch.RV <= 1<<41 {
			t.Errorf("%s has version %d again", ch.Key, ch.RV)
		}
	}
	c.writes = 0
	for range 60 {
		c.step()
	}
	if c.writes > 0 {
		t.Errorf("%d changes in a quiet minute after it", c.writes)
	}
	if rev := c.revision(objecttest.Commit(2)); !rev.Status.Quarantined || c.source().Status.Applied.Commit != objecttest.Commit(1) || c.source().Status.Desired.Commit != objecttest.Commit(2) {
		t.Errorf("quarantined %v, source %+v", rev.Status.Quarantined, c.source().Status)
	}
}

func TestRecoveredClusterTakesTheNextCommitAsPlanned(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	identities := map[string]bool{}
	for p := range state.All[*corev1.Pod](c.machine.Snapshot(), "") {
		identities[p.Name], identities[string(p.UID)] = true, true
	}
	c.hear(c.wipe(), c.nodes...)
	before := c.placed()
	p := c.push(shop(t, objecttest.Commit(2), "v2", nil))
	if got, want := c.placed(), expected(before, p); p.Verdict != plan.Changes || !slices.Equal(got, want) {
		t.Errorf("%s; pods\n  %s\nplanned were\n  %s", p.Summary(), strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	for pod := range state.All[*corev1.Pod](c.machine.Snapshot(), "") {
		if identities[pod.Name] || identities[string(pod.UID)] {
			t.Errorf("pod %s (%s) has the identity of one from before", pod.Name, pod.UID)
		}
	}
	if got := c.revision(objecttest.Commit(2)).Status.Phase; got != schema.PhaseHealthy {
		t.Errorf("phase %s", got)
	}
}

func TestNothingIsDecidedWhileANodeIsSilent(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	l := c.wipe()
	for range 600 {
		out := c.hear(l, "n1", "n3")
		if len(out.Changes) > 0 || out.Snapshot.Len(schema.KindPod) > 0 || !out.Wake.After(c.now) {
			t.Fatalf("with n2 silent: %d changes, next look in %s", len(out.Changes), out.Wake.Sub(c.now))
		}
	}
	if out := c.machine.Step(c.now, []reconciler.Input{shop(t, objecttest.Commit(2), "v2", nil), l.answers["n2"]}); len(out.Changes) > 0 || !slices.Equal(c.machine.Awaited(), []reconciler.Awaited{{Node: "n2"}}) {
		t.Fatalf("n2 has not reported yet: %d changes, awaited %v", len(out.Changes), c.machine.Awaited())
	}
	out := c.hear(l, "n2")
	if diff := cmp.Diff(facts(t, l.before), facts(t, out.Snapshot)); diff != "" {
		t.Errorf("the cluster once n2 answered (-before +after):\n%s", diff)
	}
}

func TestNodeWithAFreshDiskCountsAsAnswered(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	l := c.wipe()
	empty := l.reports["n2"].(reconciler.NodeReport)
	empty.Report.Pods = nil
	l.answers["n2"], l.reports["n2"] = reconciler.Recovered{Node: "n2"}, empty
	c.hear(l, c.nodes...)
	c.rest()
	counts := map[string]int{}
	for p := range state.All[*corev1.Pod](c.machine.Snapshot(), "shop") {
		counts[p.Labels["app"]]++
	}
	if want := map[string]int{"web": 2, "api": 3, "store": 1}; !maps.Equal(counts, want) {
		t.Errorf("pods %v, want %v: those of n2 are made anew, no other moves", counts, want)
	}
	still := c.placed()
	for p := range state.All[*corev1.Pod](l.before, "shop") {
		if p.Spec.NodeName != "n2" && !slices.Contains(still, fmt.Sprintf("shop/%s on %s", p.Name, p.Spec.NodeName)) {
			t.Errorf("pod %s of %s is gone", p.Name, p.Spec.NodeName)
		}
	}
}

// An operator who takes a dead node out of the registry has its pods made anew.
func TestNodeTakenOutOfTheRegistryIsNotAwaited(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	c.nodes = []schema.NodeName{"n1", "n2"}
	l := c.wipe()
	c.hear(l, c.nodes...)
	c.rest()
	if nodes := c.machine.Snapshot().Len(schema.KindNode); nodes != 2 {
		t.Errorf("%d nodes, want n1 and n2", nodes)
	}
	if n := readyOf(c.machine.Snapshot(), "api"); n != 3 {
		t.Errorf("%d pods of api are ready, want 3 on the nodes that are left", n)
	}
}

// A node that runs pods but cannot say what they are is not a node without pods.
func TestPodsNobodyRemembersAreNotStopped(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	l := c.wipe()
	remembered := l.answers["n2"]
	l.answers["n2"] = reconciler.Recovered{Node: "n2"}
	if out := c.hear(l, c.nodes...); len(out.Changes) > 0 {
		t.Fatalf("%d changes", len(out.Changes))
	}
	if a := c.machine.Awaited(); len(a) != 1 || !strings.Contains(a[0].Why, "it has 2 pods") {
		t.Errorf("awaited %+v", a)
	}
	l.answers["n2"] = remembered
	if out := c.hear(l, "n2"); len(out.Changes) == 0 || len(c.machine.Awaited()) > 0 {
		t.Errorf("n2 remembers again, yet awaited %+v", c.machine.Awaited())
	}
}

// A node that is behind by a while has pods of its own time; all else is as the
// freshest node has it.
func TestFreshestNodeIsBelieved(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	old := map[schema.NodeName]reconciler.Input{"n1": recall(t, c.machine.Snapshot(), "n1")}
	c.push(shop(t, objecttest.Commit(2), "v2", nil))
	l := c.wipe()
	maps.Copy(l.answers, old)
	c.hear(l, c.nodes...)
	if got := c.source().Status.Applied.Commit; got != objecttest.Commit(2) {
		t.Errorf("applied is %s, n2 and n3 know %s", got, objecttest.Commit(2))
	}
	c.rest()
	ready := 0
	for p := range state.All[*corev1.Pod](c.machine.Snapshot(), "shop") {
		if p.DeletionTimestamp != nil || !strings.HasSuffix(p.Spec.Containers[0].Image, ":v2") {
			t.Errorf("pod %s runs %s", p.Name, p.Spec.Containers[0].Image)
		}
		ready++
	}
	if ready != 6 {
		t.Errorf("%d pods, want 6", ready)
	}
}

// Whenever in a rollout the store is lost, available pods never become fewer
// than promised, and the rollout ends as it would have.
func TestRolloutGoesOnAfterARecovery(t *testing.T) {
	slow := func(objects []*schema.Desired) []*schema.Desired {
		for i := range objects {
			if d, ok := objects[i].Object.(*appsv1.Deployment); ok {
				d.Spec.MinReadySeconds = 3
			}
		}
		return objects
	}
	for steps := 0; steps <= 40; steps += 3 {
		c := newCluster(t, 3)
		c.push(shop(t, objecttest.Commit(1), "v1", slow))
		c.step(shop(t, objecttest.Commit(2), "v2", slow))
		for range steps {
			c.step()
		}
		c.hear(c.wipe(), c.nodes...)
		for range 60 {
			if n := readyOf(c.machine.Snapshot(), "api"); n < 3 {
				t.Fatalf("lost %d steps into the rollout: %d pods of api are ready, 3 are promised", steps, n)
			}
			c.step()
		}
		if got := c.revision(objecttest.Commit(2)).Status.Phase; got != schema.PhaseHealthy {
			t.Fatalf("lost %d steps into the rollout: phase %s: %v", steps, got, c.revision(objecttest.Commit(2)).Status.Phases)
		}
	}
}

// readyOf counts the pods of an app that are ready and stay.
func readyOf(s *state.Snapshot, app string) (n int) {
	for p := range state.All[*corev1.Pod](s, "shop") {
		ready := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
		if p.Labels["app"] == app && p.DeletionTimestamp == nil && ready {
			n++
		}
	}
	return n
}

// A record that no node can give back readable, a commit of the year 10000 say, does
// not keep the cluster from being recovered.
func TestRecoveryWithoutWhatCannotBeRead(t *testing.T) {
	c := newCluster(t, 3)
	cand := shop(t, objecttest.Commit(1), "v1", nil)
	c.push(cand)
	c.untilPhase(objecttest.Commit(1), schema.PhaseHealthy)
	c.rest()
	placed := c.placed()
	l := c.wipe()
	for _, node := range c.nodes {
		all := kept(l.before, node)
		poison := state.Edit(revisionIn(t, l.before, objecttest.Commit(1)))
		poison.Spec.Time = metav1.Unix(253402300800, 0)
		key, _ := work.RecordKey(poison)
		all.Items[key] = keeper.Record(key, poison)
		memory, err := keeper.Recall(node, all)
		if err != nil || len(memory.Unreadable) != 1 || memory.Unreadable[0].Key != wire.StoreKey(schema.KeyOf(poison)) {
			t.Fatalf("node %s told %v, %v", node, memory.Unreadable, err)
		}
		l.answers[node] = reconciler.Recovered{Node: node, Memory: memory}
	}
	c.hear(l, c.nodes...)
	if awaited := c.machine.Awaited(); len(awaited) > 0 {
		t.Fatalf("still awaited: %v", awaited)
	}
	c.again(cand)
	if got := c.placed(); !slices.Equal(got, placed) {
		t.Errorf("pods are %v, were %v", got, placed)
	}
}

func revisionIn(t *testing.T, s *state.Snapshot, commit schema.Commit) *schema.Revision {
	t.Helper()
	rev, ok := state.Revision(s, schema.RevisionOf("main", commit))
	if !ok {
		t.Fatalf("no revision of %s", commit)
	}
	return rev
}
