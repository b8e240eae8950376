package load

import (
	"bufio"
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

// CUELimits bound the evaluation of CUE, whose evaluator knows no limit itself.
type CUELimits struct {
	Memory int64         `json:"memory"` // bytes a child may fill
	CPU    time.Duration `json:"cpu"`    // for one directory, rounded up to seconds
	Wall   time.Duration `json:"wall"`   // for one directory
	Tree   time.Duration `json:"tree"`   // wall clock for all directories of one Load
}

// DefaultCUELimits are generous for real configurations: a thousand Deployments
// take one second and 170 MB.
var DefaultCUELimits = CUELimits{Memory: 1 << 30, CPU: 20 * time.Second, Wall: 20 * time.Second, Tree: time.Minute}

// CUESubcommand is the argument by which a program is told to be the child.
const CUESubcommand = "cue-eval"

// childMark is in the environment of every child. A program that took no notice
// of CUESubcommand would otherwise start itself again and again.
const childMark = "FAIRLEAD_CUE_CHILD=1"

// maxCUEChildren bounds how often a tree gets a new child after one was killed.
const maxCUEChildren = 8

// failure is why a directory has no result.
type failure struct{ message, hint string }

// cueSession is one child process.
type cueSession struct {
	limits CUELimits
	cmd    *exec.Cmd
	stderr tail

	mu     sync.Mutex
	done   int      // directories answered
	killed *failure // set before the kill; told about directory number `done`
	timer  *time.Timer
}

// runChild evaluates directories in one child. It returns the answers of the
// first ones, and why the one after them has none, nil if all have.
func runChild(ctx context.Context, command []string, req cueRequest) ([]cueResponse, *failure) {
	scratch, err := os.MkdirTemp("", "fairlead-cue-")
	if err != nil {
		return nil, &failure{message: fmt.Sprintf("CUE cannot be evaluated: %v", err)}
	}
	defer os.RemoveAll(scratch)
	s := &cueSession{limits: req.Limits}
	stdin, stdout, err := s.start(command, scratch)
	if err != nil {
		return nil, &failure{message: fmt.Sprintf("CUE cannot be evaluated: %v", err)}
	}
	stop := context.AfterFunc(ctx, func() { s.kill(&failure{message: fmt.Sprintf("evaluation was stopped: %v", ctx.Err())}) })
	defer stop()
	s.timer = time.AfterFunc(s.limits.Wall, s.timeOut)

	written := make(chan struct{})
	go func() { // a child that dies early leaves the rest unread
		defer close(written)
		_ = json.NewEncoder(stdin).Encode(req)
		stdin.Close()
	}()
	answers, err := s.read(stdout, req.Directories)
	s.timer.Stop()
	if err != nil {
		s.kill(&failure{message: fmt.Sprintf("CUE cannot be evaluated: %v", err)})
	}
	_, _ = io.Copy(io.Discard, stdout)
	<-written
	ended := s.cmd.Wait()
	if len(answers) == len(req.Directories) {
		return answers, nil
	}
	return answers, s.explain(ended)
}

func (s *cueSession) timeOut() {
	s.kill(&failure{
		message: fmt.Sprintf("evaluating this directory takes longer than %v", s.limits.Wall),
		hint:    "split the directory, or simplify its disjunctions: each one multiplies the work",
	})
}

// read takes answers until the child ends.
func (s *cueSession) read(stdout io.Reader, directories []string) ([]cueResponse, error) {
	r := bufio.NewReaderSize(stdout, 1<<16)
	var answers []cueResponse
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
		answers = append(answers, answer)
		if !s.advance() {
			return answers, nil
		}
	}
	return answers, nil
}

// advance gives the next directory its time; false if the child is killed.
func (s *cueSession) advance() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.killed != nil {
		return false
	}
	s.done++
	s.timer.Reset(s.limits.Wall)
	return true
}

// kill ends the child with its group; the first reason counts.
func (s *cueSession) kill(why *failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.killed == nil {
		s.killed = why
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	}
}

// explain says why the child has ended early.
func (s *cueSession) explain(ended error) *failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.killed != nil {
		return s.killed
	}
	var exit *exec.ExitError
	complaint := s.stderr.String()
	status := syscall.WaitStatus(0)
	if errors.As(ended, &exit) {
		status, _ = exit.Sys().(syscall.WaitStatus)
	}
	const simplify = "split the directory, or simplify its disjunctions: each one multiplies the work"
	switch {
	case status.Exited() && status.ExitStatus() == exitCPU:
		return &failure{fmt.Sprintf("evaluating this directory takes more than %v of CPU time", s.limits.CPU), simplify}
	case strings.Contains(complaint, "out of memory"), strings.Contains(complaint, "cannot allocate memory"), status.Signaled() && status.Signal() == syscall.SIGKILL:
		return &failure{fmt.Sprintf("evaluating this directory takes more than %d MiB of memory", s.limits.Memory>>20), simplify}
	case strings.Contains(complaint, "stack exceeds"):
		return &failure{"evaluating this directory recurses without end", "look for definitions that refer to themselves, or for very deep nesting"}
	}
	return &failure{message: fmt.Sprintf("CUE's evaluator ended early: %v", ended)}
}

// start runs the child in an empty directory, without environment or network,
// leading a process group of its own.
func (s *cueSession) start(command []string, dir string) (io.WriteCloser, io.ReadCloser, error) {
	if mark, value, _ := strings.Cut(childMark, "="); os.Getenv(mark) == value {
		return nil, nil, fmt.Errorf("this program was started as %s and did not run it", CUESubcommand)
	}
	var failed error
	for _, isolated := range isolations() {
		s.cmd = exec.Command(command[0])
		s.cmd.Args = append([]string{os.Args[0]}, command[1:]...)
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
// its own takes root, or a kernel that gives users one; without, nothing in the
// evaluator opens a connection, but nothing else keeps it from doing so.
func isolations() []*syscall.SysProcAttr {
	alone := &syscall.SysProcAttr{Setpgid: true, Cloneflags: syscall.CLONE_NEWNET}
	if uid := os.Getuid(); uid != 0 {
		alone.Cloneflags |= syscall.CLONE_NEWUSER
		alone.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		alone.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	}
	return []*syscall.SysProcAttr{alone, {Setpgid: true}}
}

// tail keeps the beginning of what a child complains about: its first line says
// why the Go runtime gave up.
type tail struct{ text []byte }

const maxComplaint = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p[:min(len(p), maxComplaint-len(t.text))]...)
	return len(p), nil
}

func (t *tail) String() string { return string(t.text) }
