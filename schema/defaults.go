package schema

import corev1 "k8s.io/api/core/v1"

// Default fills in, in place, what Kubernetes' defaults say about fields left
// out, merges stringData and normalises image names. It is idempotent; kinds
// without defaults are left as they are.
func Default(obj Object) {
	row := rowOf(obj)
	if fill := row.Defaults.Do; fill != nil {
		fill(obj)
	}
	if row.Desired && row.Pods.Do != nil {
		defaultPodSpec(row.Pods.Do(obj).Spec)
	}
}

// AddLaterDefaults fills in, in place, what Default of earlier versions left out of an
// object that one of them stored. Without, every stored template would differ from the
// same one in Git, and be rolled out again. What was never defaulted stays as it is.
// Pods are all that was defaulted further: the first other kind gets a cell for it.
func AddLaterDefaults(obj Object) {
	t, ok := PodTemplateOf(obj)
	if ok && t.Spec.EnableServiceLinks != nil {
		setPointer(&t.Spec.SecurityContext, corev1.PodSecurityContext{})
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func setPointer[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}
