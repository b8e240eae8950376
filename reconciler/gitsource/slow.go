package gitsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"fairlead/schema"
)

// errTooSlow is why a push was ended that kept others waiting.
var errTooSlow = fmt.Errorf("the push came at less than %d KiB a second while others waited for its place; push again when the line is better, or the history in parts", slowPace>>10)

// slowBody is what a client sends, with how fast it comes.
type slowBody struct {
	io.ReadCloser

	mu    sync.Mutex
	bytes int64
	ended bool // all has come
	out   bool // it was too slow
}

// Read is io.Reader's; errTooSlow after end.
func (b *slowBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes += int64(n)
	b.ended = b.ended || errors.Is(err, io.EOF)
	if b.out && !b.ended {
		return 0, errTooSlow
	}
	return n, err
}

// isEnded reports whether the body was too slow; none is for what needs no body.
func (b *slowBody) isEnded() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out && !b.ended
}

// pace is how many bytes came a second on average; as many as one likes of what all has
// come of, of what has not had its time, and of what needs no body.
func (b *slowBody) pace(within time.Duration) float64 {
	if b == nil {
		return math.Inf(1)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended || b.out || within < slowAfter {
		return math.Inf(1)
	}
	return float64(b.bytes) / within.Seconds()
}

// end makes the next Read the last one; a body that stops altogether is ended by whoever
// bounds the time of its pieces.
func (b *slowBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.out = true
}

// complaint is what its sender is told, "" for nothing.
func (b *slowBody) complaint() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.out && !b.ended {
		return errTooSlow.Error()
	}
	return ""
}

// turnstile lets maxLooks in at once; slow ones wait for each other, and all in the order
// in which they came.
type turnstile struct {
	mu      sync.Mutex
	inside  []*looker
	waiting []*looker
	late    map[schema.SourceName]bool // sources whose last look took longer than slowLook
}

// looker is one that asks a remote.
type looker struct {
	slow    bool
	granted chan struct{}
}

// mayLook are those of the waiting, in their order, who may ask beside those inside.
func mayLook(inside, waiting []*looker) (in []*looker) {
	all, slow := len(inside), 0
	for _, l := range inside {
		if l.slow {
			slow++
		}
	}
	for _, l := range waiting {
		if all == maxLooks || l.slow && slow == slowLooks {
			continue
		}
		if all++; l.slow {
			slow++
		}
		in = append(in, l)
	}
	return in
}

// look waits for a turn to ask a source's remote, until ctx ends. leave is told how long
// it took.
func (p *Programs) look(ctx context.Context, source schema.SourceName) (leave func(took time.Duration), err error) {
	if p == nil {
		return func(time.Duration) {}, nil
	}
	t := &p.looks
	l := t.come(source)
	select {
	case <-l.granted: // also where ctx has ended
		return func(took time.Duration) { t.leave(l, source, took) }, nil
	default:
	}
	select {
	case <-l.granted:
		return func(took time.Duration) { t.leave(l, source, took) }, nil
	case <-ctx.Done():
		t.giveUp(l)
		return nil, ctx.Err()
	}
}

func (t *turnstile) come(source schema.SourceName) *looker {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := &looker{slow: t.late[source], granted: make(chan struct{})}
	t.waiting = append(t.waiting, l)
	t.grant()
	return l
}

// grant lets in whoever may; mu is held.
func (t *turnstile) grant() {
	for _, l := range mayLook(t.inside, t.waiting) {
		t.inside = append(t.inside, l)
		t.waiting = slices.DeleteFunc(t.waiting, func(other *looker) bool { return other == l })
		close(l.granted)
	}
}

// giveUp takes one back that waited, whether or not it has got its turn by now.
func (t *turnstile) giveUp(l *looker) {
	t.mu.Lock()
	defer t.mu.Unlock()
	isIt := func(other *looker) bool { return other == l }
	t.inside, t.waiting = slices.DeleteFunc(t.inside, isIt), slices.DeleteFunc(t.waiting, isIt)
	t.grant()
}

func (t *turnstile) leave(l *looker, source schema.SourceName, took time.Duration) {
	t.giveUp(l)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.late == nil {
		t.late = map[schema.SourceName]bool{}
	}
	if delete(t.late, source); took > slowLook {
		t.late[source] = true
	}
}
