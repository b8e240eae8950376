package reconciler

import (
	"context"
	"errors"
	"sync"
	"time"

	"fairlead/schema"
)

// Judging takes as long as a tree makes it take, up to a minute of CUE. So that one
// source never holds up another, each is judged one tree at a time, and few at once:
// a tree begins in one of the quick places, which it leaves after quickTime to begin
// again in one of the slow ones. A source that needed a slow place goes there at once
// the next time, until it is quick again. Sources that are quick wait for each other
// only, and for one that is slow for the first time as long as quickTime.
const (
	quickPlaces = 3
	slowPlaces  = 2
	quickTime   = 5 * time.Second
	// maxSlow is how many sources are remembered to be slow.
	maxSlow = 1000
)

// turns gives the places. The zero value is ready.
type turns struct {
	sources keyedLocks

	mu          sync.Mutex
	quick, slow chan struct{}
	known       map[schema.SourceName]bool // sources that were slow
}

// take calls judge when it is the source's turn. A judge whose context ends early
// returns an error that is that context's; it may be called twice.
func (t *turns) take(ctx context.Context, source schema.SourceName, judge func(context.Context) error) error {
	release, err := t.sources.lock(ctx, source)
	if err != nil {
		return err
	}
	defer release()
	quick, slow := t.places()
	if !t.isSlow(source) {
		err := inPlace(ctx, quick, func() error {
			hurried, cancel := context.WithTimeout(ctx, quickTime)
			defer cancel()
			return judge(hurried)
		})
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
	}
	var took time.Duration
	err = inPlace(ctx, slow, func() error {
		began := time.Now()
		defer func() { took = time.Since(began) }()
		return judge(ctx)
	})
	if ctx.Err() == nil {
		t.note(source, took >= quickTime)
	}
	return err
}

func (t *turns) places() (quick, slow chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.quick == nil {
		t.quick, t.slow = make(chan struct{}, quickPlaces), make(chan struct{}, slowPlaces)
	}
	return t.quick, t.slow
}

func (t *turns) isSlow(source schema.SourceName) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known[source]
}

func (t *turns) note(source schema.SourceName, slow bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !slow:
		delete(t.known, source)
	case t.known == nil || len(t.known) >= maxSlow:
		t.known = map[schema.SourceName]bool{source: true}
	default:
		t.known[source] = true
	}
}

// inPlace calls do while it holds one of the places.
func inPlace(ctx context.Context, places chan struct{}, do func() error) error {
	select {
	case places <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-places }()
	return do()
}

// keyedLocks are locks of sources, each there while somebody holds it or waits for it.
// The zero value is ready.
type keyedLocks struct {
	mu    sync.Mutex
	locks map[schema.SourceName]*keyedLock
}

type keyedLock struct {
	held  chan struct{} // of one place
	users int
}

// lock waits until nobody else holds the source, or ctx ends.
func (k *keyedLocks) lock(ctx context.Context, source schema.SourceName) (release func(), err error) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[schema.SourceName]*keyedLock{}
	}
	l := k.locks[source]
	if l == nil {
		l = &keyedLock{held: make(chan struct{}, 1)}
		k.locks[source] = l
	}
	l.users++
	k.mu.Unlock()
	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.locks, source)
		}
	}
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
