package health

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

// past is a revision that was healthy n minutes after some time, and then word.
func past(n int, word string, changes ...func(*schema.Revision)) *schema.Revision {
	commit := schema.Commit(string(rune('a' + n)))
	rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: string(commit)}, Spec: schema.RevisionSpec{Source: "main", Commit: commit}}
	rev.Enter(schema.PhaseHealthy, metav1.NewTime(now.Add(time.Duration(n)*time.Minute)), "")
	if word != "" {
		rev.Status.Health = &schema.Standing{Word: word}
	}
	for _, f := range changes {
		f(rev)
	}
	return rev
}

func proven(r *schema.Revision) { at := metav1.NewTime(now); r.Status.ProvenAt = &at }

func quarantined(r *schema.Revision) { r.Status.Quarantined = true }

func failed(r *schema.Revision) { r.Enter(schema.PhaseFailed, metav1.NewTime(now), "") }

func because(code Code) func(*schema.Revision) {
	return func(r *schema.Revision) {
		r.Status.Conditions = []metav1.Condition{{Type: schema.ConditionHealthy, Reason: string(code)}}
	}
}

func TestGoBackTo(t *testing.T) {
	never := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "never"}}
	never.Enter(schema.PhaseRollingOut, metav1.NewTime(now), "")
	tests := []struct {
		name    string
		revs    []*schema.Revision
		applied schema.Commit
		want    string
	}{
		{"nothing", nil, "", ""},
		{"never healthy", []*schema.Revision{never}, "", ""},
		{"the last proven one", []*schema.Revision{past(1, schema.Healthy, proven), past(2, schema.Degraded, proven), past(3, schema.Healthy)}, "", "c"},
		{"one that an earlier version left", []*schema.Revision{past(1, ""), past(2, schema.Degraded, because(CrashLoop))}, "", "b"},
		{"proven before another that only was well", []*schema.Revision{past(1, schema.Healthy, proven), past(2, schema.Healthy)}, "", "b"},
		{"the one that runs and is well", []*schema.Revision{past(1, schema.Healthy, proven), past(2, schema.Healthy)}, "c", "c"},
		{"not the one that runs and is not", []*schema.Revision{past(1, schema.Healthy, proven), past(2, schema.Degraded)}, "c", "b"},
		{"well until it was replaced", []*schema.Revision{past(1, schema.Healthy), past(2, schema.Degraded, because(CrashLoop))}, "", "b"},
		{"not well for the cluster's fault", []*schema.Revision{past(1, schema.Degraded, because(NodeSilent))}, "", "b"},
		{"crashed late", []*schema.Revision{past(1, schema.Degraded, because(CrashLoop))}, "", ""},
		{"not well, nobody knows why", []*schema.Revision{past(1, schema.Degraded)}, "", ""},
		{"failed since", []*schema.Revision{past(1, schema.Healthy, proven, failed), past(2, schema.Failed, proven, quarantined)}, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}}
			src.Status.Applied.Commit = tt.applied
			got := ""
			if rev := GoBackTo(src, tt.revs); rev != nil {
				got = rev.Name
			}
			if got != tt.want {
				t.Errorf("goes back to %q, want %q", got, tt.want)
			}
		})
	}
}

func TestMeansARevision(t *testing.T) {
	rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-4d7b5c7aefe8"}, Spec: schema.RevisionSpec{Commit: "4d7b5c7aefe8cafe"}}
	for want, means := range map[string]bool{"": false, "4d7": true, "main-4d7b5c7aefe8": true, "main-4d7": false, "4d7b5c7aefe8cafe": true, "cafe": false} {
		if got := len(FindRevisions([]*schema.Revision{rev}, want)) == 1; got != means {
			t.Errorf("%q: %v, want %v", want, got, means)
		}
	}
}
