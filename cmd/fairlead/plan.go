package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"fairlead/reconciler/api"
	"fairlead/reconciler/plan"
	"fairlead/schema"
	"fairlead/schema/load"
)

// planFlags are the flags of plan and diff.
type planFlags struct {
	clusterFlags
	against string
	drain   []string
	lose    []string
	timeout time.Duration
}

func (f *planFlags) register(cmd *cobra.Command, outputs ...string) {
	f.clusterFlags.register(cmd, outputs...)
	cmd.Flags().StringVar(&f.against, "against", "", "compare with this revision of the source (a commit, a revision's name or a branch) instead of what is applied")
	cmd.Flags().DurationVar(&f.timeout, "timeout", defaultTimeout, "give up after this long")
}

func planCommand() *cobra.Command {
	var flags planFlags
	var detailed bool
	cmd := &cobra.Command{
		Use:   "plan [PATH]",
		Short: "Show what a tree would change: objects, pods, nodes, capacity",
		Long: `Plan sends the manifests below PATH (default: the current directory) to the
master, which settles them on a copy of the live cluster with the code that
would apply them, and shows the difference. Nothing is changed.

--drain and --lose ask what happens when nodes are drained, or when they die
all at once. With a PATH that is after the tree has settled; without one the
cluster is taken as it is.

Exit codes: 0 computed, 1 error. With --detailed-exitcode: 0 nothing would
change, 2 changes, 3 would be held or refused.`,
		Example: `  fairlead plan                          the tree in the current directory
  fairlead plan -o markdown deploy/      as a comment on a pull request
  fairlead plan --against 4f2a1c0        not over what runs but over another revision
  fairlead plan --lose n2                does the cluster survive the loss of n2?
  fairlead plan --lose n2 deploy/        and once this tree runs?`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := flags.request(cmd.Context(), args)
			if err != nil {
				return err
			}
			if err := writePlan(cmd.OutOrStdout(), flags.output, p); err != nil {
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
	flags.register(cmd, "text", "json", "yaml", "markdown")
	cmd.Flags().StringSliceVar(&flags.drain, "drain", nil, "drain this node; may be given several times")
	cmd.Flags().StringSliceVar(&flags.lose, "lose", nil, "lose this node; may be given several times")
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "tell the verdict by the exit code")
	return cmd
}

func writePlan(w io.Writer, format string, p *plan.Plan) error {
	switch format {
	case "text":
		return painted(w, p.WriteText)
	case "markdown":
		p.WriteMarkdown(w)
		return nil
	}
	return writeAs(w, format, p)
}

func diffCommand() *cobra.Command {
	var flags planFlags
	cmd := &cobra.Command{
		Use:   "diff [PATH]",
		Short: "Show how the objects of a tree differ from the cluster",
		Long: `Diff shows the objects that the manifests below PATH (default: the current
directory) would create, change or prune, field by field, compared with what
is applied or with another revision. Nothing is changed.

Exit codes: 0 no differences, 1 differences, 2 or more an error.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := flags.request(cmd.Context(), args)
			if err != nil {
				return &exitError{code: 2, err: err}
			}
			if flags.output == "text" {
				err = painted(cmd.OutOrStdout(), p.WriteObjects)
			} else {
				err = writeAs(cmd.OutOrStdout(), flags.output, map[string]any{"objects": p.Objects, "diagnostics": p.Diagnostics})
			}
			switch {
			case err != nil:
				return &exitError{code: 2, err: err}
			case p.Verdict == plan.Refused:
				return &exitError{code: 2}
			case len(p.Objects) > 0:
				return &exitError{code: 1}
			}
			return nil
		},
	}
	flags.register(cmd, "text", "json", "yaml")
	return cmd
}

// request asks the master's planner about the tree at args[0] and the nodes.
func (f *planFlags) request(ctx context.Context, args []string) (*plan.Plan, error) {
	req := api.PlanRequest{Source: f.source, Against: f.against, Drain: nodeNames(f.drain), Lose: nodeNames(f.lose)}
	if len(args) > 0 || f.against != "" || len(f.drain)+len(f.lose) == 0 {
		dir := "."
		if len(args) > 0 {
			dir = args[0]
		}
		if err := sendTree(&req, dir); err != nil {
			return nil, err
		}
	}
	c, err := f.connect()
	if err != nil {
		return nil, err
	}
	ctx, cancel := within(ctx, f.timeout)
	defer cancel()
	data, err := c.Do(ctx, http.MethodPost, "/apis/fairlead/v1/plan", req)
	if err != nil {
		return nil, err
	}
	p := &plan.Plan{}
	return p, json.Unmarshal(data, p)
}

func nodeNames(names []string) (out []schema.NodeName) {
	for _, n := range names {
		out = append(out, schema.NodeName(n))
	}
	return out
}

// sendTree puts the manifests below dir into a request, and what stands there that
// is no manifest and should be: which of it the source leaves out the master knows.
func sendTree(req *api.PlanRequest, dir string) error {
	tree, err := load.Directory(dir)
	if err != nil {
		return err
	}
	req.Refused, req.Faults = tree.Refused, tree.Faults
	for _, f := range tree.Files {
		if !schema.IsManifest(f.Path) {
			continue
		}
		data, err := f.Open()
		if err != nil {
			return err
		}
		req.Files = append(req.Files, api.PlanFile{Path: f.Path, Data: data})
	}
	return nil
}
