package main

import (
	"fmt"
	"runtime"

	"fairlead/schema/layout"
	"github.com/spf13/cobra"
)

// version is set by the linker (-X main.version=...) for releases.
var version = "dev"

// build is what version says, and its JSON.
type build struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func thisBuild() build { return build{version, runtime.Version(), runtime.GOOS, runtime.GOARCH} }

func (b build) String() string {
	return fmt.Sprintf("fairlead %s %s %s/%s", b.Version, b.Go, b.OS, b.Arch)
}

func versionCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" {
				return writeAs(cmd.OutOrStdout(), output, thisBuild())
			}
			layout.Fprintf(cmd.OutOrStdout(), "%s\n", thisBuild())
			return nil
		},
	}
	outputFlag(cmd, &output, "text", "json", "yaml")
	return cmd
}
