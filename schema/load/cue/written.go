package cue

import (
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"
)

// written is what stands literally in the files of an instance for one path, in
// the order of the files: not what definitions, patterns and references add.
// It finds the line a person wrote for a value that several places make up.
type written struct {
	fields []*ast.Field
	exprs  []ast.Expr // the fields' values; of the root and of list elements, there are no fields
	index  map[string][]*ast.Field
}

func writtenIn(files []*ast.File) *written {
	w := &written{index: make(map[string][]*ast.Field)}
	for _, f := range files {
		w.collect(f.Decls)
	}
	return w
}

// field is what stands for a regular field of w; never nil.
func (w *written) field(name string) *written {
	if w.index == nil {
		w.index = make(map[string][]*ast.Field)
		for _, e := range w.exprs {
			w.descend(e)
		}
	}
	out := &written{fields: w.index[name]}
	for _, f := range out.fields {
		out.exprs = append(out.exprs, f.Value)
	}
	return out
}

// element is what stands for the i-th element of w.
func (w *written) element(i int) *written {
	out := &written{}
	for _, e := range w.exprs {
		for _, operand := range operands(e) {
			if list, ok := operand.(*ast.ListLit); ok && i < len(list.Elts) && isPlain(list.Elts[:i+1]) {
				out.exprs = append(out.exprs, list.Elts[i])
			}
		}
	}
	return out
}

// isPlain tells whether the elements stand in the list where they are written.
func isPlain(elements []ast.Expr) bool {
	for _, e := range elements {
		switch e.(type) {
		case *ast.Ellipsis, *ast.Comprehension:
			return false
		}
	}
	return true
}

// operands are the parts of "a & b & (c)".
func operands(e ast.Expr) []ast.Expr {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return operands(e.X)
	case *ast.BinaryExpr:
		if e.Op == token.AND {
			return append(operands(e.X), operands(e.Y)...)
		}
	}
	return []ast.Expr{e}
}

func (w *written) descend(e ast.Expr) {
	for _, operand := range operands(e) {
		switch operand := operand.(type) {
		case *ast.StructLit:
			w.collect(operand.Elts)
		case *ast.Comprehension:
			w.descend(operand.Value)
		}
	}
}

func (w *written) collect(decls []ast.Decl) {
	for _, decl := range decls {
		switch decl := decl.(type) {
		case *ast.EmbedDecl:
			w.descend(decl.Expr)
		case *ast.Comprehension:
			w.descend(decl.Value)
		case *ast.Field:
			if name, _, err := ast.LabelName(decl.Label); err == nil && !isTemplate(decl) {
				w.index[name] = append(w.index[name], decl)
			}
		}
	}
}

// labels tells of the fields of an instance's files what the evaluator does not.
type labels struct {
	of  map[token.Pos]token.Pos // a field's label, by where its value begins
	own map[token.Pos]bool      // labels that are in no template, pattern or definition
}

func labelsIn(files []*ast.File) labels {
	l := labels{of: make(map[token.Pos]token.Pos), own: make(map[token.Pos]bool)}
	for _, f := range files {
		templates := 0
		ast.Walk(f, func(n ast.Node) bool {
			if isTemplate(n) {
				templates++
			}
			if field, ok := n.(*ast.Field); ok && field.Value != nil {
				l.of[field.Value.Pos()] = field.Label.Pos()
				l.own[field.Label.Pos()] = templates == 0
			}
			return true
		}, func(n ast.Node) {
			if isTemplate(n) {
				templates--
			}
		})
	}
	return l
}

// isTemplate reports whether what is below n is not itself a part of the result.
func isTemplate(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.LetClause:
		return true
	case *ast.Field:
		_, isPattern := n.Label.(*ast.ListLit)
		return isPattern || n.Constraint != token.ILLEGAL || isHidden(n.Label)
	}
	return false
}

// isHidden reports whether a label makes a definition or a hidden field.
func isHidden(label ast.Label) bool {
	name, isIdentifier, err := ast.LabelName(label)
	return err == nil && isIdentifier && (strings.HasPrefix(name, "#") || strings.HasPrefix(name, "_"))
}

// spot is where a field stands: its label and its value.
type spot struct{ label, value token.Pos }

// spotOf finds the line a person would change to change v: first what is
// written for it literally, then the one place that makes it up. A reference
// is followed to the scalar it stands for.
func (l labels) spotOf(v cue.Value, w *written) spot {
	var s spot
	switch source := v.Source().(type) {
	case *ast.Field:
		s = spot{source.Label.Pos(), source.Value.Pos()}
	case nil:
		s.value = v.Pos()
	default:
		s.value = source.Pos()
	}
	if !s.label.IsValid() {
		s.label = l.of[s.value]
	}
	for _, field := range w.fields {
		s.label = field.Label.Pos()
		if !isScalar(v) {
			s.value = field.Value.Pos()
		}
	}
	if isScalar(v) {
		if literal := literalOf(v); literal.IsValid() {
			s.value = literal
		}
	}
	if !s.label.IsValid() {
		s.label = s.value
	}
	return s
}

func isScalar(v cue.Value) bool { return v.IncompleteKind()&(cue.StructKind|cue.ListKind) == 0 }

// maxReferences bounds how far a reference to a reference is followed.
const maxReferences = 8

// literalOf is where the expression stands that v is, or refers to in the end;
// unknown if several make it up.
func literalOf(v cue.Value) token.Pos {
	var at token.Pos
	for range maxReferences {
		source := v.Source()
		if field, ok := source.(*ast.Field); ok {
			source = field.Value
		}
		if source == nil {
			break
		}
		at = source.Pos()
		next := cue.Dereference(v)
		if _, isLiteral := source.(*ast.BasicLit); isLiteral || next == v {
			break
		}
		v = next
	}
	return at
}
