package dns

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// asked is a question as a resolver sends it.
func asked(f testing.TB, name string, qtype uint16, edns bool) []byte {
	m := new(dns.Msg).SetQuestion(name, qtype)
	if edns {
		m.SetEdns0(4096, true)
	}
	data, err := m.Pack()
	must(f, err)
	return data
}

// Any message is dropped, passed on, or answered by one that others can read,
// that fits and that repeats its id.
func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"api.shop.svc.cluster.local.", "db-0.db.shop.svc.cluster.local.", "_sql._tcp.db.shop.svc.cluster.local.", "10-112-0-5.shop.pod.cluster.local.",
		"20.0.96.10.in-addr.arpa.", "cluster.local.", "example.com.", "."} {
		f.Add(asked(f, name, dns.TypeA, false), 0)
		f.Add(asked(f, name, dns.TypeANY, true), 512)
	}
	f.Add(asked(f, "cluster.local.", dns.TypeSOA, true)[:40], 65535)
	f.Add([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1}, 0)
	z, refused, err := newZone(tableOf(work()), 1)
	must(f, err)
	must(f, refused)
	f.Fuzz(func(t *testing.T, message []byte, limit int) {
		if limit < 0 || limit > 65535 || limit > 0 && limit < minUDPBytes {
			limit = 0
		}
		kept := string(message)
		out, v := z.answer(message, make([]byte, 0, 65535), limit)
		if string(message) != kept {
			t.Error("the question was changed")
		}
		if v != reply {
			return
		}
		if len(out) > max(limit, ourUDPBytes) {
			t.Errorf("%d bytes, at most %d fit", len(out), max(limit, ourUDPBytes))
		}
		var m dns.Msg
		if err := m.Unpack(out); err != nil {
			t.Fatalf("%v in %x", err, out)
		}
		if !m.Response || out[0] != message[0] || out[1] != message[1] {
			t.Errorf("no answer to the question: %s", &m)
		}
	})
}

// What an upstream sends back is believed only where it repeats what was asked.
func FuzzUpstreamAnswer(f *testing.F) {
	q := asked(f, "example.com.", dns.TypeA, true)
	var m dns.Msg
	must(f, m.Unpack(q))
	a, err := new(dns.Msg).SetReply(&m).Pack()
	must(f, err)
	f.Add(q, a)
	f.Add(q, a[:len(a)-1])
	f.Add(q, a[:headerBytes])
	f.Add(q, []byte{})
	f.Fuzz(func(t *testing.T, question, answer []byte) {
		if _, rcode, ok := parse(question, make([]byte, 0, maxNameBytes)); !ok || rcode != rcodeSuccess {
			return // is not passed on
		}
		if !answers(question, answer) || len(answer) < len(question) {
			return
		}
		if cut := truncated(question, answer); len(cut) > len(answer) || cut[2]&(flagTruncated>>8) == 0 {
			t.Errorf("%x cut to %x", answer, cut)
		}
	})
}

// A table is refused as a whole, or every name in it is answered.
func FuzzTable(f *testing.F) {
	data, err := json.Marshal(tableOf(work()))
	must(f, err)
	f.Add(data)
	f.Add([]byte(`{"cluster":{"domain":"a..b"}}`))
	f.Add([]byte(strings.Replace(string(data), "10.112.0.7", "::1", 1)))
	f.Add([]byte(strings.Replace(string(data), "shop/api", "shop/"+strings.Repeat("a", 64), 1)))
	f.Add([]byte(strings.Replace(string(data), `"sql"`, `"`+strings.Repeat("p", 63)+`"`, 1)))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "table.json")
		must(t, os.WriteFile(path, data, 0o600))
		read, err := readTable(path)
		if err != nil {
			return
		}
		z, _, err := newZone(read, 1)
		if err != nil {
			return
		}
		for name := range z.names {
			question := append([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, name...)
			question = append(question, 0, typeANY, 0, classIN)
			out, v := z.answer(question, make([]byte, 0, 65535), 65535)
			if v != reply { // a reverse name outside of both ranges is another's
				if !strings.HasSuffix(name, reverseDomain) {
					t.Errorf("%q is not answered", name)
				}
				continue
			}
			var m dns.Msg
			if err := m.Unpack(out); err != nil || m.Rcode != dns.RcodeSuccess {
				t.Errorf("%q is answered by %x: %v", name, out, err)
			}
		}
	})
}

// A resolv.conf is read or refused; what is read are addresses.
func FuzzResolvConf(f *testing.F) {
	f.Add("nameserver 192.0.2.1\nnameserver fe80::1%eth0\noptions ndots:5 timeout:x\nsearch a b\n")
	f.Add("nameserver\nnameserver x\n")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(dir, "resolv.conf")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		servers, err := readResolvConf(path)
		if err == nil {
			for _, s := range servers {
				if s.Addr() == (netip.Addr{}) || s.Port() != port {
					t.Errorf("server %s", s)
				}
			}
		}
	})
}
