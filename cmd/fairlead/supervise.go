package main

import (
	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/local"
)

// superviseCommand is what `up` starts and nobody types.
func superviseCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:    "supervise",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return local.Supervise(cmd.Context(), dir)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", local.DefaultDir, "directory of the cluster")
	return cmd
}
