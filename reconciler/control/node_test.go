package control

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
)

func taintNames(w *world, name string) []string {
	var out []string
	for _, t := range get[*corev1.Node](w, "", name).Spec.Taints {
		out = append(out, t.ToString())
	}
	return out
}

func onNode(w *world, name string) (out []string) {
	for p := range state.By[*corev1.Pod](w.tx, state.PodsByNode, name) {
		if active(p) {
			out = append(out, p.Name)
		}
	}
	return out
}

func TestNodeTaints(t *testing.T) {
	own := corev1.Taint{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}
	tests := []struct {
		name string
		node corev1.Node
		want []string
	}{
		{"ready", corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}, []string{"gpu:NoSchedule"}},
		{"not ready", corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}}},
			[]string{"gpu:NoSchedule", "node.kubernetes.io/not-ready:NoSchedule", "node.kubernetes.io/not-ready:NoExecute"}},
		{"silent", corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}}},
			[]string{"gpu:NoSchedule", "node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"}},
		{"cordoned", corev1.Node{Spec: corev1.NodeSpec{Unschedulable: true}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}},
			[]string{"gpu:NoSchedule", "node.kubernetes.io/unschedulable:NoSchedule"}},
		{"under pressure", corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}, {Type: corev1.NodeMemoryPressure, Status: corev1.ConditionTrue}, {Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue}, {Type: corev1.NodePIDPressure, Status: corev1.ConditionTrue}, {Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue}}}},
			[]string{"gpu:NoSchedule", "node.kubernetes.io/memory-pressure:NoSchedule", "node.kubernetes.io/disk-pressure:NoSchedule", "node.kubernetes.io/pid-pressure:NoSchedule", "node.kubernetes.io/network-unavailable:NoSchedule"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.node.Name = "n1"
			tt.node.Spec.Taints = []corev1.Taint{own}
			w.put(&tt.node)
			w.settle()
			if diff := cmp.Diff(tt.want, taintNames(w, "n1")); diff != "" {
				t.Errorf("taints (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPodsOfALostNodeAreReplacedInTime(t *testing.T) {
	w := testWorld(t)
	w.put(deployment(replicas(2)))
	forever := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "patient", Namespace: "shop"}, Spec: corev1.PodSpec{NodeName: "n1", Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}}}
	PreparePod(w.context(), forever)
	w.put(forever)
	w.live("n1")
	w.setNodeReady("n1", corev1.ConditionUnknown)
	w.settle()
	w.pass(299 * time.Second)
	if got := len(onNode(w, "n1")); got != 3 {
		t.Errorf("before the time %d pods stay, want 3", got)
	}
	w.pass(time.Second)
	if diff := cmp.Diff([]string{"patient"}, onNode(w, "n1")); diff != "" {
		t.Errorf("after it (-want +got):\n%s", diff)
	}
	fresh := 0
	for _, p := range w.pods("shop") {
		if p.Spec.NodeName == "" {
			fresh++
		}
	}
	if fresh != 2 {
		t.Errorf("%d new pods, want 2", fresh)
	}
	if !slices.Contains(events(w), "Normal Pod Terminating: node n1 has taint node.kubernetes.io/unreachable:NoExecute") {
		t.Errorf("nobody says why: %v", events(w))
	}
}

// A pod that a node which cannot work never started is made anew elsewhere, soon; one
// that ran there has its whole time.
func TestWhatANodeNeverStartedGoesElsewhere(t *testing.T) {
	w := testWorld(t)
	w.put(deployment(replicas(2)))
	w.live("n1")
	w.edit(w.pods("shop")[0], func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodPending
	})
	w.edit(w.pods("shop")[1], func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodPending // of two containers one is not up yet
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "api", ContainerID: "podman://x"}}
	})
	ran := w.pods("shop")[1].Name
	w.setNodeReady("n1", corev1.ConditionFalse)
	w.settle()
	w.pass(29 * time.Second)
	if got := len(onNode(w, "n1")); got != 2 {
		t.Errorf("before the time %d pods stay, want 2", got)
	}
	w.pass(time.Second)
	if diff := cmp.Diff([]string{ran}, onNode(w, "n1")); diff != "" {
		t.Errorf("after it (-want +got):\n%s", diff)
	}
}

func TestANodeThatComesBackKeepsItsPods(t *testing.T) {
	w := testWorld(t)
	w.put(deployment())
	w.live("n1")
	w.setNodeReady("n1", corev1.ConditionUnknown)
	w.settle()
	w.pass(200 * time.Second)
	w.setNodeReady("n1", corev1.ConditionTrue)
	w.settle()
	w.pass(time.Hour)
	if got := len(onNode(w, "n1")); got != 3 {
		t.Errorf("%d pods stay, want 3", got)
	}
	if got := taintNames(w, "n1"); len(got) != 0 {
		t.Errorf("taints are left: %v", got)
	}
}

func TestAPodWithoutToleranceGoesAtOnce(t *testing.T) {
	w := testWorld(t)
	w.put(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "hasty", Namespace: "shop"}, Spec: corev1.PodSpec{NodeName: "n1"}})
	w.setNodeReady("n1", corev1.ConditionFalse)
	w.settle()
	if got := onNode(w, "n1"); len(got) != 0 {
		t.Errorf("%v stay", got)
	}
}

func TestPodsOfASilentNodeLeaveTheirServices(t *testing.T) {
	w := testWorld(t)
	w.put(service("api"), deployment())
	w.live("n1", "n2", "n3")
	w.setNodeReady("n2", corev1.ConditionUnknown)
	w.settle()
	var serving []string
	for _, s := range slicesOfService(w, "api") {
		for _, e := range s.Endpoints {
			if *e.Conditions.Ready {
				serving = append(serving, *e.NodeName)
			}
		}
	}
	slices.Sort(serving)
	if diff := cmp.Diff([]string{"n1", "n3"}, serving); diff != "" {
		t.Errorf("nodes that serve (-want +got):\n%s", diff)
	}
	if got := get[*appsv1.Deployment](w, "shop", "api").Status.AvailableReplicas; got != 2 {
		t.Errorf("%d pods available, want 2", got)
	}
}
