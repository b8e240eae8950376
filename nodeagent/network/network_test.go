package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/pod"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The main goroutine keeps the first thread, so that no test changes the
// namespaces that /proc/self shows.
func init() { runtime.LockOSThread() }

// newNode moves the test to a network namespace of its own, with an uplink
// that has 10.9.0.1/24.
func newNode(t testing.TB) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	must(t, netlink.LinkSetUp(loopbackLink()))
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "up0", 1400
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "up1"}))
	for _, name := range []string{"up0", "up1"} {
		link, err := netlink.LinkByName(name)
		must(t, err)
		must(t, netlink.LinkSetUp(link))
		if name == "up0" {
			must(t, netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("10.9.0.1/24"))}))
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func config() Config {
	return Config{
		Node: "n1", NodeIP: netip.MustParseAddr("10.9.0.1"),
		PodCIDR: netip.MustParsePrefix("10.112.0.0/22"), ClusterPodCIDR: netip.MustParsePrefix("10.112.0.0/12"),
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), DNS: netip.MustParseAddr("10.96.0.10"),
		Peers: []Peer{
			{Name: "n2", NodeIP: netip.MustParseAddr("10.9.0.2"), PodCIDR: netip.MustParsePrefix("10.112.4.0/22")},
			{Name: "n3", NodeIP: netip.MustParseAddr("10.9.0.3"), PodCIDR: netip.MustParsePrefix("10.112.8.0/22")},
		},
	}
}

// ours is what of the node's configuration is ours.
func ours(t *testing.T) []string {
	t.Helper()
	s, err := observe()
	must(t, err)
	var out []string
	for _, r := range s.ours {
		out = append(out, r.String())
	}
	for _, a := range s.loopback {
		out = append(out, "address "+a.String())
	}
	return out
}

func sorted() cmp.Option { return cmpopts.SortSlices(func(a, b string) bool { return a < b }) }

func TestSet(t *testing.T) {
	newNode(t)
	n := New(t.TempDir())
	up, err := netlink.LinkByName("up0")
	must(t, err)
	index := up.Attrs().Index

	foreign := &netlink.Route{Dst: ipNet(netip.MustParsePrefix("10.50.0.0/16")), LinkIndex: index, Scope: unix.RT_SCOPE_LINK}
	must(t, netlink.RouteAdd(foreign))
	must(t, n.Set(config()))
	want := []string{
		"blackhole 10.112.0.0/12",
		"10.96.0.0/16 src 10.9.0.1 link 1",
		fmt.Sprintf("10.112.4.0/22 via 10.9.0.2 link %d", index),
		fmt.Sprintf("10.112.8.0/22 via 10.9.0.3 link %d", index),
		"address 10.96.0.10",
	}
	if d := cmp.Diff(want, ours(t), sorted()); d != "" {
		t.Fatal(d)
	}
	if b, _ := os.ReadFile(ipForward); strings.TrimSpace(string(b)) != "1" {
		t.Error("forwarding is off")
	}

	s, err := observe()
	must(t, err)
	w, left := config().wants(s)
	if len(left) > 0 {
		t.Error(left)
	}
	if again := plan(w, s); len(again) != 0 {
		t.Errorf("the second time would %v", again)
	}

	c := config()
	c.Peers[0].NodeIP = netip.MustParseAddr("10.9.0.22") // moved
	c.Peers = c.Peers[:1]                                // and n3 gone
	must(t, n.Set(c))
	want = []string{
		"blackhole 10.112.0.0/12",
		"10.96.0.0/16 src 10.9.0.1 link 1",
		fmt.Sprintf("10.112.4.0/22 via 10.9.0.22 link %d", index),
		"address 10.96.0.10",
	}
	if d := cmp.Diff(want, ours(t), sorted()); d != "" {
		t.Fatal(d)
	}

	c.Peers = append(c.Peers, Peer{Name: "far", NodeIP: netip.MustParseAddr("192.0.2.7"), PodCIDR: netip.MustParsePrefix("10.112.12.0/22")})
	if err := n.Set(c); !errors.As(err, new(*PartialError)) || !strings.Contains(err.Error(), "node far: its address 192.0.2.7 is on no link") {
		t.Errorf("a peer off the link: %v", err)
	}
	if d := cmp.Diff(want, ours(t), sorted()); d != "" {
		t.Errorf("the other peers suffer: %s", d)
	}

	must(t, n.Set(Config{}))
	if got := ours(t); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, foreign, netlink.RT_FILTER_DST)
	if err != nil || len(routes) != 1 {
		t.Errorf("the foreign route: %v %v", routes, err)
	}
}

func TestSetPutsAMissingNodeAddressOnLoopback(t *testing.T) {
	newNode(t)
	c := config()
	c.NodeIP = netip.MustParseAddr("10.77.0.1")
	must(t, New(t.TempDir()).Set(c))
	s, err := observe()
	must(t, err)
	if d := cmp.Diff([]string{"10.96.0.10", "10.77.0.1"}, texts(s.loopback), sorted()); d != "" {
		t.Error(d)
	}
}

func texts[T fmt.Stringer](in []T) []string {
	var out []string
	for _, v := range in {
		out = append(out, v.String())
	}
	return out
}

// inSandbox runs f in the pod's network and UTS namespaces.
func inSandbox(t *testing.T, n *Network, uid types.UID, f func() error) {
	t.Helper()
	s := n.sandbox(uid)
	err := onDiscardedThread(func() error {
		for path, kind := range map[string]int{s.Net: unix.CLONE_NEWNET, s.UTS: unix.CLONE_NEWUTS, s.IPC: unix.CLONE_NEWIPC} {
			h, err := netns.GetFromPath(path)
			if err != nil {
				return err
			}
			defer h.Close()
			if err := netns.Setns(h, kind); err != nil {
				return fmt.Errorf("enter %s: %w", path, err)
			}
		}
		return f()
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSandbox(t *testing.T) {
	newNode(t)
	n := New(t.TempDir())
	must(t, n.Set(config()))
	uid, ip := types.UID("9d0f6a3e-0000-5000-8000-000000000001"), netip.MustParseAddr("10.112.0.5")
	t.Cleanup(func() { onNodeless(n, uid) })

	own := []pod.Sysctl{
		{Path: "net/ipv4/ping_group_range", Value: "5 6"}, {Path: "net/ipv4/conf/eth0/log_martians", Value: "1"}, // after the link is there
		{Path: "kernel/shm_rmid_forced", Value: "1"}, {Path: "kernel/msgmax", Value: "4096"}, {Path: "fs/mqueue/msg_max", Value: "7"},
	}
	asked := pod.SandboxConfig{UID: uid, IP: ip, Hostname: "web-0", Sysctls: own}
	s, err := n.CreateSandbox(asked)
	must(t, err)
	again, err := n.CreateSandbox(asked)
	must(t, err)
	if s != again {
		t.Errorf("second time: %v, first %v", again, s)
	}
	if _, err := n.CreateSandbox(pod.SandboxConfig{UID: uid, IP: netip.MustParseAddr("10.112.0.6"), Hostname: "web-0"}); err == nil {
		t.Error("took another address for a living sandbox")
	}

	ready := make(chan string, 1)
	inSandbox(t, n, uid, func() error {
		var uts unix.Utsname
		must(t, unix.Uname(&uts))
		if got := unix.ByteSliceToString(uts.Nodename[:]); got != "web-0" {
			t.Errorf("hostname %q", got)
		}
		for _, c := range append([]pod.Sysctl{{Path: baseSysctls[1][0], Value: baseSysctls[1][1]}}, own...) {
			b, err := os.ReadFile("/proc/sys/" + c.Path)
			if got := strings.Join(strings.Fields(string(b)), " "); err != nil || got != c.Value {
				t.Errorf("%s = %q, %v", c.Path, got, err)
			}
		}
		l, err := net.Listen("tcp4", "10.112.0.5:80")
		if err != nil {
			return err
		}
		go func() {
			defer l.Close()
			c, err := l.Accept()
			if err != nil {
				return
			}
			ready <- c.RemoteAddr().(*net.TCPAddr).IP.String()
			io.WriteString(c, "hello from the pod")
			c.Close()
		}()
		return nil
	})
	if got := fetch(t, "10.112.0.5:80"); got != "hello from the pod" {
		t.Errorf("node to pod: %q", got)
	}
	if from := <-ready; from != "10.9.0.1" {
		t.Errorf("the pod sees %s, not the node's address", from)
	}
	info, err := os.Stat(s.Shm)
	must(t, err)
	if info.Mode().Perm() != 0o777 || !isMountPoint(s.Shm) {
		t.Errorf("shm: %v", info.Mode())
	}

	list, err := n.Sandboxes()
	must(t, err)
	if d := cmp.Diff([]Info{{UID: uid, IP: ip, Complete: true}}, list, cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Error(d)
	}
	must(t, n.Set(config())) // does not take the pod's route for a stale one
	if list, _ := n.Sandboxes(); !list[0].Complete {
		t.Error("Set broke the sandbox")
	}

	must(t, n.DeleteSandbox(uid))
	must(t, n.DeleteSandbox(uid))
	nothingLeft(t, n)
}

// onNodeless removes what a failed test left in the machine's mount table.
func onNodeless(n *Network, uids ...types.UID) {
	for _, uid := range uids {
		s := n.sandbox(uid)
		for _, p := range []string{s.Net, s.IPC, s.UTS, s.Shm} {
			for unix.Unmount(p, unix.MNT_DETACH) == nil {
			}
		}
	}
}

func nothingLeft(t *testing.T, n *Network) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
	must(t, err)
	if strings.Contains(string(mounts), n.runDir) {
		t.Error("mounts are left")
	}
	left, err := filepath.Glob(n.runDir + "/pods/*")
	if err != nil || len(left) > 0 {
		t.Errorf("directories are left: %v %v", left, err)
	}
	links, err := netlink.LinkList()
	must(t, err)
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, linkPrefix) {
			t.Errorf("link %s is left", l.Attrs().Name)
		}
	}
}

func fetch(t *testing.T, addr string) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) // on this thread, in this namespace
	must(t, err)
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	to := netip.MustParseAddrPort(addr)
	timeout := unix.NsecToTimeval((3 * time.Second).Nanoseconds())
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout))
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout))
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		t.Fatalf("connect %s: %v", addr, err)
	}
	b, err := io.ReadAll(f)
	must(t, err)
	return string(b)
}

// A sandbox that a crash left at any step is made whole.
func TestSandboxAfterACrash(t *testing.T) {
	newNode(t)
	n := New(t.TempDir())
	must(t, n.Set(config()))
	uid, ip := types.UID("crash-1"), netip.MustParseAddr("10.112.0.9")
	t.Cleanup(func() { onNodeless(n, uid) })
	s := n.sandbox(uid)
	whole := func() { _, err := n.CreateSandbox(pod.SandboxConfig{UID: uid, IP: ip, Hostname: "h"}); must(t, err) }
	for _, c := range []struct {
		name  string
		crash func()
	}{
		{"directory only", func() { must(t, os.MkdirAll(n.dir(uid), 0o711)) }},
		{"shm made, not mounted", func() { must(t, os.MkdirAll(s.Shm, 0o711)) }},
		{"namespace files without namespaces", func() {
			must(t, os.MkdirAll(s.Shm, 0o711))
			must(t, os.WriteFile(s.Net, nil, 0o444))
		}},
		{"no route", func() {
			whole()
			r := route{dst: netip.PrefixFrom(ip, 32)}
			must(t, netlink.RouteDel(r.netlink()))
		}},
		{"no link", func() {
			whole()
			link, err := netlink.LinkByName(linkName(uid))
			must(t, err)
			must(t, netlink.LinkDel(link))
		}},
		{"network namespace unbound", func() { whole(); must(t, unix.Unmount(s.Net, unix.MNT_DETACH)) }},
		{"shm unmounted", func() { whole(); must(t, unix.Unmount(s.Shm, unix.MNT_DETACH)) }},
		{"half deleted", func() {
			whole()
			link, _ := netlink.LinkByName(linkName(uid))
			must(t, netlink.LinkDel(link))
			must(t, unix.Unmount(s.Net, 0))
			must(t, os.Remove(s.Net))
		}},
	} {
		c.crash()
		if list, err := n.Sandboxes(); err != nil || len(list) != 1 || list[0].Complete {
			t.Errorf("%s: listed as %v, %v", c.name, list, err)
		}
		whole()
		if list, err := n.Sandboxes(); err != nil || len(list) != 1 || !list[0].Complete || list[0].IP != ip {
			t.Errorf("%s: made again: %v, %v", c.name, list, err)
		}
		must(t, n.DeleteSandbox(uid))
	}
	nothingLeft(t, n)
}

// Many sandboxes are made while the node's own routes are set again and again:
// neither takes the other's for stale.
func TestSandboxesAtOnce(t *testing.T) {
	newNode(t)
	n := New(t.TempDir())
	must(t, n.Set(config()))
	const pods = 24
	node, err := netns.Get()
	must(t, err)
	defer node.Close()
	var wg sync.WaitGroup
	for i := range pods {
		uid := types.UID(fmt.Sprintf("at-once-%d", i))
		t.Cleanup(func() { onNodeless(n, uid) })
		wg.Go(func() {
			err := onDiscardedThread(func() error {
				if err := netns.Set(node); err != nil {
					return err
				}
				_, err := n.CreateSandbox(pod.SandboxConfig{UID: uid, IP: netip.AddrFrom4([4]byte{10, 112, 0, byte(10 + i)}), Hostname: "h"})
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	made := make(chan struct{})
	go func() {
		defer close(made)
		wg.Wait()
	}()
	var errs []error
	for done := false; !done; {
		select {
		case <-made:
			done = true
		default:
			errs = append(errs, n.Set(config()))
		}
	}
	must(t, errors.Join(errs...))
	list, err := n.Sandboxes()
	must(t, err)
	if len(list) != pods {
		t.Errorf("%d sandboxes", len(list))
	}
	for _, i := range list {
		if !i.Complete {
			t.Errorf("%v", i)
		}
		must(t, n.DeleteSandbox(i.UID))
	}
	nothingLeft(t, n)
}

func TestCallersNamespacesStay(t *testing.T) {
	newNode(t)
	before := namespaces(t)
	n := New(t.TempDir())
	must(t, n.Set(config()))
	_, err := n.CreateSandbox(pod.SandboxConfig{UID: "stay-1", IP: netip.MustParseAddr("10.112.0.7"), Hostname: "elsewhere"})
	t.Cleanup(func() { onNodeless(n, "stay-1") })
	must(t, err)
	must(t, n.DeleteSandbox("stay-1"))
	if d := cmp.Diff(before, namespaces(t)); d != "" {
		t.Error(d)
	}
}

// namespaces names those of this thread and of the process's first one.
func namespaces(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, of := range []string{"thread-self", "self"} {
		for _, kind := range []string{"net", "ipc", "uts", "mnt"} {
			link, err := os.Readlink("/proc/" + of + "/ns/" + kind)
			must(t, err)
			out = append(out, of+" "+link)
		}
	}
	return out
}

func TestRefusals(t *testing.T) {
	n := New(t.TempDir())
	for _, uid := range []types.UID{"", ".", "..", "a/b", "../x"} {
		if _, err := n.CreateSandbox(pod.SandboxConfig{UID: uid, IP: netip.MustParseAddr("10.0.0.1"), Hostname: "h"}); err == nil {
			t.Errorf("CreateSandbox(%q) went through", uid)
		}
		if err := n.DeleteSandbox(uid); err == nil {
			t.Errorf("DeleteSandbox(%q) went through", uid)
		}
	}
	if _, err := n.CreateSandbox(pod.SandboxConfig{UID: "a", IP: netip.MustParseAddr("::1"), Hostname: "h"}); err == nil {
		t.Error("took an IPv6 address")
	}
}

func BenchmarkSandbox(b *testing.B) {
	newNode(b)
	n := New(b.TempDir())
	must(b, n.Set(config()))
	var making, deleting time.Duration
	for i := 0; b.Loop(); i++ {
		uid := types.UID(fmt.Sprintf("bench-%d", i))
		start := time.Now()
		_, err := n.CreateSandbox(pod.SandboxConfig{UID: uid, IP: netip.AddrFrom4([4]byte{10, 112, 1, byte(i)}), Hostname: "h"})
		must(b, err)
		making += time.Since(start)
		start = time.Now()
		must(b, n.DeleteSandbox(uid))
		deleting += time.Since(start)
	}
	b.ReportMetric(float64(making.Microseconds())/float64(b.N), "us/create")
	b.ReportMetric(float64(deleting.Microseconds())/float64(b.N), "us/delete")
}
