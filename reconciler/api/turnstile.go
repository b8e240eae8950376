package api

import (
	"context"
	"slices"
	"sync"
	"time"
)

// turnstile counts who is inside one door and lets in as many as its Limit says.
type turnstile struct {
	*Limit
	large *turnstile // of those inside, for large bodies; nil if these may be as many

	mu      sync.Mutex
	inside  int
	callers map[string]*guests
	queue   []*waiter // the first to come first
}

// guests are one caller's requests. A caller without any has no entry.
type guests struct{ inside, waiting int }

type waiter struct {
	caller string
	in     chan struct{} // closed when it is inside
}

// refusal is why a request is not let in.
type refusal int

const (
	admitted refusal = iota
	callerFull
	doorFull
	connectionsFull // there is no room for the caller's connection
	guessing        // the caller's address was wrong too often about who it is
	left            // the caller went away meanwhile
)

func newTurnstile(l *Limit) *turnstile {
	t := &turnstile{Limit: l, callers: map[string]*guests{}}
	if l.LargeAtOnce > 0 {
		t.large = newTurnstile(l.largeBodies())
	}
	return t
}

// enter lets a caller's request in, now or when its turn comes; whoever was
// admitted leaves.
func (t *turnstile) enter(ctx context.Context, caller string) refusal {
	w, refused := t.queueUp(caller)
	if w == nil {
		return refused
	}
	timeout := time.NewTimer(t.Waits)
	defer timeout.Stop()
	select {
	case <-w.in:
		return admitted
	case <-timeout.C:
		return t.giveUp(w, refused)
	case <-ctx.Done():
		return t.giveUp(w, left)
	}
}

// queueUp admits or refuses at once, or returns who waits and what it is refused
// as when its time is up.
func (t *turnstile) queueUp(caller string) (*waiter, refusal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.callers[caller]
	if g == nil {
		g = &guests{}
		t.callers[caller] = g
	}
	if t.room(g) && g.waiting == 0 {
		t.inside, g.inside = t.inside+1, g.inside+1
		return nil, admitted
	}
	refused := doorFull
	if g.inside >= t.ByCaller || g.waiting > 0 {
		refused = callerFull
	}
	if len(t.queue) >= t.Queue || g.waiting >= t.QueueByCaller {
		t.forget(caller, g)
		return nil, refused
	}
	w := &waiter{caller: caller, in: make(chan struct{})}
	t.queue = append(t.queue, w)
	g.waiting++
	return w, refused
}

func (t *turnstile) room(g *guests) bool {
	most := t.AtOnce
	if g.inside > 0 {
		most -= t.Spread
	}
	return t.inside < most && g.inside < t.ByCaller
}

func (t *turnstile) forget(caller string, g *guests) {
	if *g == (guests{}) {
		delete(t.callers, caller)
	}
}

// giveUp takes a waiter out of the queue, unless it has just been let in.
func (t *turnstile) giveUp(w *waiter, refused refusal) refusal {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.queue, w)
	if i < 0 {
		return admitted
	}
	t.queue = slices.Delete(t.queue, i, i+1)
	g := t.callers[w.caller]
	g.waiting--
	t.forget(w.caller, g)
	return refused
}

// leave makes room for the first in the queue whose callers have room: for more than one
// where the caller that leaves comes in again, and another for a second time.
func (t *turnstile) leave(caller string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.callers[caller]
	t.inside, g.inside = t.inside-1, g.inside-1
	t.forget(caller, g)
	for {
		i := slices.IndexFunc(t.queue, func(w *waiter) bool { return t.room(t.callers[w.caller]) })
		if i < 0 {
			return
		}
		w := t.queue[i]
		t.queue = slices.Delete(t.queue, i, i+1)
		next := t.callers[w.caller]
		next.waiting, next.inside = next.waiting-1, next.inside+1
		t.inside++
		close(w.in)
	}
}
