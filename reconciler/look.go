package reconciler

import (
	"context"
	"errors"

	"fairlead/reconciler/follow"
	"fairlead/reconciler/health"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Look asks the source's repository where its branch is and does what follows from
// it; see package follow. open brings the repository, or a *follow.Problem. The word
// that the Source has of its repository is told to the loop, and returned: said reports
// whether it is new. pusher tells who pushed a commit, "" where that is not known. The
// error is a *follow.Problem where people have to do something about the repository.
// A source has one look at a time.
func (f *Follower) Look(ctx context.Context, source schema.SourceName, open func(context.Context) (Remote, error), pusher func(commit schema.Commit) string) (word SourceReport, said bool, err error) {
	// What is due for what runs does not wait for a remote: see Stay.
	remote, tip, err := reach(ctx, open)
	if ctx.Err() != nil {
		return SourceReport{}, false, ctx.Err()
	}
	release, lockErr := f.looking.lock(ctx, source)
	if lockErr != nil {
		return SourceReport{}, false, lockErr
	}
	defer release()
	src, ok := state.Source(f.Feed.Snapshot(), source)
	if !ok {
		return SourceReport{}, false, nil // it is going: the feed says so presently
	}
	var observed schema.Commit
	if remote != nil {
		observed, err = f.bring(ctx, src, remote, tip, err, pusher)
	}
	if ctx.Err() != nil || errors.Is(err, ErrStopped) {
		return SourceReport{}, false, err
	}
	var trouble *follow.Problem
	switch {
	case errors.As(err, &trouble):
		word = SourceReport{Source: source, Reason: string(trouble.Reason), Message: trouble.Message, Observed: observed}
	case err != nil || observed == "":
		return SourceReport{}, false, err
	default:
		word = SourceReport{Source: source, Message: where(src.Spec), Observed: observed}
	}
	said, postErr := f.tell(ctx, word)
	return word, said, errors.Join(err, postErr)
}

// reach asks where the branch is; no repository where it cannot be opened.
func reach(ctx context.Context, open func(context.Context) (Remote, error)) (Remote, schema.Commit, error) {
	remote, err := open(ctx)
	if err != nil {
		return nil, "", err
	}
	tip, err := remote.Tip(ctx)
	return remote, tip, err
}

// bring decides what follows from where the branch is, unless unread says why that is
// not known, and does it; it returns the commit that the branch is at.
func (f *Follower) bring(ctx context.Context, src *schema.Source, remote Remote, tip schema.Commit, unread error, pusher func(commit schema.Commit) string) (observed schema.Commit, err error) {
	k := f.known(src)
	seen := follow.Seen{}
	if unread != nil {
		seen.Problem = follow.Unread(unread, follow.BadRepository, "")
	} else {
		seen = follow.Ask(remote, k, tip)
	}
	step := follow.Next(k, seen)
	err = f.do(ctx, src, remote, step, pusher)
	if step.Problem != nil {
		err = errors.Join(step.Problem, err)
	}
	return step.Observed, err
}

// tell posts how the repository was found unless the Source says so.
func (f *Follower) tell(ctx context.Context, word SourceReport) (bool, error) {
	src, ok := state.Source(f.Feed.Snapshot(), word.Source)
	if !ok || word.saidBy(src) {
		return false, nil
	}
	return true, f.Loop.Post(ctx, word)
}

// Stay does what is to be done for what the source was judged last, without asking its
// repository where the branch is.
func (f *Follower) Stay(ctx context.Context, source schema.SourceName, git Git) error {
	release, err := f.looking.lock(ctx, source)
	if err != nil {
		return err
	}
	defer release()
	src, ok := state.Source(f.Feed.Snapshot(), source)
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
	k.Rejudge = judgedUnderOthers(snapshot, src) || settle.JudgesAgain(snapshot, src)
	k.Waits = waitsForOthers(snapshot, src)
	k.Incomplete = isIncomplete(src)
	k.Locked = f.Vault.isLocked(snapshot, src.SourceName())
	if failed, to := settle.GoesBackTo(snapshot, src); failed != nil {
		k.FallBack, k.NoWayBack = to.Spec.Commit, health.LacksWayBack(failed)
	}
	return k
}
