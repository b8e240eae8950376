package gitsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
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

// pace is how many bytes came a second on average; as many as one likes of what all has
// come of, and of what has not had its time.
func (b *slowBody) pace(within time.Duration) float64 {
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

// turnstile lets maxLooks in at once; slow ones wait for each other.
type turnstile struct {
	mu      sync.Mutex
	all     int
	slow    int
	late    map[schema.SourceName]bool // sources whose last look took longer than slowLook
	changed chan struct{}              // closed when one left
}

// look waits for a turn to ask a source's remote, until ctx ends. leave is told how long
// it took.
func (p *Programs) look(ctx context.Context, source schema.SourceName) (leave func(took time.Duration), err error) {
	if p == nil {
		return func(time.Duration) {}, nil
	}
	t := &p.looks
	for {
		t.mu.Lock()
		slow := t.late[source]
		if t.all < maxLooks && (!slow || t.slow < slowLooks) {
			t.all++
			if slow {
				t.slow++
			}
			t.mu.Unlock()
			return func(took time.Duration) { t.leave(source, slow, took) }, nil
		}
		if t.changed == nil {
			t.changed = make(chan struct{})
		}
		changed := t.changed
		t.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (t *turnstile) leave(source schema.SourceName, wasSlow bool, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all--
	if wasSlow {
		t.slow--
	}
	if t.late == nil {
		t.late = map[schema.SourceName]bool{}
	}
	if delete(t.late, source); took > slowLook {
		t.late[source] = true
	}
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}
