// Package volume answers what a pod's containers find in their volumes: it
// makes emptyDir, ConfigMap, Secret, projected and downward API volumes and
// checks hostPath ones. A volume that shows data switches from one version to
// the next at once, so a mount never shows a mix. It mounts nothing into
// containers; the node agent calls it.
package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/pod"
)

// secretBytes bounds the tmpfs of a volume with secret data.
const secretBytes = 64 << 20

// Volumes keeps each pod's volumes under podsDir/<uid>/volumes/<name>, in the
// mount namespace of the calling process. It keeps nothing in memory. Different
// pods may be worked on concurrently.
type Volumes struct {
	podsDir string
}

// New works below podsDir.
func New(podsDir string) *Volumes { return &Volumes{podsDir: podsDir} }

func (v *Volumes) dir(uid types.UID) string {
	return filepath.Join(v.podsDir, string(uid), "volumes")
}

// Prepare makes the pod's volumes and brings what they show up to date; what is
// right already is not touched. It returns each volume's path by name. An error
// names the first volume that cannot be had; those before it are made.
func (v *Volumes) Prepare(p *corev1.Pod, data pod.Data, at pod.Place) (map[string]string, error) {
	paths := make(map[string]string, len(p.Spec.Volumes))
	for i := range p.Spec.Volumes {
		vol := &p.Spec.Volumes[i]
		path, err := v.prepare(p, vol, data, at)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", vol.Name, err)
		}
		paths[vol.Name] = path
	}
	if err := v.subPaths(p, paths); err != nil {
		return nil, err
	}
	return paths, nil
}

func (v *Volumes) prepare(p *corev1.Pod, vol *corev1.Volume, data pod.Data, at pod.Place) (string, error) {
	path := filepath.Join(v.dir(p.UID), vol.Name)
	switch {
	case vol.HostPath != nil:
		return vol.HostPath.Path, hostPath(vol.HostPath)
	case vol.EmptyDir != nil:
		return path, emptyDir(path, vol.EmptyDir, p)
	}
	files, secret, err := content(p, vol, data, at)
	if err != nil {
		return "", err
	}
	if secret {
		if err := tmpfs(path, secretBytes, 0o755); err != nil {
			return "", err
		}
	}
	return path, publish(path, files, groupOf(p))
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
	// Whoever the container runs as writes here; with fsGroup, so does the group.
	mode := os.FileMode(0o777)
	if g := groupOf(p); g >= 0 {
		if err := os.Chown(path, -1, g); err != nil {
			return err
		}
		mode |= os.ModeSetgid
	}
	return os.Chmod(path, mode)
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
	if mounted, err := isMount(path); err != nil || mounted {
		return err
	}
	options := fmt.Sprintf("mode=%#o", mode)
	if size > 0 {
		options += fmt.Sprintf(",size=%d", size)
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	return nil
}

// isMount tells a directory on another device than its parent.
func isMount(path string) (bool, error) {
	var own, parent unix.Stat_t
	if err := unix.Stat(path, &own); err != nil {
		return false, err
	}
	if err := unix.Stat(filepath.Dir(path), &parent); err != nil {
		return false, err
	}
	return own.Dev != parent.Dev, nil
}

// hostPath checks, or makes, what the type asks for.
func hostPath(h *corev1.HostPathVolumeSource) error {
	want := corev1.HostPathUnset
	if h.Type != nil {
		want = *h.Type
	}
	info, err := os.Stat(h.Path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	switch want {
	case corev1.HostPathUnset:
		// A bind needs a source: made as a directory, as Kubernetes' runtimes do.
		if missing {
			return os.MkdirAll(h.Path, 0o755)
		}
		return nil
	case corev1.HostPathDirectoryOrCreate:
		if missing {
			return os.MkdirAll(h.Path, 0o755)
		}
		want = corev1.HostPathDirectory
	case corev1.HostPathFileOrCreate:
		if missing {
			return os.WriteFile(h.Path, nil, 0o644)
		}
		want = corev1.HostPathFile
	}
	if missing {
		return fmt.Errorf("hostPath %s does not exist", h.Path)
	}
	is := map[corev1.HostPathType]bool{
		corev1.HostPathDirectory: info.IsDir(),
		corev1.HostPathFile:      info.Mode().IsRegular(),
		corev1.HostPathSocket:    info.Mode()&fs.ModeSocket != 0,
		corev1.HostPathCharDev:   info.Mode()&fs.ModeCharDevice != 0,
		corev1.HostPathBlockDev:  info.Mode()&fs.ModeDevice != 0 && info.Mode()&fs.ModeCharDevice == 0,
	}
	if ok, known := is[want]; !known {
		return fmt.Errorf("hostPath type %q is not supported", want)
	} else if !ok {
		return fmt.Errorf("hostPath %s is not a %s", h.Path, want)
	}
	return nil
}

// subPaths makes the directories that volumeMounts name below emptyDir and
// hostPath volumes, and checks that none leaves its volume through a link.
func (v *Volumes) subPaths(p *corev1.Pod, paths map[string]string) error {
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		for _, m := range c.VolumeMounts {
			root, ok := paths[m.Name]
			if !ok || m.SubPath == "" {
				continue
			}
			if err := subPath(root, m.SubPath); err != nil {
				return fmt.Errorf("volume %s: subPath %s: %w", m.Name, m.SubPath, err)
			}
		}
	}
	return nil
}

func subPath(root, sub string) error {
	if filepath.IsAbs(sub) || slices.Contains(strings.Split(sub, "/"), "..") {
		return errors.New("leaves the volume")
	}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer dir.Close()
	// OpenRoot refuses links that lead out.
	if _, err := dir.Stat(sub); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return dir.MkdirAll(sub, 0o777)
}

// Remove deletes the pod's volumes and unmounts what is mounted in them; none
// is no error. hostPath volumes stay.
func (v *Volumes) Remove(uid types.UID) error {
	dir := v.dir(uid)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		for {
			mounted, err := isMount(path)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if !mounted {
				break
			}
			if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
				return fmt.Errorf("unmount volume %s: %w", e.Name(), err)
			}
		}
	}
	return os.RemoveAll(dir)
}
