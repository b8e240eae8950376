package pod

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
)

// Data is the ConfigMaps and Secrets that Work carries, "namespace/name" ->
// key -> value.
type Data struct {
	ConfigMaps map[string]map[string][]byte
	Secrets    map[string]map[string][]byte
}

// Place is where a pod runs: what fieldRef can ask beyond the pod itself.
type Place struct {
	Node   schema.NodeName
	PodIP  string
	HostIP string
}

// Env resolves a container's environment: envFrom in order, then env, a later
// name replacing an earlier one; $(NAME) in a value refers to what came before,
// $$ is a dollar. Service variables are not made (see the node agent's README).
// Every error is one that a change of the pod's ConfigMaps or Secrets may mend.
func Env(pod *corev1.Pod, c *corev1.Container, data Data, at Place) ([]EnvVar, error) {
	env := environment{values: map[string]string{}}
	for i := range c.EnvFrom {
		if err := env.from(pod, &c.EnvFrom[i], data); err != nil {
			return nil, err
		}
	}
	for i := range c.Env {
		e := &c.Env[i]
		if e.ValueFrom == nil {
			env.set(e.Name, Expand(e.Value, env.values))
			continue
		}
		value, ok, err := resolve(pod, e, data, at)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", e.Name, err)
		}
		if ok {
			env.set(e.Name, value)
		}
	}
	return env.list(), nil
}

type environment struct {
	names  []string
	values map[string]string
}

func (e *environment) set(name, value string) {
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

func (e *environment) list() []EnvVar {
	out := make([]EnvVar, 0, len(e.names))
	for _, n := range e.names {
		out = append(out, EnvVar{n, e.values[n]})
	}
	return out
}

func (e *environment) from(pod *corev1.Pod, s *corev1.EnvFromSource, data Data) error {
	var values map[string][]byte
	var found, optional bool
	var what string
	switch {
	case s.ConfigMapRef != nil:
		what = "configmap " + pod.Namespace + "/" + s.ConfigMapRef.Name
		values, found = data.ConfigMaps[pod.Namespace+"/"+s.ConfigMapRef.Name]
		optional = isTrue(s.ConfigMapRef.Optional)
	case s.SecretRef != nil:
		what = "secret " + pod.Namespace + "/" + s.SecretRef.Name
		values, found = data.Secrets[pod.Namespace+"/"+s.SecretRef.Name]
		optional = isTrue(s.SecretRef.Optional)
	default:
		return errors.New("envFrom without a source")
	}
	if !found {
		if optional {
			return nil
		}
		return MissingError(what + " not found")
	}
	for _, k := range slices.Sorted(maps.Keys(values)) {
		if name := s.Prefix + k; !strings.ContainsRune(name, '=') {
			e.set(name, string(values[k]))
		}
	}
	return nil
}

// resolve reads one valueFrom; ok is false for an optional one that is missing.
func resolve(pod *corev1.Pod, e *corev1.EnvVar, data Data, at Place) (value string, ok bool, err error) {
	switch from := e.ValueFrom; {
	case from.ConfigMapKeyRef != nil:
		r := from.ConfigMapKeyRef
		return key(data.ConfigMaps, "configmap", pod.Namespace+"/"+r.Name, r.Key, isTrue(r.Optional))
	case from.SecretKeyRef != nil:
		r := from.SecretKeyRef
		return key(data.Secrets, "secret", pod.Namespace+"/"+r.Name, r.Key, isTrue(r.Optional))
	case from.FieldRef != nil:
		value, err = Field(pod, from.FieldRef.FieldPath, at)
		return value, true, err
	default:
		return "", false, errors.New("this kind of valueFrom is not supported")
	}
}

func key(all map[string]map[string][]byte, kind, name, k string, optional bool) (string, bool, error) {
	values, found := all[name]
	v, ok := values[k]
	switch {
	case ok:
		return string(v), true, nil
	case optional:
		return "", false, nil
	case !found:
		return "", false, MissingError(kind + " " + name + " not found")
	default:
		return "", false, MissingError(kind + " " + name + " has no key " + k)
	}
}

// MissingError says which ConfigMap, Secret or key a pod needs and the cluster does
// not have: no other node or attempt would find it.
type MissingError string

func (e MissingError) Error() string { return string(e) }

// Field reads a fieldRef's path from a pod.
func Field(pod *corev1.Pod, path string, at Place) (string, error) {
	if name, k, ok := subscript(path); ok {
		switch name {
		case "metadata.labels":
			return pod.Labels[k], nil
		case "metadata.annotations":
			return pod.Annotations[k], nil
		}
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return pairs(pod.Labels), nil
	case "metadata.annotations":
		return pairs(pod.Annotations), nil
	case "spec.nodeName":
		return string(at.Node), nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.podIP", "status.podIPs":
		return at.PodIP, nil
	case "status.hostIP", "status.hostIPs":
		return at.HostIP, nil
	}
	return "", fmt.Errorf("fieldPath %q is not supported", path)
}

func subscript(path string) (name, key string, ok bool) {
	name, rest, ok := strings.Cut(path, "['")
	if !ok || !strings.HasSuffix(rest, "']") {
		return "", "", false
	}
	return name, strings.TrimSuffix(rest, "']"), true
}

// pairs is the downward API's form of a map: key="value" lines, sorted.
func pairs(m map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "%s=%q\n", k, m[k])
	}
	return b.String()
}

// Expand replaces $(NAME) by its value; an unknown name stays as written and
// $$(NAME) escapes.
func Expand(s string, values map[string]string) string {
	if !strings.ContainsRune(s, '$') {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(s[i:], ')')
			if end < 0 {
				b.WriteByte(s[i])
				continue
			}
			whole := s[i : i+end+1]
			if v, ok := values[whole[2:len(whole)-1]]; ok {
				b.WriteString(v)
			} else {
				b.WriteString(whole)
			}
			i += end
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func expandAll(list []string, env []EnvVar) []string {
	if len(list) == 0 {
		return nil
	}
	values := make(map[string]string, len(env))
	for _, e := range env {
		values[e.Name] = e.Value
	}
	out := make([]string, 0, len(list))
	for _, s := range list {
		out = append(out, Expand(s, values))
	}
	return out
}

func isTrue(b *bool) bool { return b != nil && *b }
