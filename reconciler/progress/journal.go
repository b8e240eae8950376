package progress

import (
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Fate is what became of a commit, as the master's log tells it.
type Fate struct {
	Revision *schema.Revision
	Phase    schema.PhaseRecord
	Bad      bool // it is not as one would have it
}

// told are the phases of a revision that are told, and whether they are bad: what comes
// between them says nothing by itself.
var told = map[schema.Phase]bool{
	schema.PhaseRollingOut: false,
	schema.PhaseHealthy:    false,
	schema.PhaseSuperseded: false,
	schema.PhaseInvalid:    true,
	schema.PhaseHeld:       true,
	schema.PhaseStalled:    true,
	schema.PhaseFailed:     true,
	schema.PhaseRolledBack: true,
}

// Fates are what a change of the cluster made of a commit; none unless a revision
// changed.
func Fates(c state.Change) (out []Fate) {
	rev, ok := c.New.(*schema.Revision)
	if !ok {
		return nil
	}
	for _, p := range entered(c) {
		if bad, ok := told[p.Name]; ok {
			out = append(out, Fate{rev, p, bad})
		}
	}
	return out
}

// entered are the phases that a change of a revision added. One that is seen anew
// begins anew.
func entered(c state.Change) []schema.PhaseRecord {
	phases := c.New.(*schema.Revision).Status.Phases
	old, ok := c.Old.(*schema.Revision)
	if !ok {
		return phases
	}
	same := 0
	for same < min(len(phases), len(old.Status.Phases)) && phases[same] == old.Status.Phases[same] {
		same++
	}
	return phases[same:]
}
