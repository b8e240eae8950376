package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// quantity is a measured value with its unit; the zero quantity is none.
type quantity struct {
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

func duration(d time.Duration) quantity {
	return quantity{float64(d) / float64(time.Millisecond), "ms"}
}
func micro(d time.Duration) quantity    { return quantity{float64(d) / float64(time.Microsecond), "us"} }
func megabytes(bytes int64) quantity    { return quantity{float64(bytes) / 1e6, "MB"} }
func percent(of float64) quantity       { return quantity{100 * of, "%"} }
func times(x float64) quantity          { return quantity{x, "x"} }
func count(n int, what string) quantity { return quantity{float64(n), what} }
func (q quantity) none() bool           { return q.Unit == "" }
func (q quantity) String() string {
	switch {
	case q.none():
		return "-"
	case q.Unit == "x":
		return number(q.Value) + "x"
	}
	return number(q.Value) + " " + q.Unit
}

// number is v with three digits that tell.
func number(v float64) string {
	switch abs := max(v, -v); {
	case v == float64(int64(v)) || abs >= 100:
		return fmt.Sprintf("%.0f", v)
	case abs >= 10:
		return fmt.Sprintf("%.1f", v)
	case abs >= 0.1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.4f", v)
}

// goal is what a row has to reach: at most so much, at most so many times the
// baseline. Zero asks for nothing, unless none is set.
type goal struct {
	most      quantity
	mostRatio float64
}

func (g goal) String() string {
	var parts []string
	if !g.most.none() {
		parts = append(parts, "<= "+g.most.String())
	}
	switch {
	case g.mostRatio >= 1:
		parts = append(parts, "<= "+number(g.mostRatio)+"x")
	case g.mostRatio > 0:
		parts = append(parts, "<= 1/"+number(1/g.mostRatio))
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, ", ")
}

// row is one line of the table: a bar, or one part of it. Everything measured is
// better when it is less.
type row struct {
	bar      string
	what     string
	measured quantity
	goal     goal
	against  string   // what the baseline is
	baseline quantity // in the same unit; none if there is nothing to compare with
	note     string
}

// ratio is measured to baseline, 0 without one.
func (r row) ratio() float64 {
	if r.baseline.none() || r.baseline.Value == 0 {
		return 0
	}
	return r.measured.Value / r.baseline.Value
}

// reached is nil for a row that only informs.
func (r row) reached() *bool {
	if r.goal == (goal{}) {
		return nil
	}
	ok := (r.goal.most.none() || r.measured.Value <= r.goal.most.Value) &&
		(r.goal.mostRatio == 0 || r.ratio() <= r.goal.mostRatio)
	return &ok
}

// rowJSON is how a row is printed and passed between processes.
type rowJSON struct {
	Bar      string    `json:"bar"`
	What     string    `json:"what"`
	Measured quantity  `json:"measured"`
	Goal     string    `json:"goal"`
	Most     *quantity `json:"most,omitempty"`
	Ratio    float64   `json:"ratio,omitempty"`
	AtMost   float64   `json:"mostRatio,omitempty"`
	Against  string    `json:"against,omitempty"`
	Baseline *quantity `json:"baseline,omitempty"`
	Reached  *bool     `json:"reached"`
	Note     string    `json:"note,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (r row) MarshalJSON() ([]byte, error) {
	out := rowJSON{
		Bar: r.bar, What: r.what, Measured: r.measured, Goal: r.goal.String(), Ratio: r.ratio(), AtMost: r.goal.mostRatio,
		Against: r.against, Reached: r.reached(), Note: r.note,
	}
	if !r.goal.most.none() {
		out.Most = &r.goal.most
	}
	if !r.baseline.none() {
		out.Baseline = &r.baseline
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *row) UnmarshalJSON(data []byte) error {
	var in rowJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*r = row{bar: in.Bar, what: in.What, measured: in.Measured, against: in.Against, note: in.Note, goal: goal{mostRatio: in.AtMost}}
	if in.Most != nil {
		r.goal.most = *in.Most
	}
	if in.Baseline != nil {
		r.baseline = *in.Baseline
	}
	return nil
}

// report is a whole run.
type report struct {
	Machine machine `json:"machine"`
	Rows    []row   `json:"rows"`
}

func (r report) writeText(w io.Writer) error {
	fmt.Fprintln(w, r.Machine)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "BAR\tWHAT\tMEASURED\tGOAL\tBASELINE\tRATIO\tREACHED")
	var notes []string
	for _, row := range r.Rows {
		mark := ""
		if row.note != "" {
			notes = append(notes, row.note)
			mark = fmt.Sprintf(" [%d]", len(notes))
		}
		fmt.Fprintf(t, "%s\t%s%s\t%s\t%s\t%s\t%s\t%s\n", row.bar, row.what, mark, row.measured, row.goal, row.baselineText(), row.ratioText(), row.reachedText())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i, n := range notes {
		fmt.Fprintf(w, "[%d] %s\n", i+1, n)
	}
	return nil
}

func (r row) baselineText() string {
	if r.baseline.none() {
		return "-"
	}
	return r.baseline.String() + " " + r.against
}

func (r row) ratioText() string {
	if r.ratio() == 0 {
		return "-"
	}
	return number(r.ratio()) + "x"
}

func (r row) reachedText() string {
	switch ok := r.reached(); {
	case ok == nil:
		return "-"
	case *ok:
		return "yes"
	}
	return "NO"
}
