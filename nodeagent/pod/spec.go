package pod

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/schema"
)

// Frame is what a container gets from the pod around it.
type Frame struct {
	Cluster string // cluster id
	Host    string // the pod's hostname: SandboxHostname
	Place   Place
	Sandbox Sandbox
	// Sources is the path on the node of what each of the container's
	// volumeMounts shows, in their order: what Volumes.Bind gives.
	Sources []string
	// Files is the directory with the pod's hosts, hostname and resolv.conf.
	Files   string
	LogPath string
	// Message is the file in which the container may leave what is to be said of its
	// end; empty for none.
	Message string
	Data    Data
	// ImageUser is whom the image runs as; see Image. It is read where AsksOfImage says so.
	ImageUser string
	// Profiles is the node's directory of seccomp profiles.
	Profiles string
}

// BuildSpec makes the runtime's specification of one attempt of a container.
// It refuses what Fairlead does not act on, so that nothing is silently ignored.
func BuildSpec(w *Wanted, c *corev1.Container, attempt int, f Frame) (ContainerSpec, error) {
	if field := schema.IgnoredOfPod(&w.Pod.Spec); field != "" {
		return ContainerSpec{}, fmt.Errorf("%s is not supported", field)
	}
	env, err := Env(w.Pod, c, f.Data, f.Place)
	if err != nil {
		return ContainerSpec{}, err
	}
	// $(HOSTNAME) stays as it is written: it is the runtime's, not the pod's.
	command, shownCommand, err1 := expandAll(c.Command, env)
	args, shownArgs, err2 := expandAll(c.Args, env)
	if err := cmp.Or(err1, err2); err != nil {
		return ContainerSpec{}, err
	}
	if !slices.ContainsFunc(env, func(e EnvVar) bool { return e.Name == "HOSTNAME" }) {
		env = append(env, EnvVar{Name: "HOSTNAME", Value: cmp.Or(f.Host, Hostname(w.Pod))})
	}
	shown := append(shownCommand, shownArgs...)
	if slices.Equal(shown, slices.Concat(command, args)) {
		shown = nil
	}
	security, err := security(w.Pod, c, f)
	if err != nil {
		return ContainerSpec{}, err
	}
	return ContainerSpec{
		Name:  ContainerName(w.Pod.UID, c.Name, attempt),
		Image: c.Image,
		Pod:   w.Pod.UID,
		Labels: map[string]string{
			LabelCluster:   f.Cluster,
			LabelNode:      string(f.Place.Node),
			LabelPodUID:    string(w.Pod.UID),
			LabelNamespace: w.Pod.Namespace,
			LabelPod:       w.Pod.Name,
			LabelContainer: c.Name,
			LabelSpecHash:  SpecHash(c),
			LabelAttempt:   strconv.Itoa(attempt),
			LabelEpoch:     strconv.FormatInt(w.Epoch, 10),
			LabelRevision:  string(w.Revision),
			LabelIP:        strings.Join(f.Place.PodIPs, LabelListSeparator),
		},
		Sandbox:    f.Sandbox,
		Env:        env,
		Command:    command,
		Args:       args,
		Shown:      shown,
		WorkingDir: c.WorkingDir,
		Commands:   runsCommands(c),
		Mounts:     mounts(w.Pod, c, f),
		LogPath:    f.LogPath,
		Resources:  resources(w.Pod, c),
		Security:   security,
	}, nil
}

// runsCommands reports whether a container's probes or hooks do.
func runsCommands(c *corev1.Container) bool {
	for _, h := range schema.Hooks(c) {
		if h.Exec != nil {
			return true
		}
	}
	for _, p := range ProbesOf(c) {
		if p.Exec != nil {
			return true
		}
	}
	return false
}

// ContainerName is "fl-<uid, 8 digits>-<container>-<attempt>".
func ContainerName(uid types.UID, container string, attempt int) string {
	id := strings.ReplaceAll(string(uid), "-", "")
	return fmt.Sprintf("fl-%s-%s-%d", id[:min(8, len(id))], container, attempt)
}

// SubPath is the part of its volume that a mount shows, "." for all of it. It is
// a path without ".." or a slash at its start; where it leads is not known.
func SubPath(m *corev1.VolumeMount) (string, error) {
	switch {
	case m.SubPathExpr != "":
		return "", errors.New("subPathExpr is not supported")
	case path.IsAbs(m.SubPath):
		return "", fmt.Errorf("subPath %q must be a relative path", m.SubPath)
	case slices.Contains(strings.Split(m.SubPath, "/"), ".."):
		return "", fmt.Errorf(`subPath %q must not contain ".."`, m.SubPath)
	}
	return path.Clean(m.SubPath), nil
}

// Where every container finds the pod's own files, and its shared memory.
var etcFiles = []string{"hosts", "hostname", "resolv.conf"}

const shmTarget = "/dev/shm"

func mounts(pod *corev1.Pod, c *corev1.Container, f Frame) []Mount {
	out := []Mount{}
	for i, m := range c.VolumeMounts {
		mount := Mount{Source: f.Sources[i], Target: m.MountPath, ReadOnly: ReadOnly(pod, &m)}
		if p := m.MountPropagation; p != nil {
			switch *p {
			case corev1.MountPropagationHostToContainer:
				mount.Propagation = "rslave"
			case corev1.MountPropagationBidirectional:
				mount.Propagation = "rshared"
			}
		}
		out = append(out, mount)
	}
	taken := func(target string) bool {
		return slices.ContainsFunc(out, func(m Mount) bool { return path.Clean(m.Target) == target })
	}
	own := []Mount{{Source: f.Sandbox.Shm, Target: shmTarget}}
	if c.TerminationMessagePath != "" {
		own = append(own, Mount{Source: f.Message, Target: path.Clean(c.TerminationMessagePath)})
	}
	for _, name := range etcFiles {
		own = append(own, Mount{Source: path.Join(f.Files, name), Target: "/etc/" + name})
	}
	for _, m := range own {
		if m.Source != "" && !taken(m.Target) {
			out = append(out, m)
		}
	}
	// What is mounted below another mount comes after it, in whatever order they are listed.
	slices.SortStableFunc(out, func(a, b Mount) int { return depth(a.Target) - depth(b.Target) })
	return out
}

func depth(target string) int { return strings.Count(path.Clean(target), "/") }

// ReadOnly reports whether a container cannot write to what a mount shows. What shows
// ConfigMaps and Secrets is never writable.
func ReadOnly(pod *corev1.Pod, m *corev1.VolumeMount) bool {
	if m.ReadOnly {
		return true
	}
	for _, v := range pod.Spec.Volumes {
		if v.Name == m.Name {
			return v.ConfigMap != nil || v.Secret != nil || v.Projected != nil || v.DownwardAPI != nil
		}
	}
	return false
}

const cpuPeriod = 100_000 // microseconds: Kubernetes' default

// resources maps requests and limits to cgroup values the way Kubernetes does.
func resources(pod *corev1.Pod, c *corev1.Container) Resources {
	r := Resources{CPUShares: shares(c), MemoryBytes: c.Resources.Limits.Memory().Value()}
	if limit := c.Resources.Limits.Cpu().MilliValue(); limit > 0 {
		r.CPUQuota, r.CPUPeriod = max(1000, limit*cpuPeriod/1000), cpuPeriod
	}
	r.PodCPUShares = podShares(&pod.Spec)
	return r
}

// podShares is the weight of all that stays together, or of an init container with the
// sidecars before it where that is more.
func podShares(pod *corev1.PodSpec) uint64 {
	var stay, sidecars, most uint64
	for i := range pod.InitContainers {
		c := &pod.InitContainers[i]
		if schema.IsSidecar(c) {
			sidecars += shares(c)
		} else {
			most = max(most, sidecars+shares(c))
		}
	}
	for i := range pod.Containers {
		stay += shares(&pod.Containers[i])
	}
	return max(most, stay+sidecars)
}

func shares(c *corev1.Container) uint64 {
	milli := c.Resources.Requests.Cpu().MilliValue()
	if milli == 0 {
		milli = c.Resources.Limits.Cpu().MilliValue()
	}
	return uint64(max(2, milli*1024/1000))
}
