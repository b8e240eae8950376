// Package gittest holds repositories that the loop's followers read to one
// contract, and has a fake in memory that keeps it and can be made to lie. Tests
// and the simulator import it.
package gittest

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"fairlead/reconciler"
	"fairlead/schema"
)

// Commit is a commit to make. Equal ones have equal names, on any machine.
type Commit struct {
	Parents []schema.Commit
	Author  string            // "Name <mail>"; default Ada
	Message string            // trailers in a last paragraph of nothing else
	Time    time.Time         // in UTC, whole seconds count
	Files   map[string]string // the whole tree, content by slash-separated path
}

// defaultAuthor is who commits when nobody is named.
const defaultAuthor = "Ada <ada@example.org>"

// Fake is a repository in memory whose objects have git's own names
// (gitformat: loose objects, SHA-1). It may be used by many goroutines.
type Fake struct {
	mu       sync.Mutex
	branches map[string]schema.Commit
	commits  map[schema.Commit]schema.CommitObject
	trees    map[schema.TreeHash][]entry
	blobs    map[string]string
	lost     map[string]bool
	err      error
}

// entry is one entry of a tree object.
type entry struct {
	name string
	hash string
	dir  bool
}

var _ reconciler.Git = (*Fake)(nil)

// New is a repository without commits.
func New() *Fake {
	return &Fake{
		branches: map[string]schema.Commit{}, commits: map[schema.Commit]schema.CommitObject{},
		trees: map[schema.TreeHash][]entry{}, blobs: map[string]string{}, lost: map[string]bool{},
	}
}

// ErrNotFound is a commit, tree or blob that the repository does not have.
var ErrNotFound = errors.New("not in the repository")

// Add makes a commit; no branch moves. Its parents need not be there.
func (f *Fake) Add(c Commit) schema.Commit {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.Author == "" {
		c.Author = defaultAuthor
	}
	if c.Message != "" && !strings.HasSuffix(c.Message, "\n") {
		c.Message += "\n"
	}
	out := schema.CommitObject{
		Tree: f.tree(c.Files), Parents: slices.Clone(c.Parents), Author: c.Author,
		Subject: subject(c.Message), Message: c.Message, Time: c.Time.Truncate(time.Second),
	}
	var text strings.Builder
	fmt.Fprintf(&text, "tree %s\n", out.Tree)
	for _, p := range c.Parents {
		fmt.Fprintf(&text, "parent %s\n", p)
	}
	for _, role := range []string{"author", "committer"} {
		fmt.Fprintf(&text, "%s %s %d +0000\n", role, c.Author, c.Time.Unix())
	}
	fmt.Fprintf(&text, "\n%s", c.Message)
	out.Hash = schema.Commit(name("commit", text.String()))
	f.commits[out.Hash] = out
	return out.Hash
}

// tree adds the tree object of files, with those below it. Git's order has a
// directory stand where its name with a slash would.
func (f *Fake) tree(files map[string]string) schema.TreeHash {
	below := map[string]map[string]string{}
	var entries []entry
	for file, content := range files {
		dir, rest, nested := strings.Cut(file, "/")
		if nested {
			if below[dir] == nil {
				below[dir] = map[string]string{}
			}
			below[dir][rest] = content
			continue
		}
		hash := name("blob", content)
		f.blobs[hash] = content
		entries = append(entries, entry{name: file, hash: hash})
	}
	for dir, files := range below {
		entries = append(entries, entry{name: dir, hash: string(f.tree(files)), dir: true})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.order(), b.order()) })
	var text strings.Builder
	for _, e := range entries {
		mode := "100644"
		if e.dir {
			mode = "40000"
		}
		raw, err := hex.DecodeString(e.hash)
		if err != nil {
			panic(fmt.Sprintf("gittest: hash %q: %v", e.hash, err))
		}
		fmt.Fprintf(&text, "%s %s\x00%s", mode, e.name, raw)
	}
	hash := schema.TreeHash(name("tree", text.String()))
	f.trees[hash] = entries
	return hash
}

func (e entry) order() string {
	if e.dir {
		return e.name + "/"
	}
	return e.name
}

func name(kind, content string) string {
	sum := sha1.Sum(fmt.Appendf(nil, "%s %d\x00%s", kind, len(content), content))
	return hex.EncodeToString(sum[:])
}

// subject is the first paragraph on one line.
func subject(message string) string {
	first, _, _ := strings.Cut(strings.TrimLeft(message, "\n"), "\n\n")
	return strings.Join(strings.Fields(first), " ")
}

// SetBranch lets a branch point at a commit, whatever it pointed at before: a
// push, or a forced one.
func (f *Fake) SetBranch(branch string, commit schema.Commit) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.branches[branch] = commit
}

// DeleteBranch lets a branch vanish.
func (f *Fake) DeleteBranch(branch string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.branches, branch)
}

// Lose takes a commit, tree or blob away, as a truncated pack, a fetch cut short
// or a bad disk does; everything that leads to it stays.
func (f *Fake) Lose(hash string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost[hash] = true
}

// Find gives back what was lost.
func (f *Fake) Find(hash string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.lost, hash)
}

// Fail lets everything that is asked fail with err, as when nobody reaches the
// repository; nil ends it.
func (f *Fake) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// Branch implements reconciler.Git.
func (f *Fake) Branch(name string) (commit schema.Commit, ok bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return "", false, fmt.Errorf("read branch %s: %w", name, f.err)
	}
	commit, ok = f.branches[name]
	return commit, ok, nil
}

// Commit implements reconciler.Git.
func (f *Fake) Commit(hash schema.Commit) (schema.CommitObject, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.commit(hash)
}

func (f *Fake) commit(hash schema.Commit) (schema.CommitObject, error) {
	c, ok := f.commits[hash]
	switch {
	case f.err != nil:
		return schema.CommitObject{}, fmt.Errorf("read commit %s: %w", hash, f.err)
	case !ok || f.lost[string(hash)]:
		return schema.CommitObject{}, fmt.Errorf("read commit %s: %w", hash, ErrNotFound)
	}
	return c, nil
}

// Tree implements reconciler.Git. A manifest over schema.MaxFileSize is refused by
// name, and another file cannot be opened; a path that is no directory is an error of type schema.Diagnostics.
func (f *Fake) Tree(commit schema.Commit, root string) (schema.Tree, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, hash, prefix, err := f.find(commit, root)
	if err != nil {
		return schema.Tree{}, err
	}
	out := schema.Tree{Commit: c, Hash: hash}
	if prefix != "" {
		out.Outside = schema.NewOutside(prefix, func(dir string) (schema.Tree, error) { return f.listing(commit, dir) })
	}
	if err := f.list(&out, prefix, hash); err != nil {
		return schema.Tree{}, fmt.Errorf("read tree of commit %s: %w", commit, err)
	}
	slices.SortFunc(out.Files, func(a, b schema.File) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// listing is one directory of a commit.
func (f *Fake) listing(commit schema.Commit, dir string) (schema.Tree, error) {
	tree, err := f.Tree(commit, dir)
	if errors.As(err, new(schema.Diagnostics)) {
		return schema.Tree{}, nil
	}
	isBelow := func(name string) bool { return path.Dir(name) != path.Clean(dir) }
	return schema.Tree{
		Files:   slices.DeleteFunc(tree.Files, func(file schema.File) bool { return isBelow(file.Path) }),
		Refused: slices.DeleteFunc(tree.Refused, func(d schema.Diagnostic) bool { return isBelow(d.Path) }),
	}, err
}

// TreeHash implements reconciler.Git.
func (f *Fake) TreeHash(commit schema.Commit, root string) (schema.TreeHash, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, hash, _, err := f.find(commit, root)
	return hash, err
}

// find is the commit, the tree at root, and root as a prefix of paths.
func (f *Fake) find(commit schema.Commit, root string) (c schema.CommitObject, hash schema.TreeHash, prefix string, err error) {
	if c, err = f.commit(commit); err != nil {
		return c, "", "", err
	}
	hash = c.Tree
	for _, part := range strings.FieldsFunc(path.Clean("/"+root), func(r rune) bool { return r == '/' }) {
		entries, err := f.directory(hash)
		if err != nil {
			return c, "", "", err
		}
		prefix = path.Join(prefix, part)
		i := slices.IndexFunc(entries, func(e entry) bool { return e.dir && e.name == part })
		if i < 0 {
			return c, "", "", refuse(prefix, "there is no such directory in commit "+string(commit))
		}
		hash = schema.TreeHash(entries[i].hash)
	}
	return c, hash, prefix, nil
}

func refuse(at, message string) schema.Diagnostics {
	return schema.Diagnostics{{Position: schema.Position{Path: at}, Severity: schema.Error, Message: message}}
}

func (f *Fake) directory(hash schema.TreeHash) ([]entry, error) {
	entries, ok := f.trees[hash]
	if !ok || f.lost[string(hash)] {
		return nil, fmt.Errorf("tree %s: %w", hash, ErrNotFound)
	}
	return entries, nil
}

func (f *Fake) list(out *schema.Tree, prefix string, hash schema.TreeHash) error {
	entries, err := f.directory(hash)
	if err != nil {
		return err
	}
	for _, e := range entries {
		at := path.Join(prefix, e.name)
		if e.dir {
			if err := f.list(out, at, schema.TreeHash(e.hash)); err != nil {
				return err
			}
			continue
		}
		content, err := f.blob(e.hash)
		switch {
		case err != nil:
			return err
		case len(content) > schema.MaxFileSize && !schema.IsManifest(at):
			out.Files = append(out.Files, schema.File{Path: at, Blob: &schema.Blob{Hash: e.hash, Size: int64(len(content)), Open: func() ([]byte, error) {
				return nil, fmt.Errorf("%d bytes, a file has at most %d", len(content), schema.MaxFileSize)
			}}})
			continue
		case len(content) > schema.MaxFileSize:
			out.Refused = append(out.Refused, refuse(at, fmt.Sprintf("%d bytes, a file has at most %d", len(content), schema.MaxFileSize))...)
			continue
		}
		out.Files = append(out.Files, schema.File{Path: at, Blob: &schema.Blob{Hash: e.hash, Size: int64(len(content)), Open: func() ([]byte, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			content, err := f.blob(e.hash)
			return []byte(content), errors.Join(err, f.err)
		}}})
	}
	return nil
}

func (f *Fake) blob(hash string) (string, error) {
	content, ok := f.blobs[hash]
	if !ok || f.lost[hash] {
		return "", fmt.Errorf("blob %s: %w", hash, ErrNotFound)
	}
	return content, nil
}

// IsAncestor implements reconciler.Git.
func (f *Fake) IsAncestor(a, b schema.Commit) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.isAncestor(a, b)
}

func (f *Fake) isAncestor(a, b schema.Commit) (bool, error) {
	if a == b {
		return true, f.err
	}
	reached, err := f.reach(b, a)
	_, ok := reached[a]
	return ok, err
}

// reach is every commit that can be reached from a tip. The search ends early
// where it meets until, which then need not be there.
func (f *Fake) reach(tip, until schema.Commit) (map[schema.Commit]schema.CommitObject, error) {
	out := map[schema.Commit]schema.CommitObject{}
	for todo := []schema.Commit{tip}; len(todo) > 0; {
		hash := todo[0]
		todo = todo[1:]
		if _, seen := out[hash]; seen {
			continue
		}
		if hash == until {
			out[hash] = schema.CommitObject{}
			return out, nil
		}
		c, err := f.commit(hash)
		if err != nil {
			return nil, err
		}
		out[hash] = c
		todo = append(todo, c.Parents...)
	}
	return out, nil
}

// CommitsBetween implements reconciler.Git.
func (f *Fake) CommitsBetween(old, tip schema.Commit, limit int) ([]schema.CommitObject, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	reached, err := f.reach(tip, "")
	if err != nil {
		return nil, err
	}
	if old != "" {
		before, err := f.reach(old, "")
		if err != nil {
			return nil, err
		}
		maps.DeleteFunc(reached, func(hash schema.Commit, _ schema.CommitObject) bool { _, ok := before[hash]; return ok })
	}
	all := slices.SortedFunc(maps.Values(reached), func(a, b schema.CommitObject) int {
		return cmp.Or(b.Time.Compare(a.Time), strings.Compare(string(a.Hash), string(b.Hash)))
	})
	return all[:min(limit, len(all))], nil
}
