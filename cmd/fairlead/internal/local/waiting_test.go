package local

import (
	"slices"
	"testing"
	"time"
)

// Up is never silent for a quarter of a minute while it waits.
func TestWaitingIsSaid(t *testing.T) {
	var said []string
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	w := waiting{progress: func(s string) { said = append(said, s) }, began: now}
	for i := range 130 {
		what := "the master"
		if i >= 105 {
			what = "node n2"
		}
		w.forThing(what, now.Add(time.Duration(i)*200*time.Millisecond))
	}
	want := []string{"waiting for the master", "still waiting for the master after 10s", "still waiting for the master after 20s", "waiting for node n2"}
	if !slices.Equal(said, want) {
		t.Errorf("said %q, want %q", said, want)
	}
}
