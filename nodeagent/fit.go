package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"fairlead/schema"
	"fairlead/schema/wire"
)

const (
	// fitFresh is how long an answer of the checks holds when several steps fail, and
	// how often a machine that lacks something is looked at again.
	fitFresh = 5 * time.Second
	// fitInterval is how often a machine that lacks nothing is looked at.
	fitInterval = 5 * time.Minute
)

// fitness asks what keeps this machine from running containers.
type fitness struct {
	checks func(context.Context) string // may be nil: nothing does

	mu    sync.Mutex
	at    time.Time
	lacks string
}

// lack is what the machine lacks, "" for nothing. One asker at a time looks.
func (f *fitness) lack(ctx context.Context, now time.Time) string {
	if f.checks == nil {
		return ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at.IsZero() || now.Sub(f.at) >= fitFresh {
		f.lacks, f.at = f.checks(ctx), now
	}
	return f.lacks
}

// excuse makes a failed step the node's fault where the node lacks what the step needs.
func (f *fitness) excuse(ctx context.Context, r Result) Result {
	of := []string{schema.ReasonContainerCreate, schema.ReasonContainerRun, schema.ReasonMount, schema.ReasonSandbox}
	if r.err == nil || !slices.Contains(of, r.reason) || errors.Is(r.err, ErrUnavailable) {
		return r
	}
	if lacks := f.lack(ctx, r.at); lacks != "" {
		r.reason, r.err = schema.ReasonNodeError, fmt.Errorf("the node lacks what containers need: %s: %w", lacks, r.err)
	}
	return r
}

// AwaitFit returns once this machine passes the checks of cfg, of which neither Runtime
// nor Network nor Volumes are needed. Until then it tells the master what is lacking:
// the node is not ready, and nothing is said of what runs on it.
func AwaitFit(ctx context.Context, cfg Config) {
	f := fitness{checks: cfg.Checks}
	for told := ""; ; {
		lacks := f.lack(ctx, time.Now())
		if lacks == "" || ctx.Err() != nil {
			return
		}
		if lacks != told {
			cfg.Log.Error("this machine cannot run containers: " + lacks)
			told = lacks
		}
		cfg.tellProblem(ctx, unfit(lacks))
		if !sleep(ctx, wire.ReportInterval) {
			return
		}
	}
}

// tellProblem tells the master why the node cannot work before it is known what runs.
func (c Config) tellProblem(ctx context.Context, problem *wire.NodeProblem) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r := c.words()
	r.Problem = problem
	if err := c.Master.Report(call, r); err != nil && ctx.Err() == nil {
		c.Log.WithError(err).Debug("the master could not be told what the node lacks")
	}
}

// words are what a node says of itself, whatever it runs.
func (c Config) words() *wire.Report {
	return &wire.Report{
		Node: c.Node, BootID: c.Info.BootID, Info: c.Info, NodeIPs: schema.List[string]{c.NodeIP}, Capacity: c.Capacity, Allocatable: c.Allocatable,
		Labels: maps.Clone(c.Labels), Taints: slices.Clone(c.Taints), Pods: []wire.PodReport{},
	}
}

// checkUp looks at the machine now and then, and soon after a step failed.
func (a *Agent) checkUp(ctx context.Context) {
	timer := time.NewTimer(fitInterval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.failed:
		case <-timer.C:
		}
		lacks := a.exec.fit.lack(ctx, time.Now())
		a.ask(ctx, func() {
			if a.core.Checked(lacks) {
				a.tellMaster()
			}
		})
		timer.Reset(fitInterval)
		if lacks != "" {
			timer.Reset(fitFresh)
		}
	}
}
