package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/sirupsen/logrus"
)

const (
	// maxForwards bounds the questions that wait for upstreams; one more is
	// answered with a failure at once.
	maxForwards = 512
	// upstreamTimeout is how long one upstream may take; askers wait about 5 s.
	upstreamTimeout = 2 * time.Second
	// maxUpstreams are tried; resolv.conf knows no more either.
	maxUpstreams = 3
	// forwardBytes is the largest answer over UDP that is passed on.
	forwardBytes = 4096
)

// forwarder asks other resolvers. It keeps nothing of what they say.
type forwarder struct {
	log       *logrus.Entry
	loopback  bool // allowed
	upstreams atomic.Pointer[[]*upstream]
	rejected  error
	slots     chan struct{}
	buffers   sync.Pool
	done      context.Context
	stop      context.CancelFunc
	running   sync.WaitGroup
}

type upstream struct {
	addr    netip.AddrPort
	failing atomic.Bool
}

func newForwarder(log *logrus.Entry, loopback bool) *forwarder {
	f := &forwarder{log: log, loopback: loopback, slots: make(chan struct{}, maxForwards), buffers: sync.Pool{New: func() any { return new([forwardBytes]byte) }}}
	f.upstreams.Store(&[]*upstream{})
	f.done, f.stop = context.WithCancel(context.Background())
	return f
}

// refused tells which upstreams cannot be used.
func (f *forwarder) refused() error { return f.rejected }

// set takes the upstreams that can be asked; the error names the others.
func (f *forwarder) set(addrs []netip.AddrPort, self netip.AddrPort) error {
	f.rejected = nil
	var usable []*upstream
	for _, a := range addrs {
		switch {
		case a.Addr().IsLoopback() && !f.loopback:
			f.rejected = errors.Join(f.rejected, fmt.Errorf("upstream %s is a loopback address: no resolver of the machine answers there in a node's network; name one that can be reached from here", a))
		case a == self:
			f.rejected = errors.Join(f.rejected, fmt.Errorf("upstream %s is this server itself", a))
		case len(usable) < maxUpstreams:
			usable = append(usable, &upstream{addr: a})
		}
	}
	if !slices.EqualFunc(*f.upstreams.Load(), usable, func(a, b *upstream) bool { return a.addr == b.addr }) {
		f.upstreams.Store(&usable)
	}
	return f.rejected
}

// readResolvConf reads the name servers of a resolv.conf.
func readResolvConf(path string) ([]netip.AddrPort, error) {
	c, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("upstreams: %w", err)
	}
	var out []netip.AddrPort
	for _, s := range c.Servers {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("upstreams: %s: %w", path, err)
		}
		out = append(out, netip.AddrPortFrom(addr, port))
	}
	return out, nil
}

// start runs f in the background if there is a slot for it.
func (f *forwarder) start(do func()) bool {
	select {
	case f.slots <- struct{}{}:
	default:
		return false
	}
	f.running.Go(func() {
		defer func() { <-f.slots }()
		do()
	})
	return true
}

// udp asks the upstreams in order and gives the first answer, in buffer.
func (f *forwarder) udp(question, buffer []byte) ([]byte, bool) {
	for _, u := range *f.upstreams.Load() {
		answer, err := f.ask(u, question, buffer)
		f.note(u, err)
		if err == nil {
			return answer, true
		}
	}
	return nil, false
}

// note logs when an upstream fails and when it is back.
func (f *forwarder) note(u *upstream, err error) {
	if u.failing.Swap(err != nil) == (err != nil) || f.done.Err() != nil {
		return
	}
	log := f.log.WithField("upstream", u.addr)
	if err != nil {
		log.WithError(err).Warn("upstream does not answer")
	} else {
		log.Info("upstream answers again")
	}
}

// ask sends the question from a port and with an id of its own, so that an
// answer cannot be guessed.
func (f *forwarder) ask(u *upstream, question, buffer []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(f.done, upstreamTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", u.addr.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	asked := bytes.Clone(question)
	id := uint16(rand.Uint32())
	binary.BigEndian.PutUint16(asked, id)
	if _, err := conn.Write(asked); err != nil {
		return nil, err
	}
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return nil, err
		}
		answer := buffer[:n]
		if !answers(asked, answer) {
			continue
		}
		copy(answer, question[:2])
		if n == len(buffer) { // perhaps cut off: let it be asked over TCP
			return truncated(question, answer), nil
		}
		return answer, nil
	}
}

// answers reports whether a is an answer to q: same id, same question.
func answers(q, a []byte) bool {
	if len(a) < headerBytes || a[0] != q[0] || a[1] != q[1] || a[2]&0x80 == 0 {
		return false
	}
	if binary.BigEndian.Uint16(a[4:]) == 0 {
		return a[3]&0xf != rcodeSuccess // an error may leave the question out
	}
	parsed, _, ok := parse(q, make([]byte, 0, maxNameBytes))
	return ok && len(a) >= parsed.question && bytes.EqualFold(q[headerBytes:parsed.question], a[headerBytes:parsed.question])
}

// truncated keeps header and question only.
func truncated(question, answer []byte) []byte {
	q, _, _ := parse(question, make([]byte, 0, maxNameBytes))
	answer = answer[:q.question]
	answer[2] |= flagTruncated >> 8
	for i := 6; i < headerBytes; i++ {
		answer[i] = 0
	}
	return answer
}

// tcp asks the upstreams in order over TCP.
func (f *forwarder) tcp(m *dns.Msg) (*dns.Msg, bool) {
	client := dns.Client{Net: "tcp", Timeout: upstreamTimeout}
	for _, u := range *f.upstreams.Load() {
		answer, _, err := client.ExchangeContext(f.done, m, u.addr.String())
		f.note(u, err)
		if err == nil {
			return answer, true
		}
	}
	return nil, false
}
