package runtimetest

import (
	"fmt"
	"syscall"

	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent"
	"fairlead/nodeagent/pod"
)

// What follows is what Podman 4.3.1 was measured to do to those who believe it,
// as it comes through to who uses nodeagent.Runtime.

// KillConmon kills a running container's conmon. Measured: the container runs
// on; once it is dead Podman calls it `Up` for 90 s and more, and how it ended
// nobody can tell. So from now on it is Unmonitored, for whoever waits for it,
// and its end is Unknown.
func (f *Fake) KillConmon(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.running(name); c != nil {
		c.orphan = true
	}
}

// outOfMemory is the kernel's SIGKILL.
var outOfMemory = pod.Exit{Code: 128 + int32(syscall.SIGKILL), OOMKilled: true}

// OutOfMemory lets the kernel kill a container for lack of memory. Measured:
// Podman tells exit code 137 with `OOMKilled=false`. So List, and Wait for what
// was dead already, tell a plain 137; who waited while it lived knows from the
// cgroup.
func (f *Fake) OutOfMemory(name string) { f.Die(name, outOfMemory) }

// TakeName lets a container that is not ours have a name. Measured: a clash is an
// HTTP 500, like any trouble of Podman's own; so Create fails with an error that
// says nothing more, until FreeName.
func (f *Fake) TakeName(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.taken[name] = true
}

// FreeName ends TakeName.
func (f *Fake) FreeName(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.taken, name)
}

// Hang lets the service answer nobody. Measured: calls without a deadline block
// for ever. So calls block until theirs (see Stall) and are then ErrUnavailable;
// only signals to a process that somebody waits for still get through, and of a
// death meanwhile nobody learns the code.
func (f *Fake) Hang() { f.become(hanging) }

// KillService ends the service: what hangs is cut off, and calls are
// ErrUnavailable at once until StartService. Containers live on. Measured: kill
// -9 and a new service in the same mount namespace keep pids and start times. A
// truncated state database looks like this too: `podman ps` panics while
// containers run on.
func (f *Fake) KillService() { f.become(down) }

// StartService lets a new service answer.
func (f *Fake) StartService() { f.become(serving) }

func (f *Fake) become(s service) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.service = s
	if s != hanging {
		close(f.gone)
		f.gone = make(chan struct{})
	}
}

// KillServiceAmid kills the service amid the next n calls of create or start, a
// new one answering at once. Measured: in 7 of 60 rounds live processes stayed
// (conmon and `runc init`) of which Podman knew nothing. So the call is
// ErrUnavailable and the container a live stray without labels.
func (f *Fake) KillServiceAmid(method string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kill[method] = n
}

// killed tells whether the service is killed amid this call; f.mu is held.
func (f *Fake) killed(method string) bool {
	if f.kill[method] == 0 {
		return false
	}
	f.kill[method]--
	return true
}

// Haunt puts a live process where the kernel has container id of a pod. Where
// Podman does not know the container that is a stray; one that it thinks was
// never started becomes Unknown.
func (f *Fake) Haunt(uid types.UID, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.containers[id]
	if c == nil {
		c = &fakeContainer{spec: pod.ContainerSpec{Pod: uid}, stray: true}
		f.containers[id] = c
	}
	c.state, c.started, c.died, c.forgot = pod.StateRunning, f.Now(), make(chan struct{}), !c.stray
}

// Forget lets Podman take the machine for rebooted. Measured: from another mount
// namespace over the same storage, with a fresh /run, a running container became
// `created`. So every container that runs now is Unknown until Recall, and if it
// dies meanwhile `created`, as Podman would start it a second time.
func (f *Fake) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.containers {
		c.forgot = c.state == pod.StateRunning && !c.stray
	}
}

// Recall ends Forget for the containers that still live.
func (f *Fake) Recall() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.containers {
		c.forgot = c.forgot && c.state != pod.StateRunning
	}
}

// Reopen is a new process that uses the runtime: nobody holds any container, as
// after the agent's own restart.
func (f *Fake) Reopen() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.containers {
		c.held = false
	}
}

// Fail lets every call of a method fail with err from now on; nil ends it.
func (f *Fake) Fail(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail[method] = err
}

// Lose lets the next n calls of a method that changes something take effect and
// answer ErrUnavailable, as a service that is killed in between does.
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
	return fmt.Errorf("%w: the answer was lost", nodeagent.ErrUnavailable)
}
