package gitsource

import (
	"context"
	"time"

	"fairlead/reconciler/follow"
	"fairlead/schema"
)

// Followed is a repository one branch of which is followed.
type Followed struct {
	*Repo
	tip func(context.Context) (schema.Commit, error)
}

// Tip is where the branch is, "" where there is no such branch; the error is a
// *follow.Problem while ctx lasts.
func (f Followed) Tip(ctx context.Context) (schema.Commit, error) { return f.tip(ctx) }

// Followed follows a branch of a repository on this machine's disk.
func (r *Repo) Followed(branch string) Followed {
	return Followed{r, func(context.Context) (schema.Commit, error) {
		tip, _, err := r.Branch(branch)
		if err != nil {
			return "", troublef(follow.BadRepository, "%v", err)
		}
		return tip, nil
	}}
}

// Followed follows the outside repository's branch; see Look.
func (u *Upstream) Followed() Followed { return Followed{u.repo, u.Look} }

// Keep calls look at once, when its pace says and soon after a hint, until ctx ends.
func Keep(ctx context.Context, p follow.Pace, hints <-chan struct{}, look func(context.Context) error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var wait time.Duration
		p, wait = p.After(look(ctx))
		gap := time.Now().Add(p.Gap)
		if !pause(ctx, timer, wait, hints) || !pause(ctx, timer, time.Until(gap), nil) {
			return
		}
	}
}

// pause waits for so long or for a hint; false when ctx ended.
func pause(ctx context.Context, timer *time.Timer, wait time.Duration, hints <-chan struct{}) bool {
	timer.Reset(max(0, wait))
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-hints:
	}
	return ctx.Err() == nil
}
