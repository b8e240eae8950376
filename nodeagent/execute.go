package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/dirfd"
	"fairlead/nodeagent/pod"
	"fairlead/schema"
)

// Deadlines of single steps. A runtime that hangs must cost a step, not the agent.
const (
	callTimeout  = 10 * time.Second
	startTimeout = 60 * time.Second
	pullTimeout  = 10 * time.Minute
)

// Executor does operations. Several goroutines use it, one pod at a time each.
type Executor struct {
	runtime Runtime
	network Network
	volumes Volumes
	dirs    podDirs
	resolv  string // the node's own resolver configuration, a path
	now     func() time.Time
	fit     fitness
	// profiles is where the node's administrator puts seccomp profiles.
	profiles string
	unsafe   []string // Config.UnsafeSysctls

	mu   sync.Mutex
	made map[types.UID]pod.Sandbox // what this life of the agent has made or adopted
}

// NewExecutor makes the executor of one life of an agent.
func NewExecutor(cfg Config, now func() time.Time) *Executor {
	cfg = cfg.withDefaults()
	return &Executor{
		runtime: cfg.Runtime, network: cfg.Network, volumes: cfg.Volumes, dirs: podDirs(PodsDir(cfg.Dir)),
		resolv: cfg.ResolvConf, profiles: filepath.Join(cfg.Dir, "seccomp"), unsafe: cfg.UnsafeSysctls, now: now, fit: fitness{checks: cfg.Checks}, made: map[types.UID]pod.Sandbox{},
	}
}

// Step does the next operation of a task that has one; more tells whether
// another is to follow. A pod whose sandbox or volumes could not be made goes no
// further.
func (x *Executor) Step(ctx context.Context, t *Task) (r Result, more bool) {
	op := t.ops[0]
	t.ops = t.ops[1:]
	r = x.do(ctx, *t, op)
	r.op, r.at = op, x.now()
	r = x.fit.excuse(ctx, r)
	if r.err != nil && (op.Kind == pod.CreateSandbox || op.Kind == pod.PrepareVolumes) {
		t.ops = nil
	}
	return r, len(t.ops) > 0
}

func (x *Executor) do(ctx context.Context, t Task, op pod.Operation) Result {
	switch op.Kind {
	case pod.CreateSandbox:
		return x.createSandbox(t)
	case pod.PrepareVolumes:
		return x.prepareVolumes(t)
	case pod.PullImage:
		return x.findImage(ctx, t, op)
	case pod.StartContainer:
		return x.start(ctx, t, op)
	case pod.StopContainer:
		return x.signal(ctx, op, 0)
	case pod.KillContainer:
		return x.signal(ctx, op, syscall.SIGKILL)
	case pod.RemoveContainer:
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		return Result{err: x.runtime.Remove(ctx, op.ID), reason: schema.ReasonKill}
	case pod.RemoveSandbox:
		return Result{err: x.removeSandbox(ctx, op.Pod), reason: schema.ReasonKill}
	case pod.ForgetPod:
		return Result{err: dirfd.RemoveAll(x.dirs.pod(op.Pod)), reason: schema.ReasonKill}
	}
	panic(fmt.Sprintf("nodeagent: no such operation: %q", op.Kind))
}

func (x *Executor) createSandbox(t Task) Result {
	fail := func(err error) Result {
		return Result{err: err, reason: nodes(err, missing(err, schema.ReasonSandbox))}
	}
	ip, err := netip.ParseAddr(t.obs.IPs.First())
	if err != nil {
		return fail(fmt.Errorf("pod address: %w", err))
	}
	if err := x.writeFiles(t); err != nil {
		return fail(err)
	}
	config, err := pod.SandboxOf(t.wanted.Pod, ip, t.cluster.Domain, x.unsafe)
	if err != nil {
		return fail(err)
	}
	sandbox, err := x.network.CreateSandbox(config)
	if err != nil {
		return fail(fmt.Errorf("create sandbox: %w", err))
	}
	x.mu.Lock()
	x.made[t.obs.UID] = sandbox
	x.mu.Unlock()
	return Result{}
}

// writeFiles makes the pod's hosts, hostname and resolv.conf. They are bound
// into containers, so an existing file keeps its inode: it is rewritten in
// place and only where the content differs.
func (x *Executor) writeFiles(t Task) error {
	dir := x.dirs.files(t.obs.UID)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("pod files: %w", err)
	}
	node, err := os.ReadFile(x.resolv)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("pod files: %w", err)
	}
	p := t.wanted.Pod
	host, err := pod.SandboxHostname(p, t.cluster.Domain)
	if err != nil {
		return fmt.Errorf("pod files: %w", err)
	}
	for name, content := range map[string]string{
		"hosts":       pod.Hosts(p, t.obs.IPs.First(), t.cluster),
		"hostname":    host + "\n",
		"resolv.conf": pod.ResolvConf(p, t.cluster, string(node)),
	} {
		path := filepath.Join(dir, name)
		if shows(path, content) {
			continue
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return fmt.Errorf("pod files: %w", err)
		}
	}
	return nil
}

// shows reports whether a file has that content. A container may have made it
// longer than memory.
func shows(path, content string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	have, err := io.ReadAll(io.LimitReader(f, int64(len(content))+1))
	return err == nil && string(have) == content
}

func (x *Executor) prepareVolumes(t Task) Result {
	if err := x.volumes.Prepare(t.wanted.Pod, t.data, t.place); err != nil {
		return Result{err: fmt.Errorf("prepare volumes: %w", err), reason: nodes(err, missing(err, schema.ReasonMount))}
	}
	return Result{data: t.wanted.Data}
}

// missing is the reason of a ConfigMap, Secret or key that is not there or cannot be
// used, which a commit corrects, and otherwise the other one.
func missing(err error, otherwise string) string {
	if errors.As(err, new(pod.MissingError)) || errors.As(err, new(pod.UnusableError)) {
		return schema.ReasonContainerConfig
	}
	return otherwise
}

func (x *Executor) findImage(ctx context.Context, t Task, op pod.Operation) Result {
	policy := corev1.PullIfNotPresent
	if c := containerSpec(t.wanted, op.Container); c != nil && c.ImagePullPolicy != "" {
		policy = c.ImagePullPolicy
	}
	local := schema.LocalImage(op.Image)
	if policy != corev1.PullAlways || local {
		look, cancel := context.WithTimeout(ctx, callTimeout)
		image, err := x.runtime.Image(look, op.Image)
		cancel()
		switch {
		case err == nil:
			return Result{imageID: image.ID, message: fmt.Sprintf("container image %q already present on the node", op.Image)}
		case !errors.Is(err, ErrNoImage):
			return Result{err: fmt.Errorf("look for image %s: %w", op.Image, err), reason: schema.ReasonNodeError}
		case policy == corev1.PullNever:
			return Result{err: x.notHere(t, op.Image, "its imagePullPolicy is Never"), reason: schema.ReasonErrImageNeverPull}
		case local:
			return Result{err: x.notHere(t, op.Image, "its name has no registry"), reason: schema.ReasonErrImageNeverPull}
		}
	}
	pull, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	began := x.now()
	image, err := x.pull(pull, t, op.Image)
	if err != nil {
		return Result{err: fmt.Errorf("pull image %s: %w", op.Image, err), reason: pullReason(err)}
	}
	return Result{imageID: image.ID, message: fmt.Sprintf("pulled image %q in %s", op.Image, x.now().Sub(began).Round(time.Millisecond))}
}

// pull asks the registry as whom the pod's imagePullSecrets say, one after the other, and
// then as the node. Many registries say of what they do not show that it does not exist.
func (x *Executor) pull(ctx context.Context, t Task, image string) (pod.Image, error) {
	all, unusable := pod.CredentialsFor(t.wanted.Pod, image, t.data)
	var refused error
	for _, as := range append(all, pod.Credential{}) {
		got, err := x.runtime.Pull(ctx, image, as)
		if err == nil || !errors.Is(err, ErrDenied) && !errors.Is(err, ErrNoImage) {
			return got, err
		}
		if refused == nil {
			refused = err // what the pod's own credentials are answered says more
		}
	}
	switch {
	case len(unusable) > 0:
		refused = fmt.Errorf("%w (imagePullSecrets: no credentials are in Secret %s)", refused, strings.Join(unusable, ", "))
	case len(all) > 0:
		refused = fmt.Errorf("%w (asked with %d credentials of the pod's imagePullSecrets, then as the node)", refused, len(all))
	case len(t.wanted.Pod.Spec.ImagePullSecrets) > 0:
		refused = fmt.Errorf("%w (the pod's imagePullSecrets have no credentials for this registry)", refused)
	}
	return pod.Image{}, refused
}

// exhausted are the errors of a node that has run out of something.
var exhausted = []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EIO}

// nodes is the reason of a step that failed because of the node, and otherwise the
// other one.
func nodes(err error, otherwise string) string {
	if errors.Is(err, ErrNode) || slices.ContainsFunc(exhausted, func(e error) bool { return errors.Is(err, e) }) {
		return schema.ReasonNodeError
	}
	return otherwise
}

func (x *Executor) notHere(t Task, image, because string) error {
	return fmt.Errorf("image %s is not on node %s, and %s: load it there, or push it to a registry and name that", image, t.place.Node, because)
}

// pullReason tells whose fault it is that an image was not pulled.
func pullReason(err error) string {
	switch {
	case errors.Is(err, ErrNode):
		return schema.ReasonNodeError
	case errors.Is(err, ErrDenied):
		return schema.ReasonRegistryDenied
	case errors.Is(err, ErrNoImage):
		return schema.ReasonErrImagePull
	}
	return schema.ReasonRegistryUnavailable
}

func (x *Executor) start(ctx context.Context, t Task, op pod.Operation) Result {
	c := containerSpec(t.wanted, op.Container)
	if c == nil {
		panic(fmt.Sprintf("nodeagent: pod %s has no container %s", op.Pod, op.Container))
	}
	c, err := pod.WithSubPaths(t.wanted.Pod, c, t.data, t.place)
	if err != nil {
		return Result{err: err, reason: missing(err, schema.ReasonContainerCreate)}
	}
	sources, err := x.volumes.Bind(t.wanted.Pod, c)
	if err != nil {
		return Result{err: fmt.Errorf("start container %s: %w", op.Container, err), reason: nodes(err, schema.ReasonContainerCreate)}
	}
	// The container has mounts of its own by then, or never will. What stays
	// bound goes with the pod's next start or its end, which tell if it cannot.
	defer func() { _ = x.volumes.Unbind(op.Pod) }()
	image, err := x.askOfImage(ctx, t, c, op.Image)
	if errors.Is(err, ErrNoImage) {
		return Result{err: err}
	}
	if err != nil {
		return Result{err: fmt.Errorf("look at image %s: %w", op.Image, err), reason: schema.ReasonNodeError}
	}
	logPath := x.dirs.log(op.Pod, op.Container, op.Attempt)
	host, err := pod.SandboxHostname(t.wanted.Pod, t.cluster.Domain)
	if err != nil {
		return Result{err: err, reason: missing(err, schema.ReasonContainerCreate)}
	}
	spec, err := pod.BuildSpec(t.wanted, c, op.Attempt, pod.Frame{
		Cluster: t.cluster.ID, Host: host, Place: t.place, Sandbox: x.sandbox(op.Pod), Sources: sources,
		Files: x.dirs.files(op.Pod), LogPath: logPath, Message: x.dirs.message(op.Pod, op.Container, op.Attempt), Data: t.data,
		ImageUser: image.User, Profiles: x.profiles,
	})
	if err != nil {
		return Result{err: err, reason: missing(err, schema.ReasonContainerCreate)}
	}
	if image.ID != "" {
		spec.Image = image.ID // the one that was looked at, whatever its name comes to mean
	}
	if err := errors.Join(x.makeLog(op, logPath), x.makeMessage(op)); err != nil {
		return Result{err: err, reason: schema.ReasonNodeError}
	}
	r := x.launch(ctx, op, spec)
	r.message = pod.LinksLeftOut(t.wanted.Pod, t.data.Services)
	return r
}

// askOfImage is a container's image, where whom it runs as matters, and no image
// elsewhere.
func (x *Executor) askOfImage(ctx context.Context, t Task, c *corev1.Container, image string) (pod.Image, error) {
	if !pod.AsksOfImage(t.wanted.Pod, c) {
		return pod.Image{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return x.runtime.Image(ctx, image)
}

// launch makes a container and runs it.
func (x *Executor) launch(ctx context.Context, op pod.Operation, spec pod.ContainerSpec) Result {
	create, cancel := context.WithTimeout(ctx, callTimeout)
	id, err := x.runtime.Create(create, spec)
	cancel()
	if errors.Is(err, ErrNoImage) {
		return Result{err: err}
	}
	if err != nil {
		return Result{err: fmt.Errorf("create container %s: %w", op.Container, err), reason: nodes(err, schema.ReasonContainerCreate)}
	}
	begin, cancel := context.WithTimeout(ctx, startTimeout)
	err = x.runtime.Start(begin, id)
	cancel()
	if errors.Is(err, ErrUnavailable) {
		return Result{err: fmt.Errorf("start container %s: %w", op.Container, err)}
	}
	if err != nil {
		remove, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		err = errors.Join(err, x.runtime.Remove(remove, id))
		return Result{err: fmt.Errorf("start container %s: %w", op.Container, err), reason: nodes(err, schema.ReasonContainerRun)}
	}
	return Result{id: id}
}

// makeLog makes room for an attempt's log; of older ones the last is kept.
func (x *Executor) makeLog(op pod.Operation, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make log: %w", err)
	}
	if op.Attempt >= 2 {
		if err := os.Remove(x.dirs.log(op.Pod, op.Container, op.Attempt-2)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove old log: %w", err)
		}
	}
	return nil
}

// makeMessage makes the file in which an attempt may leave what is to be said of its
// end, empty, whoever it runs as; of older ones the last is kept. A file that an
// attempt cut short left may still be shown to its container.
func (x *Executor) makeMessage(op pod.Operation) error {
	path := x.dirs.message(op.Pod, op.Container, op.Attempt)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make termination message: %w", err)
	}
	for _, old := range []string{path, x.dirs.message(op.Pod, op.Container, op.Attempt-2)} {
		if err := os.Remove(old); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove old termination message: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fmt.Errorf("make termination message: %w", err)
	}
	if err := errors.Join(f.Chmod(0o666), f.Close()); err != nil {
		return fmt.Errorf("make termination message: %w", err)
	}
	return nil
}

func (x *Executor) signal(ctx context.Context, op pod.Operation, s syscall.Signal) Result {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := x.runtime.Signal(ctx, op.ID, s); err != nil {
		return Result{err: fmt.Errorf("signal container %s: %w", op.Container, err), reason: schema.ReasonKill}
	}
	return Result{}
}

func (x *Executor) removeSandbox(ctx context.Context, uid types.UID) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := x.runtime.ReleasePod(ctx, uid); err != nil {
		return fmt.Errorf("release pod: %w", err)
	}
	if err := x.volumes.Remove(uid); err != nil {
		return fmt.Errorf("remove volumes: %w", err)
	}
	if err := x.network.DeleteSandbox(uid); err != nil {
		return fmt.Errorf("delete sandbox: %w", err)
	}
	x.mu.Lock()
	delete(x.made, uid)
	x.mu.Unlock()
	return nil
}

func (x *Executor) sandbox(uid types.UID) pod.Sandbox {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.made[uid]
}
