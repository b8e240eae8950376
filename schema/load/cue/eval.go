package cue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/cuecontext"
	cueload "cuelang.org/go/cue/load"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
	"cuelang.org/go/mod/modfile"
	"cuelang.org/go/mod/module"

	"fairlead/schema"
	"fairlead/schema/load/child"
	"fairlead/schema/load/yaml"
)

// maxCUENodes bounds what one directory may evaluate to.
const maxCUENodes = 20_000_000

// evaluate evaluates one directory's CUE. It runs in the child only:
// nothing bounds what it costs.
func evaluate(files *fileSet, dir string) (resp child.Response) {
	e := instance{dir: dir, files: files, reported: make(map[string]bool)}
	defer func() {
		if r := recover(); r != nil {
			e.fail(e.firstFile(), "CUE's evaluator panicked", "this is a bug in CUE; writing it differently may help")
			resp = child.Response{Directory: dir, Diagnostics: e.diagnostics, Whole: true}
		}
	}()
	e.eval()
	return child.Response{Directory: dir, Objects: e.objects, Diagnostics: e.bounded(), Used: e.used, Whole: e.whole}
}

// instance is the CUE of one directory being evaluated.
type instance struct {
	dir         string
	files       *fileSet
	syntax      []*ast.File // of this directory's package, ancestors' files with it
	labels      labels
	written     *written
	root        cue.Value
	nodes       int
	objects     []json.RawMessage
	diagnostics schema.Diagnostics
	reported    map[string]bool // CUE's errors that are among the diagnostics
	used        []string
	whole       bool
}

func (e *instance) eval() {
	e.note(nil)
	e.warnOfUnread()
	packageName, ok := e.packageName()
	if !ok {
		return
	}
	built := cueload.Instances([]string{"."}, &cueload.Config{
		Overlay: e.files.overlay, Dir: path.Join(treeRoot, e.dir), ModuleRoot: path.Join(treeRoot, e.files.moduleRoot(e.dir)),
		Package: packageName, Registry: noRegistry{}, Env: []string{"CUE_REGISTRY=none"},
	})[0]
	e.note(built)
	var nothing *cueload.NoFilesError
	if errors.As(built.Err, &nothing) {
		return // "@if" leaves all of it out
	}
	if built.Err != nil {
		e.whole = true
		e.report(built.Err, subject{file: e.blamed(built.Err)})
		return
	}
	e.syntax, e.labels, e.written = built.Files, labelsIn(built.Files), writtenIn(built.Files)
	e.root = cuecontext.New().BuildInstance(built)
	if err := e.root.Validate(); err != nil {
		e.report(err, subject{})
	}
	e.collect()
}

// warnOfUnread tells which files CUE takes no notice of. Those of the cue command
// are known to be its own.
func (e *instance) warnOfUnread() {
	for _, name := range e.files.names[e.dir] {
		if name[0] == '_' {
			e.diagnostics = append(e.diagnostics, schema.Diagnostic{
				Position: schema.Position{Path: path.Join(e.dir, name)}, Severity: schema.Warning, Message: "not read: to CUE, a file whose name begins with _ is not there",
			})
		}
	}
}

// blamed is the file for an error of loading that names no place.
func (e *instance) blamed(err error) string {
	file := path.Join(e.files.moduleRoot(e.dir), moduleFile)
	if _, ok := e.files.texts[file]; ok && strings.Contains(err.Error(), path.Base(moduleFile)) {
		return file
	}
	return ""
}

// packageName is what the directory's files call themselves, "_" if nothing. One
// directory is one package; the cue command's own _test and _tool files are
// none of it.
func (e *instance) packageName() (string, bool) {
	var name string
	var first string
	for _, file := range e.files.manifests(e.dir) {
		syntax, err := parser.ParseFile(path.Join(treeRoot, file), e.files.texts[file], parser.PackageClauseOnly)
		if err != nil {
			e.report(err, subject{})
			continue
		}
		switch own := syntax.PackageName(); {
		case first == "":
			name, first = own, file
		case own != name:
			at := syntax.Pos()
			if clause := packageClause(syntax); clause != nil {
				at = clause.Name.Pos()
			}
			e.diagnostics = append(e.diagnostics, schema.Diagnostic{
				Position: e.position(at, file), Severity: schema.Error,
				Message: fmt.Sprintf("%s, but %s is of %s: one directory is one package", named(own), path.Base(first), named(name)),
				Hint:    "move it to a directory of its own, or exclude it in the Source",
			})
		}
	}
	if name == "" {
		name = "_"
	}
	return name, first != "" && !e.diagnostics.HasErrors()
}

func packageClause(f *ast.File) *ast.Package {
	for _, decl := range f.Decls {
		if p, ok := decl.(*ast.Package); ok {
			return p
		}
	}
	return nil
}

func named(packageName string) string {
	if packageName == "" {
		return "no package"
	}
	return "package " + packageName
}

// note remembers which directories the result depends on: this one, those of
// every package built, and those above them up to the module's root, which may
// add files to a package.
func (e *instance) note(built *build.Instance) {
	seen := make(map[string]bool)
	e.enter(seen, e.dir)
	if built != nil {
		eachInstance(built, make(map[*build.Instance]bool), func(i *build.Instance) {
			for _, f := range i.BuildFiles {
				e.enter(seen, path.Dir(fromCUE(f.Filename)))
			}
		})
	}
	e.used = slices.Sorted(maps.Keys(seen))
}

func (e *instance) enter(seen map[string]bool, dir string) {
	root := e.files.moduleRoot(dir)
	for ; !seen[dir]; dir = path.Dir(dir) {
		seen[dir] = true
		if dir == root {
			return
		}
	}
}

// eachInstance calls do on an instance and all that it imports, once each.
func eachInstance(i *build.Instance, visited map[*build.Instance]bool, do func(*build.Instance)) {
	if visited[i] {
		return
	}
	visited[i] = true
	do(i)
	for _, imported := range i.Imports {
		eachInstance(imported, visited, do)
	}
}

// noRegistry refuses to fetch modules: what a tree imports it holds.
type noRegistry struct{}

func (noRegistry) refuse(what string) error {
	return fmt.Errorf("%s is not fetched: a tree must hold what it imports, below cue.mod/pkg or as a package of its own", what)
}

func (r noRegistry) ModFile(_ context.Context, m module.Version) (*modfile.File, error) {
	return nil, r.refuse(m.String())
}

func (r noRegistry) Fetch(_ context.Context, m module.Version) (module.SourceLoc, error) {
	return module.SourceLoc{}, r.refuse(m.String())
}

func (r noRegistry) ModuleVersions(_ context.Context, path string) ([]string, error) {
	return nil, r.refuse(path)
}

// found is what a part of an instance holds.
type found struct {
	objects int
	strays  []stray // visible and concrete, but in no object
}

type stray struct {
	name   string
	reason string
	at     token.Pos
}

func (f *found) add(part found) {
	f.objects += part.objects
	f.strays = append(f.strays, part.strays...)
}

// collect takes the objects out of an instance and refuses what else it shows.
func (e *instance) collect() {
	for _, s := range e.search(e.root, e.written, token.NoPos, 0).strays {
		e.fail(e.position(s.at, ""), fmt.Sprintf("%s is no object and holds none: %s", s.name, s.reason), "what only other fields use is written as _hidden or #Definition")
	}
}

// search walks v down to its objects. above is the innermost literal text on the
// way to v.
func (e *instance) search(v cue.Value, w *written, above token.Pos, depth int) found {
	if len(w.fields) > 0 {
		above = w.fields[0].Label.Pos()
	} else if label := e.labels.spotOf(v, w).label; e.labels.own[label] {
		above = label
	}
	if depth > yaml.MaxDepth {
		e.fail(e.position(v.Pos(), ""), fmt.Sprintf("nested deeper than %d levels", yaml.MaxDepth), "")
		return found{}
	}
	value := settled(v)
	if member(value, "apiVersion").Exists() && member(value, "kind").Exists() {
		e.object(v, w, above)
		return found{objects: 1}
	}
	err := value.Err()
	if err != nil && value.IncompleteKind() == cue.BottomKind {
		e.report(err, subject{at: above})
	}
	out, isComposite := e.searchBelow(value, w, above, depth)
	switch {
	case err != nil, !value.IsConcrete():
		out.strays = nil // what is left open shows nothing
	case depth == 0 && !isComposite:
		out.strays = []stray{{"the value of the file", "it is a single value", v.Pos()}}
	case depth > 0 && out.objects == 0 && (!isComposite || len(out.strays) > 0):
		out.strays = []stray{{v.Path().String(), whyNot(value), e.labels.spotOf(v, w).label}}
	}
	return out
}

// searchBelow looks into a struct or list, also one that has errors in some of
// its parts.
func (e *instance) searchBelow(v cue.Value, w *written, above token.Pos, depth int) (out found, isComposite bool) {
	if elements, err := v.List(); err == nil {
		for i := 0; elements.Next(); i++ {
			out.add(e.search(elements.Value(), w.element(i), above, depth+1))
		}
		return out, true
	}
	fields, err := v.Fields()
	if err != nil {
		return out, false
	}
	for fields.Next() {
		if selector := fields.Selector(); selector.LabelType() == cue.StringLabel {
			out.add(e.search(fields.Value(), w.field(selector.Unquoted()), above, depth+1))
		}
	}
	return out, true
}

func whyNot(v cue.Value) string {
	switch {
	case member(v, "apiVersion").Exists():
		return "it has no kind"
	case member(v, "kind").Exists():
		return "it has no apiVersion"
	}
	return "it has no apiVersion and kind"
}

func member(v cue.Value, name string) cue.Value { return v.LookupPath(cue.MakePath(cue.Str(name))) }

// settled is v's default, if it has one. Any other value stays as it is: Default
// would change the path of one that is a reference.
func settled(v cue.Value) cue.Value {
	if chosen, ok := v.Default(); ok {
		return chosen
	}
	return v
}

// object writes one object out. It stands where a person wrote it: a template
// is not the place to look for what became of one of its uses.
func (e *instance) object(v cue.Value, w *written, above token.Pos) {
	if err := v.Validate(cue.Concrete(true)); err != nil {
		e.report(err, subject{at: above})
		return
	}
	at := above
	if !at.IsValid() {
		at = e.labels.spotOf(member(v, "kind"), w.field("kind")).label
	}
	out := child.Writer{}
	if !e.flatten(&out, v, w, at, 0) {
		return
	}
	encoded, err := out.Encode()
	if err != nil {
		e.fail(e.position(at, ""), fmt.Sprintf("cannot be written out: %v", err), "")
		return
	}
	e.objects = append(e.objects, encoded)
}

// flatten writes v, which stands at pos, and everything below it.
func (e *instance) flatten(out *child.Writer, v cue.Value, w *written, pos token.Pos, depth int) bool {
	e.nodes++
	switch {
	case depth > yaml.MaxDepth:
		e.fail(e.position(pos, ""), fmt.Sprintf("nested deeper than %d levels", yaml.MaxDepth), "")
		return false
	case e.nodes > maxCUENodes:
		e.fail(e.firstFile(), fmt.Sprintf("evaluates to more than %d values", maxCUENodes), "split the directory")
		return false
	}
	v = settled(v)
	switch v.Kind() {
	case cue.StructKind:
		return e.flattenStruct(out, v, w, pos, depth)
	case cue.ListKind:
		length, err := v.Len().Int64()
		if err != nil {
			e.report(err, subject{at: pos})
			return false
		}
		out.Composite(child.List, int(length), e.place(pos))
		elements, _ := v.List()
		for i := 0; elements.Next(); i++ {
			item, below := elements.Value(), w.element(i)
			if !e.flatten(out, item, below, e.below(e.labels.spotOf(item, below), pos).value, depth+1) {
				return false
			}
		}
		return true
	}
	return e.flattenScalar(out, v, pos)
}

func (e *instance) flattenStruct(out *child.Writer, v cue.Value, w *written, pos token.Pos, depth int) bool {
	var names []string
	var values []cue.Value
	for fields, _ := v.Fields(); fields.Next(); {
		names = append(names, fields.Selector().Unquoted())
		values = append(values, fields.Value())
	}
	out.Composite(child.Object, len(names), e.place(pos))
	for i, name := range names {
		below := w.field(name)
		s := e.below(e.labels.spotOf(values[i], below), pos)
		out.Key(name, e.place(s.label))
		if !e.flatten(out, values[i], below, s.value, depth+1) {
			return false
		}
	}
	return true
}

// below is s, or where its parent stands for what has no place of its own.
func (e *instance) below(s spot, parent token.Pos) spot {
	if !s.value.IsValid() {
		s.value = parent
	}
	if !s.label.IsValid() {
		s.label = s.value
	}
	return s
}

func (e *instance) flattenScalar(out *child.Writer, v cue.Value, pos token.Pos) bool {
	kind, text, err := scalarOf(v)
	if err != nil {
		e.report(err, subject{at: pos})
		return false
	}
	out.Scalar(kind, text, e.place(pos))
	return true
}

func scalarOf(v cue.Value) (kind int, text string, err error) {
	switch v.Kind() {
	case cue.StringKind:
		text, err = v.String()
		return child.String, text, err
	case cue.NullKind:
		return child.Null, "null", nil
	case cue.BytesKind:
		kind = child.Bytes
	case cue.IntKind:
		kind = child.Int
	case cue.BoolKind:
		kind = child.Bool
	default:
		kind = child.Float
	}
	encoded, err := v.MarshalJSON()
	if kind == child.Bytes && err == nil {
		err = json.Unmarshal(encoded, &text) // a string in base64
		return kind, text, err
	}
	return kind, string(encoded), err
}

func (e *instance) place(pos token.Pos) child.Place {
	if !pos.IsValid() {
		return child.Place{File: e.firstFile().Path}
	}
	p := pos.Position()
	return child.Place{File: e.known(p.Filename), Line: p.Line, Column: p.Column}
}

// position is a place for a diagnostic; what has none is the file's, or the
// directory's.
func (e *instance) position(pos token.Pos, file string) schema.Position {
	if !pos.IsValid() {
		if file == "" {
			return e.firstFile()
		}
		return schema.Position{Path: file}
	}
	p := e.place(pos)
	return schema.Position{Path: p.File, Line: p.Line, Column: p.Column}
}

// known keeps positions to files of the tree.
func (e *instance) known(file string) string {
	name := fromCUE(file)
	if _, ok := e.files.texts[name]; ok {
		return name
	}
	return e.firstFile().Path
}

func (e *instance) firstFile() schema.Position {
	if files := e.files.manifests(e.dir); len(files) > 0 {
		return schema.Position{Path: files[0]}
	}
	return schema.Position{Path: e.dir}
}

func (e *instance) fail(at schema.Position, message, hint string) {
	e.diagnostics = append(e.diagnostics, schema.Diagnostic{Position: at, Severity: schema.Error, Message: message, Hint: hint})
}

// bounded keeps the first of too many diagnostics.
func (e *instance) bounded() schema.Diagnostics {
	all := e.diagnostics.Sort()
	if len(all) <= yaml.MaxDiagnostics {
		return all
	}
	more := schema.Diagnostic{Position: e.firstFile(), Severity: schema.Error, Message: fmt.Sprintf("%d more errors in this directory", len(all)-yaml.MaxDiagnostics)}
	return append(all[:yaml.MaxDiagnostics], more)
}
