package child

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Limits bound an evaluation whose evaluator knows no limit itself.
type Limits struct {
	Memory int64         `json:"memory"` // bytes a child may fill
	CPU    time.Duration `json:"cpu"`    // for one directory, rounded up to seconds
	Wall   time.Duration `json:"wall"`   // for one directory
	Tree   time.Duration `json:"tree"`   // wall clock for all directories of one Load
}

// DefaultLimits are generous for real configurations: a thousand Deployments
// made by one template take 0.4 s and 60 MB more than none. The clock leaves a
// busy machine twice the time.
func DefaultLimits() Limits {
	return Limits{Memory: 1 << 30, CPU: 15 * time.Second, Wall: 30 * time.Second, Tree: time.Minute}
}

// orDefault fills in zero values.
func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	return Limits{cmp.Or(l.Memory, d.Memory), cmp.Or(l.CPU, d.CPU), cmp.Or(l.Wall, d.Wall), cmp.Or(l.Tree, d.Tree)}
}

// Subcommand is the argument by which a program is told to be the child.
const Subcommand = "evaluate"

// childMark is in the environment of every child. A program that took no notice
// of Subcommand would otherwise start itself again and again.
const childMark = "FAIRLEAD_CHILD=1"

// maxChildren bounds how often a tree gets a new child after one was killed.
const maxChildren = 8

// failure is why a directory has no result.
type failure struct{ message, hint string }

// session is one child process.
type session struct {
	language Language
	limits   Limits
	ends     time.Time // when the tree's time is over
	room     *room
	cmd      *exec.Cmd
	stderr   complaint

	mu       sync.Mutex
	answered int         // directories
	timer    *time.Timer // of the one being evaluated
	killed   *failure    // why, set before the kill
	over     bool        // nothing is killed any more, the child may be gone
}

// runChild evaluates directories in one child until the tree's time ends. It
// returns the answers of the first ones, and why the one after them has none,
// nil if all have.
func (e *Evaluator) runChild(ctx context.Context, req Request, ends time.Time, room *room) ([]Response, *failure) {
	scratch, err := os.MkdirTemp("", "fairlead-child-")
	if err != nil {
		return nil, &failure{message: e.language.cannot(err)}
	}
	defer os.RemoveAll(scratch)
	s := &session{language: e.language, limits: req.Limits, ends: ends, room: room}
	stdin, stdout, err := s.start(e.command, scratch)
	if err != nil {
		return nil, &failure{message: e.language.cannot(err)}
	}
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.kill(stopped(ctx))
	})
	defer stop()
	s.mu.Lock()
	s.setTimer()
	s.mu.Unlock()

	sent := make(chan struct{})
	go func() { // a child that dies early leaves the rest unread
		defer close(sent)
		_ = json.NewEncoder(stdin).Encode(req)
		stdin.Close()
	}()
	answers, err := s.read(stdout, req.Directories)
	s.end(err)
	<-sent
	if len(answers) == len(req.Directories) {
		return answers, nil
	}
	return answers, s.explain()
}

// setTimer gives the next directory its time; s.mu is held.
func (s *session) setTimer() {
	wait, late := s.limits.Wall, failure{fmt.Sprintf("evaluating this directory takes longer than %v", s.limits.Wall), s.language.Simplify}
	if left := time.Until(s.ends); left < wait {
		wait, late = left, s.language.outOfTime(s.limits)
	}
	number := s.answered
	s.timer = time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.answered == number {
			s.kill(&late)
		}
	})
}

// cannot is told of a child that does not do its work.
func (l Language) cannot(err error) string {
	return fmt.Sprintf("%s cannot be evaluated: %v", l.Called, err)
}

func (l Language) outOfTime(limits Limits) failure {
	return failure{fmt.Sprintf("not evaluated: evaluating %s takes longer than %v", l.OfTree, limits.Tree), "simplify what takes long, or split the source"}
}

func stopped(ctx context.Context) *failure {
	return &failure{message: fmt.Sprintf("evaluation was stopped: %v", ctx.Err())}
}

// end waits for the child, which has nothing more to say, or said what is no
// answer.
func (s *session) end(wrong error) {
	s.mu.Lock()
	s.timer.Stop()
	if wrong != nil {
		s.kill(&failure{message: s.language.cannot(wrong)})
	}
	s.signal()
	s.over = true
	s.mu.Unlock()
	_ = s.cmd.Wait() // how it ended is in its state
}

// signal ends the child with its group.
func (s *session) signal() { _ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) }

// read takes answers until the child ends.
func (s *session) read(stdout io.Reader, directories []string) ([]Response, error) {
	r := bufio.NewReaderSize(stdout, 1<<16)
	var answers []Response
	for len(answers) < len(directories) {
		answer, err := readResponse(r)
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
			return answers, nil
		}
		if err == nil && answer.Directory != directories[len(answers)] {
			err = fmt.Errorf("the answer is for directory %q", answer.Directory)
		}
		if err != nil {
			return answers, err
		}
		if why := s.room.take(answer); why != nil {
			s.mu.Lock()
			s.kill(why)
			s.mu.Unlock()
			return answers, nil
		}
		answers = append(answers, answer)
		if !s.advance() {
			return answers, nil
		}
	}
	return answers, nil
}

// advance goes on to the next directory; false if the child is killed.
func (s *session) advance() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.killed != nil {
		return false
	}
	s.timer.Stop()
	s.answered++
	s.setTimer()
	return true
}

// kill ends the child before it has answered; the first reason counts. s.mu is
// held.
func (s *session) kill(why *failure) {
	if s.killed == nil && !s.over {
		s.killed = why
		s.signal()
	}
}

// explain says why the child has ended early. When the kernel refuses it memory,
// Go's runtime dies in more than one way: what it held by then tells.
func (s *session) explain() *failure {
	if s.killed != nil {
		return s.killed
	}
	var held int64
	if usage, ok := s.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		held = usage.Maxrss << 10
	}
	switch {
	case s.cmd.ProcessState.ExitCode() == exitCPU:
		return &failure{fmt.Sprintf("evaluating this directory takes more than %v of CPU time", s.limits.CPU), s.language.Simplify}
	case strings.Contains(s.stderr.String(), "stack exceeds"):
		return &failure{"evaluating this directory recurses without end", s.language.Recursion}
	case held > s.limits.Memory/4*3:
		return &failure{fmt.Sprintf("evaluating this directory takes more than %d MiB of memory", s.limits.Memory>>20), s.language.Simplify}
	}
	return &failure{message: fmt.Sprintf("%s's evaluator ended early: %v", s.language.Called, s.cmd.ProcessState)}
}

// start runs the child in an empty directory, without environment or network,
// leading a process group of its own.
func (s *session) start(command func() *exec.Cmd, dir string) (io.WriteCloser, io.ReadCloser, error) {
	if mark, value, _ := strings.Cut(childMark, "="); os.Getenv(mark) == value {
		return nil, nil, fmt.Errorf("this program was started as %s and did not run it", Subcommand)
	}
	var failed error
	for _, isolated := range isolations() {
		s.cmd = command()
		s.cmd.Env = []string{childMark}
		s.cmd.Dir = dir
		s.cmd.Stderr = &s.stderr
		s.cmd.SysProcAttr = isolated
		s.cmd.WaitDelay = s.limits.Wall
		stdin, err := s.cmd.StdinPipe()
		if err != nil {
			return nil, nil, err
		}
		stdout, err := s.cmd.StdoutPipe()
		if err != nil {
			return nil, nil, err
		}
		if failed = s.cmd.Start(); failed == nil {
			return stdin, stdout, nil
		}
	}
	return nil, nil, failed
}

// isolations are the ways to start a child, best first. A network namespace of
// its own takes root, or a kernel that gives users one; without, it is the language
// alone that opens no connection: CUE has none to open, and kustomize's transport
// refuses every request.
func isolations() []*syscall.SysProcAttr {
	alone := &syscall.SysProcAttr{Setpgid: true, Cloneflags: syscall.CLONE_NEWNET}
	if uid := os.Getuid(); uid != 0 {
		alone.Cloneflags |= syscall.CLONE_NEWUSER
		alone.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		alone.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	}
	return []*syscall.SysProcAttr{alone, {Setpgid: true}}
}

// complaint keeps the beginning of what a child writes to its standard error,
// where Go's runtime says why it gave up.
type complaint struct{ text []byte }

const maxComplaint = 4096

func (c *complaint) Write(p []byte) (int, error) {
	c.text = append(c.text, p[:min(len(p), maxComplaint-len(c.text))]...)
	return len(p), nil
}

func (c *complaint) String() string { return string(c.text) }
