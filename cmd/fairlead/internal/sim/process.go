package sim

import (
	"runtime/debug"
	"time"

	"fairlead/cmd/fairlead/internal/local"
)

func stack() string { return string(debug.Stack()) }

// process is a daemon's life: what it arranged is void once it ended, and waits
// while it is paused.
type process struct {
	w      *World
	name   string
	life   int
	alive  bool
	paused time.Time // until when
}

// after arranges for something to happen in this life.
func (p *process) after(d time.Duration, do func()) {
	life := p.life
	var run func()
	run = func() {
		switch {
		case p.life != life:
		case p.w.now.Before(p.paused):
			p.w.after(p.paused.Sub(p.w.now), run)
		default:
			do()
		}
	}
	p.w.after(d, run)
}

// end is kill -9: memory is gone, what was under way is not heard of again.
func (p *process) end(why string) {
	if !p.alive {
		return
	}
	p.w.note("%s ends: %s", p.name, why)
	p.alive = false
	p.life++
	p.w.supervisor.ended(p.name, why)
}

func (p *process) pause(d time.Duration) {
	p.w.note("%s is paused for %v", p.name, d)
	p.paused = p.w.now.Add(d)
}

// supervisor keeps the daemons running, as local.Step decides.
type supervisor struct {
	process
	wanted []local.Child
	have   map[string]local.ChildState
	begin  map[string]func()
	pid    int
	wake   time.Time
}

func newSupervisor(w *World) *supervisor {
	s := &supervisor{process: process{w: w, name: "supervisor", alive: true}, have: map[string]local.ChildState{}, begin: map[string]func(){}}
	s.want("master", w.master.start)
	for _, n := range w.nodes {
		s.want(n.agent.name, n.agent.start)
	}
	return s
}

func (s *supervisor) want(name string, begin func()) {
	s.wanted = append(s.wanted, local.Child{Name: name})
	s.begin[name] = begin
}

func (s *supervisor) ended(name, why string) {
	s.have[name] = s.have[name].Exited(why, s.w.now)
	s.after(0, s.step)
}

func (s *supervisor) step() {
	actions, wake := local.Step(s.wanted, s.have, s.w.now)
	for _, a := range actions {
		if a.Verb != local.Start {
			s.w.broken("supervisor", "%s %s: %s", a.Verb, a.Name, a.Reason)
			continue
		}
		s.pid++
		have := s.have[a.Name]
		have.PID, have.StartedAt = s.pid, s.w.now
		s.have[a.Name] = have
		s.after(s.w.between(10*time.Millisecond, 200*time.Millisecond), s.begin[a.Name])
	}
	if !wake.IsZero() && !wake.Equal(s.wake) {
		s.wake = wake
		s.after(wake.Sub(s.w.now), s.step)
	}
}
