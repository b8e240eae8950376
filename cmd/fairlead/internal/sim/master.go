package sim

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler"
	"fairlead/reconciler/api"
	"fairlead/reconciler/control"
	"fairlead/reconciler/gittest"
	"fairlead/reconciler/plan"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/reconciler/store"
	"fairlead/reconciler/work"
	"fairlead/schema"
	"fairlead/schema/load"
	"fairlead/schema/wire"
)

// sourceName is the one source there is.
const sourceName = "main"

// lookInterval is how often the master looks at its repository by itself.
const lookInterval = 5 * time.Second

// goBackPause is between tries to hand a rollback over.
const goBackPause = time.Second

var (
	engineConfig = control.Config{
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), DNS: netip.MustParseAddr("10.96.0.10"), NodePortFirst: 30000, NodePortLast: 32767,
	}
	clusterInfo = wire.ClusterInfo{ID: "sim", PodCIDRs: schema.List[string]{"10.112.0.0/12"}, ServiceCIDRs: schema.List[string]{"10.96.0.0/16"}, DNS: schema.List[string]{"10.96.0.10"}, Domain: "cluster.local"}
	secretKey   = []byte("the cluster's key")
)

// source is the master's configuration.
func source() schema.Source {
	return schema.Source{ObjectMeta: metav1.ObjectMeta{Name: sourceName}, Spec: schema.OwnSourceSpec(schema.SourceSpec{
		Embedded: true, ProgressDeadline: &metav1.Duration{Duration: progressDeadline},
	})}
}

// master is the master's process: the loop, the follower and the agents' door,
// which are the product's own, and the shells around them.
type master struct {
	w *World
	process
	skew   time.Duration // of this host's clock, as the process that runs knows it
	jumped time.Duration // since that process began

	handle   *store.Memory
	engine   *settle.Engine
	loop     *reconciler.Loop
	feed     *state.Feed
	follower *reconciler.Follower
	door     *api.Door
	keeper   *work.Keeper

	inputs  []reconciler.Input
	durable []func()   // who waits for the next round
	writing *undurable // the round on its way to the disk
	due     time.Time  // when the next round is arranged for
	streams map[schema.NodeName]*connection
	passed  map[schema.NodeName]uint64
	going   bool // a rollback is arranged for
	heard   map[schema.NodeName]time.Time
}

// maxInputs is how many inputs a round takes.
const maxInputs = 256

func (m *master) clock() time.Time { return m.w.now.Add(m.skew) }

// start is the daemon's: read the store, then run.
func (m *master) start() {
	w := m.w
	m.alive = true
	m.skew, m.jumped = m.skew+m.jumped, 0
	m.handle = w.store.Open()
	loaded, err := m.handle.Load(w.ctx)
	if err != nil {
		m.end("load: " + err.Error())
		return
	}
	snapshot, unreadable := reconciler.Restore(loaded.Records, state.Counters{ResourceVersion: loaded.ResourceVersion, Creations: loaded.Creations})
	if unreadable = append(unreadable, loaded.Unreadable...); len(unreadable) > 0 {
		w.broken("S17", "what was stored cannot be read: %v", unreadable)
		return
	}
	w.note("master starts: term %d, round %d, %d objects", loaded.Term, loaded.Round, len(loaded.Records))
	w.truth.loaded(snapshot, loaded)
	m.engine = settle.NewEngine(engineConfig)
	machine := reconciler.NewMachine(m.engine, snapshot, []schema.Source{source()})
	if loaded.Round == 0 {
		machine.Recover(w.registered())
	}
	m.feed = state.NewFeed(snapshot)
	m.keeper = work.NewKeeper(secretKey)
	m.loop = reconciler.NewLoop(reconciler.LoopConfig{Machine: machine, Store: m.handle, Feed: m.feed, Round: loaded.Round, Log: w.log, Now: m.clock})
	m.follower = &reconciler.Follower{Loop: rounds{m, machine}, Feed: m.feed, Engine: m.engine, Load: m.load, Vault: reconciler.NewVault(secretKey), Now: m.clock}
	m.door = api.NewDoor(m.feed, api.DoorConfig{
		Cluster: clusterInfo, OpenSecret: m.openSecret, Keeper: m.keeper, Recovering: len(machine.Awaited()) > 0,
	}, w.log)
	m.inputs, m.durable, m.writing, m.due = nil, nil, nil, time.Time{}
	m.streams, m.passed, m.heard = map[schema.NodeName]*connection{}, map[schema.NodeName]uint64{}, map[schema.NodeName]time.Time{}
	m.going = false
	m.roundAt(w.now)
	m.after(w.between(0, lookInterval), m.lookAgain)
	m.after(api.HeartbeatInterval, m.heartbeat)
}

// end breaks the streams as well: the kernel says so to whoever it reaches.
func (m *master) end(why string) {
	if !m.alive {
		return
	}
	m.process.end(why)
	for _, n := range m.w.nodes {
		if c := m.streams[n.name]; c != nil {
			n.receive(func() { c.agent.lost(c) })
		}
	}
}

// registered are the nodes that ever joined: the registry is on the precious disk.
func (w *World) registered() (out []schema.NodeName) {
	for _, n := range w.nodes {
		if n.joined {
			out = append(out, n.name)
		}
	}
	return out
}

func (m *master) load(ctx context.Context, name schema.SourceName, tree schema.Tree, spec schema.SourceSpec, rights schema.Rights, namespaces []string) ([]*schema.Desired, schema.Diagnostics) {
	r := load.Load(ctx, tree, spec, load.Options{Source: name, Rights: &rights, KnownNamespaces: namespaces})
	return r.Objects, r.Diagnostics
}

func (m *master) openSecret(namespace, name string) (map[string][]byte, bool) {
	return m.follower.Vault.OpenAt(m.feed.Snapshot(), namespace, name)
}

// rounds is the loop as the follower knows it, without a goroutine: what is
// submitted is taken by a round there and then.
type rounds struct {
	m       *master
	machine *reconciler.Machine
}

func (r rounds) Base(context.Context) (reconciler.Base, error) {
	r.m.land()
	if !r.m.alive {
		return reconciler.Base{}, reconciler.ErrStopped
	}
	return reconciler.Base{Snapshot: r.machine.Snapshot(), Queue: r.machine.Queue()}, nil
}

// Post does not wait for the round.
func (r rounds) Post(_ context.Context, in reconciler.Input) error {
	if !r.m.alive {
		return reconciler.ErrStopped
	}
	r.m.post(in, nil)
	return nil
}

func (r rounds) Deliver(_ context.Context, in reconciler.Input, settled func()) error {
	defer settled()
	r.m.post(in, nil)
	for len(r.m.inputs) > 0 && r.m.alive {
		r.m.round()
	}
	r.m.land()
	if !r.m.alive {
		return reconciler.ErrStopped
	}
	return nil
}

// undurable is a round that was decided: a crash undoes it.
type undurable struct {
	*reconciler.Round
	waiting []func()
}

// post hands an input to the loop; durable is called once its round is.
func (m *master) post(in reconciler.Input, durable func()) {
	m.inputs = append(m.inputs, in)
	if durable != nil {
		m.durable = append(m.durable, durable)
	}
	m.roundAt(m.w.now.Add(m.w.between(0, 3*time.Millisecond)))
}

// roundAt arranges for a round no later than t.
func (m *master) roundAt(t time.Time) {
	if !m.due.IsZero() && !t.Before(m.due) {
		return
	}
	m.due = t
	m.after(t.Sub(m.w.now), func() {
		if m.due.Equal(t) {
			m.round()
		}
	})
}

// round decides a round, the one before it perhaps still on its way to the disk.
func (m *master) round() {
	m.due = time.Time{}
	inputs := m.inputs[:min(maxInputs, len(m.inputs))]
	m.inputs = slices.Clone(m.inputs[len(inputs):])
	next := &undurable{m.loop.Decide(inputs), m.durable}
	m.durable = nil
	if m.land(); !m.alive {
		return
	}
	m.writing = next
	m.after(m.w.between(0, writeTime), func() {
		if m.writing == next {
			m.land()
		}
	})
	wake := next.Wake
	if len(m.inputs) > 0 {
		wake = m.clock()
	}
	m.roundAt(m.w.now.Add(max(0, wake.Sub(m.clock()))))
}

// writeTime is the longest that a round is on its way to the disk while the next
// one is not decided.
const writeTime = 5 * time.Millisecond

// land makes the round that is being written durable, and shows it.
func (m *master) land() {
	landed := m.writing
	if landed == nil {
		return
	}
	m.writing = nil
	if err := m.loop.Write(m.w.ctx, landed.Round); err != nil {
		m.end(err.Error())
		return
	}
	before := m.feed.Snapshot()
	m.loop.Publish(landed.Round)
	if m.feed.Snapshot() != before {
		m.w.truth.published(before, m.feed)
		m.door.Step()
	}
	for _, f := range landed.waiting {
		f()
	}
	m.pushFrames()
	m.passAcknowledgements()
	m.goBack()
}

// pushFrames sends what is worth sending on every stream.
func (m *master) pushFrames() {
	for _, n := range m.w.nodes {
		c := m.streams[n.name]
		if c == nil {
			continue
		}
		if f, ok := m.door.Next(c.stream); ok {
			c.send(f)
		}
	}
}

func (m *master) heartbeat() {
	for _, n := range m.w.nodes {
		if c := m.streams[n.name]; c != nil {
			f, _ := m.door.Next(c.stream)
			c.send(f)
		}
	}
	m.after(api.HeartbeatInterval, m.heartbeat)
}

func (m *master) passAcknowledgements() {
	for node := range state.All[*corev1.Node](m.feed.Snapshot(), "") {
		name := schema.NodeName(node.Name)
		if version := m.door.Acked(name); version != m.passed[name] {
			m.passed[name] = version
			m.post(reconciler.Acknowledgement{Node: name, Version: version}, nil)
		}
	}
}

// goBack arranges for the last healthy revision to take a failed one's place, and for a
// failed one to be judged again where its nodes were at fault.
func (m *master) goBack() {
	src, ok := state.Source(m.feed.Snapshot(), sourceName)
	if !ok || m.going || m.recovering() {
		return
	}
	if !reconciler.Due(m.feed.Snapshot(), src) {
		return
	}
	m.going = true
	m.after(0, func() {
		m.stay()
		m.after(goBackPause, func() { m.going = false; m.goBack() })
	})
}

func (m *master) recovering() bool { return len(m.loop.Awaited()) > 0 }

// connect is an agent's stream.
func (m *master) connect(c *connection, since uint64) {
	if !m.alive {
		return
	}
	m.streams[c.agent.node.name] = c
	c.stream = m.door.Connect(c.agent.node.name, since)
	m.pushFrames()
}

// report is an agent's; answer is called when it was taken.
func (m *master) report(data []byte, answer func()) {
	var r wire.Report
	if err := json.Unmarshal(data, &r); err != nil {
		m.w.broken("wire", "a report cannot be read: %v", err)
		return
	}
	n := m.w.node(r.Node)
	n.joined = true
	m.post(reconciler.NodeReport{PodCIDR: n.cidr, Address: n.ip, Report: r}, func() {
		m.heard[r.Node] = m.w.now
		m.door.Acknowledge(r.Node, r.AppliedVersion)
		m.passAcknowledgements()
		answer()
	})
}

// kept is what a node remembers, told to a master that lost its store.
func (m *master) kept(node schema.NodeName, kept wire.Kept) {
	memory, err := m.keeper.Recall(node, kept)
	if err != nil {
		m.w.note("what %s kept is refused: %v", node, err)
		return
	}
	m.post(reconciler.Recovered{Node: node, Memory: memory}, nil)
}

func (m *master) lookAgain() {
	m.look()
	m.after(m.w.between(lookInterval/2, lookInterval), m.lookAgain)
}

// look is the follower's, of the product: it brings the branch to the loop if it moved,
// and tells how the repository was found.
func (m *master) look() {
	if !m.alive || m.recovering() {
		return
	}
	open := func(context.Context) (reconciler.Remote, error) { return remote{m.w.git}, nil }
	word, said, err := m.follower.Look(m.w.ctx, sourceName, open, func(schema.Commit) string { return "team" })
	switch {
	case errors.Is(err, reconciler.ErrStopped) || !m.alive:
	case said:
		m.w.note("master: source: %s %s", word.Reason, word.Message)
	case err != nil && err.Error() != word.Message:
		m.w.note("master: look: %v", err)
	}
}

// remote is the repository as the follower asks it.
type remote struct{ *gittest.Fake }

func (r remote) Tip(context.Context) (schema.Commit, error) {
	tip, _, err := r.Branch("main")
	return tip, err
}

// stay does what is due for the commit judged last.
func (m *master) stay() {
	if !m.alive || m.recovering() {
		return
	}
	if err := m.follower.Stay(m.w.ctx, sourceName, m.w.git); err != nil && m.alive {
		m.w.note("master: stay: %v", err)
	}
}

// judge is a push before Git takes it; an error refuses it.
func (m *master) judge(commit schema.Commit) (*plan.Plan, error) {
	if !m.alive || m.recovering() || m.w.now.Before(m.paused) {
		return nil, errors.New("there is no master")
	}
	if _, ok := state.Source(m.feed.Snapshot(), sourceName); !ok {
		return nil, errors.New("the master has only just begun")
	}
	cand, err := m.follower.JudgeCommit(m.w.ctx, sourceName, m.w.git, commit, nil)
	if err != nil {
		return nil, err
	}
	if cand.Plan.Verdict == plan.Refused {
		return cand.Plan, errors.New(cand.Plan.Summary())
	}
	return cand.Plan, nil
}
