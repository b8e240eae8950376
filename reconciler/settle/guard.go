package settle

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// DefaultPruneLimit is the share of a source's objects that may go in one
// revision, in per cent.
const DefaultPruneLimit = 50

// Prunes counts what a set of changes takes away. What a pruned Namespace or Source had of
// other sources stays where it is: nothing goes with them.
func Prunes(changes []ObjectChange) (n int) {
	for _, ch := range changes {
		if ch.Action == Prune {
			n++
		}
	}
	return n
}

// Hold is why a guard holds a tree. Reason is one of schema.ConditionHeld's, the
// message names the trailer that lifts it.
type Hold struct{ Reason, Message string }

// Guard returns why to hold a tree rather than apply it, nothing if it may go
// ahead: it would take away more than the source allows at once, or everything,
// or it is a tree that failed before.
func Guard(r state.Reader, src *schema.Source, tree schema.TreeHash, desired int, changes []ObjectChange, o schema.Overrides) []Hold {
	var holds []Hold
	if hold, ok := guardPrune(r, src, desired, changes, o); ok {
		holds = append(holds, hold)
	}
	if rev := quarantined(r, src.SourceName(), tree); rev != nil && o.Retry == "" {
		holds = append(holds, Hold{schema.ReasonQuarantined, fmt.Sprintf("this tree failed before, as revision %s: change it, or commit with the trailer \"%s: <why>\"", rev.Name, schema.TrailerRetry)})
	}
	return holds
}

// Messages are what holds say, in their order.
func Messages(holds []Hold) []string {
	var out []string
	for _, h := range holds {
		out = append(out, h.Message)
	}
	return out
}

func guardPrune(r state.Reader, src *schema.Source, desired int, changes []ObjectChange, o schema.Overrides) (hold Hold, ok bool) {
	count := Prunes(changes)
	if count == 0 || o.AllowPrune >= count {
		return hold, false
	}
	lift := fmt.Sprintf("to let them go, commit with the trailer \"%s: %d\"", schema.TrailerAllowPrune, count)
	of := health.CountObjects(r, src.SourceName())
	switch limit := pruneLimit(src); {
	case desired == 0:
		return Hold{schema.ReasonTreeEmpty, fmt.Sprintf("the tree is empty, all %d objects of the source would go: %s", count, lift)}, true
	case count*100 > of*limit:
		return Hold{schema.ReasonPruneGuard, fmt.Sprintf("%d of %d objects would go, the limit is %d%%: %s", count, of, limit, lift)}, true
	}
	return hold, false
}

func pruneLimit(src *schema.Source) int {
	n, err := strconv.Atoi(strings.TrimSuffix(src.Spec.PruneLimit, "%"))
	if err != nil {
		return DefaultPruneLimit
	}
	return n
}

// quarantined is the revision that failed with this very tree, nil if none did.
func quarantined(r state.Reader, source schema.SourceName, tree schema.TreeHash) *schema.Revision {
	for rev := range state.Revisions(r, source) {
		if rev.Status.Quarantined && tree != "" && rev.Spec.Tree == tree {
			return rev
		}
	}
	return nil
}

// GoesBackTo is the revision that a source's failed one makes way for, nil when
// nothing failed, the source holds, or there is nothing to go back to. A failed one that
// is held because there was no way back makes way too, as soon as there is one.
func GoesBackTo(r state.Reader, src *schema.Source) (failed, to *schema.Revision) {
	if src.Status.Applied.Commit == "" || src.Spec.OnFailure == "hold" {
		return nil, nil
	}
	rev, ok := health.Applied(r, src)
	if !ok || rev.Status.Phase != schema.PhaseFailed && !health.LacksWayBack(rev) {
		return nil, nil
	}
	to = health.GoBackTo(src, slices.Collect(state.Revisions(r, src.SourceName())))
	if to == nil || to.Name == rev.Name {
		return nil, nil
	}
	return rev, to
}

// JudgesAgain reports whether the revision that Git asks for failed, had that judgement
// taken back and was not handed to the loop since.
func JudgesAgain(r state.Reader, src *schema.Source) bool {
	rev, ok := health.Asked(r, src)
	return ok && rev.Status.Phase == schema.PhaseRolledBack && !rev.Status.Quarantined && rev.Status.JudgedAgain != nil
}
