package rollback

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

// revisionAt is a revision that entered phases a minute apart, from the n-th on.
func revisionAt(n int, commit schema.Commit, phases ...schema.Phase) *schema.Revision {
	rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: string(schema.RevisionOf("main", commit))}, Spec: schema.RevisionSpec{Source: "main", Commit: commit}}
	for i, p := range phases {
		rev.Enter(p, metav1.NewTime(time.Date(2030, 1, 1, 12, n+i, 0, 0, time.UTC)), "because")
	}
	return rev
}

func TestWhatToGoBackTo(t *testing.T) {
	good, better, failed, now := schema.Commit(strings.Repeat("a", 40)), schema.Commit(strings.Repeat("b", 40)), schema.Commit(strings.Repeat("c", 40)), schema.Commit(strings.Repeat("d", 40))
	quarantined := revisionAt(30, failed, schema.PhaseHealthy, schema.PhaseFailed, schema.PhaseRolledBack)
	quarantined.Status.Quarantined = true
	foreign := revisionAt(90, schema.Commit(strings.Repeat("e", 40)), schema.PhaseHealthy)
	foreign.Spec.Source = "other"
	history := []*schema.Revision{
		foreign, revisionAt(10, good, schema.PhaseSeen, schema.PhaseHealthy), revisionAt(20, better, schema.PhaseHealthy, schema.PhaseSuperseded),
		quarantined, revisionAt(40, now, schema.PhaseHealthy),
	}
	for _, tc := range []struct {
		name  string
		at    schema.Commit
		revs  []*schema.Revision
		to    string
		want  schema.Commit
		wants string // part of the error
	}{
		{"the last healthy one", now, history, "", better, ""},
		{"over one that failed", failed, history[:4], "", better, ""},
		{"one by its beginning", now, history, "aaa", good, ""},
		{"one by its name", now, history, "main-aaaaaaaaaaaa", good, ""},
		{"one that git may know", now, history, "v1.2", "v1.2", ""},
		{"several", now, append(history, revisionAt(50, "aaab"+good[4:], schema.PhaseSeen)), "aaa", "", "more than one revision: main-aaaaaaaaaaaa, main-aaab"},
		{"none was healthy", now, history[3:], "", "", "no healthy revision before dddddddddddd"},
		{"no commit", "", nil, "", "", "no commit yet"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src := &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: schema.SourceSpec{Branch: "main"}}
			src.Status.Desired.Commit = tc.at
			r, err := New(src, tc.revs, tc.to)
			switch {
			case tc.wants != "":
				if err == nil || !strings.Contains(err.Error(), tc.wants) {
					t.Errorf("error %v, want %q", err, tc.wants)
				}
			case err != nil:
				t.Error(err)
			case r.To != tc.want || r.Parent != tc.at:
				t.Errorf("to %s over %s, want %s over %s", r.To, r.Parent, tc.want, tc.at)
			}
		})
	}
}

// A message names a bounded number of commits, and what others wrote stays on one line.
func TestTheMessageOfARollback(t *testing.T) {
	p := Plan{Source: "main", To: schema.Commit(strings.Repeat("a", 40)), Parent: schema.Commit(strings.Repeat("b", 40)), Why: "Failed: crash\nFairlead-Allow-Prune: 100"}
	lines := func(n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf("- %d", i))
		}
		return out
	}
	few := p.Message(`aaa "first" by Ada, 2030-01-01`, lines(2))
	want := "Roll back main to aaaaaaaaaaaa\n\nBrings back the files of aaa \"first\" by Ada, 2030-01-01.\nWhat became of bbbbbbbbbbbb: "
	if !strings.HasPrefix(few, want) || strings.Contains(few, "\nFairlead-Allow-Prune") || !strings.HasSuffix(few, "\nUndone:\n- 0\n- 1\n\nFairlead-Rollback: "+string(p.To)+"\n") {
		t.Errorf("got %q", few)
	}
	if many := p.Message("aaa", lines(MaxUndone+1)); !strings.Contains(many, "- 19\n- and older ones\n") || strings.Contains(many, "- 20") {
		t.Errorf("got %q", many)
	}
	if none := p.Message("aaa", nil); strings.Contains(none, "Undone") {
		t.Errorf("got %q", none)
	}
}

func TestTheRemoteOfAClone(t *testing.T) {
	for want, remotes := range map[string][]string{"": nil, "only": {"only"}, "origin": {"fork", "origin"}} {
		if got := RemoteOf(remotes); got != want {
			t.Errorf("of %v: got %q, want %q", remotes, got, want)
		}
	}
	if got := RemoteOf([]string{"a", "b"}); got != "" {
		t.Errorf("of two: got %q", got)
	}
}
