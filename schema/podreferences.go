package schema

import (
	"fmt"
	"iter"
	"slices"

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
	// OneOf are the keys of which the object must have one; none for any object.
	OneOf []string
	// Pull says that images are pulled with it. A pod starts without: whether an image
	// needs it only the registry knows. In a tree it must be there all the same.
	Pull bool
}

// Fits reports whether an object has what is referred to as a whole.
func (r Reference) Fits(obj Object) bool {
	return len(r.OneOf) == 0 || slices.ContainsFunc(DataKeys(obj), func(key string) bool { return slices.Contains(r.OneOf, key) })
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
			volumeReferences(spec.Volumes, yield) &&
			pullReferences(spec.ImagePullSecrets, yield)
	}
}

func pullReferences(secrets []corev1.LocalObjectReference, yield func(Reference) bool) bool {
	for i, s := range secrets {
		if !yield(Reference{
			Field: fmt.Sprintf("imagePullSecrets[%d].name", i), Kind: KindSecret, Name: s.Name, Optional: true, Pull: true,
			OneOf: []string{corev1.DockerConfigJsonKey, corev1.DockerConfigKey},
		}) {
			return false
		}
	}
	return true
}

func containerReferences(at string, containers []corev1.Container, yield func(Reference) bool) bool {
	for i := range containers {
		for j := range containers[i].EnvFrom {
			r, ok := EnvFromReference(&containers[i].EnvFrom[j])
			r.Field = fmt.Sprintf("%s[%d].envFrom[%d].%s", at, i, j, r.Field)
			if ok && !yield(r) {
				return false
			}
		}
		for j := range containers[i].Env {
			r, ok := EnvReference(&containers[i].Env[j])
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

// EnvFromReference is what an entry of envFrom takes all keys of, its fields below the
// entry; false for one that this version does not know.
func EnvFromReference(e *corev1.EnvFromSource) (Reference, bool) {
	switch {
	case e.ConfigMapRef != nil:
		return Reference{Field: "configMapRef.name", Kind: KindConfigMap, Name: e.ConfigMapRef.Name, Optional: isTrue(e.ConfigMapRef.Optional), Env: true}, true
	case e.SecretRef != nil:
		return Reference{Field: "secretRef.name", Kind: KindSecret, Name: e.SecretRef.Name, Optional: isTrue(e.SecretRef.Optional), Env: true}, true
	}
	return Reference{}, false
}

// EnvReference is what a variable's value is a key of, its fields below valueFrom; false
// for one that comes from elsewhere.
func EnvReference(e *corev1.EnvVar) (Reference, bool) {
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

// VolumeSource is one of the things that a volume shows as files: keys of a ConfigMap or
// Secret, which it then refers to, or fields of the pod itself.
type VolumeSource struct {
	Reference // without Kind where the pod's fields are shown
	// Items are the keys that are shown; none for all.
	Items  []corev1.KeyToPath
	Fields []corev1.DownwardAPIVolumeFile
	Mode   *int32 // of files that have none of their own

	items string // the field with them
}

// VolumeSources are what a volume shows, in its order and with fields below the volume;
// false where it shows something that this version does not know.
func VolumeSources(v *corev1.Volume) (out []VolumeSource, ok bool) {
	switch {
	case v.ConfigMap != nil:
		s := v.ConfigMap
		return []VolumeSource{ofKind(KindConfigMap, "configMap", ".name", s.Name, s.Optional, s.Items, s.DefaultMode)}, true
	case v.Secret != nil:
		s := v.Secret
		return []VolumeSource{ofKind(KindSecret, "secret", ".secretName", s.SecretName, s.Optional, s.Items, s.DefaultMode)}, true
	case v.DownwardAPI != nil:
		return []VolumeSource{{Fields: v.DownwardAPI.Items, Mode: v.DownwardAPI.DefaultMode}}, true
	case v.Projected != nil:
		return projected(v.Projected)
	}
	return nil, false
}

func projected(v *corev1.ProjectedVolumeSource) (out []VolumeSource, ok bool) {
	ok = true
	for i := range v.Sources {
		at := fmt.Sprintf("projected.sources[%d].", i)
		switch from := &v.Sources[i]; {
		case from.ConfigMap != nil:
			s := from.ConfigMap
			out = append(out, ofKind(KindConfigMap, at+"configMap", ".name", s.Name, s.Optional, s.Items, v.DefaultMode))
		case from.Secret != nil:
			s := from.Secret
			out = append(out, ofKind(KindSecret, at+"secret", ".name", s.Name, s.Optional, s.Items, v.DefaultMode))
		case from.DownwardAPI != nil:
			out = append(out, VolumeSource{Fields: from.DownwardAPI.Items, Mode: v.DefaultMode})
		default:
			ok = false
		}
	}
	return out, ok
}

func ofKind(kind Kind, at, nameField, name string, optional *bool, items []corev1.KeyToPath, mode *int32) VolumeSource {
	return VolumeSource{Reference: Reference{Field: at + nameField, Kind: kind, Name: name, Optional: isTrue(optional)}, Items: items, Mode: mode, items: at + ".items"}
}

func volumeReferences(volumes []corev1.Volume, yield func(Reference) bool) bool {
	for i := range volumes {
		sources, _ := VolumeSources(&volumes[i])
		for j := range sources {
			if sources[j].Kind != "" && !sources[j].each(fmt.Sprintf("volumes[%d]", i), yield) {
				return false
			}
		}
	}
	return true
}

// each goes through the keys that a source shows by name, or tells of it as a whole.
func (s *VolumeSource) each(at string, yield func(Reference) bool) bool {
	if len(s.Items) == 0 {
		return yield(s.Reference.below(at))
	}
	for i := range s.Items {
		r := s.Reference
		r.KeyField, r.Key = fmt.Sprintf("%s[%d].key", s.items, i), s.Items[i].Key
		if !yield(r.below(at)) {
			return false
		}
	}
	return true
}
