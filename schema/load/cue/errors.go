package cue

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/token"

	"fairlead/schema"
	"fairlead/schema/load/yaml"
)

// subject is what errors are about: an error without a better place of its own
// is told at its position, or in its file.
type subject struct {
	at   token.Pos
	file string
}

// report turns CUE's errors into diagnostics, each one once.
func (e *instance) report(err error, about subject) {
	for _, one := range errors.Errors(err) {
		format, _ := one.Msg()
		// This only heads the list of what is wrong with each alternative.
		if strings.HasPrefix(format, "%d errors in empty disjunction") || len(e.reported) > maxReported {
			continue
		}
		if key := fmt.Sprint(one.Error(), errors.Positions(one)); !e.reported[key] {
			e.reported[key] = true
			e.diagnostics = append(e.diagnostics, e.diagnose(one, about))
		}
	}
}

// maxReported bounds the work on errors of which only the first are told.
const maxReported = 10 * yaml.MaxDiagnostics

func (e *instance) diagnose(err errors.Error, about subject) schema.Diagnostic {
	positions := errors.Positions(err)
	slices.SortStableFunc(positions, func(a, b token.Pos) int { return e.closeness(a).compare(e.closeness(b)) })
	at := token.NoPos
	if len(positions) > 0 {
		at, positions = positions[0], positions[1:]
	}
	if mine := e.mine(err.Path(), about.at); mine.IsValid() && (!at.IsValid() || e.closeness(at).rank > 0) {
		if at.IsValid() {
			positions = append([]token.Pos{at}, positions...)
		}
		at = mine
	}
	if !at.IsValid() {
		at = e.declared(err.Path())
	}
	return schema.Diagnostic{Position: e.position(at, about.file), Severity: schema.Error, Message: e.message(err), Hint: e.seeAlso(at, positions)}
}

// mine is the innermost place on the way to an error that a person wrote
// themselves.
func (e *instance) mine(labels []string, where token.Pos) token.Pos {
	if e.written == nil || len(labels) == 0 || strings.HasPrefix(labels[0], "#") || strings.HasPrefix(labels[0], "_") {
		return where
	}
	at := where
	w := e.written
	for _, label := range labels {
		if i, err := strconv.Atoi(label); err == nil {
			w = w.element(i)
		} else {
			w = w.field(unquoted(label))
		}
		if len(w.fields) > 0 {
			at = w.fields[0].Label.Pos()
		}
	}
	return at
}

// declared is where the field at the top of a path stands, a definition too.
func (e *instance) declared(labels []string) token.Pos {
	for _, f := range e.syntax {
		for _, decl := range f.Decls {
			if field, ok := decl.(*ast.Field); ok && len(labels) > 0 {
				if name, _, err := ast.LabelName(field.Label); err == nil && name == unquoted(labels[0]) {
					return field.Label.Pos()
				}
			}
		}
	}
	return token.NoPos
}

func unquoted(label string) string {
	if name, err := strconv.Unquote(label); err == nil {
		return name
	}
	return label
}

// seeAlso names the other places that take part in an error.
func (e *instance) seeAlso(at token.Pos, others []token.Pos) string {
	const most = 3
	here := e.position(at, "")
	var places []string
	for _, p := range others {
		there := e.position(p, "")
		if !p.IsValid() || there.Path == here.Path && there.Line == here.Line || len(places) == most {
			continue
		}
		text := there.String()
		switch {
		case there.Path == here.Path:
			text = fmt.Sprintf("line %d", there.Line)
		case path.Dir(there.Path) == path.Dir(here.Path):
			there.Path = path.Base(there.Path)
			text = there.String()
		}
		if !slices.Contains(places, text) {
			places = append(places, text)
		}
	}
	if len(places) == 0 {
		return ""
	}
	return "see " + strings.Join(places, ", ")
}

// embeddedPosition is a position in the text of an error; it has its own place.
var embeddedPosition = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\S+\.cue:\d+(:\d+)?: `) })

func (e *instance) message(err errors.Error) string {
	if e.inSecret(err.Path()) {
		return strings.Join(err.Path(), ".") + ": does not fit its constraints, and a Secret's values are not told"
	}
	text := strings.ReplaceAll(embeddedPosition().ReplaceAllString(err.Error(), ""), treeRoot+"/", "")
	return yaml.Cut(strings.Join(strings.Fields(text), " "), yaml.MaxMessage) // it may quote whole values
}

// inSecret reports whether a path goes into a Secret's values.
func (e *instance) inSecret(labels []string) bool {
	v := e.root
	isSecret := false
	for _, label := range labels {
		if isSecret && (label == "data" || label == "stringData") {
			return true
		}
		selector, ok := selectorOf(label)
		if !ok {
			return false
		}
		if v = v.LookupPath(cue.MakePath(selector)); !v.Exists() {
			return false
		}
		kind, err := member(v, "kind").String()
		info, _ := schema.Lookup(schema.Kind(kind))
		isSecret = err == nil && info.Sealed
	}
	return false
}

// selectorOf is the selector of a label in an error's path; hidden fields have
// none that could be told from their name.
func selectorOf(label string) (cue.Selector, bool) {
	if i, err := strconv.Atoi(label); err == nil {
		return cue.Index(i), true
	}
	switch label[:min(1, len(label))] {
	case "_":
		return cue.Selector{}, false
	case "#":
		return cue.Def(label), true
	}
	return cue.Str(unquoted(label)), true
}

// closeness says how likely a person looks for a mistake at a position: in their
// own text first, and there where it is written most closely.
type closeness struct {
	rank  int // 0 their text, 1 a template, a pattern or a let, 2 another package
	depth int // of fields
}

func (c closeness) compare(o closeness) int {
	if c.rank != o.rank {
		return c.rank - o.rank
	}
	return o.depth - c.depth
}

func (e *instance) closeness(pos token.Pos) closeness {
	for _, f := range e.syntax {
		if f.Filename == pos.Filename() {
			return closenessIn(f, pos)
		}
	}
	return closeness{rank: 2}
}

func closenessIn(f *ast.File, pos token.Pos) closeness {
	var c closeness
	ast.Walk(f, func(n ast.Node) bool {
		if _, isFile := n.(*ast.File); isFile {
			return true
		}
		if !n.Pos().IsValid() || n.Pos().Offset() > pos.Offset() || n.End().Offset() <= pos.Offset() {
			return false
		}
		field, isField := n.(*ast.Field)
		isFilledIn := isField && isHidden(field.Label) && c.depth > 0 // "#name" inside of a use of "#app"
		if isTemplate(n) && !isFilledIn {
			c.rank = 1
		}
		if isField {
			c.depth++
		}
		return true
	}, nil)
	return c
}
