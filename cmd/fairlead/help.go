package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"fairlead/schema/layout"
)

// help writes a command's help, fit for the screen: texts are filled anew, and flags
// keep their column.
func help(cmd *cobra.Command, _ []string) {
	out := cmd.OutOrStdout()
	columns := layout.Columns(out)
	text := strings.TrimSpace(cmd.Long)
	if text == "" {
		text = strings.TrimSpace(cmd.Short)
	}
	if columns > 0 {
		text = paragraphs(text, columns)
		cmd.SetUsageTemplate(strings.ReplaceAll(cmd.UsageTemplate(), "Flags.FlagUsages ", fmt.Sprintf("Flags.FlagUsagesWrapped %d ", columns)))
	}
	var usage strings.Builder
	cmd.SetOut(&usage)
	_ = cmd.Usage() // a builder takes all
	cmd.SetOut(out)
	layout.WriteText(out, text+"\n\n"+usage.String())
}

// paragraphs fills the lines of text that stand at the margin where one is wider than the
// screen. What is indented stays as it is.
func paragraphs(text string, columns int) string {
	if !slices.ContainsFunc(strings.Split(text, "\n"), func(line string) bool { return layout.Width(line) > columns }) {
		return text
	}
	var out, filling []string
	flush := func() {
		if joined := strings.Join(filling, " "); joined != "" {
			out = append(out, layout.Fold(joined, columns, 0)...)
		}
		filling = nil
	}
	for line := range strings.SplitSeq(text, "\n") {
		if line == "" || strings.TrimLeft(line, " \t") != line {
			flush()
			out = append(out, line)
			continue
		}
		filling = append(filling, line)
	}
	flush()
	return strings.Join(out, "\n")
}
