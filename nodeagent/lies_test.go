package nodeagent_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent"
	"fairlead/nodeagent/pod"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// lied runs a test in virtual time: what Podman's lies cost is deadlines and
// back-off.
func lied(t *testing.T, test func(r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.patience = 10 * time.Minute
		test(r)
		if got := r.runtime.Twice(); len(got) != 0 {
			t.Errorf("ran twice at once: %v", got)
		}
	})
}

// awhile is longer than every interval, deadline and first back-off of the agent.
const awhile = 2 * time.Minute

// untouched lets time pass and wants no call that changes something.
func (r *rig) untouched(while string) {
	r.t.Helper()
	calls := r.runtime.Calls()
	time.Sleep(awhile)
	if diff := cmp.Diff(calls, r.runtime.Calls()); diff != "" {
		r.t.Errorf("calls while %s:\n%s", while, diff)
	}
}

// only wants these containers and no others, live or dead.
func (r *rig) only(names ...string) {
	r.t.Helper()
	r.await("only "+strings.Join(names, ", "), func() bool { return slices.Equal(r.runtime.Names(), names) })
}

func (r *rig) happened(reason string) bool {
	r.master.mu.Lock()
	defer r.master.mu.Unlock()
	return slices.ContainsFunc(r.master.events, func(e wire.Event) bool { return e.Reason == reason })
}

// lastState is how the container of a pod of one container ended last.
func (r *rig) lastState(uid types.UID) (reason string, code int32) {
	s := r.report(uid).Status.ContainerStatuses
	if len(s) != 1 || s[0].LastTerminationState.Terminated == nil {
		return "", 0
	}
	last := s[0].LastTerminationState.Terminated
	return last.Reason, last.ExitCode
}

func TestAKilledConmonIsReplaced(t *testing.T) {
	lied(t, func(r *rig) {
		r.run("uid-1", "containers: [{name: c, args: [stay]}]")
		r.awaitStatus("uid-1", "Running Ready")
		r.runtime.KillConmon("fl-uid1-c-0")
		// It runs on and is not trusted to serve until it is replaced in order.
		r.await("told", func() bool { return r.happened("ConmonDied") })
		r.awaitStatus("uid-1", "Running")
		if got := r.runtime.Running(); !slices.Equal(got, []string{"fl-uid1-c-0"}) {
			t.Errorf("running while the tables drain: %v", got)
		}
		r.awaitStatus("uid-1", "Running Ready")
		if !slices.Contains(r.runtime.Calls(), "signal fl-uid1-c-0 SIGTERM") {
			t.Errorf("not asked to stop: %v", r.runtime.Calls())
		}
		if reason, code := r.lastState("uid-1"); reason != schema.ReasonConmonDied || code != 137 {
			t.Errorf("it ended with %s, %d: nobody can know the code, and why is known", reason, code)
		}
		r.only("fl-uid1-c-1")
	})
}

// Podman tells 137 and OOMKilled=false: who watched the cgroup knows better.
func TestOutOfMemoryIsTold(t *testing.T) {
	for _, c := range []struct {
		name   string
		away   bool
		reason string
	}{{"while it was watched", false, "OOMKilled"}, {"while the agent was away", true, "Error"}} {
		t.Run(c.name, func(t *testing.T) {
			lied(t, func(r *rig) {
				r.run("uid-1", "containers: [{name: c, args: [stay]}]")
				r.awaitStatus("uid-1", "Running Ready")
				if c.away {
					r.stop()
				}
				r.runtime.OutOfMemory("fl-uid1-c-0")
				if c.away {
					r.start()
				}
				r.await("the next attempt", func() bool { return slices.Equal(r.runtime.Running(), []string{"fl-uid1-c-1"}) })
				r.await("its end", func() bool { reason, code := r.lastState("uid-1"); return reason == c.reason && code == 137 })
			})
		})
	}
}

func TestATakenNameIsWaitedFor(t *testing.T) {
	lied(t, func(r *rig) {
		r.runtime.TakeName("fl-uid1-c-0")
		r.run("uid-1", "containers: [{name: c, args: [stay]}]")
		r.awaitStatus("uid-1", "Pending "+schema.ReasonContainerCreate)
		time.Sleep(awhile)
		r.only()
		if slices.ContainsFunc(r.runtime.Calls(), func(c string) bool { return !strings.HasPrefix(c, "create ") }) {
			t.Errorf("more than tries: %v", r.runtime.Calls())
		}
		r.runtime.FreeName("fl-uid1-c-0")
		r.awaitStatus("uid-1", "Running Ready")
		r.only("fl-uid1-c-0")
	})
}

func TestAHangingServiceHoldsUpNothingElse(t *testing.T) {
	lied(t, func(r *rig) {
		r.run("uid-1", "containers: [{name: c, args: [stay]}]")
		r.run("uid-2", "containers: [{name: c, args: [stay], livenessProbe: {periodSeconds: 1, failureThreshold: 1, exec: {command: [/program, print, ok]}}}]")
		r.awaitStatus("uid-1", "Running Ready")
		r.awaitStatus("uid-2", "Running Ready")

		r.runtime.Hang()
		r.run("uid-3", "containers: [{name: c, args: [stay]}]")
		r.untouched("the service hangs")
		// A probe that got no answer says nothing of the container.
		if got := r.status("uid-2"); got != "Running Ready" {
			t.Errorf("the probed pod: %s", got)
		}
		// SIGTERM needs no service, so a pod that is to go goes in time.
		r.remove("uid-1", true)
		r.await("SIGTERM", func() bool { return slices.Equal(r.runtime.Running(), []string{"fl-uid2-c-0"}) })
		time.Sleep(awhile)
		if r.report("uid-1").Gone {
			t.Error("gone, though its container could not be removed")
		}

		r.runtime.StartService()
		r.await("gone", func() bool { return r.report("uid-1").Gone })
		r.awaitStatus("uid-3", "Running Ready")
		r.only("fl-uid2-c-0", "fl-uid3-c-0")
	})
}

func TestAKilledServiceTakesNothingWithIt(t *testing.T) {
	lied(t, func(r *rig) {
		r.run("uid-1", "containers: [{name: c, args: [stay], readinessProbe: {periodSeconds: 1, failureThreshold: 1, exec: {command: [/program, print, ok]}}}]")
		r.awaitStatus("uid-1", "Running Ready")
		for range 3 {
			r.runtime.KillService()
			r.untouched("the service is down")
			if got := r.status("uid-1"); got != "Running Ready" {
				t.Errorf("while the service is down: %s", got)
			}
			r.runtime.StartService()
			r.untouched("another serves")
		}
		// A death meanwhile is seen, and its code is lost.
		r.runtime.KillService()
		r.runtime.Die("fl-uid1-c-0", pod.Exit{Code: 3})
		time.Sleep(awhile)
		r.runtime.StartService()
		r.await("the next attempt", func() bool { return slices.Equal(r.runtime.Running(), []string{"fl-uid1-c-1"}) })
		r.awaitStatus("uid-1", "Running Ready")
		if reason, _ := r.lastState("uid-1"); reason != "ContainerStatusUnknown" {
			t.Errorf("it ended with %q", reason)
		}
		r.only("fl-uid1-c-1")
	})
}

// The service is killed amid a step and leaves a live process that Podman does
// not know: it goes before the container is started again.
func TestAStrayGoesBeforeTheNextStart(t *testing.T) {
	for _, method := range []string{"create", "start"} {
		for _, stuck := range []bool{false, true} {
			name := method
			if stuck {
				name += ", and cannot be removed at first"
			}
			t.Run(name, func(t *testing.T) {
				lied(t, func(r *rig) {
					r.runtime.KillServiceAmid(method, 1)
					if stuck {
						r.runtime.Fail("remove", errors.New("device or resource busy"))
					}
					r.run("uid-1", "containers: [{name: c, args: [stay]}]")
					r.await("the start", func() bool { return slices.Contains(r.runtime.Calls(), method+" fl-uid1-c-0") })
					if stuck {
						time.Sleep(awhile)
						if got := r.runtime.Running(); len(got) != 1 {
							t.Errorf("running beside the stray: %v", got)
						}
						r.runtime.Fail("remove", nil)
					}
					r.awaitStatus("uid-1", "Running Ready")
					r.only("fl-uid1-c-0")
				})
			})
		}
	}
}

// A stray of a pod that the node no longer has goes too.
func TestAStrayOfNobodyGoes(t *testing.T) {
	lied(t, func(r *rig) {
		r.run("uid-1", "containers: [{name: c, args: [stay]}]")
		r.awaitStatus("uid-1", "Running Ready")
		r.runtime.Haunt("uid-9", "stray")
		r.only("fl-uid1-c-0")
		r.await("its cgroup is released", func() bool { return slices.Contains(r.runtime.Calls(), "release uid-9") })
	})
}

// Podman takes the machine for rebooted and forgets what lives: the agent says
// so and touches nothing.
func TestWhatPodmanForgotIsLeftAlone(t *testing.T) {
	forget := func(r *rig) {
		r.run("uid-1", "containers: [{name: c, args: [stay]}]")
		r.awaitStatus("uid-1", "Running Ready")
		r.runtime.Forget()
		r.awaitStatus("uid-1", "Pending ContainerStatusUnknown")
	}
	t.Run("and comes back", func(t *testing.T) {
		lied(t, func(r *rig) {
			forget(r)
			r.untouched("it is forgotten")
			r.stop()
			r.start()
			r.untouched("it is forgotten, after a restart of the agent")
			r.runtime.Recall()
			r.awaitStatus("uid-1", "Running Ready")
			r.only("fl-uid1-c-0")
		})
	})
	t.Run("though its pod is to go", func(t *testing.T) {
		lied(t, func(r *rig) {
			forget(r)
			r.remove("uid-1", true)
			r.untouched("it is forgotten")
			if r.report("uid-1").Gone {
				t.Error("told as gone while it lives")
			}
			r.runtime.Recall()
			r.await("gone", func() bool { return r.report("uid-1").Gone })
			r.only()
		})
	})
	for _, away := range []bool{false, true} {
		name := "until it dies"
		if away {
			name += " while the agent is away"
		}
		t.Run(name, func(t *testing.T) {
			lied(t, func(r *rig) {
				forget(r)
				if away {
					r.stop()
				}
				r.runtime.Die("fl-uid1-c-0", pod.Exit{Code: 1})
				if away {
					r.start()
				}
				r.awaitStatus("uid-1", "Running Ready")
				if got := r.runtime.Running(); !slices.Equal(got, []string{"fl-uid1-c-1"}) {
					t.Errorf("running: %v", got)
				}
				r.only("fl-uid1-c-1")
			})
		})
	}
}

// A truncated state database makes Podman panic: a list that fails is no empty
// list.
func TestAListThatFailsIsNotEmpty(t *testing.T) {
	lied(t, func(r *rig) {
		r.run("uid-1", "containers: [{name: c, args: [stay]}]")
		r.awaitStatus("uid-1", "Running Ready")
		for _, err := range []error{nodeagent.ErrUnavailable, errors.New("panic: runtime error: index out of range")} {
			r.runtime.Fail("list", err)
			r.untouched("listing fails")
			r.stop()
			r.start()
			r.untouched("listing fails, after a restart of the agent")
			r.runtime.Fail("list", nil)
			r.untouched("listing works again")
		}
		r.awaitStatus("uid-1", "Running Ready")
		r.only("fl-uid1-c-0")
	})
}

// The answer to any step of a pod's life may get lost after its effect.
func TestLostAnswersLeaveNothing(t *testing.T) {
	for _, method := range []string{"pull", "create", "start", "signal", "remove", "release"} {
		t.Run(method, func(t *testing.T) {
			lied(t, func(r *rig) {
				r.runtime.Lose(method, 2)
				w := podOf(t, "uid-1", "terminationGracePeriodSeconds: 5\ncontainers: [{name: c, args: [stay]}]")
				w.Pod.Spec.Containers[0].ImagePullPolicy = "Always"
				r.master.publish(func(work *wire.Work) { work.Pods["uid-1"] = w })
				r.awaitStatus("uid-1", "Running Ready")
				if got := r.runtime.Running(); !slices.Equal(got, []string{"fl-uid1-c-0"}) {
					t.Errorf("running: %v", got)
				}
				r.remove("uid-1", true)
				r.await("gone", func() bool { return r.report("uid-1").Gone })
				r.only()
				if left, _ := r.network.Sandboxes(); len(left) != 0 {
					t.Errorf("sandboxes: %v", left)
				}
			})
		})
	}
}

// The master says that every table has lost a pod; that this node's has, it may
// have learned in the same breath. While the kernel does not take the table, the
// pod goes on serving.
func TestNoSignalBeforeTheOwnTableIsInForce(t *testing.T) {
	lied(t, func(r *rig) {
		r.run("uid-1", "containers: [{name: c, args: [stay]}]")
		r.awaitStatus("uid-1", "Running Ready")
		refuse := func(err error) {
			r.network.mu.Lock()
			defer r.network.mu.Unlock()
			r.network.err = err
		}
		refuse(errors.New("device or resource busy"))
		r.remove("uid-1", true)
		time.Sleep(ownTable)
		if slices.Contains(r.runtime.Calls(), "signal fl-uid1-c-0 SIGTERM") {
			r.t.Error("SIGTERM while the node's own table still leads to the pod")
		}
		refuse(nil)
		r.await("gone", func() bool { return r.report("uid-1").Gone })
		if !slices.Contains(r.runtime.Calls(), "signal fl-uid1-c-0 SIGTERM") {
			r.t.Errorf("calls: %v", r.runtime.Calls())
		}
	})
}

// ownTable is shorter than the longest that a pod waits for tables.
const ownTable = 4 * time.Second
