package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/reconciler/api"
	"fairlead/reconciler/plan"
	"fairlead/schema"
	"fairlead/schema/layout"
	"fairlead/schema/load"
)

// planFlags are the flags of plan and diff.
type planFlags struct {
	clusterFlags
	against string
	drain   []string
	lose    []string
	timeout time.Duration
	isNamed func() bool // whether --source was given
	aside   io.Writer   // for what is no part of the plan
}

func (f *planFlags) register(cmd *cobra.Command, outputs ...string) {
	f.clusterFlags.register(cmd, outputs...)
	cmd.Flags().StringVar(&f.against, "against", "", "compare with this revision of the source (a commit, a revision's name or a branch) instead of what is applied")
	f.isNamed = func() bool { return cmd.Flags().Changed("source") }
	f.aside = cmd.ErrOrStderr()
	offer(cmd, "against", f.revisions)
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

In a clone of a source's repository the source is the one whose repository the
clone's remotes name, and all is planned that it reads, wherever in the clone
PATH is. Elsewhere PATH stands for what --source reads.

Exit codes: 0 computed, 1 error. With --detailed-exitcode: 0 nothing would
change, 2 changes, 3 would be held or refused, or the cluster does not survive
what --drain and --lose do: a pod that runs would not run again.`,
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
			return verdictCode(p)
		},
	}
	flags.register(cmd, "text", "json", "yaml", "markdown")
	cmd.Flags().StringSliceVar(&flags.drain, "drain", nil, "drain this node; may be given several times")
	cmd.Flags().StringSliceVar(&flags.lose, "lose", nil, "lose this node; may be given several times")
	offer(cmd, "drain", flags.nodes)
	offer(cmd, "lose", flags.nodes)
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "tell the verdict by the exit code")
	return cmd
}

// verdictCode tells a plan's verdict, and whether the cluster survives what befalls its
// nodes, by an exit code.
func verdictCode(p *plan.Plan) error {
	switch {
	case p.Verdict == plan.Held || p.Verdict == plan.Refused || p.Survives != nil && !*p.Survives:
		return &exitError{code: 3}
	case p.Verdict == plan.Changes:
		return &exitError{code: 2}
	}
	return nil
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
is applied or with another revision. Nothing is changed. Which source, and how
much of a clone, is as for plan.

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
	ctx, cancel := within(ctx, f.timeout)
	defer cancel()
	c, err := f.connect()
	if err != nil {
		return nil, err
	}
	req := api.PlanRequest{Source: f.source, Against: f.against, Drain: nodeNames(f.drain), Lose: nodeNames(f.lose)}
	if len(args) == 0 && f.against == "" && len(f.drain)+len(f.lose) > 0 {
		return ask(ctx, c, req)
	}
	name := "."
	if len(args) > 0 {
		name = args[0]
	}
	return f.askTree(ctx, c, req, name)
}

// askTree is ask about the tree at a place.
func (f *planFlags) askTree(ctx context.Context, c *client.Client, req api.PlanRequest, name string) (*plan.Plan, error) {
	sources, err := sourcesOf(ctx, c)
	if err != nil {
		return nil, err
	}
	co, src, err := f.meant(ctx, sources, name, f.isNamed())
	if err != nil {
		return nil, err
	}
	part := elsewhere(ctx, src, name)
	if co.IsOf(src) {
		if part, err = co.whole(ctx, src, name); err != nil {
			return nil, err
		}
		if part.isPart() {
			layout.Fprintf(f.aside, "note: planned is all that source %s reads, %s, not %s alone\n", src.Name, cmp.Or(part.prefix, "the whole repository"), name)
		}
	}
	req.Source = src.SourceName()
	if err := sendTree(ctx, &req, part); err != nil {
		return nil, err
	}
	p, err := ask(ctx, c, req)
	if isUnknown(err) && req.Against != "" && co.top != "" {
		p, err = co.askAgainst(ctx, c, req, src, err)
	}
	if err != nil || !co.IsOf(src) {
		return p, err
	}
	if note := co.behind(ctx, src); note != "" && req.Against == "" {
		p.Notes = slices.Sorted(slices.Values(append(p.Notes, note)))
	}
	return p, nil
}

// meant is the source that a place is of: the one that is named, else the one whose
// repository it is a clone of, else the flag's default.
func (f *clusterFlags) meant(ctx context.Context, sources []*schema.Source, name string, isNamed bool) (checkout, *schema.Source, error) {
	co, isClone := checkoutAt(ctx, name)
	if isClone && !isNamed {
		src, err := co.SourceOf(sources)
		if src != nil || err != nil {
			return co, src, err
		}
	}
	src, err := sourceNamed(sources, f.source)
	return co, src, err
}

// isUnknown reports whether the master refuses the question as it is asked.
func isUnknown(err error) bool {
	var refused *client.StatusError
	return errors.As(err, &refused) && refused.Code == http.StatusBadRequest
}

// askAgainst asks again with what the clone calls a revision that the master does not
// know by its name, such as HEAD~1. If that is none either, why stays the answer.
func (co checkout) askAgainst(ctx context.Context, c *client.Client, req api.PlanRequest, src *schema.Source, why error) (*plan.Plan, error) {
	commit, err := co.git.commit(ctx, req.Against)
	switch {
	case err == nil && string(commit) != req.Against:
		req.Against = string(commit)
		return ask(ctx, c, req)
	case co.git.isShallow(ctx):
		return nil, fmt.Errorf("%w; the history of this clone is cut off: to name a commit by it, %s", why, co.git.deepen(ctx, src.Spec.Branch))
	}
	return nil, why
}

func ask(ctx context.Context, c *client.Client, req api.PlanRequest) (*plan.Plan, error) {
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

// sendTree puts a portion's manifests into a request, and what stands there that is no
// manifest and should be: which of it the source leaves out the master knows.
func sendTree(ctx context.Context, req *api.PlanRequest, part portion) error {
	tree, err := part.tree()
	if err != nil {
		return err
	}
	req.Refused, req.Faults = tree.Refused, tree.Faults
	sent := load.Sent(ctx, tree)
	req.Refused = append(req.Refused, tree.Outside.Told()...)
	req.Faults = append(req.Faults, tree.Outside.Faults()...)
	for _, f := range sent {
		data, err := f.Open()
		if err != nil {
			return err
		}
		req.Files = append(req.Files, api.PlanFile{Path: f.Path, Data: data})
	}
	return nil
}
