// Package podman answers how containers run on a node: it keeps a Podman
// service of the agent's own and drives it over its API. Podman's word is not
// taken for life and death: those come from the kernel (pidfd, cgroup). It
// decides nothing and restarts no container; the node agent calls it. It is the
// only importer of the Podman bindings.
package podman

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	nettypes "github.com/containers/common/libnetwork/types"
	"github.com/containers/podman/v4/pkg/bindings"
	"github.com/containers/podman/v4/pkg/bindings/containers"
	"github.com/containers/podman/v4/pkg/bindings/images"
	"github.com/containers/podman/v4/pkg/specgen"
	spec "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/pod"
	"fairlead/nodeagent/podman/handover"
	"fairlead/schema"
)

// Config is what a Podman needs; all fields are required unless they say otherwise.
type Config struct {
	Node             schema.NodeName
	StorageDir       string   // graph root
	RunDir           string   // sockets, configuration and run-time state
	CgroupParent     string   // of this node: /fairlead/<slot>/<node>
	Runtime          string   // default: what works on this host
	Helper           string   // fairlead-oci
	AdditionalStores []string // read-only image stores; may be empty
	NoImage          error    // what Create, Image and Pull wrap when an image is not there
	NoRegistry       error    // what Pull wraps when the image's registry cannot be asked
	Denied           error    // what Pull wraps when the registry does not let this node have the image
	NodeFails        error    // what Pull, Create and Start wrap when the node, not the container, is why
	AuthFile         string   // credentials for registries, read at each pull; may not exist
	RegistriesConf   string   // containers-registries.conf(5), read when the service starts; the machine's own where it does not exist
	Unavailable      error    // what every call wraps when the service did not answer
	Log              *logrus.Entry
}

// logBytes bounds one container's log file; Podman begins it anew beyond.
const logBytes = 16 << 20

// Podman is the node's container runtime. Its methods may be called from any
// goroutine; they fail while the service is not up, Run brings it up again.
type Podman struct {
	cfg    Config
	cgroup cgroups
	memory handover.Dir // environments of containers
	starts turns        // of commands run in containers
	dirty  atomic.Bool  // the database has rests of containers that are gone

	answerWait time.Duration // a test's; 0 is the constant

	mu    sync.Mutex
	conn  context.Context // carries the bindings' connection; nil before the first
	procs map[string]*process
	lost  map[string]pod.Exit // dead containers whose end nobody told, until they are removed
}

// New checks the configuration and writes what the service reads. Run starts it.
func New(cfg Config) (*Podman, error) {
	p := &Podman{
		cfg: cfg, cgroup: findCgroups(cfg.CgroupParent), memory: handover.Dir(filepath.Join(cfg.RunDir, "oci")), starts: make(turns, execStarts),
		procs: map[string]*process{}, lost: map[string]pod.Exit{},
	}
	if err := p.openMemory(); err != nil {
		return nil, fmt.Errorf("configure podman: %w", err)
	}
	if err := p.writeConfig(); err != nil {
		return nil, fmt.Errorf("configure podman: %w", err)
	}
	return p, nil
}

// call is a context with the deadline of one and the connection of another. It
// remembers that the service went away under it.
type call struct {
	context.Context
	conn context.Context
	fate *fate
}

// fate is what became of the service under a call.
type fate struct {
	gone   atomic.Bool
	broken func() // called when an answer breaks off; may be nil
}

type callKey struct{}

func (c call) Value(key any) any {
	if key == (callKey{}) {
		return c.fate
	}
	if v := c.conn.Value(key); v != nil {
		return v
	}
	return c.Context.Value(key)
}

var errNoService = errors.New("the podman service is not up")

func (p *Podman) call(ctx context.Context) (context.Context, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil {
		return nil, fmt.Errorf("%w: %w", p.cfg.Unavailable, errNoService)
	}
	return call{ctx, p.conn, new(fate)}, nil
}

// once sends each call once: the bindings would repeat one whose connection
// broke, and what changed something may have happened already.
type once struct{ http.RoundTripper }

func (o once) RoundTrip(r *http.Request) (*http.Response, error) {
	f, _ := r.Context().Value(callKey{}).(*fate)
	if f != nil && f.gone.Load() {
		return nil, errNoService
	}
	res, err := o.RoundTripper.RoundTrip(r)
	switch {
	case f == nil:
	case err != nil:
		f.gone.Store(true)
	default:
		res.Body = &answer{res.Body, f}
	}
	return res, err
}

// answer is the body of an answer. One that breaks off is the service's going away.
type answer struct {
	io.ReadCloser
	fate *fate
}

func (a *answer) Read(b []byte) (int, error) {
	n, err := a.ReadCloser.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		a.fate.gone.Store(true)
		if a.fate.broken != nil {
			a.fate.broken()
		}
	}
	return n, err
}

// judge marks an error that is not the service's own answer: what the call did
// is not known.
func (p *Podman) judge(err error) error {
	if err == nil {
		return nil
	}
	if _, e := bindings.CheckResponseCode(err); e == nil {
		return err
	}
	return fmt.Errorf("%w: %w", p.cfg.Unavailable, err)
}

func is404(err error) bool {
	code, e := bindings.CheckResponseCode(err)
	return e == nil && code == 404
}

// Create implements nodeagent.Runtime.
func (p *Podman) Create(ctx context.Context, s pod.ContainerSpec) (string, error) {
	ctx, err := p.call(ctx)
	if err != nil {
		return "", err
	}
	if err := p.cgroup.setPodShares(s.Pod, s.Resources.PodCPUShares); err != nil {
		return "", err
	}
	gen := p.generate(s)
	r, err := containers.CreateWithSpec(ctx, gen, nil)
	if err != nil && nameTaken(err) {
		if err := p.freeName(ctx, s.Name); err != nil {
			return "", fmt.Errorf("name %s is taken: %w", s.Name, err)
		}
		r, err = containers.CreateWithSpec(ctx, gen, nil)
	}
	switch {
	case err == nil:
		return r.ID, p.handOver(ctx, r.ID, s)
	case noImage(err):
		return "", fmt.Errorf("%w: %s", p.cfg.NoImage, s.Image)
	default:
		return "", p.blame(err, false)
	}
}

// handOver leaves a new container's environment where it is looked for at its
// start. Without, there is no container.
func (p *Podman) handOver(ctx context.Context, id string, s pod.ContainerSpec) error {
	err := p.leaveProcess(id, s)
	if err != nil {
		err = errors.Join(fmt.Errorf("keep the environment in memory: %w", err), p.Remove(ctx, id))
	}
	return err
}

func nameTaken(err error) bool { return strings.Contains(err.Error(), "is already in use") }

func noImage(err error) bool {
	// Podman 4.3 answers this with code 500: only the text tells it apart.
	return strings.Contains(err.Error(), "image not known") || strings.Contains(err.Error(), "no such image")
}

// freeName removes a container that does not run and holds a name we need.
func (p *Podman) freeName(ctx context.Context, name string) error {
	c, err := inspect(ctx, name)
	if is404(err) {
		// A create cut short left it in the storage alone.
		return p.Remove(ctx, name)
	}
	if err != nil {
		return p.judge(err)
	}
	if c.Config == nil || c.State == nil || c.Config.Labels[pod.LabelNode] != string(p.cfg.Node) {
		return errors.New("by a container that is not ours")
	}
	if c.State.Pid > 0 && alive(c.State.Pid, c.ID) {
		return errors.New("by a container that runs")
	}
	return p.Remove(ctx, c.ID)
}

func (p *Podman) generate(s pod.ContainerSpec) *specgen.SpecGenerator {
	gen := specgen.NewSpecGenerator(s.Image, false)
	gen.Name = s.Name
	gen.Labels = s.Labels
	// The environment, and what of it is in the arguments, Podman would write to
	// disk: it gets there by handOver.
	gen.Entrypoint, gen.Command = s.Command, s.Args
	if s.Shown != nil {
		gen.Entrypoint, gen.Command = s.Shown[:len(s.Command)], s.Shown[len(s.Command):]
	}
	if len(s.Command) > 0 && s.Args == nil {
		gen.Command = []string{}
	}
	if s.WorkingDir != "" {
		gen.WorkDir = "/" // Podman refuses one that is missing: the real one gets there by handOver too
	}
	gen.RestartPolicy = "no"
	gen.Systemd = "false"
	gen.SdNotifyMode = "ignore"
	gen.UseImageHosts, gen.UseImageResolvConf = true, true
	gen.CgroupParent = p.cgroup.pod(s.Pod)
	gen.LogConfiguration = &specgen.LogConfig{Driver: "k8s-file", Path: s.LogPath, Size: logBytes}
	gen.NetNS = joined(s.Sandbox.Net)
	gen.IpcNS = joined(s.Sandbox.IPC)
	gen.UtsNS = joined(s.Sandbox.UTS)
	gen.Networks = map[string]nettypes.PerNetworkOptions{}
	for _, m := range s.Mounts {
		gen.Mounts = append(gen.Mounts, mount(m))
	}
	gen.ResourceLimits = limits(s.Resources)
	gen.OOMScoreAdj = &s.Resources.OOMScoreAdj
	gen.User = s.Security.User
	gen.Groups = s.Security.Groups
	gen.CapAdd, gen.CapDrop = s.Security.CapAdd, s.Security.CapDrop
	gen.Privileged = s.Security.Privileged
	gen.ReadOnlyFilesystem = s.Security.ReadOnlyRoot
	gen.NoNewPrivileges = s.Security.NoNewPrivileges
	gen.SeccompProfilePath = seccompPath(s.Security.Seccomp, seccompWorks())
	return gen
}

// seccompPath is what Podman is told: "" for its own profile. A profile that somebody
// wrote is never left out.
func seccompPath(asked string, works bool) string {
	switch {
	case asked == "" && !works:
		return pod.Unconfined
	case asked == pod.RuntimeDefault:
		return ""
	}
	return asked
}

// joined is the namespace at path; without one (only tests) a private one.
func joined(path string) specgen.Namespace {
	if path == "" {
		return specgen.Namespace{NSMode: specgen.Private}
	}
	return specgen.Namespace{NSMode: specgen.Path, Value: path}
}

func mount(m pod.Mount) spec.Mount {
	options := []string{"rbind", "rw"}
	if m.ReadOnly {
		options[1] = "ro"
	}
	propagation := m.Propagation
	if propagation == "" {
		propagation = "rprivate"
	}
	return spec.Mount{Type: "bind", Source: m.Source, Destination: m.Target, Options: append(options, propagation)}
}

func limits(r pod.Resources) *spec.LinuxResources {
	out := &spec.LinuxResources{}
	if r.CPUShares > 0 || r.CPUQuota > 0 {
		out.CPU = &spec.LinuxCPU{}
		if r.CPUShares > 0 {
			out.CPU.Shares = &r.CPUShares
		}
		if r.CPUQuota > 0 {
			out.CPU.Quota, out.CPU.Period = &r.CPUQuota, &r.CPUPeriod
		}
	}
	if r.MemoryBytes > 0 {
		// Swap counts towards the limit: memory plus swap is the same number.
		out.Memory = &spec.LinuxMemory{Limit: &r.MemoryBytes, Swap: &r.MemoryBytes}
	}
	return out
}

// Start implements nodeagent.Runtime.
func (p *Podman) Start(ctx context.Context, id string) error {
	ctx, err := p.call(ctx)
	if err != nil {
		return err
	}
	return p.blame(containers.Start(ctx, id, nil), true)
}

// Remove implements nodeagent.Runtime.
func (p *Podman) Remove(ctx context.Context, id string) error {
	ctx, err := p.call(ctx)
	if err != nil {
		return err
	}
	_, err = containers.Remove(ctx, id, new(containers.RemoveOptions).WithForce(true).WithVolumes(true).WithTimeout(0))
	unknown := is404(err)
	if err != nil && !unknown {
		return p.judge(err)
	}
	if err := p.cgroup.endContainer(ctx, id); err != nil {
		return fmt.Errorf("processes of container %s: %w", id, err)
	}
	if unknown {
		if err := p.dropState(ctx, id); err != nil {
			return err
		}
	}
	if err := p.dropProcess(id); err != nil {
		return fmt.Errorf("environment of container %s: %w", id, err)
	}
	p.forget(id)
	return nil
}

// ReleasePod implements nodeagent.Runtime.
func (p *Podman) ReleasePod(ctx context.Context, uid types.UID) error {
	return p.cgroup.release(ctx, uid)
}

// List implements nodeagent.Runtime.
func (p *Podman) List(ctx context.Context) ([]pod.Found, error) {
	ctx, err := p.call(ctx)
	if err != nil {
		return nil, err
	}
	listed, err := containers.List(ctx, new(containers.ListOptions).WithAll(true).
		WithFilters(map[string][]string{"label": {pod.LabelNode + "=" + string(p.cfg.Node)}}))
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", p.judge(err))
	}
	populated, err := p.cgroup.populated()
	if err != nil {
		return nil, fmt.Errorf("list cgroups: %w", err)
	}
	out := make([]pod.Found, 0, len(listed))
	known := map[string]bool{}
	for _, c := range listed {
		known[c.ID] = true
		f := pod.Found{
			ID: c.ID, Labels: c.Labels, Pod: types.UID(c.Labels[pod.LabelPodUID]), ImageID: imageID(c.ImageID),
			CreatedAt: c.Created, StartedAt: time.Unix(c.StartedAt, 0), FinishedAt: time.Unix(c.ExitedAt, 0), ExitCode: c.ExitCode,
		}
		switch c.State {
		case "running", "paused", "stopping":
			f.State = pod.StateRunning
			if !alive(c.Pid, c.ID) {
				exit := p.exit(ctx, c.ID)
				f.State, f.ExitCode, f.FinishedAt = pod.StateExited, exit.Code, exit.FinishedAt
			} else {
				f.Unmonitored = p.unmonitored(c.ID)
			}
		case "exited", "stopped":
			f.State = pod.StateExited
		default:
			f.State = pod.StateCreated
			if lives(populated[c.ID].pids) {
				// Podman took a new /run for a reboot: it forgot what lives.
				f.State = pod.StateUnknown
			}
		}
		out = append(out, f)
	}
	for id, g := range populated {
		if !known[id] {
			out = append(out, pod.Found{ID: id, Pod: g.pod, State: pod.StateStray})
		}
	}
	slices.SortFunc(out, func(a, b pod.Found) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// unmonitored reports whether a container that is waited for lives without its
// conmon.
func (p *Podman) unmonitored(id string) bool {
	p.mu.Lock()
	held := p.procs[id]
	p.mu.Unlock()
	return held != nil && !held.monitored()
}

func imageID(id string) string {
	if id == "" || strings.HasPrefix(id, "sha256:") {
		return id
	}
	return "sha256:" + id
}

// Image implements nodeagent.Runtime.
func (p *Podman) Image(ctx context.Context, ref string) (pod.Image, error) {
	ctx, err := p.call(ctx)
	if err != nil {
		return pod.Image{}, err
	}
	r, err := images.GetImage(ctx, ref, nil)
	if is404(err) {
		return pod.Image{}, fmt.Errorf("%w: %s", p.cfg.NoImage, ref)
	}
	if err != nil {
		return pod.Image{}, p.judge(err)
	}
	if r.ImageData == nil {
		return pod.Image{}, fmt.Errorf("%w: it says nothing of image %s", p.cfg.Unavailable, ref)
	}
	return pod.Image{ID: imageID(r.ID), Names: append(r.RepoTags, r.RepoDigests...), Bytes: r.Size, User: r.User}, nil
}

// Images implements nodeagent.Runtime.
func (p *Podman) Images(ctx context.Context) ([]pod.Image, error) {
	ctx, err := p.call(ctx)
	if err != nil {
		return nil, err
	}
	list, err := images.List(ctx, nil)
	if err != nil {
		return nil, p.judge(err)
	}
	out := make([]pod.Image, 0, len(list))
	for _, i := range list {
		if i == nil {
			continue
		}
		out = append(out, pod.Image{ID: imageID(i.ID), Names: append(i.RepoTags, i.RepoDigests...), Bytes: i.Size})
	}
	return out, nil
}

func (p *Podman) socket() string { return filepath.Join(p.cfg.RunDir, "podman.sock") }

var seccompWorks = sync.OnceValue(func() bool {
	status, err := os.ReadFile("/proc/self/status")
	return err == nil && strings.Contains(string(status), "\nSeccomp:")
})
