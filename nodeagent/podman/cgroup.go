package podman

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	podPrefix  = "pod"
	ctrPrefix  = "libpod-"
	// releaseWait is how long conmons may take to leave by themselves, and
	// killed processes to be gone.
	releaseWait = 2 * time.Second
	releasePoll = 10 * time.Millisecond
)

// cgroups is the node's part of the cgroup trees: one on version 2, one per
// controller on version 1.
type cgroups struct {
	parent string // /fairlead/<slot>/<node>
	v2     bool
	roots  []string // mount points
	watch  string   // the one whose processes are counted
	cpu    string
	memory string
}

func findCgroups(parent string) cgroups {
	g := cgroups{parent: parent}
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		g.v2, g.roots, g.watch, g.cpu, g.memory = true, []string{cgroupRoot}, cgroupRoot, cgroupRoot, cgroupRoot
		return g
	}
	entries, _ := os.ReadDir(cgroupRoot)
	for _, e := range entries {
		if e.IsDir() { // links are other names of the same controller
			g.roots = append(g.roots, filepath.Join(cgroupRoot, e.Name()))
		}
	}
	g.cpu, g.memory = filepath.Join(cgroupRoot, "cpu"), filepath.Join(cgroupRoot, "memory")
	g.watch = g.memory
	return g
}

// runtime is the OCI runtime that works with this host's hierarchy: crun
// refuses hybrid ones.
func (g cgroups) runtime() string {
	if g.v2 {
		return "crun"
	}
	return "runc"
}

func (g cgroups) pod(uid types.UID) string { return filepath.Join(g.parent, podPrefix+string(uid)) }

// setPodShares makes the pod weigh among pods what its containers ask for.
func (g cgroups) setPodShares(uid types.UID, shares uint64) error {
	if shares == 0 {
		return nil
	}
	dir := filepath.Join(g.cpu, g.pod(uid))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("pod cgroup: %w", err)
	}
	file, value := "cpu.shares", shares
	if g.v2 {
		g.delegateCPU(dir)
		// The kernel's own mapping of shares 2..262144 to weights 1..10000.
		file, value = "cpu.weight", 1+(min(max(shares, 2), 262144)-2)*9999/262142
	}
	if err := os.WriteFile(filepath.Join(dir, file), []byte(strconv.FormatUint(value, 10)), 0o644); err != nil {
		return fmt.Errorf("pod cgroup: %w", err)
	}
	return nil
}

// delegateCPU lets every group from the root down to dir's parent hand the cpu
// controller on. A group that has it already, or cannot, is no error here: the
// write of the weight tells.
func (g cgroups) delegateCPU(dir string) {
	at := g.cpu
	rel, _ := filepath.Rel(g.cpu, filepath.Dir(dir))
	for _, part := range append([]string{"."}, strings.Split(rel, "/")...) {
		at = filepath.Join(at, part)
		_ = os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte("+cpu"), 0o644)
	}
}

// group is a container's cgroup with processes in it.
type group struct {
	pod  types.UID
	pids []int
}

// populated finds the containers that have processes, by container ID.
func (g cgroups) populated() (map[string]group, error) {
	out := map[string]group{}
	base := filepath.Join(g.watch, g.parent)
	pods, err := os.ReadDir(base)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	for _, p := range pods {
		uid, ok := strings.CutPrefix(p.Name(), podPrefix)
		if !ok || !p.IsDir() {
			continue
		}
		containers, err := os.ReadDir(filepath.Join(base, p.Name()))
		if err != nil {
			continue // gone meanwhile
		}
		for _, c := range containers {
			id, ok := strings.CutPrefix(c.Name(), ctrPrefix)
			if !ok || strings.Contains(id, "conmon") {
				continue
			}
			if pids := pidsIn(filepath.Join(base, p.Name(), c.Name())); len(pids) > 0 {
				out[id] = group{types.UID(uid), pids}
			}
		}
	}
	return out, nil
}

// pidsIn lists the processes of a cgroup, not those of its children.
func pidsIn(dir string) []int {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, f := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// endContainer kills what still runs in a removed container's cgroups and removes
// them: Podman leaves them, in every tree, when conmon died before the container.
func (g cgroups) endContainer(ctx context.Context, id string) error {
	for _, root := range g.roots {
		dir, err := g.container(root, id)
		if err != nil {
			return err
		}
		if dir == "" {
			continue
		}
		rel, err := filepath.Rel(root, dir)
		if err != nil {
			return err
		}
		if err := g.remove(ctx, rel, 0); err != nil {
			return err
		}
	}
	return nil
}

// container finds a container's cgroup in one tree; empty if it is not there.
func (g cgroups) container(root, id string) (string, error) {
	dirs, err := filepath.Glob(filepath.Join(root, g.parent, podPrefix+"*", ctrPrefix+id))
	if err != nil || len(dirs) == 0 {
		return "", err
	}
	return dirs[0], nil
}

// execPrefix begins the names of the cgroups, inside containers' own, of commands
// that are run in them.
const execPrefix = "fairlead-exec-"

// execTree is the tree in which such commands are told apart from the rest of
// their container, and what the runtime calls it. On version 1 that is the one
// that can stop them while they are killed; in the others they stay with their
// container.
func (g cgroups) execTree() (root, prefix string) {
	if g.v2 {
		return cgroupRoot, ""
	}
	return filepath.Join(cgroupRoot, "freezer"), "freezer:"
}

// makeExec makes a cgroup for one command; argument is how the runtime is told.
func (g cgroups) makeExec(id, name string) (dir, argument string, err error) {
	root, prefix := g.execTree()
	dir, err = g.container(root, id)
	if err != nil || dir == "" {
		return "", "", cmp.Or(err, error(syscall.ESRCH))
	}
	dir = filepath.Join(dir, execPrefix+name)
	return dir, prefix + execPrefix + name, os.Mkdir(dir, 0o755)
}

// endExecs ends the commands that an earlier life of the agent left running.
func (g cgroups) endExecs() error {
	root, _ := g.execTree()
	dirs, err := filepath.Glob(filepath.Join(root, g.parent, podPrefix+"*", ctrPrefix+"*", execPrefix+"*"))
	for _, dir := range dirs {
		err = errors.Join(err, g.end(dir))
	}
	return err
}

// end kills everything in a cgroup, however it divides itself meanwhile, and
// removes it.
func (g cgroups) end(dir string) error {
	for began := time.Now(); ; time.Sleep(releasePoll) {
		err := removeTree(dir, false)
		if err == nil || time.Since(began) > releaseWait {
			return err
		}
		// Who is frozen forks no more; a signal is taken when thawed.
		g.freeze(dir, true)
		_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				killAll(path)
			}
			return nil
		})
		g.freeze(dir, false)
	}
}

func (g cgroups) freeze(dir string, frozen bool) {
	file, value := "freezer.state", map[bool]string{true: "FROZEN", false: "THAWED"}[frozen]
	if g.v2 {
		file, value = "cgroup.freeze", map[bool]string{true: "1", false: "0"}[frozen]
	}
	// Without, those who fork faster than they are killed take another turn.
	_ = os.WriteFile(filepath.Join(dir, file), []byte(value), 0o644)
}

func killAll(dir string) {
	for _, pid := range pidsIn(dir) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// release removes the pod's cgroups; who is still in them after a while is killed.
func (g cgroups) release(ctx context.Context, uid types.UID) error {
	return g.remove(ctx, g.pod(uid), releaseWait)
}

// remove deletes a cgroup with its children in every tree, killing what is in
// it once patience is over.
func (g cgroups) remove(ctx context.Context, path string, patience time.Duration) error {
	began := time.Now()
	for {
		left := error(nil)
		for _, root := range g.roots {
			if err := removeTree(filepath.Join(root, path), time.Since(began) >= patience); err != nil {
				left = err
			}
		}
		if left == nil {
			return nil
		}
		if time.Since(began) > patience+releaseWait {
			return left
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), left)
		case <-time.After(releasePoll):
		}
	}
}

func removeTree(dir string, kill bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name()), kill); err != nil {
				return err
			}
		}
	}
	if kill {
		killAll(dir)
	}
	if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("remove cgroup %s: %w", dir, err)
	}
	return nil
}

// oomCounter tells whether the kernel killed for lack of memory in a
// container's cgroup. It is opened while the container lives: the group is gone
// soon after.
type oomCounter struct {
	file *os.File
	key  string
	was  uint64
}

func watchOOM(pid int) oomCounter {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return oomCounter{}
	}
	v1, v2 := "", ""
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(f) == 3 && f[1] == "memory":
			v1 = filepath.Join(cgroupRoot, "memory", f[2], "memory.oom_control")
		case len(f) == 3 && f[0] == "0":
			v2 = filepath.Join(cgroupRoot, f[2], "memory.events")
		}
	}
	path := v1
	if path == "" {
		path = v2
	}
	file, err := os.Open(path)
	if err != nil {
		return oomCounter{}
	}
	c := oomCounter{file: file, key: "oom_kill"}
	c.was, _ = c.read()
	return c
}

func (c oomCounter) read() (uint64, error) {
	buf := make([]byte, 4<<10)
	n, err := c.file.ReadAt(buf, 0)
	if n == 0 {
		return 0, err
	}
	for line := range strings.Lines(string(buf[:n])) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == c.key {
			return strconv.ParseUint(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s", c.key)
}

func (c oomCounter) happened() bool {
	if c.file == nil {
		return false
	}
	n, err := c.read()
	return err == nil && n > c.was
}

func (c oomCounter) close() {
	if c.file != nil {
		c.file.Close()
	}
}
