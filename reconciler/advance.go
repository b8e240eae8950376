package reconciler

import (
	"context"
	"errors"
	"fmt"

	"fairlead/reconciler/follow"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// do carries a step out.
func (f *Follower) do(ctx context.Context, src *schema.Source, git Git, step follow.Step, pusher func(commit schema.Commit) string) error {
	if step.Open != "" {
		if err := f.open(ctx, src, git, step.Open); err != nil {
			return fmt.Errorf("open the secrets of %s: %w", src.Name, err)
		}
	}
	var judged error // what is wrong with a commit that waits holds up nothing else
	if step.Judge != "" {
		judged = f.advance(ctx, src, git, step, pusher)
	}
	if step.Restore != "" {
		if err := f.restore(ctx, src, git, step.Restore); err != nil {
			return fmt.Errorf("restore the objects that source %s applied: %w", src.Name, err)
		}
	}
	if step.GoBack != "" {
		if err := f.goBack(ctx, src, git, step.GoBack); err != nil {
			return errors.Join(judged, fmt.Errorf("go back to commit %s: %w", step.GoBack.Short(), err))
		}
	}
	return judged
}

// advance hands a commit to the loop.
func (f *Follower) advance(ctx context.Context, src *schema.Source, git Git, step follow.Step, pusher func(commit schema.Commit) string) error {
	overrides := step.Overrides
	if step.Judge == src.Status.Desired.Commit { // again: what it lifted then, it lifts
		seen, err := follow.Ways(git, known(src), step.Judge)
		if err != nil {
			return follow.Unread(err, follow.BadRepository, step.Judge)
		}
		overrides = follow.Overrides(seen)
	}
	cand, err := f.candidate(ctx, src, git, step.Judge, overrides)
	if err != nil {
		return err
	}
	if pusher != nil {
		cand.Pusher = pusher(step.Judge)
	}
	if err := f.submit(ctx, cand); err != nil {
		return err
	}
	f.Vault.Forget(f.Feed.Snapshot)
	return nil
}

// restore hands what is applied to the loop again where records of the cluster
// could not be read.
func (f *Follower) restore(ctx context.Context, src *schema.Source, git Git, commit schema.Commit) error {
	cand, err := f.judgeAt(ctx, src, git, commit, schema.Overrides{})
	if err != nil {
		return err
	}
	cand.Again = true
	return f.submit(ctx, cand)
}

// goBack hands the last healthy revision to the loop when the applied one failed.
func (f *Follower) goBack(ctx context.Context, src *schema.Source, git Git, commit schema.Commit) error {
	failed, to := settle.GoesBackTo(f.Feed.Snapshot(), src)
	if failed == nil || to.Spec.Commit != commit {
		return nil // it has changed meanwhile: the next look decides
	}
	tree, err := git.Tree(commit, src.Spec.Path)
	if err != nil {
		return follow.Unread(err, follow.TreeRefused, commit)
	}
	cand, err := f.judgeBack(ctx, src.SourceName(), tree)
	if err != nil {
		return err
	}
	cand.RollbackOf = schema.RevisionName(failed.Name)
	return f.submit(ctx, cand)
}

// submit hands a candidate to the loop with the values of its Secrets: nodes may ask
// for them as soon as its round is published. They are held until then, also when nobody
// waits for the round any more.
func (f *Follower) submit(ctx context.Context, cand Candidate) error {
	return f.Loop.Deliver(ctx, cand, f.Vault.Hold(cand.secrets))
}

// Due reports whether something is to be done for what the source was judged last
// although nobody pushed: its applied revision failed and has one to go back to, or one
// that failed is to be judged again.
func Due(r state.Reader, src *schema.Source) bool {
	failed, _ := settle.GoesBackTo(r, src)
	// One that found no way back is tried again at the source's pace.
	return failed != nil && failed.Status.Phase == schema.PhaseFailed || settle.JudgesAgain(r, src)
}

// AwaitDue waits until something is Due for the source, or ctx ends.
func (f *Follower) AwaitDue(ctx context.Context, source schema.SourceName) {
	for {
		_, snap, moved, _ := f.Feed.Since(0)
		if src, ok := state.Source(snap, source); ok {
			if Due(snap, src) {
				return
			}
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}
