package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/schema"
)

// defaultTimeout is what --timeout is by default.
const defaultTimeout = 10 * time.Minute

// clusterFlags are the flags of every command that reads a cluster.
type clusterFlags struct {
	kubeconfig string
	source     schema.SourceName
	output     string
}

func (f *clusterFlags) register(cmd *cobra.Command, outputs ...string) {
	cmd.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig to use (default $KUBECONFIG, else the cluster that up made last)")
	cmd.Flags().StringVar((*string)(&f.source), "source", "main", "source to ask about")
	offer(cmd, "source", f.sources)
	f.registerOutput(cmd, outputs...)
}

func (f *clusterFlags) registerOutput(cmd *cobra.Command, outputs ...string) {
	outputFlag(cmd, &f.output, outputs...)
}

func joinWords(words []string) string {
	out := ""
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			out += " or "
		default:
			out += ", "
		}
		out += w
	}
	return out
}

func (f *clusterFlags) connect() (*client.Client, error) {
	path, err := client.Find(f.kubeconfig)
	if err != nil {
		return nil, err
	}
	return client.Open(path)
}

// within bounds ctx by a --timeout; zero means no bound.
func within(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

func age(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
