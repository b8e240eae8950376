package schema

import (
	"fmt"
	"iter"

	corev1 "k8s.io/api/core/v1"
)

// Reference is one use of a ConfigMap or Secret by a pod, of its own namespace.
type Reference struct {
	Field    string // that holds the name, below the pod spec
	KeyField string // that holds the key, if there is one
	Kind     Kind
	Name     string
	Key      string // empty: the object as a whole
	Optional bool
	Env      bool // an environment is made from it
}

// below is the reference with its fields below another one.
func (r Reference) below(field string) Reference {
	r.Field = field + "." + r.Field
	if r.KeyField != "" {
		r.KeyField = field + "." + r.KeyField
	}
	return r
}

// References goes through everything a pod takes from ConfigMaps and Secrets, in
// the order of the spec; a volume's listed items come one by one, without the
// volume itself.
func References(spec *corev1.PodSpec) iter.Seq[Reference] {
	return func(yield func(Reference) bool) {
		_ = containerReferences("initContainers", spec.InitContainers, yield) &&
			containerReferences("containers", spec.Containers, yield) &&
			volumeReferences(spec.Volumes, yield)
	}
}

func containerReferences(at string, containers []corev1.Container, yield func(Reference) bool) bool {
	for i := range containers {
		for j := range containers[i].EnvFrom {
			r, ok := envFromReference(&containers[i].EnvFrom[j])
			r.Field = fmt.Sprintf("%s[%d].envFrom[%d].%s", at, i, j, r.Field)
			if ok && !yield(r) {
				return false
			}
		}
		for j := range containers[i].Env {
			r, ok := envReference(&containers[i].Env[j])
			if !ok {
				continue
			}
			field := fmt.Sprintf("%s[%d].env[%d].valueFrom.%s", at, i, j, r.Field)
			r.Field, r.KeyField = field+".name", field+".key"
			if !yield(r) {
				return false
			}
		}
	}
	return true
}

func envFromReference(e *corev1.EnvFromSource) (Reference, bool) {
	switch {
	case e.ConfigMapRef != nil:
		return Reference{Field: "configMapRef.name", Kind: KindConfigMap, Name: e.ConfigMapRef.Name, Optional: isTrue(e.ConfigMapRef.Optional), Env: true}, true
	case e.SecretRef != nil:
		return Reference{Field: "secretRef.name", Kind: KindSecret, Name: e.SecretRef.Name, Optional: isTrue(e.SecretRef.Optional), Env: true}, true
	}
	return Reference{}, false
}

func envReference(e *corev1.EnvVar) (Reference, bool) {
	switch from := e.ValueFrom; {
	case from == nil:
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		return Reference{Field: "configMapKeyRef", Kind: KindConfigMap, Name: ref.Name, Key: ref.Key, Optional: isTrue(ref.Optional), Env: true}, true
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		return Reference{Field: "secretKeyRef", Kind: KindSecret, Name: ref.Name, Key: ref.Key, Optional: isTrue(ref.Optional), Env: true}, true
	}
	return Reference{}, false
}

func volumeReferences(volumes []corev1.Volume, yield func(Reference) bool) bool {
	for i := range volumes {
		at := fmt.Sprintf("volumes[%d].", i)
		switch v := &volumes[i]; {
		case v.ConfigMap != nil:
			r := Reference{Kind: KindConfigMap, Name: v.ConfigMap.Name, Optional: isTrue(v.ConfigMap.Optional)}
			if !itemReferences(at+"configMap", ".name", r, v.ConfigMap.Items, yield) {
				return false
			}
		case v.Secret != nil:
			r := Reference{Kind: KindSecret, Name: v.Secret.SecretName, Optional: isTrue(v.Secret.Optional)}
			if !itemReferences(at+"secret", ".secretName", r, v.Secret.Items, yield) {
				return false
			}
		case v.Projected != nil:
			if !projectedReferences(at, v.Projected.Sources, yield) {
				return false
			}
		}
	}
	return true
}

func projectedReferences(at string, sources []corev1.VolumeProjection, yield func(Reference) bool) bool {
	for i := range sources {
		field := fmt.Sprintf("%sprojected.sources[%d].", at, i)
		switch s := &sources[i]; {
		case s.ConfigMap != nil:
			r := Reference{Kind: KindConfigMap, Name: s.ConfigMap.Name, Optional: isTrue(s.ConfigMap.Optional)}
			if !itemReferences(field+"configMap", ".name", r, s.ConfigMap.Items, yield) {
				return false
			}
		case s.Secret != nil:
			r := Reference{Kind: KindSecret, Name: s.Secret.Name, Optional: isTrue(s.Secret.Optional)}
			if !itemReferences(field+"secret", ".name", r, s.Secret.Items, yield) {
				return false
			}
		}
	}
	return true
}

func itemReferences(at, name string, r Reference, items []corev1.KeyToPath, yield func(Reference) bool) bool {
	r.Field = at + name
	if len(items) == 0 {
		return yield(r)
	}
	for i := range items {
		r.KeyField, r.Key = fmt.Sprintf("%s.items[%d].key", at, i), items[i].Key
		if !yield(r) {
			return false
		}
	}
	return true
}
