package plan

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"fairlead/schema/layout"
)

// maxBriefLines bounds what WriteBrief writes: a push is told no more of its plan.
const maxBriefLines = 60

// Refusal is why a commit with this plan is not taken; nil where it is.
func (p *Plan) Refusal() error {
	switch {
	case p.Verdict != Refused:
		return nil
	case len(p.Diagnostics) > 0:
		return p.Diagnostics
	}
	return errors.New(p.Summary())
}

// WriteBrief is WriteText cut in the middle where it is long.
func (p *Plan) WriteBrief(w io.Writer) {
	var text bytes.Buffer
	p.WriteText(&text)
	for _, l := range briefly(strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")) {
		fmt.Fprintln(w, l)
	}
}

// briefly cuts a plan's lines in the middle: the notes and the summary at its end stay.
func briefly(lines []string) []string {
	over := len(lines) - maxBriefLines
	if over <= 0 {
		return lines
	}
	last := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "Note: ") })
	if last < 0 || len(lines)-last > maxBriefLines/2 {
		last = len(lines) - 1
	}
	kept := lines[:maxBriefLines-(len(lines)-last)-1]
	return slices.Concat(kept, []string{fmt.Sprintf("... and %s: see `fairlead plan`", layout.Count(last-len(kept), "more line"))}, lines[last:])
}
