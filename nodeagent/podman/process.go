package podman

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containers/podman/v4/libpod/define"
	"github.com/containers/podman/v4/pkg/bindings/containers"
	"golang.org/x/sys/unix"

	"fairlead/nodeagent/pod"
)

const (
	// exitWait is how long the dead container's code is looked for before it
	// counts as lost: conmon tells Podman within milliseconds, a killed conmon never.
	exitWait  = 3 * time.Second
	exitFirst = 5 * time.Millisecond
	exitMost  = 200 * time.Millisecond
	// deathPoll bounds a wait in the kernel, so that the end of a context is seen.
	deathPoll = 500 * time.Millisecond
)

// process is a container's main process, held so that its number cannot become
// another's.
type process struct {
	pid        int
	file       *os.File // pidfd
	monitor    *os.File // pidfd of its conmon; nil when that was dead already
	stopSignal syscall.Signal
	oom        oomCounter
}

// alive tells whether pid is a live process of container id.
func alive(pid int, id string) bool {
	if pid <= 0 {
		return false
	}
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	groups, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err != nil || !bytes.Contains(groups, []byte("libpod-"+id)) {
		return false
	}
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return len(rest) > 0 && rest[0] != 'Z' && rest[0] != 'X'
}

// lives tells whether one of pids is a container's own process, not the
// runtime's helper of a start that never finished.
func lives(pids []int) bool {
	for _, pid := range pids {
		args, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err == nil && len(args) > 0 && !bytes.Contains(args, []byte("\x00init")) {
			return true
		}
	}
	return false
}

// dead waits for a process to end, at most d.
func dead(pidfd int, d time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	deadline := time.Now().Add(d)
	for {
		n, err := unix.Poll(fds, int(max(0, time.Until(deadline)).Milliseconds()))
		if err == nil || !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// inspectTries is how often Podman is asked about a container whose process ends
// while it looks. The second time it finds it gone; the third is to spare.
const inspectTries = 3

// inspect is what Podman says of a container. When the process ends between the
// opening of its /proc file and the reading, Podman 4.3 answers with code 500.
func inspect(ctx context.Context, nameOrID string) (c *define.InspectContainerData, err error) {
	for range inspectTries {
		c, err = containers.Inspect(ctx, nameOrID, nil)
		if err == nil || !strings.Contains(err.Error(), unix.ESRCH.Error()) {
			break
		}
	}
	return c, err
}

// hold finds a running container's process; nil if it does not run.
func (p *Podman) hold(ctx context.Context, id string) (*process, error) {
	p.mu.Lock()
	held := p.procs[id]
	p.mu.Unlock()
	if held != nil {
		return held, nil
	}
	ctx, err := p.call(ctx)
	if err != nil {
		return nil, err
	}
	c, err := inspect(ctx, id)
	if is404(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("inspect container %s: %w", id, p.judge(err))
	}
	if c.State == nil || c.State.Pid <= 0 || c.Config == nil {
		return nil, nil
	}
	fd, err := unix.PidfdOpen(c.State.Pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("hold process %d: %w", c.State.Pid, err)
	}
	if !alive(c.State.Pid, id) {
		unix.Close(fd)
		return nil, nil
	}
	held = &process{
		pid: c.State.Pid, file: os.NewFile(uintptr(fd), "pidfd"), monitor: holdMonitor(c.State.ConmonPid, id),
		stopSignal: syscall.Signal(c.Config.StopSignal), oom: watchOOM(c.State.Pid),
	}
	if held.stopSignal == 0 {
		held.stopSignal = syscall.SIGTERM
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if other := p.procs[id]; other != nil {
		held.close()
		return other, nil
	}
	p.procs[id] = held
	return held, nil
}

// holdMonitor holds a container's conmon; nil if it does not live.
func holdMonitor(pid int, id string) *os.File {
	if pid <= 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	args, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil || !bytes.Contains(args, []byte(id)) { // the number is another's by now
		unix.Close(fd)
		return nil
	}
	return os.NewFile(uintptr(fd), "pidfd")
}

// monitored reports whether the container's conmon lives.
func (h *process) monitored() bool {
	if h.monitor == nil {
		return false
	}
	raw, err := h.monitor.SyscallConn()
	if err != nil {
		return true // closed: the container itself has ended
	}
	gone := false
	if err := raw.Control(func(fd uintptr) { gone = dead(int(fd), 0) }); err != nil {
		return true
	}
	return !gone
}

func (h *process) close() {
	h.file.Close()
	if h.monitor != nil {
		h.monitor.Close()
	}
	h.oom.close()
}

// forget drops what is kept of a removed container.
func (p *Podman) forget(id string) {
	p.letGo(id)
	p.mu.Lock()
	delete(p.lost, id)
	p.mu.Unlock()
}

// letGo closes a dead process.
func (p *Podman) letGo(id string) {
	p.mu.Lock()
	h := p.procs[id]
	delete(p.procs, id)
	p.mu.Unlock()
	if h != nil {
		h.close()
	}
}

// Wait implements nodeagent.Runtime.
func (p *Podman) Wait(ctx context.Context, id string) (pod.Exit, error) {
	h, err := p.hold(ctx, id)
	if err != nil {
		return pod.Exit{}, err
	}
	if h == nil {
		return p.exit(ctx, id), nil
	}
	if err := h.await(ctx); err != nil {
		return pod.Exit{}, err
	}
	killed := h.oom.happened()
	ended := time.Now()
	exit := p.exit(ctx, id)
	exit.OOMKilled = killed && exit.Code == 128+int32(syscall.SIGKILL)
	if exit.FinishedAt.IsZero() || exit.Unknown {
		exit.FinishedAt = ended
	}
	p.letGo(id)
	return exit, ctx.Err()
}

// await returns when the process is dead. The pidfd is in the runtime's poller:
// a waiting goroutine holds no thread.
func (h *process) await(ctx context.Context) error {
	raw, err := h.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("wait for process %d: %w", h.pid, err)
	}
	stop := context.AfterFunc(ctx, func() { h.file.SetReadDeadline(time.Now()) })
	defer stop()
	err = raw.Read(func(fd uintptr) bool { return dead(int(fd), 0) })
	switch {
	case ctx.Err() != nil:
		// The pidfd may be waited for again.
		h.file.SetReadDeadline(time.Time{})
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("wait for process %d: %w", h.pid, err)
	}
	return nil
}

// exit asks for a dead container's code until Podman knows it, for a while.
func (p *Podman) exit(ctx context.Context, id string) pod.Exit {
	p.mu.Lock()
	e, lost := p.lost[id]
	p.mu.Unlock()
	if lost {
		return e
	}
	bounded, cancel := context.WithTimeout(ctx, exitWait)
	defer cancel()
	for wait := exitFirst; ; wait = min(2*wait, exitMost) {
		e, again := p.askExit(bounded, id)
		if !again {
			return e
		}
		select {
		case <-bounded.Done():
			if ctx.Err() == nil {
				p.mu.Lock()
				p.lost[id] = e
				p.mu.Unlock()
			}
			return e
		case <-time.After(wait):
		}
	}
}

func (p *Podman) askExit(ctx context.Context, id string) (e pod.Exit, again bool) {
	unknown := pod.Exit{Code: 128 + int32(syscall.SIGKILL), Unknown: true, FinishedAt: time.Now()}
	c, err := p.call(ctx)
	if err != nil {
		return unknown, true
	}
	d, err := inspect(c, id)
	switch {
	case err != nil:
		return unknown, !is404(err)
	case d.State != nil && (d.State.Status == "exited" || d.State.Status == "stopped"):
		return pod.Exit{Code: d.State.ExitCode, FinishedAt: d.State.FinishedAt}, false
	}
	return unknown, true
}

// Signal implements nodeagent.Runtime. The kernel delivers it, not Podman: it
// works while the service hangs.
func (p *Podman) Signal(ctx context.Context, id string, s syscall.Signal) error {
	h, err := p.hold(ctx, id)
	if err != nil || h == nil {
		return err
	}
	if s == 0 {
		s = h.stopSignal
	}
	raw, err := h.file.SyscallConn()
	if err != nil {
		return nil // closed meanwhile: it is dead
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), s, nil, 0) }); err != nil {
		return nil
	}
	if errors.Is(sent, unix.ESRCH) {
		return nil
	}
	return sent
}
