package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"fairlead/nodeagent/podman/handover"
)

// Exit codes of a program that could not be executed, as shells give them.
const (
	notExecutable = 126
	notFound      = 127
)

// enter becomes the program that a container was to run, with the bytes that the
// runtime's JSON could not carry, or stays its parent (handover.Reap). It returns
// only when it cannot.
func enter(args, env []string) int {
	become := syscall.Exec
	if len(args) > 0 && args[0] == handover.Reap {
		args, become = args[1:], attend
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "fairlead: no program to execute")
		return failed
	}
	for i, e := range env {
		if name, value, ok := strings.Cut(e, "="); ok {
			value, _ = handover.Reveal(value)
			env[i] = name + "=" + value
			os.Setenv(name, value) // PATH is looked through below
		}
	}
	name, secret := args[0], false
	for i, a := range args {
		var hidden bool
		args[i], hidden = handover.Reveal(a)
		secret = secret || i == 0 && hidden
	}
	if secret {
		name = "the program of this container (its name comes from the environment and is not told)"
	}
	path, err := exec.LookPath(args[0])
	if err == nil || errors.Is(err, exec.ErrDot) {
		err = become(path, args, env)
	}
	// The error itself may tell the name.
	if errors.Is(err, fs.ErrPermission) {
		fmt.Fprintf(os.Stderr, "fairlead: %s cannot be executed: permission denied\n", name)
		return notExecutable
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		fmt.Fprintf(os.Stderr, "fairlead: %s: executable file not found\n", name)
		return notFound
	}
	var number syscall.Errno
	errors.As(err, &number)
	fmt.Fprintf(os.Stderr, "fairlead: %s cannot be executed: %v\n", name, number)
	return notExecutable
}
