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
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/reconciler"
	"fairlead/reconciler/api"
	"fairlead/reconciler/health"
	"fairlead/reconciler/progress"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/layout"
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

Beside what the revision went through stands what is true now, in two words:
sync, whether the cluster matches Git, and health, whether it works. Of a revision
that does not work it shows what its pods showed, also when they are gone.

With --wait, a commit that the source has not fetched yet is waited for too.

Exit codes: 0 it is in place and works now; 1 it failed, no longer works or is
not in place, or error; 3 still rolling out (with --wait: at the time-out; also
of a commit that never came).`,
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
			if wait && !cmd.Flags().Changed("timeout") {
				timeout = 0 // following outlasts the deadlines, and ends by itself
			}
			ctx, cancel := within(cmd.Context(), timeout)
			defer cancel()
			ask := func() (*status, error) { return readStatus(ctx, c, flags.source, want) }
			if wait {
				ask = func() (*status, error) {
					return followStatus(cmd.Context(), ctx, c, flags.source, want, layout.Lines(cmd.ErrOrStderr()))
				}
			}
			st, err := ask()
			if err != nil {
				return err
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
	offerFirst(cmd, func(cmd *cobra.Command, _ string) []string { return flags.revisions(cmd) })
	cmd.Flags().BoolVar(&wait, "wait", false, "follow the rollout until it ends")
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "give up after this long; without it, waiting goes on until a minute after the longest progress deadline")
	return cmd
}

// status is a revision with the workloads of its source.
type status struct {
	Source    *schema.Source
	Revision  *schema.Revision
	Workloads map[schema.Kind][]schema.Object // of each kind that makes pods by others
	Trouble   []string
	Nodes     []string // what is wrong with nodes
	Master    []string // what is wrong with the master

	cluster state.Reader
	lines   []string // how far the workloads are
}

// MarshalJSON writes the workloads of each kind under its plural, beside the rest.
func (s *status) MarshalJSON() ([]byte, error) {
	type field struct {
		name  string
		value any
	}
	fields := []field{{"source", s.Source}, {"revision", s.Revision}}
	for _, info := range workloadKinds() {
		fields = append(fields, field{info.Resource, list(s.Workloads[info.Kind])})
	}
	fields = append(fields, field{"trouble", s.Trouble}, field{"nodes", s.Nodes})
	if len(s.Master) > 0 {
		fields = append(fields, field{"master", s.Master})
	}
	out := []byte{'{'}
	for i, f := range fields {
		data, err := json.Marshal(f.value)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", f.name, err)
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(fmt.Appendf(out, "%q:", f.name), data...)
	}
	return append(out, '}'), nil
}

// statusKinds are what a status is made from: all that makes pods, and what is told of it.
func statusKinds() []schema.Kind {
	kinds := []schema.Kind{schema.KindFor[*schema.Source](), schema.KindFor[*schema.Revision](), schema.KindFor[*corev1.Node](), schema.KindFor[*corev1.Event]()}
	for _, info := range schema.Kinds() {
		if schema.Of(info.Kind).Pods.Do != nil {
			kinds = append(kinds, info.Kind)
		}
	}
	return kinds
}

// workloadKinds are those that stand in Git and make pods by way of other objects.
func workloadKinds() (out []schema.KindInfo) {
	for _, info := range schema.Kinds() {
		if row := schema.Of(info.Kind); info.Desired && row.Pods.Do != nil && row.Owns.Do != nil {
			out = append(out, info)
		}
	}
	return out
}

// probesFailed selects the events that status tells of.
const probesFailed = "reason=" + schema.ReasonUnhealthy

func readStatus(ctx context.Context, c *client.Client, source schema.SourceName, want string) (*status, error) {
	cluster, err := readCluster(ctx, c, probesFailed, statusKinds()...)
	if err != nil {
		return nil, err
	}
	src, ok := state.Source(cluster, source)
	if !ok {
		return nil, fmt.Errorf("there is no source %q: see `fairlead kubectl get sources`", source)
	}
	st := &status{Source: src, Workloads: map[schema.Kind][]schema.Object{}, cluster: cluster, Master: masterTrouble(ctx, c)}
	if st.Revision, err = findRevision(cluster, src, want); err != nil {
		return st, err
	}
	for _, info := range workloadKinds() {
		for obj := range cluster.BySource(info.Kind, source) {
			if metav1.GetControllerOfNoCopy(obj) == nil { // what others of these make is theirs
				st.Workloads[info.Kind] = append(st.Workloads[info.Kind], obj)
			}
		}
	}
	now := time.Now()
	st.lines, st.Trouble = progress.Lines(cluster, source, now), list(progress.Troubles(cluster, source, now))
	st.Nodes = list(progress.Nodes(slices.Collect(state.All[*corev1.Node](cluster, ""))))
	return st, nil
}

// masterTrouble is what the master says of itself that somebody should look at. Where it
// cannot be asked, whatever else is asked of it says so.
func masterTrouble(ctx context.Context, c *client.Client) []string {
	answer, err := c.Do(ctx, http.MethodGet, "/readyz?verbose", nil)
	if err != nil {
		return nil
	}
	return attention(string(answer))
}

// attention are the lines of /readyz?verbose that somebody should look at.
func attention(answer string) (lines []string) {
	for line := range strings.Lines(answer) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), api.AttentionMark); ok {
			lines = append(lines, text)
		}
	}
	return lines
}

// notThere is a revision that the source does not have, and may have later.
type notThere struct {
	source *schema.Source
	commit string
}

func (e notThere) Error() string { return progress.NotThere(e.source, e.commit) }

// findRevision resolves what a user calls a revision; "" is what Git asks for.
func findRevision(r state.Reader, src *schema.Source, want string) (*schema.Revision, error) {
	if want = cmp.Or(want, string(src.Status.Desired.Commit)); want == "" {
		return nil, notThere{src, ""}
	}
	found := health.FindRevisions(slices.Collect(state.Revisions(r, src.SourceName())), want)
	switch len(found) {
	case 0:
		return nil, notThere{src, want}
	case 1:
		return found[0], nil
	}
	return nil, health.SeveralRevisions(want, found)
}

// followStatus tells progress until the revision's story ends or the time is up, which is
// when waiting ends. A revision that is not there and could still come is waited for. The
// first answer is not bounded by waiting: however short that is, something is told.
func followStatus(ctx, waiting context.Context, c *client.Client, source schema.SourceName, want string, out io.Writer) (*status, error) {
	var last *status
	var missing error
	_, err := reconciler.Follow(waiting, func(asking context.Context) (reconciler.View, error) {
		if last == nil {
			first, cancel := context.WithTimeout(ctx, client.DialTimeout)
			defer cancel()
			asking = first
		}
		st, err := readStatus(asking, c, source, want)
		if err != nil && !(errors.As(err, new(notThere)) && (want == "" || health.MayMean(source, want))) {
			return reconciler.View{}, err
		}
		last, missing = st, err
		moved := make(chan struct{})
		time.AfterFunc(pollEvery, func() { close(moved) })
		return reconciler.View{Cluster: st.cluster, Source: st.Source, Revision: st.Revision, Commit: want, Moved: moved}, nil
	}, time.Now, out)
	if err == nil && missing != nil {
		return nil, &exitError{code: 3, err: missing}
	}
	return last, err
}

func (s *status) exit() error {
	switch progress.OutcomeOf(s.Source, s.Revision) {
	case progress.Works:
		return nil
	case progress.UnderWay:
		return &exitError{code: 3}
	}
	return &exitError{code: 1}
}

func (s *status) write(w io.Writer) {
	r := s.Revision
	layout.Fprintf(w, "Revision %s: %s\n", r.Name, r.Status.Phase)
	var once progress.Once
	layout.WriteTable(w, "  ", s.facts(&once))
	phases := make([][]string, len(r.Status.Phases))
	for i, p := range r.Status.Phases {
		phases[i] = []string{p.At.UTC().Format(time.RFC3339), string(p.Name), once.Tell(p.Reason)}
	}
	layout.WriteTable(w, "  ", phases)
	for _, d := range r.Status.Diagnostics {
		layout.Fprintf(w, "  %s\n", d)
	}
	for _, line := range slices.Concat(s.lines, s.Trouble, s.Nodes, r.Status.Differs, progress.Evidence(r.Status.Evidence, schema.MaxEvidenceLines)) {
		layout.Fprintf(w, "  %s\n", once.Tell(line))
	}
	layout.Fprintf(w, "%s\n", once.Tell(progress.LastLine(s.Source, r)))
}

// applied is the commit that runs, with how far it is where the status is that of
// another one.
func (s *status) applied() string {
	rev, ok := health.Applied(s.cluster, s.Source)
	switch {
	case s.Source.Status.Applied.Commit == "":
		return "nothing yet"
	case !ok || rev.Name == s.Revision.Name || rev.Status.Phase == schema.PhaseHealthy:
		return s.Source.Status.Applied.Commit.Short()
	}
	return fmt.Sprintf("%s (%s)", rev.Spec.Commit.Short(), rev.Status.Phase)
}

// facts is what the revision is and how it stands, a row each.
func (s *status) facts(once *progress.Once) [][]string {
	r, src := s.Revision, s.Source.Status
	rows := [][]string{
		{"commit", r.Spec.Commit.Short() + " " + r.Spec.Subject},
		{"author", r.Spec.Author},
	}
	if src.Applied.Commit != src.Desired.Commit {
		rows = append(rows, []string{"applied", fmt.Sprintf("%s, while Git asks for %s", s.applied(), src.Desired.Commit.Short())})
	}
	rows = append(rows, standing("sync", r.Status.Sync, once)...)
	rows = append(rows, standing("health", r.Status.Health, once)...)
	for _, c := range src.Conditions {
		if c.Status != metav1.ConditionTrue {
			rows = append(rows, []string{"source", c.Reason + ": " + once.Tell(c.Message)})
		}
	}
	for _, line := range s.Master {
		rows = append(rows, []string{"master", line})
	}
	return rows
}

func standing(of string, s *schema.Standing, once *progress.Once) [][]string {
	if s == nil {
		return nil
	}
	return [][]string{{of, fmt.Sprintf("%s since %s: %s", s.Word, s.Since.UTC().Format(time.RFC3339), once.Tell(s.Reason))}}
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
			revs, err := client.All[*schema.Revision](ctx, c)
			if err != nil {
				return err
			}
			revs = slices.DeleteFunc(list(revs), func(r *schema.Revision) bool { return r.Spec.Source != flags.source })
			slices.SortFunc(revs, newestFirst)
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

// newestFirst orders revisions by when the master saw them, also within a second. Those
// that an earlier version left have no number and come last, by their times.
func newestFirst(a, b *schema.Revision) int {
	return cmp.Or(cmp.Compare(b.Status.Seen, a.Status.Seen), b.Entered(schema.PhaseSeen).Compare(a.Entered(schema.PhaseSeen)), cmp.Compare(a.Name, b.Name))
}

func writeHistory(w io.Writer, revs []*schema.Revision, now time.Time) {
	rows := [][]string{{"REVISION", "PHASE", "SYNC", "HEALTH", "AGE", "AUTHOR", "SUBJECT"}}
	for _, r := range revs {
		author, _, _ := strings.Cut(r.Spec.Author, " <")
		rows = append(rows, []string{
			r.Name, string(r.Status.Phase), word(r.Status.Sync), word(r.Status.Health),
			age(now.Sub(r.Entered(schema.PhaseSeen))), author, r.Spec.Subject,
		})
	}
	layout.WriteTable(w, "", rows)
}

// word is "-" for a revision that does not stand anywhere.
func word(s *schema.Standing) string {
	if s == nil {
		return "-"
	}
	return s.Word
}
