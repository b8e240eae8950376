package gitsource

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/schema"
)

func TestBranchAndCommit(t *testing.T) {
	w := newWork(t)
	w.write("a.yaml", "a: 1\n")
	first := w.commit("first\n\nbody")
	second := w.commit("a subject\non two lines\n\nFairlead-Retry: again")
	repo := open(t, w.bare())

	got, ok, err := repo.Branch("main")
	if err != nil || !ok || got != second {
		t.Errorf("Branch(main) = %s, %v, %v, want %s", got, ok, err, second)
	}
	if _, ok, err := repo.Branch("nope"); ok || err != nil {
		t.Errorf("Branch(nope) = %v, %v, want no branch and no error", ok, err)
	}
	c, err := repo.Commit(second)
	if err != nil {
		t.Fatal(err)
	}
	want := schema.CommitObject{
		Hash: second, Tree: schema.TreeHash(w.git("rev-parse", "HEAD^{tree}")), Parents: []schema.Commit{first},
		Author: "Ada <ada@example.org>", Subject: "a subject on two lines",
		Message: "a subject\non two lines\n\nFairlead-Retry: again\n", Time: time.Unix(firstCommit+2, 0).UTC(),
	}
	c.Time = c.Time.UTC()
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	if _, err := repo.Commit(schema.Commit(c.Tree)); !errors.Is(err, ErrNotFound) {
		t.Errorf("Commit(a tree) = %v, want %v", err, ErrNotFound)
	}
	if _, err := repo.Commit(schema.Commit(strings.Repeat("1", 40))); !errors.Is(err, ErrNotFound) {
		t.Errorf("Commit(unknown) = %v, want %v", err, ErrNotFound)
	}
}

func paths(tree schema.Tree) []string {
	var out []string
	for _, f := range tree.Files {
		out = append(out, f.Path)
	}
	return out
}

func read(t testing.TB, tree schema.Tree, path string) string {
	t.Helper()
	for _, f := range tree.Files {
		if f.Path == path {
			data, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(data)) != f.Size {
				t.Errorf("%s: %d bytes, Size says %d", path, len(data), f.Size)
			}
			return string(data)
		}
	}
	t.Fatalf("no %s in %v", path, paths(tree))
	return ""
}

func tree(t testing.TB, repo *Repo, commit schema.Commit, root string) schema.Tree {
	t.Helper()
	got, err := repo.Tree(commit, root)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestTree(t *testing.T) {
	w := newWork(t)
	for _, name := range []string{"a.yaml", "a/b.yaml", "a-b/c.yaml", "a/z/d.yaml", "z.cue"} {
		w.write(name, name+"\n")
	}
	commit := w.commit("tree")
	repo := open(t, w.bare())

	all := tree(t, repo, commit, ".")
	if diff := cmp.Diff([]string{"a-b/c.yaml", "a.yaml", "a/b.yaml", "a/z/d.yaml", "z.cue"}, paths(all)); diff != "" {
		t.Error(diff)
	}
	if got := read(t, all, "a/z/d.yaml"); got != "a/z/d.yaml\n" {
		t.Errorf("a/z/d.yaml = %q", got)
	}
	if all.Hash != all.Commit.Tree {
		t.Errorf("Hash = %s, want the commit's tree %s", all.Hash, all.Commit.Tree)
	}
	below := tree(t, repo, commit, "./a/")
	if diff := cmp.Diff([]string{"a/b.yaml", "a/z/d.yaml"}, paths(below)); diff != "" {
		t.Error(diff)
	}
	hash, err := repo.TreeHash(commit, "a")
	if want := schema.TreeHash(w.git("rev-parse", "HEAD:a")); err != nil || hash != want || below.Hash != want {
		t.Errorf("TreeHash = %s, %v, Tree.Hash = %s, want %s", hash, err, below.Hash, want)
	}
	for _, missing := range []string{"b", "a.yaml", "a/y", "../a/.."} {
		_, err := repo.Tree(commit, missing)
		var diagnostics schema.Diagnostics
		if missing != "../a/.." && !errors.As(err, &diagnostics) {
			t.Errorf("Tree(%s) = %v, want diagnostics", missing, err)
		}
	}
}

func TestTreeRefusesByName(t *testing.T) {
	w := newWork(t)
	w.write("deploy/ok.yaml", "ok: 1\n")
	w.write("deploy/big.yaml", strings.Repeat("#", schema.MaxFileSize+1))
	if err := os.Symlink("/etc/passwd", filepath.Join(w.dir, "deploy/link.yaml")); err != nil {
		t.Fatal(err)
	}
	first := w.commit("first")
	w.git("update-index", "--add", "--cacheinfo", "160000,"+string(first)+",deploy/sub")
	w.git("commit", "--quiet", "--message", "submodule")
	repo := open(t, w.bare())

	got := tree(t, repo, schema.Commit(w.git("rev-parse", "HEAD")), "deploy")

	if diff := cmp.Diff([]string{"deploy/ok.yaml"}, paths(got)); diff != "" {
		t.Error(diff)
	}
	want := `deploy/big.yaml: 3145729 bytes, a file has at most 3145728 (exclude it, or split it)
deploy/link.yaml: a symlink, which is not followed (write the file itself here)
deploy/sub: a submodule, which is not fetched (copy its files here, or make its repository a source)`
	if diff := cmp.Diff(want, got.Refused.Error()); diff != "" {
		t.Error(diff)
	}
	if !got.Refused.HasErrors() {
		t.Error("refusals are not errors")
	}
}

// handmade writes a tree object that git would not make itself.
func handmade(t *testing.T, w *work, raw string) schema.Commit {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tree")
	if err := os.WriteFile(file, []byte(raw), 0o644); err != nil {
		t.Fatal(err)
	}
	tree := w.git("hash-object", "-t", "tree", "-w", "--literally", file)
	return schema.Commit(w.git("commit-tree", "-m", "by hand", tree))
}

func TestTreeWrittenByHand(t *testing.T) {
	w := newWork(t)
	w.write("x", "x\n")
	w.commit("x")
	var hash [20]byte
	if _, err := hex.Decode(hash[:], []byte(w.git("rev-parse", "HEAD:x"))); err != nil {
		t.Fatal(err)
	}
	entry := func(mode, name string) string { return mode + " " + name + "\x00" + string(hash[:]) }
	repo := open(t, filepath.Join(w.dir, ".git"))

	commit := handmade(t, w, entry("100644", "z")+entry("100644", "a")+entry("100644", "a")+entry("100644", "..")+
		entry("100644", "b\x1b[2J")+entry("100644", "c/d")+entry("100644", "\xff")+entry("100600", "odd"))
	got := tree(t, repo, commit, ".")

	if diff := cmp.Diff([]string{"a", "z"}, paths(got)); diff != "" {
		t.Error(diff)
	}
	want := `.: ".." is not a file's name (rename it, or take it out of the tree)
.: "\xff" is a name that is not UTF-8 (rename it, or take it out of the tree)
.: "b\x1b[2J" is a name with characters that are not seen but change what is (rename it, or take it out of the tree)
.: "c/d" is not a file's name (rename it, or take it out of the tree)
.: its entries are not in git's order, so git does not show what is in it (a tree was written by something other than git)
a: this name is in the directory twice (a tree was written by something other than git)
odd: unknown kind of entry, mode 100600 (a tree was written by something other than git)`
	if diff := cmp.Diff(want, got.Faults.Error()); diff != "" {
		t.Error(diff)
	}
	if _, err := repo.Tree(handmade(t, w, "100644 cut"), "."); err == nil {
		t.Error("a truncated tree was read")
	}
}

// Trees that name each other unfold without end long before they weigh
// anything.
func TestTreeBombIsRefused(t *testing.T) {
	w := newWork(t)
	w.write("d/x", "x\n")
	w.commit("x")
	below := w.git("rev-parse", "HEAD:d")
	for range 12 {
		var list strings.Builder
		for i := range 10 {
			fmt.Fprintf(&list, "040000 tree %s\td%d\n", below, i)
		}
		cmd := w.command(w.dir, "mktree")
		cmd.Stdin = strings.NewReader(list.String())
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		below = strings.TrimSpace(string(out))
	}
	repo := open(t, filepath.Join(w.dir, ".git"))
	_, err := repo.Tree(schema.Commit(w.git("commit-tree", "-m", "bomb", below)), ".")
	var diagnostics schema.Diagnostics
	if !errors.As(err, &diagnostics) {
		t.Errorf("Tree(bomb) = %v, want diagnostics", err)
	}
}

// Git adds packs and takes loose objects away under an open Repo.
func TestSeesWhatGitPacks(t *testing.T) {
	w := newWork(t)
	w.write("a.yaml", "one\n")
	w.commit("one")
	dir := w.bare()
	repo := open(t, dir)
	tip, _, _ := repo.Branch("main")
	old := tree(t, repo, tip, ".")

	for i := range 3 {
		want := fmt.Sprintf("round %d\n", i)
		w.write("a.yaml", want)
		commit := w.commit("next")
		w.in(dir, "-c", "fetch.unpackLimit=1", "fetch", "--quiet", w.dir, "main:main")
		if i == 1 {
			w.in(dir, "gc", "--quiet", "--prune=now")
		}
		if tip, _, err := repo.Branch("main"); err != nil || tip != commit {
			t.Fatalf("round %d: Branch = %s, %v, want %s", i, tip, err, commit)
		}
		if got := read(t, tree(t, repo, commit, "."), "a.yaml"); got != want {
			t.Errorf("round %d: a.yaml = %q, want %q", i, got, want)
		}
	}
	if got := read(t, old, "a.yaml"); got != "one\n" {
		t.Errorf("a tree listed before packing reads %q", got)
	}
}

func TestManyReaders(t *testing.T) {
	w := newWork(t)
	for i := range 200 {
		w.write(fmt.Sprintf("d%d/f%d", i%7, i), fmt.Sprint(i))
	}
	commit := w.commit("many")
	dir := w.bare()
	repo := open(t, dir)
	failures := make(chan error, 8)
	for range cap(failures) {
		go func() {
			got, err := repo.Tree(commit, ".")
			for _, f := range got.Files {
				data, openErr := f.Open()
				if openErr != nil || !strings.HasSuffix(f.Path, "f"+string(data)) {
					err = fmt.Errorf("%s = %q, %v", f.Path, data, openErr)
				}
			}
			failures <- err
		}()
	}
	w.in(dir, "gc", "--quiet", "--prune=now")
	for range cap(failures) {
		if err := <-failures; err != nil {
			t.Error(err)
		}
	}
	if got := read(t, tree(t, repo, commit, "."), "d0/f0"); got != "0" || len(repo.stores[0].packs) != 1 {
		t.Errorf("%q from %d packs, want 0 from the one that gc left", got, len(repo.stores[0].packs))
	}
}

// The same answers as git's own, on histories with merges.
func TestHistoryAsGit(t *testing.T) {
	w := newWork(t)
	w.commit("root")
	emptyTree := w.git("rev-parse", "HEAD^{tree}")
	random := rand.New(rand.NewPCG(7, 7))
	commits := []string{w.git("rev-parse", "HEAD")}
	for range 40 {
		parent, other := max(0, len(commits)-1-random.IntN(4)), random.IntN(len(commits))
		args := []string{"commit-tree", "-m", "c", emptyTree, "-p", commits[parent]}
		if random.IntN(3) == 0 && other != parent {
			args = append(args, "-p", commits[other])
		}
		w.ticks += random.IntN(2)
		commits = append(commits, w.git(args...))
	}
	repo := open(t, filepath.Join(w.dir, ".git"))
	for range 60 {
		a, b := schema.Commit(commits[random.IntN(len(commits))]), schema.Commit(commits[random.IntN(len(commits))])
		_, notAncestor := w.run(w.dir, "merge-base", "--is-ancestor", string(a), string(b))
		if got, err := repo.IsAncestor(a, b); err != nil || got != (notAncestor == nil) {
			t.Errorf("IsAncestor(%s, %s) = %v, %v, git says %v", a, b, got, err, notAncestor == nil)
		}
		want := map[schema.Commit]bool{}
		for _, h := range strings.Fields(w.git("rev-list", string(a)+".."+string(b))) {
			want[schema.Commit(h)] = true
		}
		between, err := repo.CommitsBetween(a, b, 1000)
		if err != nil {
			t.Fatal(err)
		}
		got := map[schema.Commit]bool{}
		for _, c := range between {
			got[c.Hash] = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("CommitsBetween(%s, %s): %s", a, b, diff)
		}
	}
	newest, err := repo.CommitsBetween("", schema.Commit(commits[len(commits)-1]), 2)
	if err != nil || len(newest) != 2 || newest[0].Hash != schema.Commit(commits[len(commits)-1]) {
		t.Errorf("the newest two: %v, %v", newest, err)
	}
}

func TestOpenRefusesWhatIsNoRepository(t *testing.T) {
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("an empty directory was opened")
	}
}

func TestQuarantineIsTheRepositorysOwn(t *testing.T) {
	repo := open(t, newWork(t).bare())
	for _, path := range []string{"/etc", repo.Dir(), filepath.Join(repo.Dir(), "objects/../hooks"), "objects/x"} {
		if _, err := repo.WithQuarantine(path); err == nil {
			t.Errorf("%s was taken for a quarantine", path)
		}
	}
}
