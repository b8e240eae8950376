package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Up returns as soon as nothing is awaited any more, after a minute at the latest, and
// says what does not serve.
func TestAwaitServing(t *testing.T) {
	never := time.Hour
	for _, tt := range []struct {
		name    string
		back    time.Duration // until when something is awaited
		silent  time.Duration // until when the master gives no answer
		lacking []string
		returns time.Duration
	}{
		{"all serves", 0, 0, nil, 0},
		{"what does not come back by itself is not waited for", 0, 0, []string{"job: crashes"}, 0},
		{"comes back", 3 * time.Second, 0, []string{"job: crashes"}, 3 * time.Second},
		{"a master that is not asked at once", 0, 2 * time.Second, nil, 2 * time.Second},
		{"never comes back", never, 0, []string{"web: 0 of 1", "job: crashes"}, ServeTimeout},
		{"nobody knows", 0, never, []string{"what serves is not known: no answer"}, ServeTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			look := func(_ context.Context, started time.Time) (awaited, lacking []string, err error) {
				passed := time.Since(began)
				if !started.Equal(began) {
					t.Errorf("%s: started at %s, not at %s", tt.name, started, began)
				}
				if passed < tt.silent {
					return nil, nil, errors.New("no answer")
				}
				if passed < tt.back {
					awaited = []string{"web: 0 of 1"}
				}
				return awaited, slices.DeleteFunc(slices.Clone(tt.lacking), func(l string) bool { return l == "web: 0 of 1" }), nil
			}
			var said []string
			got, err := Result{started: began}.AwaitServing(t.Context(), look, func(s string) { said = append(said, s) })
			if took := time.Since(began); err != nil || !slices.Equal(got, tt.lacking) || took != tt.returns {
				t.Errorf("%s: %q after %s, %v; want %q after %s", tt.name, got, took, err, tt.lacking, tt.returns)
			}
			if tt.back == never && fmt.Sprint(said[:2]) != "[waiting for web: 0 of 1 still waiting for web: 0 of 1 after 10s]" {
				t.Errorf("%s: said %q", tt.name, said)
			}
		})
	}
}

// Who interrupts the wait gets an error, whatever is known by then.
func TestAwaitServingIsInterrupted(t *testing.T) {
	for name, answer := range map[string]error{"something is awaited": nil, "the master gives no answer": errors.New("no answer")} {
		synctest.Test(t, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			time.AfterFunc(3*time.Second, interrupt)
			look := func(context.Context, time.Time) (awaited, lacking []string, err error) {
				return []string{"web: 0 of 1"}, nil, answer
			}
			began := time.Now()
			_, err := Result{started: began}.AwaitServing(ctx, look, func(string) {})
			if took := time.Since(began); !errors.Is(err, context.Canceled) || took != 3*time.Second {
				t.Errorf("%s: %v after %s", name, err, took)
			}
		})
	}
}
