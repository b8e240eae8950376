package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"fairlead/reconciler/health"
	"fairlead/reconciler/plan"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Question is what somebody wants planned without anything being done: a tree,
// what happens to nodes, or both.
type Question struct {
	Source schema.SourceName
	Tree   *schema.Tree // nil for the cluster as it is
	// Against is the revision to compare with instead of what is applied: a
	// commit, its beginning, a revision's name or a branch. It needs a tree.
	Against     string
	Git         Git // of the source, to read Against from; nil where there is none
	Drain, Lose []schema.NodeName
}

// MaxNodesAsked bounds the nodes of one question.
const MaxNodesAsked = 1_000

// ErrBadQuestion is what errors of Answer wrap that the asker has to correct.
var ErrBadQuestion = errors.New("cannot be planned")

// Answer plans what is asked on the cluster as it is now. Who asks reads, and could
// guess: the values of Secrets are not compared, with the live ones nor with those of
// another revision.
func (f *Follower) Answer(ctx context.Context, q Question) (*plan.Plan, error) {
	if n := len(q.Drain) + len(q.Lose); n > MaxNodesAsked {
		return nil, fmt.Errorf("%w: %d nodes, at most %d may be asked about", ErrBadQuestion, n, MaxNodesAsked)
	}
	base, err := f.Loop.Base(ctx)
	if err != nil {
		return nil, err
	}
	if err := plan.CheckNodes(base.Snapshot, slices.Concat(q.Drain, q.Lose)...); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadQuestion, err)
	}
	cand := plan.Candidate{Drain: q.Drain, Lose: q.Lose}
	if q.Tree != nil {
		cand.Source, cand.Commit = q.Source, q.Tree.Commit.Hash
		if cand.Objects, _, cand.Diagnostics, err = f.read(ctx, base.Snapshot, q.Source, *q.Tree); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadQuestion, err)
		}
		cand.Tree = q.Tree.Identity()
	}
	if q.Against != "" {
		if cand.Against, err = f.against(ctx, base.Snapshot, q); err != nil {
			return nil, err
		}
	}
	secrets := compareNoSecrets(base.Snapshot, &cand)
	p := plan.Compute(f.Engine, base.Snapshot, base.Queue, cand, f.Now())
	p.Uncompared = secrets
	return p, nil
}

func (f *Follower) against(ctx context.Context, r state.Reader, q Question) (*plan.Against, error) {
	if q.Tree == nil {
		return nil, fmt.Errorf("%w: a revision to compare with needs a tree", ErrBadQuestion)
	}
	src, ok := state.Source(r, q.Source)
	if !ok || q.Git == nil {
		return nil, fmt.Errorf("%w: source %q has no repository that can be read", ErrBadQuestion, q.Source)
	}
	commit, err := findCommit(r, q)
	if err != nil {
		return nil, err
	}
	tree, err := q.Git.Tree(commit, src.Spec.Path)
	if err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", ErrBadQuestion, q.Against, err)
	}
	out := &plan.Against{Commit: commit}
	out.Objects, _, out.Diagnostics, err = f.read(ctx, r, q.Source, tree)
	out.Tree = tree.Identity()
	return out, err
}

// findCommit resolves what a user calls a revision: first among those that the
// cluster knows, then as a whole commit hash, then as a branch.
func findCommit(r state.Reader, q Question) (schema.Commit, error) {
	switch found := health.FindRevisions(slices.Collect(state.Revisions(r, q.Source)), q.Against); len(found) {
	case 0:
	case 1:
		return found[0].Spec.Commit, nil
	default:
		return "", fmt.Errorf("%w: %w", ErrBadQuestion, health.SeveralRevisions(q.Against, found))
	}
	if commit, ok, err := q.Git.Branch(q.Against); err == nil && ok {
		return commit, nil
	}
	if c, err := q.Git.Commit(schema.Commit(q.Against)); err == nil {
		return c.Hash, nil
	}
	return "", fmt.Errorf("%w: source %s has no revision, branch or commit %q: see `fairlead history`", ErrBadQuestion, q.Source, q.Against)
}
