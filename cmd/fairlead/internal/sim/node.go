package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent"
	"fairlead/nodeagent/pod"
	"fairlead/nodeagent/runtimetest"
	"fairlead/nodeagent/uplink"
	"fairlead/reconciler/api"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// node is a machine: what outlives its agent, and what a boot takes away.
type node struct {
	w      *World
	name   schema.NodeName
	ip     string
	cidr   string // small, so that addresses come round
	dir    string
	skew   time.Duration // of this host's clock, as the agent that runs knows it
	jumped time.Duration // since that agent began
	boots  int
	joined bool

	runtime *runtimetest.Fake
	hung    bool // the runtime's service answers nobody
	// answered is when the runtime last listed what runs.
	answered time.Time
	apps     map[string]*app          // by container ID
	live     map[types.UID]netip.Addr // sandboxes
	table    *wire.Work               // as programmed; nil: nothing
	agent    *agent

	cutUp, cutDown bool // what the node sends, and what it is sent, is lost
	slow           time.Duration
}

// app is what runs in a container.
type app struct {
	spec    pod.ContainerSpec
	started time.Time
	termAt  time.Time
	hookAt  time.Time // when its preStop hook began
	ready   time.Time // from when it answers; zero: never
	sick    bool      // its liveness fails
	killed  bool      // its conmon was
}

// images that can be had; what an app does is in its tag.
var images = []string{
	"localhost/app:v1", "localhost/app:v2", "localhost/app:v3", "localhost/app:v4", "localhost/app:slow", "localhost/app:crash", "localhost/app:sick", "localhost/app:done", "localhost/app:init",
}

func newNode(w *World, i int, skew time.Duration) *node {
	n := &node{
		w: w, name: schema.NodeName(fmt.Sprintf("n%d", i+1)), ip: fmt.Sprintf("192.0.2.%d", i+1), skew: skew,
		cidr: fmt.Sprintf("10.112.%d.0/27", 4*i), apps: map[string]*app{}, live: map[types.UID]netip.Addr{},
	}
	n.dir = filepath.Join(w.dir, string(n.name))
	n.runtime = runtimetest.NewFake(images...)
	n.runtime.Now = n.clock
	n.runtime.Stall = func(context.Context, <-chan struct{}) {}
	n.agent = &agent{node: n, process: process{w: w, name: string(n.name) + "/agent"}}
	return n
}

func (n *node) clock() time.Time { return n.w.now.Add(n.skew) }

// reboot ends everything on the machine but the disk.
func (n *node) reboot() {
	n.w.note("%s boots", n.name)
	n.agent.end("the machine boots")
	n.boots++
	for _, name := range n.runtime.Running() {
		n.runtime.Die(name, pod.Exit{Code: 137, Unknown: true})
	}
	n.runtime.Reopen()
	n.runtime.StartService()
	n.hung = false
	n.live, n.table = map[types.UID]netip.Addr{}, nil
}

// running reports whether the process of a container lives.
func (n *node) running(id string) bool {
	a := n.apps[id]
	return a != nil && slices.Contains(n.runtime.Running(), a.spec.Name)
}

// Runtime of a node: the fake, watched.
type watched struct {
	*runtimetest.Fake
	n *node
}

func (r watched) Create(ctx context.Context, s pod.ContainerSpec) (string, error) {
	s.Args = []string{"stubborn"} // who ends at SIGTERM, and when, is the app's to say
	id, err := r.Fake.Create(ctx, s)
	if id != "" {
		r.n.apps[id] = &app{spec: s}
	}
	return id, err
}

func (r watched) Start(ctx context.Context, id string) error {
	err := r.Fake.Start(ctx, id)
	if a := r.n.apps[id]; a != nil && a.started.IsZero() && r.n.running(id) {
		r.n.w.truth.inTurn(r.n, a)
		r.n.began(id, a)
	}
	return err
}

// began lets a container's app do what its image says.
func (n *node) began(id string, a *app) {
	w := n.w
	a.started = w.now
	_, tag, _ := strings.Cut(a.spec.Image, ":")
	w.note("%s: %s runs %s", n.name, a.spec.Name, tag)
	w.truth.started(n, a)
	switch tag {
	case "crash":
		w.after(w.between(100*time.Millisecond, 2*time.Second), func() { n.dies(id, pod.Exit{Code: 1}) })
	case "done":
		w.after(w.between(2*time.Second, 20*time.Second), func() { n.dies(id, pod.Exit{}) })
	case "init":
		e := pod.Exit{}
		if w.chance.IntN(8) == 0 {
			e.Code = 1
		}
		w.after(w.between(10*time.Millisecond, time.Second), func() { n.dies(id, e) })
	case "sick":
	case "slow":
		a.ready = w.now.Add(w.between(3*time.Second, 8*time.Second))
	default:
		a.ready = w.now.Add(w.between(10*time.Millisecond, time.Second))
	}
}

// dies ends an app by itself or from outside.
func (n *node) dies(id string, e pod.Exit) {
	if a := n.apps[id]; a != nil && n.running(id) {
		n.w.note("%s: %s ends, %d", n.name, a.spec.Name, e.Code)
		n.w.truth.exited(a.spec.Pod, e)
		n.runtime.Die(a.spec.Name, e)
		n.agent.lookAtDead()
	}
}

func (r watched) Signal(ctx context.Context, id string, s syscall.Signal) error {
	n, a := r.n, r.n.apps[id]
	if a != nil && n.running(id) {
		n.w.truth.signalled(n, id, a, s)
	}
	err := r.Fake.Signal(ctx, id, s)
	if err == nil && a != nil && n.running(id) && s != syscall.SIGKILL && a.termAt.IsZero() {
		a.termAt = n.w.now
		n.w.after(n.w.between(0, 3*time.Second), func() { n.dies(id, pod.Exit{}) })
	}
	n.agent.lookAtDead()
	return err
}

func (r watched) Remove(ctx context.Context, id string) error {
	if a := r.n.apps[id]; a != nil && r.n.running(id) {
		r.n.w.truth.removed(r.n, id, a)
	}
	err := r.Fake.Remove(ctx, id)
	r.n.agent.lookAtDead()
	return err
}

func (n *node) Set(work *wire.Work, _ []pod.HostPort) error {
	n.table = work
	return nil
}

func (n *node) CreateSandbox(c pod.SandboxConfig) (pod.Sandbox, error) {
	uid, ip := c.UID, c.IP
	if have, ok := n.live[uid]; ok && have != ip {
		return pod.Sandbox{}, fmt.Errorf("pod %s has %s", uid, have)
	}
	n.w.truth.addressed(n, uid, ip)
	n.live[uid] = ip
	return pod.Sandbox{Net: "/net/" + string(uid)}, nil
}

func (n *node) DeleteSandbox(uid types.UID) error {
	if ip, ok := n.live[uid]; ok {
		n.w.truth.unaddressed(uid, ip)
		delete(n.live, uid)
	}
	return nil
}

func (n *node) Sandboxes() (map[types.UID]netip.Addr, error) {
	return maps.Clone(n.live), nil
}

// noVolumes makes every volume a path.
type noVolumes struct{}

func (noVolumes) Prepare(*corev1.Pod, pod.Data, pod.Place) error { return nil }
func (noVolumes) Bind(_ *corev1.Pod, c *corev1.Container) (out []string, err error) {
	for _, m := range c.VolumeMounts {
		out = append(out, "/volumes/"+m.Name)
	}
	return out, nil
}
func (noVolumes) Unbind(types.UID) error { return nil }
func (noVolumes) Remove(types.UID) error { return nil }

// agent is an agent's process: its core and its executor, which are the
// product's own, and the shells around them.
type agent struct {
	node *node
	process

	core     *nodeagent.Core
	exec     *nodeagent.Executor
	view     *uplink.View
	begun    bool
	due      time.Time
	told     map[string]bool // containers whose death is on its way to the core
	probes   map[string]bool // by container and kind
	network  *nodeagent.NetworkState
	setting  bool
	listing  bool
	reports  int // the number of the report under way
	waiting  bool
	again    bool // something changed since
	retry    time.Duration
	stream   *connection
	heardAt  time.Time
	deleting map[types.UID]time.Time // when it first saw a pod's deletion
	fatal    int                     // after how many operations it is killed, 0 for none
}

// Bounds of the shells, as in package nodeagent and uplink.
const (
	callTimeout    = 10 * time.Second
	reportRetry    = 500 * time.Millisecond
	resyncInterval = 10 * time.Second
	streamSilence  = 20 * time.Second
	dialTimeout    = 5 * time.Second
	retryFirst     = 100 * time.Millisecond
	retryMost      = 2 * time.Second
)

func (a *agent) start() {
	a.alive, a.begun = true, false
	a.told, a.probes, a.deleting = map[string]bool{}, map[string]bool{}, map[types.UID]time.Time{}
	a.due, a.network, a.setting, a.listing, a.waiting, a.again, a.stream, a.retry = time.Time{}, nil, false, false, false, false, nil, retryFirst
	n := a.node
	n.skew, n.jumped = n.skew+n.jumped, 0
	n.runtime.Reopen()
	res := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("600m"), corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourcePods: resource.MustParse("12")}
	cfg := nodeagent.Config{
		Node: n.name, NodeIP: n.ip, Dir: n.dir, Info: corev1.NodeSystemInfo{BootID: fmt.Sprint("boot-", n.boots)}, Capacity: res, Allocatable: res,
		ResolvConf: filepath.Join(n.dir, "none"), Runtime: watched{n.runtime, n}, Network: n, Volumes: noVolumes{}, Log: n.w.log,
	}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		n.w.broken("setup", "%v", err)
		return
	}
	var err error
	if a.core, err = nodeagent.OpenCore(cfg); err != nil {
		n.w.broken("S14", "agent of %s cannot begin: %v", n.name, err)
		return
	}
	a.exec = nodeagent.NewExecutor(cfg, n.clock)
	a.adopt()
}

// adopt waits for the runtime and takes over what runs.
func (a *agent) adopt() {
	n := a.node
	found, err := n.runtime.List(n.w.ctx)
	if err != nil {
		a.after(time.Second/5, a.adopt)
		return
	}
	all, err := n.runtime.Images(n.w.ctx)
	if err != nil {
		a.after(time.Second/5, a.adopt)
		return
	}
	n.answered = n.w.now
	last, err := a.core.Adopt(found, all, n.clock())
	if err != nil {
		n.w.broken("S14", "agent of %s cannot adopt: %v", n.name, err)
		return
	}
	n.w.note("%s adopts %d containers at work version %d", a.name, len(found), last.Version)
	if a.view, err = uplink.NewView(last.Version, last.Items); err != nil {
		a.view, _ = uplink.NewView(0, nil)
	}
	a.begun = true
	a.act()
	a.connect()
	a.report()
	a.after(reportEvery, a.reportAgain)
	a.after(resyncInterval, a.resync)
}

const reportEvery = wire.ReportInterval

// act lets the core decide and does what it asks for.
func (a *agent) act() {
	if !a.begun {
		return
	}
	do := a.core.Act(a.node.clock())
	if do.Network != nil {
		a.network = do.Network
		a.program()
	}
	for _, t := range do.Tasks {
		a.step(t, func() { a.core.Finished(t) })
	}
	for _, t := range do.Pulls {
		a.step(t, func() {})
	}
	a.attend()
	for _, h := range do.Hooks {
		a.hook(h)
	}
	if do.Report {
		a.report()
	}
	if do.List {
		a.list()
	}
	if !do.Wake.IsZero() {
		a.actAt(a.node.w.now.Add(max(0, do.Wake.Sub(a.node.clock()))))
	}
}

func (a *agent) actAt(t time.Time) {
	if !a.due.IsZero() && !t.Before(a.due) {
		return
	}
	a.due = t
	a.after(t.Sub(a.w.now), func() {
		if a.due.Equal(t) {
			a.due = time.Time{}
			a.act()
		}
	})
}

// step does a task's next operation, and tells of it a while later: who is
// killed in between never knew.
func (a *agent) step(t nodeagent.Task, finished func()) {
	w := a.node.w
	a.after(w.between(time.Millisecond, 60*time.Millisecond), func() {
		r, more := a.exec.Step(w.ctx, &t)
		if a.fatal > 0 {
			if a.fatal--; a.fatal == 0 {
				a.end("killed amid its work")
				return
			}
		}
		told := w.between(time.Millisecond, 40*time.Millisecond)
		if a.node.hung {
			told = callTimeout
		}
		a.after(told, func() {
			a.core.Done(r)
			if more {
				a.step(t, finished)
			} else {
				finished()
			}
			a.act()
		})
	})
}

// hook lets a hook run for a while; some preStop hooks fail. One whose container or agent
// ends meanwhile tells nothing.
func (a *agent) hook(h nodeagent.Hook) {
	n := a.node
	n.w.truth.hookRan(n, h)
	a.after(min(h.Limit, n.w.between(10*time.Millisecond, 4*time.Second)), func() {
		if !n.running(h.ID) {
			return
		}
		failed := ""
		if h.Kind == schema.PreStop && n.w.chance.IntN(8) == 0 {
			failed = "it failed"
		}
		a.core.Hooked(h.Pod, h.ID, h.Kind, failed, n.clock())
		a.act()
	})
}

// program brings the newest network state into force, one at a time.
func (a *agent) program() {
	if a.setting || a.network == nil {
		return
	}
	a.setting = true
	a.after(a.w.between(time.Millisecond, 20*time.Millisecond)+a.node.slow, func() {
		s := *a.network
		a.network = nil
		_ = a.node.Set(s.Work, s.HostPorts) // which never fails
		a.setting = false
		a.core.InForce(s)
		a.program()
		a.report()
		a.act()
	})
}

// attend waits for the death of what runs and probes it.
func (a *agent) attend() {
	for _, c := range a.attended() {
		if c.Spec == nil {
			continue
		}
		for kind, spec := range pod.ProbesOf(c.Spec) {
			key := c.ID + string(kind)
			if (kind == pod.ProbeStartup) == c.Started || a.probes[key] {
				continue
			}
			a.probes[key] = true
			delay := c.StartedAt.Add(pod.ProbeDelay(spec)).Sub(a.node.clock())
			count := &pod.ProbeCount{}
			a.after(max(delay, 10*time.Millisecond), func() { a.probe(c, kind, spec, count, pod.Undecided) })
		}
	}
	a.lookAtDead()
}

func (a *agent) attended() []nodeagent.Attended {
	out := a.core.Attended()
	slices.SortFunc(out, func(x, y nodeagent.Attended) int { return strings.Compare(x.ID, y.ID) })
	return out
}

func (a *agent) probe(c nodeagent.Attended, kind pod.ProbeKind, spec *corev1.Probe, count *pod.ProbeCount, last pod.ProbeResult) {
	n := a.node
	ctr := n.apps[c.ID]
	if ctr == nil || !n.running(c.ID) {
		return
	}
	well := !ctr.ready.IsZero() && !n.w.now.Before(ctr.ready)
	if kind == pod.ProbeLiveness {
		well = !ctr.sick
	}
	wait := pod.ProbePeriod(spec)
	if !well && last != pod.Passed && kind == pod.ProbeReadiness {
		wait = min(wait, time.Second)
	}
	if v := count.Count(well, spec); v != pod.Undecided && v != last {
		last = v
		a.core.Probed(c.Pod, c.ID, kind, v, "does not answer")
		a.act()
	}
	a.after(wait, func() { a.probe(c, kind, spec, count, last) })
}

// lookAtDead brings deaths to the core, a while after they happened.
func (a *agent) lookAtDead() {
	if !a.alive || !a.begun {
		return
	}
	for _, c := range a.attended() {
		if a.told[c.ID] {
			continue
		}
		exit, ended, err := a.node.runtime.Ended(a.w.ctx, c.ID)
		if err != nil || !ended {
			continue
		}
		a.told[c.ID] = true
		a.after(a.w.between(0, 20*time.Millisecond), func() {
			a.core.Exited(c.Pod, c.ID, exit)
			delete(a.told, c.ID)
			a.act()
		})
	}
}

func (a *agent) resync() {
	a.list()
	a.lookAtDead()
	a.after(resyncInterval, a.resync)
}

// list tells the core what the runtime lists, which may be old news by then.
func (a *agent) list() {
	if a.listing {
		return
	}
	a.listing = true
	began := a.core.Listing()
	a.after(a.w.between(time.Millisecond, 20*time.Millisecond), func() {
		found, err := a.node.runtime.List(a.w.ctx)
		if err != nil {
			a.core.Unlisted(err, a.node.clock())
			wait := time.Second / 5
			if a.node.hung {
				wait = callTimeout
			}
			a.after(wait, func() { a.listing = false; a.list() })
			return
		}
		a.after(a.w.between(0, 20*time.Millisecond), func() {
			a.listing = false
			a.node.answered = a.w.now
			a.core.Listed(began, found, a.node.clock())
			a.act()
		})
	})
}

func (a *agent) reportAgain() {
	a.report()
	a.after(reportEvery, a.reportAgain)
}

// report tells the master, one report at a time. One that got no answer in time
// may be on its way still.
func (a *agent) report() {
	if a.waiting {
		a.again = true
		return
	}
	w, n, m := a.w, a.node, a.w.master
	a.waiting, a.again = true, false
	a.reports++
	number := a.reports
	r, events := a.core.Report()
	data, err := json.Marshal(r)
	if err != nil {
		w.broken("wire", "%v", err)
		return
	}
	over := func(err error) {
		if a.reports != number || !a.waiting {
			return
		}
		if err != nil {
			a.after(reportRetry, func() { a.waiting = false; a.report() })
			return
		}
		a.waiting = false
		more := a.core.Heard(events, n.clock())
		a.act()
		if more || a.again {
			a.report()
		}
	}
	a.after(callTimeout, func() { over(errors.New("no answer")) })
	life := a.life
	n.send(func() {
		if !m.alive {
			n.receive(func() {
				if a.life == life {
					over(errors.New("refused"))
				}
			})
			return
		}
		m.after(0, func() {
			m.report(data, func() {
				n.receive(func() {
					if a.life == life {
						a.after(0, func() { over(nil) })
					}
				})
			})
		})
	})
}

// delay is a message's way.
func (w *World) delay() time.Duration {
	if w.chance.IntN(50) == 0 {
		return w.between(10*time.Millisecond, time.Second)
	}
	return w.between(time.Millisecond, 10*time.Millisecond)
}

// send brings something from the node to the master's host; receive brings
// something back. What meets a cut on arrival is lost.
func (n *node) send(arrived func()) {
	n.w.after(n.w.delay(), func() {
		if !n.cutUp {
			arrived()
		}
	})
}

func (n *node) receive(arrived func()) {
	n.w.after(n.w.delay(), func() {
		if !n.cutDown {
			arrived()
		}
	})
}

// connection is an agent's stream of work. Frames arrive in order; those that
// meet a cut wait for its end, as they do in TCP, or for the agent's patience to
// end.
type connection struct {
	agent  *agent
	life   int // of the agent
	stream *api.WorkStream
	sent   time.Time // when the last frame arrives
	frames []wire.Frame
	over   bool
	offers bool // what was kept has been told
}

// connect dials the master.
func (a *agent) connect() {
	n, m := a.node, a.w.master
	c := &connection{agent: a, life: a.life}
	a.stream, a.heardAt = c, a.w.now
	since := a.view.Since()
	n.send(func() {
		n.receive(func() {
			if !m.alive { // refused at once
				if a.life == c.life {
					a.after(0, func() { a.lost(c) })
				}
			}
		})
		m.after(0, func() {
			if m.alive && a.stream == c && a.life == c.life {
				m.connect(c, since)
			}
		})
	})
	a.after(dialTimeout, func() {
		if c.stream == nil {
			a.lost(c)
		}
	})
	a.after(streamSilence, func() { a.watchdog(c) })
}

// watchdog ends a stream that said nothing for too long.
func (a *agent) watchdog(c *connection) {
	if a.stream != c || c.over {
		return
	}
	if quiet := a.w.now.Sub(a.heardAt); quiet < streamSilence {
		a.after(streamSilence-quiet, func() { a.watchdog(c) })
		return
	}
	a.lost(c)
}

// lost is the end of a stream; another follows.
func (a *agent) lost(c *connection) {
	if a.stream != c || c.over {
		return
	}
	c.over = true
	a.after(a.retry, a.connect)
	a.retry = min(2*a.retry, retryMost)
}

// send is the master's.
func (c *connection) send(f wire.Frame) {
	w := c.agent.w
	at := w.now.Add(w.delay())
	if at.Before(c.sent) {
		at = c.sent
	}
	c.sent = at
	c.frames = append(c.frames, f)
	w.after(at.Sub(w.now), c.arrive)
}

// arrive hands over the frames that have come, or waits for the cut to end.
func (c *connection) arrive() {
	a := c.agent
	if len(c.frames) == 0 || c.over || a.life != c.life || a.stream != c {
		return
	}
	if a.node.cutDown || a.w.now.Before(a.paused) {
		a.w.after(500*time.Millisecond, c.arrive)
		return
	}
	f := c.frames[0]
	c.frames = c.frames[1:]
	a.take(c, f)
	c.arrive()
}

// take applies a frame.
func (a *agent) take(c *connection, f wire.Frame) {
	a.heardAt = a.w.now
	if f.Recover && !c.offers {
		c.offers = true
		kept := a.view.Kept()
		n, m := a.node, a.w.master
		n.send(func() { m.after(0, func() { m.kept(n.name, kept) }) })
	}
	if f.Hash == "" {
		return
	}
	u, err := a.view.Apply(f)
	if err != nil {
		a.w.note("%s: %v", a.name, err)
		if errors.Is(err, uplink.ErrMismatch) {
			a.view.AskForWhole()
		}
		a.lost(c)
		return
	}
	a.retry = retryFirst
	for uid, p := range u.Work.Pods {
		if p.Pod.DeletionTimestamp != nil && a.deleting[uid].IsZero() {
			a.deleting[uid] = a.w.now
		}
	}
	a.core.Take(nodeagent.Update{Version: u.Version, Items: u.Items, Work: u.Work, Changed: nodeagent.FamiliesOf(u.Changed)}, a.node.clock())
	a.act()
}
