package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fairlead/reconciler"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/objecttest"
)

// oneRepo is a repository whose branch is at one commit.
type oneRepo struct {
	repository
	commit schema.Commit
}

func (r oneRepo) Tip(context.Context) (schema.Commit, error) { return r.commit, nil }
func (r oneRepo) Commit(hash schema.Commit) (schema.CommitObject, error) {
	return schema.CommitObject{Hash: hash}, nil
}
func (r oneRepo) Tree(commit schema.Commit, _ string) (schema.Tree, error) {
	return schema.Tree{Commit: schema.CommitObject{Hash: commit}, Hash: schema.TreeHash("tree-" + string(commit))}, nil
}

// instantRounds has each input durable at once.
type instantRounds struct {
	mu      sync.Mutex
	machine *reconciler.Machine
	feed    *state.Feed
	now     func() time.Time
}

func (r *instantRounds) Base(context.Context) (reconciler.Base, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return reconciler.Base{Snapshot: r.machine.Snapshot(), Queue: r.machine.Queue()}, nil
}

func (r *instantRounds) Deliver(_ context.Context, in reconciler.Input, settled func()) error {
	defer settled()
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.machine.Step(r.now(), []reconciler.Input{in})
	r.feed.Publish(out.Snapshot, out.Changes)
	return nil
}

func (r *instantRounds) Post(ctx context.Context, in reconciler.Input) error {
	return r.Deliver(ctx, in, func() {})
}

// manySources is a follower of a quiet source and of hostile ones, whose trees are
// judged until they are told to stop.
func manySources(t *testing.T, hostile int, read func(ctx context.Context, source schema.SourceName)) *reconciler.Follower {
	c := newCluster(t, 0)
	rounds := &instantRounds{machine: c.machine, feed: state.NewFeed(c.machine.Snapshot()), now: func() time.Time { return c.now }}
	var objects []*schema.Desired
	for i := range hostile {
		objects = append(objects, &schema.Desired{Object: named(schema.Source{Spec: schema.DefaultSourceSpec(schema.SourceSpec{Embedded: true})}, fmt.Sprintf("hostile-%d", i))})
	}
	if err := rounds.Deliver(t.Context(), reconciler.Candidate{Source: "main", Commit: schema.CommitObject{Hash: objecttest.Commit(1)}, Tree: "sources", Objects: objects}, func() {}); err != nil {
		t.Fatal(err)
	}
	return &reconciler.Follower{
		Loop: rounds, Feed: rounds.feed, Engine: c.engine, Vault: reconciler.NewVault([]byte("k")), Now: rounds.now,
		Load: func(ctx context.Context, source schema.SourceName, _ schema.Tree, _ schema.SourceSpec, _ schema.Rights, _ []string) ([]*schema.Desired, schema.Diagnostics) {
			read(ctx, source)
			return objects, nil
		},
	}
}

func named(src schema.Source, name string) *schema.Source {
	src.Name = name
	schema.SetOrigin(&src, schema.Origin{Source: "main", Path: "sources.yaml", Line: 1, Commit: objecttest.Commit(1)})
	return &src
}

// Sources whose trees are judged for a minute do not hold up one that is quick: the
// first time for as long as quick places are taken, then not at all.
func TestSlowSourcesHoldUpNoOther(t *testing.T) {
	const hostile = 8
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running, most := 0, 0
		f := manySources(t, hostile, func(ctx context.Context, source schema.SourceName) {
			if source == "main" {
				return
			}
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			select {
			case <-ctx.Done():
			case <-time.After(time.Minute):
			}
			mu.Lock()
			running--
			mu.Unlock()
		})
		sync1 := func(ctx context.Context, source schema.SourceName, commit int) error {
			_, _, err := f.Look(ctx, source, opened(oneRepo{commit: objecttest.Commit(commit)}), nil)
			return err
		}
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for i := range hostile {
			all.Go(func() {
				for n := 2; ctx.Err() == nil; n++ {
					if err := sync1(ctx, schema.SourceName(fmt.Sprintf("hostile-%d", i)), n); err != nil && ctx.Err() == nil {
						t.Errorf("hostile source %d: %v", i, err)
					}
				}
			})
		}
		synctest.Wait() // the quick places are taken
		for n := 2; n < 6; n++ {
			began := time.Now()
			if err := sync1(t.Context(), "main", n); err != nil {
				t.Fatal(err)
			}
			waited := time.Since(began)
			if bound := 15 * time.Second; waited > bound || n > 2 && waited > 0 {
				t.Errorf("commit %d of the quiet source waited %v", n, waited)
			}
			time.Sleep(10 * time.Second)
		}
		stop()
		all.Wait()
		if most > 5 {
			t.Errorf("%d trees were judged at once", most)
		}
	})
}

// A slow tree is judged to its end, and one source's trees one at a time.
func TestSlowSourceIsJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running := map[schema.SourceName]int{}
		f := manySources(t, 1, func(ctx context.Context, source schema.SourceName) {
			mu.Lock()
			running[source]++
			if running[source] > 1 {
				t.Error("two trees of one source are judged at once")
			}
			mu.Unlock()
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Second):
			}
			mu.Lock()
			running[source]--
			mu.Unlock()
		})
		var all sync.WaitGroup
		for n := range 3 {
			all.Go(func() {
				if _, err := f.JudgeCommit(t.Context(), "hostile-0", oneRepo{}, objecttest.Commit(n+2), nil); err != nil {
					t.Error(err)
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.JudgeCommit(ctx, "hostile-0", oneRepo{}, objecttest.Commit(9), nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who gives up waiting gets %v", err)
		}
		all.Wait()
	})
}
