package podman

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containers/podman/v4/pkg/bindings"
	"github.com/containers/podman/v4/pkg/bindings/containers"
	"golang.org/x/sys/unix"

	"fairlead/nodeagent/pod"
	"fairlead/nodeagent/podman/handover"
)

const (
	serviceFirst  = 100 * time.Millisecond // back-off of service starts
	serviceMost   = 10 * time.Second
	serviceSteady = time.Minute      // a life this long starts the back-off anew
	serviceStart  = 20 * time.Second // to answer for the first time
	pingInterval  = 5 * time.Second
	pingTimeout   = 10 * time.Second
	stopTimeout   = 3 * time.Second // between SIGTERM and SIGKILL of the service
)

// Run keeps the service up until ctx ends: a service that dies or does not
// answer is replaced, with a back-off. Containers survive all of that.
func (p *Podman) Run(ctx context.Context) error {
	if err := p.endStale(); err != nil {
		return fmt.Errorf("end the last podman service: %w", err)
	}
	if err := p.cgroup.endExecs(); err != nil {
		p.cfg.Log.WithError(err).Warn("a command that an earlier agent ran in a container could not be ended")
	}
	p.dirty.Store(true)
	backoff := serviceFirst
	for ctx.Err() == nil {
		began := time.Now()
		err := p.serve(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > serviceSteady {
			backoff = serviceFirst
		}
		p.cfg.Log.WithError(err).WithField("again", backoff.String()).Warn("the podman service ended")
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, serviceMost)
	}
	return nil
}

// serve runs one service until it dies, hangs or ctx ends.
func (p *Podman) serve(ctx context.Context) error {
	if err := os.Remove(p.socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	cmd := exec.Command("podman", "--log-level", "error", "system", "service", "--time", "0", "unix://"+p.socket())
	cmd.Env = append(os.Environ(), "CONTAINERS_CONF="+p.confPath(), "CONTAINERS_STORAGE_CONF="+p.storagePath())
	if _, err := os.Stat(p.cfg.RegistriesConf); err == nil {
		cmd.Env = append(cmd.Env, "CONTAINERS_REGISTRIES_CONF="+p.cfg.RegistriesConf)
	}
	// A session of its own: a terminal's signals are not meant for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start podman: %w", err)
	}
	// conmon inherits stderr and would keep the pipe open for ever: its reader
	// is not waited for.
	go p.logLines(stderr)
	if err := os.WriteFile(p.pidPath(), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		p.cfg.Log.WithError(err).Warn("podman's pid could not be noted")
	}
	ended := make(chan error, 1)
	go func() {
		state, err := cmd.Process.Wait()
		if err == nil {
			err = errors.New(state.String())
		}
		ended <- err
	}()
	err = p.supervise(ctx, ended)
	cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(stopTimeout):
		cmd.Process.Kill()
		<-ended
	}
	return err
}

// supervise watches a service until it has to go, and tells why. What it takes
// from ended it puts back.
func (p *Podman) supervise(ctx context.Context, ended chan error) error {
	up, cancel := context.WithTimeout(ctx, serviceStart)
	defer cancel()
	for !p.dials() {
		select {
		case err := <-ended:
			ended <- err
			return fmt.Errorf("ended before it answered: %w", err)
		case <-up.Done():
			return errors.New("the service did not answer in time")
		case <-time.After(10 * time.Millisecond):
		}
	}
	conn, err := bindings.NewConnection(context.WithoutCancel(ctx), "unix://"+p.socket())
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	client, err := bindings.GetClient(conn)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	client.Client.Transport = once{client.Client.Transport}
	p.sweepStorage(conn)
	p.wipeIfDirty()
	p.mu.Lock()
	p.conn = conn
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.conn = nil
		p.mu.Unlock()
	}()
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			ended <- err
			return err
		case <-tick.C:
			if err := p.ping(ctx); err != nil {
				return fmt.Errorf("the service hangs: %w", err)
			}
			p.wipeIfDirty()
		}
	}
}

// sweepStorage removes what a service killed amid creating a container left in
// the storage, unknown to Podman itself. No other caller is let in yet.
func (p *Podman) sweepStorage(conn context.Context) {
	ctx, cancel := context.WithTimeout(conn, serviceStart)
	defer cancel()
	all, err := containers.List(ctx, new(containers.ListOptions).WithAll(true).WithExternal(true))
	if err != nil {
		p.cfg.Log.WithError(err).Warn("podman's storage could not be looked through")
		return
	}
	known := make(map[string]bool, len(all))
	for _, c := range all {
		known[c.ID] = true
	}
	if err := p.sweepMemory(ctx, known); err != nil {
		p.cfg.Log.WithError(err).Warn("environments of containers that are gone could not be removed")
	}
	for _, c := range all {
		if len(c.Names) != 1 || !strings.HasPrefix(c.Names[0], containerPrefix) || c.Labels[pod.LabelNode] != "" {
			continue
		}
		if _, err := containers.Remove(ctx, c.ID, new(containers.RemoveOptions).WithForce(true)); err != nil && !is404(err) {
			p.cfg.Log.WithError(err).WithField("container", c.Names[0]).Warn("a half-made container could not be removed")
		}
	}
}

// wipeIfDirty takes what is left of containers that are gone out of the database.
// What fails is done again at the next ping.
func (p *Podman) wipeIfDirty() {
	if !p.dirty.Swap(false) {
		return
	}
	if err := p.wipe(); err != nil {
		p.dirty.Store(true)
		p.cfg.Log.WithError(err).Warn("environments of containers that are gone could not be wiped")
	}
}

// containerPrefix begins the names of our containers.
const containerPrefix = "fl-"

func (p *Podman) dials() bool {
	conn, err := net.DialTimeout("unix", p.socket(), pingTimeout)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func (p *Podman) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	c, err := p.call(ctx)
	if err != nil {
		return err
	}
	conn, err := bindings.GetClient(c)
	if err != nil {
		return err
	}
	r, err := conn.DoRequest(c, nil, "GET", "/_ping", nil, nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(r.Body, 1<<10))
	return err
}

func (p *Podman) logLines(r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		p.cfg.Log.WithField("podman", lines.Text()).Debug("podman says")
	}
}

func (p *Podman) pidPath() string { return filepath.Join(p.cfg.RunDir, "podman.pid") }

// endStale ends the service that a killed agent left: what it had under way is
// lost either way, and a new one starts from a known state.
func (p *Podman) endStale() error {
	text, err := os.ReadFile(p.pidPath())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return nil // torn; there is nothing to go by
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	// Looked at after the pidfd is held, so that the number cannot be another's.
	args, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil || !strings.Contains(string(args), p.socket()) {
		return nil
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := unix.PidfdSendSignal(fd, s, nil, 0); err != nil {
			return nil
		}
		if dead(fd, stopTimeout) {
			return nil
		}
	}
	return fmt.Errorf("process %d does not end", pid)
}

func (p *Podman) confPath() string    { return filepath.Join(p.cfg.RunDir, "containers.conf") }
func (p *Podman) storagePath() string { return filepath.Join(p.cfg.RunDir, "storage.conf") }

const (
	maxFiles = 1 << 20
	// maxProcs is what Podman lowers its own limit to: more cannot be given.
	maxProcs = 32768
	// pidsLimit of a container is a fence against fork bombs, not a budget.
	pidsLimit = 16384
)

// defaultCapabilities are what a container has that asks for nothing: Podman's own
// list as its documentation has it, written down because the one built into some
// versions has AUDIT_WRITE, MKNOD and NET_RAW too.
var defaultCapabilities = []string{
	"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}

// quoted is a list as TOML has it, without the brackets.
func quoted(list []string) string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		out = append(out, strconv.Quote(s))
	}
	return strings.Join(out, ", ")
}

func (p *Podman) writeConfig() error {
	files, err := hardLimit(unix.RLIMIT_NOFILE, maxFiles)
	if err != nil {
		return err
	}
	procs, err := hardLimit(unix.RLIMIT_NPROC, maxProcs)
	if err != nil {
		return err
	}
	conf := fmt.Sprintf(`[containers]
default_capabilities = [%s]
default_sysctls = []
default_ulimits = ["nofile=%d:%d", "nproc=%d:%d"]
http_proxy = false
log_driver = "k8s-file"
log_size_max = %d
pids_limit = %d

[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime = %q
runtime_supports_json = ["crun", "runc", %q]
tmp_dir = %q
`, quoted(defaultCapabilities), files, files, procs, procs, logBytes, pidsLimit, p.memory.Shim(), handover.AsRuntime, filepath.Join(p.cfg.RunDir, "libpod"))
	storage := fmt.Sprintf(`[storage]
driver = "overlay"
graphroot = %q
runroot = %q

[storage.options]
additionalimagestores = [%s]
`, p.cfg.StorageDir, filepath.Join(p.cfg.RunDir, "storage"), quoted(p.cfg.AdditionalStores))
	for _, dir := range []string{p.cfg.RunDir, p.cfg.StorageDir} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
	}
	if err := os.WriteFile(p.confPath(), []byte(conf), 0o600); err != nil {
		return err
	}
	return os.WriteFile(p.storagePath(), []byte(storage), 0o600)
}

// hardLimit is the current hard limit, at most most: without CAP_SYS_RESOURCE
// nothing above can be given to a container.
func hardLimit(resource int, most uint64) (uint64, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(resource, &l); err != nil {
		return 0, fmt.Errorf("read limits: %w", err)
	}
	return min(l.Max, most), nil
}
