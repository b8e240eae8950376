package schema

import (
	"fmt"
	"slices"
	"strings"
)

// Rights are what the trees of a source may ask for. The zero Rights are none.
type Rights struct {
	AnyNamespace bool
	Namespaces   []string // sorted; those of its objects, unless any
	AnyKind      bool
	ClusterKinds []Kind // sorted; the cluster-scoped kinds it may declare, unless any
	PodSecurity  SecurityLevel
	HostPath     bool // volumes of type hostPath, where PodSecurity allows them too
}

// anyClusterKind stands in a SourceSpec for all cluster-scoped kinds.
const anyClusterKind = "*"

// AllRights are those of a source that nobody limits.
func AllRights() Rights {
	return Rights{AnyNamespace: true, AnyKind: true, PodSecurity: PrivilegedLevel, HostPath: true}
}

// OwnSourceSpec is the spec of a source of the master's configuration, which has all
// rights that it does not give up. Sources that trees declare have the narrow defaults
// of DefaultSourceSpec.
func OwnSourceSpec(spec SourceSpec) SourceSpec {
	if spec.ClusterKinds == nil {
		spec.ClusterKinds = []string{anyClusterKind}
	}
	setDefault(&spec.PodSecurity, PrivilegedLevel)
	setPointer(&spec.HostPath, spec.PodSecurity == PrivilegedLevel)
	return DefaultSourceSpec(spec)
}

// Rights are those that a defaulted spec names. Which of them are in force depends on
// the source that declared it.
func (s *SourceSpec) Rights() Rights {
	r := Rights{
		AnyNamespace: len(s.Namespaces) == 0, Namespaces: slices.Compact(slices.Sorted(slices.Values(s.Namespaces))),
		PodSecurity: s.PodSecurity, HostPath: isTrue(s.HostPath),
	}
	if s.PodSecurity == "" { // of a version that knew no rights
		r.PodSecurity = BaselineLevel
	}
	for _, kind := range s.ClusterKinds {
		r.AnyKind = r.AnyKind || kind == anyClusterKind
		r.ClusterKinds = append(r.ClusterKinds, Kind(kind))
	}
	slices.Sort(r.ClusterKinds)
	r.ClusterKinds = slices.Compact(r.ClusterKinds)
	if r.AnyKind {
		r.ClusterKinds = nil
	}
	return r
}

// And are the rights that both have.
func (r Rights) And(o Rights) Rights {
	out := Rights{
		AnyNamespace: r.AnyNamespace && o.AnyNamespace, AnyKind: r.AnyKind && o.AnyKind,
		PodSecurity: r.PodSecurity, HostPath: r.HostPath && o.HostPath,
	}
	if r.PodSecurity.Exceeds(o.PodSecurity) {
		out.PodSecurity = o.PodSecurity
	}
	out.Namespaces = both(r.AnyNamespace, r.Namespaces, o.AnyNamespace, o.Namespaces)
	out.ClusterKinds = both(r.AnyKind, r.ClusterKinds, o.AnyKind, o.ClusterKinds)
	return out
}

func both[T ~string](anyA bool, a []T, anyB bool, b []T) []T {
	switch {
	case anyA && anyB:
		return nil
	case anyA:
		return b
	case anyB:
		return a
	}
	return slices.DeleteFunc(slices.Clone(a), func(x T) bool { return !slices.Contains(b, x) })
}

// MayUse reports whether objects may stand in a namespace, or it may be declared.
func (r Rights) MayUse(namespace string) bool {
	return r.AnyNamespace || slices.Contains(r.Namespaces, namespace)
}

// MayDeclare reports whether objects of a cluster-scoped kind may be declared.
func (r Rights) MayDeclare(kind Kind) bool {
	return r.AnyKind || slices.Contains(r.ClusterKinds, kind)
}

// String tells all of the rights, equal ones alike.
func (r Rights) String() string {
	list := func(any bool, names string) string {
		if any {
			return "any"
		}
		return "[" + names + "]"
	}
	kinds := make([]string, len(r.ClusterKinds))
	for i, k := range r.ClusterKinds {
		kinds[i] = string(k)
	}
	return fmt.Sprintf("namespaces %s, cluster kinds %s, pod security %s, hostPath %t",
		list(r.AnyNamespace, strings.Join(r.Namespaces, " ")), list(r.AnyKind, strings.Join(kinds, " ")), r.PodSecurity, r.HostPath)
}

// JudgeRights tells what an object asks for beyond the rights of the source, named
// source, that its tree belongs to.
func JudgeRights(obj Object, source SourceName, r Rights) []FieldProblem {
	var p problems
	row, key := rowOf(obj), KeyOf(obj)
	switch declares := row.Declares.Do; {
	case !row.Namespaced && !r.MayDeclare(key.Kind):
		p.hint("kind", fmt.Sprintf("name %s in spec.clusterKinds where the source is declared", key.Kind), "the source %q may not declare objects of the cluster-scoped kind %s", source, key.Kind)
	case key.Namespace != "" && !r.MayUse(key.Namespace):
		p.mayNotUse("metadata.namespace", source, key.Namespace, r)
	case declares != nil && !r.MayUse(declares(obj).Namespace):
		p.mayNotUse("metadata.name", source, declares(obj).Namespace, r)
	}
	if t, ok := PodTemplateOf(obj); ok {
		p = append(p, JudgePodSecurity(t, r.PodSecurity)...)
		p.hostPaths(t, source, r)
	}
	if judge := row.Rights.Do; judge != nil {
		judge(&p, obj, source, r)
	}
	p.sort()
	return p
}

func (p *problems) mayNotUse(field string, source SourceName, namespace string, r Rights) {
	hint := "it may use none; name some in spec.namespaces where the source is declared"
	if len(r.Namespaces) > 0 {
		hint = "it may use " + strings.Join(r.Namespaces, ", ")
	}
	p.hint(field, hint, "the source %q may not use namespace %q", source, namespace)
}

// hostPaths are told of here when the level lets them pass.
func (p *problems) hostPaths(t PodTemplate, source SourceName, r Rights) {
	if r.HostPath || !r.PodSecurity.Exceeds(BaselineLevel) {
		return
	}
	for i := range t.Spec.Volumes {
		if t.Spec.Volumes[i].HostPath != nil {
			p.hint(fmt.Sprintf("%s.volumes[%d].hostPath", t.SpecField, i), "use an emptyDir, a configMap or a secret, or write hostPath: true where the source is declared", "the source %q may not mount directories of nodes", source)
		}
	}
}

// clusterKinds are the cluster-scoped kinds that may stand in Git.
func clusterKinds() (out []string) {
	for _, k := range Kinds() {
		if !k.Namespaced && k.Desired {
			out = append(out, string(k.Kind))
		}
	}
	return out
}
