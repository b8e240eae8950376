package proxy

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// flows ends connections that lead nowhere any more. A connection keeps the
// endpoint it was given when it began; for TCP that is right as long as the
// endpoint drains, while UDP has no end of its own and would be sent to a dead
// pod for ever.
type flows struct{ handle *netlink.Handle }

func openFlows() (*flows, error) {
	h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open conntrack: %w", err)
	}
	if err := h.SetSocketTimeout(kernelDeadline); err != nil {
		return nil, fmt.Errorf("open conntrack: %w", err)
	}
	return &flows{handle: h}, nil
}

func (f *flows) close() { f.handle.Close() }

// settle ends the flows that the step from old to new left without their
// endpoint.
func (f *flows) settle(old, new Ruleset) error {
	s := stale{nodeIP: new.base.nodeIP, live: map[Key]map[backend]bool{}}
	changed(old.services, new.services, func(a, b *service, _ int) { s.service(a, b) })
	s.hostPorts(old.hostPorts, new.hostPorts)
	if len(s.live) == 0 {
		return nil
	}
	return f.delete(s)
}

// forget ends the flows that lead to addr.
func (f *flows) forget(addr netip.Addr) error {
	return f.delete(leadsTo(addr))
}

func (f *flows) delete(which netlink.CustomConntrackFilter) error {
	_, err := f.handle.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, which)
	return err
}

// stale matches flows to fronts whose endpoint is not among the live ones.
type stale struct {
	nodeIP ip4
	live   map[Key]map[backend]bool // by front; only fronts that lost or, if UDP, first got an endpoint
}

func (s *stale) service(old, new *service) {
	var now []front
	if new != nil {
		now = new.fronts
	}
	was := map[Key][]backend{}
	if old != nil {
		for _, f := range old.fronts {
			was[f.key] = f.backends
		}
	}
	for _, f := range now {
		s.front(f.key, was[f.key], f.backends)
		delete(was, f.key)
	}
	for key, backends := range was {
		s.front(key, backends, nil)
	}
}

func (s *stale) hostPorts(old, new []Element) {
	was, is := map[Key][]backend{}, map[Key][]backend{}
	for _, e := range old {
		was[e.Key] = []backend{{e.Value.Addr, e.Value.Port}}
	}
	for _, e := range new {
		is[e.Key] = []backend{{e.Value.Addr, e.Value.Port}}
		s.front(e.Key, was[e.Key], is[e.Key])
	}
	for key, backends := range was {
		if is[key] == nil {
			s.front(key, backends, nil)
		}
	}
}

// front notes a front that went from was to is.
func (s *stale) front(key Key, was, is []backend) {
	live := make(map[backend]bool, len(is))
	for _, b := range is {
		live[b] = true
	}
	lost := false
	for _, b := range was {
		lost = lost || !live[b]
	}
	// Before the first endpoint a UDP flow may have been let through untouched.
	if lost || key.Proto != protoTCP && len(was) == 0 && len(is) > 0 {
		s.live[key] = live
	}
}

// tcpSynSent is conntrack's state of a connection that was never answered.
const tcpSynSent = 1

// MatchConntrackFlow implements netlink.CustomConntrackFilter. Of TCP it matches
// only attempts that nobody answers: established ones may drain.
func (s stale) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	live, ok := s.find(flow)
	if !ok {
		return false
	}
	to, ok := address(flow.Reverse.SrcIP)
	if !ok || live[backend{to, flow.Reverse.SrcPort}] {
		return false
	}
	if flow.Forward.Protocol != protoTCP {
		return true
	}
	tcp, ok := flow.ProtoInfo.(*netlink.ProtoInfoTCP)
	return ok && tcp.State == tcpSynSent
}

// find gives the live endpoints of the front that flow went to.
func (s stale) find(flow *netlink.ConntrackFlow) (live map[backend]bool, ok bool) {
	to, ok := address(flow.Forward.DstIP)
	if !ok {
		return nil, false
	}
	key := Key{Set: SetServices, Addr: to, Proto: flow.Forward.Protocol, Port: flow.Forward.DstPort}
	if live, ok = s.live[key]; ok {
		return live, true
	}
	key.Set = SetHostAddrPorts
	if live, ok = s.live[key]; ok {
		return live, true
	}
	if to != s.nodeIP && flow.Forward.DstIP.Equal(flow.Reverse.SrcIP) {
		return nil, false // passing through, on its way to that port elsewhere
	}
	key.Set, key.Addr = SetHostPorts, ip4{}
	if live, ok = s.live[key]; ok {
		return live, true
	}
	key.Set = SetNodePorts
	live, ok = s.live[key]
	return live, ok
}

func address(ip []byte) (ip4, bool) {
	a, ok := netip.AddrFromSlice(ip)
	if a = a.Unmap(); !ok || !a.Is4() {
		return ip4{}, false
	}
	return ip4(a.As4()), true
}

// leadsTo matches flows whose answers come from one address.
type leadsTo netip.Addr

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (l leadsTo) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	from, ok := netip.AddrFromSlice(flow.Reverse.SrcIP)
	return ok && from.Unmap() == netip.Addr(l)
}
