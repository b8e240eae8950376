package reconciler

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/plan"
	"fairlead/reconciler/progress"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Git is what the loop's followers read of a repository.
type Git interface {
	// Branch returns the commit a branch points at; ok is false when there is
	// no such branch.
	Branch(name string) (commit string, ok bool, err error)
	Commit(hash string) (schema.Commit, error)
	// Tree lists the files below path at a commit.
	Tree(commit, path string) (schema.Tree, error)
	// Overrides are the guards that the commits up to tip lift.
	Overrides(applied, judged, tip string) (schema.Overrides, error)
}

// Loader turns a tree into the objects it asks for, or every diagnostic.
// Rights are what the source may ask for, namespaces those the cluster has from
// elsewhere. The list may be the loader's own and is not changed.
type Loader func(ctx context.Context, source string, tree schema.Tree, spec schema.SourceSpec, rights schema.Rights, namespaces []string) ([]*schema.Desired, schema.Diagnostics)

// Rounds is what a Follower needs of the loop; see Loop.
type Rounds interface {
	Base(ctx context.Context) (Base, error)
	Submit(ctx context.Context, in Input) error
}

// Follower takes commits of sources to the loop.
type Follower struct {
	Loop   Rounds
	Feed   *state.Feed
	Engine *settle.Engine
	Load   Loader
	Vault  *Vault
	Now    func() time.Time

	syncing keyedLocks // one Sync of a source at a time
	turns   turns

	mu     sync.Mutex
	judged map[string]Candidate // by source: the last one that was judged and not refused
}

// Judge loads, seals and plans a tree. The candidate carries the plan, whose
// verdict and diagnostics say whether it may go ahead.
// It waits for the source's turn.
func (f *Follower) Judge(ctx context.Context, source string, tree schema.Tree, overrides schema.Overrides) (cand Candidate, err error) {
	err = f.turns.take(ctx, source, func(ctx context.Context) (err error) {
		cand, err = f.judge(ctx, source, tree, overrides)
		return err
	})
	return cand, err
}

func (f *Follower) judge(ctx context.Context, source string, tree schema.Tree, overrides schema.Overrides) (Candidate, error) {
	base, err := f.Loop.Base(ctx)
	if err != nil {
		return Candidate{}, err
	}
	objects, secrets, diags, err := f.read(ctx, base.Snapshot, source, tree)
	if err == nil {
		err = ctx.Err() // what was read of it is not all
	}
	if err != nil {
		return Candidate{}, err
	}
	p := plan.Compute(f.Engine, base.Snapshot, base.Queue, plan.Candidate{Source: source, Commit: tree.Commit.Hash, Tree: tree.Hash, Objects: objects, Overrides: overrides, Diagnostics: diags}, f.Now())
	return Candidate{
		Source: source, Commit: tree.Commit, Tree: tree.Hash, Objects: objects, Overrides: overrides, Diagnostics: diags, Plan: p,
		JudgedUnder: EffectiveRights(base.Snapshot, source).String(), secrets: secrets,
	}, nil
}

// read loads and seals a tree as the source would have it in the cluster at base.
func (f *Follower) read(ctx context.Context, base state.Reader, source string, tree schema.Tree) ([]*schema.Desired, Values, schema.Diagnostics, error) {
	src, ok := state.Get[*schema.Source](base, "", source)
	if !ok {
		return nil, nil, nil, fmt.Errorf("there is no source %q", source)
	}
	objects, diags := f.Load(ctx, source, tree, src.Spec, EffectiveRights(base, source), foreignNamespaces(base, source))
	sealed, secrets := f.Vault.Seal(objects)
	return sealed, secrets, diags, nil
}

// foreignNamespaces are the namespaces that do not come from this source.
func foreignNamespaces(r state.Reader, source string) []string {
	var out []string
	for ns := range state.All[*corev1.Namespace](r, "") {
		if schema.OriginOf(ns).Source != source {
			out = append(out, ns.Name)
		}
	}
	return out
}

// JudgeCommit is Judge of a commit in a repository, at the source's path. A
// candidate that may go ahead is remembered: when its commit becomes the
// branch's tip, what was planned here is what the loop gets.
func (f *Follower) JudgeCommit(ctx context.Context, source string, git Git, commit string) (Candidate, error) {
	src, ok := state.Get[*schema.Source](f.Feed.Snapshot(), "", source)
	if !ok {
		return Candidate{}, fmt.Errorf("there is no source %q", source)
	}
	tree, err := git.Tree(commit, src.Spec.Path)
	if err != nil {
		return Candidate{}, err
	}
	overrides, err := git.Overrides(src.Status.Applied.Commit, src.Status.Desired.Commit, commit)
	if err != nil {
		return Candidate{}, fmt.Errorf("read trailers: %w", err)
	}
	cand, err := f.Judge(ctx, source, tree, overrides)
	if err != nil {
		return Candidate{}, err
	}
	if cand.Diagnostics.HasErrors() || cand.Plan.Verdict == plan.Refused {
		return cand, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.judged == nil {
		f.judged = map[string]Candidate{}
	}
	f.judged[source] = cand
	return cand, nil
}

// candidate is the commit as it was judged last, or judged now.
func (f *Follower) candidate(ctx context.Context, source string, git Git, commit string) (Candidate, error) {
	f.mu.Lock()
	cand, ok := f.judged[source]
	delete(f.judged, source)
	f.mu.Unlock()
	if ok && cand.Commit.Hash == commit && cand.JudgedUnder == EffectiveRights(f.Feed.Snapshot(), source).String() {
		return cand, nil
	}
	return f.JudgeCommit(ctx, source, git, commit)
}

// Sync brings the source's branch to the loop if it moved. It returns the commit
// that Git asks for now, "" when the branch does not exist.
func (f *Follower) Sync(ctx context.Context, source string, git Git, pusher string) (string, error) {
	release, err := f.syncing.lock(ctx, source)
	if err != nil {
		return "", err
	}
	defer release()
	src, ok := state.Get[*schema.Source](f.Feed.Snapshot(), "", source)
	if !ok {
		return "", fmt.Errorf("there is no source %q", source)
	}
	if err := f.unlock(ctx, src, git); err != nil {
		return "", err
	}
	tip, ok, err := git.Branch(src.Spec.Branch)
	if err != nil || !ok {
		return "", err
	}
	if src.Status.Desired.Commit == tip && !judgedUnderOthers(f.Feed.Snapshot(), src) {
		if err := f.makeWhole(ctx, src, git); err != nil {
			return "", err
		}
		return tip, f.goBack(ctx, src, git)
	}
	cand, err := f.candidate(ctx, source, git, tip)
	if err != nil {
		return "", err
	}
	cand.Pusher = pusher
	if err := f.submit(ctx, cand); err != nil {
		return "", err
	}
	f.Vault.Forget(f.Feed.Snapshot)
	return tip, nil
}

// makeWhole hands what is applied to the loop again where records of the cluster
// could not be read.
func (f *Follower) makeWhole(ctx context.Context, src *schema.Source, git Git) error {
	if !isIncomplete(src) || src.Status.Applied.Commit == "" {
		return nil
	}
	tree, err := git.Tree(src.Status.Applied.Commit, src.Spec.Path)
	if err != nil {
		return fmt.Errorf("restore the objects that source %s applied: %w", src.Name, err)
	}
	cand, err := f.Judge(ctx, src.Name, tree, schema.Overrides{})
	if err != nil {
		return fmt.Errorf("restore the objects that source %s applied: %w", src.Name, err)
	}
	cand.Again = true
	return f.submit(ctx, cand)
}

// goBack hands the last healthy revision to the loop when the applied one failed.
func (f *Follower) goBack(ctx context.Context, src *schema.Source, git Git) error {
	failed, to := settle.GoesBackTo(f.Feed.Snapshot(), src)
	if failed == nil {
		return nil
	}
	tree, err := git.Tree(to.Spec.Commit, src.Spec.Path)
	if err != nil {
		return fmt.Errorf("go back to %s: %w", to.Name, err)
	}
	cand, err := f.Judge(ctx, src.Name, tree, schema.Overrides{})
	if err != nil {
		return fmt.Errorf("go back to %s: %w", to.Name, err)
	}
	cand.RollbackOf = failed.Name
	return f.submit(ctx, cand)
}

// submit hands a candidate to the loop with the values of its Secrets: nodes may ask
// for them as soon as its round is published.
func (f *Follower) submit(ctx context.Context, cand Candidate) error {
	defer f.Vault.Hold(cand.secrets)()
	return f.Loop.Submit(ctx, cand)
}

// AwaitFailure waits until the source's applied revision failed and has one to go
// back to, or ctx ends.
func (f *Follower) AwaitFailure(ctx context.Context, source string) {
	for {
		_, snap, moved, _ := f.Feed.Since(0)
		if src, ok := state.Get[*schema.Source](snap, "", source); ok {
			if failed, _ := settle.GoesBackTo(snap, src); failed != nil {
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

// unlock reads the applied commit again when the vault does not know a value of
// one of the source's Secrets: after a start. What runs was judged when it was
// applied: rights that are narrower by now, and entries that a later version refuses,
// keep no pod from its Secrets.
func (f *Follower) unlock(ctx context.Context, src *schema.Source, git Git) error {
	known := true
	for obj := range f.Feed.Snapshot().BySource(schema.KindSecret, src.Name) {
		if _, ok := f.Vault.Open(obj.(*corev1.Secret)); !ok {
			known = false
		}
	}
	if known {
		return nil
	}
	tree, err := git.Tree(src.Status.Applied.Commit, src.Spec.Path)
	if err != nil {
		return fmt.Errorf("open secrets of %s: %w", src.Name, err)
	}
	tree.Faults, tree.Refused = nil, nil
	return f.turns.take(ctx, src.Name, func(ctx context.Context) error {
		objects, _ := f.Load(ctx, src.Name, tree, src.Spec, schema.AllRights(), foreignNamespaces(f.Feed.Snapshot(), src.Name))
		_, secrets := f.Vault.Seal(objects)
		f.Vault.Hold(secrets)()
		return ctx.Err()
	})
}

// Follow writes a line to out whenever something of the rollout of revision
// moves, until it ends or ctx does. The last line is the verdict.
func Follow(ctx context.Context, feed *state.Feed, revision string, now func() time.Time, out io.Writer) {
	var story progress.Story
	for {
		_, snap, moved, _ := feed.Since(0)
		rev, ok := state.Get[*schema.Revision](snap, "", revision)
		if !ok {
			fmt.Fprintln(out, "FAILED "+revision+": the revision is not known to the cluster")
			return
		}
		lines, ended := story.Next(snap, rev, now())
		for _, l := range lines {
			fmt.Fprintln(out, l)
		}
		if ended {
			if src, ok := state.Get[*schema.Source](snap, "", rev.Spec.Source); ok {
				fmt.Fprintln(out, progress.Verdict(src, rev))
				return
			}
			fmt.Fprintln(out, "FAILED "+revision+": its source is gone")
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			fmt.Fprintln(out, "FAILED "+revision+": still rolling out; follow it with: fairlead status --wait")
			return
		}
	}
}
