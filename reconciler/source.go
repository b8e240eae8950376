package reconciler

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
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
// Namespaces are those the cluster has from elsewhere. The list may be the
// loader's own and is not changed.
type Loader func(ctx context.Context, source string, tree schema.Tree, spec schema.SourceSpec, namespaces []string) ([]*schema.Desired, schema.Diagnostics)

// Vault holds Secret values outside the tables. Sealed values are HMAC-SHA256
// (RFC 2104) of namespace, name, key and value under the cluster's seal key:
// equal values stay comparable and nothing else is told.
type Vault struct {
	key []byte

	mu     sync.Mutex
	values map[string][]byte // sealed -> value
	// Sources are judged side by side: what one sealed and has not handed over yet is
	// not for another to forget.
	clock  uint64            // of Use
	sealed map[string]uint64 // when each value was sealed last
	inUse  map[uint64]bool   // the Uses that have not ended, by when they began
}

// NewVault returns a vault that knows no value yet.
func NewVault(key []byte) *Vault {
	return &Vault{key: key, values: map[string][]byte{}, sealed: map[string]uint64{}, inUse: map[uint64]bool{}}
}

// Use keeps what is sealed from now on, whatever is forgotten, until end is called.
func (v *Vault) Use() (end func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.clock++
	began := v.clock
	v.inUse[began] = true
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.inUse, began)
	}
}

// Seal is the objects with sealed copies in place of the Secrets, whose values it
// keeps. What it gets it leaves as it is.
func (v *Vault) Seal(objects []*schema.Desired) []*schema.Desired {
	return v.sealing(objects, func(sum string, value []byte) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.values[sum], v.sealed[sum] = value, v.clock
	})
}

// Compare is Seal for objects that are compared and never delivered: of their
// values it keeps nothing.
func (v *Vault) Compare(objects []*schema.Desired) []*schema.Desired {
	return v.sealing(objects, func(string, []byte) {})
}

func (v *Vault) sealing(objects []*schema.Desired, keep func(sum string, value []byte)) []*schema.Desired {
	out := objects
	for i, d := range objects {
		secret, ok := d.Object.(*corev1.Secret)
		if !ok {
			continue
		}
		if &out[0] == &objects[0] {
			out = slices.Clone(objects)
		}
		sealed := state.Edit(secret)
		for k, value := range secret.Data {
			sum := v.seal(secret, k, value)
			sealed.Data[k] = sum
			keep(string(sum), value)
		}
		fresh := *d
		fresh.Object = sealed
		out[i] = &fresh
	}
	return out
}

func (v *Vault) seal(s *corev1.Secret, key string, value []byte) []byte {
	mac := hmac.New(sha256.New, v.key)
	fmt.Fprintf(mac, "%s/%s/%s\x00", s.Namespace, s.Name, key)
	mac.Write(value)
	return mac.Sum(nil)
}

// Open returns the values of a sealed Secret; false when one is not known, as
// after a start until its source was read again.
func (v *Vault) Open(s *corev1.Secret) (map[string][]byte, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make(map[string][]byte, len(s.Data))
	for k, sum := range s.Data {
		value, ok := v.values[string(sum)]
		if !ok {
			return nil, false
		}
		out[k] = value
	}
	return out, true
}

// Forget drops the values that no Secret of r or of judged has, but for those that
// were sealed since the oldest Use began.
func (v *Vault) Forget(r state.Reader, judged ...[]*schema.Desired) {
	kept := map[string]bool{}
	keep := func(s *corev1.Secret) {
		for _, sum := range s.Data {
			kept[string(sum)] = true
		}
	}
	for s := range state.All[*corev1.Secret](r, "") {
		keep(s)
	}
	for _, objects := range judged {
		for _, d := range objects {
			if s, ok := d.Object.(*corev1.Secret); ok {
				keep(s)
			}
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	oldest := v.clock + 1
	for began := range v.inUse {
		oldest = min(oldest, began)
	}
	for sum := range v.values {
		if !kept[sum] && v.sealed[sum] < oldest {
			delete(v.values, sum)
			delete(v.sealed, sum)
		}
	}
}

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
	objects, diags, err := f.read(ctx, base.Snapshot, source, tree, f.Vault.Seal)
	if err == nil {
		err = ctx.Err() // what was read of it is not all
	}
	if err != nil {
		return Candidate{}, err
	}
	p := plan.Compute(f.Engine, base.Snapshot, base.Queue, plan.Candidate{Source: source, Commit: tree.Commit.Hash, Tree: tree.Hash, Objects: objects, Overrides: overrides, Diagnostics: diags}, f.Now())
	return Candidate{Source: source, Commit: tree.Commit, Tree: tree.Hash, Objects: objects, Overrides: overrides, Diagnostics: diags, Plan: p}, nil
}

// read loads and seals a tree as the source would have it in the cluster at base.
func (f *Follower) read(ctx context.Context, base state.Reader, source string, tree schema.Tree, seal func([]*schema.Desired) []*schema.Desired) ([]*schema.Desired, schema.Diagnostics, error) {
	src, ok := state.Get[*schema.Source](base, "", source)
	if !ok {
		return nil, nil, fmt.Errorf("there is no source %q", source)
	}
	objects, diags := f.Load(ctx, source, tree, src.Spec, foreignNamespaces(base, source))
	return seal(objects), diags, nil
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
	defer f.Vault.Use()()
	cand, err := f.Judge(ctx, source, tree, overrides)
	if err != nil {
		return Candidate{}, err
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
	if ok && cand.Commit.Hash == commit {
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
	end := f.Vault.Use()
	tip, submitted, err := f.sync(ctx, source, git, pusher)
	end()
	if submitted {
		f.forget()
	}
	return tip, err
}

// forget drops the values that neither the cluster nor a candidate needs.
func (f *Follower) forget() {
	f.mu.Lock()
	var judged [][]*schema.Desired
	for _, cand := range f.judged {
		judged = append(judged, cand.Objects)
	}
	f.mu.Unlock()
	f.Vault.Forget(f.Feed.Snapshot(), judged...)
}

func (f *Follower) sync(ctx context.Context, source string, git Git, pusher string) (tip string, submitted bool, err error) {
	src, ok := state.Get[*schema.Source](f.Feed.Snapshot(), "", source)
	if !ok {
		return "", false, fmt.Errorf("there is no source %q", source)
	}
	if err := f.unlock(ctx, src, git); err != nil {
		return "", false, err
	}
	tip, ok, err = git.Branch(src.Spec.Branch)
	if err != nil || !ok {
		return "", false, err
	}
	if src.Status.Desired.Commit == tip {
		if err := f.makeWhole(ctx, src, git); err != nil {
			return "", false, err
		}
		return tip, false, f.goBack(ctx, src, git)
	}
	cand, err := f.candidate(ctx, source, git, tip)
	if err != nil {
		return "", false, err
	}
	cand.Pusher = pusher
	if err := f.Loop.Submit(ctx, cand); err != nil {
		return "", false, err
	}
	return tip, true, nil
}

// makeWhole hands what is applied to the loop again where records of the cluster
// could not be read.
func (f *Follower) makeWhole(ctx context.Context, src *schema.Source, git Git) error {
	if !isIncomplete(src) || src.Status.Applied.Commit == "" {
		return nil
	}
	tree, err := git.Tree(src.Status.Applied.Commit, src.Spec.Path)
	if err != nil {
		return fmt.Errorf("make whole what %s applied: %w", src.Name, err)
	}
	cand, err := f.Judge(ctx, src.Name, tree, schema.Overrides{})
	if err != nil {
		return fmt.Errorf("make whole what %s applied: %w", src.Name, err)
	}
	cand.Again = true
	return f.Loop.Submit(ctx, cand)
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
// one of the source's Secrets: after a start.
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
	return f.turns.take(ctx, src.Name, func(ctx context.Context) error {
		objects, _ := f.Load(ctx, src.Name, tree, src.Spec, foreignNamespaces(f.Feed.Snapshot(), src.Name))
		f.Vault.Seal(objects)
		return ctx.Err()
	})
}

// Follow writes a line to out whenever something of the rollout of revision
// moves, until it ends or ctx does. The last line is the verdict.
func Follow(ctx context.Context, feed *state.Feed, revision string, out io.Writer) {
	told := map[string]bool{}
	say := func(lines ...string) {
		for _, l := range lines {
			if !told[l] {
				told[l] = true
				fmt.Fprintln(out, l)
			}
		}
	}
	for {
		_, snap, moved, _ := feed.Since(0)
		rev, ok := state.Get[*schema.Revision](snap, "", revision)
		if !ok {
			say("FAILED " + revision + ": the revision is not known to the cluster")
			return
		}
		say(progress.Lines(deploymentsOf(snap, rev.Spec.Source))...)
		say(progress.Trouble(podsOf(snap, rev.Spec.Source))...)
		if ended, _ := progress.Ended(rev); ended {
			say(progress.Verdict(rev))
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			say("FAILED " + revision + ": still rolling out; follow it with: fairlead status --wait")
			return
		}
	}
}

func deploymentsOf(r state.Reader, source string) []*appsv1.Deployment {
	var out []*appsv1.Deployment
	for o := range r.BySource(schema.KindDeployment, source) {
		out = append(out, o.(*appsv1.Deployment))
	}
	return out
}

func podsOf(r state.Reader, source string) []*corev1.Pod {
	var out []*corev1.Pod
	for o := range r.BySource(schema.KindPod, source) {
		out = append(out, o.(*corev1.Pod))
	}
	return out
}
