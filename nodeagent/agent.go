// Package nodeagent answers how one node comes to run what the master bound to
// it, and goes on running it when the master is away: its loop takes the node's
// work, looks at what truly runs, does the operations that package pod plans,
// and reports. It does not schedule, and it never stops what it was not told to
// stop. `fairlead agent` wires it; README.md tells a pod's way through it.
package nodeagent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	Taints      []corev1.Taint    // may be nil
	ResolvConf  string            // default /etc/resolv.conf

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
	// logAnswers bounds the logs answered at once.
	logAnswers = 32
	// execProbes bounds the probes that run commands at once: each is a process
	// of Podman's beside the command.
	execProbes = 4
	// retryInterval is between attempts at what has to succeed before the rest.
	retryInterval = time.Second
)

// PodsDir is where an agent whose directory is dir keeps its pods: package
// volume puts volumes there.
func PodsDir(dir string) string { return filepath.Join(dir, "pods") }

// Agent is one node's loop. Run it once.
type Agent struct {
	cfg     Config
	log     *logrus.Entry
	dirs    podDirs
	machine *machine
	disk    *workFile
	exec    *executor

	inbox   chan func(now time.Time)
	updates mailbox[Update]
	network mailbox[networkState]
	changed chan struct{}               // size one: there is something to report
	list    chan struct{}               // size one: somebody waits for a listing
	latest  atomic.Pointer[wire.Report] // the last report, for log answers

	// All below belongs to the loop.
	running    map[string]*attendance // by container ID
	programmed networkState           // as last handed to the network goroutine
	tables     uint64                 // counts the works that changed what the network shows
	tablesDone uint64                 // of them, the last one in force
	applied    uint64                 // version of a work all of whose tables are in force
	images     []corev1.ContainerImage
	unsaved    *Update // work that is not on disk yet

	workSem, pullSem, logSem, probeSem chan struct{}
	tasks                              sync.WaitGroup
}

// attendance is what goes on for a running container: its death is waited for
// and its probes run, until stop.
type attendance struct {
	ctx    context.Context
	stop   context.CancelFunc
	probes map[pod.ProbeKind]bool
}

type networkState struct {
	tables    uint64
	work      *wire.Work
	hostPorts []pod.HostPort
}

// New makes an agent; nothing happens before Run.
func New(cfg Config) *Agent {
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	dirs := podDirs(PodsDir(cfg.Dir))
	return &Agent{
		cfg: cfg, log: cfg.Log, dirs: dirs,
		exec:    &executor{runtime: cfg.Runtime, network: cfg.Network, volumes: cfg.Volumes, dirs: dirs, resolv: cfg.ResolvConf, made: map[types.UID]made{}},
		inbox:   make(chan func(time.Time), inboxSize),
		updates: newMailbox[Update](), network: newMailbox[networkState](), changed: make(chan struct{}, 1), list: make(chan struct{}, 1),
		running: map[string]*attendance{},
		workSem: make(chan struct{}, workers), pullSem: make(chan struct{}, pullers),
		logSem: make(chan struct{}, logAnswers), probeSem: make(chan struct{}, execProbes),
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
	a.loop(ctx)
	done := make(chan struct{})
	go func() { a.tasks.Wait(); loops.Wait(); close(done) }()
	for {
		select {
		case f := <-a.inbox: // results of the last steps are kept on disk
			f(time.Now())
			a.save(a.machine.step(time.Now()).records)
		case <-done:
			return nil
		}
	}
}

// begin reads what an earlier life left and adopts what runs. It waits for the
// runtime to answer: nothing can be decided before.
func (a *Agent) begin(ctx context.Context) (Update, error) {
	if err := os.MkdirAll(string(a.dirs), 0o700); err != nil {
		return Update{}, fmt.Errorf("agent directory: %w", err)
	}
	addresses, err := loadAddresses(filepath.Join(a.cfg.Dir, "addresses"))
	if err != nil {
		return Update{}, err
	}
	a.machine = newMachine(a.cfg.Node, a.cfg.NodeIP, a.cfg.Info.BootID, addresses)
	a.disk, err = openWorkFile(filepath.Join(a.cfg.Dir, "work"), filepath.Join(a.cfg.Dir, "pki", "work.key"))
	if err != nil {
		return Update{}, err
	}
	records, err := a.dirs.loadRecords()
	if err != nil {
		return Update{}, err
	}
	sandboxes, err := a.cfg.Network.Sandboxes()
	if err != nil {
		return Update{}, fmt.Errorf("list sandboxes: %w", err)
	}
	found, ok := a.listAtStart(ctx)
	if !ok {
		return Update{}, nil
	}
	a.machine.adopt(records, found, sandboxes, time.Now())
	last := Update{}
	last.Version, last.Items, err = a.disk.load()
	if err == nil && last.Items != nil {
		last.Work, err = wire.Join(last.Items)
	}
	if err != nil {
		// The master has it still; until it answers, what runs is left as it is.
		a.log.WithError(err).Warn("the work on disk cannot be used")
		return Update{}, nil
	}
	if last.Work != nil {
		last.Changed = Families{Head: true, Peers: true, Pods: true, Data: true, Services: true}
		a.machine.setWork(last, time.Now())
		a.tables++
	}
	a.log.WithFields(logrus.Fields{"pods": len(records), "containers": len(found), "workVersion": last.Version}).Info("agent begins")
	return last, nil
}

func (a *Agent) listAtStart(ctx context.Context) ([]pod.Found, bool) {
	for told := false; ; told = true {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		found, err := a.cfg.Runtime.List(call)
		if err == nil {
			err = a.listImages(call)
		}
		cancel()
		if err == nil {
			return found, true
		}
		if !told && ctx.Err() == nil {
			a.log.WithError(err).Warn("waiting for the container runtime")
		}
		if !sleep(ctx, retryInterval/5) {
			return nil, false
		}
	}
}

// listImages fills the report's list and the references known to be present.
// It runs before the loop or in it.
func (a *Agent) listImages(ctx context.Context) error {
	images, err := a.cfg.Runtime.Images(ctx)
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	a.takeImages(images)
	return nil
}

func (a *Agent) takeImages(images []pod.Image) {
	slices.SortFunc(images, func(x, y pod.Image) int {
		if x.Bytes != y.Bytes {
			return int(min(1, max(-1, y.Bytes-x.Bytes)))
		}
		return slices.Compare(x.Names, y.Names)
	})
	a.images = nil
	for _, i := range images {
		for _, n := range i.Names {
			a.machine.images[n] = i.ID
		}
		if len(a.images) < imagesReported && len(i.Names) > 0 {
			a.images = append(a.images, corev1.ContainerImage{Names: i.Names, SizeBytes: i.Bytes})
		}
	}
}

// loop owns the machine: inputs in, decisions out, until ctx ends.
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
				a.update(ctx, u)
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

// update takes over a new work. What pods follow from it is on disk before
// anything is done about it: a crash in between must not orphan a container.
func (a *Agent) update(ctx context.Context, u Update) {
	for _, r := range u.Logs {
		a.answerLog(ctx, r)
	}
	if u.Work == nil {
		return
	}
	a.machine.setWork(u, time.Now())
	a.unsaved = &u
	if u.Changed.Head || u.Changed.Peers || u.Changed.Services {
		a.tables++
	} else if a.tables == a.tablesDone {
		a.applied = u.Version
	}
	if u.Changed.Pods || u.Changed.Data || u.Changed.Head || u.Changed.Records {
		a.saveWork()
	}
}

func (a *Agent) saveWork() {
	if a.unsaved == nil {
		return
	}
	if err := a.disk.save(a.unsaved.Version, a.unsaved.Items); err != nil {
		a.log.WithError(err).Error("the work could not be kept on disk")
		return // tried again with the next round
	}
	a.unsaved = nil
}

// act carries out one round of decisions and returns when to look again.
func (a *Agent) act(ctx context.Context) time.Time {
	now := time.Now()
	fx := a.machine.step(now)
	a.setNetwork()
	if fx.saveAddresses {
		if err := a.machine.addresses.save(filepath.Join(a.cfg.Dir, "addresses")); err != nil {
			a.log.WithError(err).Error("pod addresses could not be kept on disk")
		}
	}
	a.save(fx.records)
	for _, t := range fx.tasks {
		a.start(ctx, t)
	}
	for _, t := range fx.pulls {
		a.pull(ctx, t)
	}
	a.attend(ctx)
	if fx.changed {
		a.tellMaster()
	}
	if fx.list {
		select {
		case a.list <- struct{}{}:
		default:
		}
	}
	return fx.wake
}

func (a *Agent) save(records []*pod.Observed) {
	for _, o := range records {
		if err := a.dirs.saveRecord(o); err != nil {
			a.log.WithError(err).WithField("pod", o.UID).Error("a pod's record could not be kept on disk")
		}
	}
}

// start hands a pod's operations to a worker. Steps under way outlive ctx: each
// has its own deadline, and half a step is worse than a late one.
func (a *Agent) start(ctx context.Context, t task) {
	whole := context.WithoutCancel(ctx)
	a.tasks.Go(func() {
		select {
		case a.workSem <- struct{}{}:
			defer func() { <-a.workSem }()
		case <-ctx.Done():
			return
		}
		a.exec.run(whole, t, a.tell)
		a.inbox <- func(time.Time) { a.machine.finished(t.obs.UID) }
	})
}

func (a *Agent) pull(ctx context.Context, t task) {
	a.tasks.Go(func() {
		select {
		case a.pullSem <- struct{}{}:
			defer func() { <-a.pullSem }()
		case <-ctx.Done():
			return
		}
		a.exec.run(ctx, t, a.tell)
	})
}

// tell brings a result to the loop.
func (a *Agent) tell(r result) {
	entry := a.log.WithFields(logrus.Fields{"pod": r.op.Pod, "container": r.op.Container, "reason": r.op.Reason})
	if r.err != nil {
		entry.WithError(r.err).Warn(string(r.op.Kind))
	} else {
		entry.Debug(string(r.op.Kind))
	}
	a.inbox <- func(time.Time) { a.machine.done(r) }
}

// attend sees to it that every running container is watched and probed, and no
// other is.
func (a *Agent) attend(ctx context.Context) {
	live := make(map[string]bool, len(a.running))
	for _, e := range a.machine.pods {
		for name, c := range e.obs.Containers {
			if c.State != pod.StateRunning {
				continue
			}
			live[c.ID] = true
			at := a.running[c.ID]
			if at == nil {
				at = &attendance{probes: map[pod.ProbeKind]bool{}}
				at.ctx, at.stop = context.WithCancel(ctx)
				a.running[c.ID] = at
				a.watch(at.ctx, e.obs.UID, c.ID)
			}
			a.probe(at, e, name, c)
		}
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
				a.inbox <- func(time.Time) { a.machine.exited(uid, id, exit) }
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
func (a *Agent) probe(at *attendance, e *entry, name string, c pod.Container) {
	spec := containerSpec(e.wanted, name)
	if spec == nil {
		return
	}
	for kind, p := range pod.ProbesOf(spec) {
		if (kind == pod.ProbeStartup) == c.Started || at.probes[kind] {
			continue
		}
		at.probes[kind] = true
		uid, id := e.obs.UID, c.ID
		run := probe{
			kind: kind, spec: p, container: spec, id: id, ip: e.obs.IP, startedAt: c.StartedAt,
			exec: func(ctx context.Context, command []string) (pod.ExecResult, error) {
				select {
				case a.probeSem <- struct{}{}:
					defer func() { <-a.probeSem }()
				case <-ctx.Done():
					return pod.ExecResult{}, ctx.Err()
				}
				return a.cfg.Runtime.Exec(ctx, id, command)
			},
			decided: func(v pod.Verdict, message string) {
				a.inbox <- func(time.Time) { a.machine.probed(uid, id, kind, v, message) }
			},
			failing: func(message string) {
				a.inbox <- func(now time.Time) { a.machine.unhealthy(uid, id, kind, message, now) }
			},
		}
		a.tasks.Go(func() { run.run(at.ctx) })
	}
}

// setNetwork hands the network its state when that differs from the last.
func (a *Agent) setNetwork() {
	m := a.machine
	if m.work == nil || m.work.PodCIDR == "" {
		return // the master has not registered this node yet
	}
	want := networkState{tables: a.tables, work: m.work, hostPorts: m.hostPorts()}
	have := a.programmed
	if have.work != nil && have.tables == want.tables && slices.Equal(have.hostPorts, want.hostPorts) {
		return
	}
	a.programmed = want
	a.network.put(want)
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
			err := a.cfg.Network.Set(s.work, s.hostPorts)
			if err == nil {
				a.inbox <- func(time.Time) { a.inForce(s.tables) }
				break
			}
			if tries == 0 {
				a.log.WithError(err).Error("the node's network could not be programmed")
			}
			if !sleep(ctx, retryInterval) {
				return
			}
			a.network.putIfEmpty(s)
		}
	}
}

// inForce notes that tables are programmed.
func (a *Agent) inForce(tables uint64) {
	a.machine.setNetwork()
	a.tablesDone = tables
	if a.tables == tables {
		a.applied = a.machine.version
	}
	a.saveWork()
	a.tellMaster()
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
	var seen map[types.UID]uint64
	if !a.ask(ctx, func() { seen = a.machine.listing() }) {
		return ctx.Err()
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	found, err := a.cfg.Runtime.List(call)
	if err != nil {
		return err
	}
	a.ask(ctx, func() { a.machine.sync(found, seen, time.Now()) })
	if !withImages {
		return nil
	}
	images, err := a.cfg.Runtime.Images(call)
	if err != nil {
		return err
	}
	a.ask(ctx, func() { a.takeImages(images) })
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
		a.updates.merge(u, func(old, new Update) Update {
			new.Logs = append(old.Logs, new.Logs...)
			new.Changed = old.Changed.or(new.Changed)
			if new.Work == nil {
				new.Work, new.Items, new.Version = old.Work, old.Items, old.Version
			}
			return new
		})
	})
}

func (f Families) or(g Families) Families {
	return Families{
		Head: f.Head || g.Head, Peers: f.Peers || g.Peers, Pods: f.Pods || g.Pods,
		Data: f.Data || g.Data, Services: f.Services || g.Services, Records: f.Records || g.Records,
	}
}
