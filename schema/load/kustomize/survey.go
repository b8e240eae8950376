package kustomize

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"fairlead/schema"
	"fairlead/schema/load/yaml"
)

// Survey is what the kustomizations of a tree use, before any of them is built.
type Survey struct {
	Units       []*Unit // those that no other uses, sorted by directory; each is built by itself
	Diagnostics schema.Diagnostics
	// Idle are files that stand in the very directory of a kustomization, in the order of
	// their names, and that none uses.
	Idle []schema.File
	// Beside are manifests below the directory of a kustomization, in directories of their
	// own, that none uses. They are plain manifests.
	Beside []string
	nodes  map[string]*node       // by directory
	read   map[string]schema.File // those that a kustomization reads, by path
	idle   map[string]bool        // names of Idle
	bytes  int64                  // of read and Idle, as far as it is known
	broken map[string]bool        // directories of kustomizations of which not all is known
	// isCut says that the survey was ended before it was complete.
	isCut bool
}

// Unit is a kustomization that is built by itself.
type Unit struct {
	Dir   string
	File  string        // the kustomization's
	Files []schema.File // all that building it reads, sorted by path
	parts []*parts      // of the kustomizations that it is built from, the outermost first

	indexed sync.Once
	places  map[string][]*parts // those that anything in a file may belong to, by its path
}

// node is a kustomization with what it leads to.
type node struct {
	*kustomization
	selected bool // by the source
	isUsed   bool // by one that is built
	seen     bool // by a walk
	height   int  // how many kustomizations use each other in a row from here on, this one included
	below    []*node
	files    []schema.File
	parts    *parts // nil until it was visited, and where it has errors
}

// Bounds on a survey, which the parent makes.
const (
	// maxChain bounds how many kustomizations use each other in a row: the library builds
	// each within the other.
	maxChain = 64
	// maxKustomizations bounds those that are parsed; a tree of 5,000 overlays has half.
	maxKustomizations = 10_000
	// maxParsed bounds the bytes of what is parsed, each time that it is: no more is sent
	// to the child either.
	maxParsed = 64 << 20
	// maxHeld bounds the values of all kustomizations together, which are held until each
	// is followed: 5,000 overlays of 400 values. Each takes some hundred bytes.
	maxHeld = 2_000_000
	// maxUnits bounds what is built in the minute that there is for a tree: no unit takes
	// less than some milliseconds.
	maxUnits = 5_000
	// maxReads bounds the files of all units together, each as often as it is read: a base
	// of 200 files with 5,000 overlays.
	maxReads = 1_000_000
	// maxHints bounds the names that are compared with others to find a misspelling.
	maxHints = 1_000
)

// Look surveys the kustomizations that the source selects, and those that they use. With
// nil for selects it finds what any selection may use, and judges nothing. When ctx ends
// the survey ends too, and knows nothing.
func Look(ctx context.Context, tree schema.Tree, selects func(name string) bool) *Survey {
	w := walker{Survey: &Survey{}, ctx: ctx, selects: selects, forgets: true}
	var dirs []string
	for i := range tree.Files {
		if name := tree.Files[i].Path; IsFile(name) && w.covers(name) {
			dirs = append(dirs, path.Dir(name))
		}
	}
	switch {
	case len(dirs) == 0:
		return w.Survey
	case len(dirs) > maxKustomizations:
		w.tooMany()
		return w.Survey
	}
	w.open(tree.Files, tree.Outside)
	for _, d := range tree.Refused {
		w.refused = append(w.refused, d.Path)
	}
	var selected []*node
	for _, dir := range dirs {
		if n, err := w.node(dir); err != nil {
			w.stop("", "%s: %v", dir, err)
		} else if n != nil && !n.selected {
			n.selected = true
			selected = append(selected, n)
		}
	}
	for _, n := range selected {
		w.visit(n, nil)
	}
	w.finish(selected)
	return w.Survey
}

// covers reports whether the source selects a name.
func (w *walker) covers(name string) bool { return w.selects == nil || w.selects(name) }

// open makes the walker ready to walk.
func (w *walker) open(all []schema.File, outside *schema.Outside) {
	sorted := func(a, b schema.File) int { return strings.Compare(a.Path, b.Path) }
	if !slices.IsSortedFunc(all, sorted) { // a client sent them
		all = slices.SortedStableFunc(slices.Values(all), sorted)
	}
	w.files = files{tree: all, outside: outside, listed: make(map[string]listed)}
	w.nodes, w.read = make(map[string]*node), make(map[string]schema.File)
	w.idle, w.broken = make(map[string]bool), make(map[string]bool)
}

type walker struct {
	*Survey
	ctx     context.Context
	selects func(name string) bool // nil: all
	forgets bool                   // what was parsed, once it is followed
	files   files
	refused []string // what the tree holds and does not hand out
	parsed  int      // bytes
	held    int      // see maxHeld
	reads   int      // see maxReads
	hints   int      // see maxHints
}

// stop ends the survey, which is of no use then.
func (w *walker) stop(hint, format string, args ...any) {
	if !w.isCut {
		w.isCut = true
		w.Diagnostics = append(w.Diagnostics, schema.Diagnostic{Severity: schema.Error, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
}

// isOver reports whether the survey has ended.
func (w *walker) isOver() bool {
	w.isCut = w.isCut || w.ctx.Err() != nil // the loader tells that
	return w.isCut
}

// parses counts what is about to be parsed.
func (w *walker) parses(bytes int) {
	if w.parsed += bytes; w.parsed > maxParsed {
		w.stop("split the source", "the tree's kustomizations, with the files that configure their generators and transformers, have more than the %d bytes that are read", maxParsed)
	}
}

// holds counts a kustomization that was parsed.
func (w *walker) holds(k *kustomization) {
	w.parses(len(k.text))
	if w.held += k.values; w.held > maxHeld {
		w.stop("split the source", "the tree's kustomizations have more than the %d values that are read together", maxHeld)
	}
}

// node is the kustomization of a directory; nil if there is none.
func (w *walker) node(dir string) (*node, error) {
	if known, ok := w.nodes[dir]; ok || w.isOver() {
		return known, nil
	}
	found, err := w.files.kustomizations(dir)
	if chosen := slices.DeleteFunc(slices.Clone(found), func(f schema.File) bool { return !w.covers(f.Path) }); len(chosen) > 0 {
		found = chosen
	}
	if err != nil || len(found) == 0 {
		return nil, err
	}
	if len(w.nodes) == maxKustomizations {
		w.tooMany()
		return nil, nil
	}
	n := &node{kustomization: read(found[0]), files: found, height: 1}
	w.holds(n.kustomization)
	w.nodes[dir] = n
	if len(found) > 1 {
		w.rivals(n, found)
	}
	return n, nil
}

func (w *walker) tooMany() {
	w.stop("choose some of them with path or include in the Source", "the tree has more than the %d kustomizations that are read", maxKustomizations)
}

// rivals tells of several kustomizations in one directory. Where any selection counts,
// any of them may be the one.
func (w *walker) rivals(n *node, found []schema.File) {
	if w.selects == nil {
		for _, other := range found[1:] {
			k := read(other)
			w.holds(k)
			n.uses = append(n.uses, k.uses...)
		}
		return
	}
	n.fail("", "keep one of them, or exclude the other in the Source", "%s and %s stand in one directory, and kustomize reads only one", path.Base(found[0].Path), path.Base(found[1].Path))
}

// visit follows what a kustomization uses; way are the directories of those that led
// here.
func (w *walker) visit(n *node, way []string) {
	if n.seen {
		return
	}
	n.seen = true
	way = append(way, n.dir)
	for _, r := range n.uses {
		if w.isOver() || len(n.diagnostics) >= yaml.MaxDiagnostics {
			break
		}
		w.follow(n, r, way)
	}
	if w.isOver() {
		return
	}
	n.files = sortedFiles(n.files)
	known := make(map[*node]bool)
	n.below = slices.DeleteFunc(n.below, func(b *node) bool {
		again := known[b]
		known[b] = true
		return again
	})
	if w.forgets {
		if !n.diagnostics.HasErrors() {
			n.parts = partsOf(n)
		}
		n.forget()
	}
}

func (w *walker) follow(n *node, r reference, way []string) {
	if isFetched(r.to) {
		n.elsewhere(r.field, r.quoted())
		return
	}
	if r.isText() {
		defer n.recovered(n.file)
		w.configured(n, r, []byte(r.to))
		return
	}
	name := path.Join(n.dir, r.to)
	found, isFile, err := w.files.find(name)
	isDir := false
	if err == nil && !isFile && r.kind&directory != 0 {
		isDir, err = w.files.isDir(name)
	}
	switch {
	case err != nil:
		n.fail(r.field, "", "%s cannot be read: %v", r.called(name), err)
	case path.IsAbs(r.to):
		n.fail(r.field, "name it from the kustomization's own directory", "%s is an absolute path", r.quoted())
	case isFile && !isBelow(name, n.dir):
		n.fail(r.field, "make "+path.Dir(name)+" a kustomization and list that directory, or move the file", "%s is not in or below %s: kustomize reads no other files", name, n.dir)
	case isFile && r.kind&file == 0:
		n.fail(r.field, "name the directory that it stands in", "%s is a file, and a component is a directory with a kustomization", name)
	case isFile:
		w.take(n, r, found)
	case r.isRemote():
		n.elsewhere(r.field, r.quoted())
	case isOutside(name):
		n.fail(r.field, "copy what it holds into this repository", "%s leads out of the repository", r.quoted())
	case isDir:
		w.enter(n, r, name, way)
	default:
		w.missing(n, r, name)
	}
}

// take notes a file that the kustomization reads.
func (w *walker) take(n *node, r reference, f schema.File) {
	switch {
	case len(f.Path) > maxName:
		n.fail(r.field, "", "the name of this file has %d bytes, at most %d are taken", len(f.Path), maxName)
		return
	case f.Size > schema.MaxFileSize:
		n.fail(r.field, "", "%s has %d bytes, at most %d are read", f.Path, f.Size, schema.MaxFileSize)
		return
	}
	n.files = append(n.files, f)
	if !r.configures() {
		return
	}
	defer n.recovered(f.Path)
	if text, err := contentOf(f); err == nil { // if not, building tells
		w.configured(n, r, text)
	}
}

// configured takes what a generator or transformer names in its own configuration.
func (w *walker) configured(n *node, r reference, text []byte) {
	if w.parses(len(text)); !r.configures() || w.isOver() {
		return
	}
	for _, c := range yaml.Split(text) {
		roots, problem := yaml.ParseYAML(c.Text, new(yaml.Arena))
		if problem != nil {
			return // the library tells
		}
		for _, root := range roots {
			w.configuration(n, r, root)
		}
	}
}

// fileFields are the fields in which the generators and transformers that are built in
// name files, in small letters: the library reads them in any case.
var fileFields = map[string]bool{"path": true, "paths": true, "files": true, "envs": true, "env": true, "targetfilepath": true}

// configuration takes the files that one generator or transformer names. What stands in
// patches is no name of a file, even if there is one of that name.
func (w *walker) configuration(n *node, r reference, at *yaml.Node) {
	if at.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(at.Content); i += 2 {
		value := yaml.Target(at.Content[i+1])
		switch key := strings.ToLower(at.Content[i].Value); {
		case fileFields[key] && value.Kind == yaml.SequenceNode:
			for _, c := range value.Content {
				w.named(n, r, yaml.Target(c))
			}
		case fileFields[key]:
			w.named(n, r, value)
		case key == "replacements" && value.Kind == yaml.SequenceNode:
			for _, c := range value.Content {
				if file := yaml.Child(c, "path"); file != nil {
					w.named(n, r, yaml.Target(file))
				}
			}
		case key == "items" && value.Kind == yaml.SequenceNode: // of a List
			for _, c := range value.Content {
				if c.Kind == yaml.MappingNode {
					w.configuration(n, r, c)
				}
			}
		}
	}
}

// named takes the file that a generator or transformer names.
func (w *walker) named(n *node, r reference, at *yaml.Node) {
	_, last, isKeyed := strings.Cut(at.Value, "=")
	if !isKeyed {
		last = at.Value
	}
	if at.Kind == yaml.ScalarNode && isFetched(last) {
		n.elsewhere(r.field, "a file that it names")
		return
	}
	if at.Kind != yaml.ScalarNode || last == "" || len(last) > maxName || path.IsAbs(last) {
		return
	}
	f, ok, err := w.files.find(path.Join(n.dir, last))
	switch {
	case err != nil:
		n.fail("", "", "%s cannot be read: %v", path.Join(n.dir, last), err)
	case ok && isBelow(f.Path, n.dir):
		n.files = append(n.files, f)
	}
}

// maxName is the longest text that may be a file's name.
const maxName = 4096

// enter follows a reference to a directory.
func (w *walker) enter(n *node, r reference, dir string, way []string) {
	around := slices.IndexFunc(way, func(above string) bool { return isBelow(above, dir) })
	to, err := w.node(dir)
	switch {
	case w.isOver():
	case err != nil:
		n.fail(r.field, "", "%s cannot be read: %v", dir, err)
	case around >= 0 && dir == n.dir:
		n.fail(r.field, "leave it out", "this kustomization uses itself")
	case around >= 0:
		n.fail(r.field, "take out one of the two", "%s cannot be used here: %s is built for it, so they would use each other without end", dir, way[around])
	case to == nil:
		n.fail(r.field, "write a kustomization.yaml there that lists its files, or list the files themselves", "directory %s has no kustomization", dir)
	case to.foreign:
		n.fail(r.field, "", "%s is no kustomization of kustomize's, whose group is %s", to.file, Group)
	case len(way)+to.height > maxChain:
		w.tooLong(n, r)
	default:
		w.visit(to, way)
		if len(way)+to.height > maxChain { // of those further on
			w.tooLong(n, r)
			return
		}
		n.height = max(n.height, 1+to.height)
		w.use(n, r, to)
	}
}

func (w *walker) tooLong(n *node, r reference) {
	n.fail(r.field, "", "more than %d kustomizations use each other in a row", maxChain)
}

// use notes a kustomization that another one uses.
func (w *walker) use(n *node, r reference, to *node) {
	n.below = append(n.below, to)
	wantsComponent := r.kind == directory
	switch {
	case to.diagnostics.HasErrors():
	case wantsComponent && !to.isComponent():
		n.fail(r.field, "list it under resources", "%s is no component: its kind is not Component", to.dir)
	case !wantsComponent && to.isComponent():
		n.fail(r.field, "list it under components", "%s is a component", to.dir)
	}
	if r.configures() { // its files configure what runs here
		all, _ := w.closure(to)
		for _, f := range all {
			w.take(n, r, f)
		}
	}
}

// missing tells of what a reference names and is not there.
func (w *walker) missing(n *node, r reference, name string) {
	for _, refused := range w.refused {
		if isBelow(name, refused) {
			n.fail(r.field, "", "%s is not read", r.called(name))
			return
		}
	}
	if d, ok := w.files.outside.Withheld(name); ok {
		n.fail(r.field, d.Hint, "%s is not read: %s", r.called(name), d.Message)
		return
	}
	hint := ""
	for _, part := range strings.Split(name, "/") {
		if strings.HasPrefix(part, ".") && part != path.Base(name) {
			hint = "directories whose name begins with a dot are not read"
		}
	}
	if hint == "" && w.hints < maxHints {
		w.hints++
		hint = w.nearest(name)
	}
	what := "file or directory"
	if r.kind&directory == 0 {
		what = "file"
	} else if r.kind&file == 0 {
		what = "directory"
	}
	if r.isPrivate() {
		if strings.HasPrefix(r.field, secretGenerator) {
			hint = cmp.Or(hint, "list a value itself, written as KEY=value, under literals")
		}
		n.fail(r.field, hint, "%s: there is no such %s", r.field, what)
		return
	}
	n.fail(r.field, hint, "there is no %s %s", what, name)
}

// nearest is a hint at what a missing name may be a misspelling of: something in the
// same directory.
func (w *walker) nearest(name string) string {
	dir := path.Dir(name)
	var names []string
	i, _ := slices.BinarySearchFunc(w.files.tree, strings.TrimPrefix(dir+"/", "./"), byPath)
	for ; i < len(w.files.tree) && isBelow(w.files.tree[i].Path, dir) && len(names) < maxNearest; i++ {
		below := strings.TrimPrefix(w.files.tree[i].Path, strings.TrimPrefix(dir+"/", "./"))
		first, _, _ := strings.Cut(below, "/")
		names = append(names, first)
	}
	if best := schema.Nearest(path.Base(name), names); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return ""
}

// maxNearest bounds the names that a missing one is compared with.
const maxNearest = 1000

// closure are all files that building a kustomization reads.
func closure(of *node) []schema.File {
	var out []schema.File
	collect(of, map[*node]bool{}, func(n *node) { out = append(out, n.files...) })
	return sortedFiles(out)
}

// closure is that too, as long as there is room for it, and whether all that is used
// could be read.
func (w *walker) closure(of *node) (out []schema.File, isSound bool) {
	isSound = true
	collect(of, map[*node]bool{}, func(n *node) {
		isSound = isSound && !n.diagnostics.HasErrors()
		if w.reads += 1 + len(n.files); w.reads <= maxReads {
			out = append(out, n.files...)
		}
	})
	if w.reads > maxReads {
		w.stop("build fewer overlays of large bases in one tree: choose some with path or include in the Source",
			"the tree's kustomizations read more than %d files, each as often as one that is built uses it", maxReads)
	}
	return sortedFiles(out), isSound
}

func sortedFiles(all []schema.File) []schema.File {
	slices.SortStableFunc(all, func(a, b schema.File) int { return strings.Compare(a.Path, b.Path) })
	return slices.CompactFunc(all, func(a, b schema.File) bool { return a.Path == b.Path })
}

// collect calls do for a kustomization and all that it leads to, once each.
func collect(n *node, seen map[*node]bool, do func(*node)) {
	if seen[n] {
		return
	}
	seen[n] = true
	do(n)
	for _, b := range n.below {
		collect(b, seen, do)
	}
}
