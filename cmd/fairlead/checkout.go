package main

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"fairlead/cmd/fairlead/internal/place"
	"fairlead/schema"
	"fairlead/schema/load"
)

// checkout is a place in the work tree of a clone.
type checkout struct {
	git clone  // of the clone
	top string // of the work tree
	place.Place
}

// checkoutAt finds the clone that a directory or file is in; false where there is none.
func checkoutAt(ctx context.Context, name string) (checkout, bool) {
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return checkout{}, false
	}
	dir, file := real, ""
	if info, err := os.Stat(real); err != nil || !info.IsDir() {
		dir, file = filepath.Dir(real), filepath.Base(real)
	}
	git := clone{dir}
	top, err := git.run(ctx, "rev-parse", "--show-toplevel")
	if err != nil || top == "" {
		return checkout{}, false
	}
	co := checkout{git: git, top: top, Place: place.Place{Below: path.Join(git.ask(ctx, "rev-parse", "--show-prefix"), file)}}
	for line := range strings.Lines(git.ask(ctx, "remote", "-v")) {
		if fields := strings.Fields(line); len(fields) > 1 && !slices.Contains(co.URLs, fields[1]) {
			co.URLs = append(co.URLs, fields[1])
		}
	}
	return co, true
}

// portion is what of a tree is read, and what of it was asked about.
type portion struct {
	dir    string // directory or file to read
	prefix string // of its files' names in the repository
	asked  string // directory or file as the user calls it
	at     string // its name in the repository; "" for all of it
	// named are the files in the repository that Git does not ignore; nil where it
	// cannot be asked, and then all are read.
	named map[string]bool
	top   string // of the work tree that it is in; "" where it is in none
	// around are the files of the whole work tree that Git does not ignore; nil where
	// there is no top.
	around func() (map[string]bool, error)
}

// in says which work tree a portion is in.
func (p portion) in(ctx context.Context, top string) portion {
	p.top = top
	p.around = sync.OnceValues(func() (map[string]bool, error) { return checkout{top: top}.named(ctx, "") })
	return p
}

// tree reads the portion, its files named as the repository names them.
func (p portion) tree() (schema.Tree, error) {
	if err := p.refusePart(); err != nil {
		return schema.Tree{}, err
	}
	tree, err := load.DirectoryOf(p.dir, p.holdsNamed())
	if err != nil {
		return tree, err
	}
	tree = placed(tree, p.prefix, p.named)
	if p.top != "" && p.prefix != "" {
		tree.Outside = schema.NewOutside(p.prefix, p.outside)
	}
	return tree, nil
}

// refusePart refuses a single file that is part of a kustomization: alone it is not what
// a push makes of it.
func (p portion) refusePart() error {
	real, err := filepath.EvalSymlinks(p.dir)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if info, statErr := os.Stat(p.dir); err != nil || statErr != nil || info.IsDir() {
		return nil // reading it tells
	}
	below, up := filepath.Base(real), filepath.Dir(p.asked)
	for dir := filepath.Dir(real); ; dir, up = filepath.Dir(dir), filepath.Join(up, "..") {
		if load.IsKustomized(dir, filepath.ToSlash(below)) {
			return fmt.Errorf("%s is part of the kustomization in %s, which is built as a whole: name that directory instead", p.asked, up)
		}
		if dir == p.top || p.top == "" || dir == filepath.Dir(dir) {
			return nil
		}
		below = filepath.Join(filepath.Base(dir), below)
	}
}

// placed names what was read in a directory as the repository does, and leaves out what
// is not among the named; nil names all.
func placed(tree schema.Tree, dir string, named map[string]bool) schema.Tree {
	for i := range tree.Files {
		tree.Files[i].Path = path.Join(dir, tree.Files[i].Path)
	}
	for _, diagnostics := range []schema.Diagnostics{tree.Refused, tree.Faults} {
		for i := range diagnostics {
			diagnostics[i].Path = path.Join(dir, diagnostics[i].Path)
		}
	}
	if named != nil {
		tree.Files = slices.DeleteFunc(tree.Files, func(f schema.File) bool { return !named[f.Path] })
		tree.Refused = slices.DeleteFunc(tree.Refused, func(d schema.Diagnostic) bool { return !named[d.Path] })
	}
	return tree
}

// outside is one directory of the work tree, outside of the portion. Where the portion
// has what Git does not ignore, so has the directory.
func (p portion) outside(dir string) (schema.Tree, error) {
	real := filepath.Join(p.top, filepath.FromSlash(dir))
	if resolved, err := filepath.EvalSymlinks(real); err != nil || resolved != real {
		return schema.Tree{}, nil // it is not there, or behind a symlink, which none follows
	}
	if info, err := os.Stat(real); err != nil || !info.IsDir() {
		return schema.Tree{}, nil
	}
	tree, err := load.Listing(real)
	if err != nil || p.named == nil {
		return placed(tree, dir, nil), err
	}
	named, err := p.around()
	if err != nil {
		return schema.Tree{}, err
	}
	tree = placed(tree, dir, named)
	entries, err := os.ReadDir(real)
	for _, entry := range entries {
		if at := path.Join(dir, entry.Name()); entry.IsDir() && named[at] { // a clone in it, or a submodule
			tree.Refused = append(tree.Refused, *schema.SubmoduleRefusal(at))
		}
	}
	return tree, err
}

// holdsNamed reports of a directory below the portion's whether Git has anything in it.
func (p portion) holdsNamed() func(dir string) bool {
	if p.named == nil {
		return func(string) bool { return true }
	}
	dirs := make(map[string]bool)
	for name := range p.named {
		// A clone within it is named as a directory.
		for dir := name; !dirs[dir] && dir != "."; dir = path.Dir(dir) {
			dirs[dir] = true
		}
	}
	return func(dir string) bool { return dirs[path.Join(p.prefix, dir)] }
}

// reads counts the files at or below what was asked about that a source reads.
func (p portion) reads(tree schema.Tree, spec schema.SourceSpec) (count int) {
	isRead := load.Reads(spec)
	for i := range tree.Files {
		if name := tree.Files[i].Path; place.Holds(p.at, name) && isRead(name) {
			count++
		}
	}
	return count
}

// told are the diagnostics of what was asked about, and of what holds it, with paths
// relative to where the user stands.
func (p portion) told(diagnostics schema.Diagnostics) schema.Diagnostics {
	here, at := p.asked, path.Clean(p.at)
	if info, err := os.Stat(here); err == nil && !info.IsDir() {
		here, at = filepath.Dir(here), path.Dir(at)
	}
	out := schema.Diagnostics{}
	for _, d := range diagnostics {
		of := path.Clean(d.Path)
		isOutside := !place.Holds(p.prefix, of) && !place.Holds(of, p.prefix) // what a kustomization uses from there
		if p.at != "" && of != "." && !place.Holds(p.at, of) && !place.Holds(of, p.at) && !isOutside {
			continue
		}
		if below, err := filepath.Rel(at, path.Clean(d.Path)); err == nil {
			d.Path = filepath.Join(here, below)
		}
		out = append(out, d)
	}
	return out
}

// alone is a place by itself, of no source that is known. In a clone its files are named
// as the repository names them.
func alone(ctx context.Context, name string) portion {
	p := portion{dir: name, asked: name}
	if co, ok := checkoutAt(ctx, name); ok {
		p = p.in(ctx, co.top)
		p.prefix, p.at = co.Below, co.Below
		if info, err := os.Stat(name); err == nil && !info.IsDir() {
			p.prefix = strings.TrimPrefix(path.Dir("/"+co.Below), "/")
		}
	}
	p.named = notIgnored(ctx, name, p.prefix)
	return p
}

// notIgnored are the files below a directory that Git does not ignore, as a portion with
// that prefix names them; nil where Git cannot be asked, or ignores the directory itself.
func notIgnored(ctx context.Context, dir, prefix string) map[string]bool {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil
	}
	co, ok := checkoutAt(ctx, dir)
	if !ok || co.git.ask(ctx, "check-ignore", ".") != "" {
		return nil
	}
	named, err := (checkout{top: dir}).named(ctx, "")
	if err != nil {
		return nil
	}
	out := make(map[string]bool, len(named))
	for name := range named {
		out[path.Join(prefix, name)] = true
	}
	return out
}

// elsewhere is what to judge of a directory that is no clone of the source's
// repository: it stands for what the source reads, unless it is the top of a work tree
// that has the source's path in it.
func elsewhere(ctx context.Context, src *schema.Source, name string) portion {
	reads := place.SourcePath(src.Spec)
	if co, ok := checkoutAt(ctx, name); ok && co.Below == "" && reads != "" {
		if info, err := os.Stat(filepath.Join(co.top, filepath.FromSlash(reads))); err == nil && info.IsDir() {
			dir := filepath.Join(name, filepath.FromSlash(reads))
			return portion{dir: dir, prefix: reads, asked: name, named: notIgnored(ctx, dir, reads)}.in(ctx, co.top)
		}
	}
	at := reads
	if info, err := os.Stat(name); err == nil && !info.IsDir() {
		at = path.Join(reads, filepath.Base(name))
	}
	return portion{dir: name, prefix: reads, asked: name, at: at, named: notIgnored(ctx, name, reads)}
}

// whole is all that the source reads in the clone that a place is in: a push brings all
// of it, and a part alone would lack what it refers to.
func (co checkout) whole(ctx context.Context, src *schema.Source, name string) (portion, error) {
	reads := place.SourcePath(src.Spec)
	if !place.Holds(reads, co.Below) && !place.Holds(co.Below, reads) {
		return portion{}, fmt.Errorf("%s is outside of what source %s reads, which is %s", name, src.Name, reads)
	}
	named, err := co.named(ctx, reads)
	if err != nil {
		return portion{}, err
	}
	return portion{dir: filepath.Join(co.top, filepath.FromSlash(reads)), prefix: reads, asked: name, at: co.Below, named: named}.in(ctx, co.top), nil
}

// named are the files below a directory of the work tree that a push may bring: those
// that Git has, and those that it does not ignore.
func (co checkout) named(ctx context.Context, dir string) (map[string]bool, error) {
	out, err := clone{co.top}.run(ctx, "--literal-pathspecs", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", path.Clean("./"+dir))
	if err != nil {
		return nil, fmt.Errorf("list the files of the clone: %w", err)
	}
	if count := strings.Count(out, "\x00"); count > maxNamed {
		return nil, fmt.Errorf("the clone has %d files, at most %d are looked through", count, maxNamed)
	}
	named := make(map[string]bool)
	for name := range strings.SplitSeq(out, "\x00") {
		named[strings.TrimSuffix(name, "/")] = true // a clone within it ends so
	}
	return named, nil
}

// maxNamed bounds the files of a clone: larger repositories are not known to hold
// manifests.
const maxNamed = 1_000_000

// isPart reports whether less was asked about than is read.
func (p portion) isPart() bool { return !place.Holds(p.at, p.prefix) }
