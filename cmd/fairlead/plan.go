package main

import (
	"context"
	"encoding/json"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/reconciler/api"
	"fairlead/reconciler/plan"
	"fairlead/schema/load"
)

func planCommand() *cobra.Command {
	var flags clusterFlags
	var detailed bool
	timeout := defaultTimeout
	cmd := &cobra.Command{
		Use:   "plan [PATH]",
		Short: "Show what a tree would change: objects, pods, nodes, capacity",
		Long: `Plan sends the manifests below PATH (default: the current directory) to the
master, which settles them on a copy of the live cluster with the code that
would apply them, and shows the difference. Nothing is changed.

Exit codes: 0 computed, 1 error. With --detailed-exitcode: 0 nothing would
change, 2 changes, 3 would be held or refused.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := requestPlan(cmd.Context(), &flags, timeout, args)
			if err != nil {
				return err
			}
			if flags.output == "text" {
				p.WriteText(cmd.OutOrStdout())
			} else if err := writeAs(cmd.OutOrStdout(), flags.output, p); err != nil {
				return err
			}
			if !detailed {
				return nil
			}
			switch p.Verdict {
			case plan.None:
				return nil
			case plan.Changes:
				return &exitError{code: 2}
			}
			return &exitError{code: 3}
		},
	}
	flags.register(cmd, "text", "json")
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "tell the verdict by the exit code")
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "give up after this long")
	return cmd
}

func diffCommand() *cobra.Command {
	var flags clusterFlags
	timeout := defaultTimeout
	cmd := &cobra.Command{
		Use:   "diff [PATH]",
		Short: "Show how the objects of a tree differ from the cluster",
		Long: `Diff shows the objects that the manifests below PATH (default: the current
directory) would create, change or prune, field by field. Nothing is changed.

Exit codes: 0 no differences, 1 differences, 2 or more an error.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := requestPlan(cmd.Context(), &flags, timeout, args)
			if err != nil {
				return &exitError{code: 2, err: err}
			}
			if flags.output == "text" {
				p.WriteObjects(cmd.OutOrStdout())
			} else if err := writeAs(cmd.OutOrStdout(), flags.output, map[string]any{"objects": p.Objects, "diagnostics": p.Diagnostics}); err != nil {
				return &exitError{code: 2, err: err}
			}
			switch {
			case p.Verdict == plan.Refused:
				return &exitError{code: 2}
			case len(p.Objects) > 0:
				return &exitError{code: 1}
			}
			return nil
		},
	}
	flags.register(cmd, "text", "json")
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "give up after this long")
	return cmd
}

// requestPlan sends the tree at args[0] to the master's planner.
func requestPlan(ctx context.Context, flags *clusterFlags, timeout time.Duration, args []string) (*plan.Plan, error) {
	dir := "."
	if len(args) > 0 {
		dir = args[0]
	}
	tree, err := load.Directory(dir)
	if err != nil {
		return nil, err
	}
	req := api.PlanRequest{Source: flags.source}
	for _, f := range tree.Files {
		if !slices.Contains([]string{".yaml", ".yml", ".json", ".cue"}, strings.ToLower(path.Ext(f.Path))) {
			continue
		}
		data, err := f.Open()
		if err != nil {
			return nil, err
		}
		req.Files = append(req.Files, api.PlanFile{Path: f.Path, Data: data})
	}
	if tree.Refused.HasErrors() {
		return nil, tree.Refused
	}
	c, err := flags.connect()
	if err != nil {
		return nil, err
	}
	ctx, cancel := within(ctx, timeout)
	defer cancel()
	data, err := c.Do(ctx, http.MethodPost, "/apis/fairlead/v1/plan", req)
	if err != nil {
		return nil, err
	}
	p := &plan.Plan{}
	return p, json.Unmarshal(data, p)
}
