// Package nodeagent answers how one node comes to run what the master bound to
// it, and keeps running it when the master is away: its loop takes the node's
// work, looks at what truly runs, does the operations that package pod plans,
// and reports. It does not schedule, and it never stops what it was not told to
// stop. `fairlead agent` wires it; README.md tells a pod's way through it.
package nodeagent

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/pod"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// Config is what an agent needs. All fields are required unless they say otherwise.
type Config struct {
	Node        schema.NodeName
	NodeIP      string
	Dir         string // work, addresses, pki/work.key, pods/
	Info        corev1.NodeSystemInfo
	Capacity    corev1.ResourceList
	Allocatable corev1.ResourceList
	Labels      map[string]string // may be nil
	// UnsafeSysctls are what pods may set beside schema.SafeSysctls, as schema.SysctlAllowed
	// has them.
	UnsafeSysctls []string
	Taints        []corev1.Taint // may be nil
	ResolvConf    string         // default /etc/resolv.conf

	// Checks tells what keeps this machine from running containers and what to do about
	// it, "" when nothing does. Nil asks nothing.
	Checks func(context.Context) string

	Runtime Runtime
	Network Network
	Volumes Volumes
	Master  Master
	Log     *logrus.Entry
}

const (
	// workers is how many pods are worked on at once: Podman on two cores is
	// fastest at about eight.
	workers = 8
	// pullers is how many images are fetched at once, beside the workers, so
	// that a slow registry holds up its own pods only.
	pullers = 4
	// inboxSize bounds what waits for the loop; senders wait beyond it.
	inboxSize = 256
	// resyncInterval is the safety net: what truly runs is listed again.
	resyncInterval = 10 * time.Second
	// imagesInterval is how often the node's images are listed for the report.
	imagesInterval = time.Minute
	// imagesReported bounds that list, the largest first.
	imagesReported = 50
	// logAnswers bounds the logs answered at once: each is an open file, a
	// connection to the master and, followed, a look every logPoll.
	logAnswers = 32
	// logRefusals bounds how many askers are told at once that the node is busy;
	// the master tells those beyond it after its own time-out.
	logRefusals = 32
	// retryInterval is between attempts at what has to succeed before the rest.
	retryInterval = time.Second
)

// PodsDir is where an agent whose directory is dir keeps its pods: package
// volume puts volumes there.
func PodsDir(dir string) string { return filepath.Join(dir, "pods") }

// Agent is one node's loop: the shell around Core. Run it once.
type Agent struct {
	cfg  Config
	log  *logrus.Entry
	dirs podDirs
	core *Core
	exec *Executor

	inbox   chan func(now time.Time)
	updates mailbox[Update]
	network mailbox[NetworkState]
	changed chan struct{}               // size one: there is something to report
	list    chan struct{}               // size one: somebody waits for a listing
	failed  chan struct{}               // size one: a step failed that the machine may be to blame for
	latest  atomic.Pointer[wire.Report] // the last report, for log answers

	running map[string]*attendance // by container ID; the loop's

	workSem, pullSem, logSem, busySem chan struct{}
	tasks                             sync.WaitGroup
}

// attendance is what goes on for a running container: its death is waited for
// and its probes run, until stop.
type attendance struct {
	ctx    context.Context
	stop   context.CancelFunc
	probes map[pod.ProbeKind]bool
}

func (c Config) withDefaults() Config {
	if c.ResolvConf == "" {
		c.ResolvConf = "/etc/resolv.conf"
	}
	return c
}

// New makes an agent; nothing happens before Run.
func New(cfg Config) *Agent {
	return &Agent{
		cfg: cfg, log: cfg.Log, dirs: podDirs(PodsDir(cfg.Dir)), exec: NewExecutor(cfg, time.Now),
		inbox:   make(chan func(time.Time), inboxSize),
		updates: newMailbox[Update](), network: newMailbox[NetworkState](), changed: make(chan struct{}, 1), list: make(chan struct{}, 1), failed: make(chan struct{}, 1),
		running: map[string]*attendance{},
		workSem: make(chan struct{}, workers), pullSem: make(chan struct{}, pullers),
		logSem: make(chan struct{}, logAnswers), busySem: make(chan struct{}, logRefusals),
	}
}

// Run works until ctx ends, then lets the steps under way finish. Containers
// run on. An error means that the agent could not begin.
func (a *Agent) Run(ctx context.Context) error {
	last, err := a.begin(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	var loops sync.WaitGroup
	loops.Go(func() { a.follow(ctx, last) })
	loops.Go(func() { a.program(ctx) })
	loops.Go(func() { a.report(ctx) })
	loops.Go(func() { a.resync(ctx) })
	loops.Go(func() { a.checkUp(ctx) })
	a.loop(ctx)
	done := make(chan struct{})
	go func() { a.tasks.Wait(); loops.Wait(); close(done) }()
	for {
		select {
		case f := <-a.inbox: // results of the last steps are kept on disk
			f(time.Now())
			a.core.Act(time.Now())
		case <-done:
			return nil
		}
	}
}

// begin reads what an earlier life left and adopts what runs. It waits for the
// runtime to answer: nothing can be decided before.
func (a *Agent) begin(ctx context.Context) (Update, error) {
	var err error
	if a.core, err = OpenCore(a.cfg); err != nil {
		return Update{}, err
	}
	found, images, ok := a.listAtStart(ctx)
	if !ok {
		return Update{}, nil
	}
	return a.core.Adopt(found, images, time.Now())
}

func (a *Agent) listAtStart(ctx context.Context) ([]pod.Found, []pod.Image, bool) {
	began := time.Now()
	for told := false; ; told = true {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		found, err := a.cfg.Runtime.List(call)
		var images []pod.Image
		if err == nil {
			images, err = a.cfg.Runtime.Images(call)
		}
		cancel()
		if err == nil {
			return found, images, true
		}
		if !told && ctx.Err() == nil {
			a.log.WithError(err).Warn("waiting for the container runtime")
		}
		if time.Since(began) >= problemAfter {
			a.cfg.tellProblem(ctx, silentRuntime(err))
		}
		if !sleep(ctx, retryInterval/5) {
			return nil, nil, false
		}
	}
}

// loop owns the core: inputs in, decisions out, until ctx ends.
func (a *Agent) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-a.inbox:
			f(time.Now())
		case <-a.updates.ready:
			if u, ok := a.updates.take(); ok {
				for _, r := range u.Logs {
					a.answerLog(ctx, r)
				}
				a.core.Take(u, time.Now())
			}
		case <-timer.C:
		}
		a.drainInbox()
		wake := a.act(ctx)
		timer.Stop()
		if !wake.IsZero() {
			timer.Reset(max(0, time.Until(wake)))
		}
	}
}

// drainInbox takes what else came meanwhile into the same round.
func (a *Agent) drainInbox() {
	for range inboxSize {
		select {
		case f := <-a.inbox:
			f(time.Now())
		default:
			return
		}
	}
}

// act carries out one round of decisions and returns when to look again.
func (a *Agent) act(ctx context.Context) time.Time {
	do := a.core.Act(time.Now())
	if do.Network != nil {
		a.network.put(*do.Network)
	}
	for _, t := range do.Tasks {
		a.start(ctx, t)
	}
	for _, t := range do.Pulls {
		a.pull(ctx, t)
	}
	a.attend(ctx)
	for _, h := range do.Hooks {
		a.hook(ctx, h)
	}
	if do.Report {
		a.tellMaster()
	}
	if do.List {
		wake(a.list)
	}
	return do.Wake
}

// wake tells a loop that there is something to do; that it knows already is as good.
func wake(loop chan struct{}) {
	select {
	case loop <- struct{}{}:
	default:
	}
}

// start hands a pod's operations to a worker. Steps under way outlive ctx: each
// has its own deadline, and half a step is worse than a late one.
func (a *Agent) start(ctx context.Context, t Task) {
	whole := context.WithoutCancel(ctx)
	a.tasks.Go(func() {
		select {
		case a.workSem <- struct{}{}:
			defer func() { <-a.workSem }()
		case <-ctx.Done():
			return
		}
		a.run(whole, t)
		a.inbox <- func(time.Time) { a.core.Finished(t) }
	})
}

func (a *Agent) pull(ctx context.Context, t Task) {
	a.tasks.Go(func() {
		select {
		case a.pullSem <- struct{}{}:
			defer func() { <-a.pullSem }()
		case <-ctx.Done():
			return
		}
		a.run(ctx, t)
	})
}

// run does a task's operations in order and brings each result to the loop.
func (a *Agent) run(ctx context.Context, t Task) {
	for more := true; more; {
		var r Result
		if r, more = a.exec.Step(ctx, &t); r.reason == schema.ReasonNodeError {
			wake(a.failed)
		}
		a.inbox <- func(time.Time) { a.core.Done(r) }
	}
}

// attend makes sure that every running container is watched and probed, and no
// other is.
func (a *Agent) attend(ctx context.Context) {
	live := make(map[string]bool, len(a.running))
	for _, c := range a.core.Attended() {
		live[c.ID] = true
		at := a.running[c.ID]
		if at == nil {
			at = &attendance{probes: map[pod.ProbeKind]bool{}}
			at.ctx, at.stop = context.WithCancel(ctx)
			a.running[c.ID] = at
			a.watch(at.ctx, c.Pod, c.ID)
		}
		a.probe(at, c)
	}
	for id, at := range a.running {
		if !live[id] {
			at.stop()
			delete(a.running, id)
		}
	}
}

// watch waits for a container's death.
func (a *Agent) watch(ctx context.Context, uid types.UID, id string) {
	a.tasks.Go(func() {
		for {
			exit, err := a.cfg.Runtime.Wait(ctx, id)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				a.inbox <- func(time.Time) { a.core.Exited(uid, id, exit) }
				return
			}
			a.log.WithError(err).WithField("pod", uid).Warn("waiting for a container failed")
			if !sleep(ctx, retryInterval) {
				return
			}
		}
	})
}

// probe starts the probes that are due for a container and not running yet.
func (a *Agent) probe(at *attendance, c Attended) {
	if c.Spec == nil {
		return
	}
	for kind, p := range pod.ProbesOf(c.Spec) {
		if (kind == pod.ProbeStartup) == c.Started || at.probes[kind] {
			continue
		}
		at.probes[kind] = true
		uid, id := c.Pod, c.ID
		run := probe{
			kind: kind, spec: p, container: c.Spec, id: id, ip: c.IP, startedAt: c.StartedAt,
			exec: func(ctx context.Context, command []string, limit time.Duration) (pod.ExecResult, error) {
				return a.cfg.Runtime.Exec(ctx, id, command, limit)
			},
			decided: func(v pod.ProbeResult, message string) {
				a.inbox <- func(time.Time) { a.core.Probed(uid, id, kind, v, message) }
			},
			failing: func(message string) {
				a.inbox <- func(now time.Time) { a.core.Unhealthy(uid, id, kind, message, now) }
			},
			warned: func(message string) {
				a.inbox <- func(now time.Time) { a.core.Ambiguous(uid, id, kind, message, now) }
			},
		}
		a.tasks.Go(func() { run.run(at.ctx) })
	}
}

// hook runs a hook beside everything else. There are as many as containers that begin or
// end. One whose container ends, or whose agent does, tells nothing.
func (a *Agent) hook(ctx context.Context, h Hook) {
	if at := a.running[h.ID]; at != nil {
		ctx = at.ctx
	}
	a.tasks.Go(func() {
		p := probe{container: h.Spec, ip: h.IP, exec: func(ctx context.Context, command []string, limit time.Duration) (pod.ExecResult, error) {
			return a.cfg.Runtime.Exec(ctx, h.ID, command, limit)
		}}
		failed := ""
		if err := p.hook(ctx, schema.Hooks(h.Spec)[h.Kind], h.Limit); err != nil {
			failed = err.Error()
		}
		if ctx.Err() == nil {
			a.inbox <- func(now time.Time) { a.core.Hooked(h.Pod, h.ID, h.Kind, failed, now) }
		}
	})
}

// program is the one caller of Network.Set.
func (a *Agent) program(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.network.ready:
		}
		for tries := 0; ; tries++ {
			s, ok := a.network.take()
			if !ok {
				break
			}
			err := a.cfg.Network.Set(s.Work, s.HostPorts)
			if err == nil {
				a.inbox <- func(time.Time) { a.core.InForce(s); a.tellMaster() }
				break
			}
			if tries == 0 {
				a.log.WithError(err).Error("the node's network could not be programmed")
			}
			a.inbox <- func(now time.Time) { a.core.Refused(err, now) }
			if !sleep(ctx, retryInterval) {
				return
			}
			a.network.putIfEmpty(s)
		}
	}
}

// resync lists what truly runs, now and then, for what no event told, and at
// once when somebody waits for it. What made somebody wait may last, a runtime
// that is down fails at once: so there is a pause between any two listings.
func (a *Agent) resync(ctx context.Context) {
	images := time.Now().Add(imagesInterval)
	timer := time.NewTimer(resyncInterval)
	defer timer.Stop()
	for told := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-a.list:
		case <-timer.C:
		}
		withImages := time.Now().After(images)
		err := a.listNow(ctx, withImages)
		if !sleep(ctx, retryInterval/5) {
			return
		}
		switch {
		case err == nil && withImages:
			images = time.Now().Add(imagesInterval)
			fallthrough
		case err == nil:
			told = false
			timer.Reset(resyncInterval)
		case ctx.Err() == nil:
			if !told {
				a.log.WithError(err).Warn("what runs could not be listed")
			}
			told = true
			timer.Reset(0)
		}
	}
}

func (a *Agent) listNow(ctx context.Context, withImages bool) error {
	var began Listing
	if !a.ask(ctx, func() { began = a.core.Listing() }) {
		return ctx.Err()
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	found, err := a.cfg.Runtime.List(call)
	if err != nil {
		a.ask(ctx, func() { a.core.Unlisted(err, time.Now()) })
		return err
	}
	a.ask(ctx, func() { a.core.Listed(began, found, time.Now()) })
	if !withImages {
		return nil
	}
	images, err := a.cfg.Runtime.Images(call)
	if err != nil {
		return err
	}
	a.ask(ctx, func() { a.core.TakeImages(images) })
	return nil
}

// ask runs f in the loop and waits for it; false when ctx ended first.
func (a *Agent) ask(ctx context.Context, f func()) bool {
	done := make(chan struct{})
	select {
	case a.inbox <- func(time.Time) { f(); close(done) }:
	case <-ctx.Done():
		return false
	}
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// follow brings updates from the master; a slow loop sees the newest only.
func (a *Agent) follow(ctx context.Context, last Update) {
	a.cfg.Master.Follow(ctx, last.Version, last.Items, func(u Update) {
		a.updates.merge(u, func(old, new Update) Update { return new.After(old) })
	})
}
