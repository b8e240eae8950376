package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/dirfd"
	"fairlead/nodeagent/pod"
)

// bindsBytes bounds the tmpfs that holds the mount points of one start: empty
// files and directories.
const bindsBytes = 1 << 20

// binds is where the pod's mounts for a start are. No container sees it.
func (v *Volumes) binds(uid types.UID) string {
	return filepath.Join(v.podsDir, string(uid), "binds")
}

// Bind fixes what one start of a container shows at its volumeMounts, and returns
// a path for each, in their order, which no container can make lead elsewhere.
// They hold until Unbind, which is to come once the container runs: it has mounts
// of its own by then. What an earlier start of the pod left bound goes first, and no
// path is given twice: a runtime that an agent's end left behind finds nothing, and
// never what another container is to have.
func (v *Volumes) Bind(p *corev1.Pod, c *corev1.Container) ([]string, error) {
	if err := v.Unbind(p.UID); err != nil {
		return nil, err
	}
	start := strconv.FormatInt(time.Now().UnixNano(), 36)
	sources := make([]string, len(c.VolumeMounts))
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		var err error
		if sources[i], err = v.bind(p, m, fmt.Sprintf("%s-%d", start, i)); err != nil {
			_ = v.Unbind(p.UID) // what it leaves goes with the next start, or the pod
			return nil, fmt.Errorf("volumeMount %s: %w", m.Name, err)
		}
	}
	if err := v.makeTargets(p, c, sources); err != nil {
		_ = v.Unbind(p.UID)
		return nil, err
	}
	return sources, nil
}

// makeTargets makes in read-only volumes what other mounts of the container are mounted
// on, as Kubernetes does in those that show data: the runtime makes the others. The
// directory of a host is its own.
func (v *Volumes) makeTargets(p *corev1.Pod, c *corev1.Container, sources []string) error {
	for _, n := range pod.NestedMounts(p, c) {
		outer := c.VolumeMounts[n.Outer].Name
		if slices.ContainsFunc(p.Spec.Volumes, func(vol corev1.Volume) bool { return vol.Name == outer && vol.HostPath != nil }) {
			continue
		}
		isDir := n.Inner == pod.DirOfOurs
		if n.Inner >= 0 {
			info, err := os.Stat(sources[n.Inner])
			if err != nil {
				return err
			}
			isDir = info.IsDir()
		}
		if err := makeTarget(sources[n.Outer], n.Path, isDir); err != nil {
			return fmt.Errorf("make %s in volume %s, to mount on: %w", n.Path, outer, err)
		}
	}
	return nil
}

// makeTarget makes a directory or an empty file in a volume that containers may change
// at the same time, unless there is something.
func makeTarget(root, target string, isDir bool) error {
	dir, err := dirfd.Open(root)
	if err != nil {
		return err
	}
	defer dir.Close()
	made := target
	if !isDir {
		made = path.Dir(target)
	}
	f, err := dir.Make(made, 0o755)
	if err != nil {
		return err
	}
	defer f.Close()
	if isDir {
		return nil
	}
	file, err := dirfd.In(f).Create(path.Base(target), 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return file.Close()
}

func (v *Volumes) bind(p *corev1.Pod, m *corev1.VolumeMount, name string) (source string, err error) {
	at := slices.IndexFunc(p.Spec.Volumes, func(vol corev1.Volume) bool { return vol.Name == m.Name })
	if at < 0 {
		return "", errors.New("the pod has no such volume")
	}
	vol := &p.Spec.Volumes[at]
	sub, err := pod.SubPath(m)
	if err != nil {
		return "", err
	}
	if vol.HostPath == nil && sub == "." {
		return v.path(p.UID, vol.Name), nil
	}
	f, err := v.open(p, vol, sub)
	if err != nil {
		return "", err
	}
	defer f.Close()
	v.before("bind")
	source = filepath.Join(v.binds(p.UID), name)
	if err := v.makeBinds(p.UID); err != nil {
		return "", err
	}
	return source, dirfd.Bind(f, source)
}

// open opens what a mount shows of a volume: sub, or all for ".". Directories of
// sub that are missing are made with the volume's permissions, as Kubernetes does.
func (v *Volumes) open(p *corev1.Pod, vol *corev1.Volume, sub string) (*os.File, error) {
	root, err := v.openVolume(p, vol)
	if err != nil || sub == "." {
		return root, err
	}
	defer root.Close()
	info, err := root.Stat()
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("subPath %s: the volume is a file", sub)
	}
	dir := dirfd.In(root)
	dir.Between = func() { v.before("make subPath") }
	if showsData(vol) { // its version, not the links that lead there
		f, err := dir.Find(path.Join(dataLink, sub))
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	f, err := dir.Make(sub, info.Mode().Perm())
	if err != nil {
		return nil, fmt.Errorf("subPath %s: %w", sub, err)
	}
	return f, nil
}

func showsData(vol *corev1.Volume) bool { return vol.HostPath == nil && vol.EmptyDir == nil }

func (v *Volumes) openVolume(p *corev1.Pod, vol *corev1.Volume) (*os.File, error) {
	if vol.HostPath != nil {
		return v.hostPath(vol.HostPath)
	}
	dir, err := dirfd.Open(v.dir(p.UID))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Find(vol.Name)
}

// makeBinds mounts the place for binds unless it is there. It is private: what is
// mounted in it is seen nowhere else.
func (v *Volumes) makeBinds(uid types.UID) error {
	dir := v.binds(uid)
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil // an earlier mount of this start made it
	}
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("mode=0700,size=%d", bindsBytes)); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make %s private: %w", dir, err)
	}
	return nil
}

// Unbind takes back what Bind bound for the pod; nothing is no error.
func (v *Volumes) Unbind(uid types.UID) error {
	dir := v.binds(uid)
	if err := dirfd.Unmount(dir); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// hostPath opens what a hostPath volume shows, after making what its type says.
// What is opened is what was checked.
func (v *Volumes) hostPath(h *corev1.HostPathVolumeSource) (*os.File, error) {
	want := corev1.HostPathUnset
	if h.Type != nil {
		want = *h.Type
	}
	host, err := dirfd.OpenHost()
	if err != nil {
		return nil, err
	}
	defer host.Close()
	host.Between = func() { v.before("make hostPath") }
	f, err := openHostPath(host, filepath.Clean(h.Path), want)
	if err != nil {
		return nil, fmt.Errorf("hostPath %s: %w", h.Path, err)
	}
	if err := checkHostPath(f, want); err != nil {
		f.Close()
		return nil, fmt.Errorf("hostPath %s: %w", h.Path, err)
	}
	return f, nil
}

func openHostPath(host *dirfd.Dir, path string, want corev1.HostPathType) (*os.File, error) {
	switch want {
	case corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate:
		// A bind needs a source: made as a directory, as Kubernetes' runtimes do.
		return host.Make(path, 0o755)
	case corev1.HostPathFileOrCreate:
		f, err := host.Find(path)
		if errors.Is(err, fs.ErrNotExist) {
			f, err = host.Create(path, 0o644)
		}
		if errors.Is(err, fs.ErrExist) { // another was first
			f, err = host.Find(path)
		}
		return f, err
	}
	f, err := host.Find(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("it does not exist")
	}
	return f, err
}

// checkHostPath tells what an open file is not that its type says.
func checkHostPath(f *os.File, want corev1.HostPathType) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	mode := info.Mode()
	ok := false
	switch want {
	case corev1.HostPathUnset:
		ok = true
	case corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate:
		want, ok = corev1.HostPathDirectory, mode.IsDir()
	case corev1.HostPathFile, corev1.HostPathFileOrCreate:
		want, ok = corev1.HostPathFile, mode.IsRegular()
	case corev1.HostPathSocket:
		ok = mode&fs.ModeSocket != 0
	case corev1.HostPathCharDev:
		ok = mode&fs.ModeCharDevice != 0
	case corev1.HostPathBlockDev:
		ok = mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0
	default:
		return fmt.Errorf("its type %q is not supported", want)
	}
	if !ok {
		return fmt.Errorf("it is not a %s", want)
	}
	return nil
}
