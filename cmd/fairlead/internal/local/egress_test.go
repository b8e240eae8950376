package local

import (
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What a node sends to the outside arrives with the host's address; what nodes
// send each other, pod addresses included, arrives as it was sent.
func TestEgress(t *testing.T) {
	c, _ := launchTest(t, 2)
	n1, n2 := c.Nodes[0], c.Nodes[1]

	// n2 has a pod's address, and n1 a route there.
	pod := netip.MustParseAddr("10.112.99.1")
	must(t, n2.inNetwork(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(pod, 32)})
	}))
	must(t, n1.inNetwork(func() error {
		return netlink.RouteAdd(&netlink.Route{Dst: ipNet(pod, 32), Gw: n2.IP.AsSlice()})
	}))

	// A neighbour of the host, 198.18.0.0/15 being set aside for tests.
	outside := Node{Name: "outside", NetNS: filepath.Join(t.TempDir(), "net")}
	must(t, makePinFile(outside.NetNS))
	must(t, pinNetwork(outside.NetNS))
	t.Cleanup(func() { _ = unix.Unmount(outside.NetNS, unix.MNT_DETACH) })
	hostIP, outsideIP := netip.MustParseAddr("198.18.77.1"), netip.MustParseAddr("198.18.77.2")
	link := linkName("outside", c.Dir)
	neighbour(t, outside, link, hostIP, outsideIP)

	for _, test := range []struct {
		name string
		at   Node
		to   netip.Addr
		want netip.Addr
	}{
		{"to a pod of the other node", n2, pod, n1.IP},
		{"to the other node", n2, n2.IP, n1.IP},
		{"to the outside", outside, outsideIP, hostIP},
	} {
		if got := seenFrom(t, n1, test.at, test.to); got != test.want {
			t.Errorf("%s: arrives from %v, want %v", test.name, got, test.want)
		}
	}
}

func neighbour(t *testing.T, outside Node, link string, hostIP, outsideIP netip.Addr) {
	t.Helper()
	fd, err := unix.Open(outside.NetNS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	pair := &netlink.Veth{LinkAttrs: named(link), PeerName: nodeLink, PeerNamespace: netlink.NsFd(fd)}
	must(t, netlink.LinkAdd(pair))
	t.Cleanup(func() { _ = netlink.LinkDel(pair) })
	configure := func(name string, ip netip.Addr) error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: ipNet(ip, 30)}); err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	}
	must(t, configure(link, hostIP))
	must(t, outside.inNetwork(func() error { return configure(nodeLink, outsideIP) }))
}

// seenFrom connects from one node to an address of another and returns where
// the connection came from.
func seenFrom(t *testing.T, from, at Node, to netip.Addr) netip.Addr {
	t.Helper()
	var listener net.Listener
	must(t, at.inNetwork(func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(to.String(), "0"))
		return err
	}))
	defer listener.Close()
	must(t, from.inNetwork(func() error {
		conn, err := net.DialTimeout("tcp", listener.Addr().String(), 5*time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	}))
	conn, err := listener.Accept()
	must(t, err)
	defer conn.Close()
	return netip.MustParseAddrPort(conn.RemoteAddr().String()).Addr()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
