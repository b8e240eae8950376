package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent"
	"fairlead/nodeagent/pod"
)

// Fake is a container runtime in memory. Its containers behave as their
// arguments say, like program's, and it refuses what Podman refuses.
type Fake struct {
	mu         sync.Mutex
	containers map[string]*fakeContainer
	images     map[string]pod.Image
	next       int
	calls      []string
	fail       map[string]error
	lose       map[string]int
}

type fakeContainer struct {
	spec    pod.ContainerSpec
	state   pod.State
	exit    pod.Exit
	created time.Time
	started time.Time
	died    chan struct{}
}

var _ nodeagent.Runtime = (*Fake)(nil)

// NewFake is a runtime with these images present.
func NewFake(images ...string) *Fake {
	f := &Fake{containers: map[string]*fakeContainer{}, images: map[string]pod.Image{}, fail: map[string]error{}, lose: map[string]int{}}
	for _, name := range images {
		f.images[name] = pod.Image{ID: "sha256:" + strings.Repeat("0", 56) + fmt.Sprintf("%08x", len(f.images)), Names: []string{name}, Bytes: 1 << 20}
	}
	return f
}

// Fail lets every call of a method fail with err from now on; nil ends it.
func (f *Fake) Fail(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail[method] = err
}

// Lose lets the next n calls of create or start take effect and answer
// ErrUnavailable, as a service that is killed in between does.
func (f *Fake) Lose(method string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lose[method] = n
}

// lost tells whether the answer of this call gets lost; f.mu is held.
func (f *Fake) lost(method string) error {
	if f.lose[method] == 0 {
		return nil
	}
	f.lose[method]--
	return nodeagent.ErrUnavailable
}

// Calls lists what changed something so far, as "create NAME" and the like.
func (f *Fake) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Die ends a running container's process from outside.
func (f *Fake) Die(name string, e pod.Exit) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.containers {
		if c.spec.Name == name && c.state == pod.StateRunning {
			c.die(e)
		}
	}
}

// Running lists the names of running containers, sorted.
func (f *Fake) Running() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, c := range f.containers {
		if c.state == pod.StateRunning {
			out = append(out, c.spec.Name)
		}
	}
	slices.Sort(out)
	return out
}

// Spec is the specification of the container of that name, live or dead.
func (f *Fake) Spec(name string) (pod.ContainerSpec, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.containers {
		if c.spec.Name == name {
			return c.spec, true
		}
	}
	return pod.ContainerSpec{}, false
}

func (c *fakeContainer) die(e pod.Exit) {
	if e.FinishedAt.IsZero() {
		e.FinishedAt = time.Now()
	}
	c.state, c.exit = pod.StateExited, e
	close(c.died)
}

// enter notes a call; the caller holds no lock before and holds it after.
func (f *Fake) enter(ctx context.Context, method, what string) error {
	f.mu.Lock()
	if err := errors.Join(ctx.Err(), f.fail[method]); err != nil {
		return err
	}
	if what != "" {
		f.calls = append(f.calls, method+" "+what)
	}
	return nil
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
		out = append(out, pod.Found{
			ID: id, Labels: c.spec.Labels, Pod: c.spec.Pod, State: c.state, ImageID: f.images[c.spec.Image].ID,
			CreatedAt: c.created, StartedAt: c.started, FinishedAt: c.exit.FinishedAt, ExitCode: c.exit.Code,
		})
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
	for id, c := range f.containers {
		if c.spec.Name != s.Name {
			continue
		}
		if c.state == pod.StateRunning {
			return "", fmt.Errorf("name %s is taken by a container that runs", s.Name)
		}
		delete(f.containers, id)
	}
	f.next++
	id := fmt.Sprintf("%064x", f.next)
	f.containers[id] = &fakeContainer{spec: s, state: pod.StateCreated, created: time.Now(), died: make(chan struct{})}
	return id, f.lost("create")
}

// Start implements nodeagent.Runtime.
func (f *Fake) Start(ctx context.Context, id string) error {
	f.mu.Lock()
	name := id
	if c := f.containers[id]; c != nil {
		name = c.spec.Name
	}
	f.mu.Unlock()
	err := f.enter(ctx, "start", name)
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	c := f.containers[id]
	if c == nil {
		return errors.New("no such container")
	}
	if len(c.spec.Command) > 0 && c.spec.Command[0] != "/program" {
		return errors.New("executable file not found")
	}
	c.state, c.started = pod.StateRunning, time.Now()
	if args := c.arguments(); len(args) > 0 {
		switch args[0] {
		case "exit":
			code, _ := strconv.Atoi(args[1])
			c.die(pod.Exit{Code: int32(code)})
		case "print", "env", "cat":
			c.die(pod.Exit{})
		case "eat":
			c.die(pod.Exit{Code: 137, OOMKilled: true})
		}
	}
	return f.lost("start")
}

func (c *fakeContainer) arguments() []string {
	if len(c.spec.Command) > 0 {
		return append(slices.Clone(c.spec.Command[1:]), c.spec.Args...)
	}
	return c.spec.Args
}

// Wait implements nodeagent.Runtime.
func (f *Fake) Wait(ctx context.Context, id string) (pod.Exit, error) {
	f.mu.Lock()
	c := f.containers[id]
	f.mu.Unlock()
	if c == nil {
		return pod.Exit{Code: 137, Unknown: true, FinishedAt: time.Now()}, nil
	}
	select {
	case <-c.died:
	case <-ctx.Done():
		return pod.Exit{}, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return c.exit, nil
}

// Signal implements nodeagent.Runtime.
func (f *Fake) Signal(ctx context.Context, id string, s syscall.Signal) error {
	f.mu.Lock()
	name := id
	if c := f.containers[id]; c != nil {
		name = c.spec.Name
	}
	f.mu.Unlock()
	what := "SIGTERM"
	if s == syscall.SIGKILL {
		what = "SIGKILL"
	}
	err := f.enter(ctx, "signal", name+" "+what)
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	c := f.containers[id]
	if c == nil || c.state != pod.StateRunning {
		return nil
	}
	args := c.arguments()
	switch {
	case s == syscall.SIGKILL:
		c.die(pod.Exit{Code: 137})
	case len(args) > 0 && args[0] == "stubborn":
	default:
		c.die(pod.Exit{Code: 0})
	}
	return nil
}

// Remove implements nodeagent.Runtime.
func (f *Fake) Remove(ctx context.Context, id string) error {
	f.mu.Lock()
	name := id
	if c := f.containers[id]; c != nil {
		name = c.spec.Name
	}
	f.mu.Unlock()
	err := f.enter(ctx, "remove", name)
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	if c := f.containers[id]; c != nil && c.state == pod.StateRunning {
		c.die(pod.Exit{Code: 137})
	}
	delete(f.containers, id)
	return nil
}

// ReleasePod implements nodeagent.Runtime.
func (f *Fake) ReleasePod(ctx context.Context, uid types.UID) error {
	err := f.enter(ctx, "release", string(uid))
	defer f.mu.Unlock()
	return err
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

// Pull implements nodeagent.Runtime: what is present can be had, all else cannot.
func (f *Fake) Pull(ctx context.Context, ref string) (pod.Image, error) {
	err := f.enter(ctx, "pull", ref)
	defer f.mu.Unlock()
	if err != nil {
		return pod.Image{}, err
	}
	if i, ok := f.images[ref]; ok {
		return i, nil
	}
	return pod.Image{}, fmt.Errorf("registry has no %s", ref)
}

// Exec implements nodeagent.Runtime.
func (f *Fake) Exec(ctx context.Context, id string, command []string) (pod.ExecResult, error) {
	err := f.enter(ctx, "exec", "")
	c := f.containers[id]
	f.mu.Unlock()
	if err != nil {
		return pod.ExecResult{}, err
	}
	if c == nil || c.state != pod.StateRunning {
		return pod.ExecResult{}, errors.New("the container does not run")
	}
	if len(command) < 2 || command[0] != "/program" {
		return pod.ExecResult{Code: 127, Output: "executable file not found"}, nil
	}
	switch command[1] {
	case "exit":
		code, _ := strconv.Atoi(command[2])
		return pod.ExecResult{Code: code}, nil
	case "print":
		return pod.ExecResult{Output: strings.Join(command[2:], "\n") + "\n"}, nil
	case "wait":
		<-ctx.Done()
		return pod.ExecResult{}, ctx.Err()
	}
	return pod.ExecResult{Code: 64}, nil
}
