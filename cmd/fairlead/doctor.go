package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/local"
	"fairlead/schema"
)

func doctorCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether this host can run a cluster, and say how to mend what is in the way",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := knownOutput(output, "text", "json", "yaml"); err != nil {
				return err
			}
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
	cmd.Flags().StringVarP(&output, "output", "o", "text", "output format: text, json or yaml")
	return cmd
}

func printChecks(cmd *cobra.Command, output string, checks []local.Check) error {
	if output != "text" {
		return writeAs(cmd.OutOrStdout(), output, map[string]any{"checks": checks})
	}
	t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "CHECK\tLEVEL\tFOUND\tMEND")
	for _, c := range checks {
		schema.Fprintf(t, "%s\t%s\t%s\t%s\n", c.Name, c.Level, c.Found, c.Mend)
	}
	return t.Flush()
}
