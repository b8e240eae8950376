package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"fairlead/reconciler/health"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// tellNotes tells what a reader of the objects' and pods' lists would not see.
func (p *Plan) tellNotes(f *fork) {
	p.tellStaying(f)
	p.tellReadAtStart(f)
	gaps := p.tellGaps(f)
	p.tellRenames(f, gaps)
	slices.Sort(p.Notes)
}

func (p *Plan) note(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

func (o *Object) key() schema.Key {
	return schema.Key{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}
}

// name is the kind and the qualified name, "Deployment shop/api".
func (o *Object) name() string { return string(o.Kind) + " " + o.qualified() }

// tellStaying tells of objects that stay though what they came from goes: a Source's,
// and what is left in a Namespace.
func (p *Plan) tellStaying(f *fork) {
	for i := range p.Objects {
		o := &p.Objects[i]
		if o.Action != settle.Prune {
			continue
		}
		switch o.Kind {
		case schema.KindSource:
			if n := health.CountObjects(f.base, o.Name); n > 0 {
				p.note("source %s is followed no more: its %s stay as they are, and no commit changes them", o.Name, count(n, "object"))
			}
		case schema.KindNamespace:
			if n := objectsIn(f.tx, o.Name); n > 0 {
				p.note("Namespace %s goes, and %s stay in it", o.Name, count(n, "object"))
			}
		}
	}
}

// objectsIn counts what sources have put into a namespace.
func objectsIn(r state.Reader, namespace string) (n int) {
	for _, info := range schema.Kinds() {
		if !info.Desired || !info.Namespaced {
			continue
		}
		for obj := range r.List(info.Kind, namespace) {
			if metav1.GetControllerOfNoCopy(obj) == nil && schema.OriginOf(obj).Source != "" && obj.GetDeletionTimestamp() == nil {
				n++
			}
		}
	}
	return n
}

// annotationRestartedAt is what kubectl writes on a pod template to restart its pods.
const annotationRestartedAt = "kubectl.kubernetes.io/restartedAt"

// tellReadAtStart tells which pods go on with the old values of a ConfigMap or Secret
// that changes: those that run on and read it only when a container starts.
func (p *Plan) tellReadAtStart(f *fork) {
	known := map[string]map[schema.Key][]reader{} // by namespace
	for i := range p.Objects {
		o := &p.Objects[i]
		if o.Action != settle.Update || o.Kind != schema.KindConfigMap && o.Kind != schema.KindSecret {
			continue
		}
		if known[o.Namespace] == nil {
			known[o.Namespace] = f.readersIn(o.Namespace)
		}
		var names []string
		for _, r := range known[o.Namespace][o.key()] {
			if r.key == "" || o.changes(r.key) {
				names = append(names, r.workload)
			}
		}
		if names = slices.Compact(slices.Sorted(slices.Values(names))); len(names) > 0 {
			p.note("%s changes, which restarts nothing: %s %s it when containers start, and no later. "+
				"To restart them, give the annotation %s of the pod template another value in the same commit",
				o.name(), someOf(names), verb(names, "reads", "read"), annotationRestartedAt)
		}
	}
}

// reader is a workload that reads an object when its containers start: one key, or all
// of it.
type reader struct{ workload, key string }

// readersIn are the readers among the pods that the plan leaves running, by what they
// read. Of a workload's pods one tells of all.
func (f *fork) readersIn(namespace string) map[schema.Key][]reader {
	out, seen := map[schema.Key][]reader{}, map[string]bool{}
	for pod := range state.All[*corev1.Pod](f.tx, namespace) {
		name := f.maker(pod)
		if old, ok := state.PodByUID(f.base, pod.UID); !ok || !stays(pod) || !stays(old) || seen[name] {
			continue
		}
		seen[name] = true
		for ref := range schema.References(&pod.Spec) {
			if readAtStart(&pod.Spec, ref) {
				key := schema.Key{Kind: ref.Kind, Namespace: namespace, Name: ref.Name}
				out[key] = append(out[key], reader{name, ref.Key})
			}
		}
	}
	return out
}

// maker names what a pod is of, itself where nothing made it.
func (f *fork) maker(pod *corev1.Pod) string { return cmp.Or(f.lineage(pod).name, "Pod "+pod.Name) }

func verb(of []string, one, many string) string {
	if len(of) == 1 {
		return one
	}
	return many
}

// readAtStart reports whether a pod has what it refers to as environment or as a mount
// with a subPath, which do not follow the object.
func readAtStart(spec *corev1.PodSpec, ref schema.Reference) bool {
	if strings.Contains(ref.Field, ".env[") || strings.Contains(ref.Field, ".envFrom[") {
		return true
	}
	at := slices.IndexFunc(spec.Volumes, func(v corev1.Volume) bool { return mountedBySubPath(spec, v.Name) })
	for ; at >= 0 && at < len(spec.Volumes); at++ {
		if strings.HasPrefix(ref.Field, fmt.Sprintf("volumes[%d].", at)) && mountedBySubPath(spec, spec.Volumes[at].Name) {
			return true
		}
	}
	return false
}

// changes reports whether a key's value is among the changed fields.
func (o *Object) changes(key string) bool {
	return slices.ContainsFunc(o.Fields, func(f schema.FieldChange) bool { return strings.HasSuffix(f.Path, "["+key+"]") })
}

func mountedBySubPath(spec *corev1.PodSpec, volume string) bool {
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == volume && m.SubPath != "" }) {
			return true
		}
	}
	return false
}

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
		if !ok || schema.OriginOf(svc).Source != p.Source || len(was.Spec.Selector) == 0 || len(svc.Spec.Selector) == 0 {
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

// maxCompared bounds how many pairs of objects are looked at for renames: a commit
// that renames more than this has no reader who would want each of them told.
const maxCompared = 2_000

// tellRenames tells which objects go and come back under another name; those whose
// gap is told already are left out.
func (p *Plan) tellRenames(f *fork, told []string) {
	var gone, fresh []*Object
	for i := range p.Objects {
		switch o := &p.Objects[i]; o.Action {
		case settle.Prune:
			gone = append(gone, o)
		case settle.Create:
			fresh = append(fresh, o)
		}
	}
	if len(gone)*len(fresh) > maxCompared {
		return
	}
	for _, old := range gone {
		alike := slices.DeleteFunc(slices.Clone(fresh), func(o *Object) bool { return !f.alike(old.key(), o.key()) })
		if len(alike) != 1 || slices.Contains(told, string(old.Kind)+" "+old.Name) {
			continue
		}
		p.note("%s has what %s had: to the cluster that is no rename, the one goes and the other comes, both at once", alike[0].name(), old.name())
	}
}

// alike reports whether an object that comes has the content of one that goes, but for
// names, labels and what the cluster gave it.
func (f *fork) alike(goes, comes schema.Key) bool {
	was, is := f.base.Get(goes), f.tx.Get(comes)
	if goes.Kind != comes.Kind || was == nil || is == nil {
		return false
	}
	// Two that are no more than their names are no renaming.
	return differInContent(schema.Info(goes.Kind).New(), was) && !differInContent(was, is)
}

func differInContent(a, b schema.Object) bool {
	return slices.ContainsFunc(schema.Diff(a, b), func(c schema.FieldChange) bool {
		return !strings.HasPrefix(c.Path, "metadata.") && !strings.Contains(c.Path, "abels") && !strings.HasPrefix(c.Path, "spec.selector") &&
			!strings.HasSuffix(c.Path, "clusterIP") && !strings.HasSuffix(c.Path, "nodePort")
	})
}
