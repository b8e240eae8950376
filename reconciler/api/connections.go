package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// handshakeTime is how long a stranger may be amid a handshake or a header
	// before the connection counts as one that nobody uses.
	handshakeTime = time.Second
	// provingTime is how long after its handshake a stranger may be amid requests
	// before the connection makes way as one that nobody uses does: long enough to
	// send a certificate or a token, and what newcomers wait for at most.
	provingTime = 5 * time.Second
	// acceptPause is how long accepting waits for room among the strangers; what
	// comes meanwhile waits in the kernel.
	acceptPause = 10 * time.Millisecond
)

// connections is a listener that keeps what its connections hold within
// ConnectionLimits. When a class or a caller has no room, the oldest connection on
// which nothing goes on makes way, or a stranger's that has had its time.
type connections struct {
	net.Listener

	mu      sync.Mutex
	classes map[Class]*connectionClass
	closed  chan struct{}
	close   func()
}

type connectionClass struct {
	most, byCaller int
	held           map[*connection]struct{}
	callers        map[string]int
}

// connection is one connection and what it counts as. Its fields but Conn are
// guarded by at.mu.
type connection struct {
	net.Conn
	at     *connections
	class  Class
	caller string
	// requests are with handlers; begun says that something came in that is not
	// a request yet: a handshake or a header. since is of whichever changed last.
	requests int
	begun    bool
	since    time.Time
	shook    time.Time // the end of the handshake; zero before
	gone     bool
}

// descriptors is how many files this process may open: the Go runtime has raised
// the soft limit to the hard one.
func descriptors() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("ask for the limit of descriptors: %w", err)
	}
	return int(min(limit.Cur, 1<<20)), nil // no machine has the memory for more connections
}

// newConnections bounds l's connections where the process has so many descriptors.
func newConnections(l net.Listener, descriptors int) *connections {
	cs := &connections{Listener: l, classes: map[Class]*connectionClass{}, closed: make(chan struct{})}
	cs.close = sync.OnceFunc(func() { close(cs.closed) })
	for _, limit := range ConnectionLimits() {
		most, byCaller := limit.of(forConnections(descriptors))
		cs.classes[limit.Class] = &connectionClass{most: most, byCaller: byCaller, held: map[*connection]struct{}{}, callers: map[string]int{}}
	}
	return cs
}

// Accept returns the next connection that there is room for, as a stranger's.
func (cs *connections) Accept() (net.Conn, error) {
	for {
		conn, err := cs.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := cs.take(conn); c != nil {
			return c, nil
		}
		conn.Close()
	}
}

func (cs *connections) Close() error {
	cs.close()
	return cs.Listener.Close()
}

// take counts a new connection. It waits for room among the strangers; an address
// that has its share, all in use, gets nil.
func (cs *connections) take(conn net.Conn) *connection {
	c := &connection{Conn: conn, at: cs, class: Strangers, caller: remoteAddress(conn.RemoteAddr().String())}
	for {
		switch cs.tryTake(c) {
		case admitted:
			return c
		case callerFull:
			return nil
		}
		select {
		case <-time.After(acceptPause):
		case <-cs.closed:
			return nil
		}
	}
}

func (cs *connections) tryTake(c *connection) refusal {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.since = time.Now()
	return cs.enter(c, Strangers, c.caller)
}

// enter counts c as a caller's in a class; mu is held.
func (cs *connections) enter(c *connection, class Class, caller string) refusal {
	to := cs.classes[class]
	if to.callers[caller] >= to.byCaller && !cs.makeWay(to, caller) {
		return callerFull
	}
	if len(to.held) >= to.most && !cs.makeWay(to, "") {
		return doorFull
	}
	cs.add(c, class, caller)
	return admitted
}

func (cs *connections) add(c *connection, class Class, caller string) {
	c.class, c.caller = class, caller
	cs.classes[class].held[c] = struct{}{}
	cs.classes[class].callers[caller]++
}

// makeWay closes one of a caller's connections, or of anybody's with "": of those that
// may be closed one of whoever has the most, so that many connections in use do not
// outlast another's one that is about to be, and of these the oldest idle one first.
func (cs *connections) makeWay(class *connectionClass, caller string) bool {
	now := time.Now()
	var chosen *connection
	for c := range class.held {
		if (caller == "" || c.caller == caller) && (c.idle(now) || c.overdue(now)) && (chosen == nil || class.goesBefore(c, chosen, now)) {
			chosen = c
		}
	}
	if chosen == nil {
		return false
	}
	cs.forget(chosen)
	_ = chosen.Conn.Close() // whoever reads on it learns that it is closed
	return true
}

func (class *connectionClass) goesBefore(a, b *connection, now time.Time) bool {
	if m, n := class.callers[a.caller], class.callers[b.caller]; m != n {
		return m > n
	}
	if x, y := a.idle(now), b.idle(now); x != y {
		return x
	}
	if a.begun != b.begun {
		return b.begun
	}
	return a.since.Before(b.since)
}

// idle reports whether nothing goes on: no request and, while it is a stranger's, no
// handshake or header that may still become one.
func (c *connection) idle(now time.Time) bool {
	return c.requests == 0 && (!c.begun || c.class != Strangers || now.Sub(c.since) > handshakeTime)
}

// overdue reports whether a stranger has had time to prove something and has not:
// requests alone, which anybody can draw out, do not keep a connection.
func (c *connection) overdue(now time.Time) bool {
	return c.class == Strangers && !c.shook.IsZero() && now.Sub(c.shook) > provingTime
}

// forget takes a connection out of the count; mu is held.
func (cs *connections) forget(c *connection) {
	if c.gone {
		return
	}
	c.gone = true
	cs.leave(c)
}

func (cs *connections) leave(c *connection) {
	class := cs.classes[c.class]
	delete(class.held, c)
	if class.callers[c.caller]--; class.callers[c.caller] == 0 {
		delete(class.callers, c.caller)
	}
}

// count is how many connections of a class there are.
func (cs *connections) count(class Class) int {
	if cs == nil {
		return 0
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return len(cs.classes[class].held)
}

func (c *connection) Close() error {
	c.at.mu.Lock()
	c.at.forget(c)
	c.at.mu.Unlock()
	return c.Conn.Close()
}

// Read notes when a handshake or a header begins.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.at.mu.Lock()
		if !c.begun && c.requests == 0 {
			c.begun, c.since = true, time.Now()
		}
		c.at.mu.Unlock()
	}
	return n, err
}

// shaken is called when the handshake is over: whoever has a certificate is known
// from here on, whoever has none has yet to ask for something.
func (c *connection) shaken(kind, name string) {
	c.at.mu.Lock()
	c.begun, c.since = false, time.Now()
	c.shook = c.since
	c.at.mu.Unlock()
	if kind != "" {
		c.prove(caller{kind, name}) // one without room asks again with its first request
	}
}

// begin and end are called around each request.
func (c *connection) begin() { c.count(1) }
func (c *connection) end()   { c.count(-1) }

func (c *connection) count(n int) {
	c.at.mu.Lock()
	defer c.at.mu.Unlock()
	c.requests += n
	c.begun, c.since = false, time.Now()
}

// prove makes a stranger's connection that of a caller who proved to be a reader, a
// pusher or a node; false if there is no room for it there.
func (c *connection) prove(who caller) bool {
	class := ReaderConnections
	switch who.kind {
	case callerAddress:
		return true
	case CallerNode:
		class = NodeConnections
	}
	c.at.mu.Lock()
	defer c.at.mu.Unlock()
	if c.class != Strangers || c.gone {
		return true
	}
	c.at.leave(c)
	if c.at.enter(c, class, who.String()) != admitted {
		c.at.add(c, c.class, c.caller)
		return false
	}
	return true
}

type connectionKey struct{}

// withConnection lets handlers find the connection; it is an http.Server's
// ConnContext.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if own, ok := c.(*connection); ok {
		return context.WithValue(ctx, connectionKey{}, own)
	}
	return ctx
}

func connectionOf(ctx context.Context) *connection {
	c, _ := ctx.Value(connectionKey{}).(*connection)
	return c
}

// identifying is config that tells each connection who has shaken hands on it.
func identifying(config *tls.Config, identify func(*tls.ConnectionState) (kind, name string)) *tls.Config {
	inner := config.Clone()
	inner.NextProtos = []string{"h2", "http/1.1"}
	outer := inner.Clone()
	outer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c, ok := hello.Conn.(*connection)
		if !ok {
			return nil, errors.New("api: a connection of another listener")
		}
		own := inner.Clone()
		own.VerifyConnection = func(state tls.ConnectionState) error {
			c.shaken(identify(&state))
			return nil
		}
		return own, nil
	}
	return outer
}
