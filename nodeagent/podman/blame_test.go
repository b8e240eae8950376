package podman

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containers/podman/v4/pkg/errorhandling"
	"golang.org/x/sys/unix"

	"fairlead/nodeagent"
	"fairlead/nodeagent/pod"
)

// What is asked for and cannot be had is not the node's fault, what the node lacks is.
func TestWhoseFaultAStartIs(t *testing.T) {
	p := service(t, "starts", nil)
	importImage(t, p)
	spec := specs(t, "starts", "11111111-0000-4000-8000-00000000000a")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "text"), "no program")
	data := []pod.Mount{{Source: dir, Target: "/data"}}
	for name, change := range map[string]func(*pod.ContainerSpec){
		"no-command":         func(s *pod.ContainerSpec) { s.Command = []string{"/nope"} },
		"no-command-in-path": func(s *pod.ContainerSpec) { s.Command = []string{"runtime"} },
		"no-program":         func(s *pod.ContainerSpec) { s.Command, s.Mounts = []string{"/data/text"}, data },
		"empty-command":      func(s *pod.ContainerSpec) { s.Command = []string{""} },
		"directory-is-file":  func(s *pod.ContainerSpec) { s.WorkingDir = "/program" },
		"directory-in-file":  func(s *pod.ContainerSpec) { s.WorkingDir = "/program/x" },
		"no-user":            func(s *pod.ContainerSpec) { s.Security.User = "conmon" },
		"mount-in-file":      func(s *pod.ContainerSpec) { s.Mounts = []pod.Mount{{Source: dir, Target: "/program/x"}} },
		"mount-in-proc":      func(s *pod.ContainerSpec) { s.Mounts = []pod.Mount{{Source: dir, Target: "/proc/x"}} },
		"no-capability":      func(s *pod.ContainerSpec) { s.Security.CapAdd = []string{"CAP_NOPE"} },
		"little-memory":      func(s *pod.ContainerSpec) { s.Resources.MemoryBytes = 64 << 10 },
		"little-cpu":         func(s *pod.ContainerSpec) { s.Resources.CPUQuota, s.Resources.CPUPeriod = 10, 100_000 },
	} {
		t.Run(name, func(t *testing.T) {
			s := spec(name, "exit", "0")
			change(&s)
			if err := startOnce(t, p, s); err == nil || errors.Is(err, nodeagent.ErrNode) || errors.Is(err, nodeagent.ErrUnavailable) {
				t.Errorf("%v, which is said to be the node's fault", err)
			}
		})
	}
	for name, lack := range map[string]func(*testing.T, *Podman) (restore func()){
		"no-runtime":     func(t *testing.T, p *Podman) func() { return takeRuntime(t, p, "/no/runtime") },
		"broken-runtime": func(t *testing.T, p *Podman) func() { return takeRuntime(t, p, "/bin/false") },
		"no-cgroups":     func(t *testing.T, p *Podman) func() { return cover(t, "tmpfs", "/sys/fs/cgroup", "tmpfs", 0) },
		"no-conmon":      func(t *testing.T, p *Podman) func() { return cover(t, "/dev/null", conmon(t), "", unix.MS_BIND) },
	} {
		t.Run(name, func(t *testing.T) {
			restore := lack(t, p)
			err := startOnce(t, p, spec(name, "exit", "0"))
			restore()
			if !errors.Is(err, nodeagent.ErrNode) {
				t.Errorf("%v, which is not said to be the node's fault", err)
			}
		})
	}
	if err := startOnce(t, p, spec("well", "exit", "0")); err != nil {
		t.Errorf("with nothing missing: %v", err)
	}
}

// What no test takes from the machine it runs on, as it is said.
func TestANodeThatRanOutIsToBlame(t *testing.T) {
	p := &Podman{cfg: Config{NodeFails: nodeagent.ErrNode, Unavailable: nodeagent.ErrUnavailable}}
	for _, said := range []string{
		"creating container storage: write /var/lib/fairlead/agent/storage/x: no space left on device",
		`exec: "/program": cannot allocate memory: OCI runtime error`,
		"open /var/lib/fairlead/agent/storage/overlay-images/images.lock: read-only file system",
		"crun: open `/proc/self/ns`: Too many open files: too many open files",
	} {
		if err := p.blame(&errorhandling.ErrorModel{Message: said, ResponseCode: 500}, false); !errors.Is(err, nodeagent.ErrNode) {
			t.Error(err)
		}
	}
}

func startOnce(t *testing.T, p *Podman, s pod.ContainerSpec) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	id, err := p.Create(ctx, s)
	if err != nil {
		return err
	}
	defer func() { _ = p.Remove(ctx, id) }() // sweep finds what is left
	return p.Start(ctx, id)
}

func takeRuntime(t *testing.T, p *Podman, path string) (restore func()) {
	t.Helper()
	was, err := os.Readlink(p.memory.Runtime())
	if err == nil {
		err = replaceLink(p.memory.Runtime(), path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := replaceLink(p.memory.Runtime(), was); err != nil {
			t.Fatal(err)
		}
	}
}

// cover mounts something over a path; the test's mount namespace is its own.
func cover(t *testing.T, source, path, kind string, flags uintptr) (uncover func()) {
	t.Helper()
	if err := unix.Mount(source, path, kind, flags, ""); err != nil {
		t.Fatalf("cover %s: %v", path, err)
	}
	return func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Fatalf("uncover %s: %v", path, err)
		}
	}
}

func conmon(t *testing.T) string {
	for _, path := range []string{"/usr/libexec/podman/conmon", "/usr/lib/podman/conmon", "/usr/bin/conmon"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatal("no conmon")
	return ""
}
