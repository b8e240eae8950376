package podman

import (
	"errors"
	"fmt"
	"strings"
)

// Parts of what Podman 4.3, runc and crun say of a container that cannot be made or
// started. They are looked for in this order.
var (
	// exhausted is what only a node runs out of.
	exhausted = []string{
		"no space left on device", "too many open files", "cannot allocate memory", "Cannot allocate memory", "resource temporarily unavailable",
		"Resource temporarily unavailable", "input/output error", "Input/output error", "disk quota exceeded",
	}
	// asked names something that was asked for: the command, its directory, its user,
	// a mount, a limit.
	asked = []string{
		`exec: "`, "executable file", "open executable", "arguments where", `workdir "`, "chdir to", "container init: mkdir ", "unable to find user", "unable to find group", "no matching entries in",
		"error mounting", "mount `", "unable to set memory limit", "memory limit too low", "write sysctl", "apparmor profile", "seccomp profile",
	}
	// broken is what the node's own programs and file systems say.
	broken = []string{"read-only file system", "Read-only file system", "fork/exec ", "exit status ", "conmon", "cgroup", "runtime", "fairlead-oci", "storage"}
)

// blame marks an error that is not the service's own answer, as judge does, and one
// that the node, and nothing that was asked for, is the reason of. What starts fails
// for the node unless something that was asked for is named; what is only made was
// refused for what it asks.
func (p *Podman) blame(err error, starts bool) error {
	if err = p.judge(err); err == nil || errors.Is(err, p.cfg.Unavailable) {
		return err
	}
	said := err.Error()
	switch {
	case has(said, exhausted):
	case has(said, asked):
		return err
	case !starts && !has(said, broken):
		return err
	}
	return fmt.Errorf("%w: %w", p.cfg.NodeFails, err)
}

func has(said string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(said, part) {
			return true
		}
	}
	return false
}
