package proxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead/nodeagent/pod"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// Ruleset is what the table should hold: a value, made from a Table by Compile
// and never changed. The zero Ruleset means "no table".
type Ruleset struct {
	base      base
	services  []*service // sorted by name, no two with one key
	compiled  []*service // as compiled, before conflicts were settled; for reuse
	hostPorts []Element
	hairpin   []Element
	chains    []Chain
	refused   []error // what could not be compiled
}

// base is what the fixed rules depend on.
type base struct {
	node           schema.NodeName
	nodeIP         ip4
	podCIDR        netip.Prefix
	clusterPodCIDR netip.Prefix
}

// service is one service compiled. It is shared between rulesets, so that what
// did not change is recognised by its pointer.
type service struct {
	name    string
	from    wire.Service
	fronts  []front
	local   []ip4 // endpoints on this node
	refused []error
}

// front is one address or node port that leads to endpoints.
type front struct {
	key      Key // in SetServices or SetNodePorts
	local    bool
	backends []backend
	// vacated counts slots past the last backend that still lead to live ones:
	// a packet may have read the old endpoint count a moment ago.
	vacated int
}

type backend struct {
	addr ip4
	port uint16
}

// Compile turns a table into its ruleset. Equal tables give equal rulesets.
// Addresses and ranges of the table must be IPv4.
func Compile(t Table) Ruleset { return Ruleset{}.compile(t) }

// compile is Compile that takes over from prev what did not change.
func (prev Ruleset) compile(t Table) Ruleset {
	if t.zero() {
		return Ruleset{}
	}
	next := Ruleset{base: baseOf(t)}
	if next.base != prev.base {
		prev = Ruleset{}
	}
	services, fronts := prev.update(t)
	hostPorts, refused := compileHostPorts(t.HostPorts)
	if prev.base == next.base && slices.Equal(services, prev.compiled) && slices.Equal(hostPorts, prev.hostPorts) {
		return prev
	}
	next.compiled, next.services, next.hostPorts = services, services, hostPorts
	if fronts || len(prev.refused) > 0 {
		var conflicts []error
		next.services, conflicts = settleConflicts(services)
		refused = append(refused, conflicts...)
	}
	for _, s := range services {
		refused = append(refused, s.refused...)
	}
	next.refused = refused
	next.hairpin = hairpins(next.services, hostPorts)
	next.chains = chainsOf(next.services)
	return next
}

func baseOf(t Table) base {
	return base{node: t.Node, nodeIP: ip4(t.NodeIP.As4()), podCIDR: t.PodCIDR.Masked(), clusterPodCIDR: t.ClusterPodCIDR.Masked()}
}

// update compiles the services that differ from prev's; fronts reports whether
// any address or node port came or went.
func (prev Ruleset) update(t Table) (services []*service, fronts bool) {
	services = make([]*service, 0, len(t.Services))
	for _, old := range prev.compiled {
		w, ok := t.Services[old.name]
		switch {
		case !ok:
			fronts = true
		case sameService(old.from, w):
			services = append(services, old)
		default:
			s := compileService(old.name, w, t.Node)
			fronts = fronts || !slices.EqualFunc(old.fronts, s.fronts, func(a, b front) bool { return a.key == b.key })
			services = append(services, s)
		}
	}
	if len(services) == len(t.Services) {
		return services, fronts
	}
	for name, w := range t.Services {
		if _, ok := findService(prev.compiled, name); !ok {
			services = append(services, compileService(name, w, t.Node))
		}
	}
	slices.SortFunc(services, func(a, b *service) int { return strings.Compare(a.name, b.name) })
	return services, true
}

func findService(services []*service, name string) (int, bool) {
	return slices.BinarySearchFunc(services, name, func(s *service, name string) int { return strings.Compare(s.name, name) })
}

// sameService compares what the ruleset depends on; slices that are one and the
// same are not looked into.
func sameService(a, b wire.Service) bool {
	return slices.Equal(a.ClusterIPs, b.ClusterIPs) && a.Headless == b.Headless &&
		sameSlice(a.Ports, b.Ports, func(x, y wire.ServicePort) bool { return x == y }) &&
		sameSlice(a.Endpoints, b.Endpoints, func(x, y wire.Endpoint) bool {
			return x.IP == y.IP && x.Node == y.Node && slices.Equal(x.Ports, y.Ports)
		})
}

func sameSlice[T any](a, b []T, equal func(T, T) bool) bool {
	if len(a) != len(b) {
		return false
	}
	return len(a) == 0 || &a[0] == &b[0] || slices.EqualFunc(a, b, equal)
}

func compileService(name string, w wire.Service, node schema.NodeName) *service {
	s := &service{name: name, from: w}
	addrs := make([]ip4, len(w.Endpoints))
	for i, e := range w.Endpoints {
		addr, err := parseIP4(e.IP)
		if err != nil {
			s.refused = append(s.refused, fmt.Errorf("service %s: endpoint %s: %w", name, e.Pod, err))
			continue
		}
		addrs[i] = addr
		if e.Node == node {
			s.local = append(s.local, addr)
		}
	}
	cluster, err := ip4{}, error(nil)
	if !w.Headless && len(w.ClusterIPs) > 0 {
		if cluster, err = parseIP4(w.ClusterIPs.First()); err != nil {
			s.refused = append(s.refused, fmt.Errorf("service %s: cluster address: %w", name, err))
		}
	}
	for i, port := range w.Ports {
		s.compilePort(i, port, cluster, addrs, node)
	}
	return s
}

// compilePort adds the fronts of the i-th port.
func (s *service) compilePort(i int, port wire.ServicePort, cluster ip4, addrs []ip4, node schema.NodeName) {
	proto, err := protoNumber(port.Protocol)
	if err != nil {
		s.refused = append(s.refused, fmt.Errorf("service %s: port %d: %w", s.name, port.Port, err))
		return
	}
	all, local := make([]backend, 0, len(addrs)), []backend(nil)
	for j, e := range s.from.Endpoints {
		if len(e.Ports) <= i || e.Ports[i] == 0 || addrs[j] == (ip4{}) {
			continue
		}
		b := backend{addr: addrs[j], port: e.Ports[i]}
		all = append(all, b)
		if port.ExternalLocal && e.Node == node {
			local = append(local, b)
		}
	}
	if cluster != (ip4{}) {
		s.fronts = append(s.fronts, front{key: Key{Set: SetServices, Addr: cluster, Proto: proto, Port: port.Port}, backends: all})
	}
	if port.NodePort != 0 {
		f := front{key: Key{Set: SetNodePorts, Proto: proto, Port: port.NodePort}, local: port.ExternalLocal, backends: all}
		if port.ExternalLocal {
			f.backends = local
		}
		s.fronts = append(s.fronts, f)
	}
}

func parseIP4(s string) (ip4, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return ip4{}, err
	}
	if !addr.Is4() || addr.IsUnspecified() {
		return ip4{}, fmt.Errorf("%s is not an IPv4 address of a host", s)
	}
	return ip4(addr.As4()), nil
}

// protoNumber reads a protocol; none means TCP, as in Kubernetes.
func protoNumber(p corev1.Protocol) (uint8, error) {
	switch p {
	case corev1.ProtocolTCP, "":
		return protoTCP, nil
	case corev1.ProtocolUDP:
		return protoUDP, nil
	case corev1.ProtocolSCTP:
		return protoSCTP, nil
	}
	return 0, fmt.Errorf("unknown protocol %q", p)
}

// compileHostPorts gives the elements of host ports, sorted. Of two pods that
// claim one port the first by address has it.
func compileHostPorts(ports []pod.HostPort) (elements []Element, refused []error) {
	for _, p := range ports {
		e, err := compileHostPort(p)
		if err != nil {
			refused = append(refused, fmt.Errorf("host port %d of pod %s: %w", p.HostPort, p.PodIP, err))
			continue
		}
		elements = append(elements, e)
	}
	slices.SortFunc(elements, func(a, b Element) int {
		return cmp.Or(compareElements(a, b), slices.Compare(a.Value.Addr[:], b.Value.Addr[:]), cmp.Compare(a.Value.Port, b.Value.Port))
	})
	kept := slices.CompactFunc(slices.Clone(elements), func(a, b Element) bool { return a.Key == b.Key })
	if len(kept) < len(elements) {
		refused = append(refused, fmt.Errorf("%d host ports are claimed twice", len(elements)-len(kept)))
	}
	return kept, refused
}

func compileHostPort(p pod.HostPort) (Element, error) {
	proto, err := protoNumber(p.Protocol)
	if err != nil {
		return Element{}, err
	}
	addr, err := parseIP4(p.PodIP)
	if err != nil {
		return Element{}, err
	}
	e := Element{Key: Key{Set: SetHostPorts, Proto: proto, Port: p.HostPort}, Value: Value{Addr: addr, Port: p.PodPort}}
	if p.HostIP == "" || p.HostIP == "0.0.0.0" {
		return e, nil
	}
	e.Key.Set = SetHostAddrPorts
	e.Key.Addr, err = parseIP4(p.HostIP)
	return e, err
}

// settleConflicts gives each address and node port to the first service, by
// name, that claims it; the others lose that front.
func settleConflicts(services []*service) (settled []*service, conflicts []error) {
	owner := make(map[Key]string, 2*len(services))
	settled = services
	for i, s := range services {
		taken := func(f front) bool {
			first, ok := owner[f.key]
			if !ok {
				owner[f.key] = s.name
				return false
			}
			conflicts = append(conflicts, fmt.Errorf("service %s: %s is taken by service %s", s.name, f.key, first))
			return true
		}
		before := len(conflicts)
		kept := slices.DeleteFunc(slices.Clone(s.fronts), taken)
		if len(conflicts) == before {
			continue
		}
		if len(conflicts) == 1 || &settled[0] == &services[0] {
			settled = slices.Clone(services)
		}
		c := *s
		c.fronts = kept
		settled[i] = &c
	}
	return settled, conflicts
}

// hairpins gives the pairs that tell a pod reaching itself: each address that
// a service or host port may lead to on this node.
func hairpins(services []*service, hostPorts []Element) []Element {
	var addrs []ip4
	for _, s := range services {
		addrs = append(addrs, s.local...)
	}
	for _, e := range hostPorts {
		addrs = append(addrs, e.Value.Addr)
	}
	slices.SortFunc(addrs, func(a, b ip4) int { return slices.Compare(a[:], b[:]) })
	addrs = slices.Compact(addrs)
	out := make([]Element, len(addrs))
	for i, a := range addrs {
		out[i].Key = Key{Set: SetHairpin, Addr: a, Addr2: a}
	}
	return out
}

// chainsOf lists the shared chains that the services need, sorted.
func chainsOf(services []*service) []Chain {
	var out []Chain
	seen := map[Chain]bool{}
	var last Chain
	for _, s := range services {
		for i := range s.fronts {
			c := s.fronts[i].chain()
			if c == last || c.Count == 0 || seen[c] {
				continue
			}
			last = c
			seen[c] = true
			out = append(out, c)
		}
	}
	slices.SortFunc(out, compareChains)
	return out
}

func (f *front) chain() Chain {
	c := Chain{Kind: chainService, Count: uint32(len(f.backends))}
	if f.key.Set == SetNodePorts {
		c.Kind = chainNodePort
		if f.local {
			c.Kind = chainLocalPort
		}
	}
	return c
}

// elements appends what the front puts into the sets.
func (f *front) elements(to []Element) []Element {
	if len(f.backends) == 0 {
		if f.key.Set == SetServices {
			key := f.key
			key.Set = SetNoEndpoints
			to = append(to, Element{Key: key})
		}
		return to
	}
	to = append(to, Element{Key: f.key, Value: Value{Chain: f.chain()}})
	slot := f.key
	slot.Set = SetEndpoints
	if f.key.Set == SetNodePorts {
		slot.Set = SetNodeEndpoints
	}
	for i := range len(f.backends) + f.vacated {
		b := f.backends[i%len(f.backends)]
		slot.Index = uint32(i)
		to = append(to, Element{Key: slot, Value: Value{Addr: b.addr, Port: b.port}})
	}
	return to
}

func (s *service) elements(to []Element) []Element {
	if s == nil {
		return to
	}
	for i := range s.fronts {
		to = s.fronts[i].elements(to)
	}
	return to
}

// elements lists everything in the sets, in no particular order.
func (r Ruleset) elements() []Element {
	var out []Element
	for _, s := range r.services {
		out = s.elements(out)
	}
	return slices.Concat(out, r.hostPorts, r.hairpin)
}

// same reports whether r was compiled from an equal table as other.
func (r Ruleset) same(other Ruleset) bool {
	return r.base == other.base && slices.Equal(r.compiled, other.compiled) && slices.Equal(r.hostPorts, other.hostPorts)
}

// Next is want as it follows the programmed ruleset r: services that shrink keep
// their vacated slots, on live endpoints, until the change after.
func (r Ruleset) Next(want Ruleset) Ruleset {
	next := want
	used := map[Key]int{} // slots, by front: one may move to another service
	changed(r.services, want.services, func(old, _ *service, _ int) {
		if old != nil {
			for _, f := range old.fronts {
				used[f.key] = len(f.backends)
			}
		}
	})
	cloned := false
	changed(r.services, want.services, func(_, s *service, i int) {
		if s == nil {
			return
		}
		n := s.keepVacated(used)
		if n == s {
			return
		}
		if !cloned {
			next.services, cloned = slices.Clone(want.services), true
		}
		next.services[i] = n
	})
	return next
}

// keepVacated is s with the slots that were used beyond s's; s itself if none.
func (s *service) keepVacated(used map[Key]int) *service {
	out := s
	for i := range s.fronts {
		f := &s.fronts[i]
		if len(f.backends) == 0 || used[f.key] <= len(f.backends) {
			continue
		}
		if out == s {
			c := *s
			c.fronts = slices.Clone(s.fronts)
			out = &c
		}
		out.fronts[i].vacated = used[f.key] - len(f.backends)
	}
	return out
}

// changed calls f for each service that is not one and the same in both lists,
// with nil where one list lacks it; i is its place in new.
func changed(old, new []*service, f func(old, new *service, i int)) {
	i, j := 0, 0
	for i < len(old) || j < len(new) {
		switch {
		case i < len(old) && j < len(new) && old[i] == new[j]:
			i, j = i+1, j+1
		case j == len(new) || i < len(old) && old[i].name < new[j].name:
			f(old[i], nil, -1)
			i++
		case i == len(old) || new[j].name < old[i].name:
			f(nil, new[j], j)
			j++
		default:
			f(old[i], new[j], j)
			i, j = i+1, j+1
		}
	}
}
