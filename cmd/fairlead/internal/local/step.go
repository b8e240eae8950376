package local

import (
	"slices"
	"time"
)

const (
	// minBackOff and maxBackOff bound the pause before a process that died is
	// started again; it doubles with each quick death.
	minBackOff = 250 * time.Millisecond
	maxBackOff = 10 * time.Second
	// stableAfter is how long a process must have run for its death to count
	// as the first again.
	stableAfter = 30 * time.Second
	// stopGrace is how long a process has between SIGTERM and SIGKILL.
	stopGrace = 10 * time.Second
)

// Child is one process the supervisor should keep running.
type Child struct {
	Name string   // unique: "master", "n1/agent"
	Args []string // of the fairlead binary
	Node string   // the node whose namespaces it runs in; empty is the host
	Log  string
}

// ChildState is what the supervisor knows about one process, and what its
// state file keeps. PID zero means that it does not run.
type ChildState struct {
	Args       []string  `json:"args"`
	PID        int       `json:"pid,omitempty"`
	StartTicks uint64    `json:"startTicks,omitempty"` // with PID, names the process for good
	StartedAt  time.Time `json:"startedAt,omitzero"`
	ExitedAt   time.Time `json:"exitedAt,omitzero"`
	Failures   int       `json:"failures,omitempty"` // deaths in a row without a stable run between
	StoppingAt time.Time `json:"stoppingAt,omitzero"`
	LastExit   string    `json:"lastExit,omitempty"`
}

// Verb is what an Action does to a process.
type Verb string

// The verbs.
const (
	Start     Verb = "start"
	Terminate Verb = "terminate"
	Kill      Verb = "kill"
	Forget    Verb = "forget" // drop the record of a process no longer wanted
)

// Action is one thing the supervisor has to do, and why.
type Action struct {
	Verb   Verb
	Name   string
	Reason string
}

// Step decides what to do about the processes: wanted ones start in their
// order, after their back-off; those that are not wanted, or run with other
// arguments, stop first. Wake is when to ask again if nothing happens; zero
// means no need.
func Step(wanted []Child, have map[string]ChildState, now time.Time) (actions []Action, wake time.Time) {
	later := func(at time.Time) {
		if wake.IsZero() || at.Before(wake) {
			wake = at
		}
	}
	for _, name := range sortedNames(have) {
		i := slices.IndexFunc(wanted, func(c Child) bool { return c.Name == name })
		s := have[name]
		if i >= 0 && (s.PID == 0 || slices.Equal(wanted[i].Args, s.Args)) && s.StoppingAt.IsZero() {
			continue
		}
		if s.PID == 0 {
			if i < 0 {
				actions = append(actions, Action{Forget, name, "not wanted"})
			}
			continue
		}
		reason := "arguments changed"
		if i < 0 {
			reason = "not wanted"
		}
		switch {
		case s.StoppingAt.IsZero():
			actions = append(actions, Action{Terminate, name, reason})
			later(now.Add(stopGrace))
		case !now.Before(s.StoppingAt.Add(stopGrace)):
			actions = append(actions, Action{Kill, name, "did not end within " + stopGrace.String()})
			later(now.Add(stopGrace))
		default:
			later(s.StoppingAt.Add(stopGrace))
		}
	}
	for _, c := range wanted {
		s, known := have[c.Name]
		if s.PID != 0 {
			continue
		}
		if !known || s.ExitedAt.IsZero() {
			actions = append(actions, Action{Start, c.Name, "wanted"})
			continue
		}
		if due := s.ExitedAt.Add(backOff(s.Failures)); now.Before(due) {
			later(due)
			continue
		}
		actions = append(actions, Action{Start, c.Name, "ended: " + s.LastExit})
	}
	return actions, wake
}

// backOff is zero for a process that has not failed.
func backOff(failures int) time.Duration {
	if failures == 0 {
		return 0
	}
	d := minBackOff
	for range failures - 1 {
		if d *= 2; d >= maxBackOff {
			return maxBackOff
		}
	}
	return d
}

// Exited is the state of a process after its death. An end that was asked for
// is no failure.
func (s ChildState) Exited(how string, now time.Time) ChildState {
	switch {
	case !s.StoppingAt.IsZero():
		s.Failures = 0
	case now.Sub(s.StartedAt) >= stableAfter:
		s.Failures = 1
	default:
		s.Failures++
	}
	s.PID, s.StartTicks, s.StoppingAt = 0, 0, time.Time{}
	s.ExitedAt, s.LastExit = now, how
	return s
}

// started is the state of a process that was just started.
func (s ChildState) started(args []string, p Process, now time.Time) ChildState {
	s.Args, s.PID, s.StartTicks = args, p.PID, p.StartTicks
	s.StartedAt, s.StoppingAt = now, time.Time{}
	return s
}

func sortedNames(have map[string]ChildState) []string {
	names := make([]string, 0, len(have))
	for name := range have {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Children are the processes of a cluster, in the order they start.
func Children(c Cluster) []Child {
	out := []Child{{Name: "master", Args: []string{"master", "--config", c.masterConfig()}, Log: c.masterLog()}}
	for _, n := range c.Nodes {
		for _, process := range []string{"dns", "agent"} {
			out = append(out, Child{
				Name: string(n.Name) + "/" + process,
				Args: []string{process, "--config", n.config()},
				Node: string(n.Name),
				Log:  n.log(process),
			})
		}
	}
	return out
}
