package plan

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"fairlead/reconciler/settle"
	"fairlead/schema"
)

// Bounds of the Markdown form, which forges cut at 64 KiB.
const (
	maxRows      = 150 // of one table
	maxCellValue = 80  // runes
)

// WriteMarkdown writes the plan as a comment on a pull request: a summary and a
// section that folds for each of its lists. It reads as plain text too.
func (p *Plan) WriteMarkdown(w io.Writer) {
	fmt.Fprintf(w, "### %s\n\n", markdownText(p.headline()))
	fmt.Fprintln(w, markdownText(strings.ToUpper(p.Summary()[:1])+p.Summary()[1:])+".")
	for _, note := range p.notes() {
		fmt.Fprintf(w, "\n> %s.\n", markdownText(note))
	}
	p.markdownDiagnostics(w)
	p.markdownObjects(w)
	p.markdownPods(w)
	for _, u := range groupUnplaced(p.Unplaced) {
		section(w, true, "No node takes "+u.pods(), []markup{"Node", "Reasons"}, texts(u.rows()))
	}
	if rows := p.capacityRows(); len(rows) > 1 {
		header := []markup{"Node", "CPU", "Memory", "Pods"}
		section(w, false, "Requested of what nodes have", header[:len(rows[0])], texts(rows[1:]))
	}
}

// headline is what was planned against what.
func (p *Plan) headline() string {
	title := "Fairlead plan"
	if p.Source == "" {
		return title
	}
	candidate, base := "this tree", "nothing yet"
	if p.Candidate != "" {
		candidate = short(p.Candidate)
	}
	if p.Base != "" {
		base = short(p.Base)
	}
	return fmt.Sprintf("%s: source %s, %s over %s", title, p.Source, candidate, base)
}

func (p *Plan) markdownDiagnostics(w io.Writer) {
	rows := make([][]markup, len(p.Diagnostics))
	for i, d := range p.Diagnostics {
		message := d.Message
		if d.Hint != "" {
			message += " (" + d.Hint + ")"
		}
		rows[i] = []markup{markdownText(string(d.Severity)), code(d.Position.String()), markdownText(message)}
	}
	section(w, true, count(len(rows), "diagnostic"), []markup{"Severity", "Where", "What"}, rows)
}

func (p *Plan) markdownObjects(w io.Writer) {
	names := map[settle.Action]markup{settle.Create: "create", settle.Update: "change", settle.Prune: "prune"}
	var objects, fields [][]markup
	for i := range p.Objects {
		o := &p.Objects[i]
		name := markdownText(string(o.Kind) + " " + o.qualified())
		objects = append(objects, []markup{names[o.Action], name, code(o.where()), markdownText(o.Reason)})
		for _, f := range o.Fields {
			fields = append(fields, append([]markup{name}, fieldCells(o, f)...))
		}
	}
	title := count(len(objects), "object")
	if p.Prune.Count > 0 {
		title += fmt.Sprintf("; %d of %d are pruned, the limit is %s", p.Prune.Count, p.Prune.Of, p.Prune.Limit)
	}
	section(w, true, title, []markup{"Action", "Object", "Where", "Why"}, objects)
	section(w, true, count(len(fields), "changed field"), []markup{"Object", "Field", "From", "To"}, fields)
}

// fieldCells is a changed field's path and its two values; of texts with many
// lines, what they do not share.
func fieldCells(o *Object, f schema.FieldChange) []markup {
	switch {
	case o.hides(f):
		return []markup{code(f.Path), markdownText(f.From), markdownText(f.To)}
	case strings.Contains(f.From, "\n") || strings.Contains(f.To, "\n"):
		a, b, first := between(linesOf(f.From), linesOf(f.To))
		return []markup{code(f.Path) + markup(fmt.Sprintf(" line %d", first)), code(cell(strings.Join(a, "\n"))), code(cell(strings.Join(b, "\n")))}
	}
	return []markup{code(f.Path), code(cell(f.From)), code(cell(f.To))}
}

func (p *Plan) markdownPods(w io.Writer) {
	rows := make([][]string, len(p.Pods))
	for i, pod := range p.Pods {
		rows[i] = []string{pod.Action, pod.Namespace + "/" + pod.Name, strings.TrimPrefix(pod.place(), "on "), pod.Reason}
	}
	section(w, false, count(len(rows), "pod"), []markup{"Action", "Pod", "Node", "Why"}, texts(rows))
}

// section writes a table that folds; nothing for one without rows.
func section(w io.Writer, open bool, title string, header []markup, rows [][]markup) {
	if len(rows) == 0 {
		return
	}
	attribute := ""
	if open {
		attribute = " open"
	}
	fmt.Fprintf(w, "\n<details%s>\n<summary>%s</summary>\n\n", attribute, markdownText(title))
	told := rows[:min(len(rows), maxRows)]
	widths := make([]int, len(header))
	for _, row := range append([][]markup{header}, told...) {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(string(c)))
		}
	}
	writeRow(w, widths, header)
	rule := make([]markup, len(header))
	for i := range rule {
		rule[i] = markup(strings.Repeat("-", widths[i]))
	}
	writeRow(w, widths, rule)
	for _, row := range told {
		writeRow(w, widths, row)
	}
	if more := len(rows) - len(told); more > 0 {
		fmt.Fprintf(w, "\n... and %d more\n", more)
	}
	fmt.Fprint(w, "\n</details>\n")
}

func writeRow(w io.Writer, widths []int, row []markup) {
	for i, c := range row {
		fmt.Fprintf(w, "| %s%s ", c, strings.Repeat(" ", widths[i]-utf8.RuneCountInString(string(c))))
	}
	fmt.Fprintln(w, "|")
}

// cell is a value short enough for a table.
func cell(s string) string {
	s = schema.Printable(s)
	if runes := []rune(s); len(runes) > maxCellValue {
		return string(runes[:maxCellValue]) + "..."
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
	return markup("`" + escapePipes(strings.ReplaceAll(schema.Printable(s), "`", "'")) + "`")
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
			out[i] = append(out[i], markdownText(c))
		}
	}
	return out
}
