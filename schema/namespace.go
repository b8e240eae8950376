package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// KindNamespace is the kind of Kubernetes' Namespace.
const KindNamespace Kind = "Namespace"

var namespaceRow = Row{
	KindInfo: KindInfo{
		Kind: KindNamespace, Version: "v1", Resource: "namespaces", Singular: "namespace", Short: []string{"ns"},
		Desired: true, New: func() Object { return &corev1.Namespace{} },
	},
	Name:       nameCell{Do: validation.IsDNS1123Label},
	Supported:  supportedCell{Do: []string{"spec.finalizers -"}},
	Defaults:   defaultsCell{Do: func(obj Object) { defaultNamespace(obj.(*corev1.Namespace)) }},
	Judge:      judgeCell{Do: func(p *problems, obj Object) { p.namespaceSecurity(obj.GetLabels()) }},
	Update:     updateCell{None: anyUpdate},
	Work:       workCell{None: neverDone},
	Pods:       podsCell{None: noPods},
	References: referencesCell{None: namesNothing},
	Data:       dataCell{None: noData},
	Backends:   backendsCell{None: noBackends},
	Claims:     claimsCell{None: claimsNone},
	Declares:   declaresCell{Do: declaredByNamespace},
	Rights:     rightsCell{None: noRights},
	Owns:       ownsCell{None: "what is in it goes with the sources that declare it"},
	Carry:      carryCell{Do: func(live, next Object) { next.(*corev1.Namespace).Status = live.(*corev1.Namespace).Status }},
	Memory:     memoryCell{Do: Memory{Lean: unversioned}},
	Whole:      wholeCell{None: anyIsWhole},
}

// NamespaceKey is the key of the Namespace object of that name.
func NamespaceKey(name string) Key { return Key{Kind: KindNamespace, Name: name} }

// MayMakeNamespaces reports whether a source may have namespaces made that nobody
// declares: it could declare them itself.
func (r Rights) MayMakeNamespaces() bool { return r.MayDeclare(KindNamespace) }

// UndeclaredHint tells what to do about a namespace that nobody declares and that an
// object of the source stands in; r is what the source may do, nil for all.
func (s *SourceSpec) UndeclaredHint(namespace string, r *Rights) string {
	mayMake := r == nil || r.MayMakeNamespaces()
	switch {
	case s.CreateNamespaces:
		return fmt.Sprintf("declare it in a source that may; this one may not make it: name %s in spec.clusterKinds where the source is declared", KindNamespace)
	case !mayMake || r != nil && !r.MayUse(namespace):
		return "declare it with a Namespace object"
	}
	return `declare it with a Namespace object, or have it made by "createNamespaces: true" in the Source`
}

// NewNamespace is one that nobody has written.
func NewNamespace(name string) *corev1.Namespace {
	ns := &corev1.Namespace{}
	ns.Name = name
	defaultNamespace(ns)
	return ns
}

// GivenNamespaces are there without being declared, sorted.
var GivenNamespaces = []string{"default", "kube-node-lease", "kube-public", "kube-system"}

// Makes reports whether a namespace that nobody declares is made once an object of a
// source stands in it.
func (s *SourceSpec) Makes(namespace string) bool {
	return s.CreateNamespaces || slices.Contains(GivenNamespaces, namespace)
}

func declaredByNamespace(obj Object) Declared {
	labels := obj.GetLabels()
	return Declared{Namespace: obj.GetName(), Security: namespaceSecurityOf(labels), Aged: agedSecurityLabels(labels)}
}

func defaultNamespace(ns *corev1.Namespace) {
	if ns.Labels == nil {
		ns.Labels = make(map[string]string, 1)
	}
	ns.Labels[corev1.LabelMetadataName] = ns.Name
}

// NamespaceSecurity is what a Namespace's labels ask of the pods in it
// (https://kubernetes.io/docs/concepts/security/pod-security-admission/). An empty
// level asks nothing.
type NamespaceSecurity struct {
	Enforce SecurityLevel
	Warn    SecurityLevel // the stricter one of warn and audit
}

// The labels of a Namespace that ask something of its pods.
const (
	securityLabels = "pod-security.kubernetes.io/"
	enforceLabel   = securityLabels + "enforce"
	warnLabel      = securityLabels + "warn"
	auditLabel     = securityLabels + "audit"
	versionSuffix  = "-version"
	newestVersion  = "latest"
)

// namespaceSecurityOf reads the labels.
func namespaceSecurityOf(labels map[string]string) NamespaceSecurity {
	out := NamespaceSecurity{Enforce: SecurityLevel(labels[enforceLabel]), Warn: SecurityLevel(labels[warnLabel])}
	if audit := SecurityLevel(labels[auditLabel]); audit != "" && (out.Warn == "" || out.Warn.Exceeds(audit)) {
		out.Warn = audit
	}
	return out
}

// agedSecurityLabels are the labels that ask for the rules of a version: there are the
// newest only.
func agedSecurityLabels(labels map[string]string) (out []string) {
	for _, label := range []string{enforceLabel, warnLabel, auditLabel} {
		if version := labels[label+versionSuffix]; version != "" && version != newestVersion {
			out = append(out, label+versionSuffix)
		}
	}
	return out
}

// namespaceSecurity judges the labels themselves.
func (p *problems) namespaceSecurity(labels map[string]string) {
	levels := []string{enforceLabel, warnLabel, auditLabel}
	for key, value := range labels {
		label, isVersion := strings.CutSuffix(key, versionSuffix)
		field := "metadata.labels[" + key + "]"
		switch {
		case !strings.HasPrefix(key, securityLabels):
		case !slices.Contains(levels, label):
			p.hint(field, nearestHint(key, levels), "%q is not a label of Pod Security", key)
		case !isVersion:
			oneOf(p, field, "", SecurityLevel(value), securityLevels...)
		case value != newestVersion && !isVersionOfKubernetes(value):
			p.hint(field, "write latest, or a version like v1.30", "%q is not a version of Kubernetes", value)
		}
	}
}

func isVersionOfKubernetes(s string) bool {
	minor, ok := strings.CutPrefix(s, "v1.")
	_, err := strconv.ParseUint(minor, 10, 16)
	return ok && err == nil
}
