package main

import (
	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/local"
	"fairlead/schema/layout"
)

func downCommand() *cobra.Command {
	var dir string
	var purge bool
	var output string
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop the cluster that `up` started and remove all of it but its data",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := local.Down(dir, purge, func(what string) { layout.Fprintf(cmd.ErrOrStderr(), "%s\n", what) }); err != nil || output == "text" {
				return err
			}
			return writeAs(cmd.OutOrStdout(), output, map[string]any{"dir": dir, "purged": purge})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", local.DefaultDir, "directory of the cluster")
	cmd.Flags().BoolVar(&purge, "purge", false, "remove the directory as well: Git repository, keys, images, logs")
	outputFlag(cmd, &output, "text", "json", "yaml")
	return cmd
}
