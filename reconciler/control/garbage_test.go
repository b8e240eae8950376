package control

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

func TestADeletedDeploymentTakesItsPodsAlong(t *testing.T) {
	w := testWorld(t)
	w.put(deployment())
	w.settle()
	w.tx.Delete(schema.Key{Kind: schema.KindDeployment, Namespace: "shop", Name: "api"})
	w.settle()
	if n := w.tx.Len(schema.KindReplicaSet) + w.tx.Len(schema.KindPod); n != 0 {
		t.Errorf("%d replica sets and unbound pods are left", n)
	}
	w.put(deployment())
	w.live("n1")
	w.tx.Delete(schema.Key{Kind: schema.KindDeployment, Namespace: "shop", Name: "api"})
	w.settle()
	for _, p := range w.pods("shop") {
		if p.DeletionTimestamp == nil {
			t.Errorf("bound pod %s does not terminate", p.Name)
		}
	}
	if got := len(w.pods("shop")); got != 3 {
		t.Errorf("%d pods terminate on their node, want 3", got)
	}
}

// What is found without its owner goes, though nobody saw the owner go.
func TestOrphansAreFound(t *testing.T) {
	w := testWorld(t)
	gone := deployment()
	gone.UID = "gone"
	rs := replicaSet(1)
	rs.OwnerReferences = []metav1.OwnerReference{ownerRef(gone)}
	w.put(rs)
	w.settle()
	if n := w.tx.Len(schema.KindReplicaSet) + w.tx.Len(schema.KindPod); n != 0 {
		t.Errorf("%d orphans are left", n)
	}
}

func TestAPodOfANodeThatIsGone(t *testing.T) {
	w := testWorld(t)
	w.put(deployment())
	w.live("n1", "n2", "n3")
	w.tx.Delete(schema.Key{Kind: schema.KindNode, Name: "n2"})
	w.settle()
	for _, p := range w.pods("shop") {
		if p.Spec.NodeName == "n2" {
			t.Errorf("pod %s is still bound to n2", p.Name)
		}
	}
	if got := len(w.pods("shop")); got != 3 {
		t.Errorf("got %d pods, want 3", got)
	}
}

func TestDeletePod(t *testing.T) {
	grace := int64(7)
	bound := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bound", Namespace: "shop"}, Spec: corev1.PodSpec{NodeName: "n1", TerminationGracePeriodSeconds: &grace}}
	free := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "free", Namespace: "shop"}}
	w := testWorld(t)
	w.put(bound, free)
	DeletePod(w.context(), free, "no longer wanted")
	DeletePod(w.context(), bound, "no longer wanted")
	if _, ok := state.Get[*corev1.Pod](w.tx, "shop", "free"); ok {
		t.Errorf("the unbound pod is still there")
	}
	p := get[*corev1.Pod](w, "shop", "bound")
	if p.DeletionTimestamp == nil || !p.DeletionTimestamp.Time.Equal(start.Add(7*time.Second)) || *p.DeletionGracePeriodSeconds != 7 {
		t.Errorf("deletion at %v, grace %v", p.DeletionTimestamp, p.DeletionGracePeriodSeconds)
	}
	rv := p.ResourceVersion
	w.now = w.now.Add(time.Second)
	DeletePod(w.context(), p, "again")
	if got := get[*corev1.Pod](w, "shop", "bound").ResourceVersion; got != rv {
		t.Errorf("deleting twice changed the pod")
	}
	want := []string{"Normal Pod Deleted: no longer wanted", "Normal Pod Terminating: no longer wanted"}
	if diff := cmp.Diff(want, events(w)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestEventsAreCounted(t *testing.T) {
	w := newWorld(t)
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	w.put(n)
	for range 3 {
		Event(w.context(), n, corev1.EventTypeWarning, "Silent", "no word")
		w.now = w.now.Add(time.Second)
	}
	long := make([]byte, 2*MaxEventMessage)
	for i := range long {
		long[i] = "é"[i%2]
	}
	Event(w.context(), n, corev1.EventTypeWarning, "Silent", "x"+string(long))
	if got := w.tx.Len(schema.KindEvent); got != 2 {
		t.Fatalf("got %d events, want 2", got)
	}
	for e := range state.All[*corev1.Event](w.tx, "default") {
		switch e.Count {
		case 3:
			if !e.FirstTimestamp.Time.Equal(start) || !e.LastTimestamp.Time.Equal(start.Add(2*time.Second)) {
				t.Errorf("first %s, last %s", e.FirstTimestamp, e.LastTimestamp)
			}
		default:
			if len(e.Message) != MaxEventMessage-1 {
				t.Errorf("message has %d bytes, want to be cut before the rune that does not fit", len(e.Message))
			}
		}
	}
}

func TestNamespaceIsActive(t *testing.T) {
	w := newWorld(t)
	w.put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
	w.settle()
	if got := get[*corev1.Namespace](w, "", "shop").Status.Phase; got != corev1.NamespaceActive {
		t.Errorf("phase is %q", got)
	}
}
