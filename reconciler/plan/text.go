package plan

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"fairlead/reconciler/scheduler"
	"fairlead/reconciler/settle"
	"fairlead/schema"
	"fairlead/schema/layout"
)

// How much of a changed value a person is shown; JSON has all of it.
const (
	maxOnOneLine  = 96  // runes of both values together, else each has its own line
	maxValue      = 240 // runes of one value
	maxValueLines = 20  // of a text of many lines, removed and added together
	maxPathColumn = 60
)

var signs = map[settle.Action]string{settle.Create: "+", settle.Update: "~", settle.Replace: "±", settle.Prune: "-"}

// WriteText writes the plan for a person, without colour; on a screen no line is wider
// than it is. The last line is the summary.
func (p *Plan) WriteText(w io.Writer) {
	p.writeDiagnostics(w)
	if len(p.Objects) > 0 {
		fmt.Fprintln(w, "Objects:")
		p.writeObjects(w, "  ")
	}
	if p.Prune.Count > 0 {
		layout.Fprintf(w, "  %d of %d objects of source %s are pruned; the limit is %s\n", p.Prune.Count, p.Prune.Of, p.Source, p.Prune.Limit)
	}
	p.writePods(w)
	p.writeCapacity(w)
	for _, u := range groupUnplaced(p.Unplaced) {
		layout.Fprintf(w, "No node takes %s:\n", u.pods())
		layout.WriteTable(w, "  ", u.rows())
	}
	for _, note := range p.notes() {
		layout.Fprintf(w, "Note: %s.\n", note)
	}
	layout.Fprintf(w, "Plan: %s.\n", p.Summary())
}

// WriteObjects writes diagnostics and object differences alone; nothing where
// there are none.
func (p *Plan) WriteObjects(w io.Writer) {
	p.writeDiagnostics(w)
	p.writeObjects(w, "")
	for _, note := range p.besides() {
		layout.Fprintf(w, "Note: %s.\n", note)
	}
}

func (p *Plan) writeDiagnostics(w io.Writer) {
	for _, d := range p.Diagnostics {
		layout.Fprintf(w, "%s\n", d.String())
	}
}

func (p *Plan) writeObjects(w io.Writer, indent string) {
	rows := make([][]string, len(p.Objects))
	for i, o := range p.Objects {
		rows[i] = []string{signs[o.Action] + " " + string(o.Kind), o.qualified(), o.where()}
	}
	room := layout.Columns(w)
	if room > 0 {
		room = max(1, room-len(indent))
	}
	for i, lines := range layout.Table(rows, room) {
		for _, line := range lines {
			schema.Fprintf(w, "%s%s\n", indent, line)
		}
		p.Objects[i].writeFields(w, indent+"    ")
	}
}

func (o *Object) qualified() string {
	if o.Namespace == "" {
		return o.Name
	}
	return o.Namespace + "/" + o.Name
}

// where is the object's place in its files and what has made it of them, and for one that goes also the commit
// in which it had that place.
func (o *Object) where() string {
	switch {
	case o.Action != settle.Prune && o.By != "":
		return o.Position + ", " + o.By
	case o.Action != settle.Prune:
		return o.Position
	case o.Commit == "":
		return "was at " + o.Position
	}
	return "was at " + o.Position + " in " + o.Commit.Short()
}

func (o *Object) writeFields(w io.Writer, indent string) {
	width := 0
	for _, f := range o.Fields {
		if onOneLine(f) && parts(f.Path, cmp.Or(f.From, f.To)) == nil {
			width = max(width, min(len(f.Path), maxPathColumn))
		}
	}
	for _, f := range o.Fields {
		switch {
		case o.hides(f):
			layout.Fprintf(w, "%s%-*s  %s\n", indent, width, f.Path, shown(cmp.Or(f.To, f.From)))
		case f.From == "" && parts(f.Path, f.To) != nil:
			writeParts(w, indent, f.Path, "+", parts(f.Path, f.To))
		case f.To == "" && parts(f.Path, f.From) != nil:
			writeParts(w, indent, f.Path, "-", parts(f.Path, f.From))
		case onOneLine(f):
			layout.Fprintf(w, "%s%-*s  %s -> %s\n", indent, width, f.Path, shown(f.From), shown(f.To))
		case strings.Contains(f.From, "\n") || strings.Contains(f.To, "\n"):
			layout.Fprintf(w, "%s%s\n", indent, f.Path)
			writeLines(w, indent+"  ", f.From, f.To)
		default:
			layout.Fprintf(w, "%s%s\n", indent, f.Path)
			layout.Fprintf(w, "%s  - %s\n", indent, shown(f.From))
			layout.Fprintf(w, "%s  + %s\n", indent, shown(f.To))
		}
		if by, ok := o.setBy(f.Path); ok {
			layout.Fprintf(w, "%s  set by %s\n", indent, by)
		}
	}
}

// hides reports whether the change tells that a value differs and not which.
func (o *Object) hides(f schema.FieldChange) bool {
	info, known := schema.Lookup(o.Kind) // a newer master may know more kinds
	return (info.Sealed || !known) && (strings.HasPrefix(f.Path, "data[") || strings.HasPrefix(f.Path, "stringData["))
}

func onOneLine(f schema.FieldChange) bool {
	return !strings.Contains(f.From, "\n") && !strings.Contains(f.To, "\n") && len(f.From)+len(f.To) <= maxOnOneLine
}

// writeLines shows the lines between what two texts have in common at their
// beginning and end.
func writeLines(w io.Writer, indent, from, to string) {
	a, b, first := between(linesOf(from), linesOf(to))
	schema.Fprintf(w, "%sline %d:\n", indent, first)
	left := maxValueLines
	for _, part := range []struct {
		sign  string
		lines []string
	}{{"-", a}, {"+", b}} {
		told := min(len(part.lines), max(left, maxValueLines/2))
		for _, l := range part.lines[:told] {
			layout.Fprintf(w, "%s%s %s\n", indent, part.sign, cut(schema.Printable(l)))
		}
		if more := len(part.lines) - told; more > 0 {
			schema.Fprintf(w, "%s%s ... %s more\n", indent, part.sign, layout.Count(more, "line"))
		}
		left -= told
	}
}

// between is what two lists do not share at their ends, and the number of its
// first line, counted from 1.
func between(a, b []string) (onlyA, onlyB []string, first int) {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
		first++
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return a, b, first + 1
}

func linesOf(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

func (p *Plan) writePods(w io.Writer) {
	if len(p.Pods) == 0 {
		return
	}
	fmt.Fprintln(w, "Pods:")
	rows := make([][]string, len(p.Pods))
	for i, pod := range p.Pods {
		rows[i] = []string{pod.sign() + " " + pod.Namespace + "/" + pod.Name, pod.place(), pod.Reason}
	}
	layout.WriteTable(w, "  ", rows)
}

func (pod *Pod) sign() string {
	if pod.Action == "start" {
		return "+"
	}
	return "-"
}

func (pod *Pod) place() string {
	switch {
	case pod.Action == "stop" && pod.From != "":
		return "on " + string(pod.From)
	case pod.Node != "":
		return "on " + string(pod.Node)
	}
	return "nowhere"
}

func (p *Plan) writeCapacity(w io.Writer) {
	if len(p.Capacity) == 0 {
		return
	}
	fmt.Fprintln(w, "Requested of what nodes have:")
	layout.WriteTable(w, "  ", p.capacityRows())
}

// capacityRows is a table with a line for each node and a column for each resource.
func (p *Plan) capacityRows() [][]string {
	header, row := []string{"NODE"}, map[schema.NodeName]int{}
	rows := [][]string{nil}
	for _, c := range p.Capacity {
		if _, ok := row[c.Node]; !ok {
			row[c.Node] = len(rows)
			rows = append(rows, []string{string(c.Node)})
		}
		rows[row[c.Node]] = append(rows[row[c.Node]], c.String())
		if resource := strings.ToUpper(c.Resource); !slices.Contains(header, resource) {
			header = append(header, resource)
		}
	}
	rows[0] = header
	return rows
}

// String is "120m -> 140m of 1 (14%)", without the arrow where nothing changes.
func (c Capacity) String() string {
	s := c.After
	if c.Before != c.After {
		s = c.Before + " -> " + c.After
	}
	s += " of " + c.Allocatable
	after, err1 := resource.ParseQuantity(c.After)
	all, err2 := resource.ParseQuantity(c.Allocatable)
	if err1 == nil && err2 == nil && all.Sign() > 0 {
		s += fmt.Sprintf(" (%d%%)", int(100*after.AsApproximateFloat64()/all.AsApproximateFloat64()+0.5))
	}
	return s
}

// unplacedGroup is pods that every node refuses for the same reasons.
type unplacedGroup struct {
	names []string
	nodes []scheduler.NodeReason
}

func groupUnplaced(all []Unplaced) (out []unplacedGroup) {
	for _, u := range all {
		i := slices.IndexFunc(out, func(g unplacedGroup) bool {
			return slices.EqualFunc(g.nodes, u.Nodes, func(a, b scheduler.NodeReason) bool {
				return a.Node == b.Node && slices.Equal(a.Reasons, b.Reasons)
			})
		})
		if i < 0 {
			out = append(out, unplacedGroup{nodes: u.Nodes})
			i = len(out) - 1
		}
		out[i].names = append(out[i].names, u.Pod)
	}
	return out
}

func (g unplacedGroup) pods() string {
	noun := "pod "
	if len(g.names) > 1 {
		noun = "pods "
	}
	return noun + someOf(g.names)
}

// maxNamed is how many of many a sentence names.
const maxNamed = 3

// someOf names the first of many, and counts the others.
func someOf(names []string) string {
	told := names[:min(len(names), maxNamed)]
	s := strings.Join(told, ", ")
	if more := len(names) - len(told); more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

func (g unplacedGroup) rows() [][]string {
	rows := make([][]string, len(g.nodes))
	for i, n := range g.nodes {
		rows[i] = []string{string(n.Node), strings.Join(n.Reasons, "; ")}
	}
	return rows
}

// notes are the reasons that neither the summary nor a list tells, and what else
// there is to know.
func (p *Plan) notes() []string {
	if p.Verdict == Held || p.Verdict == Refused {
		return p.besides() // the summary has the reasons
	}
	return append(p.verdictReasons(), p.besides()...)
}

// besides is what to know that is no reason of the verdict.
func (p *Plan) besides() []string {
	notes := slices.Clone(p.Notes)
	if len(p.Uncompared) > 0 {
		notes = append(notes, "Secret values are not compared for readers, push to see whether they change: "+someOf(p.Uncompared))
	}
	return notes
}

func shown(s string) string {
	if s == "" {
		return "(none)"
	}
	return cut(schema.Printable(s))
}

func cut(s string) string {
	runes := []rune(s)
	if len(runes) <= maxValue {
		return s
	}
	return string(runes[:maxValue]) + fmt.Sprintf("... (%d characters)", len(runes))
}
