package gittest

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/reconciler"
	"fairlead/reconciler/follow"
	"fairlead/schema"
)

// Subject is a repository under test and the ways to change it.
type Subject struct {
	reconciler.Git
	// Add makes a commit without moving a branch and returns its name.
	Add func(t *testing.T, c Commit) schema.Commit
	// SetBranch lets a branch point at a commit; "" deletes it.
	SetBranch func(t *testing.T, branch string, commit schema.Commit)
	// Lose takes an object away that nobody has read yet.
	Lose func(t *testing.T, hash string)
}

// Contract runs the contract test; fresh makes an empty repository.
func Contract(t *testing.T, fresh func(t *testing.T) Subject) {
	for name, test := range map[string]func(*testing.T, Subject){
		"branches":                    branches,
		"commits":                     commits,
		"a tree":                      trees,
		"outside of a path":           outside,
		"a tree that holds nothing":   emptyTree,
		"a path that is no directory": noDirectory,
		"equal content, equal hash":   hashes,
		"a file that is too large":    tooLarge,
		"what is missing is an error": missing,
		"ancestors":                   ancestors,
		"overrides":                   overrides,
		"overrides without a past":    overridesWithoutPast,
		"a history that is cut off":   cutOff,
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
}

// unknown names an object that no repository has.
var unknown = schema.Commit(strings.Repeat("1", 40))

// at is the n-th second of the tests' time.
func at(n int64) time.Time { return time.Unix(1_700_000_000+n, 0).UTC() }

func branches(t *testing.T, s Subject) {
	want := func(branch string, commit schema.Commit) {
		t.Helper()
		got, ok, err := s.Branch(branch)
		if got != commit || ok != (commit != "") || err != nil {
			t.Errorf("branch %s is at %q, %v, %v, want %q", branch, got, ok, err, commit)
		}
	}
	first := s.Add(t, Commit{Message: "first", Time: at(1)})
	second := s.Add(t, Commit{Message: "second", Time: at(2), Parents: []schema.Commit{first}})
	other := s.Add(t, Commit{Message: "another beginning", Time: at(3)})
	want("main", "")
	s.SetBranch(t, "main", first)
	s.SetBranch(t, "feature/x", first)
	want("main", first)
	s.SetBranch(t, "main", second)
	want("main", second)
	want("feature/x", first)
	want("feature", "")
	s.SetBranch(t, "main", other) // forced
	want("main", other)
	s.SetBranch(t, "main", "")
	want("main", "")
	want("feature/x", first)
}

func commits(t *testing.T, s Subject) {
	first := s.Add(t, Commit{Message: "first", Time: at(1)})
	second := s.Add(t, Commit{
		Message: "a subject\non two lines\n\nwhy\n\nFairlead-Retry: again", Time: at(2), Parents: []schema.Commit{first},
		Files: map[string]string{"a.yaml": "a: 1\n"},
	})
	merge := s.Add(t, Commit{Message: "merge", Time: at(3), Parents: []schema.Commit{second, first}})
	got, err := s.Commit(second)
	if err != nil {
		t.Fatal(err)
	}
	got.Time = got.Time.UTC()
	want := schema.CommitObject{
		// As git names them: equal commits have equal names everywhere.
		Hash: "971aafe0440725a32c7b01779d43414d0dbc3103", Tree: "67d99b5477ce1dd758f39b41a9d3fe122dcd4a91",
		Parents: []schema.Commit{first}, Author: "Ada <ada@example.org>", Subject: "a subject on two lines",
		Message: "a subject\non two lines\n\nwhy\n\nFairlead-Retry: again\n", Time: at(2),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("commit (-want +got):\n%s", diff)
	}
	if got, err := s.Commit(merge); err != nil || !cmp.Equal(got.Parents, []schema.Commit{second, first}) {
		t.Errorf("merge: got %+v, %v", got, err)
	}
	for _, none := range []schema.Commit{unknown, schema.Commit(got.Tree), ""} {
		if c, err := s.Commit(none); err == nil {
			t.Errorf("commit %q: got %+v, want an error", none, c)
		}
	}
}

func paths(tree schema.Tree) []string {
	out := []string{}
	for _, f := range tree.Files {
		out = append(out, f.Path)
	}
	return out
}

func list(t *testing.T, s Subject, commit schema.Commit, root string) schema.Tree {
	t.Helper()
	tree, err := s.Tree(commit, root)
	if err != nil {
		t.Fatalf("tree %s at %q: %v", commit, root, err)
	}
	return tree
}

func trees(t *testing.T, s Subject) {
	files := map[string]string{}
	for _, name := range []string{"a.yaml", "a/b.yaml", "a-b/c.yaml", "a/z/d.yaml", "z.cue"} {
		files[name] = "in " + name + "\n"
	}
	commit := s.Add(t, Commit{Message: "tree", Time: at(1), Files: files})
	for root, want := range map[string][]string{
		".":     {"a-b/c.yaml", "a.yaml", "a/b.yaml", "a/z/d.yaml", "z.cue"},
		"":      {"a-b/c.yaml", "a.yaml", "a/b.yaml", "a/z/d.yaml", "z.cue"},
		"./a/":  {"a/b.yaml", "a/z/d.yaml"},
		"a":     {"a/b.yaml", "a/z/d.yaml"},
		"a/z":   {"a/z/d.yaml"},
		"a/./z": {"a/z/d.yaml"},
	} {
		tree := list(t, s, commit, root)
		if diff := cmp.Diff(want, paths(tree)); diff != "" {
			t.Errorf("files below %q (-want +got):\n%s", root, diff)
		}
		if tree.Commit.Hash != commit || len(tree.Refused) != 0 {
			t.Errorf("below %q: commit %s, refused %v", root, tree.Commit.Hash, tree.Refused)
		}
		for _, f := range tree.Files {
			data, err := f.Open()
			if err != nil || string(data) != files[f.Path] || f.Size != int64(len(data)) {
				t.Errorf("%s: got %q of %d bytes, %v", f.Path, data, f.Size, err)
			}
		}
	}
}

// What stands outside of a source's path is listed a directory at a time.
func outside(t *testing.T, s Subject) {
	commit := s.Add(t, Commit{Message: "tree", Time: at(1), Files: map[string]string{
		"top.yaml": "top\n", "base/a.yaml": "a\n", "base/deep/b.yaml": "b\n", "base/.hidden/c.yaml": "c\n", "overlays/prod/d.yaml": "d\n",
	}})
	if whole := list(t, s, commit, "."); whole.Outside != nil {
		t.Error("something is outside of the whole repository")
	}
	tree := list(t, s, commit, "overlays/prod")
	hidden := s.Add(t, Commit{Message: "tree", Time: at(1), Files: map[string]string{".deploy/base/a.yaml": "a\n", ".deploy/o/b.yaml": "b\n", ".deploy/.x/c.yaml": "c\n", ".other/d.yaml": "d\n"}})
	for dir, want := range map[string]int{".deploy/base": 1, ".deploy/o": 0, ".deploy/.x": 0, ".other": 0, ".deploy": 0} {
		if files, err := list(t, s, hidden, ".deploy/o").Outside.Files(dir); err != nil || len(files) != want {
			t.Errorf("path .deploy/o: %d files of %s, %v; want %d", len(files), dir, err, want)
		}
	}
	for dir, want := range map[string][]string{
		"overlays/prod": nil, "overlays/prod/x": nil,
		".": {"top.yaml"}, "base": {"base/a.yaml"}, "./base/": {"base/a.yaml"}, "base/deep": {"base/deep/b.yaml"},
		"base/.hidden": nil, "base/a.yaml": nil, "nowhere": nil, "..": nil, "../base": nil, "/base": nil, "overlays": nil,
	} {
		files, err := tree.Outside.Files(dir)
		if err != nil {
			t.Errorf("%s: %v", dir, err)
		}
		if diff := cmp.Diff(append([]string{}, want...), paths(schema.Tree{Files: files})); diff != "" {
			t.Errorf("files of %q (-want +got):\n%s", dir, diff)
		}
	}
	if tree.Identity() != tree.Hash {
		t.Errorf("nothing outside was used, and the tree is %s, not %s", tree.Identity(), tree.Hash)
	}
	files, _ := tree.Outside.Files("base")
	if text, err := files[0].Open(); err != nil || string(text) != "a\n" {
		t.Errorf("read %q, %v", text, err)
	}
	tree.Outside.Use(files[0])
	if tree.Identity() == tree.Hash {
		t.Error("what was used outside does not tell trees apart")
	}
}

func emptyTree(t *testing.T, s Subject) {
	const hash = "4b825dc642cb6eb9a060e54bf8d69288fbee4904" // git's name for it
	commit := s.Add(t, Commit{Message: "nothing", Time: at(1)})
	if tree := list(t, s, commit, "."); len(tree.Files) != 0 || tree.Hash != hash || tree.Commit.Tree != hash {
		t.Errorf("got %d files, hash %s, want none and %s", len(tree.Files), tree.Hash, hash)
	}
}

// A source's path that is not there must not look like an empty one.
func noDirectory(t *testing.T, s Subject) {
	commit := s.Add(t, Commit{Message: "tree", Time: at(1), Files: map[string]string{"a/b.yaml": "b\n"}})
	empty := s.Add(t, Commit{Message: "nothing", Time: at(2)})
	for _, c := range []struct {
		commit schema.Commit
		root   string
	}{{commit, "b"}, {commit, "a/b.yaml"}, {commit, "a/c"}, {commit, "A"}, {empty, "a"}} {
		tree, err := s.Tree(c.commit, c.root)
		if !errors.As(err, new(schema.Diagnostics)) || tree.Files != nil {
			t.Errorf("tree at %q: got %v, %v, want diagnostics", c.root, paths(tree), err)
		}
	}
}

func hashes(t *testing.T, s Subject) {
	one := s.Add(t, Commit{Message: "one", Time: at(1), Files: map[string]string{"a/x": "same\n", "a/y": "1\n", "b/x": "same\n"}})
	two := s.Add(t, Commit{Message: "two", Time: at(2), Parents: []schema.Commit{one}, Files: map[string]string{"a/x": "same\n", "a/y": "2\n", "b/x": "same\n"}})
	back := s.Add(t, Commit{Message: "back", Time: at(3), Parents: []schema.Commit{two}, Files: map[string]string{"a/x": "same\n", "a/y": "1\n", "b/x": "same\n"}})
	hash := func(commit schema.Commit, root string) schema.TreeHash { return list(t, s, commit, root).Hash }
	if hash(one, "b") != hash(two, "b") || hash(one, "a") == hash(two, "a") || hash(one, ".") == hash(two, ".") {
		t.Error("a directory's hash does not follow its content")
	}
	if hash(one, ".") != hash(back, ".") || one == back {
		t.Error("equal trees of different commits differ, or their commits do not")
	}
	if tree := list(t, s, one, "."); tree.Hash != tree.Commit.Tree {
		t.Errorf("the whole tree is %s, its commit says %s", tree.Hash, tree.Commit.Tree)
	}
	file := func(commit schema.Commit, i int) string { return list(t, s, commit, ".").Files[i].Hash }
	if file(one, 0) != file(one, 2) || file(one, 1) == file(two, 1) || file(one, 0) != file(two, 0) {
		t.Error("a file's hash does not follow its content")
	}
}

func tooLarge(t *testing.T, s Subject) {
	commit := s.Add(t, Commit{Message: "big", Time: at(1), Files: map[string]string{
		"ok.yaml": strings.Repeat("#", schema.MaxFileSize), "big.yaml": strings.Repeat("#", schema.MaxFileSize+1),
		"big.bin": strings.Repeat("0", schema.MaxFileSize+1), "o/k.yaml": "k\n", "b/big.yaml": strings.Repeat("#", schema.MaxFileSize+1),
	}})
	outside := list(t, s, commit, "o").Outside
	for name, want := range map[string]bool{"b/big.yaml": true, "big.yaml": true, "b/big.yaml/x": true, "b": false, "b/none.yaml": false, "ok.yaml": false, "../x": false, ".": false} {
		if d, got := outside.Withheld(name); got != want || got && (d.Message == "" || !strings.HasPrefix(name, d.Path)) {
			t.Errorf("%s is withheld: %v, %v; want %v", name, got, d, want)
		}
	}
	if told := outside.Told(); len(told) != 2 {
		t.Errorf("told of what is withheld: %v", told)
	}
	tree := list(t, s, commit, ".")
	tree.Refused = slices.DeleteFunc(tree.Refused, func(d schema.Diagnostic) bool { return d.Path == "b/big.yaml" })
	if diff := cmp.Diff([]string{"big.bin", "o/k.yaml", "ok.yaml"}, paths(tree)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if text, err := tree.Files[0].Open(); err == nil {
		t.Errorf("read %d bytes of a file that is too large", len(text))
	}
	if len(tree.Refused) != 1 || tree.Refused[0].Position.Path != "big.yaml" || !tree.Refused.HasErrors() {
		t.Errorf("refused: %v, want an error at big.yaml", tree.Refused)
	}
}

// "Could not load" is never "empty" (S3).
func missing(t *testing.T, s Subject) {
	files := func(n string) map[string]string {
		return map[string]string{"top-" + n: n + "\n", "a/b-" + n: "b" + n + "\n"}
	}
	blob := func(content string) string { return name("blob", content) }
	model := New()
	for what, lose := range map[string]func(n string, commit schema.Commit) string{
		"the commit":     func(_ string, commit schema.Commit) string { return string(commit) },
		"the whole tree": func(n string, _ schema.Commit) string { return string(model.tree(files(n))) },
		"a directory": func(n string, _ schema.Commit) string {
			return string(model.tree(map[string]string{"b-" + n: "b" + n + "\n"}))
		},
		"a file":        func(n string, _ schema.Commit) string { return blob("b" + n + "\n") },
		"a file on top": func(n string, _ schema.Commit) string { return blob(n + "\n") },
	} {
		commit := s.Add(t, Commit{Message: what, Time: at(1), Files: files(what)})
		s.SetBranch(t, "main", commit)
		s.Lose(t, lose(what, commit))
		tree, err := s.Tree(commit, ".")
		if err == nil {
			t.Errorf("%s is lost: the tree has %v, want an error", what, paths(tree))
		}
		if errors.As(err, new(schema.Diagnostics)) {
			t.Errorf("%s is lost: got %v, which blames the user's files", what, err)
		}
		if tip, ok, err := s.Branch("main"); tip != commit || !ok || err != nil {
			t.Errorf("%s is lost: the branch is at %q, %v, %v", what, tip, ok, err)
		}
	}
	if _, err := s.Tree(unknown, "."); err == nil {
		t.Error("the tree of an unknown commit was read")
	}
}

func ancestors(t *testing.T, s Subject) {
	root := s.Add(t, Commit{Message: "root", Time: at(1)})
	left := s.Add(t, Commit{Message: "left", Time: at(2), Parents: []schema.Commit{root}})
	right := s.Add(t, Commit{Message: "right", Time: at(3), Parents: []schema.Commit{root}})
	merge := s.Add(t, Commit{Message: "merge", Time: at(4), Parents: []schema.Commit{left, right}})
	stranger := s.Add(t, Commit{Message: "stranger", Time: at(5)})
	for _, c := range []struct {
		a, b schema.Commit
		want bool
	}{
		{root, root, true}, {root, merge, true}, {left, merge, true}, {right, merge, true},
		{merge, root, false}, {left, right, false}, {stranger, merge, false}, {root, stranger, false}, {unknown, merge, false},
	} {
		if got, err := s.IsAncestor(c.a, c.b); got != c.want || err != nil {
			t.Errorf("%s before %s: got %v, %v, want %v", c.a, c.b, got, err, c.want)
		}
	}
	if got, err := s.IsAncestor(root, unknown); err == nil {
		t.Errorf("before an unknown commit: got %v, want an error", got)
	}
}

// lifted is what is lifted on the way to tip.
func lifted(t *testing.T, s Subject, applied, judged schema.Commit, tip schema.Commit) schema.Overrides {
	t.Helper()
	seen, err := follow.Ways(s, follow.Known{Applied: applied, Desired: judged}, tip)
	if err != nil {
		t.Fatalf("overrides: %v", err)
	}
	return follow.Overrides(seen)
}

// unread reports whether the way to tip cannot be read.
func unread(s Subject, applied, judged, tip schema.Commit) bool {
	_, err := follow.Ways(s, follow.Known{Applied: applied, Desired: judged}, tip)
	return err != nil
}

func overrides(t *testing.T, s Subject) {
	add := func(n int64, message string, parents ...schema.Commit) schema.Commit {
		return s.Add(t, Commit{Message: message, Time: at(n), Parents: parents})
	}
	root := add(1, "root\n\nFairlead-Allow-Prune: 90\nFairlead-Retry: root")
	applied := add(2, "applied\n\nFairlead-Allow-Prune: 70\nFairlead-Retry: applied", root)
	prune := add(3, "prune\n\nbody\n\nSigned-off-by: Ada <ada@example.org>\nfairlead-allow-prune: 7", applied)
	judged := add(4, "judged\n\nFairlead-Allow-Prune: 3\nFairlead-Retry: the registry is back", prune)
	plain := add(5, "plain", judged)
	for _, c := range []struct {
		what  string
		since schema.Commit
		last  schema.Commit
		want  schema.Overrides
	}{
		{"since the applied commit", applied, judged, schema.Overrides{AllowPrune: 7}},
		{"a retry since the one judged", applied, prune, schema.Overrides{AllowPrune: 7, Retry: "the registry is back"}},
		{"nothing since", plain, plain, schema.Overrides{}},
		{"the tip's own, where the past is not known", unknown, unknown, schema.Overrides{}},
	} {
		if got := lifted(t, s, c.since, c.last, plain); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.what, got, c.want)
		}
	}
	for message, why := range map[string]string{
		"Fairlead-Allow-Prune: 5":                            "a subject is no trailer",
		"s\n\nFairlead-Allow-Prune: 5\n\nmore text below it": "a paragraph in between has no trailers",
		"s\n\nFairlead-Allow-Prune: many":                    "a prune is a number",
	} {
		tip := add(6, message, plain)
		if got := lifted(t, s, plain, plain, tip); got.AllowPrune != 0 {
			t.Errorf("%s: got %+v of %q", why, got, message)
		}
	}
	// A merge brings what its side says, but not what was applied before.
	side := add(7, "side\n\nFairlead-Allow-Prune: 11", applied)
	merge := add(8, "merge", plain, side)
	if got := lifted(t, s, judged, judged, merge); got != (schema.Overrides{AllowPrune: 11}) {
		t.Errorf("a merge: got %+v", got)
	}
}

func overridesWithoutPast(t *testing.T, s Subject) {
	first := s.Add(t, Commit{Message: "first\n\nFairlead-Allow-Prune: 90", Time: at(1)})
	tip := s.Add(t, Commit{Message: "tip\n\nFairlead-Allow-Prune: 4\nFairlead-Retry: why not", Time: at(2), Parents: []schema.Commit{first}})
	other := s.Add(t, Commit{Message: "rewritten", Time: at(3)})
	want := schema.Overrides{AllowPrune: 4, Retry: "why not"}
	for _, old := range []schema.Commit{"", other, unknown} {
		if got := lifted(t, s, old, old, tip); got != want {
			t.Errorf("since %q: got %+v, want the tip's own, %+v", old, got, want)
		}
	}
	if !unread(s, "", "", unknown) {
		t.Error("the way to an unknown commit was read")
	}
}

// A commit that cannot be read may be the one that allows what comes after: to
// judge without it would hold a revision that its author has cleared.
func cutOff(t *testing.T, s Subject) {
	root := s.Add(t, Commit{Message: "root", Time: at(1)})
	allows := s.Add(t, Commit{Message: "allows\n\nFairlead-Allow-Prune: 4", Time: at(2), Parents: []schema.Commit{root}})
	tip := s.Add(t, Commit{Message: "tip", Time: at(3), Parents: []schema.Commit{allows}})
	s.Lose(t, string(allows))
	if !unread(s, root, "", tip) {
		t.Error("the way from the root was read")
	}
	if !unread(s, "", root, tip) {
		t.Error("the way from the root, judged last, was read")
	}
	if got, err := s.IsAncestor(root, tip); err == nil {
		t.Errorf("root before tip: got %v, want an error", got)
	}
	if unread(s, "", "", tip) {
		t.Error("without a past, the way is the tip")
	}
}
