package plan

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"fairlead/reconciler/settle"
	"fairlead/schema"
	"fairlead/schema/layout"
)

// Bounds of the Markdown form. Forges refuse a comment of more than 65,536
// characters; there has to be room for what others add around it.
const (
	MaxMarkdown  = 60_000 // bytes
	maxRows      = 150    // of one table
	maxTables    = 20     // of one plan; a table for each group of pods that no node takes
	maxCellValue = 80     // runes of a value
	maxCellParts = 160    // runes of a value of many parts, such as a container
	maxCell      = 300    // runes of any cell
	maxTitle     = 120    // runes of a table's title
	maxSentence  = 1_000  // runes of the summary or a note
	maxHead      = 15_000 // bytes of summary and notes, after which no note is begun
)

// WriteMarkdown writes the plan as a comment on a pull request: a summary and a
// section that folds for each of its lists. It reads as plain text too. It has at most
// MaxMarkdown bytes; where that is too little for all, every section says how many
// rows are left out.
func (p *Plan) WriteMarkdown(w io.Writer) {
	var head strings.Builder
	fmt.Fprintf(&head, "### %s\n\n", markdownText(p.headline()))
	summary := p.Summary()
	fmt.Fprintln(&head, sentence(strings.ToUpper(summary[:1])+summary[1:]))
	for i, note := range p.notes() {
		if head.Len() > maxHead {
			fmt.Fprintf(&head, "\n> ... and %s.\n", layout.Count(len(p.notes())-i, "more note"))
			break
		}
		fmt.Fprintf(&head, "\n> %s\n", sentence(note))
	}
	fmt.Fprint(w, head.String())
	writeSections(w, p.sections(), MaxMarkdown-head.Len())
}

// sentence is text of a bounded length, with a full stop.
func sentence(s string) markup { return markdownText(shorten(s, maxSentence)) + "." }

// sections are the plan's lists, as tables.
func (p *Plan) sections() []section {
	out := []section{p.markdownDiagnostics()}
	out = append(out, p.markdownObjects()...)
	out = append(out, p.markdownPods())
	for _, u := range groupUnplaced(p.Unplaced) {
		out = append(out, section{true, "No node takes " + u.pods(), []markup{"Node", "Reasons"}, texts(u.rows())})
	}
	if rows := p.capacityRows(); len(rows) > 1 {
		header := []markup{"Node", "CPU", "Memory", "Pods"}
		out = append(out, section{false, "Requested of what nodes have", header[:len(rows[0])], texts(rows[1:])})
	}
	return out
}

// headline is what was planned against what.
func (p *Plan) headline() string {
	title := "Fairlead plan"
	if p.Source == "" {
		return title
	}
	candidate, base := "this tree", "nothing yet"
	if p.Candidate != "" {
		candidate = p.Candidate.Short()
	}
	if p.Base != "" {
		base = p.Base.Short()
	}
	return fmt.Sprintf("%s: source %s, %s over %s", title, p.Source, candidate, base)
}

func (p *Plan) markdownDiagnostics() section {
	rows := make([][]markup, len(p.Diagnostics))
	for i, d := range p.Diagnostics {
		message := d.Message
		if d.Hint != "" {
			message += " (" + d.Hint + ")"
		}
		rows[i] = []markup{markdownText(string(d.Severity)), code(d.Position.String()), markdownText(shorten(message, maxCell))}
	}
	return section{true, layout.Count(len(rows), "diagnostic"), []markup{"Severity", "Where", "What"}, rows}
}

func (p *Plan) markdownObjects() []section {
	names := map[settle.Action]markup{settle.Create: "create", settle.Update: "change", settle.Replace: "replace", settle.Prune: "prune"}
	var objects, fields [][]markup
	isSet := false
	for i := range p.Objects {
		o := &p.Objects[i]
		name := markdownText(shorten(o.name(), maxCell))
		objects = append(objects, []markup{names[o.Action], name, code(o.where()), markdownText(shorten(o.Reason, maxCell))})
		for _, f := range o.Fields {
			row := append([]markup{name}, fieldCells(o, f)...)
			if by, ok := o.setBy(f.Path); ok {
				isSet = true
				row = append(row, markdownText(shorten(by.String(), maxCell)))
			}
			fields = append(fields, row)
		}
	}
	columns := []markup{"Object", "Field", "From", "To"}
	if isSet { // by something else than the objects' own documents
		columns = append(columns, "Set by")
		for i, row := range fields {
			fields[i] = append(row, "")[:len(columns)]
		}
	}
	title := layout.Count(len(objects), "object")
	if p.Prune.Count > 0 {
		title += fmt.Sprintf("; %d of %d are pruned, the limit is %s", p.Prune.Count, p.Prune.Of, p.Prune.Limit)
	}
	return []section{
		{true, title, []markup{"Action", "Object", "Where", "Why"}, objects},
		{true, layout.Count(len(fields), "changed field"), columns, fields},
	}
}

// fieldCells is a changed field's path and its two values; of texts with many
// lines, what they do not share.
func fieldCells(o *Object, f schema.FieldChange) []markup {
	switch {
	case o.hides(f):
		return []markup{code(f.Path), markdownText(f.From), markdownText(f.To)}
	case f.From == "" && parts(f.Path, f.To) != nil:
		return []markup{code(f.Path), "", code(shorten(strings.Join(parts(f.Path, f.To), ", "), maxCellParts))}
	case f.To == "" && parts(f.Path, f.From) != nil:
		return []markup{code(f.Path), code(shorten(strings.Join(parts(f.Path, f.From), ", "), maxCellParts)), ""}
	case strings.Contains(f.From, "\n") || strings.Contains(f.To, "\n"):
		a, b, first := between(linesOf(f.From), linesOf(f.To))
		return []markup{code(f.Path) + markup(fmt.Sprintf(" line %d", first)), code(cell(strings.Join(a, "\n"))), code(cell(strings.Join(b, "\n")))}
	}
	return []markup{code(f.Path), code(cell(f.From)), code(cell(f.To))}
}

func (p *Plan) markdownPods() section {
	rows := make([][]string, len(p.Pods))
	for i, pod := range p.Pods {
		rows[i] = []string{pod.Action, pod.Namespace + "/" + pod.Name, strings.TrimPrefix(pod.place(), "on "), pod.Reason}
	}
	return section{false, layout.Count(len(rows), "pod"), []markup{"Action", "Pod", "Node", "Why"}, texts(rows)}
}

// section is a table that folds.
type section struct {
	open   bool
	title  string
	header []markup
	rows   [][]markup
}

// render is the section with its first rows; "" where it has none. That there are more
// is said.
func (s *section) render(told int) string {
	if len(s.rows) == 0 {
		return ""
	}
	var b strings.Builder
	attribute := ""
	if s.open {
		attribute = " open"
	}
	fmt.Fprintf(&b, "\n<details%s>\n<summary>%s</summary>\n\n", attribute, markdownText(shorten(s.title, maxTitle)))
	if told > 0 {
		s.table(&b, s.rows[:told])
	}
	if more := len(s.rows) - told; more > 0 {
		fmt.Fprintf(&b, "\n... and %d more\n", more)
	}
	b.WriteString("\n</details>\n")
	return b.String()
}

func (s *section) table(b *strings.Builder, rows [][]markup) {
	widths := make([]int, len(s.header))
	for _, row := range append([][]markup{s.header}, rows...) {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(string(c)))
		}
	}
	writeRow(b, widths, s.header)
	rule := make([]markup, len(s.header))
	for i := range rule {
		rule[i] = markup(strings.Repeat("-", widths[i]))
	}
	writeRow(b, widths, rule)
	for _, row := range rows {
		writeRow(b, widths, row)
	}
}

// within is the section with as many rows as fit into so many bytes, and how many
// these are. It may have more bytes than that when it tells none.
func (s *section) within(room int) (text string, told int) {
	most := min(len(s.rows), maxRows)
	over := sort.Search(most, func(n int) bool { return len(s.render(n+1)) > room })
	return s.render(over), over
}

// writeSections writes them in their order, in so many bytes. The room is shared out
// evenly, and what small ones leave of their share goes to the others.
func writeSections(w io.Writer, all []section, room int) {
	all = slices.DeleteFunc(all, func(s section) bool { return len(s.rows) == 0 })
	if over := len(all) - maxTables; over > 0 {
		room -= len(leftOut(over))
		defer fmt.Fprint(w, leftOut(over))
		all = slices.Delete(all, maxTables/2, maxTables/2+over) // the first and the last tell most
	}
	needs := make([]int, len(all))
	for i := range all {
		text, _ := all[i].within(room)
		needs[i] = len(text)
	}
	for i, share := range shares(needs, room) {
		text, _ := all[i].within(share)
		fmt.Fprint(w, text)
	}
}

func leftOut(tables int) string {
	return fmt.Sprintf("\n... and %s more\n", layout.Count(tables, "table"))
}

// shares gives each what it needs, or an equal part of what the others leave.
func shares(needs []int, room int) []int {
	order := make([]int, len(needs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(needs[a], needs[b]) })
	out := make([]int, len(needs))
	for i, at := range order {
		out[at] = min(needs[at], room/(len(order)-i))
		room -= out[at]
	}
	return out
}

func writeRow(w *strings.Builder, widths []int, row []markup) {
	for i, c := range row {
		fmt.Fprintf(w, "| %s%s ", c, strings.Repeat(" ", widths[i]-utf8.RuneCountInString(string(c))))
	}
	fmt.Fprintln(w, "|")
}

// cell is a value short enough for a table.
func cell(s string) string { return shorten(schema.Printable(s), maxCellValue) }

// shorten cuts text to so many runes.
func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "..."
	}
	return s
}

// markup is what may stand in a table's cell as it is: our own words, code() and
// markdownText() of what others wrote.
type markup string

// code is a code span in a table's cell: nothing in it is markup.
func code(s string) markup {
	if s == "" {
		return ""
	}
	return markup("`" + escapePipes(strings.ReplaceAll(shorten(schema.Printable(s), maxCell), "`", "'")) + "`")
}

// escapePipes keeps a table's cell whole. Some readers of Markdown take a pipe
// behind two backslashes for the cell's end, all of them leave one behind an odd
// number.
func escapePipes(s string) string {
	var b strings.Builder
	backslashes := 0
	for _, r := range s {
		if r == '|' {
			b.WriteString(`\\`[:1+backslashes%2])
		}
		if backslashes++; r != '\\' {
			backslashes = 0
		}
		b.WriteRune(r)
	}
	return b.String()
}

// markdownText is text with nothing in it taken for markup: no HTML, link, image,
// emphasis, nor what forges make of a word (a mention, a reference to an issue, an
// address that becomes a link).
func markdownText(s string) markup { return markup(plainMarkdown.Replace(schema.Printable(s))) }

var plainMarkdown = strings.NewReplacer(
	`\`, `\\`, "&", "&amp;", "<", "&lt;", "|", `\|`, "`", "'", "[", `\[`, "]", `\]`, "*", `\*`, "_", `\_`, "~", `\~`,
	"@", "&#64;", "#", "&#35;", "://", "&#58;//", "www.", "www&#46;",
)

func texts(rows [][]string) [][]markup {
	out := make([][]markup, len(rows))
	for i, row := range rows {
		for _, c := range row {
			out[i] = append(out[i], markdownText(shorten(c, maxCell)))
		}
	}
	return out
}
