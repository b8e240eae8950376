package kustomize

import (
	"maps"
	"path"
	"slices"
	"strings"

	"fairlead/schema"
	"fairlead/schema/load/child"
)

// finish finds what is built, what nobody uses, and what is no plain manifest.
func (w *walker) finish(selected []*node) {
	for _, dir := range slices.Sorted(maps.Keys(w.nodes)) {
		n := w.nodes[dir]
		if n.foreign {
			delete(w.nodes, dir)
			continue
		}
		if w.Diagnostics = append(w.Diagnostics, n.diagnostics...); n.diagnostics.HasErrors() {
			w.broken[dir] = true
		}
		for _, f := range n.files {
			if _, known := w.read[f.Path]; !known {
				w.bytes += max(f.Size, 0)
			}
			w.read[f.Path] = f
		}
	}
	if w.selects == nil || len(w.nodes) == 0 {
		return
	}
	w.Diagnostics = append(w.Diagnostics, w.files.outside.Faults()...)
	selected = slices.DeleteFunc(selected, func(n *node) bool { return n.foreign })
	w.units(selected)
	plain := w.sort()
	if !w.isOver() && len(w.broken) == 0 { // what could not be read may use any component
		w.components(selected, plain)
	}
}

// units finds what is built: the kustomizations that nothing built uses. A component is
// part of others, and what only an unused one lists is used by nobody.
func (w *walker) units(selected []*node) {
	for _, n := range selected {
		if !n.isComponent() {
			n.use()
		}
	}
	slices.SortFunc(selected, func(a, b *node) int { return strings.Compare(a.dir, b.dir) })
	for _, n := range selected {
		if n.isUsed || n.isComponent() || w.isOver() {
			continue
		}
		if len(w.Units) == maxUnits {
			w.stop("choose some of them with path or include in the Source", "more than %d kustomizations of the tree are used by no other one, and would be built", maxUnits)
			break
		}
		if files, isSound := w.closure(n); isSound {
			u := &Unit{Dir: n.dir, File: n.file, Files: files}
			collect(n, map[*node]bool{}, func(n *node) { u.parts = append(u.parts, n.parts) })
			w.Units = append(w.Units, u)
		}
	}
	if w.isOver() {
		w.Units = nil
	}
}

// use marks all that a kustomization uses.
func (n *node) use() {
	for _, b := range n.below {
		if !b.isUsed {
			b.isUsed = true
			b.use()
		}
	}
}

// sort finds the files that stand with kustomizations and that none uses, and counts the
// plain manifests of the tree.
func (w *walker) sort() (plain int) {
	for i := range w.files.tree {
		f := w.files.tree[i]
		if !schema.IsManifest(f.Path) || !w.covers(f.Path) || w.isRead(f.Path) {
			continue
		}
		if path.Ext(f.Path) == ".cue" || w.isOfBroken(f.Path) { // of CUE, kustomize knows nothing
			plain++
			continue
		}
		switch dir := path.Dir(f.Path); {
		case w.nodes[dir] != nil:
			w.Idle = append(w.Idle, f)
			w.idle[f.Path] = true
			w.bytes += max(f.Size, 0)
			continue
		case w.isBelowOne(dir):
			w.Beside = append(w.Beside, f.Path)
		}
		plain++
	}
	return plain
}

// isBelowOne reports whether a directory stands below one with a kustomization.
func (s *Survey) isBelowOne(dir string) bool {
	return isWithin(dir, func(above string) bool { return s.nodes[above] != nil })
}

// isOfBroken reports whether a file stands in or below the directory of a kustomization
// that could not be read, and which may use it.
func (s *Survey) isOfBroken(name string) bool {
	return len(s.broken) > 0 && path.Ext(name) != ".cue" && isWithin(path.Dir(name), func(dir string) bool { return s.broken[dir] })
}

// isWithin asks of a directory and of those above.
func isWithin(dir string, is func(dir string) bool) bool {
	for ; ; dir = path.Dir(dir) {
		if is(dir) {
			return true
		}
		if dir == "." || dir == "/" {
			return false
		}
	}
}

// components tells of those that nothing uses: nothing is built of them, and if there is
// nothing else the tree would be an empty one.
func (w *walker) components(selected []*node, plain int) {
	for _, n := range selected {
		if n.isUsed || !n.isComponent() {
			continue
		}
		d := schema.Diagnostic{
			Position: schema.Position{Path: n.file, Line: 1, Column: 1}, Severity: schema.Warning,
			Message: "no kustomization uses this component, so nothing is built from it", Hint: "list it under components of a kustomization, or exclude it in the Source",
		}
		if len(w.Units)+plain == 0 {
			d.Severity = schema.Error
			d.Hint = "choose a kustomization that lists it under components, with path in the Source"
		}
		w.Diagnostics = append(w.Diagnostics, d)
	}
}

// Claims reports whether a file is no plain manifest: a kustomization reads it, or it
// stands in the very directory of one.
func (s *Survey) Claims(name string) bool {
	return s.isCut || s.isRead(name) || s.idle[name] || s.isOfBroken(name)
}

func (s *Survey) isRead(name string) bool {
	_, ok := s.read[name]
	return ok
}

// Reads reports whether kustomizations read a file that is so.
func (s *Survey) Reads(is func(f schema.File) bool) bool {
	for _, f := range s.read {
		if is(f) {
			return true
		}
	}
	return false
}

// Used are the files that kustomizations read, sorted by path.
func (s *Survey) Used() (out []schema.File) {
	for _, name := range slices.Sorted(maps.Keys(s.read)) {
		out = append(out, s.read[name])
	}
	return out
}

// Claimed is all that Claims goes by, sorted.
func (s *Survey) Claimed() []string {
	out := slices.Collect(maps.Keys(s.read))
	out = slices.AppendSeq(out, maps.Keys(s.idle))
	for dir := range s.broken {
		out = append(out, dir+"/")
	}
	if s.isCut {
		out = append(out, "")
	}
	slices.Sort(out)
	return out
}

// Files counts the files that kustomizations read.
func (s *Survey) Files() int { return len(s.read) }

// Size is how many files are claimed, and their bytes as far as these are known.
func (s *Survey) Size() (files int, bytes int64) { return len(s.read) + len(s.Idle), s.bytes }

// Input is what the child sees of the units.
func (s *Survey) Input() *child.Input {
	var dirs []string
	for _, u := range s.Units {
		dirs = append(dirs, u.Dir)
	}
	in := child.NewInput(s.Used(), dirs, func(string) bool { return false })
	for _, u := range s.Units {
		in.Needs(u.Dir, u.File, u.Files)
	}
	return in
}
