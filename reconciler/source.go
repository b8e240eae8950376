package reconciler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/follow"
	"fairlead/reconciler/plan"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Git is what following reads of a source's repository.
type Git interface {
	follow.History
	// Branch is the commit that a branch points at; ok is false where there is no such
	// branch.
	Branch(name string) (commit string, ok bool, err error)
	// Tree lists the files below path at a commit.
	Tree(commit, path string) (schema.Tree, error)
}

// Remote is a source's repository: anything that has commits in an order and trees in
// them can be one.
type Remote interface {
	Git
	// Tip asks where the branch is and makes its commits readable; "" where there is no
	// such branch. A *follow.Trouble says why it cannot be told.
	Tip(ctx context.Context) (string, error)
}

// Loader turns a tree into the objects it asks for, or every diagnostic.
// Rights are what the source may ask for, namespaces those the cluster has from
// elsewhere. The list may be the loader's own and is not changed.
type Loader func(ctx context.Context, source string, tree schema.Tree, spec schema.SourceSpec, rights schema.Rights, namespaces []string) ([]*schema.Desired, schema.Diagnostics)

// Rounds is what a Follower needs of the loop; see Loop.
type Rounds interface {
	Base(ctx context.Context) (Base, error)
	Deliver(ctx context.Context, in Input, settled func()) error
	Post(ctx context.Context, in Input) error
}

// Follower takes commits of sources to the loop.
type Follower struct {
	Loop   Rounds
	Feed   *state.Feed
	Engine *settle.Engine
	Load   Loader
	Vault  *Vault
	Now    func() time.Time

	looking keyedLocks // one look at a source at a time
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
	seen, err := follow.Ways(git, known(src), commit)
	if err != nil {
		return Candidate{}, fmt.Errorf("read trailers: %w", err)
	}
	tree, err := git.Tree(commit, src.Spec.Path)
	if err != nil {
		return Candidate{}, err
	}
	cand, err := f.Judge(ctx, source, tree, follow.Overrides(seen))
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

// judgeAt is Judge of the tree of a commit; a *follow.Trouble says that it cannot be read.
func (f *Follower) judgeAt(ctx context.Context, src *schema.Source, git Git, commit string, overrides schema.Overrides) (Candidate, error) {
	tree, err := git.Tree(commit, src.Spec.Path)
	if err != nil {
		return Candidate{}, follow.Unread(err, follow.TreeRefused, commit)
	}
	return f.Judge(ctx, src.Name, tree, overrides)
}

// candidate is the commit as it was judged last, or judged now.
func (f *Follower) candidate(ctx context.Context, src *schema.Source, git Git, commit string, overrides schema.Overrides) (Candidate, error) {
	f.mu.Lock()
	cand, ok := f.judged[src.Name]
	delete(f.judged, src.Name)
	f.mu.Unlock()
	if ok && cand.Commit.Hash == commit && cand.JudgedUnder == EffectiveRights(f.Feed.Snapshot(), src.Name).String() {
		return cand, nil
	}
	return f.judgeAt(ctx, src, git, commit, overrides)
}

// Look asks the source's repository where its branch is and does what follows from
// it; see package follow. open brings the repository, or a *follow.Trouble. The word
// that the Source has of its repository is told to the loop, and returned: said reports
// whether it is new. pusher tells who pushed a commit, "" where that is not known. The
// error is a *follow.Trouble where people have to do something about the repository.
// A source has one look at a time.
func (f *Follower) Look(ctx context.Context, source string, open func(context.Context) (Remote, error), pusher func(commit string) string) (word SourceTrouble, said bool, err error) {
	// What is due for what runs does not wait for a remote: see Stay.
	remote, tip, err := reach(ctx, open)
	if ctx.Err() != nil {
		return SourceTrouble{}, false, ctx.Err()
	}
	release, lockErr := f.looking.lock(ctx, source)
	if lockErr != nil {
		return SourceTrouble{}, false, lockErr
	}
	defer release()
	src, ok := state.Get[*schema.Source](f.Feed.Snapshot(), "", source)
	if !ok {
		return SourceTrouble{}, false, nil // it is going: the feed says so presently
	}
	observed := ""
	if remote != nil {
		observed, err = f.bring(ctx, src, remote, tip, err, pusher)
	}
	if ctx.Err() != nil || errors.Is(err, ErrStopped) {
		return SourceTrouble{}, false, err
	}
	var trouble *follow.Trouble
	switch {
	case errors.As(err, &trouble):
		word = SourceTrouble{Source: source, Reason: string(trouble.Reason), Message: trouble.Message, Observed: observed}
	case err != nil || observed == "":
		return SourceTrouble{}, false, err
	default:
		word = SourceTrouble{Source: source, Message: where(src.Spec), Observed: observed}
	}
	said, postErr := f.tell(ctx, word)
	return word, said, errors.Join(err, postErr)
}

// reach asks where the branch is; no repository where it cannot be opened.
func reach(ctx context.Context, open func(context.Context) (Remote, error)) (Remote, string, error) {
	remote, err := open(ctx)
	if err != nil {
		return nil, "", err
	}
	tip, err := remote.Tip(ctx)
	return remote, tip, err
}

// bring decides what follows from where the branch is, unless unread says why that is
// not known, and does it; it returns the commit that the branch is at.
func (f *Follower) bring(ctx context.Context, src *schema.Source, remote Remote, tip string, unread error, pusher func(commit string) string) (observed string, err error) {
	k := f.known(src)
	seen := follow.Seen{}
	if unread != nil {
		seen.Trouble = follow.Unread(unread, follow.BadRepository, "")
	} else {
		seen = follow.Ask(remote, k, tip)
	}
	step := follow.Next(k, seen)
	err = f.do(ctx, src, remote, step, pusher)
	if step.Trouble != nil {
		err = errors.Join(step.Trouble, err)
	}
	return step.Observed, err
}

// tell posts how the repository was found unless the Source says so.
func (f *Follower) tell(ctx context.Context, word SourceTrouble) (bool, error) {
	src, ok := state.Get[*schema.Source](f.Feed.Snapshot(), "", word.Source)
	if !ok || word.saidBy(src) {
		return false, nil
	}
	return true, f.Loop.Post(ctx, word)
}

// Stay does what is to be done for what the source was judged last, without asking its
// repository where the branch is.
func (f *Follower) Stay(ctx context.Context, source string, git Git) error {
	release, err := f.looking.lock(ctx, source)
	if err != nil {
		return err
	}
	defer release()
	src, ok := state.Get[*schema.Source](f.Feed.Snapshot(), "", source)
	if !ok {
		return nil
	}
	return f.do(ctx, src, git, follow.Stay(f.known(src)), nil)
}

func where(spec schema.SourceSpec) string {
	if spec.Embedded {
		return "branch " + spec.Branch + " of the embedded remote"
	}
	return "branch " + spec.Branch + " of " + spec.URL
}

// known is what the cluster holds of a source, without what asks for work.
func known(src *schema.Source) follow.Known {
	return follow.Known{Where: where(src.Spec), Path: src.Spec.Path, Applied: src.Status.Applied.Commit, Desired: src.Status.Desired.Commit}
}

// known is what the cluster holds of a source.
func (f *Follower) known(src *schema.Source) follow.Known {
	snapshot := f.Feed.Snapshot()
	k := known(src)
	k.Rejudge = judgedUnderOthers(snapshot, src)
	k.Incomplete = isIncomplete(src)
	k.Locked = f.isLocked(snapshot, src)
	if failed, to := settle.GoesBackTo(snapshot, src); failed != nil {
		k.FallBack = to.Spec.Commit
	}
	return k
}

// do carries a step out.
func (f *Follower) do(ctx context.Context, src *schema.Source, git Git, step follow.Step, pusher func(commit string) string) error {
	if step.Open != "" {
		if err := f.open(ctx, src, git, step.Open); err != nil {
			return fmt.Errorf("open the secrets of %s: %w", src.Name, err)
		}
	}
	if step.Judge != "" {
		return f.advance(ctx, src, git, step, pusher)
	}
	if step.Restore != "" {
		if err := f.restore(ctx, src, git, step.Restore); err != nil {
			return fmt.Errorf("restore the objects that source %s applied: %w", src.Name, err)
		}
	}
	if step.GoBack != "" {
		if err := f.goBack(ctx, src, git, step.GoBack); err != nil {
			return fmt.Errorf("go back to commit %s: %w", schema.ShortCommit(step.GoBack), err)
		}
	}
	return nil
}

// advance hands a commit to the loop.
func (f *Follower) advance(ctx context.Context, src *schema.Source, git Git, step follow.Step, pusher func(commit string) string) error {
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
func (f *Follower) restore(ctx context.Context, src *schema.Source, git Git, commit string) error {
	cand, err := f.judgeAt(ctx, src, git, commit, schema.Overrides{})
	if err != nil {
		return err
	}
	cand.Again = true
	return f.submit(ctx, cand)
}

// goBack hands the last healthy revision to the loop when the applied one failed.
func (f *Follower) goBack(ctx context.Context, src *schema.Source, git Git, commit string) error {
	failed, to := settle.GoesBackTo(f.Feed.Snapshot(), src)
	if failed == nil || to.Spec.Commit != commit {
		return nil // it has changed meanwhile: the next look decides
	}
	cand, err := f.judgeAt(ctx, src, git, commit, schema.Overrides{})
	if err != nil {
		return err
	}
	cand.RollbackOf = failed.Name
	return f.submit(ctx, cand)
}

// submit hands a candidate to the loop with the values of its Secrets: nodes may ask
// for them as soon as its round is published. They are held until then, also when nobody
// waits for the round any more.
func (f *Follower) submit(ctx context.Context, cand Candidate) error {
	return f.Loop.Deliver(ctx, cand, f.Vault.Hold(cand.secrets))
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

// isLocked reports whether the vault does not know a value of one of the source's
// Secrets: after a start.
func (f *Follower) isLocked(r state.Reader, src *schema.Source) bool {
	for obj := range r.BySource(schema.KindSecret, src.Name) {
		if _, ok := f.Vault.Open(obj.(*corev1.Secret)); !ok {
			return true
		}
	}
	return false
}

// open reads the values of a commit's Secrets again. What runs was judged when it was
// applied: rights that are narrower by now, and entries that a later version refuses,
// keep no pod from its Secrets.
func (f *Follower) open(ctx context.Context, src *schema.Source, git Git, commit string) error {
	tree, err := git.Tree(commit, src.Spec.Path)
	if err != nil {
		return follow.Unread(err, follow.TreeRefused, commit)
	}
	tree.Faults, tree.Refused = nil, nil
	return f.turns.take(ctx, src.Name, func(ctx context.Context) error {
		objects, _ := f.Load(ctx, src.Name, tree, src.Spec, schema.AllRights(), foreignNamespaces(f.Feed.Snapshot(), src.Name))
		_, secrets := f.Vault.Seal(objects)
		f.Vault.Hold(secrets)()
		return ctx.Err()
	})
}
