package control

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

func replicaSet(n int32) *appsv1.ReplicaSet {
	template := deployment().Spec.Template
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "api-abc", Namespace: "shop", Generation: 1},
		Spec:       appsv1.ReplicaSetSpec{Replicas: &n, Template: template},
	}
}

func (w *world) scaleSet(n int32) {
	rs := state.Edit(get[*appsv1.ReplicaSet](w, "shop", "api-abc"))
	rs.Spec.Replicas = &n
	rs.Generation++
	w.tx.Put(rs)
}

func TestReplicaSetMakesWholePods(t *testing.T) {
	w := testWorld(t)
	rs := replicaSet(2)
	schema.SetOrigin(rs, schema.Origin{Source: "main", Path: "api.yaml", Line: 3, Commit: "c0ffee"})
	w.put(rs)
	w.settle()
	pods := w.pods("shop")
	if len(pods) != 2 {
		t.Fatalf("got %d pods, want 2", len(pods))
	}
	p := pods[0]
	uid := get[*appsv1.ReplicaSet](w, "shop", "api-abc").UID
	names := []string{"api-abc-" + schema.NameSuffix(uid, 0), "api-abc-" + schema.NameSuffix(uid, 1)}
	if !slices.Contains(names, p.Name) {
		t.Errorf("pod is named %s, want one of %v", p.Name, names)
	}
	if !metav1.IsControlledBy(p, get[*appsv1.ReplicaSet](w, "shop", "api-abc")) || !*p.OwnerReferences[0].BlockOwnerDeletion {
		t.Errorf("owner references are %+v", p.OwnerReferences)
	}
	if p.Labels["app"] != "api" || p.Annotations["team"] != "shop" || schema.OriginOf(p).Commit != "c0ffee" {
		t.Errorf("labels %v, annotations %v", p.Labels, p.Annotations)
	}
	if p.Status.Phase != corev1.PodPending || p.Status.QOSClass != corev1.PodQOSBestEffort || !p.CreationTimestamp.Equal(&metav1.Time{Time: start}) {
		t.Errorf("phase %s, class %s, created %s", p.Status.Phase, p.Status.QOSClass, p.CreationTimestamp)
	}
	var tolerated []string
	for _, tol := range p.Spec.Tolerations {
		tolerated = append(tolerated, fmt.Sprintf("%s:%s for %ds", tol.Key, tol.Effect, *tol.TolerationSeconds))
	}
	want := []string{"node.kubernetes.io/not-ready:NoExecute for 300s", "node.kubernetes.io/unreachable:NoExecute for 300s"}
	if diff := cmp.Diff(want, tolerated); diff != "" {
		t.Errorf("tolerations (-want +got):\n%s", diff)
	}
	if got := get[*appsv1.ReplicaSet](w, "shop", "api-abc").Annotations[schema.AnnotationSequence]; got != "2" {
		t.Errorf("sequence is %q, want 2", got)
	}
}

// A pod that is gone is replaced by one of another name: the sequence goes on.
func TestReplicaSetNeverNamesAPodTwice(t *testing.T) {
	w := testWorld(t)
	w.put(replicaSet(1))
	w.settle()
	seen := map[string]bool{}
	for range 5 {
		name := w.pods("shop")[0].Name
		if seen[name] {
			t.Fatalf("name %s came twice", name)
		}
		seen[name] = true
		w.tx.Delete(schema.Key{Kind: schema.KindPod, Namespace: "shop", Name: name})
		w.settle()
	}
}

func TestReplicaSetPicksWhomToLetGo(t *testing.T) {
	w := testWorld(t)
	w.put(replicaSet(8))
	w.settle()
	at := w.now
	shape := []struct {
		name string
		make func(p *corev1.Pod)
	}{
		{"unbound", func(p *corev1.Pod) {}},
		{"pending", func(p *corev1.Pod) { p.Spec.NodeName = "n1" }},
		{"not ready", func(p *corev1.Pod) { p.Spec.NodeName = "n1"; p.Status.Phase = corev1.PodRunning }},
		{"cheap", func(p *corev1.Pod) {
			p.Spec.NodeName = "n2"
			running(p, at)
			p.Annotations = map[string]string{corev1.PodDeletionCost: "-5"}
		}},
		{"crowded", func(p *corev1.Pod) { p.Spec.NodeName = "n3"; running(p, at.Add(time.Second)) }},
		{"ready for a shorter time", func(p *corev1.Pod) { p.Spec.NodeName = "n1"; running(p, at.Add(time.Second)) }},
		{"restarted", func(p *corev1.Pod) {
			p.Spec.NodeName = "n2"
			running(p, at)
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 3}}
		}},
		{"best", func(p *corev1.Pod) { p.Spec.NodeName = "n3"; running(p, at) }},
	}
	role := map[string]string{}
	for i, p := range w.pods("shop") {
		role[p.Name] = shape[i].name
		w.edit(p, shape[i].make)
	}
	w.run(nil)
	var order []string
	for n := int32(7); n >= 0; n-- {
		before := map[string]bool{}
		for _, p := range w.pods("shop") {
			before[p.Name] = active(p)
		}
		w.scaleSet(n)
		w.run(nil)
		for _, p := range w.pods("shop") {
			if before[p.Name] && active(p) {
				delete(before, p.Name)
			}
		}
		for name, was := range before {
			if was {
				order = append(order, role[name])
			}
		}
	}
	var want []string
	for _, s := range shape {
		want = append(want, s.name)
	}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

// A pod that is ready but not yet available goes before one that is, crowded or not.
func TestReplicaSetKeepsWhatIsAvailable(t *testing.T) {
	w := testWorld(t)
	rs := replicaSet(3)
	rs.Spec.MinReadySeconds = 10
	w.put(rs)
	w.settle()
	pods := w.pods("shop")
	for i, p := range pods {
		w.edit(p, func(p *corev1.Pod) {
			p.Spec.NodeName = []string{"n1", "n1", "n2"}[i]
			running(p, w.now.Add(time.Duration(-10*[]int{1, 1, 0}[i])*time.Second))
		})
	}
	w.settle()
	w.scaleSet(2)
	w.settle()
	if p := get[*corev1.Pod](w, "shop", pods[2].Name); p.DeletionTimestamp == nil {
		t.Errorf("the pod that is not available yet stays")
	}
}

func TestReplicaSetReplacesEndedPodsButNotWithoutEnd(t *testing.T) {
	w := testWorld(t)
	w.put(replicaSet(1))
	fail := func() {
		w.bind("n1")
		for _, p := range w.pods("shop") {
			if active(p) {
				w.edit(p, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
			}
		}
	}
	for range 20 {
		w.settle()
		fail()
	}
	if got := len(w.pods("shop")); got != MinEndedPods {
		t.Fatalf("%d pods ended one after the other in no time, want %d", got, MinEndedPods)
	}
	w.pass(DefaultEndedPodKept)
	w.reap()
	w.settle()
	if got := len(w.pods("shop")); got != 1 {
		t.Errorf("after a minute there are %d pods, want a new one alone", got)
	}
}

func TestReplicaSetStatusCountsMinReadySeconds(t *testing.T) {
	w := testWorld(t)
	rs := replicaSet(2)
	rs.Spec.MinReadySeconds = 10
	w.put(rs)
	w.live("n1")
	status := func() [3]int32 {
		s := get[*appsv1.ReplicaSet](w, "shop", "api-abc").Status
		return [3]int32{s.Replicas, s.ReadyReplicas, s.AvailableReplicas}
	}
	if got, want := status(), [3]int32{2, 2, 0}; got != want {
		t.Errorf("at once: got %v, want %v", got, want)
	}
	w.pass(10 * time.Second)
	if got, want := status(), [3]int32{2, 2, 2}; got != want {
		t.Errorf("after 10s: got %v, want %v", got, want)
	}
}

func TestManyPodsMakeFewEvents(t *testing.T) {
	w := testWorld(t)
	w.put(replicaSet(2500))
	w.settle()
	if got := len(w.pods("shop")); got != 2500 {
		t.Fatalf("got %d pods, want 2500", got)
	}
	if got := w.tx.Len(schema.KindEvent); got > 3*(MaxPodEvents+1) {
		t.Errorf("%d events for 2500 pods", got)
	}
}

func TestQoSClass(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList { return resources(cpu, memory) }
	tests := []struct {
		name     string
		requests corev1.ResourceList
		limits   corev1.ResourceList
		want     corev1.PodQOSClass
	}{
		{"nothing asked", nil, nil, corev1.PodQOSBestEffort},
		{"limits equal requests", list("1", "1Gi"), list("1", "1Gi"), corev1.PodQOSGuaranteed},
		{"limits above requests", list("1", "1Gi"), list("2", "1Gi"), corev1.PodQOSBurstable},
		{"requests alone", list("1", ""), nil, corev1.PodQOSBurstable},
		{"one limit missing", list("1", "1Gi"), list("1", ""), corev1.PodQOSBurstable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec := corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: tt.requests, Limits: tt.limits}}}}
			if got := qosClass(&spec); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
