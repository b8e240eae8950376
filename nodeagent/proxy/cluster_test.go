package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/network"
	"fairlead/nodeagent/pod"
	"fairlead/schema"
	"fairlead/schema/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func init() { runtime.LockOSThread() } // the first thread stays with the main goroutine

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// space is a network namespace.
type space struct{ handle netns.NsHandle }

// newSpace makes one; it is gone when the test ends.
func newSpace(t testing.TB) space {
	t.Helper()
	var s space
	must(t, onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		s.handle, err = netns.Get()
		return err
	}))
	t.Cleanup(func() { s.handle.Close() })
	return s
}

func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		done <- f()
	}()
	return <-done
}

// do runs f on a thread in the namespace.
func (s space) do(t testing.TB, f func() error) {
	t.Helper()
	must(t, s.try(f))
}

func (s space) try(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(s.handle); err != nil {
			return err
		}
		return f()
	})
}

// run runs a command in the namespace.
func (s space) run(t testing.TB, args ...string) string {
	t.Helper()
	var out []byte
	s.do(t, func() error {
		var err error
		if out, err = exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	})
	return string(out)
}

// get asks a server over TCP for its word.
func (s space) get(addr string) (answer string, err error) { return s.ask("tcp4", addr, "") }

func (s space) ask(proto, addr, from string) (answer string, err error) {
	err = s.try(func() error {
		d := net.Dialer{Timeout: 2 * time.Second}
		if from != "" {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from))
		}
		c, err := d.Dial(proto, addr)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		if _, err := io.WriteString(c, "who"); err != nil {
			return err
		}
		b := make([]byte, 100)
		n, err := c.Read(b)
		answer = string(b[:n])
		return err
	})
	return answer, err
}

// serve answers on port, over TCP and UDP, with the server's name and the
// address that it sees, as "name saw address".
func (s space) serve(t testing.TB, name string, port int) {
	t.Helper()
	s.do(t, func() error {
		l, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		u, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		serve(t, l, u, name)
		return nil
	})
}

// serve answers on both until the test ends.
func serve(t testing.TB, l net.Listener, u net.PacketConn, name string) {
	var (
		servers sync.WaitGroup
		mu      sync.Mutex
		over    bool
		open    []net.Conn
	)
	t.Cleanup(func() {
		l.Close()
		u.Close()
		mu.Lock()
		over = true
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		servers.Wait()
	})
	answer := func(c net.Conn) {
		defer c.Close()
		b := make([]byte, 100)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			fmt.Fprintf(c, "%s saw %s", name, c.RemoteAddr().(*net.TCPAddr).IP)
		}
	}
	servers.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			if over {
				c.Close()
			}
			open = append(open, c)
			mu.Unlock()
			servers.Go(func() { answer(c) })
		}
	})
	servers.Go(func() {
		b := make([]byte, 100)
		for {
			_, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			u.WriteTo(fmt.Appendf(nil, "%s saw %s", name, from.(*net.UDPAddr).IP), from)
		}
	})
}

// testNode is a node of a test cluster.
type testNode struct {
	space
	name    schema.NodeName
	ip      netip.Addr
	podCIDR netip.Prefix
	net     *network.Network
	proxy   *Proxy
}

// testPod is a pod that serves on port 8080 with its name.
type testPod struct {
	space
	name string
	ip   netip.Addr
	node *testNode
}

func (p testPod) endpoint(ports ...uint16) wire.Endpoint {
	return wire.Endpoint{IP: p.ip.String(), Ports: ports, Node: p.node.name, Pod: p.name}
}

// cluster is two nodes and an outsider on one switch.
type cluster struct {
	t       *testing.T
	wire    space
	nodes   []*testNode
	outside space
}

var (
	clusterPods = netip.MustParsePrefix("10.112.0.0/12")
	serviceCIDR = netip.MustParsePrefix("10.96.0.0/16")
)

const outsideIP = "10.9.0.100"

func newCluster(t *testing.T, bridgeNetfilter string) *cluster {
	t.Helper()
	c := &cluster{t: t, wire: newSpace(t), outside: newSpace(t)}
	c.wire.do(t, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "br0"
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return err
		}
		br, err := netlink.LinkByName("br0")
		if err != nil {
			return err
		}
		err = os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte(bridgeNetfilter), 0o644)
		if errors.Is(err, os.ErrNotExist) && bridgeNetfilter == "0" {
			err = nil // not loaded is off
		}
		return errors.Join(err, netlink.LinkSetUp(br))
	})
	c.plug(c.outside, outsideIP)
	for i := range 2 {
		n := &testNode{
			space: newSpace(t), name: schema.NodeName(fmt.Sprintf("n%d", i+1)), ip: netip.AddrFrom4([4]byte{10, 9, 0, byte(i + 1)}),
			podCIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 112, byte(4 * i), 0}), 22), net: network.New(t.TempDir()),
		}
		c.plug(n.space, n.ip.String())
		c.nodes = append(c.nodes, n)
		n.do(t, func() (err error) { n.proxy, err = Open(); return err })
		t.Cleanup(func() { n.proxy.Close() })
	}
	for _, n := range c.nodes {
		config := network.Config{Node: n.name, NodeIP: n.ip, PodCIDR: n.podCIDR, ClusterPodCIDR: clusterPods, ServiceCIDR: serviceCIDR, DNS: netip.MustParseAddr("10.96.0.10")}
		for _, p := range c.nodes {
			if p != n {
				config.Peers = append(config.Peers, network.Peer{Name: p.name, NodeIP: p.ip, PodCIDR: p.podCIDR})
			}
		}
		n.do(t, func() error { return n.net.Set(config) })
	}
	return c
}

// plug puts a namespace on the switch.
func (c *cluster) plug(s space, ip string) {
	c.t.Helper()
	port := "p" + schema.ShortHash(ip)
	c.wire.do(c.t, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = port
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(s.handle)}); err != nil {
			return err
		}
		link, err := netlink.LinkByName(port)
		if err != nil {
			return err
		}
		br, err := netlink.LinkByName("br0")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetMaster(link, br), netlink.LinkSetUp(link))
	})
	s.do(c.t, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(ip + "/24")
		if err != nil {
			return err
		}
		return errors.Join(netlink.AddrAdd(link, addr), netlink.LinkSetUp(link))
	})
}

// pod starts a pod with the i-th address of the node.
func (c *cluster) pod(n *testNode, name string, i byte) testPod {
	c.t.Helper()
	a := n.podCIDR.Addr().As4()
	a[3] = i
	p := testPod{name: name, ip: netip.AddrFrom4(a), node: n}
	uid := types.UID(name)
	c.t.Cleanup(func() { n.do(c.t, func() error { return n.net.DeleteSandbox(uid) }) })
	n.do(c.t, func() error {
		s, err := n.net.CreateSandbox(pod.SandboxConfig{UID: uid, IP: p.ip, Hostname: name})
		if err != nil {
			return err
		}
		p.handle, err = netns.GetFromPath(s.Net)
		return err
	})
	c.t.Cleanup(func() { p.handle.Close() })
	p.serve(c.t, name, 8080)
	return p
}

// table is the services as n sees them.
func (n *testNode) table(services map[string]wire.Service) Table {
	return Table{Node: n.name, NodeIP: n.ip, PodCIDR: n.podCIDR, ClusterPodCIDR: clusterPods, Services: services}
}

// set programs the services on every node.
func (c *cluster) set(services map[string]wire.Service) {
	c.t.Helper()
	for _, n := range c.nodes {
		if _, err := n.proxy.Set(n.table(services)); err != nil {
			c.t.Fatalf("node %s: %v", n.name, err)
		}
	}
}
