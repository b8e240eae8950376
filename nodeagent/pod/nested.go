package pod

import (
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Nested is something that is mounted below the mount of a volume which its container
// cannot write to. No runtime can make the target there, so the volume must have it.
type Nested struct {
	Outer int    // the volumeMount that it is directly below
	Path  string // of the target, in what that mount shows
	Inner int    // the volumeMount that is mounted there, or FileOfOurs or DirOfOurs
}

// What a container gets beside its volumes.
const (
	FileOfOurs = -1
	DirOfOurs  = -2
)

// target is where a container gets something. A volume in its place goes first.
type target struct {
	path  string
	inner int
}

// ownTargets are those of the files that every container gets, as mounts has them.
func ownTargets(c *corev1.Container) []target {
	out := []target{{shmTarget, DirOfOurs}}
	for _, name := range etcFiles {
		out = append(out, target{"/etc/" + name, FileOfOurs})
	}
	if c.TerminationMessagePath != "" {
		out = append(out, target{path.Clean(c.TerminationMessagePath), FileOfOurs})
	}
	return out
}

// NestedMounts lists what of a container is mounted below a read-only mount.
func NestedMounts(pod *corev1.Pod, c *corev1.Container) []Nested {
	if len(c.VolumeMounts) == 0 {
		return nil
	}
	var all []target
	for i := range c.VolumeMounts {
		all = append(all, target{path.Clean(c.VolumeMounts[i].MountPath), i})
	}
	volumes := slices.Clone(all)
	for _, own := range ownTargets(c) {
		if !slices.ContainsFunc(volumes, func(t target) bool { return t.path == own.path }) {
			all = append(all, own)
		}
	}
	var out []Nested
	for _, t := range all {
		if outer, rest, ok := enclosing(volumes, t.path); ok && ReadOnly(pod, &c.VolumeMounts[outer]) {
			out = append(out, Nested{Outer: outer, Path: rest, Inner: t.inner})
		}
	}
	return out
}

// enclosing is the innermost of the mounts that inner is below, and where in it.
func enclosing(mounts []target, inner string) (outer int, rest string, ok bool) {
	longest := 0
	for _, m := range mounts {
		if below, is := strings.CutPrefix(inner, m.path+"/"); is && len(m.path) > longest {
			outer, rest, longest, ok = m.inner, below, len(m.path), true
		}
	}
	return outer, rest, ok
}

// MountsIn lists the paths in a volume, seen whole, at which containers of the pod have
// something else mounted, sorted.
func MountsIn(pod *corev1.Pod, volume string) []string {
	var out []string
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			c := &list[i]
			for _, n := range NestedMounts(pod, c) {
				m := &c.VolumeMounts[n.Outer]
				if sub, err := SubPath(m); m.Name == volume && err == nil && sub == "." {
					out = append(out, n.Path)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
