package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/chance"
	"fairlead/schema/wire"
)

// Whoever changes a limit changes what people were promised.
func TestDocumentedLimitsAreTheEnforcedOnes(t *testing.T) {
	data, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	if table := LimitsTable(); !strings.Contains(string(data), table) {
		t.Errorf("docs/security.md, \"Limits of every door\", is to have:\n%s", table)
	}
}

// Every path leads through a door, and every door bounds all that it can.
func TestEveryDoorIsBounded(t *testing.T) {
	for _, l := range Limits() {
		if l.AtOnce <= 0 || l.ByCaller <= 0 || l.ByCaller > l.AtOnce {
			t.Errorf("%s lets %d in and %d of each caller", l.Door, l.AtOnce, l.ByCaller)
		}
		if l.BodyBytes > 0 && l.BodyTime == 0 {
			t.Errorf("%s waits for a body for ever", l.Door)
		}
		if (l.Queue > 0) != (l.Waits > 0) || (l.Queue > 0) != (l.QueueByCaller > 0) {
			t.Errorf("%s has a queue without a bound", l.Door)
		}
		if l.LargeAtOnce > 0 && (l.SmallBytes <= 0 || l.SmallBytes >= l.BodyBytes || l.BodyTime == 0) {
			t.Errorf("%s has large bodies without a bound", l.Door)
		}
		if l.Spread < 0 || l.Spread >= l.AtOnce {
			t.Errorf("%s keeps %d of %d for others", l.Door, l.Spread, l.AtOnce)
		}
		if l.Lasts == 0 && l.Who != Nodes {
			t.Errorf("%s lets %s stay for ever", l.Door, l.Who)
		}
	}
	for _, descriptors := range []int{64, 256, 1024, 20_000, 1 << 20} {
		sum := 0
		for _, l := range ConnectionLimits() {
			most, byCaller := l.of(forConnections(descriptors))
			if most < 1 || byCaller < 1 {
				t.Errorf("%s get %d connections, %d each, of %d descriptors", l.Class, most, byCaller, descriptors)
			}
			sum += most
		}
		if sum > forConnections(descriptors) || forConnections(descriptors) > descriptors*7/8 {
			t.Errorf("connections get %d of %d descriptors", sum, descriptors)
		}
	}
	if most, _ := ConnectionLimits()[2].of(forConnections(20_000)); most < 10_000 {
		t.Errorf("%d connections of nodes with 20,000 descriptors: 5,000 nodes need two each", most)
	}
}

// Nodes that hold as many reports as they may leave room for those of all others, which
// wait for none of them.
func TestHostileNodesLeaveOthersTheirReports(t *testing.T) {
	ts := newTurnstile(doorReport)
	const hostile = 64
	for range doorReport.ByCaller + doorReport.QueueByCaller {
		for i := range hostile {
			ts.queueUp(fmt.Sprint("hostile-", i))
		}
	}
	for i := range 32 {
		if w, refused := ts.queueUp(fmt.Sprint("n", i)); w != nil || refused != admitted {
			t.Fatalf("node %d has to wait, with %d of %d inside", i, ts.inside, ts.AtOnce)
		}
	}
	if w, refused := ts.queueUp("n0"); w == nil {
		t.Errorf("a second report of a node: %v", refused)
	}
}

// A turnstile never lets in more than it may, whoever comes and goes in whatever
// order, lets nobody wait who could be inside, and forgets whoever is gone.
func TestTurnstile(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		ts := newTurnstile(&Limit{AtOnce: rapid.IntRange(1, 4).Draw(t, "at once"), ByCaller: rapid.IntRange(1, 3).Draw(t, "by caller"), Queue: 5, QueueByCaller: 2})
		ts.Spread = rapid.IntRange(0, ts.AtOnce-1).Draw(t, "spread")
		type guest struct {
			caller string
			waiter *waiter
		}
		var inside, waiting []guest
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch what := rapid.SampledFrom([]string{"come", "come", "leave", "give up"}).Draw(t, "do"); {
			case what == "come":
				caller := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "caller")
				w, refused := ts.queueUp(caller)
				if w != nil {
					waiting = append(waiting, guest{caller, w})
				} else if refused == admitted {
					inside = append(inside, guest{caller: caller})
				}
			case what == "leave" && len(inside) > 0:
				i := rapid.IntRange(0, len(inside)-1).Draw(t, "who")
				ts.leave(inside[i].caller)
				inside = append(inside[:i], inside[i+1:]...)
			case what == "give up" && len(waiting) > 0:
				i := rapid.IntRange(0, len(waiting)-1).Draw(t, "who")
				ts.giveUp(waiting[i].waiter, left)
				waiting = append(waiting[:i], waiting[i+1:]...)
			}
			for i := 0; i < len(waiting); i++ {
				select {
				case <-waiting[i].waiter.in:
					inside = append(inside, waiting[i])
					waiting = append(waiting[:i], waiting[i+1:]...)
					i--
				default:
				}
			}
			by := map[string]int{}
			for _, g := range inside {
				by[g.caller]++
			}
			for caller, n := range by {
				if n > ts.ByCaller {
					t.Fatalf("%d of %s are inside", n, caller)
				}
			}
			for _, g := range waiting {
				if ts.room(&guests{inside: by[g.caller]}) {
					t.Fatalf("%s waits with %d inside", g.caller, len(inside))
				}
			}
			if len(inside) > ts.AtOnce || len(inside) != ts.inside || len(waiting) != len(ts.queue) {
				t.Fatalf("%d inside and %d waiting, counted %d and %d", len(inside), len(waiting), ts.inside, len(ts.queue))
			}
		}
		for _, g := range waiting {
			ts.giveUp(g.waiter, left)
		}
		for _, g := range inside {
			ts.leave(g.caller)
		}
		if ts.inside != 0 || len(ts.callers) != 0 || len(ts.queue) != 0 {
			t.Fatalf("left behind: %d inside, callers %v", ts.inside, ts.callers)
		}
	})
}

// present counts who is in a door and in its queue.
func (t *turnstile) present() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inside + len(t.queue) + len(t.callers)
}

// empty reports whether nobody is in any door, nor in any queue; agents may be
// connected.
func (ts *testServer) empty() bool {
	for l, t := range ts.turnstiles {
		if l == doorWork {
			continue
		}
		n := t.present()
		if t.large != nil {
			n += t.large.present()
		}
		if n != 0 {
			return false
		}
	}
	ts.door.logs.mu.Lock()
	defer ts.door.logs.mu.Unlock()
	return len(ts.door.logs.calls)+len(ts.door.logs.readers) == 0
}

// protocols are the two that the port speaks.
func (ts *testServer) protocols(cn string) map[string]*http.Client {
	old := ts.client(cn)
	old.Transport.(*http.Transport).ForceAttemptHTTP2 = false
	old.Transport.(*http.Transport).TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	return map[string]*http.Client{"HTTP/1": old, "HTTP/2": ts.client(cn)}
}

// A body that goes on for ever does not keep its answer back, however the answer
// comes about: an agent whose reader has left hears so and stops.
func TestAnswersDoNotWaitForEndlessBodies(t *testing.T) {
	ts := startServer(t, func(c *Config) {
		c.Plan = func(context.Context, PlanRequest) (any, error) { return struct{}{}, nil }
		c.Beside = map[string]Beside{
			"/hooks/": {Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Fairlead-Token") == "right" {
					w.WriteHeader(http.StatusAccepted) // nothing is read of it
				} else {
					http.Error(w, "no", http.StatusForbidden)
				}
			})},
			"/git/": {Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }), Pusher: func(*http.Request) (string, bool) { return "", false }},
		}
	})
	for _, tc := range []struct {
		cn, path string
		code     int
		header   string
	}{
		{"node:n1", wire.PathLogs + "nobody", http.StatusGone, ""},
		{"node:n1", wire.PathKept, http.StatusConflict, ""},
		{"node:n1", "/api/v1/pods", http.StatusForbidden, ""},
		{"reader:ada", wire.PathReport, http.StatusForbidden, ""},
		{"reader:ada", "/api/v1/namespaces/shop/pods", http.StatusMethodNotAllowed, ""},
		{"", "/apis/fairlead/v1/plan", http.StatusUnauthorized, ""},
		{"", "/hooks/shop", http.StatusForbidden, ""},
		{"", "/hooks/shop", http.StatusAccepted, "right"},
		{"", "/git/main/git-receive-pack", http.StatusUnauthorized, ""},
	} {
		for protocol, c := range ts.protocols(tc.cn) {
			for _, quiet := range []bool{true, false} {
				body, feed := io.Pipe()
				go func() {
					for piece := make([]byte, 4096); !quiet; {
						if _, err := feed.Write(piece); err != nil {
							return
						}
					}
				}()
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, ts.url+tc.path, body)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("X-Fairlead-Token", tc.header)
				resp, err := c.Do(req)
				if err != nil {
					t.Errorf("%s %s, quiet %t: %v", protocol, tc.path, quiet, err)
				} else {
					if _, err := io.Copy(io.Discard, resp.Body); err != nil && resp.StatusCode != tc.code {
						t.Errorf("%s %s: %v", protocol, tc.path, err)
					}
					resp.Body.Close()
					if resp.StatusCode != tc.code {
						t.Errorf("%s %s, quiet %t: %d, want %d", protocol, tc.path, quiet, resp.StatusCode, tc.code)
					}
				}
				cancel()
				feed.Close()
				body.Close()
			}
		}
	}
	await(t, ts.empty)
}

// Over HTTP/2 a sender that has only a little left to say may say it: not every
// client takes a reset in its midst for what it is.
func TestAnEarlyAnswerLetsTheBodyEnd(t *testing.T) {
	ts := startServer(t, withWaits(func(w *waits) { w.drain = patience }), func(c *Config) {
		c.Beside = map[string]Beside{"/hooks/": {Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })}}
	})
	body, feed := io.Pipe()
	resp, err := ts.client("").Post(ts.url+"/hooks/shop", "text/plain", body)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("answered %+v, %v", resp, err)
	}
	defer resp.Body.Close()
	for range 8 {
		if _, err := feed.Write(make([]byte, 4096)); err != nil {
			t.Fatalf("the body was broken off: %v", err)
		}
	}
	feed.Close()
	await(t, ts.empty)
}

// A body that comes byte by byte is given up when its time is over, not when its
// sender pleases, and the connection with it.
func TestSlowBodiesEnd(t *testing.T) {
	soon := func(l *Limit) { l.BodyTime = 300 * time.Millisecond }
	ts := startServer(t, withDoor(doorJoin, soon), withDoor(doorReport, soon), withDoor(doorHooks, soon), func(c *Config) {
		c.Door.Join = func(context.Context, wire.JoinRequest) (wire.JoinResponse, error) { return wire.JoinResponse{}, nil }
		c.Beside = map[string]Beside{"/hooks/": {Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); errors.Is(err, os.ErrDeadlineExceeded) {
				w.WriteHeader(http.StatusRequestTimeout)
			}
		})}}
	})
	for path, cn := range map[string]string{wire.PathJoin: "", wire.PathReport: "node:n1", "/hooks/shop": ""} {
		for protocol, c := range ts.protocols(cn) {
			body, feed := io.Pipe()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for {
					if _, err := feed.Write([]byte(" ")); err != nil {
						return
					}
					time.Sleep(10 * time.Millisecond)
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, ts.url+path, body)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := c.Do(req)
			if err != nil {
				t.Errorf("%s %s: %v", protocol, path, err)
			} else {
				resp.Body.Close()
				if resp.StatusCode != http.StatusRequestTimeout {
					t.Errorf("%s %s: %d, want 408", protocol, path, resp.StatusCode)
				}
			}
			body.Close()
			<-ended
			cancel()
		}
	}
	await(t, ts.empty)
}

// What a node kept is not even read while nothing is recovered.
func TestKeptIsRefusedUnread(t *testing.T) {
	ts := startServer(t, func(c *Config) {
		c.Door.Recover = func(context.Context, schema.NodeName, wire.Kept) error { return errors.New("asked for nothing") }
	})
	for protocol, c := range ts.protocols("node:n1") {
		sent := &countingReader{left: 64 << 20}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, ts.url+wire.PathKept, sent)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = sent.left
		resp, err := c.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusConflict || sent.read.Load() > 16<<20 {
			t.Errorf("%s: %d after %d bytes", protocol, resp.StatusCode, sent.read.Load())
		}
	}
}

type countingReader struct {
	left int64
	read atomic.Int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	if r.left -= int64(len(p)); r.left < 0 {
		return 0, io.EOF
	}
	r.read.Add(int64(len(p)))
	return len(p), nil
}

// While a store is recovered one body is held at a time; the next node waits.
func TestKeptBodiesTakeTurns(t *testing.T) {
	var inside, most atomic.Int32
	ts := startServer(t, func(c *Config) {
		c.Door.Recovering = true
		c.Door.Recover = func(_ context.Context, _ schema.NodeName, kept wire.Kept) error {
			if n := inside.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer inside.Add(-1)
			if kept.Version != 7 || string(kept.Items["records/a"]) != `{"x":1}` {
				return fmt.Errorf("kept %+v", kept)
			}
			return nil
		}
	})
	var posts sync.WaitGroup
	for i := range 8 {
		c := ts.client(fmt.Sprintf("node:n%d", i))
		posts.Go(func() {
			if code, body, _ := do(t, c, "POST", ts.url+wire.PathKept, []byte(`{"items":{"records/a":{"x":1}},"version":7,"later":[1]}`)); code != http.StatusOK {
				t.Errorf("%d %s", code, body)
			}
		})
	}
	posts.Wait()
	if most.Load() != 1 {
		t.Errorf("%d were taken at a time", most.Load())
	}
}

// followingAgent answers logs as an agent does: as many at once as it has slots, and
// who comes then is refused.
func (ts *testServer) followingAgent(node string, slots int) (busy *atomic.Int32) {
	next := openWork(ts.t, ts, node, 0)
	c := ts.client("node:" + node)
	c.Transport.(*http.Transport).ForceAttemptHTTP2 = false
	busy = &atomic.Int32{}
	ctx, cancel := context.WithCancel(context.Background())
	var answers sync.WaitGroup
	answers.Go(func() {
		for ctx.Err() == nil {
			frame, err := next()
			if err != nil {
				return
			}
			for _, l := range frame.Logs {
				if busy.Add(1) > int32(slots) {
					busy.Add(-1)
					answers.Go(func() { ts.answerLog(ctx, c, l, nil) })
					continue
				}
				answers.Go(func() {
					defer busy.Add(-1)
					read, log := io.Pipe()
					defer log.Close()
					go fmt.Fprint(log, "one\n") // and then nothing, for as long as it is read
					var body io.ReadCloser = read
					if !l.Options.Follow {
						body = io.NopCloser(strings.NewReader("one\n"))
					}
					ts.answerLog(ctx, c, l, body)
				})
			}
		}
	})
	ts.t.Cleanup(func() { cancel(); ts.end(); answers.Wait() })
	return busy
}

func (ts *testServer) answerLog(ctx context.Context, c *http.Client, l wire.LogRequest, body io.ReadCloser) {
	var from io.Reader = http.NoBody
	if body != nil {
		defer body.Close()
		from = body
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, ts.url+wire.PathLogs+l.ID, from)
	if err != nil {
		ts.t.Error(err)
		return
	}
	if body == nil {
		req.Header.Set(wire.HeaderLogError, wire.ErrLogsBusy.Error())
		req.Header.Set(wire.HeaderLogBusy, "true")
	}
	if resp, err := c.Do(req); err == nil {
		resp.Body.Close()
	}
}

// However many readers follow a log, and whenever they leave, the agent has its
// slots back and the master keeps nothing: before the agent's answer, in it, after.
func TestReadersOfLogsLeaveNothingBehind(t *testing.T) {
	ts := startServer(t)
	busy := ts.followingAgent("n1", 32)
	follow := func(c *http.Client, after time.Duration, answered func()) int {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, ts.url+podLog+"?follow=true", nil)
		if err != nil {
			t.Error(err)
			return 0
		}
		resp, err := c.Do(req)
		answered()
		if err != nil {
			return 0 // it left before the answer
		}
		defer resp.Body.Close()
		_, _ = bufio.NewReader(resp.Body).ReadString('\n')
		return resp.StatusCode
	}
	readers := ts.protocols("reader:ada")
	for range 60 { // leave before the agent's answer
		follow(readers["HTTP/1"], 500*time.Microsecond, func() {})
	}
	for protocol, c := range readers {
		var followers sync.WaitGroup
		var answers sync.WaitGroup // nobody leaves before everybody has been answered
		var full, read atomic.Int32
		answers.Add(260)
		for range 260 {
			followers.Go(func() {
				switch follow(c, patience, func() { answers.Done(); answers.Wait() }) {
				case http.StatusTooManyRequests:
					full.Add(1)
				case http.StatusOK:
					read.Add(1)
				}
			})
		}
		followers.Wait()
		if full.Load() == 0 {
			t.Errorf("%s: of 260 followers none was told to come back (%d read)", protocol, read.Load())
		}
		await(t, func() bool { return busy.Load() == 0 && ts.empty() })
	}
	if code := follow(ts.client("reader:bob"), patience, func() {}); code != http.StatusOK {
		t.Errorf("a follower afterwards: %d", code)
	}
	await(t, func() bool { return busy.Load() == 0 && ts.empty() })
}

// One reader leaves a node's agent room for the others.
func TestOneReaderLeavesOthersTheirLogs(t *testing.T) {
	desk := newLogDesk()
	var calls []*logCall
	for range maxNodeLogs {
		call, ok := desk.open(logReader{"n1", "ada"})
		if !ok {
			t.Fatal("refused too early")
		}
		calls = append(calls, call)
	}
	if _, ok := desk.open(logReader{"n1", "ada"}); ok {
		t.Error("one reader has more than their share")
	}
	for _, who := range []logReader{{"n1", "bob"}, {"n2", "ada"}} {
		if _, ok := desk.open(who); !ok {
			t.Errorf("%v was refused", who)
		}
	}
	desk.close(calls[0])
	if _, ok := desk.open(logReader{"n1", "ada"}); !ok {
		t.Error("the share was not given back")
	}
}

// An agent that is full says so, and so does the answer.
func TestAFullNodeAnswers429(t *testing.T) {
	ts := startServer(t)
	ts.followingAgent("n1", 0)
	code, body, header := do(t, ts.client("reader:ada"), "GET", ts.url+podLog, nil)
	if code != http.StatusTooManyRequests || header.Get("Retry-After") == "" || !strings.Contains(string(body), wire.ErrLogsBusy.Error()) {
		t.Errorf("%d %s", code, body)
	}
}

// Idle strangers make way: for each other, and never take what readers and nodes
// have. A hundred descriptors stand for twenty thousand.
func TestStrangersMakeWay(t *testing.T) {
	ts := startServer(t, func(c *Config) { c.Descriptors = 400 })
	reader, node := ts.client("reader:ada"), ts.client("node:n1")
	most, _ := ConnectionLimits()[0].of(forConnections(400))
	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			c.Close()
		}
	}()
	address := strings.TrimPrefix(ts.url, "https://")
	for i := range 10 * most {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 { // half of them say something
			shaken := tls.Client(conn, &tls.Config{RootCAs: ts.ca.pool()})
			_ = shaken.SetDeadline(time.Now().Add(patience))
			_ = shaken.Handshake() // it may have had to make way already
			conn = shaken
		}
		idle = append(idle, conn)
		if n := ts.listening.Load().count(Strangers); n > most {
			t.Fatalf("%d connections of strangers, want at most %d", n, most)
		}
		if i%most == 0 {
			get[corev1.PodList](t, reader, ts.url+"/api/v1/pods")
			get[corev1.PodList](t, ts.client("reader:bob"), ts.url+"/api/v1/pods")
			if code, body, _ := do(t, node, "POST", ts.url+wire.PathReport, []byte(`{"node":"n1"}`)); code != http.StatusOK {
				t.Fatalf("report: %d %s", code, body)
			}
		}
	}
}

// One reader's connections make way for their own, not for another's, and nodes
// have their own share.
func TestConnectionsOfACaller(t *testing.T) {
	ts := startServer(t, func(c *Config) { c.Descriptors = 400 })
	most, byCaller := ConnectionLimits()[1].of(forConnections(400))
	bob := ts.client("reader:bob")
	for range 2 * byCaller {
		get[corev1.PodList](t, ts.client("reader:ada"), ts.url+"/api/v1/pods")
	}
	if n := ts.listening.Load().count(ReaderConnections); n > byCaller || n > most {
		t.Errorf("%d connections of one reader, want at most %d", n, byCaller)
	}
	get[corev1.PodList](t, bob, ts.url+"/api/v1/pods")
	var streams []func() (wire.Frame, error)
	for range 3 {
		streams = append(streams, openWork(t, ts, "n1", 0))
	}
	if _, err := streams[2](); err != nil {
		t.Error(err)
	}
	if n := ts.listening.Load().count(NodeConnections); n == 0 {
		t.Error("no connection counts as a node's")
	}
	ts.end()
	await(t, func() bool {
		return ts.listening.Load().count(ReaderConnections)+ts.listening.Load().count(NodeConnections)+ts.listening.Load().count(Strangers) == 0
	})
}

// Whoever guesses is told to stop, and nobody else: not the right token from the
// same address, nor another address.
func TestGuessesAreThrottled(t *testing.T) {
	ts := startServer(t, func(c *Config) {
		c.Beside = map[string]Beside{"/git/": {
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer right" {
					w.WriteHeader(http.StatusUnauthorized)
				}
			}),
			Pusher: func(r *http.Request) (string, bool) { return "ada", r.Header.Get("Authorization") == "Bearer right" },
		}}
	})
	c := ts.client("")
	try := func(c *http.Client, token string) int {
		code, _, _ := do(t, c, "GET", ts.url+"/git/main/info/refs", nil, "Authorization", "Bearer "+token)
		return code
	}
	codes := map[int]int{}
	for range 3 * attemptBurst {
		codes[try(c, "wrong")]++
	}
	if codes[http.StatusUnauthorized] < attemptBurst || codes[http.StatusTooManyRequests] == 0 {
		t.Errorf("guesses were answered %v", codes)
	}
	if code := try(c, "right"); code != http.StatusOK {
		t.Errorf("the right token from the same address: %d", code)
	}
	get[corev1.PodList](t, ts.client("reader:ada"), ts.url+"/api/v1/pods")
	elsewhere := ts.client("")
	elsewhere.Transport.(*http.Transport).DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext
	if code := try(elsewhere, "wrong"); code != http.StatusUnauthorized {
		t.Errorf("another address: %d, want 401", code)
	}
}

// Attempts wear off, and are kept of a bounded number of addresses.
func TestAttemptsWearOff(t *testing.T) {
	now := sampleNow
	a := newAttempts(func() time.Time { return now })
	for range 1000 {
		a.fail("10.0.0.1")
	}
	if !a.tooMany("10.0.0.1") || a.tooMany("10.0.0.2") {
		t.Error("the wrong address is throttled")
	}
	if now = now.Add(2 * attemptEvery); a.tooMany("10.0.0.1") {
		t.Error("it does not wear off")
	}
	for i := range 2 * maxAttemptAddresses {
		a.fail(fmt.Sprint("10.1.", i/256, ".", i%256))
	}
	if len(a.failed) > maxAttemptAddresses {
		t.Errorf("%d addresses are kept", len(a.failed))
	}
}

// A reader has so many watches; another reader has theirs.
func TestWatchesByReader(t *testing.T) {
	ts := startServer(t, withDoor(doorWatches, func(l *Limit) { l.ByCaller = 5 }))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watch := func(cn string) int {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, ts.url+"/api/v1/pods?watch=true", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := ts.client(cn).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp.StatusCode
	}
	for i := range 6 {
		if code, want := watch("reader:ada"), map[bool]int{true: 200, false: 429}[i < 5]; code != want {
			t.Errorf("watch %d: %d, want %d", i, code, want)
		}
	}
	if code := watch("reader:bob"); code != http.StatusOK {
		t.Errorf("another reader's: %d", code)
	}
	cancel()
	await(t, ts.empty)
}

// A hundred readers who ask for everything and read none of it hold a piece each.
func TestListsAreNotHeldWhole(t *testing.T) {
	ts := startServer(t)
	value := strings.Repeat("x", 10<<10)
	ts.publish(func(tx *state.Txn) {
		for i := range 2_000 {
			cm := configMap(fmt.Sprint("large-", i), "x")
			cm.Data["value"] = value
			tx.Put(cm)
		}
	})
	inUse := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := inUse()
	var conns []*tls.Conn
	cert := ts.ca.issue(t, "reader:ada")
	for range 50 {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(ts.url, "https://"), &tls.Config{RootCAs: ts.ca.pool(), Certificates: []tls.Certificate{cert}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /api/v1/configmaps HTTP/1.1\r\nHost: master\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	for _, conn := range conns { // each has begun
		if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if grown := int64(inUse()) - int64(before); grown > 64<<20 {
		t.Errorf("50 lists of 20 MiB hold %d MiB", grown>>20)
	}
	list := get[corev1.ConfigMapList](t, ts.client("reader:bob"), ts.url+"/api/v1/configmaps")
	if len(list.Items) != 2_001 || list.Items[2000].Data["value"] == "" {
		t.Errorf("%d ConfigMaps", len(list.Items))
	}
}

// A push's answer begins before its pack has come, and pauses while git works: what
// ends an answer that nobody takes, or a body that nobody reads, must not end it.
func TestAPushIsAConversation(t *testing.T) {
	const drain = time.Millisecond
	ts := startServer(t, withWaits(func(w *waits) { w.drain = drain }), func(c *Config) {
		c.Beside = map[string]Beside{"/git/": {
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusOK)
				_ = http.NewResponseController(w).Flush()
				n, err := io.Copy(io.Discard, r.Body)
				fmt.Fprintf(w, "%d bytes, %v", n, err)
			}),
			Pusher: func(*http.Request) (string, bool) { return "ada", true },
		}}
	})
	for protocol, c := range ts.protocols("") {
		body, feed := io.Pipe()
		resp, err := c.Post(ts.url+"/git/main/git-receive-pack", "text/plain", body)
		if err != nil {
			t.Fatal(protocol, err)
		}
		for range 3 { // the first is read at once, the others find whatever deadline there is
			time.Sleep(20 * drain)
			if _, err := feed.Write(make([]byte, 1000)); err != nil {
				t.Errorf("%s: %v", protocol, err)
			}
		}
		feed.Close()
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := "3000 bytes, <nil>"; err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", protocol, got, err, want)
		}
	}
	await(t, ts.empty)
}

// deadlines remembers the last deadline for writing.
type deadlines struct {
	*httptest.ResponseRecorder
	write time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = t; return nil }
func (d *deadlines) SetReadDeadline(time.Time) error    { return nil }

// The time for a piece of an answer ends with the piece: a handler may have nothing
// to write for longer.
func TestAnswersMayPause(t *testing.T) {
	d := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	a := &answer{ResponseWriter: d, rc: http.NewResponseController(d), body: &requestBody{ended: true, waits: new(waits)}}
	for what, do := range map[string]func(){
		"its header": func() { a.WriteHeader(http.StatusOK) },
		"a piece":    func() { _, _ = a.Write([]byte("x")) },
		"a flush":    func() { _ = a.FlushError() },
	} {
		if do(); !d.write.IsZero() {
			t.Errorf("after %s the answer has until %v", what, d.write)
		}
	}
}

// A plan's files are decoded one by one, in whatever order the request has them.
func TestDecodePlan(t *testing.T) {
	want := PlanRequest{Source: "main", Commit: "c", Against: "a", Files: []PlanFile{{Path: "x.yaml", Data: []byte("x")}}, Drain: []schema.NodeName{"n1"}, Lose: []schema.NodeName{"n2"},
		Refused: schema.Diagnostics{{Position: schema.Position{Path: "link.yaml"}, Severity: schema.Error, Message: "a link"}},
		Faults:  schema.Diagnostics{{Position: schema.Position{Path: "d"}, Severity: schema.Error, Message: "a fault", Hint: "rename it"}},
	}
	for i := range reflect.TypeOf(want).NumField() {
		if reflect.ValueOf(want).Field(i).IsZero() {
			t.Errorf("the request lacks %s", reflect.TypeOf(want).Field(i).Name)
		}
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodePlan(bytes.NewReader(data), "")
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := decodePlan(strings.NewReader(`{"files":null,"source":"main"}`), ""); err != nil || got.Source != "main" {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{`[]`, `{"files":{}}`, `{"source":"main"`, `{"source":1}`} {
		if _, err := decodePlan(strings.NewReader(bad), ""); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
