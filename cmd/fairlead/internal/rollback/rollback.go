// Package rollback decides what a rollback goes back to, over what, and what its commit
// says. It asks neither the cluster nor git: the command does, and hands in the answers.
package rollback

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"fairlead/reconciler/health"
	"fairlead/schema"
)

const (
	// Trailer marks the commits that a rollback makes; its value is the commit whose tree
	// they bring back.
	Trailer = "Fairlead-Rollback"
	// MaxUndone is how many undone commits a message names.
	MaxUndone = 20
	// maxWhy bounds the reason in a message, in runes.
	maxWhy = 400
)

// Plan is what goes back to what.
type Plan struct {
	Source   schema.SourceName `json:"source"`
	Followed string            `json:"followed"` // the source's branch
	Path     string            `json:"path"`     // the source's directory
	To       schema.Commit     `json:"to"`       // commit whose tree comes back
	Parent   schema.Commit     `json:"parent"`   // what the followed branch is at
	Why      string            `json:"why"`      // what became of Parent
	// IsKnown says that To is a revision's: a clone without it lacks history.
	IsKnown bool `json:"-"`
}

// New decides what to go back to. A `to` that no revision has is left for git to find;
// "" is the last healthy one.
func New(src *schema.Source, revs []*schema.Revision, to string) (Plan, error) {
	p := Plan{
		Source: src.SourceName(), Followed: src.Spec.Branch, Path: cmp.Or(src.Spec.Path, "."), To: schema.Commit(to),
		Parent: cmp.Or(src.Status.Observed.Commit, src.Status.Desired.Commit),
	}
	if p.Parent == "" {
		return p, fmt.Errorf("source %s has no commit yet: there is nothing to roll back", src.Name)
	}
	revs = slices.DeleteFunc(slices.Clone(revs), func(rev *schema.Revision) bool { return rev.Spec.Source != src.SourceName() })
	p.Why = whatBecameOf(p.Parent, revs)
	if to == "" {
		target := health.GoBackTo(src, slices.DeleteFunc(revs, func(rev *schema.Revision) bool { return rev.Spec.Commit == p.Parent }))
		if target == nil {
			return p, fmt.Errorf("source %s has no healthy revision before %s: name one with --to, see `fairlead history`", src.Name, p.Parent.Short())
		}
		p.To, p.IsKnown = target.Spec.Commit, true
		return p, nil
	}
	switch found := health.FindRevisions(revs, to); len(found) {
	case 0:
	case 1:
		p.To, p.IsKnown = found[0].Spec.Commit, true
	default:
		return p, health.SeveralRevisions(to, found)
	}
	return p, nil
}

// whatBecameOf is the last phase of a commit's revision, with its reason.
func whatBecameOf(commit schema.Commit, revs []*schema.Revision) (why string) {
	for _, rev := range revs {
		if rev.Spec.Commit == commit && len(rev.Status.Phases) > 0 {
			last := rev.Status.Phases[len(rev.Status.Phases)-1]
			why = strings.TrimSuffix(fmt.Sprintf("%s: %s", last.Name, last.Reason), ": ")
		}
	}
	return why
}

// Message names what goes back to what, and why: target is git's line about To, undone
// one for each commit since, the newest first, of which the first MaxUndone are named.
// Git's log shows messages to terminals as they are, with the subjects of others in
// this one.
func (p Plan) Message(target string, undone []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Roll back %s to %s\n\n", p.Source, p.To.Short())
	fmt.Fprintf(&b, "Brings back the files of %s.\n", target)
	if p.Why != "" {
		fmt.Fprintf(&b, "What became of %s: %s\n", p.Parent.Short(), plainLine(p.Why))
	}
	if len(undone) > MaxUndone {
		undone = append(slices.Clone(undone[:MaxUndone]), "- and older ones")
	}
	if len(undone) > 0 {
		fmt.Fprintf(&b, "\nUndone:\n%s\n", strings.Join(undone, "\n"))
	}
	fmt.Fprintf(&b, "\n%s: %s\n", Trailer, p.To)
	return schema.PrintableText(b.String())
}

// plainLine is text as one line of a message.
func plainLine(s string) string {
	runes := []rune(schema.Printable(s))
	if len(runes) > maxWhy {
		return string(runes[:maxWhy]) + "..."
	}
	return string(runes)
}

// RemoteOf is the one of a clone's remotes that a branch without a remote of its own is
// pushed to; "" when that cannot be told.
func RemoteOf(remotes []string) string {
	switch {
	case len(remotes) == 1:
		return remotes[0]
	case slices.Contains(remotes, "origin"):
		return "origin"
	}
	return ""
}
