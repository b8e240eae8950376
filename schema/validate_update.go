package schema

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// ValidateUpdate tells which fields of new differ from old and may not, by
// Kubernetes' rules: a Deployment's selector, a Service's own address, a Pod's
// spec apart from images and added tolerations, the data of an immutable
// ConfigMap or Secret, a Secret's type. Both are of one kind and defaulted; what
// the cluster gave old (its node, an address) may be missing in new. A Secret's
// values may be anything that is equal when the value is, in both alike.
func ValidateUpdate(old, new Object) []FieldProblem {
	var p problems
	switch n := new.(type) {
	case *appsv1.Deployment:
		p.unchanged("spec.selector", old, n, "delete the Deployment in one revision and add it in the next, or give it another name")
	case *corev1.Service:
		p.serviceUpdate(old.(*corev1.Service), n)
	case *corev1.Pod:
		p.podUpdate(old.(*corev1.Pod), n)
	case *corev1.ConfigMap:
		o := old.(*corev1.ConfigMap)
		p.immutableData(old, n, isTrue(o.Immutable), isTrue(n.Immutable))
	case *corev1.Secret:
		o := old.(*corev1.Secret)
		p.immutableData(old, n, isTrue(o.Immutable), isTrue(n.Immutable))
		if o.Type != n.Type {
			p.hint("type", "give the Secret another name", "cannot change from %s to %s", o.Type, n.Type)
		}
	}
	p.sort()
	return p
}

func isTrue(b *bool) bool { return b != nil && *b }

// unchanged refuses every difference at or below field.
func (p *problems) unchanged(field string, old, new Object, hint string) {
	for _, c := range Diff(old, new) {
		if c.Path == field || strings.HasPrefix(c.Path, field+".") || strings.HasPrefix(c.Path, field+"[") {
			p.hint(c.Path, hint, "cannot change once the %s exists: %s", KindOf(old), c.words())
		}
	}
}

// words is the change in words; it is for fields that are never secret.
func (c FieldChange) words() string {
	switch {
	case c.From == "":
		return "added " + c.To
	case c.To == "":
		return "removed " + c.From
	}
	return "from " + c.From + " to " + c.To
}

func (p *problems) serviceUpdate(old, new *corev1.Service) {
	was, is := old.Spec.ClusterIP, new.Spec.ClusterIP
	headless := was == corev1.ClusterIPNone || is == corev1.ClusterIPNone
	if was == is || was == "" || is == "" && !headless {
		return
	}
	if is == "" {
		is = "one that is given"
	}
	p.hint("spec.clusterIP", "give the Service another name", "cannot change once the Service exists: from %s to %s", was, is)
}

func (p *problems) podUpdate(old, new *corev1.Pod) {
	before, after := old.DeepCopy(), new.DeepCopy()
	for i := range before.Spec.Containers {
		before.Spec.Containers[i].Image = ""
	}
	for i := range after.Spec.Containers {
		after.Spec.Containers[i].Image = ""
	}
	for i := range before.Spec.InitContainers {
		before.Spec.InitContainers[i].Image = ""
	}
	for i := range after.Spec.InitContainers {
		after.Spec.InitContainers[i].Image = ""
	}
	if after.Spec.NodeName == "" {
		before.Spec.NodeName = ""
	}
	if tolerationsOnlyAdded(before.Spec.Tolerations, after.Spec.Tolerations) {
		before.Spec.Tolerations = after.Spec.Tolerations
	}
	p.unchanged("spec", before, after, "use a Deployment, or delete the Pod in one revision and add it in the next")
}

func tolerationsOnlyAdded(old, new []corev1.Toleration) bool {
	for i := range old {
		if !slices.ContainsFunc(new, func(t corev1.Toleration) bool { return t.MatchToleration(&old[i]) }) {
			return false
		}
	}
	return true
}

func (p *problems) immutableData(old, new Object, wasImmutable, isImmutable bool) {
	if !wasImmutable {
		return
	}
	const hint = "give it another name and refer to that"
	if !isImmutable {
		p.hint("immutable", hint, "cannot be taken back once set")
	}
	for _, c := range Diff(old, new) {
		if root, _, _ := strings.Cut(c.Path, "["); root == "data" || root == "binaryData" {
			p.hint(c.Path, hint, "cannot change: the %s in the cluster is immutable", KindOf(old))
		}
	}
}
