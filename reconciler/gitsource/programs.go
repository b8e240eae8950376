package gitsource

import (
	"context"
	"fmt"
	"sync"
	"time"

	"fairlead/schema"
)

const (
	// maxPrograms of git take in or hand out packs at once. Each may hold requestMemory
	// with its children; so they hold 3 GiB at most, and beside them little is held by a
	// push that waits to be judged or for its rollout.
	maxPrograms = 6
	// maxSourcePrograms of them are one source's. A second one begins only where
	// sparePrograms are free without it, for sources that have none.
	maxSourcePrograms = 2
	sparePrograms     = 3
	// doorPrograms are never a fetch's: a remote that answers slowly keeps the place of its
	// fetch until the fetch's time is over, and pushes and clones do not wait for that.
	doorPrograms = 2
	// programWait is how long a request at the door waits for its place: the gits before
	// it end by gitProcessor or by the door's own time.
	programWait = 2 * time.Minute
)

// Programs gives places to gits that work on what others sent, over pushes, clones and
// fetches alike: the memory of one is bounded, and so is that of all. The zero value is
// ready; a nil one bounds nothing.
type Programs struct {
	mu      sync.Mutex
	all     int
	of      map[schema.SourceName]int // by source
	waiting []*place                  // in the order in which they came
	pushes  map[string]func()
	named   uint64 // pushes so far
}

type place struct {
	source  schema.SourceName
	fetches bool // from a remote, which may be slow
	granted chan struct{}
}

// enter waits for a place of the door until ctx ends. leave may be called more than once.
func (p *Programs) enter(ctx context.Context, source schema.SourceName) (leave func(), err error) {
	return p.await(ctx, &place{source: source, granted: make(chan struct{})})
}

// enterFetch is enter for a fetch from a source's remote.
func (p *Programs) enterFetch(ctx context.Context, source schema.SourceName) (leave func(), err error) {
	return p.await(ctx, &place{source: source, fetches: true, granted: make(chan struct{})})
}

func (p *Programs) await(ctx context.Context, w *place) (leave func(), err error) {
	if p == nil {
		return func() {}, nil
	}
	p.mu.Lock()
	p.waiting = append(p.waiting, w)
	p.grant()
	p.mu.Unlock()
	leave = sync.OnceFunc(func() { p.leave(w) })
	select {
	case <-w.granted: // also where ctx has ended
		return leave, nil
	default:
	}
	select {
	case <-w.granted:
		return leave, nil
	case <-ctx.Done():
		leave()
		return nil, fmt.Errorf("%d gits are at work: %w", maxPrograms, ctx.Err())
	}
}

// grant lets in whoever may; mu is held.
func (p *Programs) grant() {
	if p.of == nil {
		p.of = map[schema.SourceName]int{}
	}
	rest := p.waiting[:0]
	for _, w := range p.waiting {
		if !p.mayEnter(w) {
			rest = append(rest, w)
			continue
		}
		p.all++
		p.of[w.source]++
		close(w.granted)
	}
	clear(p.waiting[len(rest):])
	p.waiting = rest
}

func (p *Programs) mayEnter(w *place) bool {
	free := maxPrograms - p.all
	if w.fetches {
		free -= doorPrograms
	}
	if p.of[w.source] == 0 {
		return free > 0
	}
	return p.of[w.source] < maxSourcePrograms && free > sparePrograms
}

func (p *Programs) leave(w *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.waiting {
		if other == w { // it gave up
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			return
		}
	}
	p.all--
	if p.of[w.source]--; p.of[w.source] == 0 {
		delete(p.of, w.source)
	}
	p.grant()
}

// name is a name for the push that leave belongs to: its hook tells it to received.
func (p *Programs) name(leave func()) (name string, forget func()) {
	if p == nil {
		return "", func() {}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.named++
	name = fmt.Sprint(p.named)
	if p.pushes == nil {
		p.pushes = map[string]func(){}
	}
	p.pushes[name] = leave
	return name, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.pushes, name)
	}
}

// received gives up the place of a push whose objects git has taken in and checked: from
// now on it waits for others.
func (p *Programs) received(name string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	leave := p.pushes[name]
	p.mu.Unlock()
	if leave != nil {
		leave()
	}
}
