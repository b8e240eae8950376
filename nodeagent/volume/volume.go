// Package volume answers what a pod's containers find in their volumes: it
// makes emptyDir, ConfigMap, Secret, projected and downward API volumes, checks
// hostPath ones, and fixes, for each start of a container, what its mounts show.
// A volume that shows data switches from one version to the next at once, so a
// mount never shows a mix. It mounts nothing into containers; the node agent
// calls it. README.md tells why no path is used twice.
package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/dirfd"
	"fairlead/nodeagent/pod"
)

// secretBytes bounds the tmpfs of a volume with secret data.
const secretBytes = 64 << 20

// Volumes keeps each pod's volumes under podsDir/<uid>/volumes/<name>, in the
// mount namespace of the calling process. It keeps nothing in memory. Different
// pods may be worked on concurrently.
type Volumes struct {
	podsDir string
	// between, if set, is called with what comes next before a step that follows
	// on a look at something that a container can change. Tests change it there.
	between func(next string)
}

// New works below podsDir.
func New(podsDir string) *Volumes { return &Volumes{podsDir: podsDir} }

func (v *Volumes) dir(uid types.UID) string {
	return filepath.Join(v.podsDir, string(uid), "volumes")
}

func (v *Volumes) path(uid types.UID, volume string) string { return filepath.Join(v.dir(uid), volume) }

func (v *Volumes) before(next string) {
	if v.between != nil {
		v.between(next)
	}
}

// Prepare makes the pod's volumes and brings what they show up to date; what is
// right already is not touched. An error names the first volume that cannot be
// had; those before it are made.
func (v *Volumes) Prepare(p *corev1.Pod, data pod.Data, at pod.Place) error {
	for i := range p.Spec.Volumes {
		vol := &p.Spec.Volumes[i]
		if err := v.prepare(p, vol, data, at); err != nil {
			return fmt.Errorf("volume %s: %w", vol.Name, err)
		}
	}
	return nil
}

func (v *Volumes) prepare(p *corev1.Pod, vol *corev1.Volume, data pod.Data, at pod.Place) error {
	path := v.path(p.UID, vol.Name)
	switch {
	case vol.HostPath != nil:
		f, err := v.hostPath(vol.HostPath)
		if err != nil {
			return err
		}
		return f.Close()
	case vol.EmptyDir != nil:
		return emptyDir(path, vol.EmptyDir, p)
	}
	files, secret, err := content(p, vol, data, at)
	if err != nil {
		return err
	}
	if secret {
		if err := tmpfs(path, secretBytes, 0o755); err != nil {
			return err
		}
	}
	return v.publish(p.UID, vol.Name, files, pod.MountsIn(p, vol.Name), groupOf(p))
}

func emptyDir(path string, e *corev1.EmptyDirVolumeSource, p *corev1.Pod) error {
	switch e.Medium {
	case corev1.StorageMediumDefault:
		if err := os.MkdirAll(path, 0o777); err != nil {
			return err
		}
	case corev1.StorageMediumMemory:
		size := int64(0)
		if e.SizeLimit != nil {
			size = e.SizeLimit.Value()
		}
		if err := tmpfs(path, size, 0o777); err != nil {
			return err
		}
	default:
		return fmt.Errorf("medium %q is not supported", e.Medium)
	}
	dir, err := openDir(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	// Whoever the container runs as writes here; with fsGroup, so does the group.
	mode := os.FileMode(0o777)
	if g := groupOf(p); g >= 0 {
		if err := dir.Chown(-1, g); err != nil {
			return err
		}
		mode |= os.ModeSetgid
	}
	return dir.Chmod(mode)
}

// groupOf is the pod's fsGroup, or -1.
func groupOf(p *corev1.Pod) int {
	if s := p.Spec.SecurityContext; s != nil && s.FSGroup != nil {
		return int(*s.FSGroup)
	}
	return -1
}

// tmpfs mounts one at path unless it is there. size zero is the kernel's default.
func tmpfs(path string, size int64, mode os.FileMode) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	dir, err := openDir(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if mounted, err := isMount(dir); err != nil || mounted {
		return err
	}
	options := fmt.Sprintf("mode=%#o", mode)
	if size > 0 {
		options += fmt.Sprintf(",size=%d", size)
	}
	at := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd()))
	if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	return nil
}

// openDir opens a directory, not one that a link leads to.
func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}

// isMount tells a directory on another device than its parent.
func isMount(dir *os.File) (bool, error) {
	var own, parent unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &own); err != nil {
		return false, err
	}
	if err := unix.Fstatat(int(dir.Fd()), "..", &parent, 0); err != nil {
		return false, err
	}
	return own.Dev != parent.Dev, nil
}

// Remove deletes the pod's volumes and unmounts what is mounted in them; none
// is no error. What hostPath volumes show stays.
func (v *Volumes) Remove(uid types.UID) error {
	if err := v.Unbind(uid); err != nil {
		return err
	}
	return dirfd.RemoveAll(v.dir(uid))
}
