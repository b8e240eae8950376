package schema

import (
	"iter"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// IsSidecar tells an init container that runs beside the others, from before they begin
// until after they have ended, from one that runs to its end.
func IsSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// StayingContainers are those that a running pod has: its containers and then its
// sidecars.
func StayingContainers(spec *corev1.PodSpec) iter.Seq[*corev1.Container] {
	return func(yield func(*corev1.Container) bool) {
		for i := range spec.Containers {
			if !yield(&spec.Containers[i]) {
				return
			}
		}
		for i := range spec.InitContainers {
			if c := &spec.InitContainers[i]; IsSidecar(c) && !yield(c) {
				return
			}
		}
	}
}

// HookKind is when a hook of a container's lifecycle runs.
type HookKind string

// The kinds: right after a container was started, and before it gets its stop signal.
const (
	PostStart HookKind = "postStart"
	PreStop   HookKind = "preStop"
)

// Hooks are those that a container has.
func Hooks(c *corev1.Container) map[HookKind]*corev1.LifecycleHandler {
	out := map[HookKind]*corev1.LifecycleHandler{}
	if c.Lifecycle == nil {
		return out
	}
	if c.Lifecycle.PostStart != nil {
		out[PostStart] = c.Lifecycle.PostStart
	}
	if c.Lifecycle.PreStop != nil {
		out[PreStop] = c.Lifecycle.PreStop
	}
	return out
}

// AllContainers are a pod's containers in the order in which they are started.
func AllContainers(spec *corev1.PodSpec) iter.Seq[*corev1.Container] {
	return func(yield func(*corev1.Container) bool) {
		for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
		}
	}
}

// ContainerOf is a pod's container of that name, nil for none.
func ContainerOf(spec *corev1.PodSpec, name string) *corev1.Container {
	for c := range AllContainers(spec) {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// IsInitContainer reports whether a container of that name is among those that come
// before the others, sidecars included.
func IsInitContainer(spec *corev1.PodSpec, name string) bool {
	return slices.ContainsFunc(spec.InitContainers, func(c corev1.Container) bool { return c.Name == name })
}
