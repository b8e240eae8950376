package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/schema/wire"
)

// bodyOf is a body of so many bytes on its way in, as the door's turnstile bounds it.
func bodyOf(t *turnstile, caller string, bytes, announced int64) *requestBody {
	b := &requestBody{
		ReadCloser: io.NopCloser(io.LimitReader(endlessZeros{}, bytes)), announced: announced,
		rc: http.NewResponseController(httptest.NewRecorder()),
	}
	b.begin(context.Background(), t, caller)
	return b
}

type endlessZeros struct{}

func (endlessZeros) Read(p []byte) (int, error) { return len(p), nil }

// As many small reports as are let in are held at a time, whatever is held of large
// ones; of these there are so many, one of each node, and the next waits for its turn.
func TestSmallReportsWaitForNoLargeOne(t *testing.T) {
	limit := *doorReport
	limit.BodyTime = 200 * time.Millisecond
	door := newTurnstile(&limit)
	take := func(caller string, bytes, announced int64) (*requestBody, error) {
		b := bodyOf(door, caller, bytes, announced)
		n, err := io.Copy(io.Discard, b)
		if err == nil && n != bytes {
			t.Errorf("%d of %d bytes", n, bytes)
		}
		return b, err
	}
	var held []*requestBody
	for i := range limit.LargeAtOnce {
		announced := []int64{limit.BodyBytes, -1}[i%2]
		b, err := take(fmt.Sprint("large", i), limit.BodyBytes, announced)
		if err != nil {
			t.Fatalf("large report %d: %v", i, err)
		}
		held = append(held, b)
	}
	for i := range limit.AtOnce {
		bytes := []int64{limit.SmallBytes, limit.SmallBytes - 1, 300 << 10, 0}[i%4]
		if _, err := take("large0", bytes, bytes); err != nil {
			t.Fatalf("small report %d: %v", i, err)
		}
	}
	for _, announced := range []int64{limit.SmallBytes + 1, limit.SmallBytes, -1} { // the second lies
		if _, err := take("another", limit.SmallBytes+1, announced); !errors.Is(err, errDoorBodies) {
			t.Errorf("one large report more, said to have %d: %v", announced, err)
		}
	}
	held[0].release()
	if _, err := take("large1", limit.SmallBytes+1, -1); !errors.Is(err, errDoorBodies) {
		t.Errorf("the second large report of one node: %v", err)
	}
	if _, err := take("another", limit.SmallBytes+1, -1); err != nil {
		t.Errorf("in room that was given back: %v", err)
	}
}

// Of a paced body each paceBytes have their time, however they come; what its reader takes
// is not counted.
func TestPace(t *testing.T) {
	const piece, of = paceBytes / 8, 8
	all := usualWaits().pace
	for name, c := range map[string]struct {
		bytes  int
		waited time.Duration // for each of a thousand pieces
		late   int           // the first piece that is; 0 is none
	}{
		"at once":                {piece, 0, 0},
		"as slow as it may be":   {piece, all/of - 1, 0},
		"a little slower":        {piece, all/of + all/(of*of), of},
		"a byte now and then":    {1, all / 10, 10},
		"large pieces, just yet": {paceBytes, all - 1, 0},
		"nothing":                {0, all, 1},
	} {
		var p pace
		got := 0
		for i := range 1000 {
			if !p.took(c.bytes, c.waited, all) {
				got = i + 1
				break
			}
		}
		if got != c.late {
			t.Errorf("%s: late at piece %d, want %d", name, got, c.late)
		}
	}
}

// Who stalls amid a push, or sends a byte now and then, is given up long before the time
// of the whole body, over both protocols.
func TestAStalledPushIsGivenUp(t *testing.T) {
	for name, trickles := range map[string]bool{"nothing more": false, "a byte now and then": true} {
		for _, protocols := range []int{1, 2} {
			t.Run(fmt.Sprint(name, " HTTP/", protocols), func(t *testing.T) {
				ended := make(chan error, 1)
				stall, handler := pacedHandler(ended)
				ts := httptest.NewUnstartedServer(handler)
				ts.EnableHTTP2 = protocols == 2
				ts.StartTLS()
				defer ts.Close()
				r, w := io.Pipe()
				defer w.Close()
				go func() {
					_, err := w.Write(make([]byte, 1<<10))
					for tick := time.NewTicker(5 * time.Millisecond); err == nil && stall.Err() == nil; <-tick.C {
						if trickles {
							_, err = w.Write([]byte{0})
						}
					}
				}()
				go func() {
					if resp, err := ts.Client().Post(ts.URL, "", r); err == nil {
						resp.Body.Close()
					}
				}()
				select {
				case err := <-ended:
					if !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("it ended by %v", err)
					}
				case <-time.After(patience):
					t.Error("it goes on")
				}
			})
		}
	}
}

// pacedHandler reads a body as the door of git does and tells how it ended; the context
// ends then.
func pacedHandler(ended chan<- error) (context.Context, http.Handler) {
	done, cancel := context.WithCancel(context.Background())
	door := newTurnstile(doorGit)
	return done, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := &requestBody{ReadCloser: r.Body, announced: -1, rc: http.NewResponseController(w), waits: &waits{pace: 200 * time.Millisecond}}
		b.begin(r.Context(), door, "mallory")
		_, err := io.Copy(io.Discard, b)
		cancel()
		ended <- err
	})
}

// Nodes that send large reports slowly cost the others none of theirs: small ones are
// taken beside them, large ones when their turn comes.
func TestSlowReportsLeaveOthersTheirs(t *testing.T) {
	ts := startServer(t, withDoor(doorReport, func(l *Limit) { l.BodyTime = patience }))
	slow, cancel := context.WithCancel(t.Context())
	var hostile sync.WaitGroup
	defer hostile.Wait()
	defer cancel()
	for i := range 2 * doorReport.LargeAtOnce {
		c := ts.client(fmt.Sprint("node:hostile", i/2))
		hostile.Go(func() {
			for slow.Err() == nil { // each stalls until it is given up
				stalls := io.MultiReader(strings.NewReader(strings.Repeat(" ", int(doorReport.BodyBytes)-1)), untilDone{slow})
				req, err := http.NewRequestWithContext(slow, http.MethodPost, ts.url+wire.PathReport, stalls)
				if err != nil {
					t.Error(err)
					return
				}
				req.ContentLength = doorReport.BodyBytes
				if resp, err := c.Do(req); err == nil {
					resp.Body.Close()
				}
			}
		})
	}
	large := ts.turnstiles[doorReport].large
	await(t, func() bool { large.mu.Lock(); defer large.mu.Unlock(); return large.inside == large.AtOnce })
	report := func(node string, bytes int) int {
		body := fmt.Sprintf(`{"node":%q,"bootID":%q}`, node, strings.Repeat("x", bytes))
		code, _, _ := do(t, ts.client("node:"+node), http.MethodPost, ts.url+wire.PathReport, []byte(body))
		return code
	}
	for i := range 8 {
		if code := report(fmt.Sprint("n", i), 300<<10); code != http.StatusOK {
			t.Errorf("a report of 300 KiB: %d", code)
		}
	}
	answered := make(chan int, 1)
	go func() { answered <- report("n1", 4<<20) }()
	await(t, func() bool {
		large.mu.Lock()
		defer large.mu.Unlock()
		return large.callers[`node "n1"`] != nil || len(answered) == 1
	})
	cancel()
	if code := <-answered; code != http.StatusOK {
		t.Errorf("a large report that waited: %d", code)
	}
	hostile.Wait()
	await(t, ts.empty)
}

// untilDone reads nothing until its context ends.
type untilDone struct{ context.Context }

func (u untilDone) Read([]byte) (int, error) { <-u.Done(); return 0, u.Err() }

// What the doors hold stays below what limits.go says: of bodies, of watches and of
// strangers' connections together.
func TestWhatAllDoorsHoldIsBounded(t *testing.T) {
	var sum int64
	for _, l := range Limits() {
		if l != doorGit && l != doorHooks && l != doorKept && l.BodyBytes > 0 { // two pass them on
			sum += l.heldBytes()
		}
	}
	sum += max(doorKept.heldBytes(), int64(doorWatches.AtOnce)*32<<10) // never both
	sum += int64(ConnectionLimits()[0].Most) * 64 << 10
	if sum >= 400<<20 {
		t.Errorf("all doors together hold %d MiB", sum>>20)
	}
}
