package plan

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// maxGaps bounds how many services are looked at for gaps, each against all pods of its
// namespace; nobody reads more of such notes.
const maxGaps = 100

// tellGaps tells of services whose pods all go at once while those that come in their
// place are not ready yet: their workload is pruned, or no longer selected, in the
// same revision that brings another. It returns the workloads that it names.
func (p *Plan) tellGaps(f *fork) (named []string) {
	for _, svc := range p.shaken(f) {
		was, _ := state.Get[*corev1.Service](f.base, svc.Namespace, svc.Name)
		going, comes := f.makers(f.base, was), f.makers(f.tx, svc)
		if len(going) == 0 || len(comes) == 0 || !f.leavesAtOnce(was, svc) {
			continue
		}
		later := "take " + someOf(going) + " away"
		if !maps.Equal(was.Spec.Selector, svc.Spec.Selector) {
			later = "change the selector"
		}
		p.note("Service %s/%s has no ready pod for a while: those of %s leave it at once, before those of %s are ready. "+
			"To have no gap, add %s in one commit and %s in the next, once its pods are ready",
			svc.Namespace, svc.Name, someOf(going), someOf(comes), someOf(comes), later)
		named = append(named, going...)
	}
	return named
}

// shaken are the services of the source that were there before, that select pods, and
// that changed or have pods in a namespace from which something is pruned.
func (p *Plan) shaken(f *fork) (out []*corev1.Service) {
	changed, pruned := map[schema.Key]bool{}, map[string]bool{}
	for i := range p.Objects {
		o := &p.Objects[i]
		changed[o.key()] = true
		if info := schema.Info(o.Kind); o.Action == settle.Prune && info.Namespaced {
			pruned[o.Namespace] = true
		}
	}
	if len(changed) == 0 {
		return nil
	}
	for svc := range state.All[*corev1.Service](f.tx, "") {
		was, ok := state.Get[*corev1.Service](f.base, svc.Namespace, svc.Name)
		if !ok || schema.SourceOf(svc) != p.Source || len(was.Spec.Selector) == 0 || len(svc.Spec.Selector) == 0 {
			continue
		}
		if pruned[svc.Namespace] || changed[schema.KeyOf(svc)] {
			out = append(out, svc)
		}
		if len(out) == maxGaps {
			break
		}
	}
	return out
}

// selected are the pods that stay of those that a service selects.
func selected(r state.Reader, svc *corev1.Service) (pods []*corev1.Pod) {
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	for pod := range state.All[*corev1.Pod](r, svc.Namespace) {
		if stays(pod) && selector.Matches(labels.Set(pod.Labels)) {
			pods = append(pods, pod)
		}
	}
	return pods
}

// makers names what made the pods that a service selects, sorted.
func (f *fork) makers(r state.Reader, svc *corev1.Service) (names []string) {
	for _, pod := range selected(r, svc) {
		names = append(names, f.maker(pod))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// leavesAtOnce reports whether each pod that the service had leaves it without waiting
// for another, and none that it selects then was there.
func (f *fork) leavesAtOnce(was, is *corev1.Service) bool {
	selector := labels.SelectorFromSet(is.Spec.Selector)
	for _, pod := range selected(f.base, was) {
		l := f.lineage(pod)
		pruned := l.topWas != nil && l.topIs == nil || l.name == "" && !f.isThere(pod)
		if selector.Matches(labels.Set(pod.Labels)) && !pruned {
			return false
		}
	}
	return !slices.ContainsFunc(selected(f.tx, is), func(pod *corev1.Pod) bool {
		_, ok := state.PodByUID(f.base, pod.UID)
		return ok
	})
}

func (f *fork) isThere(pod *corev1.Pod) bool {
	now, ok := state.PodByUID(f.tx, pod.UID)
	return ok && stays(now)
}
