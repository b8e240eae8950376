package load

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"fairlead/schema"
	"fairlead/schema/load/child"
	"fairlead/schema/load/kustomize"
	"fairlead/schema/load/yaml"
)

// Kustomize builds kustomizations and remembers what came out: see package child.
type Kustomize = child.Evaluator

// NewKustomize makes what builds kustomizations.
func NewKustomize(config child.Config) *Kustomize { return child.New(kustomize.Language, config) }

// builtUnit is what a kustomization that is built by itself came to. It is never changed.
type builtUnit struct {
	*kustomize.Unit
	all         []decoded
	diagnostics []diagnosis
	isPart      bool              // not all of it could be built
	inputs      [sha256.Size]byte // see child.Response
	weight      int64             // what keeping it takes
}

// diagnosis is what is wrong with a unit: with building it, or with an object of it.
type diagnosis struct {
	schema.Diagnostic
	isBuilt bool            // with an object
	object  schema.Position // where that stands; zero where it is not known, or several have it
}

// encodedWeight is what each byte of an object as a child sends it takes when decoded:
// its places are numbers there.
const encodedWeight = 2

// decodeUnits builds the tree's kustomizations and decodes what they come to.
func (l *loader) decodeUnits(ctx context.Context) []decoded {
	l.diagnostics = append(l.diagnostics, l.survey.Diagnostics...)
	l.hides = l.hides || l.survey.Diagnostics.HasErrors()
	l.tellIdle(ctx)
	l.tellBeside()
	if len(l.survey.Units) == 0 {
		return nil
	}
	units := l.withoutRivals(l.buildUnits(ctx))
	l.diagnostics = append(l.diagnostics, toldOnce(units)...)
	var out []decoded
	for _, u := range units {
		for _, d := range u.all {
			d.diagnostics = nil
			out = append(out, d)
		}
	}
	return out
}

// buildUnits builds each unit and decodes its objects.
func (l *loader) buildUnits(ctx context.Context) []*builtUnit {
	evaluator := l.opts.Kustomize
	if evaluator == nil {
		evaluator = NewKustomize(child.Config{Remember: -1})
	}
	in := l.survey.Input()
	results := make(map[string]child.Response)
	for _, r := range evaluator.Eval(ctx, in) {
		results[r.Directory] = r
	}
	units := make([]*builtUnit, len(l.survey.Units))
	inParallel(ctx, len(units), func(i int) {
		u := l.survey.Units[i]
		r, ok := results[u.Dir]
		if units[i] = l.unitAgain(u, r.Inputs); units[i] == nil {
			units[i] = l.decodeUnit(ctx, u, r, !ok, in.First(u.Dir))
		}
	})
	units = slices.DeleteFunc(units, func(u *builtUnit) bool { return u == nil }) // ctx has ended
	for _, u := range units {
		l.hides = l.hides || u.isPart
	}
	l.units = units
	return units
}

// decodeUnit decodes what was built of a unit; nil when ctx ends before that.
func (l *loader) decodeUnit(ctx context.Context, of *kustomize.Unit, r child.Response, isMissing bool, first schema.Position) *builtUnit {
	u := &builtUnit{Unit: of, inputs: r.Inputs, weight: fileWeight, isPart: isMissing || r.Diagnostics.HasErrors()}
	for _, d := range r.Diagnostics {
		u.diagnostics = append(u.diagnostics, diagnosis{Diagnostic: d})
	}
	for _, encoded := range r.Objects {
		if ctx.Err() != nil {
			return nil
		}
		d := l.decodeBuilt(of, encoded, first)
		u.all = append(u.all, d)
		object := schema.Position{}
		for _, o := range d.objects {
			object = o.Position
		}
		for _, wrong := range d.diagnostics {
			u.diagnostics = append(u.diagnostics, diagnosis{wrong, true, object})
		}
		u.weight += fileWeight + encodedWeight*int64(len(encoded))
	}
	return u
}

// decodeBuilt decodes an object that was built, and notes on it what has set which fields.
func (l *loader) decodeBuilt(of *kustomize.Unit, encoded []byte, first schema.Position) decoded {
	doc, err := child.Document(encoded)
	if err != nil {
		return notDecoded(err, first)
	}
	out := l.decodeDocument(*doc)
	for _, o := range out.objects {
		o.Maker, o.BuiltBy = of.By, of.Dir
		if o.Object != nil && !objectOf(o).flawed { // of one with errors nothing is stored
			schema.SetBuilt(o.Object, builtOf(of, doc))
		}
	}
	return out
}

// builtOf is what has set the fields of an object that its own document does not set.
func builtOf(of *kustomize.Unit, doc *yaml.Document) schema.Built {
	out := schema.Built{By: of.Dir}
	own := of.By(doc.Position(doc.Node))
	yaml.Scalars(doc.Node, func(field string, n *yaml.Node) {
		at := doc.Position(n)
		if by := of.By(at); by != "" && by != own {
			out.Add(field, by, at)
		}
	})
	return out
}

// unitAgain is a unit as the last Load decoded it; nil if it was built from anything else.
func (l *loader) unitAgain(of *kustomize.Unit, inputs [sha256.Size]byte) *builtUnit {
	was := l.last.units[of.Dir]
	if was == nil || was.inputs != inputs || l.opts.DiagnosticsOnly {
		return nil
	}
	u := *was
	u.Unit = of
	if l.staysStamped() {
		return &u
	}
	u.all = slices.Clone(u.all)
	for i := range u.all {
		u.all[i].objects = slices.Clone(u.all[i].objects)
		l.stamp(u.all[i].objects)
	}
	return &u
}

// unitsToKeep are this tree's units that are known again, as many as there is room for.
func (l *loader) unitsToKeep(room int64) map[string]*builtUnit {
	out := make(map[string]*builtUnit)
	for _, u := range l.units {
		if u.inputs == ([sha256.Size]byte{}) || u.weight > room {
			continue
		}
		room -= u.weight
		out[u.Dir] = u
	}
	return out
}

// withoutRivals tells of units that make an object which one before them makes, and
// leaves them out: overlays of one base are meant for different clusters.
func (l *loader) withoutRivals(units []*builtUnit) []*builtUnit {
	makers := make(map[schema.Key]*builtUnit)
	rivals := make(map[*builtUnit][]*builtUnit)
	shared := make(map[*builtUnit]schema.Key)
	kept := units[:0:0]
	for _, u := range units {
		first, key := u.rival(makers)
		if first == nil {
			kept = append(kept, u)
			continue
		}
		l.hides = true
		if rivals[first] == nil {
			shared[first] = key
		}
		rivals[first] = append(rivals[first], u)
	}
	for _, u := range kept {
		if others := rivals[u]; others != nil {
			l.diagnostics = append(l.diagnostics, tooMany(u, others, shared[u]))
		}
	}
	return kept
}

// rival is the unit before that makes an object of this one, which is noted as the maker
// of its objects if there is none.
func (u *builtUnit) rival(makers map[schema.Key]*builtUnit) (*builtUnit, schema.Key) {
	var keys []schema.Key
	for _, d := range u.all {
		for _, o := range d.objects {
			key := objectOf(o).key
			if first := makers[key]; first != nil {
				return first, key
			}
			keys = append(keys, key)
		}
	}
	for _, key := range keys {
		makers[key] = u
	}
	return nil, schema.Key{}
}

// tooMany tells of units that make one object.
func tooMany(first *builtUnit, others []*builtUnit, key schema.Key) schema.Diagnostic {
	dirs := []string{first.Dir}
	for _, u := range others {
		dirs = append(dirs, u.Dir)
	}
	choice := slices.IndexFunc(dirs, func(dir string) bool { return dir != "." })
	return schema.Diagnostic{
		Position: schema.Position{Path: first.File, Line: 1, Column: 1}, Severity: schema.Error,
		Message: fmt.Sprintf("%d kustomizations that no other one uses make %s: %s", len(dirs), key, someOf(dirs)),
		Hint:    fmt.Sprintf("choose one of them with path in the Source, such as path: %s, or exclude the others", dirs[choice]),
	}
}

// toldOnce are the diagnostics of all units. What a base has wrong is wrong in each that
// is built from it: it is told once, with those that it is wrong in.
func toldOnce(units []*builtUnit) (out schema.Diagnostics) {
	in := make(map[schema.Diagnostic][]string)
	var order schema.Diagnostics
	for _, u := range units {
		for _, wrong := range ofOneField(u.diagnostics) {
			d := wrong.Diagnostic
			if wrong.isBuilt {
				d.Message += setBy(schema.MadeBy(u.By(d.Position), d.Position, wrong.object))
			}
			dirs := in[d]
			if dirs == nil {
				order = append(order, d)
			}
			if len(dirs) == 0 || dirs[len(dirs)-1] != u.Dir {
				in[d] = append(dirs, u.Dir)
			}
		}
	}
	for _, d := range order {
		dirs := in[d]
		if len(dirs) > 1 || !strings.HasPrefix(d.Path, strings.TrimPrefix(dirs[0]+"/", "./")) {
			d.Message += ", as built by " + someOf(dirs)
		}
		out = append(out, d)
	}
	return out
}

// ofOneField makes one diagnostic of those that say the same of what one field of a
// kustomization puts into several of an object.
func ofOneField(all []diagnosis) (out []diagnosis) {
	more := make(map[schema.Diagnostic]int) // what is said, without the object's field
	first := make(map[schema.Diagnostic]int)
	for _, d := range all {
		_, said, isOfField := strings.Cut(d.Message, ": ")
		if !isOfField || !kustomize.IsFile(d.Path) {
			out = append(out, d)
			continue
		}
		key := d.Diagnostic
		key.Message = said
		if place, known := first[key]; known {
			more[key]++
			if out[place].object != d.object {
				out[place].object = schema.Position{}
			}
			continue
		}
		first[key] = len(out)
		out = append(out, d)
	}
	for key, n := range more {
		field := "field"
		if n > 1 {
			field = "fields"
		}
		out[first[key]].Message += fmt.Sprintf(", and so for %d more %s", n, field)
	}
	return out
}

// tellIdle refuses files with objects that stand beside a kustomization and are not in
// it. kustomize would not apply them, and reading file by file would: which of the two is
// meant nobody knows, and one of them removes what may be running.
func (l *loader) tellIdle(ctx context.Context) {
	idle := l.survey.Idle
	holds := make([]content, len(idle))
	inParallel(ctx, len(idle), func(i int) { holds[i] = contentOf(idle[i]) })
	var dirs []string
	in := make(map[string][]string)
	for i, f := range idle {
		switch dir := path.Dir(f.Path); holds[i] {
		case objects:
			if in[dir] == nil {
				dirs = append(dirs, dir)
			}
			in[dir] = append(in[dir], f.Path)
		case noManifest:
			l.passedOver = append(l.passedOver, f.Path)
		}
	}
	selection := selectionOf(l.spec)
	for _, dir := range dirs {
		l.hides = true
		l.fail(idleIn(in[dir], &selection))
	}
}

// idleIn tells of the files of one directory.
func idleIn(names []string, selection *selection) (at schema.Position, message, hint string) {
	at = schema.Position{Path: names[0]}
	if len(names) == 1 {
		return at, "this file stands beside a kustomization that does not use it, so it is unclear whether it is to be applied", "list it under resources of the kustomization; " + selection.hint(names[0])
	}
	message = fmt.Sprintf("%d files stand beside a kustomization that does not use them, so it is unclear whether they are to be applied: %s", len(names), someOf(names))
	return at, message, "list them under resources of the kustomization, or exclude them in the Source"
}

// content is what stands in a file that is not read as a manifest.
type content int

const (
	nothing content = iota
	noManifest
	objects // or what may be one
)

// contentOf looks into a file. Of one that cannot be read it is not known that it holds
// no object.
func contentOf(f schema.File) (out content) {
	defer func() {
		if recover() != nil {
			out = objects // a document that makes the parser panic is refused
		}
	}()
	s := &source{file: f}
	if f.Size > schema.MaxFileSize {
		return objects
	}
	parsed, problems := s.read()
	if len(problems) > 0 {
		return objects
	}
	for i := range parsed.chunks {
		documents, problem := s.documents(parsed, i, new(yaml.Arena))
		if problem != nil {
			return objects
		}
		for _, d := range documents {
			switch {
			case yaml.IsNull(d.Node):
			case isNoManifest(d.Node):
				out = noManifest
			default:
				return objects
			}
		}
	}
	return out
}

// tellBeside warns of manifests that stand below the directory of a kustomization, and in
// none: kustomize would not apply them.
func (l *loader) tellBeside() {
	names := slices.DeleteFunc(slices.Clone(l.survey.Beside), l.isOfChart)
	if len(names) == 0 {
		return
	}
	message, hint := "this file stands below a kustomization that does not use it, and is read like any other manifest", "list it under resources of a kustomization, or exclude it in the Source"
	if len(names) > 1 {
		message = fmt.Sprintf("%d files stand below a kustomization that does not use them, and are read like any other manifests: %s", len(names), someOf(names))
		hint = "list them under resources of a kustomization, or exclude them in the Source"
	}
	l.diagnostics = append(l.diagnostics, schema.Diagnostic{Position: schema.Position{Path: names[0]}, Severity: schema.Warning, Message: message, Hint: hint})
}

// IsKustomized reports whether a directory on disk has a kustomization of which a file
// below it is a part: it stands in the directory itself, or is used.
func IsKustomized(dir, name string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil || !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return kustomize.IsFile(e.Name()) }) {
		return false
	}
	tree, err := Directory(dir)
	return err == nil && kustomize.Look(context.Background(), tree, func(string) bool { return true }).Claims(name)
}

// Sent are the files of a tree that loading it may read, whatever its source leaves out:
// manifests, and what kustomizations use below the source's path and outside of it. They
// are sorted.
func Sent(ctx context.Context, tree schema.Tree) []schema.File {
	out := kustomize.Look(ctx, tree, nil).Used()
	for _, f := range tree.Files {
		if schema.IsManifest(f.Path) {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b schema.File) int { return strings.Compare(a.Path, b.Path) })
	return slices.CompactFunc(out, func(a, b schema.File) bool { return a.Path == b.Path })
}

// digest says which files are no plain manifests; empty where all are.
func (l *loader) digest() string {
	claimed := slices.Concat(l.survey.Claimed(), slices.Sorted(maps.Keys(l.charts)))
	if len(claimed) == 0 {
		return ""
	}
	h := sha256.New()
	for _, name := range claimed {
		fmt.Fprintf(h, "%q\n", name)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}
