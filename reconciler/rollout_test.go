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
func following(t *testing.T, ctx context.Context, change func(since time.Duration, v *reconciler.View)) (reconciler.View, *heard, time.Duration) {
	t.Helper()
	began, out := time.Now(), &heard{at: []time.Time{time.Now()}}
	look := func(context.Context) (reconciler.View, error) {
		src := &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: schema.DefaultSourceSpec(schema.SourceSpec{Embedded: true})}
		src.Status.Applied.Commit = "c1"
		rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-c1", CreationTimestamp: metav1.NewTime(began)}, Spec: schema.RevisionSpec{Source: "main", Commit: "c1"}}
		rev.Enter(schema.PhaseRollingOut, metav1.NewTime(began), "applied")
		v := reconciler.View{Cluster: state.Empty(state.Counters{}), Source: src, Revision: rev}
		change(time.Since(began), &v)
		return v, nil
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
		v, _, _ := following(t, t.Context(), func(since time.Duration, v *reconciler.View) {
			if rev := v.Revision; since >= schema.DefaultProgressDeadline+20*time.Second {
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
	longer := func(deadline time.Duration) func(time.Duration, *reconciler.View) {
		return func(_ time.Duration, v *reconciler.View) {
			v.Source.Spec.ProgressDeadline.Duration = deadline
		}
	}
	stalled := func(_ time.Duration, v *reconciler.View) {
		v.Revision.Enter(schema.PhaseStalled, metav1.NewTime(v.Revision.CreationTimestamp.Add(30*time.Second)), "no room")
	}
	for name, tt := range map[string]struct {
		change        func(time.Duration, *reconciler.View)
		after, within time.Duration
		want          string
	}{
		"without an end":              {longer(10 * time.Minute), 11 * time.Minute, 12 * time.Minute, "ROLLING OUT main-c1: applied"},
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

// A commit that is not fetched yet is waited for, with a line at least every fifteen
// seconds; what is wrong is told once, and the wait has an end of its own.
func TestFollowingWaitsForACommit(t *testing.T) {
	const hash = "c100000000000000000000000000000000000000"
	for name, tt := range map[string]struct {
		comes time.Duration // zero: never
		took  time.Duration
		want  []string
	}{
		"that comes": {40 * time.Second, 50 * time.Second, []string{
			"waiting for commit c10000000000: branch main of source main is at no commit and is looked at every 30s",
			"still waiting for commit c10000000000 after 10s: branch main of source main is at no commit and is looked at every 30s",
			"still waiting for commit c10000000000 after 20s: branch main of source main is at no commit and is looked at every 30s",
			"still waiting for commit c10000000000 after 30s: branch main of source main is at no commit and is looked at every 30s",
			"commit c10000000000 is fetched and is being judged",
		}},
		"that never does": {0, 10 * time.Minute, []string{
			"branch main of source main was looked at meanwhile and is at 0b0000000000: commit c10000000000 is not on it, or a newer commit came before it was judged",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, out, took := following(t, t.Context(), func(since time.Duration, v *reconciler.View) {
					src := v.Source
					src.Spec.Embedded, src.Spec.URL = false, "https://git.example.org/shop"
					v.Commit = hash
					switch {
					case tt.comes == 0:
						src.Status.Observed.Commit, v.Revision = "0b0000000000ffff", nil
					case since < tt.comes:
						v.Revision = nil
					case since < tt.took:
						src.Status.Observed.Commit, v.Revision = hash, nil
					default:
						src.Status.Applied.Commit, v.Revision.Spec.Commit = hash, hash
						v.Revision.Enter(schema.PhaseHealthy, metav1.NewTime(time.Now()), "")
					}
				})
				if took != tt.took || (v.Revision == nil) != (tt.comes == 0) {
					t.Errorf("after %s: %+v", took, v.Revision)
				}
				for _, want := range tt.want {
					if n := strings.Count("\n"+strings.Join(out.lines, "\n")+"\n", "\n"+want+"\n"); n != 1 {
						t.Errorf("%d times %q in\n%s", n, want, strings.Join(out.lines, "\n"))
					}
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
		v, _, took := following(t, ctx, func(time.Duration, *reconciler.View) {})
		if took != 7*time.Second || v.Revision == nil {
			t.Errorf("after %s: %+v", took, v)
		}
	})
	gone := errors.New("gone")
	if _, err := reconciler.Follow(t.Context(), func(context.Context) (reconciler.View, error) { return reconciler.View{}, gone }, time.Now, &heard{}); !errors.Is(err, gone) {
		t.Errorf("a revision that is not there: %v", err)
	}
}
