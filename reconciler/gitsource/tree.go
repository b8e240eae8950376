package gitsource

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"fairlead/schema"
)

// Bounds on a tree's shape, so that a few objects that name each other cannot
// unfold into an endless walk.
const (
	maxDirectories = schema.MaxFiles
	maxDepth       = 64
)

// Tree lists the files of a commit below root ("." is everything), sorted by
// path; a file is read when it is opened, and stays readable as long as the
// repository keeps it. What is listed must not be changed: unchanged
// directories share it. Dot-directories below root are left out. Symlinks,
// submodules, manifests over schema.MaxFileSize and names that are almost a
// manifest's are in Refused; other files over it are listed and cannot be opened, and what git itself would not write is in Faults, not
// in Files. A root that does not exist or a tree beyond the bounds is an error of
// type schema.Diagnostics.
func (r *Repo) Tree(commit schema.Commit, root string) (schema.Tree, error) {
	c, top, root, err := r.find(commit, root)
	if err != nil {
		return schema.Tree{}, err
	}
	w := walk{repo: r, tree: schema.Tree{Commit: toSchema(c), Hash: schema.TreeHash(top.String()), Faults: misdated(c)}}
	// The last tree's size is a good guess at this one's.
	w.tree.Files = make([]schema.File, 0, r.files.Load()+16)
	if err := w.directory(root, top, 0); err != nil {
		return schema.Tree{}, fmt.Errorf("read tree of commit %s: %w", commit, err)
	}
	r.files.Store(int64(len(w.tree.Files)))
	w.tree.Refused, w.tree.Faults = w.tree.Refused.Sort(), w.tree.Faults.Sort()
	byPath := func(a, b schema.File) int { return strings.Compare(a.Path, b.Path) }
	// Git keeps trees in this order; a tree written by hand may not be.
	if !slices.IsSortedFunc(w.tree.Files, byPath) {
		slices.SortFunc(w.tree.Files, byPath)
	}
	if root != "" {
		w.tree.Outside = schema.NewOutside(root, func(dir string) (schema.Tree, error) { return r.listing(commit, dir) })
	}
	return w.tree, nil
}

// listing is one directory of a commit; empty where there is no such directory.
func (r *Repo) listing(commit schema.Commit, dir string) (schema.Tree, error) {
	_, at, prefix, err := r.find(commit, dir)
	if errors.As(err, new(schema.Diagnostics)) {
		return schema.Tree{}, nil
	}
	if err != nil {
		return schema.Tree{}, err
	}
	d, err := r.directory(prefix, at)
	if err != nil {
		return schema.Tree{}, fmt.Errorf("read tree of commit %s: %w", commit, err)
	}
	out := schema.Tree{Refused: d.refused, Faults: d.faults}
	for _, i := range d.items {
		if !i.isDir() {
			out.Files = append(out.Files, i.file)
		}
	}
	return out, nil
}

// TreeHash is Tree's Hash without listing anything: equal hashes are equal
// trees.
func (r *Repo) TreeHash(commit schema.Commit, root string) (schema.TreeHash, error) {
	_, top, _, err := r.find(commit, root)
	if err != nil {
		return "", err
	}
	return schema.TreeHash(top.String()), nil
}

// find is the commit, the tree object at root, and root as a prefix of paths.
func (r *Repo) find(commit schema.Commit, root string) (rawCommit, plumbing.Hash, string, error) {
	c, err := r.commit(plumbing.NewHash(string(commit)))
	if err != nil {
		return c, plumbing.ZeroHash, "", fmt.Errorf("read commit %s: %w", commit, err)
	}
	root = strings.TrimPrefix(path.Clean("/"+root), "/")
	at, prefix := c.tree, ""
	for _, name := range strings.FieldsFunc(root, func(r rune) bool { return r == '/' }) {
		d, err := r.directory(prefix, at)
		if err != nil {
			return c, at, "", fmt.Errorf("read tree of commit %s: %w", commit, err)
		}
		prefix = path.Join(prefix, name)
		i := slices.IndexFunc(d.items, func(i item) bool { return i.isDir() && i.file.Path == prefix })
		if i < 0 {
			return c, at, "", refuse(prefix, "there is no such directory in commit "+commit.Short(), "the source's path names it")
		}
		if twice := slices.IndexFunc(d.faults, func(f schema.Diagnostic) bool { return f.Path == prefix }); twice >= 0 {
			return c, at, "", d.faults[twice : twice+1]
		}
		at = d.items[i].dir
	}
	return c, at, prefix, nil
}

func refuse(at, message, hint string) schema.Diagnostics {
	if at == "" {
		at = "."
	}
	return schema.Diagnostics{{Position: schema.Position{Path: at}, Severity: schema.Error, Message: message, Hint: hint}}
}

// walk lists a tree, directory by directory.
type walk struct {
	repo        *Repo
	tree        schema.Tree
	entries     int // files and refusals seen
	directories int
	bytes       int64
}

func (w *walk) directory(prefix string, hash plumbing.Hash, depth int) error {
	w.directories++
	if w.directories > maxDirectories || depth > maxDepth {
		return refuse(prefix, fmt.Sprintf("more than %d directories, or deeper than %d", maxDirectories, maxDepth), "")
	}
	d, err := w.repo.directory(prefix, hash)
	if err != nil {
		return err
	}
	w.entries += len(d.items) + len(d.refused) + len(d.faults)
	if w.entries > schema.MaxFiles+w.directories {
		return refuse(prefix, fmt.Sprintf("more than %d files", schema.MaxFiles), "point the source's path at the directory that holds the manifests")
	}
	w.bytes += d.bytes
	if w.bytes > schema.MaxTreeBytes {
		return refuse(prefix, fmt.Sprintf("more than %d MiB of files", schema.MaxTreeBytes>>20), "point the source's path at the directory that holds the manifests")
	}
	w.tree.Refused = append(w.tree.Refused, d.refused...)
	w.tree.Faults = append(w.tree.Faults, d.faults...)
	for _, i := range d.items {
		if !i.isDir() {
			w.tree.Files = append(w.tree.Files, i.file)
			continue
		}
		if strings.HasPrefix(path.Base(i.file.Path), ".") {
			continue
		}
		if err := w.directory(i.file.Path, i.dir, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// dirKey names a directory's content where it stands: the paths in it depend on
// both.
type dirKey struct {
	prefix string
	hash   plumbing.Hash
}

// directory is one tree object. It is shared and never changed.
type directory struct {
	items   []item // in git's order
	refused schema.Diagnostics
	faults  schema.Diagnostics
	bytes   int64 // of its files
}

// item is a file, or a directory whose file has nothing but a path.
type item struct {
	file schema.File
	dir  plumbing.Hash
}

func (i item) isDir() bool { return i.file.Blob == nil }

func (r *Repo) directory(prefix string, hash plumbing.Hash) (*directory, error) {
	key := dirKey{prefix, hash}
	if d, ok := r.dirs.get(key); ok {
		return d, nil
	}
	if r.below != nil {
		if d, ok := r.below.dirs.get(key); ok {
			return d, nil
		}
	}
	data, err := r.object(plumbing.TreeObject, hash, maxTreeSize)
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", hash, err)
	}
	d := &directory{}
	seen := make(map[string]bool)
	var last treeEntry
	for len(data) > 0 {
		var e treeEntry
		if e, data, err = nextEntry(data); err != nil {
			return nil, fmt.Errorf("tree %s: %w", hash, err)
		}
		if err := d.add(r, prefix, e, seen[e.name]); err != nil {
			return nil, fmt.Errorf("tree %s: %q: %w", hash, shown([]byte(e.name), maxSubject), err)
		}
		if last.order() > e.order() {
			d.fault(prefix, "its entries are not in git's order, so git does not show what is in it")
		}
		seen[e.name], last = true, e
	}
	d.faults = d.faults.Sort()
	r.dirs.put(key, d, len(d.items)+len(d.refused)+len(d.faults)+1)
	return d, nil
}

// add takes an entry in. What git would not write is a fault, at any name: git, or
// a reader of its output, may see something else than we do.
func (d *directory) add(r *Repo, prefix string, e treeEntry, again bool) error {
	if fault := schema.NameFault(prefix, e.name); fault != nil {
		d.faults = append(d.faults, *fault)
		return nil
	}
	full := e.name
	if prefix != "" {
		full = prefix + "/" + e.name
	}
	switch {
	case again:
		d.fault(full, "this name is in the directory twice")
		return nil
	case e.hash.IsZero():
		d.fault(full, "this entry has no object (its hash is all zeros)")
		return nil
	}
	switch e.mode {
	case "40000", "040000":
		d.items = append(d.items, item{file: schema.File{Path: full}, dir: e.hash})
	case "100644", "100755", "100664":
		return d.addFile(r, full, e.hash)
	case "120000":
		d.refused = append(d.refused, *schema.LinkRefusal(full))
	case "160000":
		d.refused = append(d.refused, *schema.SubmoduleRefusal(full))
	default:
		d.fault(full, "unknown kind of entry, mode "+shown([]byte(e.mode), len("100644")))
	}
	return nil
}

func (d *directory) addFile(r *Repo, full string, hash plumbing.Hash) error {
	if refusal := schema.NameRefusal(full); refusal != nil {
		d.refused = append(d.refused, *refusal)
		return nil
	}
	size, err := r.size(hash)
	if err != nil {
		return err
	}
	if size > schema.MaxFileSize {
		tooLarge := fmt.Sprintf("%d bytes, a file has at most %d", size, schema.MaxFileSize)
		if schema.IsManifest(full) {
			d.refused = append(d.refused, refuse(full, tooLarge, "exclude it, or split it")...)
			return nil
		}
		d.items = append(d.items, item{file: schema.File{
			Path: full,
			Blob: &schema.Blob{Hash: hash.String(), Size: size, Open: func() ([]byte, error) { return nil, errors.New(tooLarge) }},
		}})
		return nil
	}
	d.bytes += size
	d.items = append(d.items, item{file: schema.File{
		Path: full,
		Blob: &schema.Blob{Hash: hash.String(), Size: size, Open: func() ([]byte, error) { return r.blob(hash) }},
	}})
	return nil
}

func (d *directory) fault(at, message string) {
	d.faults = append(d.faults, refuse(at, message, "a tree was written by something other than git")...)
}

// treeEntry is one entry of a tree object: mode, space, name, NUL, 20 bytes of
// object name (gitformat: tree objects).
type treeEntry struct {
	mode string
	name string
	hash plumbing.Hash
}

// order is what git sorts a tree's entries by: a directory stands where its name
// with a slash would.
func (e treeEntry) order() string {
	if e.mode == "40000" || e.mode == "040000" {
		return e.name + "/"
	}
	return e.name
}

var errTruncated = errors.New("truncated tree object")

func nextEntry(data []byte) (treeEntry, []byte, error) {
	var e treeEntry
	mode, data, ok := bytes.Cut(data, []byte{' '})
	if !ok {
		return e, nil, errTruncated
	}
	name, data, ok := bytes.Cut(data, []byte{0})
	if !ok || len(data) < len(e.hash) {
		return e, nil, errTruncated
	}
	e.mode, e.name = string(mode), string(name)
	copy(e.hash[:], data)
	return e, data[len(e.hash):], nil
}
