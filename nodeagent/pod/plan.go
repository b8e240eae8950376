package pod

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/schema"
)

// Kind of an operation.
type Kind string

// The operations, in the order a pod meets them.
const (
	CreateSandbox   Kind = "create sandbox"
	PrepareVolumes  Kind = "prepare volumes"
	PullImage       Kind = "pull image"      // or find it, as the policy says
	StartContainer  Kind = "start container" // create and start
	RunHook         Kind = "run hook"        // of a container's lifecycle
	StopContainer   Kind = "stop container"  // the stop signal
	KillContainer   Kind = "kill container"  // SIGKILL
	RemoveContainer Kind = "remove container"
	RemoveSandbox   Kind = "remove sandbox" // with volumes and cgroups
	ForgetPod       Kind = "forget pod"     // its record and logs
)

// Operation is one step towards what is wanted, with the reason for it.
type Operation struct {
	Kind      Kind
	Pod       types.UID
	Container string // name in the pod
	ID        string // of the container to stop, kill or remove
	Attempt   int    // of the container to start
	Image     string // to pull
	Hook      schema.HookKind
	Grace     time.Duration // to end in; of a hook, all that it may take
	Reason    string
	After     time.Time // not before; zero is at once
	Ending    bool      // because the pod as a whole is to end
}

// String is "start container web: attempt 2 after exit code 1".
func (o Operation) String() string {
	s := string(o.Kind)
	if o.Hook != "" {
		s = "run " + string(o.Hook) + " hook"
	}
	if o.Container != "" {
		s += " " + o.Container
	}
	return s + ": " + o.Reason
}

// DrainWait is how long a terminating pod waits for every table to lose its
// endpoints before SIGTERM goes out anyway.
const DrainWait = 5 * time.Second

// defaultGrace is Kubernetes' terminationGracePeriodSeconds.
const defaultGrace = 30 * time.Second

// killAgain is when a SIGKILL that showed no effect is sent once more.
const killAgain = 2 * time.Second

// Plan gives the operations that take one pod from o to w, in order. w nil
// means that the pod is no longer bound here. images maps the references that
// are present on the node to image ids. Operations whose After lies ahead are
// listed so that their wait can be told; what depends on them is not listed
// yet. An empty plan means that there is nothing to do until something changes.
func Plan(w *Wanted, o *Observed, images map[string]string, now time.Time) []Operation {
	p := &planner{w: w, o: o, images: images, now: now}
	for _, l := range o.Leftovers {
		p.add(Operation{Kind: RemoveContainer, ID: l.ID, Reason: l.Reason, After: o.Setup.due(setupFirst)})
	}
	switch {
	case w == nil:
		p.terminate("not in this node's work", time.Time{}, o.Grace)
	case w.Pod.DeletionTimestamp != nil:
		allowed := time.Time{}
		if !w.Drained {
			allowed = o.DeletionSeen.Add(DrainWait)
		}
		p.terminate("pod deleted", allowed, Grace(w.Pod))
	default:
		if phase, done := Outcome(w.Pod, o); done {
			reason, allowed := "pod "+string(phase), time.Time{}
			if !o.OverdueAt.IsZero() {
				reason, allowed = Overdue, o.OverdueAt.Add(DrainWait)
			}
			p.terminate(reason, allowed, Grace(w.Pod))
		} else {
			p.run()
		}
	}
	return p.ops
}

// Gone reports whether nothing of a pod that should go is left on the node.
func Gone(w *Wanted, o *Observed) bool {
	if w != nil && w.Pod.DeletionTimestamp == nil || !o.Released || len(o.Leftovers) > 0 {
		return false
	}
	for _, c := range o.Containers {
		if c.Present || c.alive() {
			return false
		}
	}
	return true
}

// Grace is how long a deleted pod may take after SIGTERM.
func Grace(pod *corev1.Pod) time.Duration {
	if s := pod.DeletionGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return defaultGrace
}

// SpecHash identifies what of a container's spec may change under a running
// pod: a change recreates the container. It leaves everything else out, so that
// a new version of the defaults restarts nothing.
func SpecHash(c *corev1.Container) string {
	return schema.Hash([]string{c.Name, c.Image})
}

// Outcome tells whether all of the pod's containers ended for good, and how. Its
// sidecars have no say in it, and may still run.
func Outcome(pod *corev1.Pod, o *Observed) (phase corev1.PodPhase, done bool) {
	if !o.OverdueAt.IsZero() {
		return corev1.PodFailed, true
	}
	if !initialized(pod, o) {
		for i := range pod.Spec.InitContainers {
			c := &pod.Spec.InitContainers[i]
			if oc := o.Containers[c.Name]; ended(pod, c, oc) && oc.ExitCode != 0 {
				return corev1.PodFailed, true
			}
		}
		return "", false
	}
	phase = corev1.PodSucceeded
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		oc := o.Containers[c.Name]
		if !ended(pod, c, oc) {
			return "", false
		}
		if oc.ExitCode != 0 {
			phase = corev1.PodFailed
		}
	}
	return phase, true
}

// Overdue is what is said of a pod that was active for longer than it may.
const Overdue = "the pod was active on the node for longer than its activeDeadlineSeconds"

// Deadline is until when the pod may be active, zero for a pod that may be for ever or
// has ended.
func Deadline(pod *corev1.Pod, o *Observed) time.Time {
	s := pod.Spec.ActiveDeadlineSeconds
	if _, done := Outcome(pod, o); s == nil || done || pod.DeletionTimestamp != nil {
		return time.Time{}
	}
	return o.StartedAt.Add(time.Duration(*s) * time.Second)
}

// ended reports whether a container exited and its pod's policy leaves it so.
func ended(pod *corev1.Pod, c *corev1.Container, oc Container) bool {
	if oc.State != StateExited || oc.SpecHash != SpecHash(c) || schema.IsSidecar(c) {
		return false
	}
	switch pod.Spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		return true
	case corev1.RestartPolicyOnFailure:
		return oc.ExitCode == 0
	default:
		return false
	}
}

func initialized(pod *corev1.Pod, o *Observed) bool {
	if o.Initialized {
		return true
	}
	if slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return o.Containers[c.Name].alive() }) {
		return true // they were through before it was started, though the record is lost
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if !o.Containers[c.Name].passes(c) {
			return false
		}
	}
	return true
}

// passes reports whether what comes after an init container may begin: it has done its
// work, or as a sidecar has started, its postStart hook included.
func (c Container) passes(init *corev1.Container) bool {
	if schema.IsSidecar(init) {
		return c.State == StateRunning && c.Started && !awaitsHook(init, c)
	}
	return c.State == StateExited && c.ExitCode == 0
}

// Initialized reports whether the init containers are through. Once true the
// caller keeps it in o.Initialized.
func Initialized(pod *corev1.Pod, o *Observed) bool { return initialized(pod, o) }

type planner struct {
	w      *Wanted
	o      *Observed
	images map[string]string
	now    time.Time
	ops    []Operation
}

// add appends op and reports whether it is due, so that what depends on it may follow.
func (p *planner) add(op Operation) bool {
	op.Pod = p.o.UID
	p.ops = append(p.ops, op)
	return !op.After.After(p.now)
}

// leastGrace is what a container gets after its stop signal when its hook, or what it had
// to wait for, has taken all of its grace, as in Kubernetes.
const leastGrace = 2 * time.Second

// terminate ends the pod: the stop signal once allowed, SIGKILL after grace, then
// everything of it goes. Sidecars end after what they serve, the last one first, within
// the same grace: when it is over, all that are left are told to end.
func (p *planner) terminate(reason string, allowed time.Time, grace time.Duration) {
	alive, first := false, len(p.ops)
	for _, name := range p.lastFirst() {
		c := p.o.Containers[name]
		if !c.alive() {
			continue
		}
		switch {
		case c.Sidecar == 0:
			p.stop(name, c, reason, allowed, grace)
		case p.o.EndingAt.IsZero() && !alive:
			p.stop(name, c, reason, allowed, grace)
		case !p.o.EndingAt.IsZero():
			p.stopSidecar(name, c, reason, alive, grace)
		}
		alive = true
	}
	for i := first; i < len(p.ops); i++ {
		p.ops[i].Ending = true
	}
	if alive {
		return
	}
	p.release(reason)
	if p.w == nil && p.o.Released && len(p.ops) == 0 {
		p.add(Operation{Kind: ForgetPod, Reason: reason})
	}
}

// lastFirst are the pod's containers in the order of its end.
func (p *planner) lastFirst() []string {
	all := p.o.Containers
	return slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		x, y := all[a].Sidecar, all[b].Sidecar
		switch {
		case x == y:
			return cmp.Compare(a, b)
		case x == 0 || y == 0:
			return cmp.Compare(x, y)
		}
		return cmp.Compare(y, x)
	})
}

// stopSidecar ends a sidecar of a pod that is ending, at the latest when the grace of the
// pod is over; waits says that something runs that is to end before it. Its hook does not
// wait, as in Kubernetes.
func (p *planner) stopSidecar(name string, c Container, reason string, waits bool, grace time.Duration) {
	over := p.o.EndingAt.Add(grace)
	switch {
	case grace == 0, !c.TermAt.IsZero(), !c.KillAt.IsZero():
		p.stop(name, c, reason, time.Time{}, grace)
	case p.preStop(name, c, reason, time.Time{}, over.Sub(p.now)) || waits:
		p.signal(name, c, reason, over, leastGrace)
	default:
		p.signal(name, c, reason, time.Time{}, max(leastGrace, over.Sub(p.now)))
	}
}

// release removes what a pod without live containers still holds.
func (p *planner) release(reason string) {
	due := p.o.Setup.due(setupFirst)
	for _, name := range slices.Sorted(maps.Keys(p.o.Containers)) {
		if c := p.o.Containers[name]; c.Present && !c.alive() {
			p.add(Operation{Kind: RemoveContainer, Container: name, ID: c.ID, Reason: reason, After: due})
		}
	}
	if !p.o.Released {
		p.add(Operation{Kind: RemoveSandbox, Reason: reason, After: due})
	}
}

// stop takes one live container a step nearer to its end: its preStop hook, the stop
// signal, SIGKILL when both together have taken its grace. A container in StateUnknown is
// left alone.
func (p *planner) stop(name string, c Container, reason string, allowed time.Time, grace time.Duration) {
	left := grace
	if !c.PreStopAt.IsZero() {
		left = c.PreStopAt.Add(grace).Sub(p.now)
	}
	op := Operation{Container: name, ID: c.ID, Reason: reason, After: allowed, Grace: grace}
	switch {
	case c.State != StateRunning:
		return
	case c.TermAt.IsZero() && c.KillAt.IsZero() && grace > 0:
		if !p.preStop(name, c, reason, allowed, left) {
			p.signal(name, c, reason, allowed, left)
		} else if !c.PreStopAt.IsZero() {
			p.signal(name, c, reason, c.PreStopAt.Add(grace), leastGrace)
		}
		return
	case c.TermAt.IsZero() && c.KillAt.IsZero():
		op.Kind = KillContainer
	case !c.KillAt.IsZero():
		op.Kind, op.After = KillContainer, c.KillAt.Add(killAgain)
		op.Reason = "still running after SIGKILL"
	default:
		grace = min(grace, c.StopGrace)
		op.Kind, op.After = KillContainer, c.TermAt.Add(grace)
		op.Reason = fmt.Sprintf("still running %s after the stop signal", grace)
	}
	p.add(op)
}

// preStop runs a container's hook, for as long as is left of its grace, and reports
// whether the stop signal waits for it. It runs again where an agent died amid it.
func (p *planner) preStop(name string, c Container, reason string, allowed time.Time, left time.Duration) (waits bool) {
	if c.PreStopped || left <= 0 || c.State != StateRunning || p.hook(name, schema.PreStop) == nil {
		return false
	}
	p.add(Operation{Kind: RunHook, Hook: schema.PreStop, Container: name, ID: c.ID, Reason: reason, After: allowed, Grace: left})
	return true
}

// signal asks a container to end. What a hook has left of its grace may be little.
func (p *planner) signal(name string, c Container, reason string, allowed time.Time, left time.Duration) {
	if !c.PreStopAt.IsZero() {
		left = max(left, leastGrace)
	}
	if c.State == StateRunning {
		p.add(Operation{Kind: StopContainer, Container: name, ID: c.ID, Reason: reason, After: allowed, Grace: left})
	}
}

// hook is one that a container of the pod has, nil for none. Those of a pod that is not
// wanted any more are not known.
func (p *planner) hook(container string, kind schema.HookKind) *corev1.LifecycleHandler {
	if p.w == nil {
		return nil
	}
	c := schema.ContainerOf(&p.w.Pod.Spec, container)
	if c == nil {
		return nil
	}
	return schema.Hooks(c)[kind]
}

// run brings a pod up and keeps it up.
func (p *planner) run() {
	pod := p.w.Pod
	p.stopWrong(pod.Spec.InitContainers)
	p.stopWrong(pod.Spec.Containers)
	if !p.setUp() {
		return
	}
	if slices.ContainsFunc(p.o.Leftovers, func(l Leftover) bool { return l.Alive }) {
		// It may be any of the pod's containers: none is started beside it.
		return
	}
	if !initialized(pod, p.o) {
		p.initialize()
		return
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if oc := p.o.Containers[c.Name]; schema.IsSidecar(c) {
			if !p.start(c) {
				return
			}
		} else if oc.Present && oc.State == StateExited {
			p.add(Operation{Kind: RemoveContainer, Container: c.Name, ID: oc.ID, Reason: "init container finished", After: p.o.Setup.due(setupFirst)})
		}
	}
	for i := range pod.Spec.Containers {
		if !p.start(&pod.Spec.Containers[i]) {
			return
		}
	}
}

// stopWrong stops the containers that run and should not, or not like this.
func (p *planner) stopWrong(containers []corev1.Container) {
	for i := range containers {
		c := &containers[i]
		oc := p.o.Containers[c.Name]
		switch {
		case oc.State != StateRunning:
		case !oc.TermAt.IsZero() || !oc.KillAt.IsZero() || !oc.PreStopAt.IsZero():
			p.stop(c.Name, oc, oc.StopReason, time.Time{}, oc.StopGrace)
		case oc.SpecHash != SpecHash(c):
			p.stop(c.Name, oc, fmt.Sprintf("image changed from %s to %s", oc.Image, c.Image), time.Time{}, Grace(p.w.Pod))
		case oc.PostStartFailed != "":
			p.stop(c.Name, oc, oc.PostStartFailed, time.Time{}, Grace(p.w.Pod))
		case oc.Unlively != "":
			p.stop(c.Name, oc, oc.Unlively, time.Time{}, unlivelyGrace(p.w.Pod, c, oc))
		case !oc.Unmonitored.IsZero():
			p.stop(c.Name, oc, "its conmon died", oc.Unmonitored.Add(DrainWait), Grace(p.w.Pod))
		}
	}
}

// unlivelyGrace is that of the probe for which a container is stopped: its startup probe
// until that has passed.
func unlivelyGrace(pod *corev1.Pod, c *corev1.Container, oc Container) time.Duration {
	p := c.LivenessProbe
	if !oc.Started {
		p = c.StartupProbe
	}
	if p != nil && p.TerminationGracePeriodSeconds != nil {
		return time.Duration(*p.TerminationGracePeriodSeconds) * time.Second
	}
	return Grace(pod)
}

// setUp plans sandbox and volumes and reports whether containers may follow.
func (p *planner) setUp() bool {
	due := p.o.Setup.due(setupFirst)
	if !p.o.Sandbox && !p.add(Operation{Kind: CreateSandbox, Reason: "pod bound to this node", After: due}) {
		return false
	}
	switch {
	case !p.o.VolumesReady:
		return p.add(Operation{Kind: PrepareVolumes, Reason: "pod bound to this node", After: due})
	case p.o.Volumes != p.w.Data:
		// What runs and what restarts can live with the old content meanwhile.
		p.add(Operation{Kind: PrepareVolumes, Reason: "ConfigMap or Secret changed", After: due})
	}
	return true
}

// initialize starts the next init container whose turn it is, and again the sidecars
// before it that have ended. What waits for a sidecar to start waits once: when one ends
// later, what has begun goes on, and is tried again if it fails.
func (p *planner) initialize() {
	waits := false
	for i := range p.w.Pod.Spec.InitContainers {
		c := &p.w.Pod.Spec.InitContainers[i]
		oc := p.o.Containers[c.Name]
		if oc.passes(c) {
			continue
		}
		if waits && oc.State == StateNone {
			return
		}
		p.start(c)
		if !schema.IsSidecar(c) {
			return
		}
		waits = true
	}
}

// start plans the next attempt of a container that does not run and should, and the hook
// of one that was just started: until that is through nothing else of the pod is started,
// as in Kubernetes.
func (p *planner) start(c *corev1.Container) (next bool) {
	oc := p.o.Containers[c.Name]
	if awaitsHook(c, oc) {
		if oc.TermAt.IsZero() && oc.KillAt.IsZero() {
			p.add(Operation{Kind: RunHook, Hook: schema.PostStart, Container: c.Name, ID: oc.ID, Reason: "the container was started", Grace: postStartMost})
		}
		return false
	}
	if oc.alive() || ended(p.w.Pod, c, oc) {
		return true
	}
	op := Operation{Kind: StartContainer, Container: c.Name, Image: c.Image, Reason: "first start", After: oc.Failure.due(backoffFirst)}
	switch oc.State {
	case StateCreated:
		if !p.add(Operation{Kind: RemoveContainer, Container: c.Name, ID: oc.ID, Reason: "created and never started", After: oc.Failure.due(backoffFirst)}) {
			return true
		}
		op.Attempt, op.Reason = oc.Attempt, "created and never started"
	case StateNone:
		if oc.ID != "" {
			op.Attempt, op.Reason = oc.Attempt+1, "the pod starts over"
		}
	case StateExited:
		op.Attempt = oc.Attempt + 1
		op.Reason = fmt.Sprintf("restart %d after %s, exit code %d", op.Attempt, oc.Reason, oc.ExitCode)
		if oc.SpecHash != SpecHash(c) {
			op.Reason = "image changed to " + c.Image
		} else if at := oc.RestartAt(); at.After(op.After) {
			op.After = at
		}
	}
	if p.needsImage(c, oc, op.Attempt) {
		op.Kind = PullImage
		if c.ImagePullPolicy == corev1.PullAlways {
			op.Reason = "imagePullPolicy Always"
		} else {
			op.Reason = "image not known to be present"
		}
	}
	due := p.add(op)
	return !due || schema.Hooks(c)[schema.PostStart] == nil
}

// postStartMost bounds a postStart hook, which Kubernetes lets run for ever: a container
// that takes longer to be prepared never is.
const postStartMost = time.Hour

// awaitsHook reports whether a container runs whose postStart hook has not ended.
func awaitsHook(c *corev1.Container, oc Container) bool {
	return oc.State == StateRunning && !oc.PostStarted && oc.PostStartFailed == "" && schema.Hooks(c)[schema.PostStart] != nil
}

func (p *planner) needsImage(c *corev1.Container, oc Container, attempt int) bool {
	if p.images[c.Image] == "" {
		return true
	}
	return c.ImagePullPolicy == corev1.PullAlways && oc.Pulled != attempt+1
}
