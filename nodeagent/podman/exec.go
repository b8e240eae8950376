package podman

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/nodeagent/pod"
	"fairlead/nodeagent/podman/handover"
)

const (
	// execStarts is how many commands are being started at once: a start costs the
	// node some 25 ms of one CPU, outside of the container's own limits.
	execStarts = 4
	// execTurn is how long a start keeps others waiting: one that takes longer
	// waits for something else than this node's CPUs, its container's for instance.
	execTurn = 250 * time.Millisecond
	// execStart is how long a command may take to start once it is its turn.
	execStart = 10 * time.Second
	// execOutput bounds what is kept of a command's output.
	execOutput = 4 << 10
	// execGrace is how long a command may take to end and to be reaped from inside
	// its container before all of it is killed from outside.
	execGrace = 2 * time.Second
	// execGone is how long what was killed may take to be gone.
	execGone = 3 * time.Second
)

// turns is how many may be at something at once; the first to ask is the first
// to get one.
type turns chan struct{}

// take waits for a turn. It ends with done, and for others after execTurn.
func (t turns) take(ctx context.Context) (done func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case t <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	release := sync.OnceFunc(func() { <-t })
	timer := time.AfterFunc(execTurn, release)
	return func() { timer.Stop(); release() }, nil
}

// Exec implements nodeagent.Runtime. It goes past Podman, whose exec costs three
// times as much and leaves a conmon for minutes. There are as many commands in
// flight as callers: the agent has one for each probe. Each costs the node one small
// process, about what the conmon of its container does.
func (p *Podman) Exec(ctx context.Context, id string, command []string, limit time.Duration) (pod.ExecResult, error) {
	h, err := p.hold(ctx, id)
	if err != nil {
		return pod.ExecResult{}, err
	}
	if h == nil {
		return pod.ExecResult{}, errors.New("exec: the container does not run")
	}
	done, err := p.starts.take(ctx)
	if err != nil {
		return pod.ExecResult{}, fmt.Errorf("exec: %w: %w", p.cfg.Unavailable, err)
	}
	defer done()
	c, err := p.launch(id, command)
	if err != nil { // the node's doing: the command had no chance to fail
		return pod.ExecResult{}, fmt.Errorf("exec: %w: %w", p.cfg.Unavailable, err)
	}
	r, err := c.follow(ctx, done, limit)
	r.Output = c.finish(p)
	switch {
	case errors.Is(err, errNotStarted):
		err = fmt.Errorf("exec: %w: %w", p.cfg.Unavailable, err)
	case err != nil:
		err = fmt.Errorf("exec: %w", err)
	}
	return r, err
}

// errNotStarted tells of a busy node as much as of a container that takes no command;
// neither is an answer of the command.
var errNotStarted = fmt.Errorf("the command could not be started within %s", execStart)

// running is one command in a container.
type running struct {
	cmd     *exec.Cmd // fairlead-exec
	group   string    // the command's own cgroup
	reaped  bool      // SIGTERM ends all of it
	pidFile string
	log     *os.File      // what the runtime says of a start that failed
	told    chan []string // lines of fairlead-exec, in fields; closed with its end
	output  chan string
	out     *os.File
	left    chan struct{} // closed when fairlead-exec has gone
}

// pidFilePrefix begins the name of the file in which the runtime tells a command's
// process.
const pidFilePrefix = "exec-pid-"

func isPIDFile(name string) bool { return strings.HasPrefix(name, pidFilePrefix) }

var execCount atomic.Uint64

// launch starts fairlead-exec, which starts the command.
func (p *Podman) launch(id string, command []string) (*running, error) {
	config, err := p.configuration(id)
	if err != nil {
		return nil, err
	}
	process, reaped, err := handover.Command(config, command)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%d-%d", os.Getpid(), execCount.Add(1))
	r := &running{
		pidFile: filepath.Join(string(p.memory), pidFilePrefix+name), reaped: reaped,
		told: make(chan []string), output: make(chan string, 1), left: make(chan struct{}),
	}
	group, argument, err := p.cgroup.makeExec(id, name)
	if err != nil {
		return nil, fmt.Errorf("make a cgroup for the command: %w", err)
	}
	r.group = group
	runtime, err := os.Readlink(p.memory.Runtime())
	if err == nil {
		r.cmd = &exec.Cmd{
			Path: p.cfg.Helper, Args: []string{handover.AsExec, runtime, argument, r.pidFile, id},
			Env: runtimeEnv(),
		}
		err = r.start(process)
	}
	if err != nil {
		return nil, errors.Join(err, p.cgroup.end(group))
	}
	return r, nil
}

// start runs fairlead-exec with its descriptors (handover.ProcessFile and on).
func (r *running) start(process []byte) (err error) {
	files := make([]*os.File, 0, 5)
	defer func() { // the child has its own
		for _, f := range files {
			f.Close()
		}
	}()
	spec, err := inMemoryFile("process", process)
	if err != nil {
		return err
	}
	files = append(files, spec)
	if r.log, err = inMemoryFile("log", nil); err != nil {
		return err
	}
	out, outW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, r.log.Close())
	}
	files = append(files, outW)
	status, statusW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, r.log.Close(), out.Close())
	}
	files = append(files, statusW)
	r.out = out
	r.cmd.Stdout, r.cmd.Stderr, r.cmd.ExtraFiles = outW, outW, []*os.File{spec, statusW, r.log}
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.cmd.Start(); err != nil {
		return errors.Join(err, r.log.Close(), out.Close(), status.Close())
	}
	go r.listen(status)
	go func() { r.output <- readSome(out) }()
	go func() { r.cmd.Wait(); close(r.left) }()
	return nil
}

// inMemoryFile is a file that is in no directory.
func inMemoryFile(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(content); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (r *running) listen(status *os.File) {
	defer status.Close()
	defer close(r.told)
	lines := bufio.NewScanner(status)
	for lines.Scan() {
		r.told <- strings.Fields(lines.Text())
	}
}

// readSome keeps the beginning and reads all: nobody is to wait for a full pipe.
func readSome(r io.Reader) string {
	var b bytes.Buffer
	_, _ = io.CopyN(&b, r, execOutput)
	_, _ = io.Copy(io.Discard, r)
	return b.String()
}

// follow waits for the command's start, then, at most for limit, for its end.
func (r *running) follow(ctx context.Context, started func(), limit time.Duration) (pod.ExecResult, error) {
	late := time.NewTimer(execStart)
	defer late.Stop()
	runs := false
	for {
		select {
		case line, ok := <-r.told:
			switch {
			case !ok && runs:
				return pod.ExecResult{}, errors.New("the command's exit code is unknown")
			case !ok:
				return pod.ExecResult{}, r.refusal()
			case len(line) == 1 && line[0] == handover.Started:
				started()
				runs = true
				late.Reset(limit)
			case len(line) == 2 && line[0] == handover.Ended:
				code, err := strconv.Atoi(line[1])
				return pod.ExecResult{Code: code}, err
			}
		case <-late.C:
			if runs {
				return pod.ExecResult{TimedOut: true}, nil
			}
			return pod.ExecResult{}, errNotStarted
		case <-ctx.Done():
			return pod.ExecResult{}, ctx.Err()
		}
	}
}

// refusal is why the runtime did not start the command, in its own words.
func (r *running) refusal() error {
	text := make([]byte, execOutput)
	n, _ := r.log.ReadAt(text, 0)
	var said struct{ Msg string }
	for line := range strings.Lines(string(text[:n])) {
		_ = json.Unmarshal([]byte(line), &said)
	}
	if said.Msg == "" {
		return errors.New("the runtime did not start the command")
	}
	return errors.New(said.Msg)
}

// terminate has what runs ended and reaped from inside the container, where that
// can be.
func (r *running) terminate() {
	text, err := os.ReadFile(r.pidFile)
	if err != nil || !r.reaped {
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	for began := time.Now(); err == nil && time.Since(began) < execGrace; time.Sleep(releasePoll) {
		if !slices.Contains(pidsIn(r.group), pid) {
			return
		}
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
}

// finish ends what there still is of the command and returns what it printed.
func (r *running) finish(p *Podman) string {
	go func() {
		for range r.told { // what is told now comes too late
		}
	}()
	r.terminate()
	// fairlead-exec goes by itself when the command has gone.
	if err := p.cgroup.end(r.group); err != nil {
		p.cfg.Log.WithError(err).Warn("some processes of a command run in a container could not be killed")
	}
	select {
	case <-r.left:
	case <-time.After(execGone):
		_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL) // with the runtime, which hangs
		<-r.left
		if err := p.cgroup.end(r.group); err != nil {
			p.cfg.Log.WithError(err).Warn("some processes of a command run in a container could not be killed")
		}
	}
	_ = r.out.SetReadDeadline(time.Now().Add(execGone)) // somebody who left the cgroup may hold the pipe
	output := <-r.output
	r.out.Close()
	r.log.Close()
	_ = os.Remove(r.pidFile) // not there if nothing started
	return output
}
