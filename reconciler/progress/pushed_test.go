package progress

import (
	"errors"
	"testing"

	"fairlead/schema"
)

func TestTheLastLineOfAPush(t *testing.T) {
	const commit, newer = schema.Commit("1111111111111111111111111111111111111111"), schema.Commit("2222222222222222222222222222222222222222")
	name := schema.RevisionOf("main", commit)
	at := func(desired schema.Commit) *schema.Source {
		src := &schema.Source{}
		src.Status.Desired.Commit, src.Status.Applied.Commit = desired, desired
		return src
	}
	in := func(phase schema.Phase) *schema.Revision {
		rev := &schema.Revision{Spec: schema.RevisionSpec{Source: "main", Commit: commit}}
		rev.Status.Phase = phase
		return rev
	}
	gone := errors.New("the revision is not known to the cluster")
	for _, c := range []struct {
		about string
		p     Pushed
		want  string
	}{
		{"another commit came first", Pushed{Source: at(newer), Err: gone}, "SUPERSEDED main-111111111111: it was not judged, the branch is at 222222222222 by now; see fairlead status"},
		{"it is not there", Pushed{Source: at(commit), Err: gone}, "FAILED the revision is not known to the cluster"},
		{"its source is gone", Pushed{Err: gone}, "FAILED the revision is not known to the cluster"},
		{"it is under way, and nobody waits", Pushed{Source: at(commit), Revision: in(schema.PhaseRollingOut)}, "main-111111111111 is rolling out; follow it with: fairlead status --wait"},
		{"it was waited for too long", Pushed{Source: at(commit), Revision: in(schema.PhaseRollingOut), Waited: true}, ""},
		{"it has ended", Pushed{Source: at(commit), Revision: in(schema.PhaseInvalid)}, ""},
	} {
		c.p.Name, c.p.Commit = name, commit
		if got := c.p.Last(); got != c.want {
			t.Errorf("%s: got %q, want %q", c.about, got, c.want)
		}
	}
}
