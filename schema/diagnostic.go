package schema

import (
	"fmt"
	"slices"
	"strings"
)

// Position is a place in a user's file. Line and Column start at 1; zero means
// "the file as a whole".
type Position struct {
	Path   string `json:"path"` // slash-separated, relative to the tree's root
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// String is "path:line:col", leaving out what is not known.
func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.Path
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.Path, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.Path, p.Line, p.Column)
}

// Compare orders positions by path, line and column.
func (p Position) Compare(o Position) int {
	if c := strings.Compare(p.Path, o.Path); c != 0 {
		return c
	}
	if p.Line != o.Line {
		return p.Line - o.Line
	}
	return p.Column - o.Column
}

// Severity tells whether a diagnostic refuses the tree.
type Severity string

// An Error refuses the tree, a Warning is told and let through.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Diagnostic is one thing wrong in a user's tree: where, what, and what to
// write instead.
type Diagnostic struct {
	Position
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`        // what is wrong and why, no full stop
	Hint     string   `json:"hint,omitempty"` // what to write instead
	// Elsewhere says that it is wrong for what other sources have or do not have: it may
	// be right without a change of this tree.
	Elsewhere bool `json:"elsewhere,omitempty"`
}

// String is "path:line:col: message (hint)"; a warning says so. It is one line,
// and Printable: paths and what messages quote come from the tree.
func (d Diagnostic) String() string {
	var b strings.Builder
	b.WriteString(d.Position.String())
	b.WriteString(": ")
	if d.Severity == Warning {
		b.WriteString("warning: ")
	}
	b.WriteString(d.Message)
	if d.Hint != "" {
		b.WriteString(" (" + d.Hint + ")")
	}
	return Printable(b.String())
}

// Alike reports whether two diagnostics say the same, whatever a total has come to that is
// over its bound, and whoever takes which part of it.
func (d Diagnostic) Alike(o Diagnostic) bool {
	d.Message, o.Message = withoutTotal(d.Message), withoutTotal(o.Message)
	return d == o
}

// withoutTotal is a message without what moves of one that is "N ..., at most BOUND: the
// parts of N".
func withoutTotal(message string) string {
	total, bound, ok := strings.Cut(message, ", at most ")
	if !ok {
		return message
	}
	total = strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, total)
	bound, _, _ = strings.Cut(bound, ": ")
	return total + ", at most " + bound
}

// Diagnostics is a list of them; it is an error when it holds an Error.
type Diagnostics []Diagnostic

// HasErrors reports whether any of them refuses the tree.
func (ds Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == Error })
}

// WaitForOthers reports whether the tree is refused, and for nothing but what other
// sources have or do not have.
func (ds Diagnostics) WaitForOthers() bool {
	return ds.HasErrors() && !slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == Error && !d.Elsewhere })
}

// Sort orders by position, errors before warnings at one place, and drops
// exact duplicates.
func (ds Diagnostics) Sort() Diagnostics {
	slices.SortFunc(ds, func(a, b Diagnostic) int {
		if c := a.Position.Compare(b.Position); c != 0 {
			return c
		}
		if c := strings.Compare(string(a.Severity), string(b.Severity)); c != 0 {
			return c
		}
		return strings.Compare(a.Message, b.Message)
	})
	return slices.Compact(ds)
}

// Error lists all of them, one a line.
func (ds Diagnostics) Error() string {
	lines := make([]string, len(ds))
	for i, d := range ds {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}
