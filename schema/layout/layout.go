// Package layout answers "how does this text stand on a screen?": it aligns tables
// and folds lines to the columns that the writer has. Whatever is shown is made
// printable first (schema.Printable). It colours nothing and knows no terminal: a
// writer that is one says how wide it is. Commands and the rooms that write plans and
// explanations call it.
package layout

import (
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"

	"fairlead/schema"
)

const (
	// gap is between two columns of a table.
	gap = 2
	// leastColumn has room for a wide character.
	leastColumn = 2
	// hang is how much deeper the second line of a folded one stands than the first.
	hang = 2
	// readable is how wide a column of sentences should be: one that has less than that,
	// and half of what it needs, is a tower of words.
	readable = 24
	// below is how deep the last column's text stands where it is below its row.
	below = 4
)

// Columns is how many cells a line of w has; 0 is any number.
func Columns(w io.Writer) int {
	if sized, ok := w.(interface{ Columns() int }); ok {
		return sized.Columns()
	}
	return 0
}

// Sized is w as something that wide, for text that is written to a screen later.
func Sized(w io.Writer, columns int) io.Writer { return sized{w, columns} }

type sized struct {
	io.Writer
	columns int
}

func (s sized) Columns() int { return s.columns }

// Fprintf is schema.Fprintf for whole lines: those too long for w are folded.
func Fprintf(w io.Writer, format string, args ...any) {
	var b strings.Builder
	schema.Fprintf(&b, format, args...)
	WriteText(w, b.String())
}

// Lines is w for a writer of whole lines that knows no screens, such as one that tells
// of progress: those too long for w are folded.
func Lines(w io.Writer) io.Writer { return linesOf{w} }

type linesOf struct{ io.Writer }

func (l linesOf) Write(p []byte) (int, error) {
	WriteText(l.Writer, string(p))
	return len(p), nil
}

// WriteText writes lines of text, those too long for w folded.
func WriteText(w io.Writer, text string) {
	columns := Columns(w)
	var b strings.Builder
	for line := range strings.Lines(schema.PrintableText(text)) {
		whole := strings.TrimSuffix(line, "\n")
		b.WriteString(strings.Join(Fold(whole, columns, indentation(whole)+hang), "\n"))
		b.WriteString(line[len(whole):])
	}
	_, _ = io.WriteString(w, b.String()) // a screen that is gone is nobody's error
}

func indentation(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// WriteTable writes rows of cells aligned under each other, each line behind indent.
func WriteTable(w io.Writer, indent string, rows [][]string) {
	columns := Columns(w)
	if columns > 0 {
		columns = max(1, columns-len(indent))
	}
	var b strings.Builder
	for _, row := range Table(rows, columns) {
		for _, line := range row {
			b.WriteString(indent + line + "\n")
		}
	}
	_, _ = io.WriteString(w, b.String())
}

// Table aligns rows of cells: for each row the lines it takes, without spaces at
// their ends. A table that is wider than columns (0: any width) has its widest cells
// folded, sentences before names; where there is no room for the sentences of its last
// column, they stand below their rows.
func Table(rows [][]string, columns int) [][]string {
	shown, natural, floors := measure(rows)
	widths := natural
	if columns > 0 {
		widths = fit(natural, floors, columns-gap*(len(natural)-1))
	}
	last := len(natural) - 1
	if last > 0 && crowded(shown, natural, floors, widths) {
		return apart(rows, last, columns)
	}
	out := make([][]string, len(rows))
	for i, row := range shown {
		out[i] = lines(row, widths)
	}
	return out
}

// crowded reports whether the last column is one of sentences that leaves the names
// before it no room, or has none itself.
func crowded(shown [][]string, natural, floors, widths []int) bool {
	last := len(natural) - 1
	if natural[last] <= widths[last] || !slices.ContainsFunc(shown, func(row []string) bool { return len(row) > last && strings.Contains(row[last], " ") }) {
		return false
	}
	for j := range last {
		if widths[j] < floors[j] {
			return true
		}
	}
	return widths[last] < readable && natural[last] > 2*widths[last]
}

// apart is the table with the cells of its last column below their rows.
func apart(rows [][]string, last, columns int) [][]string {
	heads := make([][]string, len(rows))
	for i, row := range rows {
		heads[i] = row[:min(last, len(row))]
	}
	out := Table(heads, columns)
	for i, row := range rows {
		if len(row) <= last || row[last] == "" {
			continue
		}
		for _, line := range Fold(schema.Printable(row[last]), max(1, columns-below), 0) {
			out[i] = append(out[i], strings.Repeat(" ", below)+line)
		}
	}
	return out
}

// measure is what the cells show, how wide each column is by nature, and how wide it
// must be so that no word breaks.
func measure(rows [][]string) (shown [][]string, natural, floors []int) {
	shown = make([][]string, len(rows))
	for i, row := range rows {
		shown[i] = make([]string, len(row))
		for j, cell := range row {
			if j == len(natural) {
				natural, floors = append(natural, 0), append(floors, 0)
			}
			shown[i][j] = schema.Printable(cell)
			natural[j] = max(natural[j], Width(shown[i][j]))
			floors[j] = max(floors[j], longestWord(shown[i][j]), min(natural[j], leastColumn))
		}
	}
	return shown, natural, floors
}

// fit is how wide each column becomes so that all have room: none wider than it is by
// nature and, where that can be, none narrower than its floor.
func fit(natural, floors []int, room int) []int {
	floors = atMost(floors, make([]int, len(natural)), room)
	return atMost(natural, floors, room)
}

// atMost is the widths, the widest of them cut to one limit so that the sum is room
// or less; none is cut below its floor.
func atMost(widths, floors []int, room int) []int {
	cut := func(limit int) (out []int, total int) {
		for i, w := range widths {
			out = append(out, max(floors[i], min(w, limit)))
			total += out[i]
		}
		return out, total
	}
	limit := sort.Search(slices.Max(append([]int{0}, widths...)), func(limit int) bool {
		_, total := cut(limit + 1)
		return total > room
	})
	out, total := cut(limit)
	for i := range out {
		if total < room && out[i] < widths[i] {
			out[i]++
			total++
		}
	}
	return out
}

// lines are one row's, with each cell folded to its column.
func lines(row []string, widths []int) []string {
	cells, height := make([][]string, len(row)), 1
	for j, cell := range row {
		cells[j] = Fold(cell, max(1, widths[j]), 0)
		height = max(height, len(cells[j]))
	}
	out := make([]string, height)
	for i := range out {
		var b strings.Builder
		for j, cell := range cells {
			text := ""
			if i < len(cell) {
				text = cell[i]
			}
			b.WriteString(text)
			b.WriteString(strings.Repeat(" ", max(0, widths[j]-Width(text))+gap))
		}
		out[i] = strings.TrimRight(b.String(), " ")
	}
	return out
}

// longestWord is the width of what should not be broken.
func longestWord(s string) (longest int) {
	for word := range strings.FieldsSeq(s) {
		longest = max(longest, Width(word))
	}
	return longest
}

// Fold breaks a line, where it can between words, so that none is wider than columns
// (0 or less: any width); those after the first stand hang deep. Nothing is lost but
// spaces at the breaks.
func Fold(s string, columns, hang int) []string {
	if columns <= 0 || Width(s) <= columns {
		return []string{s}
	}
	if hang > columns/2 {
		hang = 0 // no room for it
	}
	first, rest := split(s, columns)
	out := []string{first}
	for rest != "" {
		var line string
		line, rest = split(rest, columns-hang)
		out = append(out, strings.Repeat(" ", hang)+line)
	}
	return out
}

// split takes the next line from s. There is always something on it.
func split(s string, columns int) (line, rest string) {
	end := prefix(s, columns)
	if end == len(s) {
		return s, ""
	}
	start := indentation(s)
	at := end
	space := strings.LastIndexByte(s[:end+1], ' ')
	if i := strings.LastIndexAny(s[:end], breaks); i > end/2 && i > space {
		at = i + 1
	}
	// A word that no line has room for begins on this one where that breaks it well.
	word, _, _ := strings.Cut(s[space+1:], " ")
	if space > start && (Width(word) <= columns || at == end && space > lone) {
		at = space
	}
	return strings.TrimRight(s[:at], " "), strings.TrimLeft(s[at:], " ")
}

// lone is how far a line reaches at most that would hold nothing but a sign.
const lone = 2

// breaks are characters after which a word too long for a line is rather broken.
const breaks = "/,;:=&?-_."

// prefix is how many bytes of s fit, at least one character.
func prefix(s string, columns int) int {
	at, cells := 0, 0
	for at < len(s) {
		size, w := character(s[at:])
		if at > 0 && cells+w > columns {
			return at
		}
		at, cells = at+size, cells+w
	}
	return at
}

// Width is how many cells of a screen printable text takes.
func Width(s string) (cells int) {
	for len(s) > 0 {
		size, w := character(s)
		s, cells = s[size:], cells+w
	}
	return cells
}

// The variation selectors that choose between a plain sign and a picture, which is two
// cells wide.
const (
	plainStyle   = '\ufe0e'
	pictureStyle = '\ufe0f'
)

// character is the first of s with the marks that belong to it: its bytes and cells.
func character(s string) (size, cells int) {
	r, size := utf8.DecodeRuneInString(s)
	cells = cellsOf(r)
	for size < len(s) {
		mark, n := utf8.DecodeRuneInString(s[size:])
		if !isMark(mark) {
			break
		}
		if mark == pictureStyle && r != ' ' {
			cells = 2
		}
		size += n
	}
	return size, cells
}

// cellsOf follows Unicode's East Asian Width (UAX #11): wide characters have two
// cells, marks none.
func cellsOf(r rune) int {
	if isMark(r) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// isMark reports whether r is drawn over the character before it.
func isMark(r rune) bool {
	return r >= 0x300 && (r == plainStyle || r == pictureStyle || unicode.In(r, unicode.Mn, unicode.Me))
}

// Count is a number of things, "1 object" and "3 objects".
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
