package schema

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
)

// Outside is what stands in a repository outside of a source's path. A kustomization
// below the path may use it; what is used is as much a part of the tree as what is below.
// Nil is nothing.
type Outside struct {
	path string // the source's
	list func(dir string) (Tree, error)

	mu       sync.Mutex
	listed   map[string]listing
	used     map[string]string // hash by path
	withheld Diagnostics       // what Withheld told
}

type listing struct {
	tree Tree
	err  error
}

// maxListed bounds the directories that are remembered and looked into for what is
// withheld: repositories have fewer.
const maxListed = 10_000

// NewOutside makes an Outside of a source's path, and of what lists one directory: its
// files, and what stands there and is refused or faulty, without what is in directories
// below it. A directory that does not exist is an empty Tree.
func NewOutside(path string, list func(dir string) (Tree, error)) *Outside {
	return &Outside{path: strings.TrimPrefix(slashed(path), "/"), list: list, used: make(map[string]string), listed: make(map[string]listing)}
}

func slashed(name string) string { return path.Clean("/" + name) }

// Files are those of a directory, named from the repository's root. As below a source's
// path, directories whose name begins with a dot have none, unless the path leads through
// them. What is at the path or below it has none either: that the tree holds, or leaves
// out.
func (o *Outside) Files(dir string) ([]File, error) {
	tree, err := o.directory(path.Clean(dir))
	return tree.Files, err
}

func (o *Outside) directory(dir string) (Tree, error) {
	if o == nil || !o.covers(dir) {
		return Tree{}, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	known, ok := o.listed[dir]
	if !ok {
		known.tree, known.err = o.list(dir)
		if len(o.listed) < maxListed {
			o.listed[dir] = known
		}
	}
	return known.tree, known.err
}

// covers reports whether a directory is one that may be used.
func (o *Outside) covers(dir string) bool {
	if dir == ".." || strings.HasPrefix(dir, "../") || path.IsAbs(dir) || dir == o.path || strings.HasPrefix(dir, o.path+"/") {
		return false
	}
	through := strings.Split(o.path, "/")
	isThrough := true
	for i, part := range strings.Split(dir, "/") {
		isThrough = isThrough && i < len(through) && part == through[i]
		if !isThrough && part != "." && strings.HasPrefix(part, ".") {
			return false
		}
	}
	return true
}

// Withheld says why a file or directory outside is not handed out that the repository
// has; false where it has none of that name.
func (o *Outside) Withheld(name string) (Diagnostic, bool) {
	for at := path.Clean(name); o != nil && at != "." && at != "/"; at = path.Dir(at) {
		o.mu.Lock()
		isFull := len(o.listed) >= maxListed
		o.mu.Unlock()
		tree, err := o.directory(path.Dir(at))
		if isFull || err != nil {
			return Diagnostic{}, false
		}
		for _, d := range slices.Concat(tree.Refused, tree.Faults) {
			if d.Path == at {
				o.mu.Lock()
				defer o.mu.Unlock()
				o.withheld = append(o.withheld, d)
				return d, true
			}
		}
	}
	return Diagnostic{}, false
}

// Told is what Withheld told.
func (o *Outside) Told() Diagnostics {
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Compact(slices.Clone(o.withheld).Sort())
}

// Faults are those of the directories whose files are used, as Tree's Faults are of what
// is below the path.
func (o *Outside) Faults() (out Diagnostics) {
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	dirs := make(map[string]bool)
	for name := range o.used {
		dirs[path.Dir(name)] = true
	}
	for dir := range dirs {
		out = append(out, o.listed[dir].tree.Faults...)
	}
	return out.Sort()
}

// Use notes that the tree is made from a file outside.
func (o *Outside) Use(f File) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.used[f.Path] = f.Hash
}

// Identity tells trees apart as Hash does, by what is used outside of the path too: it
// is complete once the tree was loaded.
func (t *Tree) Identity() TreeHash {
	if t.Outside == nil {
		return t.Hash
	}
	t.Outside.mu.Lock()
	defer t.Outside.mu.Unlock()
	if len(t.Outside.used) == 0 || t.Hash == "" {
		return t.Hash
	}
	h := sha256.New()
	fmt.Fprintln(h, t.Hash)
	for _, name := range slices.Sorted(maps.Keys(t.Outside.used)) {
		fmt.Fprintf(h, "%q %s\n", name, t.Outside.used[name])
	}
	return TreeHash(hex.EncodeToString(h.Sum(nil))[:len(t.Hash)])
}
