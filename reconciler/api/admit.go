package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// admit is what stands before every handler: it asks who comes, lets in as many as
// the door's Limit says, bounds the body in size and time and the answer in time,
// and gives everything back however the request ends.
func (s *Server) admit(l *Limit, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := s.visit(w, r)
		defer v.end()
		c, err := s.callerAt(l, r)
		if err != nil {
			v.serve(doorStrangers, strangerAt(r), func(w http.ResponseWriter, _ *http.Request) { writeError(w, err) })
			return
		}
		v.serve(l, c, next)
	})
}

// impersonates names a header by which a client would be somebody else, as kubectl's
// --as does.
func impersonates(h http.Header) string {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if strings.HasPrefix(name, "Impersonate-") {
			return name
		}
	}
	return ""
}

func noImpersonation(header string, c caller) *apierrors.StatusError {
	text := fmt.Sprintf("%s may not impersonate anybody (header %s)", c, header)
	switch c.kind {
	case CallerReader:
		text += "; `fairlead kubeconfig --reader NAME`, on the master's machine, makes credentials for another reader"
	case callerPusher:
		text += "; `fairlead token --push SOURCE --name NAME`, on the master's machine, makes a token for another pusher"
	}
	return newStatus(http.StatusForbidden, metav1.StatusReasonForbidden, text)
}

// beside is admit for another room's handler, which itself turns away whoever has
// no token.
func (s *Server) beside(l *Limit, b Beside) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := s.visit(w, r)
		defer v.end()
		if l.Who != Pushers {
			v.serve(l, strangerAt(r), b.Handler.ServeHTTP)
		} else if name, ok := b.Pusher(r); ok {
			v.serve(l, caller{callerPusher, name}, b.Handler.ServeHTTP)
		} else {
			v.serve(doorStrangers, strangerAt(r), b.Handler.ServeHTTP)
		}
	})
}

// visit is one request on its way through a door.
type visit struct {
	server *Server
	answer *answer
	body   *requestBody
	r      *http.Request
	conn   *connection // nil without a listener of Run's
}

func (s *Server) visit(w http.ResponseWriter, r *http.Request) *visit {
	rc := http.NewResponseController(w)
	body := &requestBody{ReadCloser: r.Body, rc: rc, announced: r.ContentLength, ended: r.ContentLength == 0, waits: &s.waits}
	v := &visit{server: s, r: r, body: body, answer: &answer{ResponseWriter: w, rc: rc, body: body, old: r.ProtoMajor < 2}}
	if v.conn = connectionOf(r.Context()); v.conn != nil {
		v.conn.begin()
	}
	return v
}

// end is called once the handler has returned, or panicked.
func (v *visit) end() {
	v.answer.converses = false
	v.answer.settle()
	v.answer.extend() // what is still buffered goes out behind us
	if !v.body.ended && !v.answer.old {
		v.body.drain()
	}
	if v.conn != nil {
		v.conn.end()
	}
}

// serve lets the caller's request in, calls next and lets it out again. Whoever would be
// somebody else is refused instead, at every door.
func (v *visit) serve(l *Limit, c caller, next http.HandlerFunc) {
	t := v.server.turnstiles[l]
	l = t.Limit
	ctx := v.r.Context()
	if v.conn != nil && !v.conn.prove(c) {
		v.refuse(l, connectionsFull, c.String())
		return
	}
	address := remoteAddress(v.r.RemoteAddr)
	if l.guarded() && v.server.attempts.tooMany(address) {
		v.refuse(l, guessing, address)
		return
	}
	if refused := t.enter(ctx, c.String()); refused != admitted {
		v.refuse(l, refused, c.String())
		return
	}
	defer t.leave(c.String())
	if l.Lasts > 0 {
		v.answer.until = time.Now().Add(l.Lasts)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, v.answer.until)
		defer cancel()
	}
	if v.answer.converses = l.Converses; l.Converses {
		_ = v.answer.rc.EnableFullDuplex() // HTTP/1 reads the body to its end before it answers otherwise
	}
	v.body.begin(ctx, t, c.String())
	defer v.body.release()
	r := v.r.WithContext(context.WithValue(ctx, callerKey{}, c))
	r.Body = v.body
	if header := impersonates(r.Header); header != "" {
		writeError(v.answer, noImpersonation(header, c))
	} else {
		next(v.answer, r)
	}
	if c.kind == callerAddress && (v.answer.code == http.StatusUnauthorized || v.answer.code == http.StatusForbidden) {
		v.server.attempts.fail(address)
	}
}

// guarded reports whether a door asks nothing of an address that was wrong too
// often. Whoever has a token or a secret for the others proves it first.
func (l *Limit) guarded() bool { return l.Door == doorStrangers.Door }

// refuse answers for a door that has no room.
func (v *visit) refuse(l *Limit, why refusal, who string) {
	v.server.metrics.refused.WithLabelValues(l.Door).Inc()
	switch why {
	case guessing:
		writeError(v.answer, tooManyAttempts(who))
	case connectionsFull:
		writeError(v.answer, apierrors.NewTooManyRequests(fmt.Sprintf("%s has as many connections as there is room for; close some", who), 1))
	case callerFull:
		writeError(v.answer, apierrors.NewTooManyRequests(fmt.Sprintf("%s: %d requests of %s are under way and %d wait, which is all it may have; try again", l.Door, l.ByCaller, who, l.QueueByCaller), 1))
	case doorFull:
		err := apierrors.NewServiceUnavailable(fmt.Sprintf("%s: %d requests are under way and %d wait, which is all the master takes; try again", l.Door, l.AtOnce, l.Queue))
		err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
		writeError(v.answer, err)
	}
}

// callerAt tells who stands before a door, or why they may not come in.
func (s *Server) callerAt(l *Limit, r *http.Request) (caller, *apierrors.StatusError) {
	if l.Who == Anybody {
		return strangerAt(r), nil
	}
	kind, name := s.cfg.Identify(r.TLS)
	switch {
	case kind == "":
		return caller{}, apierrors.NewUnauthorized("a verified client certificate is required")
	case l.Who == Readers && kind == CallerNode:
		return caller{}, newStatus(http.StatusForbidden, metav1.StatusReasonForbidden, fmt.Sprintf("node %s may not read the cluster", name))
	case l.Who == Nodes && kind != CallerNode:
		return caller{}, newStatus(http.StatusForbidden, metav1.StatusReasonForbidden, "this path needs a node's client certificate")
	}
	return caller{kind, name}, nil
}

// Callers that no certificate tells.
const (
	callerAddress = "address" // known by nothing else
	callerPusher  = "pusher"  // by a token
)

func tooManyAttempts(address string) *apierrors.StatusError {
	return apierrors.NewTooManyRequests(fmt.Sprintf("too many wrong certificates or tokens from %s; try again later, or with the right one", address), int(attemptEvery/time.Second))
}

func strangerAt(r *http.Request) caller { return caller{callerAddress, remoteAddress(r.RemoteAddr)} }

// remoteAddress is what a stranger is told apart by: the address, of IPv6 the
// network that a customer of any provider has to themselves.
func remoteAddress(hostport string) string {
	at, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return hostport
	}
	addr := at.Addr().Unmap()
	if addr.Is4() {
		return addr.String()
	}
	network, _ := addr.Prefix(64) // every IPv6 address has one
	return network.String()
}

// requestBody is a body within its door's bounds.
type requestBody struct {
	io.ReadCloser
	rc        *http.ResponseController
	ctx       context.Context // of the request, within the door
	door      *turnstile
	caller    string
	limit     int64
	announced int64 // -1 if unknown
	read      int64
	large     bool      // it is inside door.large
	end       time.Time // of the whole body
	extended  time.Time // when the deadline was set last
	ended     bool      // there is nothing more to read
	pace      pace      // of a paced door
	waits     *waits
}

// pace tells whether a body comes fast enough. Its zero value is that of a new body.
type pace struct {
	bytes  int64         // since they last were paceBytes
	waited time.Duration // for these
}

// left is how long the next piece may be waited for, of what paceBytes have.
func (p *pace) left(all time.Duration) time.Duration { return max(0, all-p.waited) }

// took counts a piece, and reports whether the sender is in time, of what paceBytes have.
func (p *pace) took(bytes int, waited, all time.Duration) bool {
	p.bytes += int64(bytes)
	p.waited += waited
	inTime := p.waited < all
	if p.bytes >= paceBytes {
		*p = pace{}
	}
	return inTime
}

var errDoorBodies = errors.New("the memory for request bodies is in use")

func (b *requestBody) begin(ctx context.Context, t *turnstile, caller string) {
	b.ctx, b.door, b.caller, b.limit = ctx, t, caller, t.BodyBytes
	if t.BodyTime > 0 {
		b.end = time.Now().Add(t.BodyTime)
	}
}

func (b *requestBody) release() {
	if b.large {
		b.door.large.leave(b.caller)
	}
}

func (b *requestBody) Read(p []byte) (int, error) {
	if b.ended {
		return 0, io.EOF
	}
	if b.limit >= 0 && max(b.announced, b.read) > b.limit {
		return 0, &http.MaxBytesError{Limit: b.limit}
	}
	if b.outgrows() && !b.enlarge() {
		return 0, errDoorBodies
	}
	p = b.fit(p)
	n, err := b.next(p)
	b.read += int64(n)
	if b.limit >= 0 && b.read > b.limit {
		return 0, &http.MaxBytesError{Limit: b.limit}
	}
	if errors.Is(err, io.EOF) {
		b.ended = true
		b.lift()
	}
	return n, err
}

// next reads a piece, as long as the sender has time for it.
func (b *requestBody) next(p []byte) (int, error) {
	began := time.Now()
	if !b.door.Paced {
		b.extend(began)
		return b.ReadCloser.Read(p)
	}
	if b.extended.IsZero() {
		b.extended = began
		_ = b.rc.SetReadDeadline(b.end)
	}
	n, err := b.readFor(b.pace.left(b.waits.pace), p)
	if !b.pace.took(n, time.Since(began), b.waits.pace) && err == nil {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

// readFor reads a piece that comes within a time. A deadline set beforehand would also pass
// while nobody reads, and end a body of HTTP/2 then.
func (b *requestBody) readFor(left time.Duration, p []byte) (int, error) {
	var mu sync.Mutex
	reading := true
	late := time.AfterFunc(left, func() {
		mu.Lock() // readFor returns only after this: rc may not be used once the handler has ended
		defer mu.Unlock()
		if reading {
			_ = b.rc.SetReadDeadline(time.Unix(1, 0)) // has passed
		}
	})
	n, err := b.ReadCloser.Read(p)
	late.Stop()
	mu.Lock()
	defer mu.Unlock()
	reading = false
	return n, err
}

// outgrows reports whether more is to come than a small body may have.
func (b *requestBody) outgrows() bool {
	return b.door.large != nil && !b.large && b.read >= b.door.SmallBytes && b.read != b.announced
}

// fit is what of p the next piece may fill: a byte beyond each bound tells that the body
// goes on.
func (b *requestBody) fit(p []byte) []byte {
	if b.limit >= 0 {
		p = p[:min(int64(len(p)), b.limit-b.read+1)]
	}
	if b.door.large != nil && !b.large {
		p = p[:min(int64(len(p)), max(b.door.SmallBytes-b.read, 1))]
	}
	return p
}

// enlarge waits, as long as the body has time, until it may have more than SmallBytes.
func (b *requestBody) enlarge() bool {
	ctx, cancel := context.WithDeadline(b.ctx, b.end)
	defer cancel()
	_ = b.rc.SetReadDeadline(b.end) // the sender is not late while we do not read
	b.large = b.door.large.enter(ctx, b.caller) == admitted
	b.extended = time.Time{}
	return b.large
}

// extend gives the next piece its time. A second more or less is not worth a call.
func (b *requestBody) extend(now time.Time) {
	if b.end.IsZero() || now.Sub(b.extended) < time.Second {
		return
	}
	b.extended = now
	deadline := now.Add(BodyStall)
	if b.end.Before(deadline) {
		deadline = b.end
	}
	_ = b.rc.SetReadDeadline(deadline) // a recorder has none
}

// lift takes the deadline back: over HTTP/1 it would end the request itself, whose
// end the server waits for by reading on.
func (b *requestBody) lift() {
	if !b.extended.IsZero() {
		_ = b.rc.SetReadDeadline(time.Time{})
	}
}

// drain sends the answer and reads on for a moment: not every client of HTTP/2 takes
// the reset that follows for what it is, an answer that came early.
func (b *requestBody) drain() {
	_ = b.rc.Flush()
	_ = b.rc.SetReadDeadline(time.Now().Add(b.waits.drain))
	_, _ = io.CopyN(io.Discard, b.ReadCloser, drainBytes) // however it ends, so does the stream
}

// answer bounds how slowly a client takes what a handler writes, and makes sure
// that an answer does not wait for the end of a body that nobody reads.
type answer struct {
	http.ResponseWriter
	rc    *http.ResponseController
	body  *requestBody
	old   bool      // HTTP/1
	until time.Time // of the whole request; zero for no bound
	// converses is Limit.Converses: the body is read on behind the answer's begin.
	converses bool
	settled   bool
	code      int // what was answered; 0 for nothing yet
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(code int) {
	a.settle()
	a.code = code
	a.ResponseWriter.WriteHeader(code)
}

func (a *answer) Write(data []byte) (written int, err error) {
	a.settle()
	defer a.rest()
	for first := true; first || len(data) > 0; first = false {
		a.extend()
		piece := data[:min(len(data), answerPiece)]
		n, err := a.ResponseWriter.Write(piece)
		written += n
		if err != nil {
			return written, err
		}
		data = data[len(piece):]
	}
	return written, nil
}

// FlushError sends what was written, within the time of one piece.
func (a *answer) FlushError() error {
	a.extend()
	defer a.rest()
	return a.rc.Flush()
}

// rest takes the deadline of a piece back once it has gone out: over HTTP/2 it would
// end a request whose handler has nothing to write for a while.
func (a *answer) rest() { _ = a.rc.SetWriteDeadline(a.until) }

func (a *answer) extend() {
	deadline := time.Now().Add(a.body.waits.write)
	if !a.until.IsZero() && a.until.Before(deadline) {
		deadline = a.until
	}
	_ = a.rc.SetWriteDeadline(deadline) // a recorder has none
}

// settle ends a body that was not read to its end. net/http reads on before an
// HTTP/1 answer goes out, and behind it: for an endless body, without this, for
// ever.
func (a *answer) settle() {
	if a.settled || a.converses {
		return
	}
	a.settled = true
	if !a.body.ended && a.old {
		_ = a.rc.SetReadDeadline(time.Now().Add(a.body.waits.drain))
	}
}

// badBody is the answer to a body that could not be taken.
func badBody(what string, err error) *apierrors.StatusError {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return newStatus(http.StatusRequestEntityTooLarge, metav1.StatusReasonRequestEntityTooLarge, fmt.Sprintf("%s: it has more than %d bytes", what, tooLarge.Limit))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return newStatus(http.StatusRequestTimeout, metav1.StatusReasonTimeout, what+": it did not come in time")
	case errors.Is(err, errDoorBodies):
		status := newStatus(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, what+": "+errDoorBodies.Error()+"; try again")
		status.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
		return status
	}
	return apierrors.NewBadRequest(what + ": " + err.Error())
}

func (c caller) String() string {
	if c.kind == callerAddress {
		return c.name
	}
	return c.kind + " " + strconv.Quote(c.name)
}
