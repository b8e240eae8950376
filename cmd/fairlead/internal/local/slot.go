package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	settingsFile = "up.json" // in a cluster's directory
	ownerFile    = "dir"     // in a slot's run directory: who holds the slot
)

// ErrNoCluster says that a directory holds no cluster.
var ErrNoCluster = errors.New("no cluster")

// lock takes an exclusive lock on a file or directory; the lock goes with the
// process. ok is false if another process holds it and wait is not set.
func lock(path string, wait bool) (f *os.File, ok bool, err error) {
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		f, err = os.Open(path)
		if err != nil {
			return nil, false, err
		}
		for {
			if err = unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, false, nil
			}
			return nil, false, fmt.Errorf("lock %s: %w", path, err)
		}
		// The last `down` removes what it locked: was it this one?
		held, err1 := f.Stat()
		now, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(held, now) {
			return f, true, nil
		}
		f.Close()
		if err2 != nil {
			return nil, false, err2
		}
	}
}

// lockSlots serialises what clusters of one machine share.
func lockSlots() (*os.File, error) {
	for {
		if err := os.MkdirAll(runRoot, 0o755); err != nil {
			return nil, err
		}
		f, _, err := lock(runRoot, true)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed in between
		}
		return f, err
	}
}

// lockDir excludes a second up or down on the same directory.
func lockDir(dir string) (*os.File, error) {
	f, ok, err := lock(dir, false)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%s is locked: another fairlead up or down is running on it", dir)
	}
	return f, nil
}

// Open reads a cluster from its directory; ErrNoCluster if there is none.
func Open(dir string) (Cluster, error) {
	dir, err := resolve(dir)
	if err != nil {
		return Cluster{}, err
	}
	s, err := readSettings(dir)
	if err != nil {
		return Cluster{}, err
	}
	return Plan(dir, s), nil
}

func readSettings(dir string) (Settings, error) {
	var s Settings
	data, err := os.ReadFile(filepath.Join(dir, settingsFile))
	if errors.Is(err, os.ErrNotExist) {
		return s, fmt.Errorf("%s: %w", dir, ErrNoCluster)
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("read %s: %w", filepath.Join(dir, settingsFile), err)
	}
	if s.Nodes < 1 || s.Nodes > MaxNodes || s.Slot < 0 || s.Slot >= MaxSlots || !s.Subnet.IsValid() {
		return s, fmt.Errorf("read %s: slot %d, %d nodes, subnet %v are no settings of a cluster", filepath.Join(dir, settingsFile), s.Slot, s.Nodes, s.Subnet)
	}
	return s, nil
}

// resolve makes a directory's name one and the same however it is written.
func resolve(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		return real, nil
	}
	return abs, nil
}

// claim settles which slot, how many nodes and which subnet the cluster in dir
// has, and holds the slot: what the directory remembers wins over what is
// asked; zero nodes and slot -1 ask for nothing. Call it under lockSlots.
func claim(dir string, nodes, slot int) (Cluster, error) {
	s, err := readSettings(dir)
	switch {
	case errors.Is(err, ErrNoCluster):
		if s, err = newSettings(nodes, slot); err != nil {
			return Cluster{}, err
		}
	case err != nil:
		return Cluster{}, err
	case nodes != 0 && nodes != s.Nodes:
		return Cluster{}, fmt.Errorf("%s holds a cluster of %d nodes, not %d: take another --dir, or remove it with `fairlead down --purge --dir %s`", dir, s.Nodes, nodes, dir)
	case slot >= 0 && slot != s.Slot:
		return Cluster{}, fmt.Errorf("%s holds a cluster in slot %d, not %d: take another --dir, or remove it with `fairlead down --purge --dir %s`", dir, s.Slot, slot, dir)
	}
	c := Plan(dir, s)
	if owner := slotOwner(s.Slot); owner != "" && owner != dir {
		return Cluster{}, fmt.Errorf("slot %d of %s is taken by the cluster in %s: bring that one down first (`fairlead down --dir %s`)", s.Slot, dir, owner, owner)
	}
	if err := ensurePins(c); err != nil {
		return Cluster{}, err
	}
	if err := writeAtomic(filepath.Join(c.RunDir, ownerFile), []byte(dir+"\n")); err != nil {
		return Cluster{}, err
	}
	return c, writeJSON(filepath.Join(dir, settingsFile), s)
}

func newSettings(nodes, slot int) (Settings, error) {
	if nodes == 0 {
		nodes = DefaultNodes
	}
	if nodes < 1 || nodes > MaxNodes {
		return Settings{}, fmt.Errorf("%d nodes: between 1 and %d are possible", nodes, MaxNodes)
	}
	if slot >= MaxSlots {
		return Settings{}, fmt.Errorf("slot %d: between 0 and %d are possible", slot, MaxSlots-1)
	}
	if slot < 0 {
		if slot = freeSlot(); slot < 0 {
			return Settings{}, fmt.Errorf("all %d slots of this machine are taken", MaxSlots)
		}
	} else if owner := slotOwner(slot); owner != "" {
		return Settings{}, fmt.Errorf("slot %d is taken by the cluster in %s", slot, owner)
	}
	routes, err := hostRoutes()
	if err != nil {
		return Settings{}, err
	}
	subnet, err := ChooseSubnet(slot, routes)
	return Settings{Slot: slot, Nodes: nodes, Subnet: subnet}, err
}

// freeSlot returns the first slot that nobody holds and whose port is free, or
// -1.
func freeSlot() int {
	for slot := range MaxSlots {
		if slotOwner(slot) == "" && portFree(baseAPIPort+slot) {
			return slot
		}
	}
	return -1
}

func portFree(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// slotOwner returns the directory of the cluster that holds a slot; empty if
// it is free.
func slotOwner(slot int) string {
	runDir := filepath.Join(runRoot, strconv.Itoa(slot))
	data, err := os.ReadFile(filepath.Join(runDir, ownerFile))
	if err == nil {
		return strings.TrimSpace(string(data))
	}
	if _, err := os.Stat(runDir); err == nil {
		return "unknown (" + runDir + ")"
	}
	return ""
}

// takenSlots lists the slots that somebody holds.
func takenSlots() []int {
	entries, _ := os.ReadDir(runRoot)
	var out []int
	for _, e := range entries {
		if slot, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, slot)
		}
	}
	slices.Sort(out)
	return out
}

// findHeld finds the cluster of a directory by the slot it holds, when the
// directory itself has lost its settings.
func findHeld(dir string) (Cluster, bool) {
	for _, slot := range takenSlots() {
		if slotOwner(slot) == dir {
			// More nodes than it had: what is not there is not removed.
			subnet := netip.MustParsePrefix(fmt.Sprintf("%s.%d.0/24", subnetBases[0], slot))
			return Plan(dir, Settings{Slot: slot, Nodes: MaxNodes, Subnet: subnet}), true
		}
	}
	return Cluster{}, false
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeAtomic(path, append(data, '\n'))
}

// writeAtomic replaces a file whole; a crash leaves the old or the new one.
func writeAtomic(path string, data []byte) error { return replace(path, data, true) }

// replace puts a file in the place of another. Without sync a slow disk holds
// nobody up, and the machine's crash may lose it.
func replace(path string, data []byte, sync bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if sync {
		err = errors.Join(err, f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}

// running tells whether the cluster's slot is held, that is whether anything
// of it may be on this machine.
func (c Cluster) running() bool {
	_, err := os.Stat(c.RunDir)
	return !errors.Is(err, fs.ErrNotExist)
}
