package gitsource

import (
	"context"
	"os"
	"sync/atomic"
	"testing"
	"time"
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

func TestFollow(t *testing.T) {
	w := newWork(t)
	w.commit("first")
	dir := w.bare()
	repo := open(t, dir)
	const branch = "release/one" // a directory of its own comes and goes
	ctx, cancel := context.WithCancel(t.Context())
	wake, done := make(chan struct{}, 1), make(chan error, 1)
	var started atomic.Bool
	go func() {
		done <- Follow(ctx, repo, branch, time.Hour, func() {
			started.Store(true)
			select {
			case wake <- struct{}{}:
			default:
			}
		})
	}()
	until(t, wake, "the start", func() bool { return started.Load() })
	at := func() string { hash, _, _ := repo.Branch(branch); return hash }
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

func TestFollowTicks(t *testing.T) {
	repo := open(t, newWork(t).bare())
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := Follow(ctx, repo, "main", time.Millisecond, func() {
		if calls++; calls == 3 {
			cancel()
		}
	})
	if err != nil || calls < 3 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if err := os.RemoveAll(repo.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := Follow(t.Context(), repo, "main", time.Hour, func() {}); err == nil {
		t.Error("nothing was followed")
	}
}
