package plan

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/control"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/layout"
)

// drain does to a node what an operator does before work on it: it takes no new
// pods, and those it has go one after the other, each when the last one's
// successor is ready.
func (f *fork) drain(name schema.NodeName) {
	f.happens = "node " + string(name) + " is drained"
	node, _ := state.Get[*corev1.Node](f.tx, "", string(name))
	next := state.Edit(node)
	next.Spec.Unschedulable = true
	f.tx.Put(next)
	f.run()
	for _, pod := range slices.Collect(state.By[*corev1.Pod](f.tx, state.PodsByNode, string(name))) {
		if live, ok := state.PodByUID(f.tx, pod.UID); ok {
			control.DeletePod(f.context(), live, f.happens)
			f.run()
		}
	}
	f.happens = ""
}

// lose lets nodes fall silent all at once, so long ago that the pods' tolerance
// is over: the node controller lets them go at once.
func (f *fork) lose(names []schema.NodeName) {
	f.happens = "node " + joinNodes(names) + " is lost"
	if len(names) > 1 {
		f.happens = "nodes " + joinNodes(names) + " are lost"
	}
	for _, name := range names {
		node, _ := state.Get[*corev1.Node](f.tx, "", string(name))
		f.tx.Put(silent(node, f.now))
	}
	f.run()
	f.happens = ""
}

func silent(node *corev1.Node, now time.Time) *corev1.Node {
	next := state.Edit(node)
	next.Status.Conditions = append(
		slices.DeleteFunc(next.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady }),
		corev1.NodeCondition{
			Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeLost", Message: "lost in this plan", LastTransitionTime: metav1.NewTime(now),
		})
	longAgo := metav1.NewTime(time.Unix(0, 0))
	next.Spec.Taints = slices.DeleteFunc(next.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeUnreachable })
	for _, effect := range []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute} {
		next.Spec.Taints = append(next.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: effect, TimeAdded: &longAgo})
	}
	return next
}

// stranded lists the pods that stay bound to lost nodes: they tolerate that for
// good, so nothing replaces them. It returns how many they are.
func (p *Plan) stranded(f *fork) (n int) {
	for _, name := range p.Lose {
		var pods []string
		for pod := range state.By[*corev1.Pod](f.tx, state.PodsByNode, string(name)) {
			if pod.DeletionTimestamp == nil {
				pods = append(pods, pod.Namespace+"/"+pod.Name)
			}
		}
		if len(pods) > 0 {
			p.Reasons = append(p.Reasons, fmt.Sprintf("%s stay on node %s, whose loss they tolerate for good: %s", layout.Count(len(pods), "pod"), name, someOf(pods)))
		}
		n += len(pods)
	}
	return n
}
