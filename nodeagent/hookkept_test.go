package nodeagent

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/nodeagent/pod"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// hooking is a machine with one pod of one container that runs.
func hooking(now time.Time, spec corev1.Container, c pod.Container) (*machine, *entry) {
	m := newMachine("n1", "192.0.2.1", "boot", nil)
	e := m.entry("uid-1", now)
	spec.Name = "c"
	e.obs.Name = "a"
	e.wanted = &pod.Wanted{PodWork: wire.PodWork{Pod: &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.PodSpec{Containers: []corev1.Container{spec}},
	}}}
	c.ID, c.Present, c.State, c.StartedAt = "id-1", true, pod.StateRunning, now
	e.obs.Containers["c"] = c
	return m, e
}

// A probe that was answered before the postStart hook has passed, by an older agent or
// amid a change, starts nothing.
func TestNoProbeDecidesBeforeThePostStartHookHasPassed(t *testing.T) {
	now := time.Unix(10, 0)
	hook := &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/hi"}}}
	m, e := hooking(now, corev1.Container{StartupProbe: &corev1.Probe{}, ReadinessProbe: &corev1.Probe{}, Lifecycle: &corev1.Lifecycle{PostStart: hook}}, pod.Container{})
	m.probed("uid-1", "id-1", pod.ProbeStartup, pod.Passed, "")
	m.probed("uid-1", "id-1", pod.ProbeReadiness, pod.Passed, "")
	if c := e.obs.Containers["c"]; c.Started || c.Ready {
		t.Errorf("started %v, ready %v while its hook runs", c.Started, c.Ready)
	}
	for _, at := range m.attended() {
		if at.Spec != nil {
			t.Error("it is probed while its hook runs")
		}
	}
	m.hooked("uid-1", "id-1", schema.PostStart, "", now)
	m.probed("uid-1", "id-1", pod.ProbeStartup, pod.Passed, "")
	if !e.obs.Containers["c"].Started {
		t.Error("it has not started after its hook")
	}
}

// A hook that was cut short because Podman forgot its container runs again when it is back.
func TestAHookRunsAgainWhenPodmanKnowsItsContainerAgain(t *testing.T) {
	now := time.Unix(10, 0)
	hook := &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/hi"}}}
	m, e := hooking(now, corev1.Container{Lifecycle: &corev1.Lifecycle{PostStart: hook}}, pod.Container{})
	op := pod.Operation{Kind: pod.RunHook, Hook: schema.PostStart, Container: "c", ID: "id-1", Grace: time.Hour}
	ran := func() int {
		fx := effects{}
		m.hook(e, op, now, &fx)
		return len(fx.hooks)
	}
	if n := ran(); n != 1 {
		t.Fatalf("%d hooks", n)
	}
	if n := ran(); n != 0 {
		t.Errorf("it runs, and is handed out %d times", n)
	}
	found := pod.Found{ID: "id-1", Pod: "uid-1", StartedAt: now, Labels: map[string]string{pod.LabelContainer: "c", pod.LabelAttempt: "0"}}
	for _, found.State = range []pod.State{pod.StateUnknown, pod.StateRunning} {
		m.sync([]pod.Found{found}, nil, now)
	}
	if c := e.obs.Containers["c"]; c.State != pod.StateRunning {
		t.Fatalf("it is %s", c.State)
	}
	if n := ran(); n != 1 {
		t.Errorf("its container is back, and the hook was handed out %d times", n)
	}
}

// A preStop hook that only waits ends when it would have, whoever is the agent by then.
func TestASleepingHookIsNotBegunAnew(t *testing.T) {
	now := time.Unix(1000, 0)
	hook := &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 20}}
	for _, test := range []struct {
		ago, grace, want time.Duration
	}{
		{0, time.Minute, 20 * time.Second},
		{15 * time.Second, 45 * time.Second, 5 * time.Second},
		{15 * time.Second, 3 * time.Second, 3 * time.Second},
		{30 * time.Second, 30 * time.Second, 0},
	} {
		c := pod.Container{PostStarted: true}
		if test.ago > 0 {
			c.PreStopAt = now.Add(-test.ago)
		}
		m, e := hooking(now.Add(-time.Hour), corev1.Container{Lifecycle: &corev1.Lifecycle{PreStop: hook}}, c)
		fx := effects{}
		m.hook(e, pod.Operation{Kind: pod.RunHook, Hook: schema.PreStop, Container: "c", ID: "id-1", Grace: test.grace}, now, &fx)
		if len(fx.hooks) != 1 || fx.hooks[0].Limit != test.want {
			t.Errorf("begun %s ago: %+v, want %s", test.ago, fx.hooks, test.want)
		}
	}
}
