package nodeagent_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/nodeagent"
	"fairlead/nodeagent/pod"
	"fairlead/schema/wire"
)

// commands stands between agent and runtime: it notes the commands that are run, what was
// signalled before each, and holds them up while told to.
type commands struct {
	nodeagent.Runtime
	calls func() []string

	mu   sync.Mutex
	ran  []string
	held chan struct{} // nil while nothing is held up
}

func (c *commands) Exec(ctx context.Context, id string, command []string, limit time.Duration) (pod.ExecResult, error) {
	signals := 0
	for _, call := range c.calls() {
		if strings.HasPrefix(call, "signal") {
			signals++
		}
	}
	c.mu.Lock()
	c.ran = append(c.ran, strings.Join(append(command[1:], "after", string(rune('0'+signals)), "signals"), " "))
	held := c.held
	c.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return pod.ExecResult{}, ctx.Err()
		}
	}
	return c.Runtime.Exec(ctx, id, command, limit)
}

func (c *commands) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.ran)
}

func (c *commands) hold(held chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = held
}

func newHookRig(t *testing.T) (*rig, *commands) {
	r := newRig(t)
	r.stop()
	c := &commands{calls: r.runtime.Calls}
	r.watch = func(below nodeagent.Runtime) nodeagent.Runtime {
		c.Runtime = below
		return c
	}
	r.start()
	return r, c
}

func (r *rig) saw(reason string) bool {
	r.master.mu.Lock()
	defer r.master.mu.Unlock()
	for _, e := range r.master.events {
		if e.Reason == reason {
			return true
		}
	}
	return false
}

func TestAPreStopHookRunsBeforeTheStopSignal(t *testing.T) {
	r, c := newHookRig(t)
	r.run("uid-1", "containers: [{name: c, args: [stay], lifecycle: {preStop: {exec: {command: [/program, print, bye]}}}}]")
	r.awaitStatus("uid-1", "Running Ready")
	r.remove("uid-1", true)
	r.await("gone", func() bool { return r.report("uid-1").Gone })
	if got := c.all(); !slices.Equal(got, []string{"print bye after 0 signals"}) {
		t.Errorf("hooks: %q", got)
	}
	if !slices.Contains(r.runtime.Calls(), "signal fl-uid1-c-0 SIGTERM") {
		t.Errorf("calls: %q", r.runtime.Calls())
	}
}

// A preStop hook that fails is told of, and keeps nothing from its end.
func TestAPreStopHookThatFails(t *testing.T) {
	r, _ := newHookRig(t)
	r.run("uid-1", "containers: [{name: c, args: [stay], lifecycle: {preStop: {exec: {command: [/program, exit, \"3\"]}}}}]")
	r.awaitStatus("uid-1", "Running Ready")
	r.remove("uid-1", true)
	r.await("gone", func() bool { return r.report("uid-1").Gone })
	r.await("an event", func() bool { return r.saw("FailedPreStopHook") })
}

// An agent that dies amid a preStop hook leaves it to the next, which runs it again before
// it sends the stop signal.
func TestAPreStopHookOutlivesItsAgent(t *testing.T) {
	r, c := newHookRig(t)
	r.run("uid-1", "terminationGracePeriodSeconds: 600\ncontainers: [{name: c, args: [stay], lifecycle: {preStop: {exec: {command: [/program, print, bye]}}}}]")
	r.awaitStatus("uid-1", "Running Ready")
	held := make(chan struct{})
	c.hold(held)
	r.remove("uid-1", true)
	r.await("the hook runs", func() bool { return len(c.all()) == 1 })
	r.stop()
	r.start()
	r.await("the hook runs again", func() bool { return len(c.all()) == 2 })
	close(held)
	r.await("gone", func() bool { return r.report("uid-1").Gone })
	if got := c.all(); !slices.Equal(got, []string{"print bye after 0 signals", "print bye after 0 signals"}) {
		t.Errorf("hooks: %q", got)
	}
}

// What takes longer than the grace period does not hold up the end.
func TestAPreStopHookEndsWithTheGracePeriod(t *testing.T) {
	r, c := newHookRig(t)
	r.run("uid-1", "terminationGracePeriodSeconds: 1\ncontainers: [{name: c, args: [stay], lifecycle: {preStop: {exec: {command: [/program, print, bye]}}}}]")
	r.awaitStatus("uid-1", "Running Ready")
	c.hold(make(chan struct{}))
	r.remove("uid-1", true)
	r.await("gone", func() bool { return r.report("uid-1").Gone })
	if !slices.Contains(r.runtime.Calls(), "signal fl-uid1-c-0 SIGTERM") {
		t.Errorf("calls: %q", r.runtime.Calls())
	}
}

// Nothing of the pod is started or probed before a postStart hook has passed, and an agent
// that dies amid it leaves it to the next.
func TestAPostStartHookHoldsUpWhatFollows(t *testing.T) {
	r, c := newHookRig(t)
	held := make(chan struct{})
	c.hold(held)
	r.run("uid-1", "containers: [{name: c, args: [stay], lifecycle: {postStart: {exec: {command: [/program, print, hello]}}}}, {name: d, args: [stay]}]")
	r.awaitStatus("uid-1", "Pending ContainerCreating ContainerCreating")
	r.await("the hook runs", func() bool { return len(c.all()) == 1 })
	r.stop()
	r.start()
	r.await("the hook runs again", func() bool { return len(c.all()) == 2 })
	if slices.Contains(r.runtime.Running(), "fl-uid1-d-0") {
		t.Error("the next container was started before the hook had passed")
	}
	close(held)
	r.awaitStatus("uid-1", "Running Ready")
	r.stop()
	r.start()
	r.awaitStatus("uid-1", "Running Ready")
	if got := c.all(); len(got) != 2 {
		t.Errorf("a hook that has passed runs again: %q", got)
	}
}

// Neither is the container itself probed, whatever its probes would say.
func TestNothingIsProbedBeforeItsPostStartHookHasPassed(t *testing.T) {
	r, c := newHookRig(t)
	held := make(chan struct{})
	c.hold(held)
	r.run("uid-1", "containers: [{name: c, args: [stay], startupProbe: {exec: {command: [/program, print, up]}}, lifecycle: {postStart: {exec: {command: [/program, print, hello]}}}}]")
	r.await("the hook runs", func() bool { return len(c.all()) >= 1 })
	r.stop()
	r.start()
	r.await("the hook runs again", func() bool { return len(c.all()) >= 2 })
	close(held)
	r.awaitStatus("uid-1", "Running Ready")
	want := []string{"print hello after 0 signals", "print hello after 0 signals", "print up after 0 signals"}
	if got := c.all()[:3]; !slices.Equal(got, want) {
		t.Errorf("commands: %q, want %q", got, want)
	}
}

func TestAPostStartHookThatFailsEndsItsContainer(t *testing.T) {
	r, _ := newHookRig(t)
	r.run("uid-1", "restartPolicy: Never\ncontainers: [{name: c, args: [stay], lifecycle: {postStart: {exec: {command: [/program, exit, \"3\"]}}}}]")
	r.awaitStatus("uid-1", "Succeeded PostStartHookError")
	r.await("an event", func() bool { return r.saw("FailedPostStartHook") })
	got := r.report("uid-1").Status.ContainerStatuses[0].State.Terminated.Message
	if want := "its postStart hook failed: command exited with code 3: "; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
}

// A pod that was active for longer than it may is Failed, and says why.
func TestAPodIsEndedAtItsDeadline(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "activeDeadlineSeconds: 1\nterminationGracePeriodSeconds: 20\ncontainers: [{name: c, args: [stay]}]")
	r.await("it is Failed", func() bool {
		s := r.report("uid-1").Status
		return s.Phase == "Failed" && s.Reason == "DeadlineExceeded"
	})
	if got := r.runtime.Running(); len(got) > 0 {
		t.Errorf("it has ended, and %v run", got)
	}
	r.stop()
	r.start()
	r.await("it stays so", func() bool {
		s := r.report("uid-1").Status
		return s.Phase == "Failed" && s.Reason == "DeadlineExceeded"
	})
	if !slices.Contains(r.runtime.Calls(), "signal fl-uid1-c-0 SIGTERM") || slices.Contains(r.runtime.Calls(), "start fl-uid1-c-1") {
		t.Errorf("calls: %q", r.runtime.Calls())
	}
}

// What a volume shows of its pod follows the pod.
func TestLabelsAreShownAsTheyAre(t *testing.T) {
	r := newRig(t)
	w := podOf(t, "uid-1", "volumes: [{name: me, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]\ncontainers: [{name: c, args: [stay], volumeMounts: [{name: me, mountPath: /me}]}]")
	w.Pod.Labels = map[string]string{"app": "web"}
	r.master.publish(func(work *wire.Work) { work.Pods["uid-1"] = w })
	r.awaitStatus("uid-1", "Running Ready")
	shown := func() string {
		data, _ := os.ReadFile(filepath.Join(r.dir, "pods", "uid-1", "volumes", "me", "labels"))
		return string(data)
	}
	if got := shown(); got != "app=\"web\"" {
		t.Errorf("labels %q", got)
	}
	next := w
	next.Pod = w.Pod.DeepCopy()
	next.Pod.Labels["tier"] = "front"
	r.master.publish(func(work *wire.Work) { work.Pods["uid-1"] = next })
	r.await("the new label is shown", func() bool { return shown() == "app=\"web\"\ntier=\"front\"" })
	if slices.Contains(r.runtime.Calls(), "start fl-uid1-c-1") {
		t.Error("the container was restarted")
	}
}
