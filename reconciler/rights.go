package reconciler

import (
	"slices"

	"fairlead/reconciler/health"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// maxSourceDepth bounds how deep sources declare sources: a chain that is longer, or
// goes round in a circle, has no rights.
const maxSourceDepth = 32

// EffectiveRights are those of a source that are in force: what it names itself, and
// every source above it, each declared by the next, to the master's configuration. Who
// is narrowed narrows all below. A source that is declared by none that is there has
// at most what one that names nothing has.
func EffectiveRights(r state.Reader, source schema.SourceName) schema.Rights {
	rights := schema.AllRights()
	for range maxSourceDepth {
		src, ok := state.Source(r, source)
		if !ok {
			narrow := schema.DefaultSourceSpec(schema.SourceSpec{})
			return rights.And(narrow.Rights())
		}
		rights = rights.And(src.Spec.Rights())
		if source = schema.SourceOf(src); source == "" {
			return rights
		}
	}
	return schema.Rights{PodSecurity: schema.RestrictedLevel}
}

// judgedUnderOthers reports whether what Git asks for was judged under other rights
// than those in force. What a version that knew no rights judged stays as it is until
// the next commit.
func judgedUnderOthers(r state.Reader, src *schema.Source) bool {
	under := src.Status.JudgedUnder
	return under != "" && under != EffectiveRights(r, src.SourceName()).String()
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
// for what it was refused for.
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
		return slices.Equal(diags.Fit(), rev.Status.Diagnostics)
	}
	return false
}
