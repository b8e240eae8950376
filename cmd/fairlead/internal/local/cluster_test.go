package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test binary stands in for fairlead: as `supervise` it is the real
// supervisor, as a daemon it only stays alive.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		if err := standIn(os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func standIn(command string, args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	if command == "supervise" {
		return Supervise(ctx, args[1])
	}
	fmt.Println(command, "runs")
	<-ctx.Done()
	return nil
}

// launchTest brings up namespaces and stand-ins in a slot of its own.
func launchTest(t *testing.T, nodes int) (Cluster, Process) {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { takeDown(t, dir) })
	if err := os.Mkdir(filepath.Join(dir, "nodes"), 0o700); err != nil {
		t.Fatal(err)
	}
	c, supervisor, err := launch(dir, UpOptions{Nodes: nodes, Slot: -1})
	if err != nil {
		t.Fatal(err)
	}
	awaitRunning(t, c)
	return c, supervisor
}

func takeDown(t *testing.T, dir string) {
	t.Helper()
	if err := Down(dir, false, func(string) {}); err != nil {
		t.Errorf("down: %v", err)
	}
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in time", what)
		}
	}
}

func awaitRunning(t *testing.T, c Cluster) {
	t.Helper()
	await(t, "all processes run", func() bool {
		state := readState(c)
		for _, child := range Children(c) {
			if !state.Children[child.Name].process().alive() {
				return false
			}
		}
		return state.Supervisor.alive()
	})
}

func pids(c Cluster) map[string]int {
	out := make(map[string]int)
	for name, child := range readState(c).Children {
		out[name] = child.PID
	}
	return out
}

func TestNodesAreSeparateMachines(t *testing.T) {
	c, _ := launchTest(t, 2)
	n1, n2 := c.Nodes[0], c.Nodes[1]

	state := readState(c)
	for _, ns := range []struct{ kind, pin string }{{"net", n1.NetNS}, {"mnt", n1.MntNS}} {
		var pinned, process, host unix.Stat_t
		if err := errors.Join(
			unix.Stat(ns.pin, &pinned),
			unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", state.Children["n1/agent"].PID, ns.kind), &process),
			unix.Stat("/proc/self/ns/"+ns.kind, &host),
		); err != nil {
			t.Fatal(err)
		}
		if pinned.Ino != process.Ino || pinned.Ino == host.Ino {
			t.Errorf("%s: pinned %d, agent in %d, host in %d", ns.kind, pinned.Ino, process.Ino, host.Ino)
		}
	}

	// What a node mounts and writes in /run is its own.
	const marker = "/run/fairlead-marker"
	err := n1.Enter(func() error {
		return errors.Join(os.WriteFile(marker, nil, 0o600), unix.Mount("tmpfs", "/mnt", "tmpfs", 0, ""))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, elsewhere := range []func(func() error) error{n2.Enter, func(f func() error) error { return f() }} {
		err := elsewhere(func() error {
			if isMountPoint("/mnt") {
				return errors.New("mount of n1 shows elsewhere")
			}
			if _, err := os.Stat(marker); !errors.Is(err, fs.ErrNotExist) {
				return errors.New("file of n1 shows elsewhere")
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}

	// Nodes reach each other and the host reaches them.
	var listener net.Listener
	err = n1.Enter(func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(n1.IP.String(), "0"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dial := func() error {
		conn, err := net.DialTimeout("tcp", listener.Addr().String(), 5*time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	if err := n2.Enter(dial); err != nil {
		t.Errorf("from n2: %v", err)
	}
	if err := dial(); err != nil {
		t.Errorf("from the host: %v", err)
	}
}

func TestDeathsAreSurvived(t *testing.T) {
	c, supervisor := launchTest(t, 1)
	before := pids(c)

	// A daemon dies: it alone is started again.
	if err := unix.Kill(before["n1/agent"], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "agent runs again", func() bool {
		p := readState(c).Children["n1/agent"].process()
		return p.alive() && p.PID != before["n1/agent"]
	})
	if now := pids(c); now["master"] != before["master"] || now["n1/dns"] != before["n1/dns"] {
		t.Errorf("others were restarted: %v, before %v", now, before)
	}

	// The supervisor dies: nothing else does, and the next one takes over.
	before = pids(c)
	if err := unix.Kill(supervisor.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	supervisor.await(5 * time.Second)
	next, again, err := launch(c.Dir, UpOptions{Slot: -1})
	if err != nil {
		t.Fatal(err)
	}
	if again == supervisor || next.Settings != c.Settings {
		t.Fatalf("got supervisor %v of %v, want a new one of %v", again, next.Settings, c.Settings)
	}
	awaitRunning(t, c)
	if now := pids(c); fmt.Sprint(now) != fmt.Sprint(before) {
		t.Errorf("processes %v, want the adopted %v", now, before)
	}

	// An adopted daemon dies: it is noticed all the same.
	if err := unix.Kill(before["master"], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "master runs again", func() bool {
		p := readState(c).Children["master"].process()
		return p.alive() && p.PID != before["master"]
	})
}

func TestDownLeavesNoTrace(t *testing.T) {
	for _, test := range []struct {
		name   string
		before func(t *testing.T, c Cluster, supervisor Process)
	}{
		{"after a quiet life", func(*testing.T, Cluster, Process) {}},
		{"after kill -9 of the supervisor", func(t *testing.T, _ Cluster, supervisor Process) {
			if err := unix.Kill(supervisor.PID, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}},
		{"without its state", func(t *testing.T, c Cluster, _ Process) {
			if err := errors.Join(os.Remove(c.stateFile()), os.Remove(filepath.Join(c.Dir, settingsFile))); err != nil {
				t.Fatal(err)
			}
		}},
		{"with a bridge lost", func(t *testing.T, c Cluster, _ Process) {
			link, err := netlink.LinkByName(c.Bridge)
			if err != nil {
				t.Fatal(err)
			}
			if err := netlink.LinkDel(link); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, supervisor := launchTest(t, 2)
			// A process that nobody recorded, as a container is.
			stray := straggler(t, c)
			test.before(t, c, supervisor)
			takeDown(t, c.Dir)
			if stray.alive() {
				t.Errorf("process %d still lives", stray.PID)
			}
			for _, trace := range traces(t, c) {
				t.Errorf("left: %s", trace)
			}
			takeDown(t, c.Dir) // a second time is no error
			if _, err := os.Stat(c.path("pki")); err != nil {
				t.Errorf("down without purge took data: %v", err)
			}
		})
	}
}

func TestHalfwayUpComesDown(t *testing.T) {
	dir := t.TempDir()
	c, err := claimLocked(dir, UpOptions{Slot: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := ensureBridge(c); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(c.Nodes[0].Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := prepareResolvConf(c); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Nodes[0].ensureNamespaces(); err != nil {
		t.Fatal(err)
	}
	if err := Down(dir, true, func(string) {}); err != nil {
		t.Fatal(err)
	}
	for _, trace := range traces(t, c) {
		t.Errorf("left: %s", trace)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("purged directory: %v", err)
	}
}

func TestClaim(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	for _, dir := range []string{first, second} {
		t.Cleanup(func() { takeDown(t, dir) })
	}
	a, err := claimLocked(first, UpOptions{Nodes: 2, Slot: -1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := claimLocked(second, UpOptions{Slot: -1})
	if err != nil {
		t.Fatal(err)
	}
	if a.Settings.Slot == b.Settings.Slot || a.Settings.Subnet == b.Settings.Subnet {
		t.Errorf("two clusters share: %v and %v", a.Settings, b.Settings)
	}
	again, err := claimLocked(first, UpOptions{Slot: -1})
	if err != nil || again.Settings != a.Settings {
		t.Errorf("again: got %v, %v; want %v", again.Settings, err, a.Settings)
	}
	for _, test := range []struct {
		dir  string
		o    UpOptions
		want string
	}{
		{first, UpOptions{Nodes: 3, Slot: -1}, "holds a cluster of 2 nodes, not 3"},
		{first, UpOptions{Slot: b.Settings.Slot}, "holds a cluster in slot"},
		{t.TempDir(), UpOptions{Slot: a.Settings.Slot}, "is taken by the cluster in " + first},
		{t.TempDir(), UpOptions{Nodes: 99, Slot: -1}, "between 1 and 32"},
	} {
		if _, err := claimLocked(test.dir, test.o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("claim %+v: got %v, want %q", test.o, err, test.want)
		}
	}
}

func TestExamineThisHost(t *testing.T) {
	if blocking := Blocking(Judge(Examine(DefaultDir, ""))); len(blocking) > 0 {
		t.Errorf("this host is blocked by %+v", blocking)
	}
}

func TestBoundLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := boundLog(path, 10); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != "0123456789" {
		t.Errorf("at its bound: %q", got)
	}
	if err := boundLog(path, 8); err != nil {
		t.Fatal(err)
	}
	now, _ := os.ReadFile(path)
	older, _ := os.ReadFile(path + ".1")
	if len(now) != 0 || string(older) != "6789" {
		t.Errorf("over its bound: %q and %q", now, older)
	}
}

// straggler starts a process in the first node's namespaces and a cgroup of
// the slot.
func straggler(t *testing.T, c Cluster) Process {
	t.Helper()
	n := c.Nodes[0]
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(command{binary: sleep, args: []string{"600"}, log: filepath.Join(c.Dir, "stray.log"), cgroup: c.Cgroup + "/n1/podstray", node: &n})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = unix.Wait4(p.PID, nil, 0, nil) }()
	return p
}

// traces lists what is left of a cluster on this machine.
func traces(t *testing.T, c Cluster) (out []string) {
	t.Helper()
	for _, p := range c.processes() {
		out = append(out, fmt.Sprint("process ", p.PID))
	}
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Attrs().Name == c.Bridge || l.Attrs().Name == c.Nodes[0].Link {
			out = append(out, "link "+l.Attrs().Name)
		}
	}
	tables, err := exec.Command("nft", "list", "tables").Output()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(append(tables, '\n'), []byte(c.Table+"\n")) {
		out = append(out, "table "+c.Table)
	}
	mounts, err := mountPoints()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if below(m, c.RunDir) || below(m, c.Dir) {
			out = append(out, "mount "+m)
		}
	}
	for _, root := range hierarchies() {
		if _, err := os.Stat(filepath.Join(root, c.Cgroup)); err == nil {
			out = append(out, "cgroup "+filepath.Join(root, c.Cgroup))
		}
	}
	if _, err := os.Stat(c.RunDir); err == nil {
		out = append(out, c.RunDir)
	}
	return out
}
