package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/scheduler"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

func (p *Plan) tellObjects(changes []settle.ObjectChange) {
	for _, ch := range changes {
		p.Objects = append(p.Objects, Object{
			Action: ch.Action, Kind: ch.Key.Kind, Namespace: ch.Key.Namespace, Name: ch.Key.Name,
			Position: ch.Position.String(), Commit: ch.Commit, Fields: append([]schema.FieldChange{}, ch.Fields...), Reason: objectReason(ch),
		})
	}
}

func objectReason(ch settle.ObjectChange) string {
	switch {
	case ch.Action == settle.Create:
		return "new in the tree"
	case ch.Action == settle.Prune:
		return "no longer in the tree"
	case len(ch.Fields) == 0:
		return "taken over by the source"
	}
	return count(len(ch.Fields), "field") + " changed"
}

// tellPods compares the fork's end with its beginning.
func (p *Plan) tellPods(f *fork) {
	for _, ch := range f.tx.Changes() {
		if ch.Key.Kind == schema.KindPod {
			old, _ := ch.Old.(*corev1.Pod)
			next, _ := ch.New.(*corev1.Pod)
			p.tellPod(f, old, next)
		}
	}
	slices.SortFunc(p.Pods, func(a, b Pod) int {
		return cmp.Or(cmp.Compare(a.Action, b.Action), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(p.Unplaced, func(a, b Unplaced) int { return cmp.Compare(a.Pod, b.Pod) })
	for _, u := range p.Unplaced {
		p.Reasons = append(p.Reasons, noNode(u.Pod))
	}
	p.stranded(f)
	// What waits for a node keeps its rollout from settling, and is told above.
	if f.bound != "" && len(p.Unplaced) == 0 {
		p.Reasons = append(p.Reasons, f.bound)
	}
	if len(p.Pods) > 0 {
		p.tellCapacity(f)
	}
}

// tellPod tells what became of one pod. One of another UID under the same name is
// another pod; one that had no node and has one now starts.
func (p *Plan) tellPod(f *fork, old, next *corev1.Pod) {
	same := old != nil && next != nil && old.UID == next.UID
	if old != nil && stays(old) && (!same || !stays(next)) {
		p.Pods = append(p.Pods, Pod{
			Action: "stop", Namespace: old.Namespace, Name: old.Name, Owner: ownerOf(old), From: schema.NodeName(old.Spec.NodeName), Reason: f.stopReason(old),
		})
	}
	if next == nil || !stays(next) || same && (old.Spec.NodeName != "" || next.Spec.NodeName == "") {
		return
	}
	start := Pod{Action: "start", Namespace: next.Namespace, Name: next.Name, Owner: ownerOf(next), Node: schema.NodeName(next.Spec.NodeName)}
	switch {
	case next.Spec.NodeName == "":
		start.Reason = "no node takes it"
		p.Unplaced = append(p.Unplaced, Unplaced{Pod: next.Namespace + "/" + next.Name, Nodes: f.refusal(next)})
	case same:
		start.Reason = "there is room for it now"
	default:
		start.Reason = f.startReason(next)
	}
	p.Pods = append(p.Pods, start)
}

func noNode(pod string) string { return "no node takes pod " + pod }

func stays(pod *corev1.Pod) bool { return pod.DeletionTimestamp == nil }

func ownerOf(pod *corev1.Pod) string {
	if ref := metav1.GetControllerOf(pod); ref != nil {
		return ref.Kind + "/" + ref.Name
	}
	return ""
}

// lineage is what made a pod, before and after the plan; nil for what is not there.
type lineage struct {
	name                string // of the deployment, else of the replica set; "" for a bare pod
	setWas, setIs       *appsv1.ReplicaSet
	deployWas, deployIs *appsv1.Deployment
}

func (f *fork) lineage(pod *corev1.Pod) lineage {
	ref := metav1.GetControllerOf(pod)
	if ref == nil || ref.Kind != string(schema.KindReplicaSet) {
		return lineage{}
	}
	l := lineage{name: "ReplicaSet " + ref.Name}
	l.setWas, _ = state.Get[*appsv1.ReplicaSet](f.base, pod.Namespace, ref.Name)
	l.setIs, _ = state.Get[*appsv1.ReplicaSet](f.tx, pod.Namespace, ref.Name)
	set := l.setIs
	if set == nil {
		set = l.setWas
	}
	if set == nil || metav1.GetControllerOf(set) == nil {
		return l
	}
	deployment := metav1.GetControllerOf(set)
	l.name = deployment.Kind + " " + deployment.Name
	l.deployWas, _ = state.Get[*appsv1.Deployment](f.base, pod.Namespace, deployment.Name)
	l.deployIs, _ = state.Get[*appsv1.Deployment](f.tx, pod.Namespace, deployment.Name)
	return l
}

func (f *fork) startReason(pod *corev1.Pod) string {
	l := f.lineage(pod)
	was, is := replicas(l.deployWas), replicas(l.deployIs)
	switch {
	case f.causes[pod.UID] != "" && l.name != "":
		return f.causes[pod.UID] + ": another for " + l.name
	case l.name == "":
		return "new in the tree"
	case l.deployWas == nil && l.deployIs != nil:
		return "new " + l.name
	case l.setWas == nil:
		return "new template of " + l.name
	case l.setWas.Spec.Replicas != nil && *l.setWas.Spec.Replicas == 0:
		return "earlier template of " + l.name
	case was < is:
		return fmt.Sprintf("%s wants %d, had %d", l.name, is, was)
	}
	return "wanted by " + l.name
}

func (f *fork) stopReason(pod *corev1.Pod) string {
	l := f.lineage(pod)
	was, is := replicas(l.deployWas), replicas(l.deployIs)
	switch {
	case f.causes[pod.UID] != "" && l.name == "":
		return f.causes[pod.UID] + ", and nothing makes this pod again"
	case f.causes[pod.UID] != "":
		return f.causes[pod.UID]
	case l.name == "":
		return "no longer in the tree"
	case l.deployIs == nil:
		return l.name + " is pruned"
	case l.setIs == nil || !schema.HasTemplateOf(l.setIs, l.deployIs):
		return "old template of " + l.name
	case is < was:
		return fmt.Sprintf("%s wants %d, had %d", l.name, is, was)
	}
	return "no longer wanted by " + l.name
}

func replicas(d *appsv1.Deployment) int32 {
	switch {
	case d == nil:
		return 0
	case d.Spec.Replicas == nil:
		return 1
	}
	return *d.Spec.Replicas
}

// tellCapacity sums what is requested before and after, for each node and resource.
func (p *Plan) tellCapacity(f *fork) {
	before, after := requested(f.base), requested(f.tx)
	for node := range state.All[*corev1.Node](f.tx, "") {
		name := schema.NodeName(node.Name)
		for _, res := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourcePods} {
			allocatable, b, a := node.Status.Allocatable[res], before[node.Name][res], after[node.Name][res]
			if slices.Contains(p.Lose, name) {
				allocatable, a = resource.Quantity{}, resource.Quantity{}
			}
			p.Capacity = append(p.Capacity, Capacity{Node: name, Resource: string(res), Allocatable: allocatable.String(), Before: b.String(), After: a.String()})
		}
	}
}

func requested(r state.Reader) map[string]map[corev1.ResourceName]resource.Quantity {
	out := map[string]map[corev1.ResourceName]resource.Quantity{}
	for node := range state.All[*corev1.Node](r, "") {
		sums := map[corev1.ResourceName]resource.Quantity{}
		pods := 0
		for pod := range state.By[*corev1.Pod](r, state.PodsByNode, node.Name) {
			if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
				continue
			}
			pods++
			for res, q := range scheduler.Requests(pod) {
				sum := sums[res]
				sum.Add(q)
				sums[res] = sum
			}
		}
		sums[corev1.ResourcePods] = resource.MustParse(strconv.Itoa(pods))
		out[node.Name] = sums
	}
	return out
}
