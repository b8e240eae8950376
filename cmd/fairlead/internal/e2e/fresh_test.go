package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// clock is how tests print times: to be held beside a daemon's log.
	clock = "15:04:05.000"
	// returnTimeout bounds how long a killed daemon may stay away: the
	// supervisor's longest pause and the daemon's own start, on a slow machine.
	returnTimeout = 40 * time.Second
	// logTail is how much of each daemon's log a failed test shows.
	logTail = 4 << 10
	// seedVariable chooses the seed of a test with chance; else it is 1.
	seedVariable = "FAIRLEAD_E2E_SEED"
)

// fresh brings up a cluster for one test. When the test is over it must go
// without a trace; a test that failed shows what the daemons said.
func fresh(t *testing.T, nodes int) *cluster {
	t.Helper()
	return freshIn(t, nodes, ownSlot(t))
}

// freshIn is fresh in a slot that the caller has; -1 lets `up` choose one.
func freshIn(t *testing.T, nodes, slot int) *cluster {
	t.Helper()
	work := t.TempDir()
	c := &cluster{dir: filepath.Join(work, "up"), home: filepath.Join(work, "home")}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.said())
		}
		if err := c.downClean(); err != nil {
			t.Error(err)
		}
	})
	if err := c.up("--nodes", strconv.Itoa(nodes), "--slot", strconv.Itoa(slot)); err != nil {
		t.Fatal(err)
	}
	return c
}

// lastSlot is the highest that a machine has. `up` chooses from the lowest, for people.
const lastSlot = 63

// ownSlot is a slot that no other test takes, in this run or another, before this test
// is over: what `down` left there is looked for after it is free, and a cluster that was
// taken down comes up in it again.
func ownSlot(t *testing.T) int {
	t.Helper()
	for slot := lastSlot; slot >= 0; slot-- {
		claim, err := net.Listen("unix", fmt.Sprintf("@fairlead-e2e-slot-%d", slot))
		if err != nil {
			continue
		}
		t.Cleanup(func() { claim.Close() })
		if _, err := os.Stat(fmt.Sprintf("/run/fairlead/%d", slot)); errors.Is(err, fs.ErrNotExist) {
			return slot
		}
	}
	t.Fatal("every slot of this machine is taken")
	return -1
}

// said is the end of every daemon's log.
func (c *cluster) said() string {
	var b strings.Builder
	_ = filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // what is left is shown
		}
		if d.IsDir() && (d.Name() == "storage" || d.Name() == "pods" || d.Name() == "git") {
			return fs.SkipDir
		}
		if filepath.Ext(path) == ".log" {
			data, _ := os.ReadFile(path)
			data = data[max(0, len(data)-logTail):]
			fmt.Fprintf(&b, "--- the end of %s\n%s\n", strings.TrimPrefix(path, c.dir+"/"), data)
		}
		return nil
	})
	return b.String()
}

// chance is the test's source of chance, with its seed in the log.
func chance(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(1)
	if text := os.Getenv(seedVariable); text != "" {
		given, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
		seed = given
	}
	t.Logf("seed: %s=%d", seedVariable, seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// netNS and mntNS are where a node's namespaces are pinned.
func (c *cluster) netNS(node string) string {
	return fmt.Sprintf("/run/fairlead/%d/%s/net", c.slot, node)
}
func (c *cluster) mntNS(node string) string {
	return fmt.Sprintf("/run/fairlead/%d/%s/mnt", c.slot, node)
}

// onNode runs a program inside a node's namespaces and returns what it printed.
func (c *cluster) onNode(t *testing.T, node, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "nsenter", append([]string{"--net=" + c.netNS(node), "--mount=" + c.mntNS(node)}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := output(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// names are the nodes' names, sorted.
func (c *cluster) names() (out []string) {
	for _, n := range c.Nodes {
		out = append(out, n.Name)
	}
	return out
}

// address is a node's address.
func (c *cluster) address(node string) string {
	for _, n := range c.Nodes {
		if n.Name == node {
			return n.Address
		}
	}
	return ""
}

// targets are the daemons that can be killed: the supervisor's children, the
// supervisor, and each node's Podman service.
func (c *cluster) targets() []string {
	out := []string{"master", "supervisor"}
	for _, n := range c.names() {
		out = append(out, n+"/agent", n+"/dns", n+"/podman")
	}
	return out
}

// living finds the process of a daemon; the zero process when it does not run.
func (c *cluster) living(name string) process {
	if node, ok := strings.CutSuffix(name, "/podman"); ok {
		return c.podmanService(node)
	}
	pids, err := c.daemons()
	if err != nil {
		return process{}
	}
	return look(pids[name])
}

// podmanService finds a node's Podman service by its arguments and mounts.
func (c *cluster) podmanService(node string) process {
	var pin, own unix.Stat_t
	if err := unix.Stat(c.mntNS(node), &pin); err != nil {
		return process{}
	}
	for pid := range pids() {
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if !bytes.Contains(args, []byte("\x00system\x00service\x00")) {
			continue
		}
		if unix.Stat(fmt.Sprintf("/proc/%d/ns/mnt", pid), &own) == nil && own.Ino == pin.Ino {
			return look(pid)
		}
	}
	return process{}
}

// awaitDaemon waits until a daemon runs as another process than before.
func (c *cluster) awaitDaemon(t *testing.T, name string, before process) process {
	t.Helper()
	var now process
	eventually(t, returnTimeout, name+" runs again", func() (bool, string) {
		now = c.living(name)
		return now != process{} && now != before, fmt.Sprint(now)
	})
	return now
}

// killDaemon ends a daemon with SIGKILL and returns what it was.
func (c *cluster) killDaemon(t *testing.T, name string) process {
	t.Helper()
	p := c.awaitDaemon(t, name, process{})
	p.kill(t)
	return p
}

// withoutMaster ends the master and keeps it from starting until the returned
// function is called.
func (c *cluster) withoutMaster(t *testing.T) (restore func()) {
	t.Helper()
	config, aside := filepath.Join(c.dir, "config.yaml"), filepath.Join(c.dir, "config.yaml.aside")
	if err := os.Rename(config, aside); err != nil {
		t.Fatal(err)
	}
	restored := false
	restore = func() {
		if restored {
			return
		}
		restored = true
		if err := os.Rename(aside, config); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(restore)
	c.killDaemon(t, "master")
	return restore
}

// awaitReady waits until every node says that it is Ready and every daemon runs.
func (c *cluster) awaitReady(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, "every daemon runs and every node is Ready", func() (bool, string) {
		missing := slices.DeleteFunc(c.targets(), func(name string) bool { return c.living(name) != process{} })
		if len(missing) > 0 {
			return false, "not running: " + strings.Join(missing, ", ")
		}
		conditions, err := c.nodeConditions(t)
		if err != nil {
			return false, err.Error()
		}
		for _, status := range conditions {
			if status != "True" {
				return false, fmt.Sprint(conditions)
			}
		}
		return len(conditions) == len(c.Nodes), fmt.Sprint(conditions)
	})
}

// sorted is a map's keys in order.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
