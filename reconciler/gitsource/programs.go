package gitsource

import (
	"context"
	"fmt"
	"slices"
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
	// maxPusherPrograms are one pusher's, whatever sources they push to.
	maxPusherPrograms = 2
	// localPlaces are those of a fetch from a path: the gits of the other side are ours too.
	localPlaces = 2
	// tidyWait is how long tidying up waits for its place: the next time will do.
	tidyWait = 20 * time.Second
	// programWait is how long a request at the door waits for its place: the gits before
	// it end by gitProcessor or by the door's own time.
	programWait = 2 * time.Minute
	// A push that has had its place for slowAfter and came at less than slowPace bytes a
	// second on average gives it up when another has waited for slowPatience that would have
	// it: nobody waits in vain for those that send a little now and then. While nobody waits,
	// it goes on.
	slowAfter    = time.Minute
	slowPace     = 64 << 10
	slowPatience = 20 * time.Second
	// maxLooks ask remotes for their branch at once, each with two processes of lookMemory:
	// 1 GiB. slowLooks of them are of sources whose remote last took longer than slowLook.
	maxLooks  = 8
	slowLooks = 4
	slowLook  = 5 * time.Second
)

// Programs gives places to gits that work on what others sent, over pushes, clones and
// fetches alike: the memory of one is bounded, and so is that of all. Who has a place
// decides admitted, whom it is taken from turnedOut. The zero value is ready; a nil one
// bounds nothing.
type Programs struct {
	mu      sync.Mutex
	inside  []*place
	waiting []*place // in the order in which they came
	pushes  map[string]func()
	named   uint64 // pushes so far
	looks   turnstile
}

// enterTidy waits for a place to tidy a source's repository up, for tidyWait at most. leave
// may be called more than once.
func (p *Programs) enterTidy(ctx context.Context, source schema.SourceName, fetched bool) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, tidyWait)
	defer cancel()
	return p.await(ctx, &place{source: source, fetches: fetched, tidies: true, granted: make(chan struct{})})
}

// enterDoor waits for a place for what a pusher sends, until ctx ends.
func (p *Programs) enterDoor(ctx context.Context, source schema.SourceName, pusher string, body *slowBody) (leave func(), err error) {
	return p.await(ctx, &place{source: source, pusher: pusher, body: body, granted: make(chan struct{})})
}

// enterFetch is enterDoor for a fetch from a source's remote.
func (p *Programs) enterFetch(ctx context.Context, source schema.SourceName, local bool) (leave func(), err error) {
	return p.await(ctx, &place{source: source, fetches: true, local: local, granted: make(chan struct{})})
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
	patience := time.NewTicker(slowPatience)
	defer patience.Stop()
	for {
		select {
		case <-w.granted:
			return leave, nil
		case <-ctx.Done():
			leave()
			return nil, fmt.Errorf("%d git processes are running: %w", maxPrograms, ctx.Err())
		case now := <-patience.C:
			p.turnOut(w, now)
		}
	}
}

// turnOut ends a push that is too slow, if one stands in the way of one that waits.
func (p *Programs) turnOut(w *place, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if out := turnedOut(w, p.inside, p.waiting, now); out != nil {
		out.body.end()
	}
}

// grant lets in whoever may; mu is held.
func (p *Programs) grant() {
	for _, w := range admitted(p.inside, p.waiting) {
		w.began = time.Now()
		p.inside = append(p.inside, w)
		p.waiting = without(p.waiting, w)
		close(w.granted)
	}
}

// leave is for those inside, and for those that give up: others may have waited for them.
func (p *Programs) leave(w *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inside, p.waiting = without(p.inside, w), without(p.waiting, w)
	p.grant()
}

func without(all []*place, w *place) []*place {
	return slices.DeleteFunc(all, func(other *place) bool { return other == w })
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
