package network

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// routeProtocol marks the routes that are ours ("f"); no routing daemon
	// registered it.
	routeProtocol = 102
	// addressLabel marks the loopback addresses that are ours.
	addressLabel = "lo:fairlead"
	loopback     = 1 // index of the loopback link in every namespace

	ipForward = "/proc/sys/net/ipv4/ip_forward"
)

// route is an IPv4 route of the main table.
type route struct {
	dst       netip.Prefix
	blackhole bool
	link      int
	via       netip.Addr
	src       netip.Addr
}

func (r route) String() string {
	if r.blackhole {
		return "blackhole " + r.dst.String()
	}
	s := r.dst.String()
	if r.via.IsValid() {
		s += " via " + r.via.String()
	}
	if r.src.IsValid() {
		s += " src " + r.src.String()
	}
	return fmt.Sprintf("%s link %d", s, r.link)
}

// seen is what the kernel holds.
type seen struct {
	forwarding bool
	ours       []route // without those to this node's pods
	foreign    []route
	loopback   []netip.Addr       // ours, on the loopback link
	addresses  map[netip.Addr]int // of others, to their link
	mtu        map[int]int        // by link
}

// wants is what the kernel should hold.
type wants struct {
	forwarding bool
	routes     []route // in the order they are to be made
	loopback   []netip.Addr
}

func (s seen) mtuOf(node netip.Addr) int { return s.mtu[s.addresses[node]] }

// wants derives routes and addresses from the configuration; left names the
// peers that cannot be reached.
func (c Config) wants(s seen) (w wants, left []error) {
	if c.zero() {
		return wants{}, nil
	}
	w.forwarding = true
	// What no pod has must not leave by the default route. For services the
	// route comes before their translation: a blackhole would cut the node off.
	w.routes = append(w.routes,
		route{dst: c.ClusterPodCIDR.Masked(), blackhole: true},
		route{dst: c.ServiceCIDR.Masked(), link: loopback, src: c.NodeIP})
	if c.DNS.IsValid() {
		w.loopback = append(w.loopback, c.DNS)
	}
	if _, ok := s.addresses[c.NodeIP]; !ok {
		w.loopback = append(w.loopback, c.NodeIP)
	}
	peers := slices.SortedFunc(slices.Values(c.Peers), func(a, b Peer) int { return cmp.Compare(a.Name, b.Name) })
	for _, p := range peers {
		link, ok := s.onLink(p.NodeIP)
		if !ok {
			left = append(left, fmt.Errorf("node %s: its address %s is on no link of this node, and tunnels are not supported", p.Name, p.NodeIP))
			continue
		}
		w.routes = append(w.routes, route{dst: p.PodCIDR.Masked(), link: link, via: p.NodeIP})
	}
	return w, left
}

// onLink gives the link on which addr is a neighbour.
func (s seen) onLink(addr netip.Addr) (link int, ok bool) {
	best := route{}
	for _, r := range s.foreign {
		if r.dst.Contains(addr) && (!ok || r.dst.Bits() > best.dst.Bits()) {
			best, ok = r, true
		}
	}
	return best.link, ok && !best.blackhole && !best.via.IsValid() && best.link != loopback
}

type opKind uint8

const (
	opForward opKind = iota
	opAddAddress
	opAddRoute
	opReplaceRoute
	opDeleteRoute
	opDeleteAddress
)

// op is one change of the node.
type op struct {
	kind    opKind
	route   route
	address netip.Addr
}

func (o op) String() string {
	switch o.kind {
	case opForward:
		return "turn forwarding on"
	case opAddAddress:
		return "add address " + o.address.String()
	case opDeleteAddress:
		return "delete address " + o.address.String()
	case opAddRoute:
		return "add route " + o.route.String()
	case opReplaceRoute:
		return "replace route " + o.route.String()
	default:
		return "delete route " + o.route.String()
	}
}

// plan is what takes the node from what is seen to what is wanted: addresses
// before routes that use them, new routes before old ones go.
func plan(w wants, s seen) []op {
	var ops []op
	if w.forwarding && !s.forwarding {
		ops = append(ops, op{kind: opForward})
	}
	for _, a := range w.loopback {
		if !slices.Contains(s.loopback, a) {
			ops = append(ops, op{kind: opAddAddress, address: a})
		}
	}
	for _, r := range w.routes {
		to := func(o route) bool { return o.dst == r.dst }
		switch {
		case slices.Contains(s.ours, r):
		case slices.ContainsFunc(s.ours, to):
			ops = append(ops, op{kind: opReplaceRoute, route: r})
		default:
			ops = append(ops, op{kind: opAddRoute, route: r})
		}
	}
	for _, o := range s.ours {
		if !slices.ContainsFunc(w.routes, func(r route) bool { return r.dst == o.dst }) {
			ops = append(ops, op{kind: opDeleteRoute, route: o})
		}
	}
	for _, a := range s.loopback {
		if !slices.Contains(w.loopback, a) {
			ops = append(ops, op{kind: opDeleteAddress, address: a})
		}
	}
	return ops
}

func (o op) do() error {
	switch o.kind {
	case opForward:
		return os.WriteFile(ipForward, []byte("1\n"), 0o644)
	case opAddAddress:
		return netlink.AddrAdd(loopbackLink(), loopbackAddress(o.address))
	case opDeleteAddress:
		return netlink.AddrDel(loopbackLink(), loopbackAddress(o.address))
	case opAddRoute:
		err := netlink.RouteAdd(o.route.netlink())
		if errors.Is(err, unix.EEXIST) {
			return errors.New("there is one that is not ours")
		}
		return err
	case opReplaceRoute:
		return netlink.RouteReplace(o.route.netlink())
	default:
		return netlink.RouteDel(o.route.netlink())
	}
}

func loopbackLink() netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: loopback}}
}

// loopbackAddress has host scope, so that nothing leaves the node with it as
// its source.
func loopbackAddress(a netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, 32)), Label: addressLabel, Scope: unix.RT_SCOPE_HOST}
}

func (r route) netlink() *netlink.Route {
	out := &netlink.Route{Dst: ipNet(r.dst), Protocol: routeProtocol, Table: unix.RT_TABLE_MAIN, LinkIndex: r.link}
	switch {
	case r.blackhole:
		out.Type = unix.RTN_BLACKHOLE
	case r.via.IsValid():
		out.Gw = r.via.AsSlice()
	default:
		out.Scope = unix.RT_SCOPE_LINK
	}
	if r.src.IsValid() {
		out.Src = r.src.AsSlice()
	}
	return out
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

// observe reads routes, addresses and links.
// maxListings bounds how often a listing is begun again because the kernel's
// table changed under it.
const maxListings = 50

// whole lists until nothing changed meanwhile: a listing that was interrupted may
// miss what is there.
func whole[T any](list func() (T, error)) (out T, err error) {
	for range maxListings {
		if out, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return out, err
}

func observe() (seen, error) {
	s := seen{addresses: map[netip.Addr]int{}, mtu: map[int]int{}}
	forward, err := os.ReadFile(ipForward)
	if err != nil {
		return s, fmt.Errorf("read forwarding: %w", err)
	}
	s.forwarding = strings.TrimSpace(string(forward)) == "1"
	// Routes before links: sandboxes are made meanwhile, and a route to one whose
	// link had not been seen would be taken for a stale one of ours.
	routes, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return s, fmt.Errorf("list routes: %w", err)
	}
	links, err := whole(netlink.LinkList)
	if err != nil {
		return s, fmt.Errorf("list links: %w", err)
	}
	pods := map[int]bool{}
	for _, l := range links {
		s.mtu[l.Attrs().Index] = l.Attrs().MTU
		pods[l.Attrs().Index] = strings.HasPrefix(l.Attrs().Name, linkPrefix)
	}
	addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return s, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		addr, _ := netip.AddrFromSlice(a.IP.To4())
		if a.Label == addressLabel {
			s.loopback = append(s.loopback, addr)
		} else {
			s.addresses[addr] = a.LinkIndex
		}
	}
	for _, r := range routes {
		route := fromNetlink(r)
		if _, known := s.mtu[route.link]; route.link != 0 && !known {
			continue // its link went meanwhile, and the route with it
		}
		switch {
		case pods[r.LinkIndex]:
		case r.Protocol == routeProtocol:
			s.ours = append(s.ours, route)
		default:
			s.foreign = append(s.foreign, route)
		}
	}
	return s, nil
}

func fromNetlink(r netlink.Route) route {
	out := route{dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), blackhole: r.Type == unix.RTN_BLACKHOLE, link: r.LinkIndex}
	if r.Dst != nil {
		addr, _ := netip.AddrFromSlice(r.Dst.IP.To4())
		ones, _ := r.Dst.Mask.Size()
		out.dst = netip.PrefixFrom(addr, ones)
	}
	if out.blackhole {
		out.link = 0
	}
	if via := r.Gw.To4(); via != nil {
		out.via, _ = netip.AddrFromSlice(via)
	}
	if src := r.Src.To4(); src != nil && r.Protocol == routeProtocol {
		out.src, _ = netip.AddrFromSlice(src)
	}
	return out
}
