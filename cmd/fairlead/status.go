package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/reconciler/progress"
	"fairlead/schema"
)

// pollEvery is how soon a waiting status looks again.
const pollEvery = 500 * time.Millisecond

func statusCommand() *cobra.Command {
	var flags clusterFlags
	var wait bool
	timeout := defaultTimeout
	cmd := &cobra.Command{
		Use:   "status [REV]",
		Short: "Show where a revision stands; --wait follows it",
		Long: `Status shows where a revision of the source stands: its phases, its workloads
and what keeps them. REV is a commit or a revision's name; the default is what
Git asks for now.

Exit codes: 0 healthy, 1 failed or error, 3 still rolling out (with --wait: at
the time-out).`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := flags.connect()
			if err != nil {
				return err
			}
			want := ""
			if len(args) > 0 {
				want = args[0]
			}
			ctx, cancel := within(cmd.Context(), timeout)
			defer cancel()
			st, err := readStatus(ctx, c, flags.source, want)
			if err != nil {
				return err
			}
			if wait {
				st, err = followStatus(ctx, c, flags.source, want, cmd.ErrOrStderr())
				if err != nil {
					return err
				}
			}
			if flags.output == "text" {
				st.write(cmd.OutOrStdout())
			} else if err := writeAs(cmd.OutOrStdout(), flags.output, st); err != nil {
				return err
			}
			return st.exit()
		},
	}
	flags.register(cmd, "text", "json", "yaml")
	cmd.Flags().BoolVar(&wait, "wait", false, "follow the rollout until it ends")
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "give up waiting after this long")
	return cmd
}

// status is a revision with the workloads of its source.
type status struct {
	Source      *schema.Source       `json:"source"`
	Revision    *schema.Revision     `json:"revision"`
	Deployments []*appsv1.Deployment `json:"deployments"`
	Pods        []*corev1.Pod        `json:"-"`
	Trouble     []string             `json:"trouble"`
	Nodes       []string             `json:"nodes"` // what is wrong with nodes
}

func readStatus(ctx context.Context, c *client.Client, source, want string) (*status, error) {
	src, err := client.Get[*schema.Source](ctx, c, schema.KindSource, "", source)
	if err != nil {
		return nil, err
	}
	name, err := revisionName(ctx, c, src, want)
	if err != nil {
		return nil, err
	}
	st := &status{Source: src}
	if st.Revision, err = client.Get[*schema.Revision](ctx, c, schema.KindRevision, "", name); err != nil {
		return nil, err
	}
	deployments, _, err := client.List[*appsv1.Deployment](ctx, c, schema.KindDeployment)
	if err != nil {
		return nil, err
	}
	st.Deployments = slices.DeleteFunc(deployments, func(d *appsv1.Deployment) bool { return schema.OriginOf(d).Source != source })
	pods, _, err := client.List[*corev1.Pod](ctx, c, schema.KindPod)
	if err != nil {
		return nil, err
	}
	st.Pods = slices.DeleteFunc(pods, func(p *corev1.Pod) bool { return schema.OriginOf(p).Source != source })
	st.Trouble = progress.Trouble(st.Pods)
	nodes, _, err := client.List[*corev1.Node](ctx, c, schema.KindNode)
	if err != nil {
		return nil, err
	}
	st.Nodes = progress.Nodes(nodes)
	return st, nil
}

// revisionName resolves what a user calls a revision.
func revisionName(ctx context.Context, c *client.Client, src *schema.Source, want string) (string, error) {
	if want == "" {
		if src.Status.Desired.Commit == "" {
			return "", fmt.Errorf("source %s has no commit yet: push one to its branch %s", src.Name, src.Spec.Branch)
		}
		return schema.RevisionName(src.Name, src.Status.Desired.Commit), nil
	}
	revs, _, err := client.List[*schema.Revision](ctx, c, schema.KindRevision)
	if err != nil {
		return "", err
	}
	var found []string
	for _, r := range revs {
		if r.Spec.Source == src.Name && (r.Name == want || strings.HasPrefix(r.Spec.Commit, want)) {
			found = append(found, r.Name)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("source %s has no revision %q: see `fairlead history`", src.Name, want)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%q is more than one revision: %s", want, strings.Join(found, ", "))
}

// followStatus tells progress until the revision's story ends or the time is up.
func followStatus(ctx context.Context, c *client.Client, source, want string, out io.Writer) (*status, error) {
	told := map[string]bool{}
	var last *status
	for {
		st, err := readStatus(ctx, c, source, want)
		switch {
		case err == nil:
			last = st
			for _, line := range slices.Concat(progress.Lines(st.Deployments), st.Trouble, st.Nodes) {
				if !told[line] {
					told[line] = true
					fmt.Fprintln(out, line)
				}
			}
			if ended, _ := progress.Ended(st.Revision); ended {
				return st, nil
			}
		case ctx.Err() == nil:
			return nil, err
		}
		if ctx.Err() != nil {
			if last == nil {
				return nil, err
			}
			return last, nil
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
		}
	}
}

func (s *status) exit() error {
	ended, healthy := progress.Ended(s.Revision)
	switch {
	case healthy:
		return nil
	case ended:
		return &exitError{code: 1}
	}
	return &exitError{code: 3}
}

func (s *status) write(w io.Writer) {
	r := s.Revision
	schema.Fprintf(w, "Revision %s: %s\n", r.Name, r.Status.Phase)
	schema.Fprintf(w, "  commit   %s %s\n", short(r.Spec.Commit), r.Spec.Subject)
	schema.Fprintf(w, "  author   %s\n", r.Spec.Author)
	if s.Source.Status.Applied.Commit != s.Source.Status.Desired.Commit {
		schema.Fprintf(w, "  applied  %s, while Git asks for %s\n", short(s.Source.Status.Applied.Commit), short(s.Source.Status.Desired.Commit))
	}
	for _, c := range s.Source.Status.Conditions {
		if c.Status != metav1.ConditionTrue {
			schema.Fprintf(w, "  source   %s: %s\n", c.Reason, c.Message)
		}
	}
	for _, p := range r.Status.Phases {
		schema.Fprintf(w, "  %s  %-11s %s\n", p.At.UTC().Format(time.RFC3339), p.Name, p.Reason)
	}
	for _, d := range r.Status.Diagnostics {
		schema.Fprintf(w, "  %s\n", d)
	}
	for _, line := range slices.Concat(progress.Lines(s.Deployments), s.Trouble, s.Nodes, r.Status.Differs) {
		schema.Fprintf(w, "  %s\n", line)
	}
	fmt.Fprintln(w, progress.Verdict(r))
}

func historyCommand() *cobra.Command {
	var flags clusterFlags
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List the revisions of a source, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.connect()
			if err != nil {
				return err
			}
			ctx, cancel := within(cmd.Context(), client.DialTimeout)
			defer cancel()
			revs, _, err := client.List[*schema.Revision](ctx, c, schema.KindRevision)
			if err != nil {
				return err
			}
			revs = slices.DeleteFunc(revs, func(r *schema.Revision) bool { return r.Spec.Source != flags.source })
			slices.SortStableFunc(revs, func(a, b *schema.Revision) int {
				return cmp.Or(entered(b, schema.PhaseSeen).Compare(entered(a, schema.PhaseSeen)), cmp.Compare(a.Name, b.Name))
			})
			if flags.output != "text" {
				return writeAs(cmd.OutOrStdout(), flags.output, revs)
			}
			writeHistory(cmd.OutOrStdout(), revs, time.Now())
			return nil
		},
	}
	flags.register(cmd, "text", "json", "yaml")
	return cmd
}

// entered is when the revision last entered a phase.
func entered(r *schema.Revision, phase schema.Phase) time.Time {
	var at metav1.Time
	for _, p := range r.Status.Phases {
		if p.Name == phase {
			at = p.At
		}
	}
	return at.Time
}

func writeHistory(w io.Writer, revs []*schema.Revision, now time.Time) {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tw, "REVISION\tPHASE\tAGE\tAUTHOR\tSUBJECT")
	for _, r := range revs {
		author, _, _ := strings.Cut(r.Spec.Author, " <")
		schema.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", r.Name, r.Status.Phase, age(now.Sub(entered(r, schema.PhaseSeen))), author, r.Spec.Subject)
	}
	tw.Flush()
}

func short(commit string) string { return commit[:min(12, len(commit))] }
