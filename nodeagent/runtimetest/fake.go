package runtimetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent"
	"fairlead/nodeagent/pod"
)

// Fake is a container runtime in memory. Its containers behave as their
// arguments say, like program's, and it refuses what Podman refuses. The lies
// it can be made to tell are Podman's (lies.go). Container IDs count up from 1.
type Fake struct {
	// Now is the clock, by default time.Now. Stall is how a call waits that
	// found the service hanging: by default until its context ends or gone is
	// closed, when the service is replaced. Who drives virtual time sets both
	// before the first call.
	Now   func() time.Time
	Stall func(ctx context.Context, gone <-chan struct{})

	mu         sync.Mutex
	containers map[string]*fakeContainer
	images     map[string]pod.Image
	private    map[string]pod.Credential // whom the registry gives an image
	next       int
	calls      []string
	fail       map[string]error
	lose       map[string]int
	kill       map[string]int
	taken      map[string]bool // names that containers of somebody else have
	service    service
	gone       chan struct{} // closed when the service of now is gone
	twice      []string
}

type service int

const (
	serving service = iota
	hanging
	down
)

type fakeContainer struct {
	spec    pod.ContainerSpec
	state   pod.State // the kernel's truth: created, running or exited
	exit    pod.Exit
	created time.Time
	started time.Time
	died    chan struct{}
	held    bool // somebody waits for it: its process and OOM counter are held
	stray   bool // Podman does not have it
	forgot  bool // Podman takes it for created
	orphan  bool // its conmon is dead
}

var _ nodeagent.Runtime = (*Fake)(nil)

// NewFake is a runtime with these images present.
func NewFake(images ...string) *Fake {
	f := &Fake{
		Now: time.Now, Stall: untilGone,
		containers: map[string]*fakeContainer{}, images: map[string]pod.Image{}, private: map[string]pod.Credential{}, fail: map[string]error{},
		lose: map[string]int{}, kill: map[string]int{}, taken: map[string]bool{}, gone: make(chan struct{}),
	}
	for _, name := range images {
		f.have(name)
	}
	return f
}

func (f *Fake) have(image string) {
	f.images[image] = pod.Image{ID: "sha256:" + strings.Repeat("0", 56) + fmt.Sprintf("%08x", len(f.images)), Names: []string{image}, Bytes: 1 << 20}
}

// Private has the registry give an image to whoever asks with a credential, and to nobody
// else.
func (f *Fake) Private(image string, as pod.Credential) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.private[image] = as
}

func untilGone(ctx context.Context, gone <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-gone:
	}
}

// Calls lists what was to change something so far, as "create NAME" and the like.
func (f *Fake) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Die ends a running container's process from outside.
func (f *Fake) Die(name string, e pod.Exit) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.running(name); c != nil {
		f.die(c, e)
	}
}

// Running lists the names of the containers whose processes live, sorted,
// whatever Podman knows of them.
func (f *Fake) Running() []string {
	return f.names(func(c *fakeContainer) bool { return c.state == pod.StateRunning })
}

// Names lists the containers there are, strays included, sorted.
func (f *Fake) Names() []string {
	return f.names(func(*fakeContainer) bool { return true })
}

func (f *Fake) names(which func(*fakeContainer) bool) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []string{}
	for _, c := range f.containers {
		if which(c) {
			out = append(out, c.spec.Name)
		}
	}
	slices.Sort(out)
	return out
}

// Twice lists the containers that were started while an earlier attempt of the
// same container of the same pod lived.
func (f *Fake) Twice() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.twice)
}

// Spec is the specification of the container of that name, live or dead.
func (f *Fake) Spec(name string) (pod.ContainerSpec, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(f.containers)) {
		if c := f.containers[id]; c.spec.Name == name {
			return c.spec, true
		}
	}
	return pod.ContainerSpec{}, false
}

// running is the live container of a name, nil if there is none; f.mu is held.
func (f *Fake) running(name string) *fakeContainer {
	for _, c := range f.containers {
		if c.spec.Name == name && c.state == pod.StateRunning {
			return c
		}
	}
	return nil
}

// die ends a process that runs; f.mu is held.
func (f *Fake) die(c *fakeContainer, e pod.Exit) {
	if c.orphan {
		e.Code, e.Unknown = lostExit.Code, lostExit.Unknown
	}
	if e.FinishedAt.IsZero() {
		e.FinishedAt = f.Now()
	}
	c.state, c.exit = pod.StateExited, e
	close(c.died)
}

// lostExit is how a container ended of whose end nobody knows.
var lostExit = pod.Exit{Code: 128 + int32(syscall.SIGKILL), Unknown: true}

// enter begins a call: it takes f.mu, notes the call and meets what is in its
// way. The caller unlocks.
func (f *Fake) enter(ctx context.Context, method, what string) error {
	f.mu.Lock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", nodeagent.ErrUnavailable, err)
	}
	if err := f.fail[method]; err != nil {
		return err
	}
	if err := f.reach(ctx); err != nil {
		return err
	}
	if what != "" {
		f.calls = append(f.calls, method+" "+what)
	}
	return nil
}

// reach waits for the service's answer; f.mu is held but for the waiting.
func (f *Fake) reach(ctx context.Context) error {
	switch f.service {
	case down:
		return fmt.Errorf("%w: the service is not up", nodeagent.ErrUnavailable)
	case hanging:
		gone := f.gone
		f.mu.Unlock()
		f.Stall(ctx, gone)
		f.mu.Lock()
		return fmt.Errorf("%w: no answer", nodeagent.ErrUnavailable)
	}
	return nil
}

// name is what a call notes of a container.
func (f *Fake) name(id string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.containers[id]; c != nil && c.spec.Name != "" {
		return c.spec.Name
	}
	return id
}

// List implements nodeagent.Runtime.
func (f *Fake) List(ctx context.Context) ([]pod.Found, error) {
	err := f.enter(ctx, "list", "")
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	out := []pod.Found{}
	for _, id := range slices.Sorted(maps.Keys(f.containers)) {
		c := f.containers[id]
		live := c.state == pod.StateRunning
		if c.stray {
			if live {
				out = append(out, pod.Found{ID: id, Pod: c.spec.Pod, State: pod.StateStray})
			}
			continue
		}
		found := pod.Found{
			ID: id, Labels: c.spec.Labels, Pod: c.spec.Pod, State: c.state, ImageID: f.images[c.spec.Image].ID,
			CreatedAt: c.created, StartedAt: c.started, FinishedAt: c.exit.FinishedAt, ExitCode: c.exit.Code,
			Unmonitored: live && c.orphan && c.held,
		}
		switch {
		case c.forgot && live:
			found.State = pod.StateUnknown
		case c.forgot:
			found.State, found.FinishedAt, found.ExitCode = pod.StateCreated, time.Time{}, 0
		}
		out = append(out, found)
	}
	return out, nil
}

// Create implements nodeagent.Runtime.
func (f *Fake) Create(ctx context.Context, s pod.ContainerSpec) (string, error) {
	err := f.enter(ctx, "create", s.Name)
	defer f.mu.Unlock()
	if err != nil {
		return "", err
	}
	if _, ok := f.images[s.Image]; !ok {
		return "", fmt.Errorf("%w: %s", nodeagent.ErrNoImage, s.Image)
	}
	if f.taken[s.Name] {
		return "", fmt.Errorf("name %s is taken by a container that is not ours", s.Name)
	}
	for id, c := range f.containers {
		if c.spec.Name != s.Name || c.stray {
			continue
		}
		if c.state == pod.StateRunning && !c.forgot {
			return "", fmt.Errorf("name %s is taken by a container that runs", s.Name)
		}
		f.remove(id, c)
	}
	f.next++
	id := fmt.Sprintf("%064x", f.next)
	c := &fakeContainer{spec: s, state: pod.StateCreated, created: f.Now(), died: make(chan struct{})}
	f.containers[id] = c
	if f.killed("create") {
		f.run(c)
		c.stray = true
		return "", fmt.Errorf("%w: the service was killed", nodeagent.ErrUnavailable)
	}
	return id, f.lost("create")
}

// Start implements nodeagent.Runtime.
func (f *Fake) Start(ctx context.Context, id string) error {
	err := f.enter(ctx, "start", f.name(id))
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	c := f.containers[id]
	switch {
	case c == nil || c.stray:
		return errors.New("no such container")
	case c.state == pod.StateRunning && !c.forgot:
		return nil
	case len(c.spec.Command) > 0 && c.spec.Command[0] != "/program":
		return errors.New("executable file not found")
	}
	f.run(c)
	if f.killed("start") {
		c.stray = true
		return fmt.Errorf("%w: the service was killed", nodeagent.ErrUnavailable)
	}
	if args := c.arguments(); len(args) > 0 {
		switch args[0] {
		case "exit":
			code, _ := strconv.Atoi(args[1])
			f.die(c, pod.Exit{Code: int32(code)})
		case "say":
			if err := c.say(args[2]); err != nil {
				return err
			}
			code, _ := strconv.Atoi(args[1])
			f.die(c, pod.Exit{Code: int32(code)})
		case "print", "env", "cat":
			f.die(c, pod.Exit{})
		}
	}
	return f.lost("start")
}

// run starts a container's process; f.mu is held.
func (f *Fake) run(c *fakeContainer) {
	for _, other := range f.containers {
		same := other.spec.Pod == c.spec.Pod && other.spec.Labels[pod.LabelContainer] == c.spec.Labels[pod.LabelContainer]
		if same && other.state == pod.StateRunning {
			f.twice = append(f.twice, c.spec.Name)
			break
		}
	}
	c.state, c.started, c.died = pod.StateRunning, f.Now(), make(chan struct{})
	c.forgot, c.orphan, c.held = false, false, false
}

// say writes where a container sees its termination message.
func (c *fakeContainer) say(text string) error {
	for _, m := range c.spec.Mounts {
		if m.Target == corev1.TerminationMessagePathDefault {
			return os.WriteFile(m.Source, []byte(text), 0o666)
		}
	}
	return errors.New("no termination message is mounted")
}

func (c *fakeContainer) arguments() []string {
	if len(c.spec.Command) > 0 {
		return append(slices.Clone(c.spec.Command[1:]), c.spec.Args...)
	}
	return c.spec.Args
}

// Wait implements nodeagent.Runtime.
func (f *Fake) Wait(ctx context.Context, id string) (pod.Exit, error) {
	c, died, err := f.hold(ctx, id)
	if err != nil {
		return pod.Exit{}, err
	}
	if died != nil {
		select {
		case <-died:
		case <-ctx.Done():
			return pod.Exit{}, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended(c, died != nil), nil
}

// Ended is Wait for those who cannot block: ok is false where Wait would go on
// waiting.
func (f *Fake) Ended(ctx context.Context, id string) (exit pod.Exit, ok bool, err error) {
	c, died, err := f.hold(ctx, id)
	if err != nil {
		return pod.Exit{}, false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if died != nil && c.state == pod.StateRunning {
		return pod.Exit{}, false, nil
	}
	return f.ended(c, died != nil), true, nil
}

// hold takes hold of a container's process: died is closed with its end, nil
// when it was not alive to be held.
func (f *Fake) hold(ctx context.Context, id string) (c *fakeContainer, died <-chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c = f.containers[id]
	if c != nil && c.held {
		return c, c.died, nil
	}
	if err := f.reach(ctx); err != nil {
		return nil, nil, err
	}
	if c = f.containers[id]; c == nil || c.state != pod.StateRunning || c.forgot || c.stray {
		return c, nil, nil
	}
	c.held = true
	if args := c.arguments(); len(args) > 0 && args[0] == "eat" && c.spec.Resources.MemoryBytes > 0 {
		f.die(c, outOfMemory)
	}
	return c, c.died, nil
}

// ended is what is told of a dead container; f.mu is held. How it ended the
// service knows, that it was for lack of memory only who watched its cgroup.
func (f *Fake) ended(c *fakeContainer, watched bool) pod.Exit {
	lost := lostExit
	lost.FinishedAt = f.Now()
	if c == nil || c.state != pod.StateExited || c.forgot {
		return lost
	}
	c.held = false
	if f.service != serving && !c.exit.Unknown {
		c.exit.Code, c.exit.Unknown = lost.Code, true
	}
	e := c.exit
	e.OOMKilled = e.OOMKilled && watched
	return e
}

// Signal implements nodeagent.Runtime. The kernel delivers it: to a process that
// is held it gets through without the service.
func (f *Fake) Signal(ctx context.Context, id string, s syscall.Signal) error {
	what := f.name(id) + " SIGTERM"
	if s == syscall.SIGKILL {
		what = f.name(id) + " SIGKILL"
	}
	f.mu.Lock()
	c := f.containers[id]
	held := c != nil && c.held
	f.mu.Unlock()
	if held {
		f.mu.Lock()
		if err := f.fail["signal"]; err != nil {
			f.mu.Unlock()
			return err
		}
		f.calls = append(f.calls, "signal "+what)
	} else if err := f.enter(ctx, "signal", what); err != nil {
		f.mu.Unlock()
		return err
	}
	defer f.mu.Unlock()
	if c = f.containers[id]; c == nil || c.state != pod.StateRunning || (c.forgot || c.stray) && !c.held {
		return nil
	}
	args := c.arguments()
	switch {
	case s == syscall.SIGKILL:
		f.die(c, pod.Exit{Code: 137})
	case len(args) > 0 && args[0] == "stubborn":
	default:
		f.die(c, pod.Exit{Code: 0})
	}
	return f.lost("signal")
}

// Remove implements nodeagent.Runtime.
func (f *Fake) Remove(ctx context.Context, id string) error {
	err := f.enter(ctx, "remove", f.name(id))
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	if c := f.containers[id]; c != nil {
		f.remove(id, c)
	}
	return f.lost("remove")
}

// remove ends and drops a container; f.mu is held.
func (f *Fake) remove(id string, c *fakeContainer) {
	if c.state == pod.StateRunning {
		f.die(c, lostExit)
	}
	delete(f.containers, id)
}

// ReleasePod implements nodeagent.Runtime. It asks the kernel, not the service.
func (f *Fake) ReleasePod(ctx context.Context, uid types.UID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := errors.Join(ctx.Err(), f.fail["release"]); err != nil {
		return err
	}
	f.calls = append(f.calls, "release "+string(uid))
	for id, c := range f.containers {
		switch {
		case c.spec.Pod != uid:
		case c.stray:
			f.remove(id, c)
		case c.state == pod.StateRunning:
			f.die(c, lostExit)
		}
	}
	return f.lost("release")
}

// Image implements nodeagent.Runtime.
func (f *Fake) Image(ctx context.Context, ref string) (pod.Image, error) {
	err := f.enter(ctx, "image", "")
	defer f.mu.Unlock()
	if err != nil {
		return pod.Image{}, err
	}
	if i, ok := f.images[ref]; ok {
		return i, nil
	}
	return pod.Image{}, fmt.Errorf("%w: %s", nodeagent.ErrNoImage, ref)
}

// Images implements nodeagent.Runtime.
func (f *Fake) Images(ctx context.Context) ([]pod.Image, error) {
	err := f.enter(ctx, "images", "")
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	out := []pod.Image{}
	for _, name := range slices.Sorted(maps.Keys(f.images)) {
		out = append(out, f.images[name])
	}
	return out, nil
}

// Pull implements nodeagent.Runtime: what is present can be had, and what is private by
// whom it is for; all else cannot.
func (f *Fake) Pull(ctx context.Context, ref string, as pod.Credential) (pod.Image, error) {
	err := f.enter(ctx, "pull", ref)
	defer f.mu.Unlock()
	if err != nil {
		return pod.Image{}, err
	}
	if whose, ok := f.private[ref]; ok {
		if as != whose {
			return pod.Image{}, fmt.Errorf("%w: unauthorized", nodeagent.ErrDenied)
		}
		f.have(ref)
	}
	if i, ok := f.images[ref]; ok {
		return i, f.lost("pull")
	}
	return pod.Image{}, fmt.Errorf("%w: registry has no %s", nodeagent.ErrNoImage, ref)
}

// Exec implements nodeagent.Runtime.
func (f *Fake) Exec(ctx context.Context, id string, command []string, limit time.Duration) (pod.ExecResult, error) {
	err := f.enter(ctx, "exec", "")
	c := f.containers[id]
	live := c != nil && c.state == pod.StateRunning && !c.forgot && !c.stray
	f.mu.Unlock()
	if err != nil {
		return pod.ExecResult{}, err
	}
	if !live {
		return pod.ExecResult{}, errors.New("the container does not run")
	}
	if len(command) < 2 || command[0] != "/program" {
		return pod.ExecResult{Code: 127, Output: "executable file not found"}, nil
	}
	switch command[1] {
	case "exit":
		code, _ := strconv.Atoi(command[2])
		return pod.ExecResult{Code: code}, nil
	case "up":
		return pod.ExecResult{}, nil
	case "print":
		return pod.ExecResult{Output: strings.Join(command[2:], "\n") + "\n"}, nil
	case "pwd":
		return pod.ExecResult{Output: cmp.Or(c.spec.WorkingDir, "/") + "\n"}, nil
	case "wait":
		select {
		case <-ctx.Done():
			return pod.ExecResult{}, ctx.Err()
		case <-time.After(limit):
			return pod.ExecResult{TimedOut: true}, nil
		}
	}
	return pod.ExecResult{Code: 64}, nil
}
