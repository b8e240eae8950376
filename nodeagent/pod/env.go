package pod

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
	"fairlead/schema/wire"
)

// Data is the ConfigMaps and Secrets that Work carries, "namespace/name" ->
// key -> value. BinaryKeys names a ConfigMap's keys that are binaryData: volumes
// show them, environments do not. Services are those of the whole cluster.
type Data struct {
	ConfigMaps map[string]map[string][]byte
	BinaryKeys map[string][]string
	Secrets    map[string]map[string][]byte
	Services   map[string]wire.Service
}

// Place is where a pod runs: what fieldRef can ask beyond the pod itself.
type Place struct {
	Node        schema.NodeName
	PodIPs      schema.List[string] // one, IPv4
	HostIP      string
	Allocatable corev1.ResourceList // of the node: what a container without limits may use
}

// Env resolves a container's environment: envFrom in order, then env, a later
// name replacing an earlier one; $(NAME) in a value refers to what came before or to
// a service, $$ is a dollar. The variables of services come last, as far as nothing
// else has their names.
// Every error is one that a change of the pod's ConfigMaps or Secrets may fix.
func Env(pod *corev1.Pod, c *corev1.Container, data Data, at Place) ([]EnvVar, error) {
	env := environment{vars: map[string]EnvVar{}, links: map[string]string{}}
	links := serviceLinks(pod, data.Services)
	for _, l := range links {
		env.links[l.Name] = l.Value
	}
	for i := range c.EnvFrom {
		if err := env.from(pod, &c.EnvFrom[i], data); err != nil {
			return nil, err
		}
	}
	for i := range c.Env {
		e := &c.Env[i]
		if e.ValueFrom == nil {
			v := EnvVar{Name: e.Name, Value: schema.Expand(e.Value, env.value)}
			v.Secret = v.Value != schema.Expand(e.Value, env.open)
			if err := env.set(v, "its value"); err != nil {
				return nil, err
			}
			continue
		}
		v, from, ok, err := resolve(pod, c, e, data, at)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", e.Name, err)
		}
		if ok {
			if err := env.set(v, from); err != nil {
				return nil, err
			}
		}
	}
	return env.list(links), nil
}

type environment struct {
	names []string
	vars  map[string]EnvVar
	links map[string]string // of services
}

// set adds a variable whose value came from there.
func (e *environment) set(v EnvVar, from string) error {
	if strings.ContainsRune(v.Value, 0) {
		return UnusableError(fmt.Sprintf("env %s: %s contains a NUL byte, which no environment can carry: mount it as a file instead", v.Name, from))
	}
	if _, ok := e.vars[v.Name]; !ok {
		e.names = append(e.names, v.Name)
	}
	e.vars[v.Name] = v
	return nil
}

func (e *environment) list(links []EnvVar) []EnvVar {
	out := make([]EnvVar, 0, len(e.names)+len(links))
	for _, n := range e.names {
		out = append(out, e.vars[n])
	}
	for _, l := range links {
		if _, taken := e.vars[l.Name]; !taken {
			out = append(out, l)
		}
	}
	return out
}

// value looks a name up for Expand; open finds only what no Secret is in.
func (e *environment) value(name string) (string, bool) {
	if v, ok := e.vars[name]; ok {
		return v.Value, true
	}
	link, ok := e.links[name]
	return link, ok
}

func (e *environment) open(name string) (string, bool) {
	if e.vars[name].Secret {
		return "", false
	}
	return e.value(name)
}

func (e *environment) from(pod *corev1.Pod, s *corev1.EnvFromSource, data Data) error {
	ref, ok := schema.EnvFromReference(s)
	if !ok {
		return errors.New("envFrom without a source")
	}
	values, err := data.Of(pod, ref)
	if err != nil || values == nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(values)) {
		name := s.Prefix + k
		if strings.ContainsRune(name, '=') || data.isBinary(pod, ref, k) {
			continue
		}
		if err := e.set(EnvVar{name, string(values[k]), isSecret(ref)}, "key "+k+" of "+Named(pod, ref)); err != nil {
			return err
		}
	}
	return nil
}

// resolve reads one valueFrom and tells where the value is from; ok is false for
// an optional one that is missing.
func resolve(pod *corev1.Pod, c *corev1.Container, e *corev1.EnvVar, data Data, at Place) (v EnvVar, from string, ok bool, err error) {
	v.Name = e.Name
	if ref, isKey := schema.EnvReference(e); isKey {
		v.Secret, from = isSecret(ref), "key "+ref.Key+" of "+Named(pod, ref)
		v.Value, ok, err = data.key(pod, ref)
		return v, from, ok, err
	}
	if ref := e.ValueFrom.ResourceFieldRef; ref != nil {
		v.Value, err = Amount(pod, c, ref, at)
		return v, "field " + ref.Resource, true, err
	}
	if e.ValueFrom.FieldRef == nil {
		return v, "", false, errors.New("this kind of valueFrom is not supported")
	}
	v.Value, err = Field(pod, e.ValueFrom.FieldRef.FieldPath, at)
	return v, "field " + e.ValueFrom.FieldRef.FieldPath, true, err
}

// Named is what a pod refers to, "configmap shop/settings".
func Named(pod *corev1.Pod, ref schema.Reference) string {
	return strings.ToLower(string(ref.Kind)) + " " + pod.Namespace + "/" + ref.Name
}

func isSecret(ref schema.Reference) bool { return ref.Kind == schema.KindSecret }

// Of is what a pod refers to, by its keys: nil for what is optional and not there.
func (d Data) Of(pod *corev1.Pod, ref schema.Reference) (map[string][]byte, error) {
	all := d.ConfigMaps
	if isSecret(ref) {
		all = d.Secrets
	}
	values, found := all[pod.Namespace+"/"+ref.Name]
	switch {
	case found && values == nil:
		return map[string][]byte{}, nil
	case !found && !ref.Optional:
		return nil, MissingError(Named(pod, ref) + schema.NotFound)
	}
	return values, nil
}

func (d Data) isBinary(pod *corev1.Pod, ref schema.Reference, key string) bool {
	return !isSecret(ref) && slices.Contains(d.BinaryKeys[pod.Namespace+"/"+ref.Name], key)
}

// key is the value of the one key that is referred to; ok is false for an optional one
// that is missing.
func (d Data) key(pod *corev1.Pod, ref schema.Reference) (value string, ok bool, err error) {
	if d.isBinary(pod, ref, ref.Key) {
		return "", false, UnusableError("key " + ref.Key + " of " + Named(pod, ref) + " is binaryData, which environments are not made from: mount it as a file instead")
	}
	values, err := d.Of(pod, ref)
	if err != nil {
		return "", false, err
	}
	v, ok := values[ref.Key]
	if !ok && !ref.Optional {
		err = MissingError(Named(pod, ref) + " has no key " + ref.Key)
	}
	return string(v), ok, err
}

// MissingError says which ConfigMap, Secret or key a pod needs and the cluster does
// not have: no other node or attempt would find it.
type MissingError string

func (e MissingError) Error() string { return string(e) }

// UnusableError says which value, of the pod or of a ConfigMap or Secret, cannot be what
// the pod makes of it: a commit fixes that, no other node or attempt does.
type UnusableError string

func (e UnusableError) Error() string { return string(e) }

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
		return at.PodIPs.First(), nil
	case "status.hostIP", "status.hostIPs":
		return at.HostIP, nil
	}
	return "", fmt.Errorf("fieldPath %q is not supported", path)
}

// Amount reads a resourceFieldRef: of the container that it names, else of c, which may be
// nil then. What is not limited may use all that the node has; parts of the unit are
// rounded up, as in Kubernetes.
func Amount(pod *corev1.Pod, c *corev1.Container, ref *corev1.ResourceFieldSelector, at Place) (string, error) {
	if ref.ContainerName != "" {
		c = schema.ContainerOf(&pod.Spec, ref.ContainerName)
	}
	if c == nil {
		return "", fmt.Errorf("the pod has no container %q", ref.ContainerName)
	}
	of, name, _ := strings.Cut(ref.Resource, ".")
	list := map[string]corev1.ResourceList{"limits": c.Resources.Limits, "requests": c.Resources.Requests}[of]
	amount, ok := list[corev1.ResourceName(name)]
	if (!ok || amount.IsZero()) && of == "limits" {
		amount = at.Allocatable[corev1.ResourceName(name)]
	}
	value, unit := amount.Value(), ref.Divisor.Value()
	switch {
	case list == nil && of != "limits" && of != "requests", name != "cpu" && name != "memory":
		return "", fmt.Errorf("resource %q is not supported", ref.Resource)
	case name == "cpu":
		value, unit = amount.MilliValue(), ref.Divisor.MilliValue()
		if unit == 0 {
			unit = 1000
		}
	}
	unit = max(1, unit)
	return strconv.FormatInt((value+unit-1)/unit, 10), nil
}

// WithSubPaths is a container whose mounts name what their subPathExpr comes to.
func WithSubPaths(pod *corev1.Pod, c *corev1.Container, data Data, at Place) (*corev1.Container, error) {
	if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.SubPathExpr != "" }) {
		return c, nil
	}
	env, err := Env(pod, c, data, at)
	if err != nil {
		return nil, err
	}
	out := *c
	out.VolumeMounts = slices.Clone(c.VolumeMounts)
	for i := range out.VolumeMounts {
		m := &out.VolumeMounts[i]
		expanded, why := subPathOf(m.SubPathExpr, env)
		if why != "" {
			return nil, UnusableError(fmt.Sprintf("subPathExpr of volumeMount %s: %s", m.Name, why))
		}
		m.SubPath, m.SubPathExpr = cmp.Or(m.SubPath, expanded), ""
	}
	return &out, nil
}

// subPathOf is what a subPathExpr comes to, or why it comes to nothing. What comes from a
// Secret stays out of it: directories bear the name, and what is said of the mount tells it.
func subPathOf(expr string, env []EnvVar) (expanded, why string) {
	expanded = schema.Expand(expr, func(name string) (string, bool) {
		at := slices.IndexFunc(env, func(e EnvVar) bool { return e.Name == name })
		switch {
		case at < 0:
			why = "there is no variable " + name
			return "", false
		case env[at].Secret:
			why = "variable " + name + " has its value from a Secret, which the names of directories and messages would tell: use one that has not"
			return "", false
		}
		return env[at].Value, true
	})
	return expanded, why
}

// StaticCommand is a probe's command with the variables in it that the manifest gives a
// value, as in Kubernetes.
func StaticCommand(c *corev1.Container, command []string) []string {
	out := make([]string, len(command))
	for i, word := range command {
		out[i] = schema.Expand(word, func(name string) (string, bool) {
			for _, e := range slices.Backward(c.Env) {
				if e.Name == name && e.ValueFrom == nil {
					return e.Value, true
				}
			}
			return "", false
		})
	}
	return out
}

func subscript(path string) (name, key string, ok bool) {
	name, rest, ok := strings.Cut(path, "['")
	if !ok || !strings.HasSuffix(rest, "']") {
		return "", "", false
	}
	return name, strings.TrimSuffix(rest, "']"), true
}

// pairs is the downward API's form of a map: key="value" lines, sorted, without a line
// break after the last one.
func pairs(m map[string]string) string {
	lines := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, fmt.Sprintf("%s=%q", k, m[k]))
	}
	return strings.Join(lines, "\n")
}

// expandAll expands a list, and the same without what comes from Secrets.
func expandAll(list []string, env []EnvVar) (expanded, shown []string, err error) {
	vars := make(map[string]EnvVar, len(env))
	for _, e := range env {
		vars[e.Name] = e
	}
	all := environment{vars: vars}
	for _, s := range list {
		arg := schema.Expand(s, all.value)
		if strings.ContainsRune(arg, 0) {
			return nil, nil, UnusableError(fmt.Sprintf("argument %q contains a NUL byte, which no argument can carry", s))
		}
		expanded, shown = append(expanded, arg), append(shown, schema.Expand(s, all.open))
	}
	return expanded, shown, nil
}

func isTrue(b *bool) bool { return b != nil && *b }
