package control

import (
	"slices"
	"time"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// GivenUp is what other sources gave up with a commit that may yet be gone back from,
// and the source of each. It stays theirs until that rollout has ended: who takes it
// would be in the way. Who has it by now has it lawfully, and keeps it.
func GivenUp(r state.Reader, source schema.SourceName) map[string]*schema.Source {
	var out map[string]*schema.Source
	for src := range state.All[*schema.Source](r, "") {
		if src.SourceName() == source || !mayGoBack(r, src) {
			continue
		}
		for _, what := range src.Status.GivenUp {
			if AnotherHas(r, src.SourceName(), what) {
				continue
			}
			if out == nil {
				out = map[string]*schema.Source{}
			}
			out[what] = src
		}
	}
	return out
}

// AnotherHas reports whether an object, a cluster address or a node port, as
// SourceStatus.GivenUp tells it, is now another source's than this one.
func AnotherHas(r state.Reader, source schema.SourceName, what string) bool {
	anothers := func(obj schema.Object) bool {
		return schema.SourceOf(obj) != "" && schema.SourceOf(obj) != source
	}
	if key, ok := schema.ParseKey(what); ok {
		obj := r.Get(key)
		return obj != nil && anothers(obj)
	}
	for obj := range state.Claimants(r, what) {
		if anothers(obj) {
			return true
		}
	}
	return false
}

// mayGoBack reports whether the rollout of what a source applied last is under way, or
// has failed, and there is something to go back to.
func mayGoBack(r state.Reader, src *schema.Source) bool {
	if len(src.Status.GivenUp) == 0 || src.Spec.OnFailure == "hold" {
		return false
	}
	rev, ok := health.Applied(r, src)
	if !ok || !underWay(rev) && rev.Status.Phase != schema.PhaseFailed && !health.LacksWayBack(rev) {
		return false
	}
	return health.GoBackTo(src, revisionsBut(r, src, rev)) != nil
}

// keepGivenUp is how long at least a rollout that stands still keeps what it gave up, the
// source's healthyFor where that is longer. It is what a workload may take by default to
// get on: a rollout that lacks room or images for longer waits for people, and nobody
// else is to wait with it. One that moves is bounded by its own deadlines.
const keepGivenUp = schema.DefaultProgressDeadline

// releaseGivenUp lets others have what a source gave up with the revision that is applied,
// once that has stood still for too long, and returns when that will be.
func releaseGivenUp(c *Context, src *schema.Source, rev *schema.Revision) (wake time.Time) {
	if len(src.Status.GivenUp) == 0 || src.Status.Applied.Commit != rev.Spec.Commit {
		return wake
	}
	since := standsStillSince(rev)
	if since.IsZero() {
		return wake
	}
	if due := since.Add(max(keepGivenUp, health.HealthyFor(src))); due.After(c.Now) {
		return due
	}
	next := state.Edit(src)
	next.Status.GivenUp = nil
	c.Tx.Put(next)
	return wake
}

// standsStillSince is when the rollout first stalled or failed of a revision that is stalled,
// failed or held; zero of any other. One that resumes time and again does not begin anew.
func standsStillSince(rev *schema.Revision) time.Time {
	if rev.Status.Phase != schema.PhaseStalled && rev.Status.Phase != schema.PhaseFailed && !health.LacksWayBack(rev) {
		return time.Time{}
	}
	for _, p := range rev.Status.Phases {
		if p.Name == schema.PhaseStalled || p.Name == schema.PhaseFailed {
			return p.At.Time
		}
	}
	return entered(rev)
}

// revisionsBut are the source's revisions but one.
func revisionsBut(r state.Reader, src *schema.Source, rev *schema.Revision) []*schema.Revision {
	return slices.DeleteFunc(slices.Collect(state.Revisions(r, src.SourceName())), func(other *schema.Revision) bool { return other.Name == rev.Name })
}
