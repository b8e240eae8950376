package reconciler

import (
	"slices"

	"fairlead/reconciler/health"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// judgedUnderOthers reports whether what Git asks for was judged under other rights
// than those in force. What a version that knew no rights judged stays as it is until
// the next commit.
func judgedUnderOthers(r state.Reader, src *schema.Source) bool {
	under := src.Status.JudgedUnder
	return under != "" && under != settle.JudgedUnder(r, src.SourceName())
}

// waitsForOthers reports whether what Git asks for was refused for nothing but what other
// sources have or do not have. It is judged again at every look: whoever gives something
// back does not know who waits for it.
func waitsForOthers(r state.Reader, src *schema.Source) bool {
	rev, ok := health.Asked(r, src)
	return ok && rev.Status.Phase == schema.PhaseInvalid && schema.Diagnostics(rev.Status.Diagnostics).WaitForOthers()
}

// untilOthersChange is said behind why a tree is refused.
func untilOthersChange(bad schema.Diagnostics) string {
	if !bad.WaitForOthers() {
		return ""
	}
	return "; it is judged again by itself when that has changed"
}

// staysAsJudged reports whether judging a revision again changes nothing: it is what
// runs and there is nothing to say of it, it has failed and that stands, or it is refused
// for what it was refused for: totals that move while it waits keep their first text.
func staysAsJudged(r state.Reader, src *schema.Source, changes int, diags schema.Diagnostics) bool {
	rev, ok := state.Revision(r, schema.RevisionOf(src.SourceName(), src.Status.Desired.Commit))
	if !ok {
		return false
	}
	switch rev.Status.Phase {
	case schema.PhaseFailed, schema.PhaseRolledBack:
		return !settle.JudgesAgain(r, src)
	case schema.PhaseRollingOut, schema.PhaseStalled, schema.PhaseHealthy:
		return changes == 0 && !diags.HasErrors() && src.Status.Applied == src.Status.Desired
	case schema.PhaseInvalid:
		return slices.EqualFunc(diags.Fit(), rev.Status.Diagnostics, schema.Diagnostic.Alike)
	}
	return false
}
