package proxy

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// Memory is a node's nftables without a kernel: it holds what a Proxy programs,
// refuses what the kernel refuses and tells where a packet goes. Tests and the
// simulation use it; one test holds it and the kernel to the same answers.
type Memory struct {
	mu         sync.Mutex
	held       memoryTable
	commits    uint32
	fail, lose error
}

// memoryTable is the table; the zero value is none.
type memoryTable struct {
	present  bool
	base     base // of the rules in force
	chains   map[Chain]bool
	elements map[Key]Value
}

var (
	_, _ ruleTables  = (*kernel)(nil), (*Memory)(nil)
	_, _ connections = (*flows)(nil), noConnections{}
)

// NewMemory is a node that just booted.
func NewMemory() *Memory { return &Memory{} }

// Open is a Proxy on what an earlier one left, as a process that starts.
func (m *Memory) Open() *Proxy { return &Proxy{kernel: m, flows: noConnections{}} }

// Commits counts the transactions that took effect, whoever sent them.
func (m *Memory) Commits() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int(m.commits)
}

// Fail lets transactions fail without effect from now on; nil ends it.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// Lose lets transactions take effect and fail all the same, as when the answer
// is too late; nil ends it.
func (m *Memory) Lose(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lose = err
}

// Touch is somebody else's transaction that leaves our table alone.
func (m *Memory) Touch() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commits++
}

// Flush is somebody's `nft flush ruleset`.
func (m *Memory) Flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = memoryTable{}
	m.commits++
}

func (m *Memory) generation() (uint32, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.commits, nil
}

func (m *Memory) commit(b base, ops []Op) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	next := m.held.clone()
	for _, op := range ops {
		if err := next.apply(b, op); err != nil {
			return fmt.Errorf("%v: %w", op, err)
		}
	}
	m.held = next
	m.commits++
	return m.lose
}

func (t memoryTable) clone() memoryTable {
	t.chains, t.elements = maps.Clone(t.chains), maps.Clone(t.elements)
	return t
}

// apply does what the kernel would, or refuses as it does.
func (t *memoryTable) apply(b base, op Op) error {
	e := op.Element
	old, has := t.elements[e.Key]
	switch {
	case op.Kind == OpCreateTable && !t.present:
		*t = memoryTable{present: true, base: b, chains: map[Chain]bool{}, elements: map[Key]Value{}}
	case !t.present:
		return errors.New("no such table")
	case op.Kind == OpDeleteTable:
		*t = memoryTable{}
	case op.Kind == OpSetRules:
		t.base = b
	case op.Kind == OpAddChain && !t.chains[op.Chain]:
		t.chains[op.Chain] = true
	case op.Kind == OpDeleteChain && t.chains[op.Chain] && !t.goesTo(op.Chain):
		delete(t.chains, op.Chain)
	case op.Kind == OpAddElement && !has && (e.Value.Chain == Chain{} || t.chains[e.Value.Chain]):
		t.elements[e.Key] = e.Value
	case op.Kind == OpDeleteElement && has && old == e.Value:
		delete(t.elements, e.Key)
	default:
		return errors.New("refused")
	}
	return nil
}

func (t *memoryTable) goesTo(c Chain) bool {
	for _, v := range t.elements {
		if v.Chain == c {
			return true
		}
	}
	return false
}

func (m *Memory) list() (held, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := held{present: m.held.present, rules: map[string][]string{}, elements: maps.Clone(m.held.elements)}
	if h.present {
		for _, c := range m.held.base.chains() {
			h.rules[c.name] = c.comments()
		}
	}
	for c := range m.held.chains {
		h.rules[c.String()] = c.def().comments()
	}
	return h, nil
}

func (m *Memory) redial() error { return nil }

func (m *Memory) close() error { return nil }

// noConnections is the conntrack of a node without connections.
type noConnections struct{}

func (noConnections) settle(_, _ Ruleset) error { return nil }
func (noConnections) forget(netip.Addr) error   { return nil }
func (noConnections) close()                    {}

// Packet is the first one of a connection, from a pod of the node, from outside
// or from the node itself; IPv4.
type Packet struct {
	Protocol corev1.Protocol // default TCP
	From     netip.Addr
	To       netip.AddrPort
	Random   uint32 // what the kernel's random number is
}

// Fate is what became of a packet. One that no rule concerns goes on as it came:
// what then happens to it is the routes' and the receiver's.
type Fate struct {
	Refused bool
	To      netip.AddrPort // where it goes
	From    netip.Addr     // as its receiver sees it
}

// Send is a packet's way through the table, as README.md draws it.
func (m *Memory) Send(p Packet) Fate {
	m.mu.Lock()
	defer m.mu.Unlock()
	proto, err := protoNumber(p.Protocol)
	if !m.held.present || err != nil || !p.From.Is4() || !p.To.Addr().Is4() {
		return Fate{To: p.To, From: p.From}
	}
	return m.held.send(proto, p)
}

// Fates are those of a packet for every random number, each once.
func (m *Memory) Fates(p Packet) []Fate {
	m.mu.Lock()
	most := uint32(1)
	for c := range m.held.chains {
		most = max(most, c.Count)
	}
	m.mu.Unlock()
	var out []Fate
	// Every count draws its last slot below the highest of them.
	for p.Random = 0; p.Random < most; p.Random++ {
		if f := m.Send(p); !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

func (t *memoryTable) send(proto uint8, p Packet) Fate {
	from, fate := ip4(p.From.As4()), Fate{To: p.To, From: p.From}
	to, marked := t.translate(proto, backend{ip4(p.To.Addr().As4()), p.To.Port()}, p.Random)
	node := netip.AddrFrom4(t.base.nodeIP)
	switch {
	case to != nil:
		fate.To = netip.AddrPortFrom(netip.AddrFrom4(to.addr), to.port)
	case t.has(Key{Set: SetNoEndpoints, Addr: ip4(p.To.Addr().As4()), Proto: proto, Port: p.To.Port()}):
		fate.Refused = true
		return fate
	}
	ourPod := t.base.podCIDR.Contains(p.From)
	switch {
	case to != nil && t.has(Key{Set: SetHairpin, Addr: from, Addr2: to.addr}),
		marked && !ourPod,
		ourPod && !t.base.clusterPodCIDR.Contains(fate.To.Addr()):
		fate.From = node
	}
	return fate
}

func (t *memoryTable) has(k Key) bool {
	_, ok := t.elements[k]
	return ok
}

// translate is the nat hooks: the new destination, nil for none, and whether the
// packet is marked.
func (t *memoryTable) translate(proto uint8, to backend, random uint32) (dnat *backend, marked bool) {
	if v, ok := t.elements[Key{Set: SetServices, Addr: to.addr, Proto: proto, Port: to.port}]; ok {
		return t.through(v.Chain, Key{Set: SetEndpoints, Addr: to.addr, Proto: proto, Port: to.port}, random)
	}
	if to.addr != t.base.nodeIP {
		return nil, false
	}
	for _, key := range []Key{{Set: SetHostAddrPorts, Addr: to.addr, Proto: proto, Port: to.port}, {Set: SetHostPorts, Proto: proto, Port: to.port}} {
		if v, ok := t.elements[key]; ok {
			return &backend{v.Addr, v.Port}, false
		}
	}
	if v, ok := t.elements[Key{Set: SetNodePorts, Proto: proto, Port: to.port}]; ok {
		return t.through(v.Chain, Key{Set: SetNodeEndpoints, Proto: proto, Port: to.port}, random)
	}
	return nil, false
}

// through is a shared chain: a slot is drawn, and looked up. One that t lacks is
// empty, as to a packet that began before the chain came.
func (t *memoryTable) through(c Chain, slot Key, random uint32) (dnat *backend, marked bool) {
	if !t.chains[c] {
		return nil, false
	}
	slot.Index = random % c.Count
	if v, ok := t.elements[slot]; ok {
		dnat = &backend{v.Addr, v.Port}
	}
	return dnat, c.Kind == chainNodePort
}
