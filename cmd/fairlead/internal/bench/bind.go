package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler"
	"fairlead/reconciler/plan"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/load"
	"fairlead/schema/wire"
)

const (
	bindNodes       = 5_000
	bindDeployments = 5
	bindReplicas    = 1_000
	bindPods        = bindDeployments * bindReplicas
	rawBatch        = 128
	bindTimeout     = 2 * time.Minute
	bindRounds      = 5
)

// bindings measures P3: a commit asks for pods, and a watcher waits until it has
// seen each of them bound, which is after it is on the disk.
func bindings(ctx context.Context, b *bench) ([]row, error) {
	var planneds, decideds, raws samples
	var how, howDecided string
	for round := range bindRounds {
		dir := func(what string) string { return filepath.Join(b.work, fmt.Sprintf("bind-%s-%d", what, round)) }
		took, said, values, err := bindAll(ctx, dir("planned"), true)
		if err != nil {
			return nil, fmt.Errorf("P3, planned: %w", err)
		}
		planneds, how = append(planneds, took), said
		if took, said, _, err = bindAll(ctx, dir("decided"), false); err != nil {
			return nil, fmt.Errorf("P3: %w", err)
		}
		decideds, howDecided = append(decideds, took), said
		if took, err = writeRaw(ctx, dir("raw"), values); err != nil {
			return nil, fmt.Errorf("P3, baseline: %w", err)
		}
		raws = append(raws, took)
	}
	planned, decided, raw := planneds.median(), decideds.median(), raws.median()
	each := func(total time.Duration) quantity { return micro(total / bindPods) }
	rate := func(total time.Duration) string { return fmt.Sprintf("%.0f pods/s", bindPods/total.Seconds()) }
	against := fmt.Sprintf("the pods alone, %d a transaction", rawBatch)
	return []row{
		{bar: "P3", what: "5,000 pods planned for 5,000 nodes: each bound, on disk and seen", measured: each(planned), goal: goal{most: quantity{25, "us"}, mostRatio: 1 / 0.7},
			against: against, baseline: each(raw), note: fmt.Sprintf("%s against %s; %s; nodes are told nothing and report every %s that they run nothing", rate(planned), rate(raw), how, wire.ReportInterval)},
		{bar: "P3", what: "the same without a plan: the scheduler within", measured: each(decided), against: against, baseline: each(raw), note: rate(decided) + "; " + howDecided},
	}, nil
}

// bindAll returns how long it took from the commit's arrival in the loop, in how
// many rounds, and the pods as they are stored.
func bindAll(ctx context.Context, dir string, planned bool) (took time.Duration, how string, values [][]byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, bindTimeout)
	defer cancel()
	p, err := openPlane(ctx, dir, "file:///nowhere")
	if err != nil {
		return 0, "", nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	beats, err := p.startNodes(ctx, bindNodes)
	if err != nil {
		return 0, "", nil, err
	}
	defer beats()
	cand, err := p.candidate(ctx, planned)
	if err != nil {
		return 0, "", nil, err
	}
	version := p.feed.Snapshot().Counters().ResourceVersion
	counted := p.store.sinceThen()
	runtime.GC() // what was needed to get here is not part of it
	start := time.Now()
	if err := p.loop.Post(ctx, cand); err != nil {
		return 0, "", nil, err
	}
	bound := 0
	err = p.follow(ctx, version, func(c state.Change) bool {
		pod, isPod := c.New.(*corev1.Pod)
		if !isPod || pod.Spec.NodeName == "" {
			return false
		}
		if old, had := c.Old.(*corev1.Pod); !had || old.Spec.NodeName == "" {
			bound++
		}
		return bound == bindPods
	})
	if err != nil {
		return 0, "", nil, fmt.Errorf("%d of %d pods are bound: %w", bound, bindPods, err)
	}
	took, how = time.Since(start), counted()
	for pod := range state.All[*corev1.Pod](p.feed.Snapshot(), "") {
		data, err := wire.EncodeObject(pod)
		if err != nil {
			return 0, "", nil, err
		}
		values = append(values, data)
	}
	return took, how, values, nil
}

// startNodes makes n nodes known, and lets each report as agents do until the
// returned function is called.
func (p *plane) startNodes(ctx context.Context, n int) (end func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	report := func(i int) error {
		return p.loop.Post(ctx, modelNodeReport(i))
	}
	for i := range n {
		if err := report(i); err != nil {
			cancel()
			return nil, err
		}
	}
	// A submitted input is durable after all that were posted before it.
	if err := p.loop.Submit(ctx, modelNodeReport(0)); err != nil {
		cancel()
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(wire.ReportInterval / 100)
		defer tick.Stop()
		for i := 0; ; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			for range n / 100 {
				if report(i%n) != nil {
					return
				}
				i++
			}
		}
	}()
	return func() { cancel(); <-done }, nil
}

// candidate is a commit of Deployments, with its plan or without.
func (p *plane) candidate(ctx context.Context, planned bool) (reconciler.Candidate, error) {
	tree := schema.Tree{Commit: schema.CommitObject{Hash: schema.Commit(strings.Repeat("b", 40)), Subject: "many", Author: "Bench <bench@localhost>"}}
	for i := range bindDeployments {
		text := strings.Replace(plainDeployment(i), "replicas: 3", fmt.Sprintf("replicas: %d", bindReplicas), 1)
		tree.Files = append(tree.Files, schema.File{Path: fmt.Sprintf("%d.yaml", i), Blob: &schema.Blob{Size: int64(len(text)), Open: func() ([]byte, error) { return []byte(text), nil }}})
	}
	r := load.Load(ctx, tree, schema.SourceSpec{}, load.Options{Source: sourceName})
	if len(r.Diagnostics) > 0 {
		return reconciler.Candidate{}, fmt.Errorf("%v", r.Diagnostics)
	}
	cand := reconciler.Candidate{Source: sourceName, Commit: tree.Commit, Tree: schema.TreeHash(strings.Repeat("7", 40)), Objects: r.Objects}
	if !planned {
		return cand, nil
	}
	base, err := p.loop.Base(ctx)
	if err != nil {
		return cand, err
	}
	cand.Plan = plan.Compute(p.engine, base.Snapshot, base.Queue, plan.Candidate{Source: sourceName, Commit: cand.Commit.Hash, Tree: cand.Tree, Objects: cand.Objects}, time.Now())
	if n := len(cand.Plan.Placements()); n != bindPods {
		return cand, fmt.Errorf("%d pods are planned, want %d: %s", n, bindPods, cand.Plan.Summary())
	}
	return cand, nil
}

// writeRaw is what the store takes when nothing is decided or encoded: as many
// values of the same size, on the same disk, one writer.
func writeRaw(ctx context.Context, dir string, values [][]byte) (took time.Duration, err error) {
	s, loaded, err := openStore(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	batches := make([]wire.Batch, 0, len(values)/rawBatch+1)
	for first := 0; first < len(values); first += rawBatch {
		batch := wire.Batch{Round: loaded.Round + uint64(len(batches)) + 1, ResourceVersion: loaded.ResourceVersion, Creations: loaded.Creations}
		for i, v := range values[first:min(first+rawBatch, len(values))] {
			key := schema.Key{Kind: schema.KindFor[*corev1.Pod](), Namespace: "default", Name: fmt.Sprintf("raw-%d", first+i)}
			batch.Writes = append(batch.Writes, wire.Write{Key: key, Record: &wire.Record{Key: key, ResourceVersion: loaded.ResourceVersion, Object: v}})
		}
		batches = append(batches, batch)
	}
	runtime.GC()
	start := time.Now()
	for _, batch := range batches {
		if err := s.Commit(ctx, batch); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}
