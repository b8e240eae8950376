package load

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
			if decl.Constraint == token.ILLEGAL {
				if name, ok := regularName(decl.Label); ok {
					w.index[name] = append(w.index[name], decl)
				}
			}
		}
	}
}

// regularName is the name of a label that is written out and makes a regular
// field.
func regularName(label ast.Label) (string, bool) {
	name, isIdentifier, err := ast.LabelName(label)
	if err != nil || isIdentifier && strings.ContainsRune("#_", rune((name + " ")[0])) {
		return "", false
	}
	return name, true
}

// labels finds the label of a field by where its value begins.
type labels map[token.Pos]token.Pos

func labelsIn(files []*ast.File) labels {
	found := make(labels)
	for _, f := range files {
		ast.Walk(f, func(n ast.Node) bool {
			if field, ok := n.(*ast.Field); ok && field.Value != nil {
				found[field.Value.Pos()] = field.Label.Pos()
			}
			return true
		}, nil)
	}
	return found
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
		s.label = l[s.value]
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

// literalOf is where the literal stands that v is or refers to.
func literalOf(v cue.Value) token.Pos {
	for range maxReferences {
		source := v.Source()
		if field, ok := source.(*ast.Field); ok {
			source = field.Value
		}
		if literal, ok := source.(*ast.BasicLit); ok {
			return literal.Pos()
		}
		next := cue.Dereference(v)
		if next == v {
			break
		}
		v = next
	}
	return token.NoPos
}
