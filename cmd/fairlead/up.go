package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/cmd/fairlead/internal/local"
	"fairlead/reconciler/progress"
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
network and its own Podman. Returns when every node is ready and what ran before a
` + "`fairlead down`" + ` or a boot of the machine serves again; after a minute it says what
does not, and returns with exit code 0 all the same. Run again, it changes nothing and
prints the same. ` + "`fairlead down`" + ` takes it away.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = func(what string) { layout.Fprintf(cmd.ErrOrStderr(), "%s\n", what) }
			result, err := local.Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			result.NotServing, err = result.AwaitServing(cmd.Context(), serving(result.Kubeconfig), o.Progress)
			if err != nil {
				return err
			}
			tellNotServing(cmd.ErrOrStderr(), result.NotServing)
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

// serving asks the cluster what of its workloads does not serve.
func serving(kubeconfig string) local.Serving {
	return func(ctx context.Context, started time.Time) (awaited, lacking []string, err error) {
		c, err := client.Open(kubeconfig)
		if err != nil {
			return nil, nil, err
		}
		cluster, err := readCluster(ctx, c, probesFailed, statusKinds()...)
		if err != nil {
			return nil, nil, err
		}
		awaited, lacking = progress.Restarted(cluster, started, time.Now())
		return awaited, lacking, nil
	}
}

// maxNotServing is how many lines up tells of what does not serve: whoever reads more
// asks for it.
const maxNotServing = 10

func tellNotServing(w io.Writer, lines []string) {
	for i, l := range lines {
		if i == maxNotServing {
			layout.Fprintf(w, "and %d more\n", len(lines)-i)
			break
		}
		layout.Fprintf(w, "not serving: %s\n", l)
	}
	if len(lines) > 0 {
		layout.Fprintf(w, "the cluster is up; see `fairlead status` and `fairlead why`\n")
	}
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
