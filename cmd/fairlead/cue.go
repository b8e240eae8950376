package main

import (
	"os"

	"github.com/spf13/cobra"

	"fairlead/schema/load"
)

// cueEvalCommand is the child process that evaluates CUE. Nobody but the loader
// calls it.
func cueEvalCommand() *cobra.Command {
	return &cobra.Command{
		Use:    load.CUESubcommand,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return load.RunCUEChild(os.Stdin, os.Stdout) },
	}
}
