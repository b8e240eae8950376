package schema

import "fmt"

// Cell is one cell of a kind's row: what is done for the kind, or why nothing is.
// Exactly one of the two is set, which rowtest.Check checks.
type Cell[T any] struct {
	Do   T
	None string // the reason why the kind needs nothing here
}

// Rows is what one floor knows of the kinds: a row for each. Generic code asks for
// a kind's row and knows no kind by name; where there is none the kind is unknown to
// the floor, and the code does what harms nobody.
type Rows[R any] struct {
	rows []R
	at   []int // by Index: the row's place in rows plus one; 0 for no row
}

// RowsOf is the table with these rows, which keep their order. Two rows of one kind
// panic.
func RowsOf[R any](kind func(*R) Kind, rows ...R) Rows[R] {
	t := Rows[R]{rows: rows, at: make([]int, len(kinds))}
	for i := range rows {
		k := kind(&rows[i])
		if t.at[Index(k)] != 0 {
			panic(fmt.Sprintf("schema: kind %s has two rows", k))
		}
		t.at[Index(k)] = i + 1
	}
	return t
}

// Of is the row of a kind, nil where there is none. It is shared; do not change it.
func (t Rows[R]) Of(k Kind) *R {
	i, ok := byKind[k]
	if !ok || t.at[i] == 0 {
		return nil
	}
	return &t.rows[t.at[i]-1]
}

// All are the rows in their order. The slice is shared; do not change it.
func (t Rows[R]) All() []R { return t.rows }
