package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"fairlead/nodeagent/pod"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// A node is what the contract runs on: node n1 of two, with the pods a and
// client on it, b on the other and somebody outside.
type node struct {
	table func(services map[string]wire.Service, hostPorts ...pod.HostPort) Table
	open  func() *Proxy // a process that starts
	touch func()        // somebody else commits to a table of his own
	flush func()        // somebody takes our table away
	// ask gives each answer once, as "a saw 10.112.0.6", sorted.
	ask func(from, to string) ([]string, error)
}

// Who stands where.
const (
	addrA, addrB, addrClient = "10.112.0.5", "10.112.4.5", "10.112.0.6"
	addrNode                 = "10.9.0.1"
)

func kernelNode(t *testing.T) node {
	c := newCluster(t, "0")
	n1 := c.nodes[0]
	from := map[string]space{
		"a": c.pod(n1, "a", 5).space, "client": c.pod(n1, "client", 6).space, "outside": c.outside, "node": n1.space,
	}
	c.pod(c.nodes[1], "b", 5)
	return node{
		table: func(services map[string]wire.Service, hostPorts ...pod.HostPort) Table {
			table := n1.table(services)
			table.HostPorts = hostPorts
			return table
		},
		open:  func() *Proxy { return openIn(t, n1.space) },
		touch: func() { n1.run(t, "nft", "add", "table", "inet", "somebody") },
		flush: func() { n1.run(t, "nft", "flush", "ruleset") },
		ask: func(who, to string) ([]string, error) {
			seen := map[string]bool{}
			for range enough {
				answer, err := from[who].get(to)
				if err != nil {
					return nil, err
				}
				seen[answer] = true
			}
			return sortedKeys(seen), nil
		},
	}
}

func memoryNode(t *testing.T) node {
	m := NewMemory()
	addrs := map[string]string{"a": addrA, "client": addrClient, "outside": outsideIP, "node": addrNode}
	names := map[string]string{addrA: "a", addrB: "b"}
	return node{
		table: func(services map[string]wire.Service, hostPorts ...pod.HostPort) Table {
			return Table{
				Node: "n1", NodeIP: netip.MustParseAddr(addrNode), PodCIDR: netip.MustParsePrefix("10.112.0.0/22"),
				ClusterPodCIDR: clusterPods, Services: services, HostPorts: hostPorts,
			}
		},
		open:  m.Open,
		touch: m.Touch,
		flush: m.Flush,
		ask: func(who, to string) ([]string, error) {
			seen := map[string]bool{}
			for _, f := range m.Fates(Packet{From: netip.MustParseAddr(addrs[who]), To: netip.MustParseAddrPort(to)}) {
				server := names[f.To.Addr().String()]
				if f.Refused || server == "" || f.To.Port() != 8080 {
					return nil, fmt.Errorf("%v: %w", f, syscall.ECONNREFUSED)
				}
				seen[fmt.Sprintf("%s saw %s", server, f.From)] = true
			}
			return sortedKeys(seen), nil
		},
	}
}

func sortedKeys(m map[string]bool) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// The kernel and Memory hold the same tables, count the same transactions and
// send packets the same ways.
func TestTheKernelAndMemoryKeepOneContract(t *testing.T) {
	for name, fresh := range map[string]func(*testing.T) node{"kernel": kernelNode, "memory": memoryNode} {
		t.Run(name, func(t *testing.T) { testContract(t, fresh(t)) })
	}
}

func testContract(t *testing.T, n node) {
	p := n.open()
	set := func(what string, table Table, transactions uint32) {
		t.Helper()
		before := generation(t, p)
		changed, err := p.Set(table)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got := generation(t, p) - before; got != transactions || changed != (got > 0) {
			t.Errorf("%s: %d transactions, changed %v, want %d", what, got, changed, transactions)
		}
	}
	answers := func(from, to string, want ...string) {
		t.Helper()
		if got, err := n.ask(from, to); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s to %s: got %q, %v, want %q", from, to, got, err, want)
		}
	}
	refused := func(from, to string) {
		t.Helper()
		if got, err := n.ask(from, to); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s to %s: got %q, %v, want it refused", from, to, got, err)
		}
	}
	a := wire.Endpoint{IP: addrA, Node: "n1", Ports: []uint16{8080}}
	b := wire.Endpoint{IP: addrB, Node: "n2", Ports: []uint16{8080}}
	service := func(ip string, nodePort uint16, local bool, endpoints ...wire.Endpoint) wire.Service {
		return wire.Service{ClusterIPs: schema.List[string]{ip}, Endpoints: endpoints,
			Ports: []wire.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80, NodePort: nodePort, ExternalLocal: local}}}
	}
	services := func(web ...wire.Endpoint) map[string]wire.Service {
		return map[string]wire.Service{
			"d/web":   service("10.96.1.1", 30080, false, web...),
			"d/self":  service("10.96.1.2", 30081, false, a),
			"d/empty": service("10.96.1.3", 30082, false),
			"d/local": service("10.96.1.4", 30083, true, a, b),
			"d/away":  service("10.96.1.5", 30084, true, b),
		}
	}
	hostPort := pod.HostPort{HostPort: 9000, Protocol: corev1.ProtocolTCP, PodIP: addrA, PodPort: 8080}
	whole := n.table(services(a, b), hostPort)

	set("from nothing", whole, 1)
	set("again", whole, 0)
	p = n.open()
	set("after a restart, from a listing", whole, 0)

	answers("client", "10.96.1.1:80", "a saw "+addrClient, "b saw "+addrClient)
	answers("node", "10.96.1.1:80", "a saw "+addrNode, "b saw "+addrNode)
	answers("outside", addrNode+":30080", "a saw "+addrNode, "b saw "+addrNode)
	answers("client", addrNode+":30080", "a saw "+addrClient, "b saw "+addrClient)
	answers("a", "10.96.1.2:80", "a saw "+addrNode)          // itself through a service
	answers("a", addrNode+":30081", "a saw "+addrNode)       // itself through a node port
	answers("a", addrNode+":9000", "a saw "+addrNode)        // itself through its host port
	answers("outside", addrNode+":9000", "a saw "+outsideIP) // a host port keeps the source
	answers("outside", addrNode+":30083", "a saw "+outsideIP)
	answers("client", "10.96.1.4:80", "a saw "+addrClient, "b saw "+addrClient)
	answers("client", addrA+":8080", "a saw "+addrClient)
	refused("client", "10.96.1.3:80")
	refused("node", "10.96.1.3:80")
	refused("outside", addrNode+":30082")
	refused("outside", addrNode+":30084")

	// A service that shrinks leaves its last slot leading to what lives; it goes
	// with the next change.
	shrunk := n.table(services(b), hostPort)
	slot := Key{Set: SetEndpoints, Addr: ip4{10, 96, 1, 1}, Proto: protoTCP, Port: 80, Index: 1}
	set("one endpoint goes", shrunk, 1)
	answers("client", "10.96.1.1:80", "b saw "+addrClient)
	if got := found(t, p).elements[slot]; got != (Value{Addr: ip4{10, 112, 4, 5}, Port: 8080}) {
		t.Errorf("the vacated slot leads to %v", got)
	}
	set("again", shrunk, 0)
	shrunk = n.table(services(b))
	set("the host port goes", shrunk, 1)
	if got, ok := found(t, p).elements[slot]; ok {
		t.Errorf("the vacated slot is still there after the next change: %v", got)
	}
	refused("outside", addrNode+":9000")
	none := n.table(services())
	set("the last endpoint goes", none, 1)
	refused("client", "10.96.1.1:80")
	set("both come back, after their shared chain", whole, 2)
	answers("client", "10.96.1.1:80", "a saw "+addrClient, "b saw "+addrClient)

	n.touch()
	set("somebody else commits", whole, 0)
	n.flush()
	set("somebody takes all away", whole, 1)
	answers("client", "10.96.1.1:80", "a saw "+addrClient, "b saw "+addrClient)

	set("nothing is wanted", Table{}, 1)
	set("again", Table{}, 0)
	if found(t, p).present {
		t.Error("the table is still there")
	}
	p = n.open()
	set("after a restart, from nothing", Table{}, 0)
}

func found(t *testing.T, p *Proxy) held {
	t.Helper()
	h, err := p.kernel.list()
	must(t, err)
	return h
}

// An answer that is lost or an error leaves the proxy to look before it writes.
func TestAfterAnErrorTheTableIsLookedAt(t *testing.T) {
	m := NewMemory()
	p := m.Open()
	table := exampleTable()
	trouble := errors.New("no answer")

	m.Fail(trouble)
	if changed, err := p.Set(table); changed || !errors.Is(err, trouble) {
		t.Errorf("refused: changed %v, %v", changed, err)
	}
	m.Fail(nil)
	m.Lose(trouble)
	if _, err := p.Set(table); !errors.Is(err, trouble) {
		t.Errorf("lost: %v", err)
	}
	m.Lose(nil)
	if changed, err := p.Set(table); changed || err != nil || m.Commits() != 1 {
		t.Errorf("it took effect: changed %v, %v, %d commits", changed, err, m.Commits())
	}
	if todo := found(t, p).difference(Compile(table)); len(todo) != 0 {
		t.Errorf("still to do: %v", todo)
	}
}

func TestMemoryRefusesWhatTheKernelRefuses(t *testing.T) {
	element := Element{Key: Key{Set: SetServices, Addr: ip4{10, 96, 1, 1}, Proto: protoTCP, Port: 80}, Value: Value{Chain: Chain{Kind: chainService, Count: 1}}}
	chain := Op{Kind: OpAddChain, Chain: element.Value.Chain}
	create, add, remove := Op{Kind: OpCreateTable}, Op{Kind: OpAddElement, Element: element}, Op{Kind: OpDeleteElement, Element: element}
	b := Compile(exampleTable()).base
	for name, c := range map[string]struct {
		first, then []Op
	}{
		"a chain without a table":       {nil, []Op{chain}},
		"a table twice":                 {[]Op{create}, []Op{create}},
		"an element to no chain":        {[]Op{create}, []Op{add}},
		"an element twice":              {[]Op{create, chain, add}, []Op{add}},
		"an element that is not there":  {[]Op{create, chain}, []Op{remove}},
		"a chain something goes to":     {[]Op{create, chain, add}, []Op{{Kind: OpDeleteChain, Chain: element.Value.Chain}}},
		"all of it when the last fails": {[]Op{create}, []Op{chain, add, remove, remove}},
	} {
		m := NewMemory()
		if len(c.first) > 0 {
			must(t, m.commit(b, c.first))
		}
		before, err := m.list()
		must(t, err)
		if err := m.commit(b, c.then); err == nil || !strings.Contains(err.Error(), "refused") && !strings.Contains(err.Error(), "no such table") {
			t.Errorf("%s: %v, want it refused", name, err)
		}
		after, err := m.list()
		must(t, err)
		if fmt.Sprint(before) != fmt.Sprint(after) {
			t.Errorf("%s: something of it was done: %v, before %v", name, after, before)
		}
	}
}
