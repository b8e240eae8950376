package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What a push is told of a long plan is its beginning, and its notes and summary.
func TestLongPlansAreCutInTheMiddle(t *testing.T) {
	for _, n := range []int{1, maxBriefLines, maxBriefLines + 1, 500} {
		for _, notes := range []int{0, 1, 5, maxBriefLines} {
			var lines []string
			for i := range n {
				lines = append(lines, fmt.Sprint("line ", i))
			}
			for i := range notes {
				lines = append(lines, fmt.Sprint("Note: ", i))
			}
			lines = append(lines, "Plan: much.")
			got := briefly(slices.Clone(lines))
			if len(got) > maxBriefLines || got[0] != lines[0] || got[len(got)-1] != "Plan: much." {
				t.Errorf("%d lines and %d notes become %d: %q", n, notes, len(got), got)
			}
			if notes == 5 && !slices.Contains(got, "Note: 0") {
				t.Errorf("%d lines: notes are lost: %q", n, got)
			}
			left := 0
			for _, l := range got {
				if strings.HasPrefix(l, "... and ") {
					fmt.Sscanf(l, "... and %d", &left)
					left-- // the line that says so
				}
			}
			if len(got)+left != len(lines) {
				t.Errorf("%d of %d lines, %d are said to be left out", len(got), len(lines), left)
			}
		}
	}
}
