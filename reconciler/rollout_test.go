package reconciler_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// heard keeps when each line was written.
type heard struct {
	at    []time.Time
	lines []string
}

func (h *heard) Write(p []byte) (int, error) {
	h.at, h.lines = append(h.at, time.Now()), append(h.lines, strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// following follows a revision that change moves on, in virtual time.
func following(t *testing.T, ctx context.Context, change func(since time.Duration, src *schema.Source, rev *schema.Revision)) (reconciler.View, *heard, time.Duration) {
	t.Helper()
	began, out := time.Now(), &heard{at: []time.Time{time.Now()}}
	look := func(context.Context) (reconciler.View, error) {
		src := &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: schema.DefaultSourceSpec(schema.SourceSpec{Embedded: true})}
		src.Status.Applied.Commit = "c1"
		rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-c1", CreationTimestamp: metav1.NewTime(began)}, Spec: schema.RevisionSpec{Source: "main", Commit: "c1"}}
		rev.Enter(schema.PhaseRollingOut, metav1.NewTime(began), "applied")
		change(time.Since(began), src, rev)
		return reconciler.View{Cluster: state.Empty(state.Counters{}), Source: src, Revision: rev}, nil
	}
	v, err := reconciler.Follow(ctx, look, time.Now, out)
	if err != nil {
		t.Error(err)
	}
	out.at = append(out.at, time.Now())
	for i := range out.at[1:] {
		if silent := out.at[i+1].Sub(out.at[i]); silent > 15*time.Second {
			t.Errorf("after %s nothing was said for %s", out.at[i].Sub(began), silent)
		}
	}
	return v, out, time.Since(began)
}

// A rollout that fails at its deadline is followed until it has.
func TestFollowingOutlastsTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _, _ := following(t, t.Context(), func(since time.Duration, _ *schema.Source, rev *schema.Revision) {
			if since >= schema.DefaultProgressDeadline+20*time.Second {
				rev.Enter(schema.PhaseFailed, metav1.NewTime(time.Now()), "no progress for 10m0s")
				rev.Status.Evidence = []schema.Evidence{{Pod: "shop/api", Reason: "it crashed", Log: []string{"panic"}}}
			}
		})
		var said strings.Builder
		reconciler.Tell(v, &said)
		if want := "seen in namespace shop: it crashed\n  | panic\nFAILED main-c1: no progress for 10m0s\n"; said.String() != want {
			t.Errorf("it is told:\n%swant:\n%s", said.String(), want)
		}
	})
}

func TestFollowingEnds(t *testing.T) {
	longer := func(deadline time.Duration) func(time.Duration, *schema.Source, *schema.Revision) {
		return func(_ time.Duration, src *schema.Source, _ *schema.Revision) {
			src.Spec.ProgressDeadline.Duration = deadline
		}
	}
	stalled := func(_ time.Duration, _ *schema.Source, rev *schema.Revision) {
		rev.Enter(schema.PhaseStalled, metav1.NewTime(rev.CreationTimestamp.Add(30*time.Second)), "no room")
	}
	for name, tt := range map[string]struct {
		change        func(time.Duration, *schema.Source, *schema.Revision)
		after, within time.Duration
		want          string
	}{
		"without a verdict":           {longer(10 * time.Minute), 11 * time.Minute, 12 * time.Minute, "ROLLING OUT main-c1: applied"},
		"with a short deadline":       {longer(time.Second), 10 * time.Minute, 11 * time.Minute, "ROLLING OUT main-c1: applied"},
		"with a long deadline":        {longer(30 * time.Minute), 31 * time.Minute, 32 * time.Minute, "ROLLING OUT main-c1: applied"},
		"with a deadline without end": {longer(100 * time.Hour), time.Hour, 61 * time.Minute, "ROLLING OUT main-c1: applied"},
		"of what is stalled":          {stalled, 11 * time.Minute, 12 * time.Minute, "STALLED main-c1: no room"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, _, took := following(t, t.Context(), tt.change)
				var said strings.Builder
				reconciler.Tell(v, &said)
				if lines := strings.Split(strings.TrimSpace(said.String()), "\n"); lines[len(lines)-1] != tt.want || took < tt.after || took > tt.within {
					t.Errorf("after %s it ends with %q, want %q", took, lines, tt.want)
				}
			})
		})
	}
}

// Who sets a time is held to it, and gets what was seen last.
func TestFollowingEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		v, _, took := following(t, ctx, func(time.Duration, *schema.Source, *schema.Revision) {})
		if took != 7*time.Second || v.Revision == nil {
			t.Errorf("after %s: %+v", took, v)
		}
	})
	gone := errors.New("gone")
	if _, err := reconciler.Follow(t.Context(), func(context.Context) (reconciler.View, error) { return reconciler.View{}, gone }, time.Now, &heard{}); !errors.Is(err, gone) {
		t.Errorf("a revision that is not there: %v", err)
	}
}
