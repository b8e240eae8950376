package child

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one child process, which answers one request and ends.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.Reader
	stderr complaint
	cwd    string
}

// spare is a child that has been started before there is anything for it to do: what
// its language needs is loaded while nobody waits for it.
type spare struct {
	mu     sync.Mutex
	next   *process // nil: none
	closed bool     // and there will be none
}

// prepare starts the child that is asked next. That it cannot be started is told then.
func (e *Evaluator) prepare() {
	e.spare.mu.Lock()
	isWanted := e.isKept && !e.spare.closed && e.spare.next == nil
	e.spare.mu.Unlock()
	if !isWanted {
		return
	}
	p, err := e.start()
	if err != nil {
		return
	}
	if err := json.NewEncoder(p.stdin).Encode(Request{Version: version, Language: e.language.Name, Prepare: true}); err != nil || !e.spare.put(p) {
		p.end()
	}
}

// put keeps a child for the next; false if none is wanted any more.
func (s *spare) put(p *process) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.next != nil {
		return false
	}
	s.next = p
	return true
}

// take is the child that waits, nil for none.
func (s *spare) take() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.next
	s.next = nil
	return p
}

// Close ends the child that waits, and keeps none any more. What is evaluated after it is
// evaluated as before.
func (e *Evaluator) Close() {
	e.spare.mu.Lock()
	e.spare.closed = true
	e.spare.mu.Unlock()
	if p := e.spare.take(); p != nil {
		p.end()
	}
}

// start starts a child.
func (e *Evaluator) start() (*process, error) {
	cwd, err := os.MkdirTemp("", "fairlead-child-")
	if err != nil {
		return nil, err
	}
	p := &process{cwd: cwd}
	if err := p.start(e.command, e.limits.Wall); err != nil {
		_ = os.Remove(cwd)
		return nil, err
	}
	return p, nil
}

// kill ends the child with its group.
func (p *process) kill() { _ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }

// end ends the child and waits for it.
func (p *process) end() {
	p.kill()
	_ = p.cmd.Wait() // how it ended is in its state
	_ = os.RemoveAll(p.cwd)
}

// start runs the child in an empty directory, without environment or network,
// leading a process group of its own.
func (p *process) start(command func() *exec.Cmd, delay time.Duration) error {
	if mark, value, _ := strings.Cut(childMark, "="); os.Getenv(mark) == value {
		return fmt.Errorf("this program was started as %s and did not run it", Subcommand)
	}
	var failed error
	for _, isolated := range isolations() {
		p.cmd = command()
		p.cmd.Env = []string{childMark}
		p.cmd.Dir = p.cwd
		p.cmd.Stderr = &p.stderr
		p.cmd.SysProcAttr = isolated
		p.cmd.WaitDelay = delay
		var err error
		if p.stdin, err = p.cmd.StdinPipe(); err != nil {
			return err
		}
		if p.stdout, err = p.cmd.StdoutPipe(); err != nil {
			return err
		}
		if failed = p.cmd.Start(); failed == nil {
			return nil
		}
	}
	return failed
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
