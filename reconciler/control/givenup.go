package control

import (
	"slices"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// GivenUp is what other sources gave up with a commit that may yet be gone back from,
// and the source of each. It stays theirs until that rollout has ended: who takes it
// would be in the way.
func GivenUp(r state.Reader, source schema.SourceName) map[string]*schema.Source {
	var out map[string]*schema.Source
	for src := range state.All[*schema.Source](r, "") {
		if src.SourceName() == source || !mayGoBack(r, src) {
			continue
		}
		for _, what := range src.Status.GivenUp {
			if out == nil {
				out = map[string]*schema.Source{}
			}
			out[what] = src
		}
	}
	return out
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

// revisionsBut are the source's revisions but one.
func revisionsBut(r state.Reader, src *schema.Source, rev *schema.Revision) []*schema.Revision {
	return slices.DeleteFunc(slices.Collect(state.Revisions(r, src.SourceName())), func(other *schema.Revision) bool { return other.Name == rev.Name })
}
