package main

import (
	"slices"

	"github.com/spf13/cobra"
)

// outputFlag gives a command -o with the formats it has, the first of them the
// default, and refuses any other before the command begins.
func outputFlag(cmd *cobra.Command, output *string, formats ...string) {
	cmd.Flags().StringVarP(output, "output", "o", formats[0], "output format: "+joinWords(formats))
	offer(cmd, "output", func(*cobra.Command) []string { return formats })
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if !slices.Contains(formats, *output) {
			return usageErrorf("unknown output format %q: use %s", *output, joinWords(formats))
		}
		return nil
	}
}

// list is a list for programs: empty, never null.
func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}
