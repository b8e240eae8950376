package control

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/chance"
)

func resources(cpu, memory string) corev1.ResourceList {
	out := corev1.ResourceList{}
	if cpu != "" {
		out["cpu"] = resource.MustParse(cpu)
	}
	if memory != "" {
		out["memory"] = resource.MustParse(memory)
	}
	return out
}

func condition(d *appsv1.Deployment, t appsv1.DeploymentConditionType) string {
	cond, _ := health.DeploymentCondition(&d.Status, t)
	return fmt.Sprintf("%s %s", cond.Status, cond.Reason)
}

func sets(w *world) []*appsv1.ReplicaSet {
	all := slices.Collect(state.All[*appsv1.ReplicaSet](w.tx, "shop"))
	slices.SortFunc(all, func(a, b *appsv1.ReplicaSet) int { return revisionNumber(a) - revisionNumber(b) })
	return all
}

func TestDeploymentMakesAReplicaSet(t *testing.T) {
	w := testWorld(t)
	w.put(&schema.Revision{
		ObjectMeta: metav1.ObjectMeta{Name: string(schema.RevisionOf("main", "c0ffee00c0ffee00"))},
		Spec:       schema.RevisionSpec{Source: "main", Commit: "c0ffee00c0ffee00", Subject: "api: first version"},
	})
	d := deployment(func(d *appsv1.Deployment) { d.Annotations = map[string]string{"owner": "team-a"} })
	schema.SetOrigin(d, schema.Origin{Source: "main", Path: "api.yaml", Line: 1, Commit: "c0ffee00c0ffee00"})
	w.put(d)
	w.live("n1", "n2")
	d = get[*appsv1.Deployment](w, "shop", "api")
	hash := schema.Hash(d.Spec.Template)
	rs := get[*appsv1.ReplicaSet](w, "shop", "api-"+hash)
	if rs.Labels["pod-template-hash"] != hash || rs.Spec.Selector.MatchLabels["pod-template-hash"] != hash || rs.Spec.Template.Labels["pod-template-hash"] != hash {
		t.Errorf("hash label is missing: %v, %v, %v", rs.Labels, rs.Spec.Selector, rs.Spec.Template.Labels)
	}
	if &rs.Spec.Template.Spec.Containers[0] != &d.Spec.Template.Spec.Containers[0] {
		t.Error("the two templates share no memory: each look compares them in depth")
	}
	want := map[string]string{
		"owner": "team-a", "deployment.kubernetes.io/revision": "1", "deployment.kubernetes.io/desired-replicas": "3",
		"deployment.kubernetes.io/max-replicas": "4", "kubernetes.io/change-cause": "c0ffee00c0ff api: first version",
		"fairlead/source": "main", "fairlead/path": "api.yaml", "fairlead/line": "1", "fairlead/commit": "c0ffee00c0ffee00", "fairlead/sequence": "3",
	}
	if diff := cmp.Diff(want, rs.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if d.Annotations["deployment.kubernetes.io/revision"] != "1" || d.Spec.Template.Labels["pod-template-hash"] != "" {
		t.Errorf("deployment: annotations %v, template labels %v", d.Annotations, d.Spec.Template.Labels)
	}
	if s := d.Status; s.Replicas != 3 || s.UpdatedReplicas != 3 || s.ReadyReplicas != 3 || s.AvailableReplicas != 3 || s.UnavailableReplicas != 0 || s.ObservedGeneration != 1 {
		t.Errorf("status: %+v", s)
	}
	if got := condition(d, appsv1.DeploymentAvailable); got != "True MinimumReplicasAvailable" {
		t.Errorf("Available is %s", got)
	}
	if got := condition(d, appsv1.DeploymentProgressing); got != "True NewReplicaSetAvailable" {
		t.Errorf("Progressing is %s", got)
	}
}

func TestDeploymentGoesBackToAnOldReplicaSet(t *testing.T) {
	w := testWorld(t)
	w.put(deployment())
	w.live("n1")
	first := sets(w)[0].Name
	w.change("api", image("v2"))
	w.live("n1")
	w.change("api", image("v1"))
	w.live("n1")
	all := sets(w)
	if len(all) != 2 {
		t.Fatalf("got %d replica sets, want 2", len(all))
	}
	back := all[1]
	if back.Name != first || back.Annotations[annotationRevision] != "3" || back.Annotations[annotationRevisionHistory] != "1" || health.Desired(back.Spec.Replicas) != 3 {
		t.Errorf("got %s with %v", back.Name, back.Annotations)
	}
	if got := get[*appsv1.Deployment](w, "shop", "api").Annotations[annotationRevision]; got != "3" {
		t.Errorf("deployment is at revision %s, want 3", got)
	}
}

// A replica set whose hash another version computed is recognised by its template.
func TestDeploymentKnowsItsTemplateWithoutTheHash(t *testing.T) {
	w := testWorld(t)
	w.put(deployment())
	w.live("n1")
	rs := sets(w)[0]
	w.tx.Delete(schema.KeyOf(rs))
	w.tx.TakeDirty()
	other := state.Edit(rs)
	other.Labels[labelHash], other.Spec.Template.Labels[labelHash] = "otherhash", "otherhash"
	w.put(other)
	w.live("n1")
	if got := len(sets(w)); got != 1 {
		t.Errorf("got %d replica sets, want the one that was there", got)
	}
}

func TestDeploymentForgetsOldReplicaSets(t *testing.T) {
	w := testWorld(t)
	limit := int32(2)
	w.put(deployment(func(d *appsv1.Deployment) { d.Spec.RevisionHistoryLimit = &limit }))
	for v := range 5 {
		w.change("api", image(fmt.Sprint("v", v)))
		w.live("n1")
	}
	var got []string
	for _, rs := range sets(w) {
		got = append(got, rs.Annotations[annotationRevision])
	}
	if diff := cmp.Diff([]string{"3", "4", "5"}, got); diff != "" {
		t.Errorf("revisions kept (-want +got):\n%s", diff)
	}
}

// A replica set stays while pods of it terminate: they name it as their owner.
func TestAReplicaSetOutlivesItsPods(t *testing.T) {
	w := testWorld(t)
	limit := int32(0)
	w.put(deployment(func(d *appsv1.Deployment) { d.Spec.RevisionHistoryLimit = &limit }))
	w.live("n1")
	w.change("api", image("v2"))
	for range 4 {
		w.settle()
		w.bind("n1")
		w.start()
	}
	w.settle()
	if d := get[*appsv1.Deployment](w, "shop", "api"); !health.Complete(d, &d.Status) || len(sets(w)) != 2 {
		t.Fatalf("%d replica sets, status %+v", len(sets(w)), d.Status)
	}
	w.reap()
	w.settle()
	if got := len(sets(w)); got != 1 {
		t.Errorf("%d replica sets once the old pods are gone, want 1", got)
	}
}

func TestRecreateWaitsForTheLastOldPod(t *testing.T) {
	w := testWorld(t)
	w.put(deployment(func(d *appsv1.Deployment) {
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	}))
	w.live("n1")
	w.change("api", image("v2"))
	w.settle()
	if got := len(sets(w)); got != 1 {
		t.Fatalf("%d replica sets while old pods terminate, want 1", got)
	}
	for i := range 3 {
		if got := len(w.pods("shop")); got != 3-i {
			t.Fatalf("%d pods, want %d", got, 3-i)
		}
		w.tx.Delete(schema.KeyOf(w.pods("shop")[0]))
		w.settle()
	}
	for _, p := range w.pods("shop") {
		if p.Spec.Containers[0].Image != "localhost/api:v2" {
			t.Errorf("pod %s runs %s", p.Name, p.Spec.Containers[0].Image)
		}
	}
	if got := len(w.pods("shop")); got != 3 {
		t.Errorf("%d new pods, want 3", got)
	}
}

func TestProgressDeadline(t *testing.T) {
	w := testWorld(t)
	w.put(deployment())
	w.live("n1")
	w.change("api", image("v2"))
	w.settle()
	w.bind("n1")
	w.settle()
	w.pass(599 * time.Second)
	if got := condition(get[*appsv1.Deployment](w, "shop", "api"), appsv1.DeploymentProgressing); got != "True ReplicaSetUpdated" {
		t.Errorf("before the deadline: %s", got)
	}
	w.pass(time.Second)
	if got := condition(get[*appsv1.Deployment](w, "shop", "api"), appsv1.DeploymentProgressing); got != "False ProgressDeadlineExceeded" {
		t.Errorf("after the deadline: %s", got)
	}
	if !w.nextWake().IsZero() {
		t.Errorf("somebody still waits until %s", w.nextWake())
	}
	w.live("n1")
	if got := condition(get[*appsv1.Deployment](w, "shop", "api"), appsv1.DeploymentProgressing); got != "True NewReplicaSetAvailable" {
		t.Errorf("once it moves: %s", got)
	}
}

// What becomes of the pods of a rollout that ended well is no progress and no lack
// of it.
func TestAnEndedRolloutHasNoDeadline(t *testing.T) {
	w := testWorld(t)
	w.put(deployment())
	w.live("n1")
	pods := w.pods("shop")
	for _, p := range pods[:2] {
		w.edit(p, func(p *corev1.Pod) { setCondition(p, corev1.PodReady, corev1.ConditionFalse, w.now) })
	}
	w.settle()
	w.edit(get[*corev1.Pod](w, "shop", pods[0].Name), func(p *corev1.Pod) { setCondition(p, corev1.PodReady, corev1.ConditionTrue, w.now) })
	w.settle()
	w.pass(time.Hour)
	d := get[*appsv1.Deployment](w, "shop", "api")
	if got := condition(d, appsv1.DeploymentProgressing); got != "True NewReplicaSetAvailable" {
		t.Errorf("Progressing is %s", got)
	}
	if got := condition(d, appsv1.DeploymentAvailable); got != "False MinimumReplicasUnavailable" {
		t.Errorf("Available is %s", got)
	}
}

func TestScaleAndTemplateAtOnceMakeNoOldPods(t *testing.T) {
	w := testWorld(t)
	w.put(deployment())
	w.live("n1")
	w.change("api", func(d *appsv1.Deployment) { image("v2")(d); replicas(6)(d) })
	w.settle()
	for _, p := range w.pods("shop") {
		if p.Spec.NodeName == "" && !strings.HasSuffix(p.Spec.Containers[0].Image, "v2") {
			t.Errorf("made a pod of the old template: %s", p.Name)
		}
	}
	w.live("n1")
	if got := get[*appsv1.Deployment](w, "shop", "api").Status.AvailableReplicas; got != 6 {
		t.Errorf("got %d available, want 6", got)
	}
}

// A replica set left over from a deployment of the same name gives way.
func TestANewDeploymentOfAnOldName(t *testing.T) {
	w := testWorld(t)
	w.put(deployment())
	w.live("n1")
	old := sets(w)[0].UID
	w.tx.Delete(schema.Key{Kind: schema.KindDeployment, Namespace: "shop", Name: "api"})
	w.put(deployment())
	w.live("n1")
	all := sets(w)
	if len(all) != 1 || all[0].UID == old {
		t.Errorf("got %d replica sets", len(all))
	}
	if got := len(w.pods("shop")); got != 3 {
		t.Errorf("got %d pods, want 3", got)
	}
}

var amounts = []intstr.IntOrString{
	intstr.FromInt32(0), intstr.FromInt32(1), intstr.FromInt32(3), intstr.FromString("25%"), intstr.FromString("50%"), intstr.FromString("100%"),
}

// S6 and termination: whatever the agents do and whenever, after every visit
// ready >= desired - maxUnavailable and total <= desired + maxSurge; once they do
// their work the rollout ends with the new template alone.
func TestARolloutKeepsItsBoundsAndEnds(t *testing.T) {
	chance.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.node("n1", "n2")
		n := int32(rapid.IntRange(1, 7).Draw(rt, "replicas"))
		surge, unavailable := rapid.SampledFrom(amounts).Draw(rt, "surge"), rapid.SampledFrom(amounts).Draw(rt, "unavailable")
		w.put(deployment(replicas(n), func(d *appsv1.Deployment) {
			d.Spec.Strategy.RollingUpdate.MaxSurge, d.Spec.Strategy.RollingUpdate.MaxUnavailable = &surge, &unavailable
			d.Spec.MinReadySeconds = int32(rapid.SampledFrom([]int{0, 0, 5}).Draw(rt, "minReady"))
		}))
		w.live("n1", "n2")
		w.pass(time.Minute)
		b := boundsOf(get[*appsv1.Deployment](w, "shop", "api"))
		w.after = func() {
			total, up := countActive(w)
			if total > b.most() || up < b.least() {
				rt.Fatalf("%d pods, %d ready; at most %d and at least %d are due", total, up, b.most(), b.least())
			}
		}
		if rapid.Bool().Draw(rt, "anyOrder") {
			w.pick = func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "visit") }
		}
		for v := range rapid.IntRange(1, 3).Draw(rt, "commits") {
			w.change("api", image(fmt.Sprint("next", v)))
			w.settle()
			for range rapid.IntRange(0, 25).Draw(rt, "steps") {
				randomAct(rt, w)
				w.settle()
			}
		}
		w.pick = nil
		for range 40 {
			w.live("n1", "n2")
			w.pass(5 * time.Second)
		}
		d := get[*appsv1.Deployment](w, "shop", "api")
		if !health.Complete(d, &d.Status) {
			rt.Fatalf("the rollout does not end: %+v", d.Status)
		}
		for _, p := range w.pods("shop") {
			if p.Spec.Containers[0].Image != d.Spec.Template.Spec.Containers[0].Image {
				rt.Fatalf("pod %s runs %s", p.Name, p.Spec.Containers[0].Image)
			}
		}
	})
}

// S6 while everything happens at once: pods fail and recover, the count, the
// strategy and the template change amid the rollout. No visit leaves more pods than
// the surge allows or than were there, nor fewer ready ones than must be there or
// than were: what faults take, the rollout does not take again. In the end the last
// commit stands alone.
func TestARolloutKeepsItsBoundsAmidFaultsAndCommits(t *testing.T) {
	chance.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.node("n1", "n2")
		w.put(deployment(func(d *appsv1.Deployment) { redraw(rt, d, "first") }))
		w.live("n1", "n2")
		w.pass(time.Minute)
		total, up := countActive(w)
		w.after = func() {
			b := boundsOf(get[*appsv1.Deployment](w, "shop", "api"))
			nowTotal, nowUp := countActive(w)
			if nowTotal > max(b.most(), total) {
				rt.Fatalf("from %d to %d pods, at most %d are due", total, nowTotal, b.most())
			}
			if nowUp < min(b.least(), up) {
				rt.Fatalf("from %d to %d ready pods, at least %d are due", up, nowUp, b.least())
			}
			total, up = nowTotal, nowUp
		}
		if rapid.Bool().Draw(rt, "anyOrder") {
			w.pick = func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "visit") }
		}
		for step := range rapid.IntRange(1, 30).Draw(rt, "steps") {
			label := fmt.Sprint("commit", step)
			switch rapid.IntRange(0, 5).Draw(rt, "event") {
			case 0:
				w.change("api", func(d *appsv1.Deployment) { redraw(rt, d, label) })
			case 1:
				if p, ok := pick(rt, w, func(p *corev1.Pod) bool { return active(p) && health.Ready(p) }); ok {
					w.edit(p, func(p *corev1.Pod) { setCondition(p, corev1.PodReady, corev1.ConditionFalse, w.now) })
				}
			case 2:
				if p, ok := pick(rt, w, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning && active(p) }); ok {
					w.edit(p, func(p *corev1.Pod) { setCondition(p, corev1.PodReady, corev1.ConditionTrue, w.now) })
				}
			default:
				randomAct(rt, w)
			}
			total, up = countActive(w)
			w.settle()
		}
		w.after, w.pick = nil, nil
		for range 40 {
			for _, p := range w.pods("shop") {
				if active(p) && p.Status.Phase == corev1.PodRunning && !health.Ready(p) {
					w.edit(p, func(p *corev1.Pod) { setCondition(p, corev1.PodReady, corev1.ConditionTrue, w.now) })
				}
			}
			w.live("n1", "n2")
			w.pass(5 * time.Second)
		}
		d := get[*appsv1.Deployment](w, "shop", "api")
		if !health.Complete(d, &d.Status) {
			rt.Fatalf("the rollout does not end: %+v", d.Status)
		}
		for _, p := range w.pods("shop") {
			if p.Spec.Containers[0].Image != d.Spec.Template.Spec.Containers[0].Image {
				rt.Fatalf("pod %s runs %s", p.Name, p.Spec.Containers[0].Image)
			}
		}
	})
}

// redraw changes what a commit may change of a deployment while it rolls out.
func redraw(rt *rapid.T, d *appsv1.Deployment, label string) {
	what := rapid.IntRange(1, 7).Draw(rt, label)
	if what&1 != 0 {
		image(rapid.SampledFrom([]string{"v1", "v2", "v3"}).Draw(rt, label+" image"))(d)
	}
	if what&2 != 0 {
		replicas(int32(rapid.IntRange(0, 7).Draw(rt, label+" replicas")))(d)
	}
	if what&4 != 0 {
		surge, unavailable := rapid.SampledFrom(amounts).Draw(rt, label+" surge"), rapid.SampledFrom(amounts).Draw(rt, label+" unavailable")
		d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable}
	}
}

// Whatever order the visits come in, the cluster comes to the same rest.
func TestOrderOfVisitsDoesNotMatter(t *testing.T) {
	rest := func(pick func(int) int) []string {
		w := newWorld(t)
		w.pick = pick
		w.node("n1", "n2")
		w.put(&schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Status: schema.SourceStatus{Applied: schema.CommitRef{Commit: "c1"}}})
		rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-c1"}, Spec: schema.RevisionSpec{Source: "main", Commit: "c1"}}
		rev.Enter(schema.PhaseRollingOut, metav1.NewTime(start), "applied")
		w.put(rev, service("api", nodePort(0)), service("web"), from(deployment(), "c1"))
		w.live("n1", "n2")
		w.change("api", func(d *appsv1.Deployment) { image("v2")(d); replicas(5)(d) })
		w.live("n1", "n2")
		w.setNodeReady("n2", corev1.ConditionUnknown)
		w.pass(time.Hour)
		w.live("n1")
		var out []string
		for _, p := range w.pods("shop") {
			out = append(out, p.Spec.Containers[0].Image+" on "+p.Spec.NodeName)
		}
		for s := range state.All[*corev1.Service](w.tx, "") {
			out = append(out, fmt.Sprintf("%s %v with %d endpoints", s.Name, claims(s), len(listed(w, s.Name))))
		}
		slices.Sort(out)
		return append(out, string(get[*schema.Revision](w, "", "main-c1").Status.Phase))
	}
	want := rest(nil)
	for seed := range uint64(20) {
		chance := rand.New(rand.NewPCG(seed, 0))
		if diff := cmp.Diff(want, rest(chance.IntN)); diff != "" {
			t.Fatalf("seed %d rests elsewhere (-in order +any order):\n%s", seed, diff)
		}
	}
}

func countActive(w *world) (total, up int32) {
	for _, p := range w.pods("shop") {
		if active(p) {
			total++
		}
		if active(p) && health.Ready(p) {
			up++
		}
	}
	return total, up
}

// randomAct does one thing that an agent or the scheduler may do without a fault.
func randomAct(rt *rapid.T, w *world) {
	switch rapid.IntRange(0, 3).Draw(rt, "act") {
	case 0:
		w.bind("n1", "n2")
	case 1:
		if p, ok := pick(rt, w, func(p *corev1.Pod) bool {
			return p.Spec.NodeName != "" && p.Status.Phase == corev1.PodPending && active(p)
		}); ok {
			w.edit(p, func(p *corev1.Pod) { running(p, w.now) })
		}
	case 2:
		if p, ok := pick(rt, w, func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil }); ok {
			w.tx.Delete(schema.KeyOf(p))
		}
	case 3:
		w.pass(time.Duration(rapid.IntRange(1, 6).Draw(rt, "seconds")) * time.Second)
	}
}

func pick(rt *rapid.T, w *world, fits func(*corev1.Pod) bool) (*corev1.Pod, bool) {
	var some []*corev1.Pod
	for _, p := range w.pods("shop") {
		if fits(p) {
			some = append(some, p)
		}
	}
	if len(some) == 0 {
		return nil, false
	}
	return some[rapid.IntRange(0, len(some)-1).Draw(rt, "pod")], true
}
