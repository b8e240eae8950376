package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/scheduler"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/layout"
)

func (p *Plan) tellObjects(changes []settle.ObjectChange) {
	left := maxWritten
	for _, ch := range changes {
		o := Object{
			Action: ch.Action, Kind: ch.Key.Kind, Namespace: ch.Key.Namespace, Name: ch.Key.Name,
			Position: ch.Position.String(), Commit: ch.Commit, Fields: append([]schema.FieldChange{}, ch.Fields...), Reason: objectReason(ch),
		}
		if ch.Desired != nil {
			o.By = ch.Desired.Made()
			o.SetBy = setBy(o.Fields, ch.Desired, left)
			left -= len(o.Fields)
		}
		p.Objects = append(p.Objects, o)
	}
}

// maxWritten bounds the fields of which it is told what sets them: for each, what its
// object was built as is read again.
const maxWritten = 1_000

// setBy is what sets the first of some fields, as many as are left.
func setBy(fields []schema.FieldChange, d *schema.Desired, left int) (out []SetBy) {
	if d.Maker == nil {
		return nil
	}
	for _, f := range fields[:max(0, min(len(fields), left))] {
		if at := d.Locate(f.Path); f.To != "" && d.Maker(at) != "" {
			out = append(out, SetBy{f.Path, d.Maker(at), at.String()})
		}
	}
	return out
}

func objectReason(ch settle.ObjectChange) string {
	switch {
	case ch.Action == settle.Create:
		return "new in the tree"
	case ch.Action == settle.Prune:
		return "no longer in the tree"
	case ch.Action == settle.Replace:
		return "it cannot change in place and asks to be replaced: it is deleted with its pods and created again"
	case len(ch.Fields) == 0:
		return "taken over by the source"
	}
	return layout.Count(len(ch.Fields), "field") + " changed"
}

// tellPods compares the fork's end with its beginning. It returns how many pods are
// lost with their nodes for good.
func (p *Plan) tellPods(f *fork) (lost int) {
	for _, ch := range f.tx.Changes() {
		if ch.Key.Kind != schema.KindPod {
			continue
		}
		old, _ := ch.Old.(*corev1.Pod)
		next, _ := ch.New.(*corev1.Pod)
		if old != nil && p.tellsOf(f, old) || next != nil && p.tellsOf(f, next) {
			p.tellPod(f, old, next)
		}
		if old != nil && f.lostForGood(old) {
			lost++
		}
	}
	slices.SortFunc(p.Pods, func(a, b Pod) int {
		return cmp.Or(cmp.Compare(a.Action, b.Action), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(p.Unplaced, func(a, b Unplaced) int { return cmp.Compare(a.Pod, b.Pod) })
	for _, u := range p.Unplaced {
		p.Reasons = append(p.Reasons, noNode(u.Pod))
	}
	lost += p.stranded(f)
	for _, owner := range slices.Sorted(maps.Keys(f.unforeseen)) {
		p.Reasons = append(p.Reasons, "this version does not know what becomes of the pods of "+owner+": they are planned as if they never started")
	}
	// What waits for a node keeps its rollout from settling, and is told above.
	if f.bound != "" && len(p.Unplaced) == 0 {
		p.Reasons = append(p.Reasons, f.bound)
	}
	if len(p.Pods) > 0 {
		p.tellCapacity(f)
	}
	return lost
}

// tellsOf reports whether a pod is the plan's: its own source's, or one that what
// befalls the nodes moves. Others have rollouts of their own under way.
func (p *Plan) tellsOf(f *fork, pod *corev1.Pod) bool {
	return p.Source == "" || f.causes[pod.UID] != "" || schema.SourceOf(pod) == p.Source
}

// lostForGood reports whether a pod goes with its node and nothing makes it again.
func (f *fork) lostForGood(pod *corev1.Pod) bool {
	return f.causes[pod.UID] != "" && f.lineage(pod).name == "" && stays(pod)
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

// maxOwners bounds how far a pod's owners are followed; nothing here makes more in a
// row.
const maxOwners = 4

// lineage is what made a pod, before and after the plan; nil for what is not there.
type lineage struct {
	name            string        // of what made it in the end; "" for a bare pod
	madeWas, madeIs schema.Object // what made the pod itself
	topWas, topIs   schema.Object // what made that in the end, or the same
}

func (f *fork) lineage(pod *corev1.Pod) lineage {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil {
		return lineage{}
	}
	l := lineage{name: ref.Kind + " " + ref.Name}
	l.madeWas, l.madeIs = f.both(pod.Namespace, ref)
	l.topWas, l.topIs = l.madeWas, l.madeIs
	for range maxOwners {
		top := l.topIs
		if top == nil {
			top = l.topWas
		}
		if top == nil {
			break
		}
		if ref = metav1.GetControllerOfNoCopy(top); ref == nil {
			break
		}
		l.name = ref.Kind + " " + ref.Name
		l.topWas, l.topIs = f.both(pod.Namespace, ref)
	}
	return l
}

// both is an owner before and after the plan.
func (f *fork) both(namespace string, ref *metav1.OwnerReference) (was, is schema.Object) {
	info, ok := schema.Lookup(schema.Kind(ref.Kind))
	if !ok {
		return nil, nil
	}
	if !info.Namespaced {
		namespace = ""
	}
	key := schema.Key{Kind: info.Kind, Namespace: namespace, Name: ref.Name}
	return f.base.Get(key), f.tx.Get(key)
}

// indirect reports whether something stands between the pod and what made it in the
// end.
func (l *lineage) indirect() bool { return l.topWas != l.madeWas || l.topIs != l.madeIs }

// isReplaced reports whether another of its name takes the place of what made the pod.
func (l *lineage) isReplaced() bool {
	return l.topWas != nil && l.topIs != nil && l.topWas.GetUID() != l.topIs.GetUID()
}

func (f *fork) startReason(pod *corev1.Pod) string {
	l := f.lineage(pod)
	was, is := f.count(l.topWas), f.count(l.topIs)
	switch {
	case f.causes[pod.UID] != "" && l.name != "":
		return f.causes[pod.UID] + ": another for " + l.name
	case l.name == "":
		return "new in the tree"
	case l.topWas == nil && l.topIs != nil:
		return "new " + l.name
	case l.isReplaced():
		return l.name + " is replaced"
	case l.madeWas == nil:
		return "new template of " + l.name
	case l.indirect() && f.count(l.madeWas) == 0:
		return "earlier template of " + l.name
	case was < is:
		return fmt.Sprintf("%s wants %d, had %d", l.name, is, was)
	}
	return "wanted by " + l.name
}

func (f *fork) stopReason(pod *corev1.Pod) string {
	l := f.lineage(pod)
	was, is := f.count(l.topWas), f.count(l.topIs)
	switch {
	case f.lostForGood(pod):
		return f.causes[pod.UID] + ", and nothing makes this pod again"
	case f.causes[pod.UID] != "":
		return f.causes[pod.UID]
	case l.name == "":
		return "no longer in the tree"
	case l.topIs == nil:
		return l.name + " is pruned"
	case l.isReplaced():
		return l.name + " is replaced"
	case l.indirect() && !f.isCurrent(l.topIs, l.madeIs):
		return "old template of " + l.name
	case is < was:
		return fmt.Sprintf("%s wants %d, had %d", l.name, is, was)
	}
	return "no longer wanted by " + l.name
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
