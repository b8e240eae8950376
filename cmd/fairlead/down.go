package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/local"
)

func downCommand() *cobra.Command {
	var dir string
	var purge bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop the cluster that `up` started and leave no trace of it but its data",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return local.Down(dir, purge, func(what string) { fmt.Fprintln(cmd.ErrOrStderr(), what) })
		},
	}
	cmd.Flags().StringVar(&dir, "dir", local.DefaultDir, "directory of the cluster")
	cmd.Flags().BoolVar(&purge, "purge", false, "remove the directory as well: Git repository, keys, images, logs")
	return cmd
}
