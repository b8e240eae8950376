package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reapPoll is how often the killed are looked for: they die within microseconds.
const reapPoll = time.Millisecond

// attend runs a program as a child, and exits with its code when it and all that
// it started are dead and reaped: orphans become this process's children. SIGTERM
// ends them before. It returns only when the program cannot be executed.
func attend(path string, args, env []string) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	// A group of its own: what it sends to its group is not meant for this process.
	attr := &syscall.ProcAttr{Env: env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true}}
	pid, err := syscall.ForkExec(path, args, attr)
	if err != nil {
		return err
	}
	ended := make(chan int, 1)
	go func() {
		code, err := await(pid)
		if err != nil {
			code = failed
		}
		ended <- code
	}()
	code := 128 + int(syscall.SIGTERM)
	select {
	case code = <-ended:
	case <-told:
	}
	endChildren()
	os.Exit(code)
	return nil
}

// endTime is how long the children of a command that has ended may keep back how it
// ended: some run as another user, whom it may not kill.
const endTime = time.Second

// endChildren kills children until there are none: those of the dead are children
// too by then. One that may not be killed is the agent's to end, within endTime from
// here on. It never waits for one: it may have been reaped already, and the others
// not be killed yet.
func endChildren() {
	give := time.Now().Add(endTime)
	for pids := children(); len(pids) > 0 && time.Now().Before(give); pids = children() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
		time.Sleep(reapPoll)
	}
}

// children lists this process's, dead ones that are not reaped among them.
func children() (pids []int) {
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, f := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
