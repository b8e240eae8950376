package gittest_test

import (
	"errors"
	"testing"

	"fairlead/reconciler/gittest"
	"fairlead/schema"
)

func TestFakeKeepsTheContract(t *testing.T) {
	gittest.Contract(t, func(*testing.T) gittest.Subject {
		f := gittest.New()
		return gittest.Subject{
			Git: f,
			Add: func(_ *testing.T, c gittest.Commit) schema.Commit { return f.Add(c) },
			SetBranch: func(_ *testing.T, branch string, commit schema.Commit) {
				if commit == "" {
					f.DeleteBranch(branch)
				} else {
					f.SetBranch(branch, commit)
				}
			},
			Lose: func(_ *testing.T, hash string) { f.Lose(hash) },
		}
	})
}

// A repository that cannot be reached says so to every question, and is whole
// again afterwards.
func TestUnreachable(t *testing.T) {
	f := gittest.New()
	commit := f.Add(gittest.Commit{Message: "first", Files: map[string]string{"a.yaml": "a\n"}})
	f.SetBranch("main", commit)
	tree, err := f.Tree(commit, ".")
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("no route to host")
	ask := func() []error {
		_, _, branch := f.Branch("main")
		_, read := f.Commit(commit)
		_, listed := f.Tree(commit, ".")
		_, opened := tree.Files[0].Open()
		_, between := f.CommitsBetween("", commit, 1)
		_, before := f.IsAncestor(commit, commit)
		return []error{branch, read, listed, opened, between, before}
	}
	f.Fail(gone)
	for i, err := range ask() {
		if !errors.Is(err, gone) {
			t.Errorf("question %d: got %v, want %v", i, err, gone)
		}
	}
	f.Fail(nil)
	for i, err := range ask() {
		if err != nil {
			t.Errorf("question %d, reachable again: %v", i, err)
		}
	}
}
