package nodeagent

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/pod"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// machine is the agent's state and decisions, without a clock or I/O: inputs
// come in through its methods with the time they happened, step tells what to
// do next. One goroutine owns it.
type machine struct {
	node   schema.NodeName
	hostIP string
	bootID string
	// allocatable is what the node has for pods.
	allocatable corev1.ResourceList

	work    *wire.Work // nil until there is one from disk or master: nothing is decided without
	version uint64
	// networkSet tells that the node's routes were programmed in this life;
	// no sandbox is made before.
	networkSet bool
	tables     uint64 // counts the works that changed what the network shows
	tablesDone uint64 // of them, the last one in force

	pods      map[types.UID]*entry
	images    map[string]string // present references -> id
	addresses *addresses
	events    eventLog
	// heard is when the master last answered a report; zero before it did in
	// this life.
	heard time.Time

	programmed NetworkState            // as last handed out
	applied    uint64                  // version of a work all of whose tables are in force
	imageList  []corev1.ContainerImage // what a report lists
	telling    []told                  // output that the last report told of
	problem    problems
}

// entry is one pod the agent knows: wanted, left over, or both.
type entry struct {
	wanted  *pod.Wanted // nil when Work does not have it
	obs     pod.Observed
	busy    bool                   // a worker has operations of it
	pulling map[string]bool        // containers whose image is being found
	hooks   map[string]bool        // of containers, by hookKey: they are running
	touched bool                   // plan and status are to be made again
	unsaved bool                   // the record on disk is older
	suspect bool                   // what the last operation did is not known: a listing must tell first
	drained uint64                 // the tables that must be in force before its end; 0: it is not drained
	booted  bool                   // the record is of an earlier boot of the machine
	wake    time.Time              // when the plan changes by itself
	changes uint64                 // counts every change, so that an old listing is not believed
	tails   map[string]*outputTail // by container that failed: what the master knows of its output
}

// Task is operations of one pod to do in order, with all they need.
type Task struct {
	Pod     types.UID
	ops     []pod.Operation // that are still to be done
	wanted  *pod.Wanted     // nil for a pod not in Work
	obs     pod.Observed
	data    pod.Data
	cluster wire.ClusterInfo
	place   pod.Place
}

// effects are what step asks its caller to do, in this order.
type effects struct {
	saveAddresses bool
	records       []*pod.Observed // to save
	tasks         []Task
	pulls         []Task // of one operation each; they may take long
	hooks         []Hook // to run, each until its end
	changed       bool   // a status changed: report
	list          bool   // list what truly runs: somebody waits for it
	wake          time.Time
}

// Result is how one operation ended.
type Result struct {
	op      pod.Operation
	err     error
	reason  string // of err, for status
	at      time.Time
	id      string // of the started container
	imageID string
	data    string // Wanted.Data that the volumes now show
	message string // to tell when it went well
}

func newMachine(node schema.NodeName, hostIP, bootID string, a *addresses) *machine {
	return &machine{
		node: node, hostIP: hostIP, bootID: bootID, addresses: a,
		pods: map[types.UID]*entry{}, images: map[string]string{},
	}
}

func (e *entry) touch() {
	e.touched, e.unsaved = true, true
	e.changes++
}

func (m *machine) entry(uid types.UID, now time.Time) *entry {
	e := m.pods[uid]
	if e == nil {
		e = &entry{obs: pod.Observed{
			UID: uid, BootID: m.bootID, StartedAt: now, Containers: map[string]pod.Container{}, Grace: strayGrace,
		}}
		m.pods[uid] = e
		e.touch()
	}
	return e
}

// strayGrace is the time to end for a pod of which nothing is known.
const strayGrace = 30 * time.Second

// take takes over a new work. It reports whether that must be on disk before anything
// follows from it: tables may be kept once they are in force.
func (m *machine) take(u Update, now time.Time) (urgent bool) {
	if u.Changed.Head || u.Changed.Peers || u.Changed.Services {
		m.tables++
	} else if m.tables == m.tablesDone {
		m.applied = u.Version
	}
	m.setWork(u, now)
	return u.Changed.Pods || u.Changed.Data || u.Changed.Head || u.Changed.Records
}

// setWork is the work itself; changed says what may differ from the last.
func (m *machine) setWork(u Update, now time.Time) {
	first := m.work == nil
	m.work, m.version = u.Work, u.Version
	for uid, pw := range u.Work.Pods {
		e := m.entry(uid, now)
		same := e.wanted != nil && e.wanted.Pod == pw.Pod && e.wanted.Drained == pw.Drained && e.wanted.Epoch == pw.Epoch
		if same && !u.Changed.Data {
			continue
		}
		m.want(e, pw, now)
	}
	for uid, e := range m.pods {
		if _, ok := u.Work.Pods[uid]; !ok && (e.wanted != nil || first) {
			e.wanted = nil
			e.touch()
		}
	}
}

func (m *machine) want(e *entry, pw wire.PodWork, now time.Time) {
	w := &pod.Wanted{PodWork: pw, Data: dataHash(pw.Pod, m.work)}
	if e.wanted == nil || w.Data != e.wanted.Data {
		e.obs.Setup = e.obs.Setup.Retry()
		for name, c := range e.obs.Containers {
			if c.Failure.Reason == schema.ReasonContainerConfig {
				c.Failure = c.Failure.Retry()
				e.obs.Containers[name] = c
			}
		}
	} else if e.wanted.Pod == pw.Pod && e.wanted.Drained == pw.Drained && e.wanted.Epoch == pw.Epoch {
		return
	}
	known := e.wanted != nil
	e.wanted = w
	if !known {
		for name, c := range e.obs.Containers {
			e.markExit(name, c, now)
		}
	}
	e.obs.Namespace, e.obs.Name, e.obs.Epoch = pw.Pod.Namespace, pw.Pod.Name, pw.Epoch
	e.obs.Grace = pod.Grace(pw.Pod)
	if pw.Pod.DeletionTimestamp != nil && e.obs.DeletionSeen.IsZero() {
		e.obs.DeletionSeen = now
	}
	if e.drained == 0 && pw.Drained {
		e.drained = max(1, m.tables)
	}
	if e.booted {
		e.startOver()
	}
	m.gate(e)
	e.touch()
}

// dataHash identifies what a pod's volumes show that may change: the content of the
// ConfigMaps and Secrets it refers to, and of itself its labels and annotations.
func dataHash(p *corev1.Pod, work *wire.Work) string {
	h := sha256.New()
	write := func(kind string, names []string, all map[string]map[string][]byte) {
		for _, name := range names {
			values, ok := all[name]
			fmt.Fprintf(h, "%s %q %v\n", kind, name, ok)
			for _, k := range slices.Sorted(maps.Keys(values)) {
				fmt.Fprintf(h, "%q %q\n", k, values[k])
			}
		}
	}
	refs := wire.PodRefs(p)
	write("configmap", refs[schema.KindConfigMap], work.ConfigMaps)
	write("secret", refs[schema.KindSecret], work.Secrets)
	if schema.ShowsItself(&p.Spec) {
		fmt.Fprintf(h, "labels %q annotations %q\n", p.Labels, p.Annotations) // maps are printed in order
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// gate makes a running container without startup probe started, and a started
// one without readiness probe ready; and notes that init containers are through.
func (m *machine) gate(e *entry) {
	if e.wanted == nil {
		return
	}
	p := e.wanted.Pod
	sidecars := 0
	for spec := range schema.AllContainers(&p.Spec) {
		c, ok := e.obs.Containers[spec.Name]
		if schema.IsSidecar(spec) {
			sidecars++
			c.Sidecar = sidecars
		}
		if !ok {
			continue
		}
		if c.State == pod.StateRunning {
			c.PostStarted = c.PostStarted || schema.Hooks(spec)[schema.PostStart] == nil
			c.Started = c.Started || c.PostStarted && spec.StartupProbe == nil
			c.Ready = c.Ready || c.Started && spec.ReadinessProbe == nil
		}
		e.obs.Containers[spec.Name] = c
	}
	if pod.Initialized(p, &e.obs) {
		e.obs.Initialized = true
	}
}

// step decides. It marks what it hands out as busy; done and finished take the
// marks away.
func (m *machine) step(now time.Time) effects {
	fx := effects{}
	if m.work == nil {
		return fx
	}
	for _, uid := range slices.Sorted(maps.Keys(m.pods)) {
		e := m.pods[uid]
		fx.list = fx.list || e.suspect
		if e.touched || !e.wake.IsZero() && !now.Before(e.wake) {
			m.decide(e, now, &fx)
		}
		if !e.wake.IsZero() && (fx.wake.IsZero() || e.wake.Before(fx.wake)) {
			fx.wake = e.wake
		}
	}
	fx.saveAddresses = m.addresses.dirty
	return fx
}

func (m *machine) decide(e *entry, now time.Time, fx *effects) {
	if m.tell(e, now) {
		fx.changed = true
	}
	e.keep(fx)
	defer e.keep(fx) // what follows from the plan is on disk before it is done
	if e.busy || e.suspect {
		// Comes again when the worker is through, or the listing.
		e.wake = time.Time{}
		return
	}
	e.touched, e.wake = false, time.Time{}
	wanted := e.wanted
	m.limit(e, now, fx)
	if m.draining(e) {
		if m.cutOff(now) {
			return // masterHeard touches it
		}
		undrained := *e.wanted
		undrained.Drained = false
		wanted = &undrained
	}
	var due []pod.Operation
	for _, op := range pod.Plan(wanted, &e.obs, m.images, now) {
		switch {
		case op.After.After(now):
			if e.wake.IsZero() || op.After.Before(e.wake) {
				e.wake = op.After
			}
		case op.Kind == pod.PullImage:
			if !e.pulling[op.Container] {
				if e.pulling == nil {
					e.pulling = map[string]bool{}
				}
				e.pulling[op.Container] = true
				fx.pulls = append(fx.pulls, m.task(e, op))
			}
		case op.Kind == pod.RunHook:
			m.hook(e, op, now, fx)
		default:
			due = append(due, op)
		}
	}
	if due = m.admit(e, due, now); len(due) > 0 {
		e.busy = true
		fx.tasks = append(fx.tasks, m.task(e, due...))
	}
}

// limit notes that a pod was active for longer than it may, or when it will have been.
func (m *machine) limit(e *entry, now time.Time, fx *effects) {
	if e.wanted == nil {
		return
	}
	due := pod.Deadline(e.wanted.Pod, &e.obs)
	switch {
	case due.IsZero():
	case due.After(now):
		e.wake = due
	default:
		e.obs.OverdueAt = now
		m.event(e, corev1.EventTypeNormal, schema.ReasonDeadlineExceeded, "", pod.Overdue, now)
		e.touch()
		fx.changed = m.tell(e, now) || fx.changed
		e.touched = false
	}
}

// keep has the record of a pod saved if the one on disk is older.
func (e *entry) keep(fx *effects) {
	if e.unsaved {
		o := e.obs
		o.Containers = maps.Clone(e.obs.Containers)
		fx.records = append(fx.records, &o)
		e.unsaved = false
	}
}

// awayAfter is the silence after which the master counts as away: reports are
// answered every wire.ReportInterval.
const awayAfter = 2 * wire.ReportInterval

func (m *machine) cutOff(now time.Time) bool { return now.Sub(m.heard) > awayAfter }

// masterHeard notes an answer of the master. While it was away no table could
// lose the pods that are to go, so they went on serving; their wait begins anew.
func (m *machine) masterHeard(now time.Time) {
	if m.cutOff(now) {
		for _, e := range m.pods {
			if m.draining(e) {
				e.obs.DeletionSeen = now
				e.touch()
			}
		}
	}
	m.heard = now
}

// draining reports whether the pod is to go and still waits for the tables to
// lose it: those of the nodes that keep up, as the master says, and this node's,
// which may have learned of both at once.
func (m *machine) draining(e *entry) bool {
	if e.wanted == nil || e.wanted.Pod.DeletionTimestamp == nil || e.wanted.Drained && m.tablesDone >= e.drained || !e.obs.EndingAt.IsZero() {
		return false
	}
	for _, c := range e.obs.Containers {
		if c.State == pod.StateRunning && c.TermAt.IsZero() && c.KillAt.IsZero() {
			return true
		}
	}
	return false
}

// admit holds back what the node is not ready for, and gives the pod its address.
func (m *machine) admit(e *entry, due []pod.Operation, now time.Time) []pod.Operation {
	i := slices.IndexFunc(due, func(op pod.Operation) bool { return op.Kind == pod.CreateSandbox })
	if i < 0 {
		return due
	}
	if !m.networkSet {
		return due[:i] // setNetwork touches every pod
	}
	cidr, err := netip.ParsePrefix(m.work.PodCIDRs.First())
	if err == nil {
		var ip netip.Addr
		if ip, err = m.addresses.give(e.obs.UID, cidr, now); err == nil {
			if e.obs.IPs.First() != ip.String() {
				e.obs.IPs = schema.List[string]{ip.String()}
				e.touch()
			}
			return due
		}
	}
	e.obs.Setup = e.obs.Setup.Again(schema.ReasonSandbox, err.Error(), now)
	m.event(e, corev1.EventTypeWarning, schema.ReasonSandbox, "", err.Error(), now)
	e.touch()
	e.wake = now.Add(time.Second)
	return due[:i]
}

func (m *machine) task(e *entry, ops ...pod.Operation) Task {
	o := e.obs
	o.Containers = maps.Clone(e.obs.Containers)
	return Task{
		Pod: e.obs.UID, ops: ops, wanted: e.wanted, obs: o, cluster: m.work.Cluster,
		data:  pod.Data{ConfigMaps: m.work.ConfigMaps, BinaryKeys: m.work.BinaryKeys, Secrets: m.work.Secrets, Services: m.work.Services},
		place: pod.Place{Node: m.node, PodIPs: e.obs.IPs, HostIP: m.hostIP, Allocatable: m.allocatable},
	}
}

// tell brings the pod's status up to date and reports whether it changed.
func (m *machine) tell(e *entry, now time.Time) bool {
	if !e.touched || e.wanted == nil {
		return e.touched
	}
	e.obs.UnderWay = e.busy || e.suspect
	s := pod.Status(e.wanted, &e.obs, m.hostIP, now)
	if schema.Hash(s) == schema.Hash(e.obs.Status) {
		return pod.Gone(e.wanted, &e.obs)
	}
	e.obs.Status = s
	e.unsaved = true
	return true
}

// inForce notes that a network state with some tables is programmed.
func (m *machine) inForce(tables uint64) {
	m.problem.networking.over()
	m.setNetwork(tables)
	if m.tables == tables {
		m.applied = m.version
	}
}

// setNetwork notes that the node's network is programmed, up to some tables.
func (m *machine) setNetwork(tables uint64) {
	first, before := !m.networkSet, m.tablesDone
	m.networkSet, m.tablesDone = true, tables
	for _, e := range m.pods {
		if first || e.drained > before && e.drained <= tables {
			e.touch()
		}
	}
}

// done takes over how one operation ended.
func (m *machine) done(r Result) {
	e := m.pods[r.op.Pod]
	if e == nil {
		return
	}
	e.touch()
	o := &e.obs
	c := o.Containers[r.op.Container]
	if r.op.Kind == pod.PullImage {
		delete(e.pulling, r.op.Container)
	}
	if r.op.Kind == pod.StopContainer || r.op.Kind == pod.KillContainer {
		e.begins(r.op, r.at)
	}
	if r.err != nil {
		m.failed(e, c, r)
		return
	}
	switch r.op.Kind {
	case pod.CreateSandbox:
		o.Sandbox, o.Released, o.Setup = true, false, pod.Failure{}
	case pod.PrepareVolumes:
		o.VolumesReady, o.Volumes, o.Setup = true, r.data, pod.Failure{}
	case pod.PullImage:
		m.images[r.op.Image] = r.imageID
		c.Pulled, c.Failure = r.op.Attempt+1, pod.Failure{}
		o.Containers[r.op.Container] = c
		m.event(e, corev1.EventTypeNormal, "Pulled", r.op.Container, r.message, r.at)
	case pod.StartContainer:
		m.started(e, c, r)
	case pod.StopContainer:
		c.TermAt, c.StopGrace, c.StopReason = r.at, r.op.Grace, r.op.Reason
		o.Containers[r.op.Container] = c
		m.event(e, corev1.EventTypeNormal, "Killing", r.op.Container, "stopping container "+r.op.Container+": "+r.op.Reason, r.at)
	case pod.KillContainer:
		if c.TermAt.IsZero() {
			c.StopReason = r.op.Reason
			m.event(e, corev1.EventTypeNormal, "Killing", r.op.Container, "killing container "+r.op.Container+": "+r.op.Reason, r.at)
		} else if c.KillAt.IsZero() {
			m.event(e, corev1.EventTypeWarning, schema.ReasonExceededGracePeriod, r.op.Container, "killing container "+r.op.Container+": "+r.op.Reason, r.at)
		}
		c.KillAt = r.at
		o.Containers[r.op.Container] = c
	case pod.RemoveContainer:
		o.Setup = pod.Failure{}
		m.removed(e, c, r)
	case pod.RemoveSandbox:
		o.Released, o.Sandbox, o.VolumesReady, o.Setup = true, false, false, pod.Failure{}
		m.addresses.release(o.UID, r.at)
	case pod.ForgetPod:
		delete(m.pods, o.UID)
	}
	m.gate(e)
}

func (m *machine) started(e *entry, c pod.Container, r Result) {
	if c.Present && c.ID != "" && c.ID != r.id {
		e.obs.Leftovers = append(e.obs.Leftovers, pod.Leftover{ID: c.ID, Reason: fmt.Sprintf("replaced by attempt %d", r.op.Attempt)})
	}
	hash, image := "", ""
	if spec := containerSpec(e.wanted, r.op.Container); spec != nil {
		hash, image = pod.SpecHash(spec), spec.Image
	}
	e.obs.EndingAt = time.Time{}
	e.obs.Containers[r.op.Container] = c.Next(r.id, r.op.Attempt, hash, image, m.images[image], r.at)
	m.event(e, corev1.EventTypeNormal, "Created", r.op.Container, "created container "+r.op.Container, r.at)
	m.event(e, corev1.EventTypeNormal, "Started", r.op.Container, "started container "+r.op.Container, r.at)
	if r.message != "" {
		m.event(e, corev1.EventTypeWarning, schema.ReasonServiceLinks, r.op.Container, r.message, r.at)
	}
}

func (m *machine) removed(e *entry, c pod.Container, r Result) {
	if c.ID == r.op.ID && r.op.Container != "" {
		c.Present = false
		if c.State == pod.StateCreated {
			c.State, c.ID = pod.StateNone, ""
		}
		e.obs.Containers[r.op.Container] = c
		return
	}
	e.obs.Leftovers = slices.DeleteFunc(slices.Clone(e.obs.Leftovers), func(l pod.Leftover) bool { return l.ID == r.op.ID })
}

// failed notes an operation that did not go well and will be planned again.
func (m *machine) failed(e *entry, c pod.Container, r Result) {
	message := schema.FitText(r.err.Error(), messageBytes)
	if errors.Is(r.err, ErrUnavailable) {
		e.suspect = true
		return
	}
	switch r.op.Kind {
	case pod.PullImage, pod.StartContainer:
		if r.reason == "" { // the image vanished: look for it again
			delete(m.images, r.op.Image)
			return
		}
		c.Failure = c.Failure.Again(r.reason, message, r.at)
		e.obs.Containers[r.op.Container] = c
		m.event(e, corev1.EventTypeWarning, "Failed", r.op.Container, r.reason+": "+message, r.at)
	case pod.StopContainer:
		// The kill that follows after the grace period must not wait for it.
		c.TermAt, c.StopGrace, c.StopReason = r.at, r.op.Grace, r.op.Reason
		e.obs.Containers[r.op.Container] = c
		m.event(e, corev1.EventTypeWarning, schema.ReasonKill, r.op.Container, message, r.at)
	case pod.KillContainer:
		c.KillAt = r.at
		e.obs.Containers[r.op.Container] = c
		m.event(e, corev1.EventTypeWarning, schema.ReasonKill, r.op.Container, message, r.at)
	default:
		e.obs.Setup = e.obs.Setup.Again(r.reason, message, r.at)
		m.event(e, corev1.EventTypeWarning, r.reason, r.op.Container, message, r.at)
	}
}

// finished takes a pod back from its worker.
func (m *machine) finished(uid types.UID) {
	if e := m.pods[uid]; e != nil {
		e.busy, e.touched = false, true
	}
}

// exited notes the death of a container's main process.
func (m *machine) exited(uid types.UID, id string, exit pod.Exit) {
	e, name, c := m.container(uid, id)
	if e == nil || c.State != pod.StateRunning {
		return
	}
	c = c.Exited(exit)
	e.obs.Containers[name] = c
	e.forgetHooks(id)
	e.markExit(name, c, exit.FinishedAt)
	e.touch()
	m.gate(e)
	if at := c.RestartAt(); !at.IsZero() && e.wanted != nil && e.wanted.Pod.DeletionTimestamp == nil {
		m.event(e, corev1.EventTypeWarning, "BackOff", name, fmt.Sprintf("back-off restarting failed container %s, next start in %s", name, at.Sub(c.FinishedAt)), exit.FinishedAt)
	}
}

// probed notes what a probe decided. message tells why it failed. What was decided before
// the postStart hook has passed does not count.
func (m *machine) probed(uid types.UID, id string, kind pod.ProbeKind, v pod.ProbeResult, message string) {
	e, name, c := m.container(uid, id)
	if e == nil || c.State != pod.StateRunning || !c.PostStarted {
		return
	}
	before := c
	switch {
	case kind == pod.ProbeReadiness && v == pod.Passed:
		c.Ready = true
	case kind == pod.ProbeReadiness:
		c.Ready = false
	case kind == pod.ProbeStartup && v == pod.Passed:
		c.Started = true
	case v == pod.Failed && c.Unlively == "" && (e.wanted == nil || e.wanted.Pod.DeletionTimestamp == nil):
		c.Unlively = message
	}
	if c == before {
		return
	}
	e.obs.Containers[name] = c
	e.touch()
	m.gate(e)
}

// unhealthy notes one failed probe, decided or not.
func (m *machine) unhealthy(uid types.UID, id string, kind pod.ProbeKind, message string, now time.Time) {
	if e, name, c := m.container(uid, id); e != nil {
		e.markProbe(name, c, now)
		m.event(e, corev1.EventTypeWarning, schema.ReasonUnhealthy, name, schema.ProbeFailure(string(kind), 0, message), now)
	}
}

// ambiguous notes one probe that passed with a warning.
func (m *machine) ambiguous(uid types.UID, id string, kind pod.ProbeKind, message string, now time.Time) {
	if e, name, _ := m.container(uid, id); e != nil {
		m.event(e, corev1.EventTypeWarning, schema.ReasonProbeWarning, name, fmt.Sprintf("%s probe warning: %s", kind, message), now)
	}
}

func (m *machine) container(uid types.UID, id string) (*entry, string, pod.Container) {
	e := m.pods[uid]
	if e == nil {
		return nil, "", pod.Container{}
	}
	for name, c := range e.obs.Containers {
		if c.ID == id {
			return e, name, c
		}
	}
	return nil, "", pod.Container{}
}

func containerSpec(w *pod.Wanted, name string) *corev1.Container {
	if w == nil {
		return nil
	}
	return schema.ContainerOf(&w.Pod.Spec, name)
}

// hostPorts lists the node ports in force, sorted by pod.
func (m *machine) hostPorts() []pod.HostPort {
	var out []pod.HostPort
	for _, uid := range slices.Sorted(maps.Keys(m.pods)) {
		e := m.pods[uid]
		if e.wanted == nil || len(e.obs.IPs) == 0 || e.obs.Released {
			continue
		}
		out = append(out, pod.HostPortsOf(e.wanted.Pod, e.obs.IPs.First())...)
	}
	return out
}

// podReports tells every pod the agent knows, sorted by UID.
func (m *machine) podReports() []wire.PodReport {
	out := make([]wire.PodReport, 0, len(m.pods))
	for _, uid := range slices.Sorted(maps.Keys(m.pods)) {
		e := m.pods[uid]
		out = append(out, wire.PodReport{
			UID: uid, Namespace: e.obs.Namespace, Name: e.obs.Name, Epoch: e.obs.Epoch,
			Gone: pod.Gone(e.wanted, &e.obs), Status: e.obs.Status,
		})
	}
	return out
}

// ending is a container that ended, and whose message was not looked for yet.
type ending struct {
	uid       types.UID
	name      string
	spec      *corev1.Container // nil for one that is not wanted
	container pod.Container
}

// unheard lists such containers. Where a message is kept a container's spec says, so that
// there must be work first.
func (m *machine) unheard() (out []ending) {
	if m.work == nil {
		return nil
	}
	for uid, e := range m.pods {
		if !e.touched {
			continue
		}
		for name, c := range e.obs.Containers {
			if c.State == pod.StateExited && !c.Heard {
				out = append(out, ending{uid, name, containerSpec(e.wanted, name), c})
			}
		}
	}
	return out
}

// hear takes over what an ended container left to be said.
func (m *machine) hear(end ending, message string) {
	e := m.pods[end.uid]
	c := end.container
	c.Message, c.Heard = message, true
	e.obs.Containers[end.name] = c
	e.unsaved = true
}

// attended lists the containers that run, in no order.
func (m *machine) attended() (out []Attended) {
	for _, e := range m.pods {
		for name, c := range e.obs.Containers {
			if c.State != pod.StateRunning {
				continue
			}
			at := Attended{Pod: e.obs.UID, ID: c.ID, IP: e.obs.IPs.First(), StartedAt: c.StartedAt, Started: c.Started}
			if c.PostStarted {
				at.Spec = containerSpec(e.wanted, name)
			}
			out = append(out, at)
		}
	}
	return out
}

// report writes into r what there is to tell; read gives the last lines of an attempt's
// output. It returns the number after the last event in it.
func (m *machine) report(r *wire.Report, read func(uid types.UID, container string, attempt int) []string) (number uint64) {
	r.Events, number = m.events.next()
	r.Pods = m.podReports()
	m.addTails(r.Pods, read)
	r.AppliedVersion, r.Images, r.Problem = m.applied, m.imageList, m.problem.told()
	return number
}

// reportHeard notes that the master took a report, up to that number. It tells whether
// there is more to say at once.
func (m *machine) reportHeard(number uint64, now time.Time) (more bool) {
	m.masterHeard(now)
	m.events.heard(number)
	more = m.tailsHeard()
	return more || len(m.events.waiting) > 0
}

// network is the state to program, if it differs from the last one handed out, which it
// then is.
func (m *machine) network() *NetworkState {
	if m.work == nil || len(m.work.PodCIDRs) == 0 {
		return nil // the master has not registered this node yet
	}
	want := NetworkState{tables: m.tables, Work: m.work, HostPorts: m.hostPorts()}
	last := &m.programmed
	if last.Work != nil && last.tables == want.tables && slices.Equal(last.HostPorts, want.HostPorts) {
		return nil
	}
	*last = want
	return &want
}

// takeImages notes which references are present, and what a report lists: the largest.
func (m *machine) takeImages(images []pod.Image) {
	m.imageList = nil
	images = slices.Clone(images)
	slices.SortFunc(images, func(x, y pod.Image) int {
		return cmp.Or(cmp.Compare(y.Bytes, x.Bytes), slices.Compare(x.Names, y.Names))
	})
	for _, i := range images {
		for _, n := range i.Names {
			m.images[n] = i.ID
		}
		if len(m.imageList) < imagesReported && len(i.Names) > 0 {
			m.imageList = append(m.imageList, corev1.ContainerImage{Names: i.Names, SizeBytes: i.Bytes})
		}
	}
}
