package podman

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/nodeagent/pod"
	"fairlead/nodeagent/podman/handover"
)

// memoryBytes bounds the environments of a node's containers, each of which is
// there twice: the kernel takes about 2 MiB a container, most have a few KiB.
const memoryBytes = 512 << 20

// runtimeDirs are where Podman looks for a runtime beside PATH.
var runtimeDirs = []string{"/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/sbin", "/bin"}

// openMemory makes the directory in memory through which environments go, with
// what fairlead-oci needs in it.
func (p *Podman) openMemory() error {
	if err := p.mountMemory(); err != nil {
		return fmt.Errorf("mount memory for environments: %w", err)
	}
	if err := os.Chmod(string(p.memory), 0o700); err != nil {
		return err
	}
	if _, err := os.Stat(p.cfg.Helper); err != nil {
		return fmt.Errorf("fairlead-oci, which gives containers their environment, must be in the same directory as fairlead: %w", err)
	}
	runtime, err := FindRuntime(p.runtimeName())
	if err != nil {
		return err
	}
	for link, target := range map[string]string{p.memory.Shim(): p.cfg.Helper, p.memory.Runtime(): runtime} {
		if err := replaceLink(link, target); err != nil {
			return err
		}
	}
	return nil
}

// mountMemory gives the directory a tmpfs of its own, so that environments have a bound
// of their own and take nothing from what else is on the one around it. A mount that is
// there stays, and so does a directory in memory in which containers that run have theirs:
// an earlier version left it without a mount, and the next boot begins without it.
func (p *Podman) mountMemory() error {
	dir := string(p.memory)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	in, err := inMemory(dir)
	if err != nil {
		return err
	}
	if in {
		if own, err := isMountPoint(dir); own || err != nil {
			return err
		}
		if used, err := hasDirectories(dir); used || err != nil {
			return err
		}
	}
	options := fmt.Sprintf("mode=0700,size=%d", memoryBytes)
	return unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options)
}

func hasDirectories(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	return slices.ContainsFunc(entries, fs.DirEntry.IsDir), err
}

func isMountPoint(path string) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &st); err != nil {
		return false, fmt.Errorf("look at %s: %w", path, err)
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

func (p *Podman) runtimeName() string {
	if p.cfg.Runtime != "" {
		return p.cfg.Runtime
	}
	return p.cgroup.runtime()
}

// FindRuntime is where an OCI runtime is, given its name or path.
func FindRuntime(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range runtimeDirs {
		if err == nil {
			break
		}
		path, err = exec.LookPath(filepath.Join(dir, name))
	}
	if err != nil {
		return "", fmt.Errorf("find the OCI runtime: %w", err)
	}
	return filepath.Abs(path)
}

func inMemory(dir string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false, fmt.Errorf("look at %s: %w", dir, err)
	}
	return st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC, nil
}

// replaceLink points a link elsewhere, without a moment when it is not there.
func replaceLink(link, target string) error {
	if old, err := os.Readlink(link); err == nil && old == target {
		return nil
	}
	fresh := link + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, fresh); err != nil {
		return err
	}
	return os.Rename(fresh, link)
}

// leaveProcess leaves a container's environment and arguments for fairlead-oci.
func (p *Podman) leaveProcess(id string, s pod.ContainerSpec) error {
	process := handover.Process{Dir: s.WorkingDir, Commands: s.Commands}
	for _, e := range s.Env {
		process.Env = append(process.Env, handover.Variable{Name: e.Name, Value: []byte(e.Value)})
	}
	for _, list := range [][]string{s.Command, s.Args} {
		for _, a := range list {
			process.Args = append(process.Args, []byte(a))
		}
	}
	data, err := json.Marshal(process)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(p.memory.Bundle(id), 0o700); err != nil {
		return err
	}
	return os.WriteFile(p.memory.Process(id), data, 0o600)
}

// dropState has the runtime forget a container that Podman does not know: crun keeps a
// copy of the configuration until then, environment included. What it does not know
// either is no error.
func (p *Podman) dropState(ctx context.Context, id string) error {
	return p.runtimeDelete(ctx, id, "--force")
}

func (p *Podman) runtimeDelete(ctx context.Context, id string, options ...string) error {
	if !isContainerID(id) {
		return nil // a name, which the runtime never gets
	}
	runtime, err := os.Readlink(p.memory.Runtime())
	if err != nil {
		return fmt.Errorf("find the OCI runtime: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, dropTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, runtime, slices.Concat([]string{"delete"}, options, []string{id})...)
	cmd.Env = runtimeEnv()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("delete container %s from the OCI runtime: %w: %s", id, err, out[:min(len(out), maxRuntimeWords)])
	}
	return nil
}

const (
	// dropTimeout bounds a delete of the runtime's, which takes milliseconds: the
	// container's processes have been ended before.
	dropTimeout = 10 * time.Second
	// maxRuntimeWords is how much is told of what the runtime complains of.
	maxRuntimeWords = 1 << 10
)

// runtimeEnv is what the runtime is started with: crun looks for its containers below
// XDG_RUNTIME_DIR, and Podman starts it without.
func runtimeEnv() []string { return append(os.Environ(), "XDG_RUNTIME_DIR=") }

func isContainerID(id string) bool {
	data, err := hex.DecodeString(id)
	return err == nil && len(data) == 32
}

// dropProcess forgets a removed container's. One that had none here was made by
// an earlier version, or before the machine booted: Podman may have written it.
func (p *Podman) dropProcess(id string) error {
	if _, err := os.Stat(p.memory.Bundle(id)); errors.Is(err, fs.ErrNotExist) {
		p.dirty.Store(true)
		return nil
	}
	return os.RemoveAll(p.memory.Bundle(id))
}

// sweepMemory drops what belongs to no container, and what commands left that an
// agent's end cut off. Nothing is being made yet.
func (p *Podman) sweepMemory(ctx context.Context, known map[string]bool) error {
	entries, err := os.ReadDir(string(p.memory))
	if err != nil {
		return err
	}
	for _, e := range entries {
		stray := e.IsDir() && !known[e.Name()]
		if stray {
			_ = p.runtimeDelete(ctx, e.Name()) // one that runs is refused, one that is gone unknown
		}
		if stray || isPIDFile(e.Name()) {
			if err := os.RemoveAll(filepath.Join(string(p.memory), e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// configuration is what the runtime was given of a container. One of an earlier
// version has it where Podman put it.
func (p *Podman) configuration(id string) ([]byte, error) {
	data, err := os.ReadFile(p.memory.ConfigFile(id))
	if errors.Is(err, fs.ErrNotExist) {
		data, err = os.ReadFile(filepath.Join(p.cfg.StorageDir, "overlay-containers", id, "userdata", "config.json"))
	}
	return data, err
}
