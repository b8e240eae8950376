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
type failure struct {
	message, hint string
	isUnclear     bool // nothing tells why the child ended
}

// session is what one child process is asked, which it is once.
type session struct {
	*process
	language Language
	limits   Limits
	ends     time.Time // when the tree's time is over
	room     *room

	mu       sync.Mutex
	answered int         // directories
	timer    *time.Timer // of the one being evaluated
	killed   *failure    // why, set before the kill
	over     bool        // nothing is killed any more, the child may be gone
}

// runChild evaluates directories in one child until the tree's time ends. It
// returns the answers of the first ones, and why the one after them has none,
// nil if all have. One that waited and is found dead may have ended for what befell it
// meanwhile: another one is asked.
func (e *Evaluator) runChild(ctx context.Context, req Request, ends time.Time, room *room) ([]Response, *failure) {
	if p := e.spare.take(); p != nil {
		answers, why := e.ask(ctx, p, req, ends, room)
		if len(answers) > 0 || why == nil || !why.isUnclear {
			return answers, why
		}
	}
	p, err := e.start()
	if err != nil {
		return nil, &failure{message: e.language.cannot(err)}
	}
	return e.ask(ctx, p, req, ends, room)
}

// ask asks a child, which ends.
func (e *Evaluator) ask(ctx context.Context, p *process, req Request, ends time.Time, room *room) ([]Response, *failure) {
	s := &session{process: p, language: e.language, limits: req.Limits, ends: ends, room: room}
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
		_ = json.NewEncoder(s.stdin).Encode(req)
		s.stdin.Close()
	}()
	answers, err := s.read(s.stdout, req.Directories)
	s.end(err)
	<-sent
	if len(answers) == len(req.Directories) {
		return answers, nil
	}
	return answers, s.explain()
}

// setTimer gives the next directory its time; s.mu is held.
func (s *session) setTimer() {
	wait, late := s.limits.Wall, failure{message: fmt.Sprintf("evaluating this directory takes longer than %v", s.limits.Wall), hint: s.language.Simplify}
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
	return failure{message: fmt.Sprintf("not evaluated: evaluating %s takes longer than %v", l.OfTree, limits.Tree), hint: "simplify what takes long, or split the source"}
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
	s.over = true
	s.mu.Unlock()
	s.process.end()
}

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
		s.process.kill()
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
		return &failure{message: fmt.Sprintf("evaluating this directory takes more than %v of CPU time", s.limits.CPU), hint: s.language.Simplify}
	case strings.Contains(s.stderr.String(), "stack exceeds"):
		return &failure{message: "evaluating this directory recurses without end", hint: s.language.Recursion}
	case held > s.limits.Memory/4*3:
		return &failure{message: fmt.Sprintf("evaluating this directory takes more than %d MiB of memory", s.limits.Memory>>20), hint: s.language.Simplify}
	}
	return &failure{message: fmt.Sprintf("%s's evaluator ended early: %v", s.language.Called, s.cmd.ProcessState), isUnclear: true}
}
