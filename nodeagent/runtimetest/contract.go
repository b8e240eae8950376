// Package runtimetest holds container runtimes to one contract, and has a fake
// that keeps it. Only tests import it.
package runtimetest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent"
	"fairlead/nodeagent/pod"
)

// Subject is a runtime under test. Spec makes a container specification whose
// main process behaves as args say (see program).
type Subject struct {
	Runtime nodeagent.Runtime
	Image   string // present, and runs program
	Node    string
	Spec    func(name string, args ...string) pod.ContainerSpec

	// What may befall it. KillConmon kills the conmon of a running container.
	KillConmon func(t *testing.T, s pod.ContainerSpec, id string)
	// KillService kills what answers and returns when another answers.
	KillService func(t *testing.T)
	// Haunt puts a live process where the kernel has container id of a pod, as a
	// service leaves it that is killed amid a start.
	Haunt func(t *testing.T, uid types.UID, id string)
}

// Spec is what Subject.Spec gives before the runtime's own additions.
func Spec(node, image string, uid types.UID, name string, attempt int, args ...string) pod.ContainerSpec {
	return pod.ContainerSpec{
		Name: name, Image: image, Pod: uid, Args: args,
		Labels: map[string]string{
			pod.LabelNode: node, pod.LabelPodUID: string(uid), pod.LabelContainer: name, pod.LabelAttempt: strconv.Itoa(attempt),
		},
	}
}

// Contract runs the contract test.
func Contract(t *testing.T, s Subject) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	c := contract{s: s, ctx: ctx}
	t.Run("a container lives and dies", c.lifecycle)
	t.Run("exit codes", c.exitCodes)
	t.Run("SIGKILL", c.kill)
	t.Run("a taken name is taken over", c.takenName)
	t.Run("no image", c.noImage)
	t.Run("a command that is not there", c.noCommand)
	t.Run("waiting can be given up and taken up", c.waitAgain)
	t.Run("exec", c.exec)
	t.Run("a working directory", c.workingDir)
	t.Run("a termination message", c.message)
	t.Run("images", c.images)
	t.Run("what is gone is no error", c.gone)
	t.Run("what got no answer is unavailable", c.unanswered)
	t.Run("waiting for what never ran", c.waitCreated)
	t.Run("out of memory", c.outOfMemory)
	t.Run("a killed service takes no container with it", c.killedService)
	t.Run("a killed conmon", c.killedConmon)
	t.Run("a stray", c.stray)
	t.Run("a container that Podman forgot", c.forgotten)
	t.Run("releasing a pod ends what runs in it", c.release)
}

// execLimit is for commands that end by themselves.
const execLimit = time.Minute

type contract struct {
	s   Subject
	ctx context.Context
}

func (c contract) start(t *testing.T, name string, args ...string) string {
	t.Helper()
	return c.launch(t, c.s.Spec(name, args...))
}

func (c contract) launch(t *testing.T, s pod.ContainerSpec) string {
	t.Helper()
	id, err := c.s.Runtime.Create(c.ctx, s)
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	if err := c.s.Runtime.Start(c.ctx, id); err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() {
		if err := c.s.Runtime.Remove(context.WithoutCancel(c.ctx), id); err != nil {
			t.Errorf("remove: %v", err)
		}
	})
	return id
}

func (c contract) find(t *testing.T, id string) (pod.Found, bool) {
	t.Helper()
	list, err := c.s.Runtime.List(c.ctx)
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	for _, f := range list {
		if f.ID == id {
			return f, true
		}
	}
	return pod.Found{}, false
}

// up waits until the program's signal handler stands: before, SIGTERM ends any
// program.
func (c contract) up(t *testing.T, id string) {
	t.Helper()
	c.await(t, "the program is up", func() bool {
		r, err := c.s.Runtime.Exec(c.ctx, id, []string{"/program", "up"}, execLimit)
		if err != nil {
			t.Fatalf("exec: %v", err)
		}
		return r.Code == 0
	})
}

func (c contract) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for !ok() {
		select {
		case <-c.ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (c contract) wait(t *testing.T, id string) pod.Exit {
	t.Helper()
	e, err := c.s.Runtime.Wait(c.ctx, id)
	if err != nil {
		t.Fatalf("wait: %v", err)
	}
	return e
}

func (c contract) lifecycle(t *testing.T) {
	spec := c.s.Spec("life", "stay")
	id, err := c.s.Runtime.Create(c.ctx, spec)
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	if f, ok := c.find(t, id); !ok || f.State != pod.StateCreated {
		t.Errorf("after create: got %+v %v, want created", f, ok)
	}
	if err := c.s.Runtime.Start(c.ctx, id); err != nil {
		t.Fatalf("start: %v", err)
	}
	f, ok := c.find(t, id)
	if !ok || f.State != pod.StateRunning || f.Pod != spec.Pod || f.Labels[pod.LabelContainer] != "life" {
		t.Errorf("after start: got %+v %v, want running, with its labels", f, ok)
	}
	c.up(t, id)
	began := time.Now()
	if err := c.s.Runtime.Signal(c.ctx, id, 0); err != nil {
		t.Fatalf("signal: %v", err)
	}
	e := c.wait(t, id)
	if e.Code != 0 || e.Unknown || e.OOMKilled || e.FinishedAt.Before(began.Add(-time.Second)) {
		t.Errorf("exit: got %+v, want code 0 just now", e)
	}
	if f, ok := c.find(t, id); !ok || f.State != pod.StateExited || f.ExitCode != 0 {
		t.Errorf("after exit: got %+v %v, want exited with 0", f, ok)
	}
	if err := c.s.Runtime.Remove(c.ctx, id); err != nil {
		t.Fatalf("remove: %v", err)
	}
	if f, ok := c.find(t, id); ok {
		t.Errorf("after remove: got %+v, want nothing", f)
	}
}

func (c contract) exitCodes(t *testing.T) {
	id := c.start(t, "code", "exit", "3")
	if e := c.wait(t, id); e.Code != 3 || e.Unknown {
		t.Errorf("got %+v, want code 3", e)
	}
	if e := c.wait(t, id); e.Code != 3 {
		t.Errorf("asked again: got %+v, want code 3", e)
	}
}

func (c contract) kill(t *testing.T) {
	id := c.start(t, "kill", "stubborn")
	c.up(t, id)
	if err := c.s.Runtime.Signal(c.ctx, id, syscall.SIGTERM); err != nil {
		t.Fatalf("signal: %v", err)
	}
	if err := c.s.Runtime.Signal(c.ctx, id, syscall.SIGKILL); err != nil {
		t.Fatalf("signal: %v", err)
	}
	if e := c.wait(t, id); e.Code != 137 || e.OOMKilled {
		t.Errorf("got %+v, want code 137, not for memory", e)
	}
}

func (c contract) takenName(t *testing.T) {
	first, err := c.s.Runtime.Create(c.ctx, c.s.Spec("taken", "stay"))
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	second := c.start(t, "taken", "stay")
	if first == second {
		t.Errorf("both are %s", first)
	}
	if f, ok := c.find(t, first); ok {
		t.Errorf("the first is still there: %+v", f)
	}
	if _, err := c.s.Runtime.Create(c.ctx, c.s.Spec("taken", "stay")); err == nil {
		t.Error("the name of a running container was taken over")
	}
}

func (c contract) noImage(t *testing.T) {
	spec := c.s.Spec("noimage", "stay")
	spec.Image = "localhost/not/there:1"
	if _, err := c.s.Runtime.Create(c.ctx, spec); !errors.Is(err, nodeagent.ErrNoImage) {
		t.Errorf("create: got %v, want ErrNoImage", err)
	}
	if _, err := c.s.Runtime.Image(c.ctx, spec.Image); !errors.Is(err, nodeagent.ErrNoImage) {
		t.Errorf("image: got %v, want ErrNoImage", err)
	}
}

func (c contract) noCommand(t *testing.T) {
	spec := c.s.Spec("nocommand")
	spec.Command, spec.Args = []string{"/not/there"}, nil
	id, err := c.s.Runtime.Create(c.ctx, spec)
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	if err := c.s.Runtime.Start(c.ctx, id); err == nil {
		t.Error("start: no error")
	}
	if err := c.s.Runtime.Remove(c.ctx, id); err != nil {
		t.Errorf("remove: %v", err)
	}
}

func (c contract) waitAgain(t *testing.T) {
	id := c.start(t, "wait", "stay")
	c.up(t, id)
	short, cancel := context.WithTimeout(c.ctx, 50*time.Millisecond)
	defer cancel()
	if e, err := c.s.Runtime.Wait(short, id); err == nil {
		t.Errorf("waiting for what runs: got %+v, want the context's error", e)
	}
	if err := c.s.Runtime.Signal(c.ctx, id, 0); err != nil {
		t.Fatalf("signal: %v", err)
	}
	if e := c.wait(t, id); e.Code != 0 {
		t.Errorf("got %+v, want code 0", e)
	}
}

func (c contract) exec(t *testing.T) {
	id := c.start(t, "exec", "stay")
	r, err := c.s.Runtime.Exec(c.ctx, id, []string{"/program", "print", "hello"}, execLimit)
	if err != nil || r.Code != 0 || strings.TrimSpace(r.Output) != "hello" {
		t.Errorf("print: got %+v, %v", r, err)
	}
	if r, err = c.s.Runtime.Exec(c.ctx, id, []string{"/program", "exit", "4"}, execLimit); err != nil || r.Code != 4 {
		t.Errorf("exit 4: got %+v, %v", r, err)
	}
	if r, err = c.s.Runtime.Exec(c.ctx, id, []string{"/program", "wait", "3600000"}, 50*time.Millisecond); err != nil || !r.TimedOut {
		t.Errorf("too slow: got %+v, %v, want it timed out", r, err)
	}
	short, cancel := context.WithTimeout(c.ctx, 400*time.Millisecond)
	defer cancel()
	if r, err = c.s.Runtime.Exec(short, id, []string{"/program", "wait", "3600000"}, time.Hour); err == nil {
		t.Errorf("given up: got %+v, want an error", r)
	}
}

// workingDir is made where the image has none.
func (c contract) workingDir(t *testing.T) {
	s := c.s.Spec("workdir", "stay")
	s.WorkingDir = "/made/for/it"
	id := c.launch(t, s)
	r, err := c.s.Runtime.Exec(c.ctx, id, []string{"/program", "pwd"}, execLimit)
	if err != nil || strings.TrimSpace(r.Output) != s.WorkingDir {
		t.Errorf("got %+v, %v, want %s", r, err, s.WorkingDir)
	}
}

// message is a file that is mounted where the image has nothing.
func (c contract) message(t *testing.T) {
	s := c.s.Spec("message", "say", "3", "why")
	file := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	s.Mounts = append(s.Mounts, pod.Mount{Source: file, Target: corev1.TerminationMessagePathDefault})
	id := c.launch(t, s)
	if e := c.wait(t, id); e.Code != 3 {
		t.Errorf("got %+v, want code 3", e)
	}
	if said, err := os.ReadFile(file); err != nil || string(said) != "why" {
		t.Errorf("it said %q, %v", said, err)
	}
}

func (c contract) images(t *testing.T) {
	i, err := c.s.Runtime.Image(c.ctx, c.s.Image)
	if err != nil || i.ID == "" {
		t.Fatalf("image: got %+v, %v", i, err)
	}
	all, err := c.s.Runtime.Images(c.ctx)
	if err != nil {
		t.Fatalf("images: %v", err)
	}
	for _, x := range all {
		if x.ID == i.ID {
			return
		}
	}
	t.Errorf("images: got %+v, want %s among them", all, i.ID)
}

func (c contract) gone(t *testing.T) {
	const id = "0000000000000000000000000000000000000000000000000000000000000000"
	if err := c.s.Runtime.Remove(c.ctx, id); err != nil {
		t.Errorf("remove: %v", err)
	}
	if err := c.s.Runtime.Signal(c.ctx, id, syscall.SIGKILL); err != nil {
		t.Errorf("signal: %v", err)
	}
	if err := c.s.Runtime.ReleasePod(c.ctx, "not-there"); err != nil {
		t.Errorf("release: %v", err)
	}
	if e, err := c.s.Runtime.Wait(c.ctx, id); err != nil || e.Code != 137 || !e.Unknown {
		t.Errorf("wait: got %+v, %v, want an unknown end at once", e, err)
	}
	id2 := c.start(t, "dead", "exit", "0")
	c.wait(t, id2)
	if err := c.s.Runtime.Signal(c.ctx, id2, syscall.SIGKILL); err != nil {
		t.Errorf("signal the dead: %v", err)
	}
	if r, err := c.s.Runtime.Exec(c.ctx, id2, []string{"/program", "print", "hello"}, execLimit); err == nil {
		t.Errorf("exec in the dead: got %+v, want an error", r)
	}
}

// unanswered: whoever gets no answer does not know whether the call had an
// effect, which is another thing than a refusal.
func (c contract) unanswered(t *testing.T) {
	id := c.start(t, "unanswered", "stay")
	ended, end := context.WithCancel(c.ctx)
	end()
	r := c.s.Runtime
	for what, call := range map[string]func() error{
		"list":   func() error { _, err := r.List(ended); return err },
		"create": func() error { _, err := r.Create(ended, c.s.Spec("never", "stay")); return err },
		"start":  func() error { return r.Start(ended, id) },
		"remove": func() error { return r.Remove(ended, id) },
		"image":  func() error { _, err := r.Image(ended, c.s.Image); return err },
		"images": func() error { _, err := r.Images(ended); return err },
		"exec":   func() error { _, err := r.Exec(ended, id, []string{"/program", "print", "x"}, execLimit); return err },
	} {
		if err := call(); !errors.Is(err, nodeagent.ErrUnavailable) || errors.Is(err, nodeagent.ErrNoImage) {
			t.Errorf("%s: got %v, want ErrUnavailable", what, err)
		}
	}
	if f, ok := c.find(t, id); !ok || f.State != pod.StateRunning {
		t.Errorf("got %+v %v, want it running on", f, ok)
	}
}

func (c contract) waitCreated(t *testing.T) {
	id, err := c.s.Runtime.Create(c.ctx, c.s.Spec("never-ran", "stay"))
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	if e := c.wait(t, id); e.Code != 137 || !e.Unknown {
		t.Errorf("got %+v, want an unknown end", e)
	}
	if err := c.s.Runtime.Remove(c.ctx, id); err != nil {
		t.Errorf("remove: %v", err)
	}
}

func (c contract) outOfMemory(t *testing.T) {
	s := c.s.Spec("eat", "eat")
	s.Resources.MemoryBytes = 16 << 20
	id := c.launch(t, s)
	if e := c.wait(t, id); !e.OOMKilled || e.Code != 137 {
		t.Errorf("got %+v, want killed for memory", e)
	}
	if e := c.wait(t, id); e.Code != 137 {
		t.Errorf("asked again: got %+v, want code 137", e)
	}
}

// held waits for a container until its process is held.
func (c contract) held(t *testing.T, id string) {
	t.Helper()
	short, cancel := context.WithTimeout(c.ctx, 50*time.Millisecond)
	defer cancel()
	if e, err := c.s.Runtime.Wait(short, id); err == nil {
		t.Fatalf("waiting for what runs: got %+v, want the context's error", e)
	}
}

func (c contract) killedService(t *testing.T) {
	id := c.start(t, "survivor", "stay")
	c.up(t, id)
	c.held(t, id)
	waited := make(chan pod.Exit, 1)
	failed := make(chan error, 1)
	go func() {
		e, err := c.s.Runtime.Wait(c.ctx, id)
		failed <- err
		waited <- e
	}()
	c.s.KillService(t)
	if f, ok := c.find(t, id); !ok || f.State != pod.StateRunning || f.Unmonitored {
		t.Errorf("got %+v %v, want it running on", f, ok)
	}
	if err := c.s.Runtime.Signal(c.ctx, id, 0); err != nil {
		t.Fatalf("signal: %v", err)
	}
	if err := <-failed; err != nil {
		t.Errorf("wait: %v", err)
	}
	if e := <-waited; e.Code != 0 || e.Unknown {
		t.Errorf("got %+v, want code 0", e)
	}
}

func (c contract) killedConmon(t *testing.T) {
	s := c.s.Spec("orphan", "stay")
	id := c.launch(t, s)
	c.held(t, id)
	if f, ok := c.find(t, id); !ok || f.Unmonitored {
		t.Errorf("before: got %+v %v, want it monitored", f, ok)
	}
	c.s.KillConmon(t, s, id)
	c.await(t, "it is told as unmonitored", func() bool {
		f, ok := c.find(t, id)
		return ok && f.State == pod.StateRunning && f.Unmonitored
	})
	if err := c.s.Runtime.Signal(c.ctx, id, syscall.SIGKILL); err != nil {
		t.Fatalf("signal: %v", err)
	}
	if e := c.wait(t, id); !e.Unknown || e.Code != 137 || e.OOMKilled {
		t.Errorf("got %+v, want an unknown end", e)
	}
	if f, ok := c.find(t, id); !ok || f.State != pod.StateExited || f.ExitCode != 137 || f.Unmonitored {
		t.Errorf("listed as %+v %v, want exited", f, ok)
	}
}

func (c contract) stray(t *testing.T) {
	const id = "1111111111111111111111111111111111111111111111111111111111111111"
	uid := c.s.Spec("stray").Pod
	c.s.Haunt(t, uid, id)
	if f, ok := c.find(t, id); !ok || f.State != pod.StateStray || f.Pod != uid || len(f.Labels) != 0 {
		t.Errorf("got %+v %v, want a stray of the pod, without labels", f, ok)
	}
	if err := c.s.Runtime.Remove(c.ctx, id); err != nil {
		t.Errorf("remove: %v", err)
	}
	if f, ok := c.find(t, id); ok {
		t.Errorf("after remove: got %+v, want nothing", f)
	}
}

func (c contract) forgotten(t *testing.T) {
	s := c.s.Spec("forgotten", "stay")
	id, err := c.s.Runtime.Create(c.ctx, s)
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	c.s.Haunt(t, s.Pod, id)
	if f, ok := c.find(t, id); !ok || f.State != pod.StateUnknown || f.Labels[pod.LabelContainer] != "forgotten" {
		t.Errorf("got %+v %v, want unknown, with its labels", f, ok)
	}
	if err := c.s.Runtime.Remove(c.ctx, id); err != nil {
		t.Errorf("remove: %v", err)
	}
	if f, ok := c.find(t, id); ok {
		t.Errorf("after remove: got %+v, want nothing", f)
	}
}

func (c contract) release(t *testing.T) {
	s := c.s.Spec("released", "stubborn")
	id := c.launch(t, s)
	c.held(t, id)
	if err := c.s.Runtime.ReleasePod(c.ctx, s.Pod); err != nil {
		t.Fatalf("release: %v", err)
	}
	if e := c.wait(t, id); e.Code != 137 {
		t.Errorf("got %+v, want it killed", e)
	}
	if f, ok := c.find(t, id); !ok || f.State != pod.StateExited {
		t.Errorf("got %+v %v, want exited", f, ok)
	}
}
