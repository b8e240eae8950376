package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

const (
	// maxSockets that share the UDP port; more do not help.
	maxSockets = 4
	// maxTCPConnections at a time; the next wait in the kernel's queue.
	maxTCPConnections = 128
	tcpTimeout        = 5 * time.Second
	maxTCPBytes       = 65535
	maxMessageBytes   = 4096 // a question over UDP is far smaller
)

// listener answers on one address.
type listener struct {
	addr   netip.AddrPort
	server *server
	udp    []*net.UDPConn
	tcp    *dns.Server
	done   sync.WaitGroup
}

// newListener binds the address, even before the node has it, and serves.
func newListener(addr netip.AddrPort, s *server) (*listener, error) {
	l := &listener{addr: addr, server: s}
	config := net.ListenConfig{Control: shareAddress}
	t, err := config.Listen(context.Background(), "tcp4", addr.String())
	if err != nil {
		return nil, err
	}
	for range min(runtime.NumCPU(), maxSockets) {
		c, err := config.ListenPacket(context.Background(), "udp4", addr.String())
		if err != nil {
			t.Close()
			l.close()
			return nil, err
		}
		l.udp = append(l.udp, c.(*net.UDPConn))
	}
	started := make(chan struct{})
	l.tcp = &dns.Server{
		Listener: limit(t, maxTCPConnections), Handler: dns.HandlerFunc(l.serveTCP), NotifyStartedFunc: func() { close(started) },
		ReadTimeout: tcpTimeout, WriteTimeout: tcpTimeout, IdleTimeout: func() time.Duration { return tcpTimeout },
	}
	l.done.Go(func() {
		if err := l.tcp.ActivateAndServe(); err != nil && !errors.Is(err, net.ErrClosed) {
			s.config.Log.WithError(err).Error("serving names over TCP ended")
		}
	})
	<-started // Shutdown of a server that has not begun would be lost
	for _, c := range l.udp {
		l.done.Go(func() { l.serveUDP(c) })
	}
	return l, nil
}

func shareAddress(_, _ string, c syscall.RawConn) error {
	var err error
	controlErr := c.Control(func(fd uintptr) {
		err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1), unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1))
	})
	return errors.Join(err, controlErr)
}

func (l *listener) close() {
	for _, c := range l.udp {
		c.Close()
	}
	if l.tcp != nil {
		l.tcp.Shutdown()
	}
	l.done.Wait()
}

// serveUDP answers until the socket closes. Names of the cluster take one
// lookup and no allocation.
func (l *listener) serveUDP(c *net.UDPConn) {
	in, out := make([]byte, maxMessageBytes), make([]byte, 0, maxMessageBytes)
	for {
		n, from, err := c.ReadFromUDPAddrPort(in)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // of one packet, such as an ICMP error
		}
		answer, v := l.server.zone.Load().answer(in[:n], out, 0)
		if v == forward && !l.forwardUDP(c, in[:n], from) {
			answer, v = failure(in[:n], out), reply
		}
		if v == reply {
			c.WriteToUDPAddrPort(answer, from) // lost or not, the asker asks again
		}
	}
}

// forwardUDP passes a question on; false if too many wait already or nobody can
// be asked.
func (l *listener) forwardUDP(c *net.UDPConn, message []byte, from netip.AddrPort) bool {
	f := l.server.forwarder
	if len(*f.upstreams.Load()) == 0 {
		return false
	}
	question := append([]byte(nil), message...)
	return f.start(func() {
		buffer := f.buffers.Get().(*[forwardBytes]byte)
		defer f.buffers.Put(buffer)
		answer, ok := f.udp(question, buffer[:])
		if !ok {
			answer = failure(question, buffer[:0])
		}
		c.WriteToUDPAddrPort(answer, from)
	})
}

// failure is the reply to a question that could not be answered.
func failure(message, out []byte) []byte {
	q, _, _ := parse(message, make([]byte, 0, maxNameBytes))
	return q.fail(out, rcodeFailure)
}

func (l *listener) serveTCP(w dns.ResponseWriter, m *dns.Msg) {
	message, err := m.Pack()
	if err != nil {
		dns.HandleFailed(w, m)
		return
	}
	answer, v := l.server.zone.Load().answer(message, nil, maxTCPBytes)
	switch v {
	case reply:
		w.Write(answer)
	case forward:
		if answer, ok := l.server.forwarder.tcp(m); ok {
			w.WriteMsg(answer)
			return
		}
		w.Write(failure(message, nil))
	}
}

// limit bounds the connections a listener has open.
func limit(l net.Listener, n int) net.Listener {
	return &limitedListener{Listener: l, slots: make(chan struct{}, n), closed: make(chan struct{})}
}

type limitedListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, release: func() { <-l.slots }}, nil
}

func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	once    sync.Once
	release func()
}

func (c *limitedConn) Close() error {
	c.once.Do(c.release)
	return c.Conn.Close()
}
