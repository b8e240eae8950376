package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"fairlead/schema"
	"fairlead/schema/chance"
	"fairlead/schema/wire"
)

// openIn opens a proxy in a namespace of its own.
func openIn(t testing.TB, s space) *Proxy {
	t.Helper()
	var p *Proxy
	s.do(t, func() (err error) { p, err = Open(); return err })
	t.Cleanup(func() { p.Close() })
	return p
}

// listing is what nft lists, with one element a line and sorted.
func listing(t testing.TB, s space) string {
	t.Helper()
	return normal(s.run(t, "nft", "list", "table", "inet", tableName))
}

// normal sorts the elements of each set, which nft lists in hash order.
func normal(text string) string {
	var out, elements []string
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		first, started := strings.CutPrefix(line, "elements = { ")
		switch {
		case started || elements != nil:
			last := strings.HasSuffix(first, " }")
			elements = append(elements, strings.TrimRight(strings.TrimSuffix(first, " }"), ","))
			if last {
				slices.Sort(elements)
				out, elements = append(out, elements...), nil
			}
		case line != "":
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n") + "\n"
}

func TestRulesetIsWhatNFTLists(t *testing.T) {
	s := newSpace(t)
	p := openIn(t, s)
	table := exampleTable()
	if _, err := p.Set(table); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(normal(chainsLastSorted(Compile(table).String())), chainsLastSorted(listing(t, s))); d != "" {
		t.Error(d)
	}
}

// chainsLastSorted sorts the shared chains, which nft lists as they were made.
func chainsLastSorted(text string) string {
	const last = "filter-output"
	at := strings.Index(text, last)
	at += strings.Index(text[at:], "}\n") + 2
	chains := strings.SplitAfter(text[at:], "}\n")
	slices.Sort(chains)
	return text[:at] + strings.Join(chains, "")
}

func TestGolden(t *testing.T) {
	const path = "testdata/example.nft"
	got := Compile(exampleTable()).String()
	if os.Getenv("UPDATE") != "" {
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if d := cmp.Diff(string(want), got); d != "" {
		t.Error(d)
	}
}

// generation reads nft's commit counter.
func generation(t testing.TB, p *Proxy) uint32 {
	t.Helper()
	g, err := p.kernel.generation()
	must(t, err)
	return g
}

func TestOneTransactionOrNone(t *testing.T) {
	s := newSpace(t)
	p := openIn(t, s)
	set := func(table Table, transactions uint32) {
		t.Helper()
		before := generation(t, p)
		changed, err := p.Set(table)
		must(t, err)
		if n := generation(t, p) - before; n != transactions || changed != (n > 0) {
			t.Errorf("%d transactions, want %d; changed is %v", n, transactions, changed)
		}
	}
	set(exampleTable(), 1)
	set(exampleTable(), 0)

	fewer := exampleTable()
	web := fewer.Services["shop/web"]
	web.Endpoints = web.Endpoints[:1]
	fewer.Services["shop/web"] = web
	set(fewer, 2) // the chain for one endpoint comes first
	set(fewer, 0)
	if got := listing(t, s); !strings.Contains(got, "10.96.0.20 . tcp . 80 . 0x00000001 : 10.112.0.5 . 8080") {
		t.Errorf("the vacated slot does not lead to the live endpoint:\n%s", got)
	}
	// Whoever else commits makes us look, not write.
	s.run(t, "nft", "add", "table", "inet", "somebody")
	set(fewer, 0)
	set(fewer, 0)
	s.run(t, "nft", "delete", "element", "inet", tableName, "services", "{ 10.96.0.20 . tcp . 80 }")
	set(fewer, 1)
	s.run(t, "nft", "flush", "chain", "inet", tableName, "nat-postrouting")
	set(fewer, 1)
	s.run(t, "nft", "add", "chain", "inet", tableName, "stranger")
	set(fewer, 1)
	s.run(t, "nft", "delete", "table", "inet", tableName)
	set(fewer, 1)

	// A new process finds everything in place.
	p = openIn(t, s)
	set(fewer, 1) // the vacated slot of before
	p = openIn(t, s)
	set(fewer, 0)
	if d := cmp.Diff(normal(chainsLastSorted(Compile(fewer).String())), chainsLastSorted(listing(t, s))); d != "" {
		t.Error(d)
	}

	moved := fewer
	moved.NodeIP = netip.MustParseAddr("10.9.0.7")
	set(moved, 1)
	if got := listing(t, s); strings.Contains(got, "10.9.0.1 fully-random") || !strings.Contains(got, "snat ip to 10.9.0.7") {
		t.Errorf("the old node address is left:\n%s", got)
	}
	set(Table{}, 1)
	set(Table{}, 0)
	if got := s.run(t, "nft", "list", "ruleset"); strings.Contains(got, tableName) {
		t.Errorf("left behind:\n%s", got)
	}
}

func TestWhatCannotBeProgrammedIsNamed(t *testing.T) {
	p := openIn(t, newSpace(t))
	table := exampleTable()
	table.Services["bad/address"] = wire.Service{ClusterIPs: schema.List[string]{"fd00::1"}, Ports: []wire.ServicePort{{Port: 80}}}
	table.Services["shop/zz-thief"] = wire.Service{ClusterIPs: schema.List[string]{"10.96.0.20"}, Ports: []wire.ServicePort{{Port: 80, NodePort: 30080}},
		Endpoints: []wire.Endpoint{{IP: "10.112.0.99", Ports: []uint16{1}}}}
	changed, err := p.Set(table)
	if !changed || !errors.As(err, new(*PartialError)) {
		t.Fatalf("changed %v, error %v", changed, err)
	}
	for _, want := range []string{"bad/address", "service shop/zz-thief: 10.96.0.20 . tcp . 80 is taken by service shop/web", "service shop/zz-thief: tcp . 30080 is taken"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if changed, err := p.Set(table); changed || err == nil {
		t.Errorf("the second time: changed %v, error %v", changed, err)
	}
	// When the first leaves, the second gets what it asked for.
	delete(table.Services, "shop/web")
	delete(table.Services, "bad/address")
	if _, err := p.Set(table); err != nil {
		t.Fatal(err)
	}
	if d := Difference(p.compiled, Compile(table)); len(d) != 0 {
		t.Errorf("still to do: %v", d)
	}
	if _, err := p.Set(Table{Node: "n1"}); err == nil {
		t.Error("took a table without addresses")
	}
}

// tables draws tables with few names and addresses, so that they often meet.
func tables() *rapid.Generator[Table] {
	return rapid.Custom(func(t *rapid.T) Table {
		table := exampleTable()
		table.HostPorts = table.HostPorts[:rapid.IntRange(0, 2).Draw(t, "hostPorts")]
		table.NodeIP = netip.AddrFrom4([4]byte{10, 9, 0, byte(rapid.IntRange(1, 2).Draw(t, "node"))})
		table.Services = map[string]wire.Service{}
		for i := range rapid.IntRange(0, 6).Draw(t, "services") {
			name := fmt.Sprintf("ns/s%d", rapid.IntRange(0, 7).Draw(t, "name"))
			table.Services[name] = drawService(t, i)
		}
		return table
	})
}

func drawService(t *rapid.T, i int) wire.Service {
	s := wire.Service{ClusterIPs: schema.List[string]{fmt.Sprintf("10.96.1.%d", rapid.IntRange(1, 8).Draw(t, "ip"))}}
	for range rapid.IntRange(0, 2).Draw(t, "ports") {
		s.Ports = append(s.Ports, wire.ServicePort{
			Protocol: rapid.SampledFrom([]corev1.Protocol{"TCP", "UDP", "SCTP"}).Draw(t, "protocol"),
			Port:     uint16(rapid.IntRange(1, 3).Draw(t, "port")), NodePort: uint16(30000 * rapid.IntRange(0, 1).Draw(t, "hasNodePort")),
			ExternalLocal: rapid.Bool().Draw(t, "local"),
		})
	}
	for j := range rapid.IntRange(0, 4).Draw(t, "endpoints") {
		e := wire.Endpoint{IP: fmt.Sprintf("10.112.0.%d", 1+j+rapid.IntRange(0, 3).Draw(t, "address")), Node: schema.NodeName(rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "on"))}
		for range s.Ports {
			e.Ports = append(e.Ports, uint16(rapid.IntRange(0, 2).Draw(t, "endpointPort")))
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// Whatever was programmed before, the kernel ends with what the last table says
// and nothing else but slots that the last step vacated; and the kernel never
// refuses the step.
func TestSetAfterSetEqualsFreshSet(t *testing.T) {
	for name, p := range map[string]*Proxy{"kernel": openIn(t, newSpace(t)), "memory": NewMemory().Open()} {
		t.Run(name, func(t *testing.T) { setAfterSet(t, p) })
	}
}

func setAfterSet(t *testing.T, p *Proxy) {
	chance.Check(t, func(r *rapid.T) {
		for i := range rapid.IntRange(1, 4).Draw(r, "steps") {
			table := tables().Draw(r, fmt.Sprint("table ", i))
			if _, err := p.Set(table); err != nil && !strings.Contains(err.Error(), "is taken by") {
				r.Fatal(err)
			}
			found, err := p.kernel.list()
			if err != nil {
				r.Fatal(err)
			}
			for _, op := range found.difference(Compile(table)) {
				if op.Kind != OpDeleteElement || op.Element.Key.Set != SetEndpoints && op.Element.Key.Set != SetNodeEndpoints {
					r.Fatalf("the kernel still lacks %v", op)
				}
			}
			before := generation(t, p)
			if p.Set(table); generation(t, p) != before {
				r.Fatal("the second time wrote")
			}
		}
	})
}

// holds reports the first thing in which the table differs from r.
func (m *memoryTable) holds(r Ruleset) error {
	if m.present != (r.base != base{}) || m.base != r.base {
		return fmt.Errorf("present is %v, with rules of %v", m.present, m.base)
	}
	want := map[Key]Value{}
	for _, e := range r.elements() {
		if _, twice := want[e.Key]; twice {
			return fmt.Errorf("%v twice", e)
		}
		want[e.Key] = e.Value
	}
	if d := cmp.Diff(want, m.elements); len(want)+len(m.elements) > 0 && d != "" {
		return errors.New(d)
	}
	if have := slices.SortedFunc(maps.Keys(m.chains), compareChains); !slices.Equal(have, r.chains) {
		return fmt.Errorf("chains %v, want %v", have, r.chains)
	}
	return nil
}

func TestDifference(t *testing.T) {
	chance.Check(t, func(r *rapid.T) {
		m := NewMemory()
		var programmed, compiled Ruleset
		for i := range rapid.IntRange(1, 8).Draw(r, "steps") {
			table := Table{}
			if rapid.IntRange(0, 9).Draw(r, "none") > 0 {
				table = tables().Draw(r, fmt.Sprint("table ", i))
			}
			want := compiled.compile(table)
			if fresh := Compile(table); want.String() != fresh.String() {
				r.Fatalf("compiled from the one before:\n%s\nfrom nothing:\n%s", want, fresh)
			}
			next := programmed.Next(want)
			if err := m.commit(next.base, Difference(programmed, next)); err != nil {
				r.Fatal(err)
			}
			if err := m.held.holds(next); err != nil {
				r.Fatal(err)
			}
			if again := Difference(next, next); len(again) != 0 {
				r.Fatalf("once more: %v", again)
			}
			compiled, programmed = want, next
		}
	})
}

// straddled is a Memory that keeps each step between two of its states.
type straddled struct {
	*Memory
	steps [][2]memoryTable
}

func (s *straddled) commit(b base, ops []Op) error {
	before := s.held
	err := s.Memory.commit(b, ops)
	s.steps = append(s.steps, [2]memoryTable{before, s.held})
	return err
}

// A packet to a service that meets a commit finds an endpoint all the same.
func TestAPacketAmidACommit(t *testing.T) {
	chance.Check(t, func(r *rapid.T) {
		kernel := &straddled{Memory: NewMemory()}
		p := &Proxy{kernel: kernel, flows: noConnections{}}
		for i := range rapid.IntRange(2, 6).Draw(r, "steps") {
			if _, err := p.Set(tables().Draw(r, fmt.Sprint("table ", i))); err != nil && !strings.Contains(err.Error(), "is taken by") {
				r.Fatal(err)
			}
		}
		for _, step := range kernel.steps {
			before, after := step[0], step[1]
			if !before.present || before.base != after.base {
				continue
			}
			// Its chains are those of before, and elements change before the first
			// look-up or between it and the second.
			amid := &memoryTable{chains: before.chains, elements: after.elements}
			for key, front := range before.elements {
				now, stays := after.elements[key]
				if !stays || front.Chain == (Chain{}) {
					continue
				}
				slot := key
				slot.Set = SetEndpoints
				if key.Set == SetNodePorts {
					slot.Set = SetNodeEndpoints
				}
				for random := range 2 * max(front.Chain.Count, now.Chain.Count) {
					between, _ := amid.through(front.Chain, slot, random)
					ahead, _ := amid.through(now.Chain, slot, random)
					if between == nil || ahead == nil {
						r.Fatalf("%v from %v to %v: nowhere to go for random number %d", key, front.Chain, now.Chain, random)
					}
				}
			}
		}
	})
}

// bigTable has n services of three endpoints.
func bigTable(n int) Table {
	t := exampleTable()
	t.Services, t.HostPorts = make(map[string]wire.Service, n), nil
	for i := range n {
		var endpoints []wire.Endpoint
		for j := range 3 {
			a := 3*i + j
			endpoints = append(endpoints, wire.Endpoint{IP: fmt.Sprintf("10.%d.%d.%d", 112+a>>16, a>>8&255, a&255), Ports: []uint16{8080}, Node: schema.NodeName(fmt.Sprintf("n%d", a%100))})
		}
		t.Services[fmt.Sprintf("ns-%d/service-%d", i%50, i)] = wire.Service{ClusterIPs: schema.List[string]{fmt.Sprintf("10.96.%d.%d", i>>8, i&255)},
			Ports: []wire.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}}, Endpoints: endpoints}
	}
	return t
}

// maxLoad is far above the bar: a shared machine may be slow, a lost factor of
// ten is caught all the same.
const maxLoad = 10 * time.Second

func TestTenThousandServicesLoad(t *testing.T) {
	p := openIn(t, newSpace(t))
	table := bigTable(10_000)
	start := time.Now()
	if _, err := p.Set(table); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > maxLoad {
		t.Errorf("took %v", d)
	}
	found, err := p.kernel.list()
	must(t, err)
	if len(found.elements) < 40_000 || len(found.difference(p.programmed)) != 0 {
		t.Errorf("%d elements, %d differences", len(found.elements), len(found.difference(p.programmed)))
	}
}

func BenchmarkLoad(b *testing.B) {
	table := bigTable(10_000)
	for b.Loop() {
		b.StopTimer()
		p := openIn(b, newSpace(b))
		b.StartTimer()
		if _, err := p.Set(table); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOneEndpoint(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n, " services"), func(b *testing.B) {
			p := openIn(b, newSpace(b))
			table := bigTable(n)
			if _, err := p.Set(table); err != nil {
				b.Fatal(err)
			}
			const name = "ns-7/service-7"
			for i := 0; b.Loop(); i++ {
				s := table.Services[name]
				s.Endpoints = slices.Clone(s.Endpoints)
				s.Endpoints[0].Ports = []uint16{uint16(1000 + i%1000)}
				table.Services[name] = s
				if changed, err := p.Set(table); !changed || err != nil {
					b.Fatal(changed, err)
				}
			}
		})
	}
}

func BenchmarkUnchanged(b *testing.B) {
	p := openIn(b, newSpace(b))
	table := bigTable(10_000)
	if _, err := p.Set(table); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if changed, err := p.Set(table); changed || err != nil {
			b.Fatal(changed, err)
		}
	}
}
