package settle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/objecttest"
	"fairlead/schema/wire"
)

// total is what all sources take.
func total(r state.Reader) (sum wire.Takes) {
	for _, takes := range r.Delivered() {
		sum = sum.Plus(takes)
	}
	return sum
}

// statuses is what those of the test's objects come to meanwhile.
const statuses = 4 << 10

// fill puts objects that take what is left of every bound on what nodes are sent, but for
// so many bytes of what they keep.
func fill(tx *state.Txn, but int64) {
	placements := map[string]schema.NodeName{}
	for i := range 10_000 {
		placements[fmt.Sprintf("default/pod-of-a-deployment-%04d", i)] = "n1"
	}
	for i := 0; total(tx).Spare <= schema.MaxSpareBytes; i++ {
		rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("main-", i)}, Spec: schema.RevisionSpec{Source: "main", Commit: schema.Commit(fmt.Sprint(i))}}
		rev.Status.Phase, rev.Status.Placements = schema.PhaseSuperseded, placements
		tx.Put(rev)
	}
	filler := func(kind string, i int) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("filler-%s-%d", kind, i), Annotations: map[string]string{schema.AnnotationSource: "main"}}
	}
	for i := 0; total(tx).Told < schema.MaxToldBytes-1<<10; i++ {
		room := schema.MaxToldBytes - 1<<10 - total(tx).Told
		svc := &corev1.Service{ObjectMeta: filler("told", i)}
		svc.Spec.Type, svc.Spec.ClusterIP, svc.Spec.Ports = corev1.ServiceTypeClusterIP, corev1.ClusterIPNone, make([]corev1.ServicePort, min(1000, 1+room/100))
		tx.Put(svc)
	}
	for i := 0; total(tx).Kept < schema.MaxKeptBytes-but; i++ {
		room := min(schema.MaxKeptBytes-but-total(tx).Kept, 1<<20)
		tx.Put(&corev1.ConfigMap{ObjectMeta: filler(fmt.Sprint("kept-", but), i), Data: map[string]string{"v": mib[:room]}})
	}
}

// agents run what is bound to them: what is to end ends well, all else is ready. A pod of
// an old template ends when it is asked to.
func (w *jobWorld) agents() {
	w.round(func(tx *state.Txn) {
		for pod := range state.All[*corev1.Pod](tx, "") {
			next := state.Edit(pod)
			switch {
			case pod.DeletionTimestamp != nil && len(pod.Finalizers) == 0:
				tx.Delete(schema.KeyOf(pod))
				continue
			case pod.Spec.NodeName == "" || health.Ended(pod):
				continue
			case pod.Spec.RestartPolicy == corev1.RestartPolicyNever:
				next.Status.Phase = corev1.PodSucceeded
			case pod.Status.PodIP == "":
				w.addresses++
				next.Status.Phase, next.Status.PodIP = corev1.PodRunning, fmt.Sprintf("10.112.%d.%d", w.addresses/250, w.addresses%250+1)
				next.Status.Conditions = append(next.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
			}
			tx.Put(next)
		}
	})
}

func (w *jobWorld) warned(reason, name string) (out []string) {
	for e := range state.All[*corev1.Event](w.at, "") {
		if e.Reason == reason && e.InvolvedObject.Name == name {
			out = append(out, e.Message)
		}
	}
	return out
}

func (w *jobWorld) ready(service string) (out []string) {
	for slice := range state.By[*discoveryv1.EndpointSlice](w.at, state.EndpointSlicesByService, "default/"+service) {
		for _, ep := range slice.Endpoints {
			if *ep.Conditions.Ready {
				out = append(out, ep.TargetRef.Name)
			}
		}
	}
	return out
}

// Where every bound on what nodes are sent is full at once, the cluster goes on: Jobs come
// to their end and CronJobs run, what dies is replaced and gets its traffic, a commit that
// asks for no more is taken; no bound is passed, and all that has no room is named.
func TestAFullClusterGoesOn(t *testing.T) {
	w := newJobWorld(t)
	web := deployment("web", 3)
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}}}
	schema.Default(svc)
	large := func(bytes int) func(*batchv1.Job) {
		return func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Args = []string{mib[:bytes]} }
	}
	work := job(large(16<<10), func(j *batchv1.Job) {
		j.Name, j.Spec.TTLSecondsAfterFinished, j.Spec.Completions, j.Spec.Parallelism = "work", nil, new(int32(4)), new(int32(4))
	})
	tick := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "tick"}, Spec: batchv1.CronJobSpec{Schedule: "* * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: *job(large(12 << 10)).Spec.DeepCopy()}}}
	schema.Default(tick)
	tree := []schema.Object{web, svc, work, tick}
	full := func(r state.Reader) {
		t.Helper()
		sum, ahead := total(r), int64(0)
		for j := range state.All[*batchv1.Job](r, "") {
			ahead += wire.AheadOf(j)
		}
		if sum.Kept-ahead > schema.MaxKeptBytes+statuses || sum.Told > schema.MaxToldBytes {
			t.Fatalf("nodes are to keep %d bytes and are told %d", sum.Kept-ahead, sum.Told)
		}
	}
	w.round(func(tx *state.Txn) { // no node yet: nothing of it has begun when all is full
		tx.Delete(schema.Key{Kind: schema.KindNode, Name: "n1"})
		changes, diags := Difference(tx, "main", desired(tree...))
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		Apply(engine().Context(tx, w.now), changes)
		fill(tx, 64<<10)
	})
	w.round(func(tx *state.Txn) { fill(tx, 0) })
	if pods := w.pods(); len(pods) != 3+1 {
		t.Fatalf("%d pods wait for a node, want one of the Job's and 3", len(pods))
	}
	w.now = w.now.Add(time.Minute)
	w.round(func(tx *state.Txn) { tx.Put(objecttest.Node("n1", "8", "1Gi", roomy)) })
	full(w.at)
	for _, left := range [][2]string{{"NoRoom", "work"}, {"NoRoom", "tick"}} {
		if told := w.warned(left[0], left[1]); len(told) != 1 || !strings.Contains(told[0], "source main") {
			t.Errorf("%s is told of %s: %q", left[0], left[1], told)
		}
	}
	for range 8 {
		w.agents()
		full(w.at)
	}
	if have, _ := state.Get[*batchv1.Job](w.at, "default", "work"); !health.JobFinished(have) {
		t.Errorf("the Job has not ended: %+v", have.Status)
	}
	w.now = w.now.Add(time.Minute)
	w.round(func(*state.Txn) {})
	if have, _ := state.Get[*batchv1.CronJob](w.at, "default", "tick"); have.Status.LastScheduleTime == nil {
		t.Errorf("the CronJob starts nothing in the room that the Job left: %d of %d bytes are taken, told %q", total(w.at).Kept, schema.MaxKeptBytes, w.warned("NoRoom", "tick"))
	}

	before := w.ready("web")
	if told := w.warned("EndpointsLeftOut", "web"); len(before) == 0 || len(before) == 3 != (len(told) == 0) {
		t.Errorf("%q are listed, told %q", before, told)
	}
	w.round(func(tx *state.Txn) {
		tx.Delete(schema.Key{Kind: schema.KindPod, Namespace: "default", Name: before[0]})
	})
	w.agents()
	full(w.at)
	if after := w.ready("web"); len(after) < len(before) || slices.Contains(after, before[0]) {
		t.Errorf("when %s of %q is gone, %q are listed", before[0], before, after)
	}

	more := append(slices.Clone(tree), desiredConfigMap(16<<10))
	if _, diags := Difference(w.at, "main", append(desired(more...), asIs(w.at)...)); !diags.HasErrors() || !strings.Contains(diags.Error(), "source main") {
		t.Errorf("more is taken, or refused without a word: %v", diags)
	}
	scaled := deployment("web", 2)
	changes, diags := Difference(w.at, "main", append(desired(scaled, svc, work, tick), asIs(w.at)...))
	if diags.HasErrors() || len(changes) != 1 {
		t.Fatalf("a commit that asks for no more: %d changes, %v", len(changes), diags)
	}
	w.round(func(tx *state.Txn) { Apply(engine().Context(tx, w.now), changes) })
	w.agents()
	if n := len(w.ready("web")); n == 0 || n > 2 {
		t.Errorf("%d endpoints after scaling to 2", n)
	}
}

func desiredConfigMap(bytes int) schema.Object {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "more"}, Data: map[string]string{"v": mib[:bytes]}}
}

// asIs asks for the fillers as they are.
func asIs(r state.Reader) (out []*schema.Desired) {
	for _, kind := range []schema.Kind{schema.KindConfigMap, schema.KindService} {
		for obj := range r.List(kind, "default") {
			if strings.HasPrefix(obj.GetName(), "filler-") {
				out = append(out, &schema.Desired{Object: obj, Locate: func(string) schema.Position { return schema.Position{} }})
			}
		}
	}
	return out
}
