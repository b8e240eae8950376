package dns

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
	"fairlead/schema/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func work() *wire.Work {
	http := wire.ServicePort{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}
	return &wire.Work{
		Cluster: wire.ClusterInfo{PodCIDRs: schema.List[string]{"10.112.0.0/12"}, ServiceCIDRs: schema.List[string]{"10.96.0.0/16"}, DNS: schema.List[string]{"10.96.0.10"}, Domain: "cluster.local"},
		Services: map[string]wire.Service{
			"shop/api": {ClusterIPs: schema.List[string]{"10.96.0.20"}, Ports: []wire.ServicePort{http, {Protocol: corev1.ProtocolUDP, Port: 9}},
				Endpoints: []wire.Endpoint{{IP: "10.112.0.5", Ports: []uint16{8080, 9}}}},
			"shop/db": {Headless: true, Ports: []wire.ServicePort{{Name: "sql", Protocol: corev1.ProtocolTCP, Port: 5432}},
				Endpoints: []wire.Endpoint{
					{IP: "10.112.0.7", Ports: []uint16{5432}, Hostname: "db-0"},
					{IP: "10.112.4.7", Ports: []uint16{5433}},
				}},
			"shop/nobody":  {Headless: true, Ports: []wire.ServicePort{http}},
			"shop/waiting": {Ports: []wire.ServicePort{http}},
		},
	}
}

// serve runs a server on loopback over work's table, until the test ends.
func serve(t testing.TB, w *wire.Work, change func(*Config)) (addr, table string) {
	t.Helper()
	p, l := bind(t)
	listen := p.LocalAddr().(*net.UDPAddr).AddrPort()
	p.Close()
	l.Close()
	table = TablePath(t.TempDir())
	must(t, NewTableFile(table).Write(w))
	log := logrus.New()
	log.SetOutput(testWriter{t})
	c := Config{Table: table, Listen: listen, ResolvConf: os.DevNull, Log: logrus.NewEntry(log)}
	if change != nil {
		change(&c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, c) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	addr = listen.String()
	eventually(t, func() bool {
		m, err := dns.Exchange(question("cluster.local", dns.TypeSOA), addr)
		return err == nil && m.Response // a socket that got the port meanwhile talks to itself
	})
	return addr, table
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("it did not come")
		}
	}
}

func question(name string, qtype uint16) *dns.Msg {
	return new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
}

// told is a reply in short: its code, sections and records, sorted.
func told(m *dns.Msg) string {
	lines := []string{dns.RcodeToString[m.Rcode]}
	for section, rrs := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		var texts []string
		for _, rr := range rrs {
			if rr.Header().Rrtype != dns.TypeOPT {
				texts = append(texts, []string{"", "ns ", "extra "}[section]+strings.ReplaceAll(rr.String(), "\t", " "))
			}
		}
		slices.Sort(texts)
		lines = append(lines, texts...)
	}
	return strings.Join(lines, "\n")
}

// without serial numbers and in one word
func soa(owner string) string {
	return "ns " + owner + " 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. SERIAL 7200 1800 86400 5"
}

func TestAnswers(t *testing.T) {
	addr, _ := serve(t, work(), nil)
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"api.shop.svc.cluster.local", dns.TypeA, "NOERROR\napi.shop.svc.cluster.local. 5 IN A 10.96.0.20"},
		{"API.Shop.svc.CLUSTER.local", dns.TypeA, "NOERROR\nAPI.Shop.svc.CLUSTER.local. 5 IN A 10.96.0.20"},
		{"api.shop.svc.cluster.local", dns.TypeAAAA, "NOERROR\n" + soa("cluster.local.")},
		{"api.shop.svc.cluster.local", dns.TypeANY, "NOERROR\napi.shop.svc.cluster.local. 5 IN A 10.96.0.20"},
		{"db.shop.svc.cluster.local", dns.TypeA, "NOERROR\ndb.shop.svc.cluster.local. 5 IN A 10.112.0.7\ndb.shop.svc.cluster.local. 5 IN A 10.112.4.7"},
		{"db-0.db.shop.svc.cluster.local", dns.TypeA, "NOERROR\ndb-0.db.shop.svc.cluster.local. 5 IN A 10.112.0.7"},
		{"10-112-4-7.db.shop.svc.cluster.local", dns.TypeA, "NOERROR\n10-112-4-7.db.shop.svc.cluster.local. 5 IN A 10.112.4.7"},
		{"nobody.shop.svc.cluster.local", dns.TypeA, "NXDOMAIN\n" + soa("cluster.local.")},
		{"waiting.shop.svc.cluster.local", dns.TypeA, "NXDOMAIN\n" + soa("cluster.local.")},
		{"missing.shop.svc.cluster.local", dns.TypeA, "NXDOMAIN\n" + soa("cluster.local.")},
		{"example.com.shop.svc.cluster.local", dns.TypeA, "NXDOMAIN\n" + soa("cluster.local.")},
		{"shop.svc.cluster.local", dns.TypeA, "NOERROR\n" + soa("cluster.local.")},
		{"svc.cluster.local", dns.TypeA, "NOERROR\n" + soa("cluster.local.")},
		{"cluster.local", dns.TypeSOA, "NOERROR\n" + strings.TrimPrefix(soa("cluster.local."), "ns ")},
		{"_tcp.api.shop.svc.cluster.local", dns.TypeSRV, "NOERROR\n" + soa("cluster.local.")},
		{"_http._tcp.api.shop.svc.cluster.local", dns.TypeSRV, "NOERROR\n_http._tcp.api.shop.svc.cluster.local. 5 IN SRV 0 100 80 api.shop.svc.cluster.local.\nextra api.shop.svc.cluster.local. 5 IN A 10.96.0.20"},
		{"_sql._tcp.db.shop.svc.cluster.local", dns.TypeSRV, "NOERROR\n" +
			"_sql._tcp.db.shop.svc.cluster.local. 5 IN SRV 0 100 5432 db-0.db.shop.svc.cluster.local.\n" +
			"_sql._tcp.db.shop.svc.cluster.local. 5 IN SRV 0 100 5433 10-112-4-7.db.shop.svc.cluster.local.\n" +
			"extra 10-112-4-7.db.shop.svc.cluster.local. 5 IN A 10.112.4.7\nextra db-0.db.shop.svc.cluster.local. 5 IN A 10.112.0.7"},
		{"20.0.96.10.in-addr.arpa", dns.TypePTR, "NOERROR\n20.0.96.10.in-addr.arpa. 5 IN PTR api.shop.svc.cluster.local."},
		{"7.0.112.10.in-addr.arpa", dns.TypePTR, "NOERROR\n7.0.112.10.in-addr.arpa. 5 IN PTR db-0.db.shop.svc.cluster.local."},
		{"99.0.96.10.in-addr.arpa", dns.TypePTR, "NXDOMAIN\n" + soa("in-addr.arpa.")},
		{"10-112-9-9.shop.pod.cluster.local", dns.TypeA, "NOERROR\n10-112-9-9.shop.pod.cluster.local. 5 IN A 10.112.9.9"},
		{"10-112-9-9.shop.pod.cluster.local", dns.TypeAAAA, "NOERROR\n" + soa("cluster.local.")},
		{"192-0-2-1.shop.pod.cluster.local", dns.TypeA, "NXDOMAIN\n" + soa("cluster.local.")},
		{"shop.pod.cluster.local", dns.TypeA, "NOERROR\n" + soa("cluster.local.")},
		{"dns-version.cluster.local", dns.TypeTXT, "NOERROR\ndns-version.cluster.local. 5 IN TXT \"1.1.0\""},
		{"example.com", dns.TypeA, "SERVFAIL"},
		{"1.2.0.192.in-addr.arpa", dns.TypePTR, "SERVFAIL"},
		{"notcluster.local", dns.TypeA, "SERVFAIL"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			for _, edns := range []bool{false, true} {
				q := question(c.name, c.qtype)
				if edns {
					q.SetEdns0(4096, false)
				}
				m, _, err := (&dns.Client{Net: network}).Exchange(q, addr)
				if err != nil {
					t.Errorf("%s %s: %v", network, c.name, err)
					continue
				}
				got := told(m)
				if at := strings.Index(got, "hostmaster.cluster.local. "); at >= 0 {
					fields := strings.Fields(got[at:])
					got = strings.Replace(got, " "+fields[1]+" ", " SERIAL ", 1)
				}
				if d := cmp.Diff(c.want, got); d != "" {
					t.Errorf("%s %s %s:\n%s", network, c.name, dns.TypeToString[c.qtype], d)
				}
				if (m.IsEdns0() != nil) != edns {
					t.Errorf("%s %s: EDNS in the answer is %v", network, c.name, m.IsEdns0())
				}
				if ours := m.Rcode != dns.RcodeServerFailure; m.Authoritative != ours || !m.RecursionAvailable || !m.RecursionDesired {
					t.Errorf("%s %s: flags %+v", network, c.name, m.MsgHdr)
				}
			}
		}
	}
}

func TestOddQuestions(t *testing.T) {
	addr, _ := serve(t, work(), nil)
	ask := func(change func(*dns.Msg)) *dns.Msg {
		t.Helper()
		q := question("api.shop.svc.cluster.local", dns.TypeA)
		change(q)
		m, err := dns.Exchange(q, addr)
		must(t, err)
		return m
	}
	if m := ask(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }); m.Rcode != dns.RcodeNotImplemented {
		t.Errorf("update: %v", m)
	}
	if m := ask(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }); m.Rcode != dns.RcodeRefused {
		t.Errorf("chaos: %v", m)
	}
	if m := ask(func(m *dns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) }); m.Rcode != dns.RcodeBadVers {
		t.Errorf("EDNS 1: %v", m)
	}
	// Whatever comes, the server lives.
	c, err := net.Dial("udp4", addr)
	must(t, err)
	defer c.Close()
	whole, err := question("api.shop.svc.cluster.local", dns.TypeA).Pack()
	must(t, err)
	for i := range whole {
		c.Write(whole[:i])
		broken := slices.Clone(whole)
		broken[i] ^= 0xff
		c.Write(broken)
	}
	if m := ask(func(*dns.Msg) {}); len(m.Answer) != 1 {
		t.Errorf("afterwards: %v", m)
	}
}

func TestTruncation(t *testing.T) {
	w := work()
	var endpoints []wire.Endpoint
	for i := range 200 {
		endpoints = append(endpoints, wire.Endpoint{IP: fmt.Sprintf("10.112.1.%d", i), Ports: []uint16{1}})
	}
	w.Services["shop/many"] = wire.Service{Headless: true, Endpoints: endpoints}
	addr, _ := serve(t, w, nil)
	q := question("many.shop.svc.cluster.local", dns.TypeA)
	for _, edns := range []bool{false, true} {
		if edns {
			q.SetEdns0(1232, false)
		}
		m, err := dns.Exchange(q, addr)
		must(t, err)
		if !m.Truncated || len(m.Answer) > 0 {
			t.Errorf("UDP, EDNS %v: truncated %v, %d answers", edns, m.Truncated, len(m.Answer))
		}
	}
	m, _, err := (&dns.Client{Net: "tcp"}).Exchange(q, addr)
	must(t, err)
	if len(m.Answer) != 200 {
		t.Errorf("TCP: %d answers", len(m.Answer))
	}
}

func TestTheTableIsTakenUp(t *testing.T) {
	w := work()
	addr, table := serve(t, w, func(c *Config) { c.lookAgain = time.Hour }) // notices must do
	has := func(ip string) func() bool {
		return func() bool {
			m, err := dns.Exchange(question("api.shop.svc.cluster.local", dns.TypeA), addr)
			return err == nil && strings.Contains(told(m), ip)
		}
	}
	before, err := os.Stat(table)
	must(t, err)
	api := w.Services["shop/api"]
	api.Endpoints = nil // of a cluster address: names do not depend on it
	w.Services["shop/api"] = api
	must(t, NewTableFile(table).Write(w))
	if after, err := os.Stat(table); err != nil || !os.SameFile(before, after) {
		t.Error("a table that says the same was replaced")
	}

	api.ClusterIPs = schema.List[string]{"10.96.0.21"}
	w.Services["shop/api"] = api
	must(t, NewTableFile(table).Write(w))
	eventually(t, has("10.96.0.21"))

	must(t, os.WriteFile(table, []byte("{"), 0o644))
	must(t, os.Rename(table, table+".away"))
	if !has("10.96.0.21")() {
		t.Error("a broken table took the names away")
	}
	bad := w.Services["shop/db"]
	bad.Endpoints = []wire.Endpoint{{IP: "nonsense", Hostname: "db-0"}}
	w.Services["shop/db"] = bad
	api.ClusterIPs = schema.List[string]{"10.96.0.22"}
	w.Services["shop/api"] = api
	must(t, NewTableFile(table).Write(w))
	eventually(t, has("10.96.0.22")) // one bad service takes only itself away
}

// The file is replaced when the names that follow from the work are others, or when it
// is not the file that was written; whatever it is, its owner knows the file again.
func TestTheTableIsWrittenWhenItDiffers(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(w *wire.Work)
		replaced bool
	}{
		"nothing": {func(*wire.Work) {}, false},
		"an endpoint of a cluster address": {func(w *wire.Work) {
			edit(w, "shop/api", func(s *wire.Service) { s.Endpoints = []wire.Endpoint{{IP: "10.112.9.9", Ports: []uint16{1}}} })
		}, false},
		"a headless endpoint": {func(w *wire.Work) {
			edit(w, "shop/db", func(s *wire.Service) {
				s.Endpoints = slices.Clone(s.Endpoints)
				s.Endpoints[0].Ports = []uint16{9}
			})
		}, true},
		"a host name": {func(w *wire.Work) {
			edit(w, "shop/db", func(s *wire.Service) { s.Endpoints = slices.Clone(s.Endpoints); s.Endpoints[1].Hostname = "db-1" })
		}, true},
		"an address": {func(w *wire.Work) {
			edit(w, "shop/api", func(s *wire.Service) { s.ClusterIPs = schema.List[string]{"10.96.0.99"} })
		}, true},
		"headless": {func(w *wire.Work) { edit(w, "shop/nobody", func(s *wire.Service) { s.Headless = false }) }, true},
		"a port's name": {func(w *wire.Work) {
			edit(w, "shop/api", func(s *wire.Service) { s.Ports = slices.Clone(s.Ports); s.Ports[0].Name = "other" })
		}, true},
		"one less":        {func(w *wire.Work) { delete(w.Services, "shop/api") }, true},
		"one for another": {func(w *wire.Work) { w.Services["shop/new"] = w.Services["shop/api"]; delete(w.Services, "shop/api") }, true},
		"the domain":      {func(w *wire.Work) { w.Cluster.Domain = "other.local" }, true},
	} {
		t.Run(name, func(t *testing.T) {
			path := TablePath(t.TempDir())
			file, first := NewTableFile(path), work()
			must(t, file.Write(first))
			before, err := os.Stat(path)
			must(t, err)
			next := *first
			next.Services = maps.Clone(first.Services)
			c.change(&next)
			must(t, file.Write(&next))
			after, err := os.Stat(path)
			must(t, err)
			if os.SameFile(before, after) == c.replaced {
				t.Errorf("replaced: %v, want %v", !c.replaced, c.replaced)
			}
			want, err := json.Marshal(tableOf(&next))
			must(t, err)
			spoil := map[string]func() error{
				"gone":  func() error { return os.Remove(path) },
				"other": func() error { return os.WriteFile(path, []byte("{"), 0o644) },
			}
			for what, do := range spoil {
				must(t, do())
				must(t, file.Write(&next))
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s and written again, it holds %s, %v; want %s", what, got, err, want)
				}
			}
		})
	}
}

// BenchmarkTable is one endpoint of 10,000 services changing, which no name depends on:
// to an owner that knows what it wrote, and to one that has to look.
func BenchmarkTable(b *testing.B) {
	first := &wire.Work{Services: map[string]wire.Service{}}
	for i := range 10_000 {
		first.Services[fmt.Sprintf("shop/s%d", i)] = wire.Service{
			ClusterIPs: schema.List[string]{fmt.Sprintf("10.96.%d.%d", i>>8, i&255)}, Ports: []wire.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}},
			Endpoints: []wire.Endpoint{{IP: "10.112.0.5", Ports: []uint16{8080}, Node: "n2"}},
		}
	}
	next := &wire.Work{Services: maps.Clone(first.Services)}
	edit(next, "shop/s7", func(s *wire.Service) { s.Endpoints = nil })
	path := TablePath(b.TempDir())
	known := NewTableFile(path)
	must(b, known.Write(first))
	for name, file := range map[string]func() *TableFile{
		"known": func() *TableFile { return known }, "read": func() *TableFile { return NewTableFile(path) },
	} {
		b.Run(name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				must(b, file().Write([]*wire.Work{next, first}[i%2]))
			}
		})
	}
}

func edit(w *wire.Work, name string, change func(*wire.Service)) {
	s := w.Services[name]
	change(&s)
	w.Services[name] = s
}

// bind takes a loopback port for UDP and TCP.
func bind(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		must(t, err)
		if p, err := net.ListenPacket("udp4", l.Addr().String()); err == nil {
			return p, l
		}
		l.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

// resolver is one that knows everything.
func resolver(t *testing.T, handler dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	p, l := bind(t)
	for _, s := range []*dns.Server{{PacketConn: p, Handler: handler}, {Listener: l, Handler: handler}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go s.ActivateAndServe()
		<-started
		t.Cleanup(func() { s.Shutdown() })
	}
	return p.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestForwarding(t *testing.T) {
	up := resolver(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp && strings.HasPrefix(q.Question[0].Name, "big.") {
			m.Truncated = true
		} else {
			rr, _ := dns.NewRR(q.Question[0].Name + " 60 IN A 192.0.2.1")
			m.Answer = []dns.RR{rr}
		}
		w.WriteMsg(m)
	})
	p, l := bind(t)
	dead := p.LocalAddr().(*net.UDPAddr).AddrPort()
	p.Close()
	l.Close()
	addr, _ := serve(t, work(), func(c *Config) { c.Upstreams, c.allowLoopback = []netip.AddrPort{dead, up}, true })

	m, err := dns.Exchange(question("example.com", dns.TypeA), addr)
	must(t, err)
	if got := told(m); got != "NOERROR\nexample.com. 60 IN A 192.0.2.1" {
		t.Errorf("UDP: %s", got)
	}
	m, err = dns.Exchange(question("big.example.com", dns.TypeA), addr)
	if err != nil || !m.Truncated {
		t.Errorf("truncation is not passed on: %v %v", m, err)
	}
	m, _, err = (&dns.Client{Net: "tcp"}).Exchange(question("big.example.com", dns.TypeA), addr)
	must(t, err)
	if got := told(m); got != "NOERROR\nbig.example.com. 60 IN A 192.0.2.1" {
		t.Errorf("TCP: %s", got)
	}
}

func TestLoopbackUpstreamsAreRefused(t *testing.T) {
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	must(t, os.WriteFile(resolv, []byte("nameserver 127.0.0.53\n"), 0o644))
	lines := make(chan string, 100)
	log := logrus.New()
	log.SetOutput(lineWriter(lines))
	addr, _ := serve(t, work(), func(c *Config) { c.ResolvConf, c.Log = resolv, logrus.NewEntry(log) })
	start := time.Now()
	m, err := dns.Exchange(question("example.com", dns.TypeA), addr)
	must(t, err)
	if m.Rcode != dns.RcodeServerFailure || time.Since(start) >= upstreamTimeout {
		t.Errorf("%v after %v", m.Rcode, time.Since(start))
	}
	deadline := time.After(time.Minute) // it serves before it has said so
	for {
		select {
		case line := <-lines:
			if strings.Contains(line, "upstream 127.0.0.53:53 is a loopback address") {
				return
			}
		case <-deadline:
			t.Fatal("nothing says why")
		}
	}
}

type lineWriter chan string

func (w lineWriter) Write(b []byte) (int, error) {
	select {
	case w <- string(b):
	default:
	}
	return len(b), nil
}

func TestAnswerAllocatesNothing(t *testing.T) {
	z, refused, err := newZone(tableOf(work()), 1)
	must(t, err)
	must(t, refused)
	q, err := question("api.shop.svc.cluster.local", dns.TypeA).SetEdns0(1232, false).Pack()
	must(t, err)
	out := make([]byte, 0, maxMessageBytes)
	if n := testing.AllocsPerRun(100, func() { z.answer(q, out, 0) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAnswer(b *testing.B) {
	z, _, err := newZone(tableOf(work()), 1)
	must(b, err)
	q, err := question("api.shop.svc.cluster.local", dns.TypeA).Pack()
	must(b, err)
	out := make([]byte, 0, maxMessageBytes)
	for b.Loop() {
		z.answer(q, out, 0)
	}
}

func BenchmarkServe(b *testing.B) {
	addr, _ := serve(b, work(), nil)
	q, err := question("api.shop.svc.cluster.local", dns.TypeA).Pack()
	must(b, err)
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("udp4", addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		in := make([]byte, 512)
		for pb.Next() {
			c.Write(q)
			if _, err := c.Read(in); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
