package local

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fairlead/schema/chance"
)

func TestStep(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	wanted := []Child{{Name: "master", Args: []string{"master"}}, {Name: "n1/agent", Args: []string{"agent"}}}
	master := ChildState{Args: []string{"master"}, PID: 7, StartedAt: ago(time.Minute)}
	with := func(change func(*ChildState)) ChildState {
		s := ChildState{Args: []string{"agent"}, PID: 8, StartedAt: ago(time.Minute)}
		change(&s)
		return s
	}
	for _, test := range []struct {
		name  string
		agent ChildState
		want  []Action
		wake  time.Duration // from now; zero is none
	}{
		{"runs as wanted", with(func(*ChildState) {}), nil, 0},
		{"never ran", ChildState{}, []Action{{Start, "n1/agent", "wanted"}}, 0},
		{"died just now", with(func(s *ChildState) { *s = s.Exited("exit code 1", now) }), nil, stableBackOff},
		{"died, back-off over", with(func(s *ChildState) { *s = s.Exited("exit code 1", ago(time.Second)) }),
			[]Action{{Start, "n1/agent", "ended: exit code 1"}}, 0},
		{"runs with other arguments", with(func(s *ChildState) { s.Args = []string{"old"} }),
			[]Action{{Terminate, "n1/agent", "arguments changed"}}, stopGrace},
		{"is ending", with(func(s *ChildState) { s.StoppingAt = ago(4 * time.Second) }), nil, 6 * time.Second},
		{"does not end", with(func(s *ChildState) { s.StoppingAt = ago(stopGrace) }),
			[]Action{{Kill, "n1/agent", "did not end within 10s"}}, stopGrace},
		{"ended as asked", with(func(s *ChildState) { s.StoppingAt = ago(time.Second); *s = s.Exited("exit code 0", now) }),
			[]Action{{Start, "n1/agent", "ended: exit code 0"}}, 0},
	} {
		got, wake := Step(wanted, map[string]ChildState{"master": master, "n1/agent": test.agent}, now)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
		if wantWake := test.wake != 0; wantWake != !wake.IsZero() || wantWake && wake.Sub(now) != test.wake {
			t.Errorf("%s: wake %v after now, want %v", test.name, wake.Sub(now), test.wake)
		}
	}
}

// stableBackOff is the pause after the first death.
const stableBackOff = minBackOff

func TestStepStopsStrangers(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	have := map[string]ChildState{"n9/dns": {PID: 3}, "n9/agent": {}}
	got, _ := Step(nil, have, now)
	want := []Action{{Forget, "n9/agent", "not wanted"}, {Terminate, "n9/dns", "not wanted"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestBackOff(t *testing.T) {
	var got []string
	for failures := range 9 {
		got = append(got, backOff(failures).String())
	}
	want := "[0s 250ms 500ms 1s 2s 4s 8s 10s 10s]"
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// Whatever dies when: the supervisor never starts what runs, and if nothing
// dies any more, everything wanted runs within the longest back-off.
func TestStepConverges(t *testing.T) {
	wanted := []Child{{Name: "a", Args: []string{"a"}}, {Name: "b", Args: []string{"b"}}, {Name: "c", Args: []string{"c"}}}
	chance.Check(t, func(t *rapid.T) {
		have := make(map[string]ChildState)
		now := time.Unix(1_000_000, 0)
		pid := 0
		turn := func() (wake time.Time) {
			actions, wake := Step(wanted, have, now)
			for _, a := range actions {
				s := have[a.Name]
				if a.Verb != Start || s.PID != 0 {
					t.Fatalf("%+v while it is %+v", a, s)
				}
				pid++
				have[a.Name] = s.started([]string{a.Name}, Process{PID: pid}, now)
			}
			return wake
		}
		for range rapid.IntRange(1, 30).Draw(t, "turns") {
			turn()
			now = now.Add(time.Duration(rapid.IntRange(0, 40_000).Draw(t, "ms")) * time.Millisecond)
			if name := rapid.SampledFrom([]string{"a", "b", "c", ""}).Draw(t, "dies"); have[name].PID != 0 {
				have[name] = have[name].Exited("killed", now)
			}
		}
		for end := now.Add(maxBackOff); ; {
			wake := turn()
			if wake.IsZero() {
				break
			}
			if wake.After(end) {
				t.Fatalf("wakes at %v, later than the longest back-off", wake)
			}
			now = wake
		}
		for _, c := range wanted {
			if have[c.Name].PID == 0 {
				t.Fatalf("%s does not run", c.Name)
			}
		}
	})
}
