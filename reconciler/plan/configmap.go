package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// annotationRestartedAt is what kubectl writes on a pod template to restart its pods.
const annotationRestartedAt = "kubectl.kubernetes.io/restartedAt"

// tellReadAtStart tells which pods go on with the old values of a ConfigMap or Secret
// that changes: those that run on and read it only when a container starts.
func (p *Plan) tellReadAtStart(f *fork) {
	known := map[string]map[schema.Key][]reader{} // by namespace
	for i := range p.Objects {
		o := &p.Objects[i]
		if o.Action != settle.Update || !schema.MayTake(o.Kind) {
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

// waitsFor is the first ConfigMap or Secret without which a pod's containers cannot start
// and that is not there.
func (f *fork) waitsFor(pod *corev1.Pod) (schema.Key, bool) {
	for ref := range schema.References(&pod.Spec) {
		key := schema.Key{Kind: ref.Kind, Namespace: pod.Namespace, Name: ref.Name}
		if !ref.Optional && ref.Name != "" && f.tx.Get(key) == nil {
			return key, true
		}
	}
	return schema.Key{}, false
}

// tellAwaited tells which pods wait for what nobody declares.
func (p *Plan) tellAwaited(f *fork) {
	for key, makers := range f.awaited {
		p.note("pods of %s wait until %s is there", someOf(slices.Compact(slices.Sorted(slices.Values(makers)))), key)
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
// with a subPath or subPathExpr, which do not follow the object.
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
		if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == volume && (m.SubPath != "" || m.SubPathExpr != "") }) {
			return true
		}
	}
	return false
}
