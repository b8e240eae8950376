package main

import (
	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/local"
	"fairlead/schema/layout"
)

func doctorCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether this host can run a cluster, and say how to fix what is in the way",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks := local.Judge(local.Examine(local.DefaultDir))
			if err := printChecks(cmd, output, checks); err != nil {
				return err
			}
			if len(local.Blocking(checks)) > 0 {
				return &exitError{code: 1}
			}
			return nil
		},
	}
	outputFlag(cmd, &output, "text", "json", "yaml")
	return cmd
}

func printChecks(cmd *cobra.Command, output string, checks []local.Check) error {
	if output != "text" {
		return writeAs(cmd.OutOrStdout(), output, map[string]any{"checks": checks})
	}
	rows := [][]string{{"CHECK", "LEVEL", "FOUND", "FIX"}}
	for _, c := range checks {
		rows = append(rows, []string{c.Name, string(c.Level), c.Found, c.Fix})
	}
	layout.WriteTable(cmd.OutOrStdout(), "", rows)
	return nil
}
