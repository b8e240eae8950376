package reconciler

import (
	"context"

	"fairlead/reconciler/follow"
	"fairlead/schema"
)

// Git is what following reads of a source's repository.
type Git interface {
	follow.History
	// Branch is the commit that a branch points at; ok is false where there is no such
	// branch.
	Branch(name string) (commit schema.Commit, ok bool, err error)
	// Tree lists the files below path at a commit.
	Tree(commit schema.Commit, path string) (schema.Tree, error)
}

// Remote is a source's repository: anything that has commits in an order and trees in
// them can be one.
type Remote interface {
	Git
	// Tip asks where the branch is and makes its commits readable; "" where there is no
	// such branch. A *follow.Problem says why it cannot be told.
	Tip(ctx context.Context) (schema.Commit, error)
}
