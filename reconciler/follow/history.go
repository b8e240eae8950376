package follow

import (
	"errors"
	"fmt"

	"fairlead/schema"
)

// maxCommits bounds how far back trailers are looked for.
const maxCommits = 1_000

// History is what following asks of a repository.
type History interface {
	Commit(hash schema.Commit) (schema.CommitObject, error)
	// IsAncestor reports whether commit a can be reached from commit b; a commit is its
	// own ancestor.
	IsAncestor(a, b schema.Commit) (bool, error)
	// CommitsBetween are at most max commits, the newest, that can be reached from new
	// and not from old, newest first; an empty old is the beginning.
	CommitsBetween(old, new schema.Commit, max int) ([]schema.CommitObject, error)
	// TreeHash names the tree at path of a commit; an error of type schema.Diagnostics
	// says that the commit has no such directory.
	TreeHash(commit schema.Commit, path string) (schema.TreeHash, error)
}

// Way is how a tip relates to an older commit.
type Way struct {
	Contained bool                  // the tip contains it
	Commits   []schema.CommitObject // those that the tip contains and it does not, newest first, at most maxCommits
}

// since are the commits that came after the older one; the tip alone where the tip does
// not contain it.
func (w Way) since(tip schema.CommitObject) []schema.CommitObject {
	if w.Contained {
		return w.Commits
	}
	return []schema.CommitObject{tip}
}

// Ask asks what Next has to know of a branch that is at tip. A history that cannot be
// read is the repository's problem: the commit that lifts a guard may be what is missing.
func Ask(h History, k Known, tip schema.Commit) Seen {
	if !judges(k, tip) {
		return Seen{Tip: tip}
	}
	seen, err := Ways(h, k, tip)
	if err != nil {
		return Seen{Problem: Unread(err, BadRepository, tip)}
	}
	if _, err := h.TreeHash(tip, k.Path); err != nil {
		if seen.Path = Unread(err, PathGone, tip); seen.Path.Reason != PathGone {
			return Seen{Problem: seen.Path}
		}
	}
	return seen
}

// Ways asks for the history between what the cluster holds and a commit.
func Ways(h History, k Known, commit schema.Commit) (seen Seen, err error) {
	seen.Tip = commit
	if seen.Commit, err = h.Commit(commit); err != nil {
		return Seen{}, err
	}
	if seen.Applied, err = way(h, k.Applied, commit); err != nil {
		return Seen{}, err
	}
	if seen.Desired = seen.Applied; k.Desired != k.Applied {
		seen.Desired, err = way(h, k.Desired, commit)
	}
	return seen, err
}

func way(h History, old, tip schema.Commit) (w Way, err error) {
	if old == "" {
		return Way{}, nil
	}
	if w.Contained, err = h.IsAncestor(old, tip); err != nil {
		return Way{}, err
	}
	if _, err := h.Commit(old); err != nil && !w.Contained {
		old = "" // a new cache does not know what was pushed over
	}
	w.Commits, err = h.CommitsBetween(old, tip, maxCommits)
	return w, err
}

// Unread turns an error of reading a commit into the source's problem; refused is the
// reason where the tree itself is at fault.
func Unread(err error, refused Reason, commit schema.Commit) *Problem {
	var diagnostics schema.Diagnostics
	var problem *Problem
	switch {
	case errors.As(err, &problem):
		return problem
	case errors.As(err, &diagnostics) && len(diagnostics) > 0:
		return &Problem{Reason: refused, Message: diagnostics[0].String(), Observed: commit}
	}
	return &Problem{Reason: BadRepository, Message: fmt.Sprint(err), Observed: commit}
}
