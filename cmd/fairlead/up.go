package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/local"
	"fairlead/schema/layout"
)

// upTimeout is enough for a slow machine that pulls nothing.
const upTimeout = 3 * time.Minute

func upCommand() *cobra.Command {
	var output string
	o := local.UpOptions{}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a whole cluster on this machine: a master and its nodes",
		Long: `Start a whole cluster on this machine: a master and N nodes, each with its own
network and its own Podman. Returns when every node is ready. Run again, it
changes nothing and prints the same. ` + "`fairlead down`" + ` takes it away.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = func(what string) { fmt.Fprintln(cmd.ErrOrStderr(), what) }
			result, err := local.Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			if output != "text" {
				return writeAs(cmd.OutOrStdout(), output, result)
			}
			printResult(cmd.OutOrStdout(), result)
			return nil
		},
	}
	cmd.Flags().StringVar(&o.Dir, "dir", local.DefaultDir, "directory of the cluster")
	cmd.Flags().IntVar(&o.Nodes, "nodes", 0, fmt.Sprintf("number of nodes (default %d, or what the directory holds)", local.DefaultNodes))
	cmd.Flags().IntVar(&o.Slot, "slot", -1, "slot that names, subnets and ports derive from (default the first free)")
	cmd.Flags().DurationVar(&o.Timeout, "timeout", upTimeout, "how long to wait for the cluster to be ready")
	outputFlag(cmd, &output, "text", "json", "yaml")
	return cmd
}

func printResult(w io.Writer, r local.Result) {
	var nodes []string
	for _, n := range r.Nodes {
		nodes = append(nodes, fmt.Sprintf("%s (%s)", n.Name, n.Address))
	}
	layout.WriteTable(w, "", [][]string{
		{"git", r.Git},
		{"api", r.API},
		{"kubeconfig", r.Kubeconfig},
		{"nodes", strings.Join(nodes, ", ")},
	})
}
