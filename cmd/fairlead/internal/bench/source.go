package main

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler"
	"fairlead/reconciler/control"
	"fairlead/reconciler/gitsource"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/reconciler/store"
	"fairlead/schema"
	"fairlead/schema/load"
	"fairlead/schema/wire"
)

const (
	sourceName = "main"
	looks      = 500 // with nothing new
	edits      = 20  // commits that change one object, by turns in a repository outside and in the master's own
	// restPause without a write means that the loop has come to rest.
	restPause   = 300 * time.Millisecond
	restTimeout = 2 * time.Minute
)

// sources measures P10 and P11: the master's own follower, loop and engine over
// a store in memory, and a cache of a repository on this machine's disk.
func sources(ctx context.Context, b *bench) ([]row, error) {
	few, err := measureSource(ctx, filepath.Join(b.work, "few"), 1_000)
	if err != nil {
		return nil, err
	}
	many, err := measureSource(ctx, filepath.Join(b.work, "many"), 10_000)
	if err != nil {
		return nil, err
	}
	gitChange := many.gitFetch.median() + many.gitDiff.median()
	return []row{
		{bar: "P10", what: "nothing new, 10,000 objects: look and decide", measured: duration(many.idle.median()), goal: goal{most: duration(time.Millisecond)},
			against: "git fetch", baseline: duration(many.gitIdle.median()), note: "a repository on the same disk is looked at without a process; over a network the round trip comes to it"},
		{bar: "P10", what: "store writes meanwhile", measured: count(many.writes, "writes"), goal: goal{most: count(0, "writes")}},
		{bar: "P10", what: "10,000 objects to 1,000", measured: duration(many.idle.median()), goal: goal{mostRatio: 1.2}, against: "1,000", baseline: duration(few.idle.median())},
		{bar: "P11", what: "one object of 10,000 changed, pushed to the master: validate, plan", measured: duration(many.own.median()), goal: goal{most: duration(20 * time.Millisecond), mostRatio: 1.5},
			against: "git fetch + git diff-tree", baseline: duration(gitChange), note: "the master reads the repository that was pushed to, so there is nothing to fetch"},
		{bar: "P11", what: "the same, 10,000 objects to 1,000", measured: duration(many.own.median()), goal: goal{mostRatio: 1.2}, against: "1,000", baseline: duration(few.own.median())},
		{bar: "P11", what: "one object of 10,000 changed, outside: fetch, validate, plan", measured: duration(many.change.median()), goal: goal{most: duration(20 * time.Millisecond), mostRatio: 1.5},
			against: "git fetch + git diff-tree", baseline: duration(gitChange)},
		{bar: "P11", what: "of it the fetch", measured: duration(many.fetch.median()), against: "git fetch", baseline: duration(many.gitFetch.median())},
		{bar: "P11", what: "10,000 objects to 1,000", measured: duration(many.change.median()), goal: goal{mostRatio: 1.2}, against: "1,000", baseline: duration(few.change.median())},
	}, nil
}

// sourceFigures are those of one size.
type sourceFigures struct {
	idle, gitIdle     samples
	fetch, change     samples
	own               samples // what was pushed to the master
	gitFetch, gitDiff samples
	writes            int
}

// counted counts the rounds that were made durable.
type counted struct {
	*store.Memory
	rounds atomic.Int64
}

func (c *counted) Commit(ctx context.Context, b wire.Batch) error {
	c.rounds.Add(1)
	return c.Memory.Commit(ctx, b)
}

// follower is a master's parts around one source.
type follower struct {
	*reconciler.Follower
	loop     *reconciler.Loop
	cache    *load.Cache
	upstream *gitsource.Upstream
	own      *gitsource.Repo // the same repository without a cache
	store    *counted
	remote   *repository // what is followed
	plain    *repository // what git itself fetches into
}

func measureSource(ctx context.Context, dir string, objects int) (sourceFigures, error) {
	var out sourceFigures
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f, err := openFollower(ctx, dir, objects)
	if err != nil {
		return out, err
	}
	ended := make(chan error, 1)
	go func() { ended <- f.loop.Run(ctx) }()
	defer f.own.Close()
	defer func() { cancel(); <-ended }()
	<-f.loop.Begun()
	if _, err := f.look(ctx); err != nil {
		return out, err
	}
	if err := f.rest(ctx); err != nil {
		return out, err
	}
	if err := f.idle(ctx, &out); err != nil {
		return out, fmt.Errorf("P10: %w", err)
	}
	if err := f.change(ctx, &out); err != nil {
		return out, fmt.Errorf("P11: %w", err)
	}
	return out, nil
}

func openFollower(ctx context.Context, dir string, objects int) (*follower, error) {
	f := &follower{cache: load.NewCache(0), store: &counted{Memory: store.NewMemory(time.Now())}}
	var err error
	if f.remote, err = newRepository(ctx, filepath.Join(dir, "remote.git")); err != nil {
		return nil, err
	}
	if f.plain, err = newRepository(ctx, filepath.Join(dir, "plain.git")); err != nil {
		return nil, err
	}
	if err := f.remote.commit(ctx, "all", manyObjects(objects)); err != nil {
		return nil, err
	}
	if _, err := f.gitFetch(ctx); err != nil {
		return nil, err
	}
	url := "file://" + f.remote.dir
	if f.upstream, err = gitsource.OpenUpstream(ctx, gitsource.UpstreamConfig{Dir: filepath.Join(dir, "cache.git"), URL: url, Branch: "main"}); err != nil {
		return nil, err
	}
	if f.own, err = gitsource.Open(f.remote.dir); err != nil {
		return nil, err
	}
	engine := settle.NewEngine(control.Config{
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), DNS: netip.MustParseAddr("10.96.0.10"), NodePortFirst: 30000, NodePortLast: 32767,
	})
	loaded, err := f.store.Load(ctx)
	if err != nil {
		return nil, err
	}
	snapshot := state.Empty(state.Counters{ResourceVersion: loaded.ResourceVersion, Creations: loaded.Creations})
	feed := state.NewFeed(snapshot)
	src := schema.Source{ObjectMeta: metav1.ObjectMeta{Name: sourceName}, Spec: schema.OwnSourceSpec(schema.SourceSpec{URL: url})}
	schema.Default(&src)
	log := logrus.New()
	log.SetLevel(logrus.ErrorLevel)
	f.loop = reconciler.NewLoop(reconciler.LoopConfig{
		Machine: reconciler.NewMachine(engine, snapshot, []schema.Source{src}), Store: f.store, Feed: feed, Round: loaded.Round, Log: logrus.NewEntry(log), Now: time.Now,
	})
	f.Follower = &reconciler.Follower{Loop: f.loop, Feed: feed, Engine: engine, Load: f.load, Vault: reconciler.NewVault([]byte("bench")), Now: time.Now}
	return f, nil
}

// load judges a tree as the master does.
func (f *follower) load(ctx context.Context, source schema.SourceName, tree schema.Tree, spec schema.SourceSpec, rights schema.Rights, namespaces []string) ([]*schema.Desired, schema.Diagnostics) {
	var applied schema.Commit
	if src, ok := state.Source(f.Feed.Snapshot(), source); ok {
		applied = src.Status.Applied.Commit
	}
	r := load.Load(ctx, tree, spec, load.Options{Source: source, Rights: &rights, KnownNamespaces: namespaces, Cache: f.cache, Applied: applied})
	return r.Objects, r.Diagnostics
}

// look is what the master does when it is time to look at a source.
func (f *follower) look(ctx context.Context) (schema.Commit, error) {
	return lookAt(ctx, f.Follower, f.upstream)
}

// lookAt returns the commit that the branch is at.
func lookAt(ctx context.Context, f *reconciler.Follower, upstream *gitsource.Upstream) (schema.Commit, error) {
	open := func(context.Context) (reconciler.Remote, error) { return upstream.Followed(), nil }
	word, _, err := f.Look(ctx, sourceName, open, nil)
	return word.Observed, err
}

// rest waits until the loop writes no more.
func (f *follower) rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	for last := int64(-1); last != f.store.rounds.Load(); {
		last = f.store.rounds.Load()
		select {
		case <-time.After(restPause):
		case <-ctx.Done():
			return fmt.Errorf("the loop does not come to rest: %w", ctx.Err())
		}
	}
	return nil
}

func (f *follower) gitFetch(ctx context.Context) (time.Duration, error) {
	return timed(func() error {
		_, err := f.plain.git(ctx, "fetch", "--quiet", "--no-tags", f.remote.dir, "+refs/heads/main:refs/heads/main")
		return err
	})
}

func (f *follower) idle(ctx context.Context, out *sourceFigures) error {
	before := f.store.rounds.Load()
	for i := range looks {
		took, err := timed(func() error { _, err := f.look(ctx); return err })
		if err != nil {
			return err
		}
		out.idle = append(out.idle, took)
		if i%(looks/10) != 0 {
			continue
		}
		if took, err = f.gitFetch(ctx); err != nil {
			return err
		}
		out.gitIdle = append(out.gitIdle, took)
	}
	out.writes = int(f.store.rounds.Load() - before)
	return nil
}

// change commits one object's change after the other and judges each, by the
// product and by git.
func (f *follower) change(ctx context.Context, out *sourceFigures) error {
	for i := range edits {
		old, err := f.remote.git(ctx, "rev-parse", "main")
		if err != nil {
			return err
		}
		if err := f.remote.commit(ctx, "one", files{objectPath(300): object(300, 2+i)}); err != nil {
			return err
		}
		judge := f.judgeOutside
		if i%2 == 1 {
			judge = f.judgeOwn
		}
		tip, err := judge(ctx, out)
		if err != nil {
			return err
		}
		took, err := f.gitFetch(ctx)
		if err != nil {
			return err
		}
		out.gitFetch = append(out.gitFetch, took)
		took, err = timed(func() error {
			names, err := f.plain.git(ctx, "diff-tree", "-r", "--name-only", old, string(tip))
			if err == nil && strings.Count(names, "\n") != 0 {
				err = fmt.Errorf("git found %q", names)
			}
			return err
		})
		if err != nil {
			return err
		}
		out.gitDiff = append(out.gitDiff, took)
		if _, err := f.look(ctx); err != nil {
			return err
		}
		if err := f.rest(ctx); err != nil {
			return err
		}
	}
	return nil
}

// judgeOutside judges the branch's tip by way of the cache of a repository outside.
func (f *follower) judgeOutside(ctx context.Context, out *sourceFigures) (tip schema.Commit, err error) {
	start := time.Now()
	if tip, err = f.upstream.Look(ctx); err != nil {
		return "", err
	}
	out.fetch = append(out.fetch, time.Since(start))
	took, err := f.judge(ctx, f.upstream.Repo(), tip)
	out.change = append(out.change, out.fetch[len(out.fetch)-1]+took)
	return tip, err
}

// judgeOwn judges it in the repository itself, as the master does with the one that
// it is pushed to.
func (f *follower) judgeOwn(ctx context.Context, out *sourceFigures) (tip schema.Commit, err error) {
	start := time.Now()
	if tip, err = f.own.Followed("main").Tip(ctx); err != nil {
		return "", err
	}
	looked := time.Since(start)
	took, err := f.judge(ctx, f.own, tip)
	out.own = append(out.own, looked+took)
	return tip, err
}

// judge times what the master makes of a commit that changes one object.
func (f *follower) judge(ctx context.Context, repo *gitsource.Repo, tip schema.Commit) (time.Duration, error) {
	start := time.Now()
	cand, err := f.JudgeCommit(ctx, sourceName, repo, tip, nil)
	took := time.Since(start)
	if err != nil {
		return took, err
	}
	if n := len(cand.Plan.Objects); n != 1 {
		return took, fmt.Errorf("%d objects in the plan, want 1: %s", n, cand.Plan.Summary())
	}
	return took, nil
}
