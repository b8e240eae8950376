package local

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process names one process for good: a pid is used again, a pid with its
// start time is not.
type Process struct {
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"startTicks"` // field 22 of proc_pid_stat(5)
}

// findProcess reads the start time of a living process. A zombie is dead: its
// parent may never reap it.
func findProcess(pid int) (Process, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return Process{}, err
	}
	// The second field is the name in parentheses and may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return Process{}, fmt.Errorf("read stat of process %d: %q", pid, stat)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return Process{}, os.ErrNotExist
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return Process{}, fmt.Errorf("read stat of process %d: %w", pid, err)
	}
	return Process{PID: pid, StartTicks: ticks}, nil
}

// alive tells whether this very process still runs.
func (p Process) alive() bool {
	now, err := findProcess(p.PID)
	return p.PID != 0 && err == nil && now == p
}

// signal sends to this very process or to nobody: the pidfd is opened before
// the start time is compared.
func (p Process) signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	if !p.alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

// await returns whether the process ended before the time was up.
func (p Process) await(timeout time.Duration) bool {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return !p.alive()
	}
	defer unix.Close(fd)
	deadline := time.Now().Add(timeout)
	for p.alive() {
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		_, _ = unix.Poll(poll, int(left.Milliseconds())+1)
	}
	return true
}

// stop ends a process: SIGTERM, then SIGKILL when the grace period is over. The
// zero Process has ended.
func (p Process) stop(grace time.Duration) error {
	if !p.alive() {
		return nil
	}
	if err := p.signal(unix.SIGTERM); err != nil {
		return err
	}
	if p.await(grace) {
		return nil
	}
	if err := p.signal(unix.SIGKILL); err != nil {
		return err
	}
	if !p.await(stopGrace) {
		return fmt.Errorf("process %d does not end after SIGKILL", p.PID)
	}
	return nil
}

// onFreshThread runs f on a thread of its own that is thrown away afterwards,
// so f may change the thread's namespaces. Never the main thread: its
// namespaces are what /proc/<pid>/ns shows.
func onFreshThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- onFreshThread(f)
			runtime.UnlockOSThread()
			return
		}
		done <- f()
	}()
	return <-done
}

// command is one daemon to start, detached from the caller's session.
type command struct {
	binary string
	args   []string
	log    string // appended to
	cgroup string // empty leaves it in the caller's
	node   *Node  // whose namespaces to enter; nil is the host
}

// start returns once the program is running. The caller reaps it.
func start(c command) (Process, error) {
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return Process{}, fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return Process{}, err
	}
	defer null.Close()
	attr := &syscall.ProcAttr{
		Dir:   "/",
		Env:   daemonEnvironment(),
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	place, err := openTracking(c.cgroup, attr.Sys)
	if err != nil {
		return Process{}, err
	}
	defer place.close()
	var pid int
	err = onFreshThread(func() error {
		if c.node != nil {
			if err := c.node.enter(); err != nil {
				return err
			}
		}
		var err error
		pid, err = syscall.ForkExec(c.binary, append([]string{c.binary}, c.args...), attr)
		return err
	})
	if err != nil {
		return Process{}, fmt.Errorf("start %s %s: %w", c.binary, strings.Join(c.args, " "), err)
	}
	if err := place.add(pid); err != nil {
		return Process{}, err
	}
	p, err := findProcess(pid)
	if errors.Is(err, os.ErrNotExist) {
		return Process{PID: pid}, nil // ended already; the reaper will tell
	}
	return p, err
}

// daemonEnvironment is what daemons inherit: where programs are and how to
// reach the outside, nothing of the caller's session.
func daemonEnvironment() []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "GODEBUG", "GOTRACEBACK"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func allPIDs() []int {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}
