package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	log "github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

const (
	// maxLog bounds each log file; one older half of it is kept beside it.
	maxLog = 16 << 20
	// tick is the safety net under lost signals, and how often logs are measured.
	tick = 5 * time.Second
)

// supervisorState is the supervisor's file: who it is and what it started, so
// that the next one adopts instead of starting twice.
type supervisorState struct {
	Supervisor Process               `json:"supervisor"`
	Children   map[string]ChildState `json:"children"`
}

// supervisor is the thin shell around Step. Its one goroutine owns all of it.
type supervisor struct {
	cluster Cluster
	binary  string
	wanted  []Child
	have    map[string]ChildState
	exits   chan Process // of adopted processes, which are not ours to reap
}

// Supervise holds the cluster's namespaces and keeps its processes running
// until ctx ends. It then leaves them running: `down` stops them, a next
// supervisor adopts them. One at a time per directory.
func Supervise(ctx context.Context, dir string) error {
	c, err := Open(dir)
	if err != nil {
		return err
	}
	held, ok, err := lock(c.path("nodes"), false)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%s has a supervisor already", c.Dir)
	}
	defer held.Close()
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	s := &supervisor{cluster: c, binary: binary, wanted: Children(c), exits: make(chan Process, len(c.Nodes)*2+1)}
	if err := s.prepare(); err != nil {
		return err
	}
	return s.run(ctx)
}

// prepare makes what processes need and takes over those that live.
func (s *supervisor) prepare() error {
	// Orphans of the nodes, such as Podman's monitors, come to us to be
	// reaped: a machine's first process may not do it.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	slots, err := lockSlots()
	if err != nil {
		return err
	}
	defer slots.Close()
	if err := ensurePins(s.cluster); err != nil {
		return err
	}
	if err := ensureHost(s.cluster); err != nil {
		return err
	}
	if err := prepareResolvConf(s.cluster); err != nil {
		return err
	}
	s.have = readState(s.cluster).Children
	for _, n := range s.cluster.Nodes {
		made, err := n.ensureNamespaces()
		if err != nil {
			return err
		}
		if made {
			s.endStrangers(n)
		}
		if err := ensureLink(s.cluster, n); err != nil {
			return err
		}
	}
	for name, child := range s.have {
		if p := child.process(); p.alive() {
			log.WithFields(log.Fields{"process": name, "pid": p.PID}).Info("adopted")
			go s.watch(p)
		} else if child.PID != 0 {
			s.have[name] = child.Exited("while no supervisor ran", time.Now())
		}
	}
	return s.save()
}

// endStrangers stops processes of a node that run in namespaces which are no
// longer the node's.
func (s *supervisor) endStrangers(n Node) {
	for _, child := range s.wanted {
		if p := s.have[child.Name].process(); child.Node == string(n.Name) && p.alive() {
			if err := p.stop(stopGrace); err != nil {
				log.WithError(err).WithField("process", child.Name).Warn("stop")
			}
		}
	}
}

func (s *supervisor) run(ctx context.Context) error {
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	defer signal.Stop(children)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		wake := s.step(time.Now())
		var timer <-chan time.Time
		if !wake.IsZero() {
			timer = time.After(time.Until(wake))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-children:
		case p := <-s.exits:
			s.ended(p, "ended (adopted, no status)")
		case <-timer:
		case <-ticker.C:
			s.boundLogs()
		}
		s.reap()
	}
}

// step asks Step and does what it says.
func (s *supervisor) step(now time.Time) (wake time.Time) {
	actions, wake := Step(s.wanted, s.have, now)
	for _, a := range actions {
		entry := log.WithFields(log.Fields{"process": a.Name, "reason": a.Reason})
		if err := s.do(a, now); err != nil {
			entry.WithError(err).Error(a.Verb)
			// Its death was recorded; ask again when its back-off is over.
			if again := now.Add(minBackOff); wake.IsZero() || again.Before(wake) {
				wake = again
			}
		} else {
			entry.WithField("pid", s.have[a.Name].PID).Info(a.Verb)
		}
	}
	if len(actions) > 0 {
		if err := s.save(); err != nil {
			log.WithError(err).Error("save state")
		}
	}
	return wake
}

func (s *supervisor) do(a Action, now time.Time) error {
	state := s.have[a.Name]
	switch a.Verb {
	case Forget:
		delete(s.have, a.Name)
		return nil
	case Terminate, Kill:
		sig := unix.SIGTERM
		if a.Verb == Kill {
			sig = unix.SIGKILL
		}
		state.StoppingAt = now
		s.have[a.Name] = state
		return state.process().signal(sig)
	}
	child := s.child(a.Name)
	p, err := start(s.command(child))
	if err != nil {
		state.StartedAt = now
		s.have[a.Name] = state.Exited("could not start: "+err.Error(), now)
		return err
	}
	s.have[a.Name] = state.started(child.Args, p, now)
	return nil
}

func (s *supervisor) child(name string) Child {
	for _, c := range s.wanted {
		if c.Name == name {
			return c
		}
	}
	panic("local: action for unknown process " + name)
}

func (s *supervisor) command(child Child) command {
	c := command{binary: s.binary, args: child.Args, log: child.Log, cgroup: s.cluster.Cgroup + "/master"}
	for i := range s.cluster.Nodes {
		if n := &s.cluster.Nodes[i]; string(n.Name) == child.Node {
			c.node, c.cgroup = n, n.Cgroup
		}
	}
	return c
}

// reap collects every child that ended, ours and the orphans that came to us.
func (s *supervisor) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		s.ended(Process{PID: pid}, describe(status))
	}
}

// ended records the death of a process. A zero start time stands for a child
// of ours, whose pid is its own until it is reaped.
func (s *supervisor) ended(p Process, how string) {
	for name, child := range s.have {
		if child.PID != p.PID || p.StartTicks != 0 && child.StartTicks != p.StartTicks {
			continue
		}
		s.have[name] = child.Exited(how, time.Now())
		log.WithFields(log.Fields{"process": name, "pid": p.PID, "how": how}).Warn("ended")
		if err := s.save(); err != nil {
			log.WithError(err).Error("save state")
		}
		return
	}
}

func describe(status unix.WaitStatus) string {
	if status.Signaled() {
		return "killed by " + status.Signal().String()
	}
	return fmt.Sprintf("exit code %d", status.ExitStatus())
}

// watch waits for the end of a process that another supervisor started.
func (s *supervisor) watch(p Process) {
	for !p.await(time.Hour) {
	}
	s.exits <- p
}

func (c ChildState) process() Process { return Process{PID: c.PID, StartTicks: c.StartTicks} }

// save does not wait for the disk: of a machine that crashed no process is left
// to adopt, and a slow disk must not keep a dead daemon from being started.
func (s *supervisor) save() error {
	self, err := findProcess(os.Getpid())
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(supervisorState{Supervisor: self, Children: s.have}, "", "  ")
	if err != nil {
		return err
	}
	return replace(s.cluster.stateFile(), append(data, '\n'), false)
}

// readState returns what the last supervisor wrote; nothing readable is
// nothing known.
func readState(c Cluster) supervisorState {
	state := supervisorState{}
	if data, err := os.ReadFile(c.stateFile()); err == nil {
		if err := json.Unmarshal(data, &state); err != nil {
			log.WithError(err).WithField("file", c.stateFile()).Warn("state not readable, starting over")
			state = supervisorState{}
		}
	}
	if state.Children == nil {
		state.Children = make(map[string]ChildState)
	}
	return state
}

// boundLogs keeps every log below its bound: the newer half moves beside it,
// and the file starts again. Writers append, so truncation is safe.
func (s *supervisor) boundLogs() {
	logs := []string{s.cluster.supervisorLog()}
	for _, c := range s.wanted {
		logs = append(logs, c.Log)
	}
	for _, path := range logs {
		if err := boundLog(path, maxLog); err != nil {
			log.WithError(err).WithField("file", path).Warn("bound log")
		}
	}
}

func boundLog(path string, limit int64) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil || info.Size() <= limit {
		return err
	}
	newer, err := tail(path, limit/2)
	if err != nil {
		return err
	}
	if err := writeAtomic(path+".1", newer); err != nil {
		return err
	}
	return os.Truncate(path, 0)
}

// tail returns at most the last n bytes of a file.
func tail(path string, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	buf := make([]byte, min(n, info.Size()))
	read, err := f.ReadAt(buf, info.Size()-int64(len(buf)))
	if read == len(buf) {
		err = nil
	}
	return buf[:read], err
}
