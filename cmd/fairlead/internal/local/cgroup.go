package local

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// CgroupMode is how the host mounts its cgroup hierarchies.
type CgroupMode string

// The modes; hybrid is v1 with an empty v2 hierarchy beside it.
const (
	CgroupV1     CgroupMode = "v1"
	CgroupHybrid CgroupMode = "hybrid"
	CgroupV2     CgroupMode = "v2"
	CgroupNone   CgroupMode = "none"
)

func cgroupMode() CgroupMode {
	switch {
	case isFilesystem(cgroupRoot, unix.CGROUP2_SUPER_MAGIC):
		return CgroupV2
	case isFilesystem(filepath.Join(cgroupRoot, "unified"), unix.CGROUP2_SUPER_MAGIC):
		return CgroupHybrid
	case len(hierarchies()) > 0:
		return CgroupV1
	}
	return CgroupNone
}

func isFilesystem(path string, magic int64) bool {
	var s unix.Statfs_t
	return unix.Statfs(path, &s) == nil && int64(s.Type) == magic
}

// hierarchies returns the mount points of every cgroup hierarchy, sorted.
func hierarchies() []string {
	if isFilesystem(cgroupRoot, unix.CGROUP2_SUPER_MAGIC) {
		return []string{cgroupRoot}
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		path := filepath.Join(cgroupRoot, e.Name())
		if e.Type()&fs.ModeSymlink != 0 {
			continue // cpu -> cpu,cpuacct
		}
		if isFilesystem(path, unix.CGROUP_SUPER_MAGIC) || isFilesystem(path, unix.CGROUP2_SUPER_MAGIC) {
			out = append(out, path)
		}
	}
	return out
}

// trackingHierarchy is where daemons are kept findable: the v2 hierarchy,
// which a process can be born into, otherwise one that limits nothing.
func trackingHierarchy() (path string, v2 bool) {
	switch cgroupMode() {
	case CgroupV2:
		return cgroupRoot, true
	case CgroupHybrid:
		return filepath.Join(cgroupRoot, "unified"), true
	}
	for _, name := range []string{"systemd", "freezer", "pids"} {
		if path := filepath.Join(cgroupRoot, name); slices.Contains(hierarchies(), path) {
			return path, false
		}
	}
	return "", false
}

// tracking puts a process that is being started into a cgroup.
type tracking struct {
	dir *os.File // nil: leave it where it is
	v2  bool
}

// openTracking makes the cgroup. With v2 the process is born in it.
func openTracking(cgroup string, attr *syscall.SysProcAttr) (tracking, error) {
	root, v2 := trackingHierarchy()
	if cgroup == "" || root == "" {
		return tracking{}, nil
	}
	path := filepath.Join(root, cgroup)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return tracking{}, fmt.Errorf("make cgroup: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return tracking{}, fmt.Errorf("open cgroup: %w", err)
	}
	if v2 {
		attr.UseCgroupFD, attr.CgroupFD = true, int(dir.Fd())
	}
	return tracking{dir: dir, v2: v2}, nil
}

func (t tracking) add(pid int) error {
	if t.dir == nil || t.v2 {
		return nil
	}
	err := os.WriteFile(filepath.Join(t.dir.Name(), "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("move process %d into %s: %w", pid, t.dir.Name(), err)
	}
	return nil
}

func (t tracking) close() {
	if t.dir != nil {
		t.dir.Close()
	}
}

// cgroupMembers returns the living processes in cgroup and below it, in any
// hierarchy, sorted by pid.
func cgroupMembers(cgroup string) []Process {
	found := make(map[int]bool)
	for _, root := range hierarchies() {
		_ = filepath.WalkDir(filepath.Join(root, cgroup), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return nil
			}
			data, _ := os.ReadFile(path)
			for line := range bytes.Lines(data) {
				if pid, err := strconv.Atoi(strings.TrimSpace(string(line))); err == nil && pid > 0 {
					found[pid] = true
				}
			}
			return nil
		})
	}
	return living(found)
}

func living(pids map[int]bool) []Process {
	var out []Process
	for pid := range pids {
		if p, err := findProcess(pid); err == nil {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b Process) int { return a.PID - b.PID })
	return out
}

// removeCgroup removes cgroup and all below it from every hierarchy, and the
// parent that clusters share when this was the last. A cgroup empties a moment
// after its last process ended.
func removeCgroup(cgroup string, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for {
		err := tryRemoveCgroup(cgroup)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func tryRemoveCgroup(cgroup string) error {
	for _, root := range hierarchies() {
		var dirs []string
		_ = filepath.WalkDir(filepath.Join(root, cgroup), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		slices.Reverse(dirs) // children before parents
		for _, dir := range dirs {
			if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("remove cgroup %s: %w", dir, err)
			}
		}
		_ = unix.Rmdir(filepath.Join(root, filepath.Dir(cgroup)))
	}
	return nil
}
