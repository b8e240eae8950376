package pod

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"fairlead/schema"
	"fairlead/schema/chance"
	"fairlead/schema/wire"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// podFrom reads a pod spec; image i:1, pull policy IfNotPresent.
func podFrom(t interface{ Fatal(...any) }, spec string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", UID: "uid-1", Labels: map[string]string{"app": "web"}}}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if list[i].Image == "" {
				list[i].Image = "i:1"
			}
			if list[i].ImagePullPolicy == "" {
				list[i].ImagePullPolicy = corev1.PullIfNotPresent
			}
		}
	}
	if p.Spec.RestartPolicy == "" {
		p.Spec.RestartPolicy = corev1.RestartPolicyAlways
	}
	return p
}

var present = map[string]string{"i:1": "sha256:1", "i:2": "sha256:2"}

// running is a container of image i:1 that runs since a minute.
func running(name string) Container {
	c := corev1.Container{Name: name, Image: "i:1"}
	return Container{ID: "id-" + name, Present: true, SpecHash: SpecHash(&c), Image: "i:1", State: StateRunning, StartedAt: now.Add(-time.Minute), PostStarted: true, Started: true, Ready: true}
}

func exited(name string, code int32, crashes int) Container {
	c := running(name)
	c.Crashes = crashes - 1
	return c.Exited(Exit{Code: code, FinishedAt: now})
}

func starting(name string) Container {
	c := running(name)
	c.PostStarted, c.Started, c.Ready = false, false, false
	return c
}

func sidecar(name string, order int) Container {
	c := running(name)
	c.Sidecar = order
	return c
}

// stopping is a container that was told to end a while ago.
func stopping(name string, ago time.Duration) Container {
	c := running(name)
	c.TermAt, c.StopGrace = now.Add(-ago), 30*time.Second
	return c
}

// ending is a pod that is ending since a while.
func ending(since time.Duration, containers map[string]Container) *Observed {
	o := observed(containers)
	o.EndingAt = now.Add(-since)
	return o
}

// through is a pod whose init containers are.
func through(containers map[string]Container) *Observed {
	o := observed(containers)
	o.Initialized = true
	return o
}

// overdue is a pod that was active for longer than it may.
func overdue(containers map[string]Container) *Observed {
	o := through(containers)
	o.OverdueAt = now
	return o
}

func observed(containers map[string]Container) *Observed {
	return &Observed{UID: "uid-1", Sandbox: true, VolumesReady: true, Containers: containers, Grace: 30 * time.Second}
}

// told renders a plan: one line an operation, with its wait.
func told(ops []Operation) string {
	var lines []string
	for _, op := range ops {
		line := op.String()
		if op.After.After(now) {
			line += fmt.Sprintf(" (in %s)", op.After.Sub(now))
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestPlan(t *testing.T) {
	const one = "containers: [{name: c}]"
	const helped = "initContainers: [{name: a, restartPolicy: Always}]\ncontainers: [{name: c}]"
	const greeting = "containers: [{name: c, lifecycle: {postStart: {exec: {command: [/hi]}}}}, {name: d}]"
	const leaving = "containers: [{name: c, lifecycle: {preStop: {exec: {command: [/bye]}}}}]"
	const between = "initContainers: [{name: a, restartPolicy: Always}, {name: b}]\ncontainers: [{name: c}]"
	deleted := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} }
	with := func(c Container, change func(*Container)) Container { change(&c); return c }
	tests := []struct {
		name   string
		spec   string
		change func(*corev1.Pod)
		drain  bool
		gone   bool // not in Work
		o      *Observed
		want   string
	}{
		{name: "new", spec: one, o: &Observed{UID: "uid-1"}, want: "create sandbox: pod bound to this node\nprepare volumes: pod bound to this node\nstart container c: first start"},
		{name: "new, image not known", spec: "containers: [{name: c, image: \"x:1\"}]", o: observed(nil), want: "pull image c: image not known to be present"},
		{name: "image pulled always", spec: "containers: [{name: c, imagePullPolicy: Always}]", o: observed(nil), want: "pull image c: imagePullPolicy Always"},
		{name: "pulled for this attempt", spec: "containers: [{name: c, imagePullPolicy: Always}]", o: observed(map[string]Container{"c": {Pulled: 1}}), want: "start container c: first start"},
		{name: "running", spec: one, o: observed(map[string]Container{"c": running("c")}), want: ""},
		{name: "sandbox failed a moment ago", spec: one, o: &Observed{UID: "uid-1", Setup: Failure{Count: 2, At: now}}, want: "create sandbox: pod bound to this node (in 2s)"},
		{name: "adopting what runs", spec: one, o: &Observed{UID: "uid-1", Containers: map[string]Container{"c": running("c")}}, want: "create sandbox: pod bound to this node\nprepare volumes: pod bound to this node"},
		{name: "first exit restarts at once", spec: one, o: observed(map[string]Container{"c": exited("c", 1, 1)}), want: "start container c: restart 1 after Error, exit code 1"},
		{name: "second exit waits", spec: one, o: observed(map[string]Container{"c": exited("c", 1, 2)}), want: "start container c: restart 1 after Error, exit code 1 (in 10s)"},
		{name: "back-off doubles", spec: one, o: observed(map[string]Container{"c": exited("c", 0, 4)}), want: "start container c: restart 1 after Completed, exit code 0 (in 40s)"},
		{name: "back-off ends at five minutes", spec: one, o: observed(map[string]Container{"c": exited("c", 1, 60)}), want: "start container c: restart 1 after Error, exit code 1 (in 5m0s)"},
		{name: "OnFailure, success", spec: "restartPolicy: OnFailure\ncontainers: [{name: c}]", o: observed(map[string]Container{"c": exited("c", 0, 1)}),
			want: "remove container c: pod Succeeded\nremove sandbox: pod Succeeded"},
		{name: "OnFailure, failure", spec: "restartPolicy: OnFailure\ncontainers: [{name: c}]", o: observed(map[string]Container{"c": exited("c", 2, 1)}),
			want: "start container c: restart 1 after Error, exit code 2"},
		{name: "Never, one still runs", spec: "restartPolicy: Never\ncontainers: [{name: c}, {name: d}]", o: observed(map[string]Container{"c": exited("c", 2, 1), "d": running("d")}), want: ""},
		{name: "Never, all ended", spec: "restartPolicy: Never\ncontainers: [{name: c}, {name: d}]", o: observed(map[string]Container{"c": exited("c", 2, 1), "d": exited("d", 0, 1)}),
			want: "remove container c: pod Failed\nremove container d: pod Failed\nremove sandbox: pod Failed"},
		{name: "image changed", spec: "containers: [{name: c, image: \"i:2\"}]", o: observed(map[string]Container{"c": running("c")}), want: "stop container c: image changed from i:1 to i:2"},
		{name: "image changed, old one ended", spec: "containers: [{name: c, image: \"i:2\"}]", o: observed(map[string]Container{"c": exited("c", 0, 3)}), want: "start container c: image changed to i:2"},
		{name: "liveness", spec: one, o: observed(map[string]Container{"c": with(running("c"), func(c *Container) { c.Unlively = "liveness probe failed" })}), want: "stop container c: liveness probe failed"},
		{name: "grace of a liveness probe", spec: "containers: [{name: c, livenessProbe: {terminationGracePeriodSeconds: 3}, startupProbe: {terminationGracePeriodSeconds: 4}}]",
			o:    observed(map[string]Container{"c": with(stopping("c", time.Second), func(c *Container) { c.StopGrace = 3 * time.Second })}),
			want: "kill container c: still running 3s after the stop signal (in 2s)"},
		{name: "overdue", spec: "activeDeadlineSeconds: 5\ncontainers: [{name: c}]", o: func() *Observed {
			o := observed(map[string]Container{"c": running("c")})
			o.OverdueAt = now.Add(-time.Second)
			return o
		}(), want: "stop container c: the pod was active on the node for longer than its activeDeadlineSeconds (in 4s)"},
		{name: "stopping", spec: one, o: observed(map[string]Container{"c": with(running("c"), func(c *Container) { c.TermAt, c.StopGrace = now.Add(-10*time.Second), 30*time.Second })}),
			want: "kill container c: still running 30s after the stop signal (in 20s)"},
		{name: "stopping for too long", spec: one, o: observed(map[string]Container{"c": with(running("c"), func(c *Container) { c.TermAt, c.StopGrace = now.Add(-31*time.Second), 30*time.Second })}),
			want: "kill container c: still running 30s after the stop signal"},
		{name: "killed in vain", spec: one, o: observed(map[string]Container{"c": with(running("c"), func(c *Container) { c.TermAt, c.KillAt = now.Add(-time.Minute), now.Add(-time.Second) })}),
			want: "kill container c: still running after SIGKILL (in 1s)"},
		{name: "init first", spec: "initContainers: [{name: a}, {name: b}]\ncontainers: [{name: c}]", o: observed(nil), want: "start container a: first start"},
		{name: "init second", spec: "initContainers: [{name: a}, {name: b}]\ncontainers: [{name: c}]", o: observed(map[string]Container{"a": exited("a", 0, 1)}), want: "start container b: first start"},
		{name: "init runs", spec: "initContainers: [{name: a}]\ncontainers: [{name: c}]", o: observed(map[string]Container{"a": running("a")}), want: ""},
		{name: "init failed", spec: "initContainers: [{name: a}]\ncontainers: [{name: c}]", o: observed(map[string]Container{"a": exited("a", 1, 2)}), want: "start container a: restart 1 after Error, exit code 1 (in 10s)"},
		{name: "init failed, Never", spec: "restartPolicy: Never\ninitContainers: [{name: a}]\ncontainers: [{name: c}]", o: observed(map[string]Container{"a": exited("a", 1, 1)}), want: "remove container a: pod Failed\nremove sandbox: pod Failed"},
		{name: "init through", spec: "initContainers: [{name: a}]\ncontainers: [{name: c}]", o: observed(map[string]Container{"a": exited("a", 0, 1)}), want: "remove container a: init container finished\nstart container c: first start"},
		{name: "sidecar first", spec: helped, o: observed(nil), want: "start container a: first start"},
		{name: "sidecar has not started yet", spec: helped, o: observed(map[string]Container{"a": starting("a")}), want: ""},
		{name: "sidecar's probe passed before its hook", spec: "initContainers: [{name: a, restartPolicy: Always, lifecycle: {postStart: {exec: {command: [/hi]}}}}]\ncontainers: [{name: c}]",
			o: observed(map[string]Container{"a": with(starting("a"), func(c *Container) { c.Started = true })}), want: "run postStart hook a: the container was started"},
		{name: "sidecars come one by one", spec: "initContainers: [{name: a, restartPolicy: Always}, {name: b, restartPolicy: Always}]\ncontainers: [{name: c}]", o: observed(map[string]Container{"a": running("a")}), want: "start container b: first start"},
		{name: "sidecar has started", spec: helped, o: observed(map[string]Container{"a": running("a")}), want: "start container c: first start"},
		{name: "sidecar ended before the others began", spec: helped, o: observed(map[string]Container{"a": exited("a", 0, 1)}), want: "start container a: restart 1 after Completed, exit code 0"},
		{name: "sidecar ended while another init container runs", spec: between, o: observed(map[string]Container{"a": exited("a", 1, 2), "b": running("b")}), want: "start container a: restart 1 after Error, exit code 1 (in 10s)"},
		{name: "sidecar and the next init container failed", spec: between, o: observed(map[string]Container{"a": exited("a", 1, 2), "b": exited("b", 1, 1)}),
			want: "start container a: restart 1 after Error, exit code 1 (in 10s)\nstart container b: restart 1 after Error, exit code 1"},
		{name: "sidecar ended, Never", spec: "restartPolicy: Never\n" + helped, o: observed(map[string]Container{"a": exited("a", 0, 1), "c": running("c")}), want: "start container a: restart 1 after Completed, exit code 0"},
		{name: "sidecar's liveness", spec: helped, o: observed(map[string]Container{"a": with(running("a"), func(c *Container) { c.Unlively = "liveness probe failed" }), "c": running("c")}), want: "stop container a: liveness probe failed"},
		{name: "sidecars end with their pod, the last one first", spec: "restartPolicy: Never\ninitContainers: [{name: a, restartPolicy: Always}, {name: b, restartPolicy: Always}]\ncontainers: [{name: c}]",
			o:    observed(map[string]Container{"a": sidecar("a", 1), "b": sidecar("b", 2), "c": exited("c", 1, 1)}),
			want: "stop container b: pod Failed"},
		{name: "a failed init container ends the sidecar before it", spec: "restartPolicy: Never\n" + between, o: observed(map[string]Container{"a": sidecar("a", 1), "b": exited("b", 1, 1)}), want: "stop container a: pod Failed"},
		{name: "all ended, the sidecar at last", spec: "restartPolicy: OnFailure\n" + helped, o: through(map[string]Container{"a": exited("a", 137, 1), "c": exited("c", 0, 1)}),
			want: "remove container a: pod Succeeded\nremove container c: pod Succeeded\nremove sandbox: pod Succeeded"},
		{name: "deleted: containers before sidecars", spec: helped, change: deleted, drain: true, o: observed(map[string]Container{"a": sidecar("a", 1), "c": running("c")}), want: "stop container c: pod deleted"},
		{name: "deleted: what is over is not waited for", spec: helped, change: deleted, drain: true, o: ending(20*time.Second, map[string]Container{"a": sidecar("a", 1), "c": stopping("c", 20*time.Second)}),
			want: "kill container c: still running 30s after the stop signal (in 10s)\nstop container a: pod deleted (in 10s)"},
		{name: "deleted: the sidecar has what is left of the grace", spec: helped, change: deleted, drain: true, o: ending(20*time.Second, map[string]Container{"a": sidecar("a", 1), "c": exited("c", 0, 1)}), want: "stop container a: pod deleted"},
		{name: "deleted: all sidecars when the grace is over", spec: "initContainers: [{name: a, restartPolicy: Always}, {name: b, restartPolicy: Always}]\ncontainers: [{name: c}]", change: deleted, drain: true,
			o:    ending(31*time.Second, map[string]Container{"a": sidecar("a", 1), "b": sidecar("b", 2), "c": exited("c", 0, 1)}),
			want: "stop container b: pod deleted\nstop container a: pod deleted"},
		{name: "left work: sidecars last", gone: true, o: observed(map[string]Container{"a": sidecar("a", 1), "c": running("c")}), want: "stop container c: not in this node's work"},
		{name: "the record is lost, and what comes after the init containers runs", spec: "initContainers: [{name: a}]\ncontainers: [{name: c}]", o: observed(map[string]Container{"c": running("c")}), want: ""},
		{name: "what comes after a postStart hook waits to be started", spec: greeting, o: observed(nil), want: "start container c: first start"},
		{name: "postStart", spec: greeting, o: observed(map[string]Container{"c": starting("c")}), want: "run postStart hook c: the container was started"},
		{name: "postStart is through", spec: greeting, o: observed(map[string]Container{"c": running("c")}), want: "start container d: first start"},
		{name: "a back-off holds up nothing", spec: greeting, o: observed(map[string]Container{"c": exited("c", 1, 2)}), want: "start container c: restart 1 after Error, exit code 1 (in 10s)\nstart container d: first start"},
		{name: "postStart failed", spec: greeting, o: observed(map[string]Container{"c": with(starting("c"), func(c *Container) { c.PostStartFailed = "its postStart hook failed: no" })}),
			want: "stop container c: its postStart hook failed: no\nstart container d: first start"},
		{name: "preStop", spec: leaving, change: deleted, drain: true, o: observed(map[string]Container{"c": running("c")}), want: "run preStop hook c: pod deleted"},
		{name: "preStop waits for the tables", spec: leaving, change: deleted, o: func() *Observed {
			o := observed(map[string]Container{"c": running("c")})
			o.DeletionSeen = now.Add(-2 * time.Second)
			return o
		}(), want: "run preStop hook c: pod deleted (in 3s)"},
		{name: "preStop runs", spec: leaving, change: deleted, drain: true, o: ending(10*time.Second, map[string]Container{"c": with(running("c"), func(c *Container) { c.PreStopAt = now.Add(-10 * time.Second) })}),
			want: "run preStop hook c: pod deleted\nstop container c: pod deleted (in 20s)"},
		{name: "preStop is through", spec: leaving, change: deleted, drain: true, o: ending(10*time.Second, map[string]Container{"c": with(running("c"), func(c *Container) { c.PreStopAt, c.PreStopped = now.Add(-10*time.Second), true })}),
			want: "stop container c: pod deleted"},
		{name: "preStop took all of the grace", spec: leaving, change: deleted, drain: true, o: ending(30*time.Second, map[string]Container{"c": with(running("c"), func(c *Container) { c.PreStopAt = now.Add(-30 * time.Second) })}),
			want: "stop container c: pod deleted"},
		{name: "no preStop without grace", spec: leaving, change: func(p *corev1.Pod) { deleted(p); p.DeletionGracePeriodSeconds = new(int64) }, drain: true, o: observed(map[string]Container{"c": running("c")}), want: "kill container c: pod deleted"},
		{name: "preStop for a liveness probe", spec: leaving, o: observed(map[string]Container{"c": with(running("c"), func(c *Container) { c.Unlively = "liveness probe failed" })}), want: "run preStop hook c: liveness probe failed"},
		{name: "what was begun is brought to its end", spec: leaving, o: observed(map[string]Container{"c": with(running("c"), func(c *Container) {
			c.PreStopAt, c.StopReason, c.StopGrace, c.PreStopped = now.Add(-time.Second), "image changed", 30*time.Second, true
		})}), want: "stop container c: image changed"},
		{name: "preStop of a sidecar does not wait", spec: "initContainers: [{name: a, restartPolicy: Always, lifecycle: {preStop: {sleep: {seconds: 1}}}}]\ncontainers: [{name: c}]", change: deleted, drain: true,
			o:    ending(5*time.Second, map[string]Container{"a": sidecar("a", 1), "c": stopping("c", 5*time.Second)}),
			want: "kill container c: still running 30s after the stop signal (in 25s)\nrun preStop hook a: pod deleted\nstop container a: pod deleted (in 25s)"},
		{name: "created, never started", spec: one, o: observed(map[string]Container{"c": {ID: "x", Present: true, State: StateCreated, Attempt: 2}}), want: "remove container c: created and never started\nstart container c: created and never started"},
		{name: "unknown is left alone", spec: one, o: observed(map[string]Container{"c": with(running("c"), func(c *Container) { c.State = StateUnknown })}), want: ""},
		{name: "leftovers", spec: one, o: func() *Observed {
			o := observed(map[string]Container{"c": running("c")})
			o.Leftovers = []Leftover{{ID: "old", Reason: "replaced by attempt 1"}}
			return o
		}(), want: "remove container: replaced by attempt 1"},
		{name: "a leftover that lives", spec: one, o: func() *Observed {
			o := observed(nil)
			o.Leftovers = []Leftover{{ID: "stray", Alive: true, Reason: "never finished"}}
			return o
		}(), want: "remove container: never finished"},
		{name: "a leftover that lives and could not be removed", spec: one, o: func() *Observed {
			o := observed(nil)
			o.Leftovers = []Leftover{{ID: "stray", Alive: true, Reason: "never finished"}}
			o.Setup = Failure{Count: 2, At: now}
			return o
		}(), want: "remove container: never finished (in 2s)"},
		{name: "config changed", spec: one, o: func() *Observed {
			o := observed(map[string]Container{"c": running("c")})
			o.Volumes = "older"
			return o
		}(), want: "prepare volumes: ConfigMap or Secret changed"},
		{name: "create failed", spec: one, o: observed(map[string]Container{"c": {Failure: Failure{Count: 1, At: now.Add(-4 * time.Second)}}}), want: "start container c: first start (in 6s)"},
		{name: "deleted, not drained", spec: one, change: deleted, o: func() *Observed {
			o := observed(map[string]Container{"c": running("c")})
			o.DeletionSeen = now.Add(-2 * time.Second)
			return o
		}(), want: "stop container c: pod deleted (in 3s)"},
		{name: "deleted and drained", spec: one, change: deleted, drain: true, o: observed(map[string]Container{"c": running("c")}), want: "stop container c: pod deleted"},
		{name: "deleted without grace", spec: one, change: func(p *corev1.Pod) { deleted(p); p.DeletionGracePeriodSeconds = new(int64) }, drain: true, o: observed(map[string]Container{"c": running("c")}), want: "kill container c: pod deleted"},
		{name: "deleted, all ended", spec: one, change: deleted, o: observed(map[string]Container{"c": exited("c", 0, 1)}), want: "remove container c: pod deleted\nremove sandbox: pod deleted"},
		{name: "deleted and gone", spec: one, change: deleted, o: &Observed{UID: "uid-1", Released: true}, want: ""},
		{name: "left work", gone: true, o: observed(map[string]Container{"c": running("c")}), want: "stop container c: not in this node's work"},
		{name: "left work, all gone", gone: true, o: &Observed{UID: "uid-1", Released: true}, want: "forget pod: not in this node's work"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var w *Wanted
			if !test.gone {
				w = &Wanted{PodWork: wire.PodWork{Pod: podFrom(t, test.spec), Drained: test.drain}}
				if test.change != nil {
					test.change(w.Pod)
				}
			}
			if diff := cmp.Diff(test.want, told(Plan(w, test.o, present, now))); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

// What is stopped for a probe has that probe's grace.
func TestProbesHaveTheirOwnGrace(t *testing.T) {
	p := podFrom(t, "terminationGracePeriodSeconds: 60\ncontainers: [{name: c, livenessProbe: {terminationGracePeriodSeconds: 3}, startupProbe: {terminationGracePeriodSeconds: 4}}, {name: d}]")
	for _, test := range []struct {
		i       int
		started bool
		want    time.Duration
	}{{0, true, 3 * time.Second}, {0, false, 4 * time.Second}, {1, true, time.Minute}} {
		c := &p.Spec.Containers[test.i]
		oc := running(c.Name)
		oc.Started, oc.Unlively = test.started, "no"
		ops := Plan(&Wanted{PodWork: wire.PodWork{Pod: p}}, observed(map[string]Container{c.Name: oc}), present, now)
		if ops[0].Kind != StopContainer || ops[0].Grace != test.want {
			t.Errorf("%s, started %v: %+v, want grace %s", c.Name, test.started, ops[0], test.want)
		}
	}
}

func TestALongRunStartsTheBackoffAnew(t *testing.T) {
	c := running("c")
	c.Crashes = 7
	c.StartedAt = now.Add(-longRun)
	if c = c.Exited(Exit{Code: 1, FinishedAt: now}); !c.RestartAt().IsZero() {
		t.Errorf("next start at %s, want at once", c.RestartAt())
	}
}

// world is the least that makes plans come true: it does every due operation
// and lets time pass to the next one.
type world struct {
	w      *Wanted
	o      *Observed
	images map[string]string
	now    time.Time
	starts map[string]time.Time // last start by container
}

func (x *world) do(t *rapid.T, op Operation) {
	c := x.o.Containers[op.Container]
	switch op.Kind {
	case CreateSandbox:
		x.o.Sandbox = true
	case PrepareVolumes:
		x.o.VolumesReady, x.o.Volumes = true, x.w.Data
	case PullImage:
		x.images[op.Image] = "sha256:x"
		c.Pulled = op.Attempt + 1
		x.o.Containers[op.Container] = c
	case StartContainer:
		if c.alive() {
			t.Fatalf("%s is started while it runs", op.Container)
		}
		if !x.o.Sandbox || !x.o.VolumesReady {
			t.Fatalf("%s is started before sandbox and volumes", op.Container)
		}
		if c.Present {
			x.o.Leftovers = append(x.o.Leftovers, Leftover{ID: c.ID})
		}
		spec := corev1.Container{Name: op.Container, Image: op.Image}
		n := c.Next(fmt.Sprintf("%s-%d", op.Container, op.Attempt), op.Attempt, SpecHash(&spec), op.Image, "sha256:x", x.now)
		if op.Container == "s" {
			n.Sidecar, n.Started = 1, true
		}
		if c.ID != "" && op.Attempt <= c.Attempt && c.State != StateNone {
			t.Fatalf("%s: attempt %d after %d", op.Container, op.Attempt, c.Attempt)
		}
		x.o.Containers[op.Container] = n
	case RunHook:
		if op.Hook == schema.PostStart {
			c.PostStarted, c.Started = true, true
		} else {
			c.PreStopAt, c.StopReason, c.StopGrace = x.now, op.Reason, op.Grace
			x.now = x.now.Add(min(op.Grace, 3*time.Second))
			c.PreStopped = true
			x.begins(op)
		}
		x.o.Containers[op.Container] = c
	case StopContainer:
		c.TermAt, c.StopGrace = x.now, op.Grace
		x.o.Containers[op.Container] = c
		x.begins(op)
	case KillContainer:
		if !c.TermAt.IsZero() && x.now.Before(c.TermAt.Add(min(c.StopGrace, op.Grace))) && op.Grace > 0 {
			t.Fatalf("%s is killed %s after the stop signal, grace %s", op.Container, x.now.Sub(c.TermAt), op.Grace)
		}
		x.begins(op)
		x.o.Containers[op.Container] = c.Exited(Exit{Code: 137, FinishedAt: x.now})
	case RemoveContainer:
		if op.Container == "" {
			x.o.Leftovers = nil
			return
		}
		if c.alive() {
			t.Fatalf("%s is removed while it runs", op.Container)
		}
		c.Present = false
		x.o.Containers[op.Container] = c
	case RemoveSandbox:
		for name, c := range x.o.Containers {
			if c.alive() {
				t.Fatalf("the sandbox goes while %s runs", name)
			}
		}
		x.o.Released, x.o.Sandbox, x.o.VolumesReady = true, false, false
	}
}

// begins notes when the end of the pod began.
func (x *world) begins(op Operation) {
	if op.Ending && x.o.EndingAt.IsZero() {
		x.o.EndingAt = x.now
	}
}

// settle plans and does until there is nothing to do at once.
func (x *world) settle(t *rapid.T) (next time.Time) {
	for range 50 {
		next = time.Time{}
		acted := false
		for _, op := range Plan(x.w, x.o, x.images, x.now) {
			if op.After.After(x.now) {
				if next.IsZero() || op.After.Before(next) {
					next = op.After
				}
				continue
			}
			x.do(t, op)
			acted = true
			if op.Kind == PullImage {
				break
			}
		}
		if Initialized(x.w.Pod, x.o) {
			x.o.Initialized = true
		}
		if !acted {
			return next
		}
	}
	t.Fatal("plans without end")
	return next
}

// Whatever exits and whatever is deleted, plans come to rest, never run a
// container twice, and a deleted pod is gone after its grace.
func TestPlansComeToRest(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		spec := "restartPolicy: " + rapid.SampledFrom([]string{"Always", "OnFailure", "Never"}).Draw(t, "policy")
		spec += "\nterminationGracePeriodSeconds: " + rapid.SampledFrom([]string{"0", "1", "30"}).Draw(t, "grace")
		spec += rapid.SampledFrom([]string{"", "\ninitContainers: [{name: a}]", "\ninitContainers: [{name: s, restartPolicy: Always}, {name: a}]"}).Draw(t, "init")
		spec += rapid.SampledFrom([]string{"\ncontainers: [{name: c}, {name: d}]", "\ncontainers: [{name: c, lifecycle: {postStart: {sleep: {seconds: 1}}, preStop: {sleep: {seconds: 1}}}}, {name: d}]"}).Draw(t, "hooks")
		x := &world{w: &Wanted{PodWork: wire.PodWork{Pod: podFrom(t, spec)}}, o: &Observed{UID: "uid-1", Containers: map[string]Container{}}, images: map[string]string{}, now: now}
		wake := x.settle(t)
		for range rapid.IntRange(1, 12).Draw(t, "events") {
			name := rapid.SampledFrom([]string{"a", "c", "d", "s"}).Draw(t, "container")
			switch c := x.o.Containers[name]; rapid.IntRange(0, 3).Draw(t, "event") {
			case 0, 1:
				if c.State == StateRunning {
					x.o.Containers[name] = c.Exited(Exit{Code: int32(rapid.IntRange(0, 1).Draw(t, "code")), FinishedAt: x.now})
				}
			case 2:
				x.now = x.now.Add(rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(t, "time"))
			case 3:
				if !wake.IsZero() {
					x.now = wake
				}
			}
			wake = x.settle(t)
			Status(x.w, x.o, "10.0.0.1", x.now)
		}
		x.w.Pod.DeletionTimestamp, x.o.DeletionSeen = &metav1.Time{Time: x.now}, x.now
		deadline := x.now.Add(DrainWait + Grace(x.w.Pod) + leastGrace + 3*time.Second + time.Second) // hooks run one after the other here
		for wake = x.settle(t); !Gone(x.w, x.o); wake = x.settle(t) {
			if wake.IsZero() || wake.After(deadline) {
				t.Fatalf("not gone at %s, next look at %s: %+v", x.now, wake, x.o)
			}
			x.now = wake
		}
		x.w.Pod = nil
		if ops := Plan(nil, x.o, x.images, x.now); len(ops) != 1 || ops[0].Kind != ForgetPod {
			t.Fatalf("after it left work: %v", ops)
		}
	})
}
