package follow

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/schema"
)

var (
	ran    = schema.Commit(strings.Repeat("a", 40))
	judged = schema.Commit(strings.Repeat("b", 40))
	tip    = schema.Commit(strings.Repeat("c", 40))
)

// seen is a branch at tip whose history holds commits since what ran, the newest first.
func seen(contained bool, messages ...string) Seen {
	way := Way{Contained: contained}
	for _, m := range messages {
		way.Commits = append(way.Commits, schema.CommitObject{Hash: tip, Message: m})
	}
	return Seen{Tip: tip, Commit: way.Commits[0], Applied: way, Desired: way}
}

func TestNext(t *testing.T) {
	gone := &Problem{Reason: Unreachable, Message: "no route to host"}
	for _, c := range []struct {
		name  string
		known Known
		seen  Seen
		want  Step
	}{
		{"nobody pushed yet", Known{}, Seen{}, Step{}},
		{"the first commit", Known{}, seen(false, "first"), Step{Observed: tip, Judge: tip}},
		{"the next commit", Known{Applied: ran, Desired: ran}, seen(true, "next"), Step{Observed: tip, Judge: tip}},
		{"nothing new", Known{Applied: ran, Desired: tip}, Seen{Tip: tip}, Step{Observed: tip}},
		{"nothing new under other rights", Known{Applied: ran, Desired: tip, Rejudge: true}, seen(true, "c"), Step{Observed: tip, Judge: tip}},
		{"a prune that is allowed on the way", Known{Applied: ran, Desired: judged}, seen(true, "tip", "s\n\nFairlead-Allow-Prune: 4"),
			Step{Observed: tip, Judge: tip, Overrides: schema.Overrides{AllowPrune: 4}}},
		{"the repository is away", Known{Applied: ran, Desired: ran}, Seen{Problem: gone}, Step{Problem: gone}},
		{"the repository is away and rights have changed", Known{Applied: ran, Desired: judged, Rejudge: true, FallBack: ran}, Seen{Problem: gone},
			Step{Problem: gone, Judge: judged}},
		{"the repository is away and a revision failed", Known{Applied: ran, Desired: ran, FallBack: judged}, Seen{Problem: gone},
			Step{Problem: gone, GoBack: judged}},
		{"nothing new, and it waits for other sources", Known{Applied: ran, Desired: tip, Waits: true}, seen(true, "c"), Step{Observed: tip, Judge: tip}},
		{"the repository is away and it waits for other sources", Known{Applied: ran, Desired: judged, Waits: true}, Seen{Problem: gone}, Step{Problem: gone, Judge: judged}},
		{"it waits for other sources and what runs failed", Known{Applied: ran, Desired: tip, Waits: true, FallBack: judged}, Seen{Tip: tip}, Step{Observed: tip, GoBack: judged}},
		{"it waits for other sources, and so does going back from what failed", Known{Applied: ran, Desired: tip, Waits: true, FallBack: judged, NoWayBack: true}, seen(true, "c"), Step{Observed: tip, Judge: tip, GoBack: judged}},
		{"both wait, and a new commit is there", Known{Applied: ran, Desired: judged, Waits: true, FallBack: judged, NoWayBack: true}, seen(true, "next"), Step{Observed: tip, Judge: tip}},
		{"both wait, and the repository is away", Known{Applied: ran, Desired: judged, Waits: true, FallBack: ran, NoWayBack: true}, Seen{Problem: gone}, Step{Problem: gone, Judge: judged, GoBack: ran}},
		{"it waits for other sources and records were lost", Known{Applied: ran, Desired: tip, Waits: true, Incomplete: true}, Seen{Tip: tip}, Step{Observed: tip, Restore: ran}},
		{"it waits for other sources, what runs failed, and a new commit is there", Known{Applied: ran, Desired: judged, Waits: true, FallBack: ran}, seen(true, "next"), Step{Observed: tip, Judge: tip}},
		{"after a start", Known{Applied: ran, Desired: tip, Locked: true}, Seen{Tip: tip}, Step{Observed: tip, Open: ran}},
		{"after a start, a new commit", Known{Applied: ran, Desired: ran, Locked: true}, seen(true, "next"), Step{Observed: tip, Open: ran, Judge: tip}},
		{"records were lost", Known{Applied: ran, Desired: tip, Incomplete: true, FallBack: judged}, Seen{Tip: tip},
			Step{Observed: tip, Restore: ran, GoBack: judged}},
		{"a new commit comes before what was lost and what failed", Known{Applied: ran, Desired: ran, Incomplete: true, FallBack: judged}, seen(true, "mends it"),
			Step{Observed: tip, Judge: tip}},
	} {
		if diff := cmp.Diff(c.want, Next(c.known, c.seen)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// Without a look at the repository nothing is judged that waits for other sources: what
// runs is looked after.
func TestStayLeavesWhatWaits(t *testing.T) {
	for name, tt := range map[string]struct {
		known Known
		want  Step
	}{
		"what runs is well":      {Known{Applied: ran, Desired: judged, Waits: true}, Step{}},
		"what runs failed":       {Known{Applied: judged, Desired: tip, Waits: true, FallBack: ran}, Step{GoBack: ran}},
		"records were lost":      {Known{Applied: ran, Desired: judged, Waits: true, Incomplete: true}, Step{Restore: ran}},
		"rights changed as well": {Known{Applied: ran, Desired: judged, Waits: true, Rejudge: true}, Step{Judge: judged}},
	} {
		if diff := cmp.Diff(tt.want, Stay(tt.known)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// What is applied is left for nothing but a tip that follows it or says that it is left.
func TestRefused(t *testing.T) {
	known := Known{Applied: ran, Desired: judged, FallBack: ran}
	noPath := seen(true, "moved")
	noPath.Path = &Problem{Reason: PathGone, Observed: tip}
	for _, c := range []struct {
		name string
		seen Seen
		want Reason
	}{
		{"the branch vanished", Seen{}, BranchGone},
		{"history was rewritten", seen(false, "elsewhere"), Rewound},
		{"a rewind that names another commit", seen(false, "s\n\nFairlead-Allow-Rewind: "+string(tip)), Rewound},
		{"a rewind that names too little of it", seen(false, "s\n\nFairlead-Allow-Rewind: "+string(ran[:6])), Rewound},
		{"a rewind of what runs", seen(false, "on", "s\n\nFairlead-Allow-Rewind: "+string(ran[:7])), ""},
		{"a rewind of what was judged", seen(false, "s\n\nFairlead-Allow-Rewind: "+string(judged)), ""},
		{"the path is gone", noPath, PathGone},
	} {
		step := Next(known, c.seen)
		var got Reason
		if step.Problem != nil {
			got = step.Problem.Reason
		}
		if got != c.want || (step.Judge == "") != (c.want != "") || (step.GoBack == ran) != (c.want != "") {
			t.Errorf("%s: %q, want %q: %+v", c.name, got, c.want, step)
		}
	}
	if got := Next(Known{Desired: judged}, seen(false, "elsewhere")); got.Judge != tip {
		t.Errorf("where nothing runs, anything follows: %+v", got)
	}
}

func TestPace(t *testing.T) {
	p := Pace{Source: "shop", Interval: time.Hour}
	for _, err := range []error{nil, &Problem{Reason: Rewound}, errors.Join(&Problem{Reason: PathGone}, errors.New("x"))} {
		if _, wait := p.After(err); wait != time.Hour {
			t.Errorf("after %v: %s, want the interval", err, wait)
		}
	}
	p, first := p.After(errors.New("down"))
	p, second := p.After(&Problem{Reason: Unreachable})
	if first > 2*time.Second || second <= first {
		t.Errorf("waits %s and %s", first, second)
	}
	p, _ = p.After(nil)
	if _, again := p.After(errors.New("down")); again != first {
		t.Errorf("after a look that went well it waits %s, want %s", again, first)
	}
}
