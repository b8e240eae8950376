package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"fairlead/nodeagent/podman/handover"
)

// execute starts one command in a container and waits for its end. The runtime
// leaves as soon as the command runs, which makes the command this process's
// child: so its start and its exit code are told exactly, and while it runs there
// is this small process beside it and no runtime.
func execute(args []string) error {
	if len(args) != 4 {
		return errors.New("want RUNTIME CGROUP PIDFILE ID")
	}
	runtime, cgroup, pidFile, id := args[0], args[1], args[2], args[3]
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the parent of what is left: %w", err)
	}
	status := os.NewFile(handover.StatusFile, "status")
	syscall.CloseOnExec(handover.StatusFile)
	start := exec.Command(runtime, "--log", inherited(handover.LogFile), "--log-format", "json",
		"exec", "--detach", "--pid-file", pidFile, "--process", inherited(handover.ProcessFile), "--cgroup", cgroup, id)
	start.Stdout, start.Stderr = os.Stdout, os.Stderr
	start.ExtraFiles = []*os.File{
		os.NewFile(handover.ProcessFile, "process"),
		nil, // the status is told by this process alone
		os.NewFile(handover.LogFile, "log"),
	}
	if err := start.Run(); err != nil {
		return fmt.Errorf("start the command: %w", err)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return fmt.Errorf("find the command: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("find the command: %w", err)
	}
	if _, err := fmt.Fprintln(status, handover.Started); err != nil {
		return err // nobody listens any more
	}
	code, err := await(pid)
	if err != nil {
		return fmt.Errorf("wait for the command: %w", err)
	}
	_, err = fmt.Fprintln(status, handover.Ended, code)
	return err
}

// inherited is a descriptor as a path, for the runtime, which has it under the
// same number.
func inherited(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// await reaps a child and returns its exit code as shells give it.
func await(pid int) (int, error) {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, err
		case status.Signaled():
			return 128 + int(status.Signal()), nil
		case status.Exited():
			return status.ExitStatus(), nil
		}
	}
}
