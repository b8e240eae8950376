package gitsource

import (
	"context"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"fairlead/schema"
)

// until runs change and waits for a wake-up that sees what it made.
func until(t *testing.T, wake <-chan struct{}, what string, seen func() bool) {
	t.Helper()
	late := time.After(10 * time.Second)
	for !seen() {
		select {
		case <-wake:
		case <-late:
			t.Fatalf("no wake-up after %s", what)
		}
	}
}

func TestWatch(t *testing.T) {
	w := newWork(t)
	w.commit("first")
	dir := w.bare()
	repo := open(t, dir)
	const branch = "release/one" // a directory of its own comes and goes
	ctx, cancel := context.WithCancel(t.Context())
	wake, done := make(chan struct{}, 1), make(chan error, 1)
	var started atomic.Bool
	go func() {
		done <- Watch(ctx, dir, branch, func() {
			started.Store(true)
			select {
			case wake <- struct{}{}:
			default:
			}
		})
	}()
	until(t, wake, "the start", func() bool { return started.Load() })
	at := func() schema.Commit { hash, _, _ := repo.Branch(branch); return hash }
	for round := range 3 {
		commit := w.commit("next")
		w.git("push", "--quiet", dir, "main:"+branch)
		until(t, wake, "a push", func() bool { return at() == commit })
		w.in(dir, "pack-refs", "--all", "--prune")
		if at() != commit {
			t.Fatalf("round %d: at %s after packing, want %s", round, at(), commit)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWatchEndsWithTheDirectory(t *testing.T) {
	dir := newWork(t).bare()
	done := make(chan error, 1)
	var hints atomic.Int32
	ready := make(chan struct{})
	go func() {
		done <- Watch(t.Context(), dir, "main", func() {
			if hints.Add(1) == 1 {
				close(ready)
			}
		})
	}()
	<-ready
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil || hints.Load() < 2 {
		t.Errorf("%v after %d hints", err, hints.Load())
	}
	if err := Watch(t.Context(), dir, "main", func() {}); err == nil {
		t.Error("nothing was watched")
	}
}
