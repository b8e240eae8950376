// Package follow answers what comes next for a source: which commit to judge, what
// of its history lifts a guard, when the branch may not be followed, what stays
// applied, and when to look again. It reads no repository and changes nothing: the
// master's shell and the simulation ask the repository, hand over what it said and
// do what they are told.
package follow

import (
	"fmt"

	"fairlead/schema"
)

// Known is what the cluster holds of a source.
type Known struct {
	Where   string        // for people: "branch main of the embedded remote"
	Path    string        // of the tree in the repository
	Applied schema.Commit // commit that runs, "" before the first
	Desired schema.Commit // commit that was judged last, "" before the first

	Rejudge bool // that was under rights which have changed since, or it failed for what its nodes were at fault
	// Waits is set where the commit judged last was refused for nothing but what other
	// sources have or lack. Unlike Rejudge it stays true after it was judged again.
	Waits      bool
	Locked     bool // values of Secrets that run are not known: the master started
	Incomplete bool // records of what runs could not be read
	// FallBack is the commit to go back to where the applied revision failed, "" where
	// it did not or there is none.
	FallBack schema.Commit
	// NoWayBack is set beside it where going back was tried and something is in the way.
	NoWayBack bool
}

// Seen is how the repository was found.
type Seen struct {
	// Problem says why it could not be asked; nothing else is known then.
	Problem *Problem
	Tip     schema.Commit // commit of the branch, "" where there is no such branch

	// Asked for where Tip is to be judged:
	Commit  schema.CommitObject // Tip's
	Applied Way                 // from the applied commit to Tip
	Desired Way                 // from the commit judged last to Tip
	Path    *Problem            // the source's path is no directory of Tip
}

// Step is what to do next, in the order of its fields; empty fields are nothing to do. A
// commit that is judged and applied takes the place of what GoBack is from.
type Step struct {
	// Problem keeps the source at what is applied until somebody changes it. Where it
	// is nil and the branch exists, Observed is the commit that the branch is at.
	Problem  *Problem
	Observed schema.Commit

	Open    schema.Commit // commit whose Secrets are to be opened again
	Judge   schema.Commit // commit to judge and to hand to the loop
	Restore schema.Commit // commit whose objects are handed over again, to complete them
	GoBack  schema.Commit // commit to return to
	// Overrides are the guards that are lifted for Judge where that is new.
	Overrides schema.Overrides
}

// Next decides. Whatever is wrong with the repository, what is applied stays and is
// looked after.
func Next(k Known, s Seen) Step {
	if s.Problem == nil && s.Tip == "" && k.Desired == "" {
		return Step{} // nobody pushed yet
	}
	step := Stay(k)
	if retries(k) {
		step.Judge = k.Desired
	}
	step.Observed = s.Tip
	if step.Problem = refusal(k, s); step.Problem != nil {
		step.Observed = step.Problem.Observed
	} else if judges(k, s.Tip) {
		step.Judge, step.Overrides = s.Tip, Overrides(s)
		step.Restore = ""
		if s.Tip != k.Desired { // what waits may wait on
			step.GoBack = ""
		}
	}
	return step
}

// Stay is what is to be done at once for what was judged last, whatever the repository
// says. What waits for other sources is left to the next look.
func Stay(k Known) Step {
	var step Step
	if k.Locked {
		step.Open = k.Applied
	}
	if k.Rejudge {
		step.Judge = k.Desired
		return step
	}
	if k.Incomplete {
		step.Restore = k.Applied
	}
	step.GoBack = k.FallBack
	return step
}

// judges reports whether a tip is to be judged: it was not yet, or is to be again.
func judges(k Known, tip schema.Commit) bool {
	return tip != "" && (tip != k.Desired || k.Rejudge || retries(k))
}

// retries reports whether a look judges again what waits for other sources: first comes
// what is to be done for what runs, which it may wait beside for ever. Where that cannot be
// done either, both are tried: what is in the way of one is not in that of the other.
func retries(k Known) bool {
	return k.Waits && !k.Incomplete && (k.FallBack == "" || k.NoWayBack)
}

// refusal says why the branch is not followed to where it is, or nil.
func refusal(k Known, s Seen) *Problem {
	switch {
	case s.Problem != nil:
		return s.Problem
	case s.Tip == "" && k.Desired != "":
		return &Problem{Reason: BranchGone, Message: k.Where + " is gone; what was applied keeps running"}
	case !judges(k, s.Tip):
		return nil
	case !forward(k, s):
		return &Problem{Reason: Rewound, Observed: s.Tip, Message: fmt.Sprintf(
			"the branch is at %s, which does not contain %s, the commit that runs; if that is intended, push a commit with the trailer \"%s: %s\"",
			s.Tip.Short(), k.Applied.Short(), schema.TrailerAllowRewind, k.Applied)}
	}
	return s.Path
}

// forward reports whether the tip may take the place of what runs: it contains the
// applied commit, or a commit on the way to it says that the applied one or the one
// judged last is left.
func forward(k Known, s Seen) bool {
	if k.Applied == "" || s.Tip == k.Desired || s.Applied.Contained {
		return true
	}
	for _, c := range s.Applied.Commits {
		if AllowsRewind(c.Message, k.Applied) || k.Desired != "" && AllowsRewind(c.Message, k.Desired) {
			return true
		}
	}
	return false
}
