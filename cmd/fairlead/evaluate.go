package main

import (
	"os"

	"github.com/spf13/cobra"

	"fairlead/schema/load"
)

// evaluateCommand is the child process that evaluates what has no bound of its own.
// Nobody but the loader calls it.
func evaluateCommand() *cobra.Command {
	return &cobra.Command{
		Use:    load.ChildSubcommand,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return load.RunChild(os.Stdin, os.Stdout) },
	}
}
