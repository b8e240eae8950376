package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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

// Nodes that send large reports slowly cost the others none of theirs: small ones are
// taken beside them, large ones when their turn comes.
func TestSlowReportsLeaveOthersTheirs(t *testing.T) {
	defer func(d time.Duration) { doorReport.BodyTime = d }(doorReport.BodyTime)
	doorReport.BodyTime = patience
	ts := startServer(t)
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
