package progress

import "fairlead/schema"

// Pushed is what is known of a pushed commit when its push is about to end.
type Pushed struct {
	Name     schema.RevisionName
	Commit   schema.Commit
	Waited   bool             // for the rollout to end
	Source   *schema.Source   // nil where it is gone
	Revision *schema.Revision // nil where it cannot be seen, and then
	Err      error            // why
}

// Last is the last line of the push; "" where that is the verdict on its revision.
func (p Pushed) Last() string {
	switch {
	case p.Err != nil && p.Source != nil && p.Source.Status.Desired.Commit != p.Commit:
		return line("SUPERSEDED %s: it was not judged, the branch is at %s by now; see fairlead status", p.Name, p.Source.Status.Desired.Commit.Short())
	case p.Err != nil:
		return line("FAILED %v", p.Err)
	case !p.Waited && OutcomeOf(p.Source, p.Revision) == UnderWay:
		return line("%s is rolling out; follow it with: fairlead status --wait", p.Name)
	}
	return ""
}
