package reconciler

import (
	"context"
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

// Loader turns a tree into the objects it asks for, or every diagnostic.
// Rights are what the source may ask for, namespaces those the cluster has from
// elsewhere. The list may be the loader's own and is not changed.
type Loader func(ctx context.Context, source schema.SourceName, tree schema.Tree, spec schema.SourceSpec, rights schema.Rights, namespaces []string) ([]*schema.Desired, schema.Diagnostics)

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
	judged map[schema.SourceName]Candidate // by source: the last one that was judged and not refused
}

// Judge loads, seals and plans a tree. The candidate carries the plan, whose
// verdict and diagnostics say whether it may go ahead.
// It waits for the source's turn, and tells what it is doing.
func (f *Follower) Judge(ctx context.Context, source schema.SourceName, tree schema.Tree, overrides schema.Overrides, doing Doing) (cand Candidate, err error) {
	doing.tell("waiting until the trees before it are judged")
	err = f.turns.take(ctx, source, func(ctx context.Context) (err error) {
		cand, err = f.judge(ctx, source, tree, judging{overrides: overrides, doing: doing})
		return err
	})
	return cand, err
}

// judgeBack judges a tree that is gone back to. Its overrides were heard when it came.
func (f *Follower) judgeBack(ctx context.Context, source schema.SourceName, tree schema.Tree) (cand Candidate, err error) {
	err = f.turns.take(ctx, source, func(ctx context.Context) (err error) {
		cand, err = f.judge(ctx, source, tree, judging{back: true})
		return err
	})
	return cand, err
}

// judging is how a tree is judged.
type judging struct {
	overrides schema.Overrides
	doing     Doing
	back      bool // it was applied before and takes a failed one's place
}

// Doing is told what is being done whenever that is something else; nil is for nobody
// who wants to know. It may be called by another goroutine than its owner's.
type Doing func(what string)

func (d Doing) tell(what string) {
	if d != nil {
		d(what)
	}
}

func (f *Follower) judge(ctx context.Context, source schema.SourceName, tree schema.Tree, how judging) (Candidate, error) {
	base, err := f.Loop.Base(ctx)
	if err != nil {
		return Candidate{}, err
	}
	how.doing.tell("reading and checking the tree")
	objects, secrets, diags, err := f.read(ctx, base.Snapshot, source, tree)
	if err == nil {
		err = ctx.Err() // what was read of it is not all
	}
	if err != nil {
		return Candidate{}, err
	}
	diags = append(diags, f.Vault.tooMuch(base.Snapshot, source, objects, secrets)...)
	how.doing.tell(fmt.Sprintf("planning %s", countObjects(len(objects))))
	p := plan.Compute(f.Engine, base.Snapshot, base.Queue, plan.Candidate{Source: source, Commit: tree.Commit.Hash, Tree: tree.Identity(), Objects: objects, Overrides: how.overrides, Back: how.back, Diagnostics: diags}, f.Now())
	return Candidate{
		Source: source, Commit: tree.Commit, Tree: tree.Identity(), Objects: objects, Overrides: how.overrides, Diagnostics: diags, Plan: p,
		JudgedUnder: settle.JudgedUnder(base.Snapshot, source), secrets: secrets,
	}, nil
}

// read loads and seals a tree as the source would have it in the cluster at base.
func (f *Follower) read(ctx context.Context, base state.Reader, source schema.SourceName, tree schema.Tree) ([]*schema.Desired, Values, schema.Diagnostics, error) {
	src, ok := state.Source(base, source)
	if !ok {
		return nil, nil, nil, fmt.Errorf("there is no source %q", source)
	}
	objects, diags := f.Load(ctx, source, tree, src.Spec, settle.EffectiveRights(base, source), NamespacesOutside(base, source))
	sealed, secrets := f.Vault.Seal(objects)
	return sealed, secrets, diags, nil
}

// KnownOutside finds what does not come from a source.
func KnownOutside(r state.Reader, source schema.SourceName) func(schema.Key) schema.Object {
	return func(key schema.Key) schema.Object {
		obj := r.Get(key)
		if obj == nil || schema.SourceOf(obj) == source && !staysUndeclared(r, source, key) {
			return nil
		}
		return obj
	}
}

// staysUndeclared reports whether an object of the source stays when its tree declares it
// no more: a namespace that it would have made for its objects.
func staysUndeclared(r state.Reader, source schema.SourceName, key schema.Key) bool {
	src, ok := state.Source(r, source)
	return ok && key == schema.NamespaceKey(key.Name) && src.Spec.Makes(key.Name)
}

// HolderOutside finds the service of another source than this one that has an address or
// a node port.
func HolderOutside(r state.Reader, source schema.SourceName) func(claim string) schema.Object {
	return func(claim string) schema.Object {
		for obj := range state.Claimants(r, claim) {
			if schema.SourceOf(obj) != source {
				return obj
			}
		}
		return nil
	}
}

// NamespacesOutside are the namespaces that do not come from a source.
func NamespacesOutside(r state.Reader, source schema.SourceName) []string {
	var out []string
	for ns := range state.All[*corev1.Namespace](r, "") {
		if schema.SourceOf(ns) != source {
			out = append(out, ns.Name)
		}
	}
	return out
}

// JudgeCommit is Judge of a commit in a repository, at the source's path. A
// candidate that may go ahead is remembered: when its commit becomes the
// branch's tip, what was planned here is what the loop gets.
func (f *Follower) JudgeCommit(ctx context.Context, source schema.SourceName, git Git, commit schema.Commit, doing Doing) (Candidate, error) {
	doing.tell("reading the commits")
	src, ok := state.Source(f.Feed.Snapshot(), source)
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
	cand, err := f.Judge(ctx, source, tree, follow.Overrides(seen), doing)
	if err != nil {
		return Candidate{}, err
	}
	if cand.Diagnostics.HasErrors() || cand.Plan.Verdict == plan.Refused {
		return cand, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.judged == nil {
		f.judged = map[schema.SourceName]Candidate{}
	}
	f.judged[source] = cand
	return cand, nil
}

// judgeAt is Judge of the tree of a commit; a *follow.Problem says that it cannot be read.
func (f *Follower) judgeAt(ctx context.Context, src *schema.Source, git Git, commit schema.Commit, overrides schema.Overrides) (Candidate, error) {
	tree, err := git.Tree(commit, src.Spec.Path)
	if err != nil {
		return Candidate{}, follow.Unread(err, follow.TreeRefused, commit)
	}
	return f.Judge(ctx, src.SourceName(), tree, overrides, nil)
}

// candidate is the commit as it was judged last, or judged now.
func (f *Follower) candidate(ctx context.Context, src *schema.Source, git Git, commit schema.Commit, overrides schema.Overrides) (Candidate, error) {
	f.mu.Lock()
	cand, ok := f.judged[src.SourceName()]
	delete(f.judged, src.SourceName())
	f.mu.Unlock()
	if ok && cand.Commit.Hash == commit && cand.JudgedUnder == settle.JudgedUnder(f.Feed.Snapshot(), src.SourceName()) {
		return cand, nil
	}
	return f.judgeAt(ctx, src, git, commit, overrides)
}
