// Package reconciler is the master's loop, the single writer of the cluster. It
// answers "given what just came in, what is true now?": Machine.Step is that
// decision, pure; Run is the thin shell that makes it durable and publishes it.
// The rooms below hold what the loop is made of.
package reconciler

import (
	"maps"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler/control"
	"fairlead/reconciler/plan"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// Input is one thing that happened outside: a Candidate, a NodeReport, an
// Acknowledgement, a SourceReport or a SecretSize. The time is an argument of Step.
type Input interface{ input() }

// Candidate is a fetched commit of a source, judged and planned: apply it, or
// record why not.
type Candidate struct {
	Source  schema.SourceName
	Commit  schema.CommitObject
	Tree    schema.TreeHash // hash of the tree below the source's path
	Pusher  string
	Objects []*schema.Desired // Secrets sealed
	// JudgedUnder are the source's rights when it was judged, as Rights.String has
	// them. It is left alone under others: the next look judges it again.
	JudgedUnder string
	secrets     Values // of Objects
	// Overrides are the guards its commits lift.
	Overrides schema.Overrides
	// RollbackOf names the failed revision that this one, healthy before,
	// replaces; "" for a commit that Git asks for.
	RollbackOf schema.RevisionName
	// Again completes what is applied of a commit: nothing new is decided.
	Again bool
	// Plan is what was computed for it; its placements are kept and preferred.
	Plan *plan.Plan
	// Diagnostics with an error among them make the revision Invalid.
	Diagnostics schema.Diagnostics
}

// NodeReport is what an agent said, with what the registry says of its node.
type NodeReport struct {
	PodCIDR   string
	Address   string            // "" when it has none yet
	NoAddress string            // then why it does not get the one it reports
	Labels    map[string]string // reserved ones, above those that the node says
	Report    wire.Report
}

// Acknowledgement says that a node has programmed everything up to a snapshot.
type Acknowledgement struct {
	Node    schema.NodeName
	Version uint64
}

func (Candidate) input()       {}
func (NodeReport) input()      {}
func (Acknowledgement) input() {}

// Durations of the loop's own judgement.
const (
	// NodeSilentAfter is when a silent node is NotReady.
	NodeSilentAfter = 40 * time.Second
	// NodeStaleAfter is when a node no longer keeps up, so that draining does
	// not wait for it.
	NodeStaleAfter = 5 * time.Second
	// MaxRoundGap between two rounds restarts the count of every silence: the
	// leader was not there to listen.
	MaxRoundGap = 5 * time.Second
	// Tick is how often a round happens when nothing does.
	Tick = time.Second
)

// Machine is the leader's memory: the cluster, what waits to be looked at, and
// what only this leader knows. Not for concurrent use.
type Machine struct {
	engine   *settle.Engine
	snapshot *state.Snapshot
	queue    *settle.Queue
	sources  []schema.Source // of the master's configuration

	lastRound time.Time
	heard     map[schema.NodeName]time.Time            // last word of each node, on this leader's clock
	allHeard  time.Time                                // until when no node's last word can be stale
	said      map[schema.NodeName]said                 // by each node of itself, at last
	refusals  map[schema.NodeName]map[string]time.Time // what each said and may not say: when it was told
	paused    bool                                     // most nodes are silent
	stale     map[schema.NodeName]bool                 // nodes whose pods are marked stale
	acked     map[schema.NodeName]uint64
	draining  map[string]uint64                 // UID of a terminating pod -> version its endpoints are out of
	swept     time.Time                         // when old events were last looked for
	recovery  *recovery                         // not nil while the cluster of a lost store is gathered
	withheld  map[schema.Key]bool               // what the store would not take, and was told of
	missing   []wire.Unreadable                 // records that could not be read at the start, until they are told of
	sightings map[types.UID]*sighting           // what this round's reports had of pods
	tails     map[types.UID]map[string][]string // newest lines of the containers that there is evidence of
}

// NewMachine starts from a loaded snapshot. Every object is looked at once in
// the first rounds.
func NewMachine(engine *settle.Engine, loaded *state.Snapshot, sources []schema.Source) *Machine {
	m := &Machine{
		engine: engine, snapshot: loaded, queue: settle.NewQueue(), sources: sources,
		heard: map[schema.NodeName]time.Time{}, said: map[schema.NodeName]said{}, refusals: map[schema.NodeName]map[string]time.Time{}, stale: map[schema.NodeName]bool{}, acked: map[schema.NodeName]uint64{}, draining: map[string]uint64{},
		withheld: map[schema.Key]bool{}, sightings: map[types.UID]*sighting{}, tails: map[types.UID]map[string][]string{},
	}
	engine.EnqueueAll(m.queue, loaded)
	for pod := range state.All[*corev1.Pod](loaded, "") {
		if pod.DeletionTimestamp != nil {
			m.draining[string(pod.UID)] = loaded.Counters().ResourceVersion
		}
	}
	return m
}

// Snapshot is the cluster after the last Step.
func (m *Machine) Snapshot() *state.Snapshot { return m.snapshot }

// Queue is a copy of what waits, for a plan on the same snapshot.
func (m *Machine) Queue() *settle.Queue { return m.queue.Clone() }

// Output is what a Step decided: changes to make durable, then the snapshot to
// publish, and when to step again at the latest.
type Output struct {
	Changes  []state.Change
	Counters state.Counters
	Snapshot *state.Snapshot
	Wake     time.Time
	Withheld []Withheld // told once
}

// Step takes what came in since the last one and lets the cluster settle.
func (m *Machine) Step(now time.Time, inputs []Input) Output {
	if m.recovery != nil {
		return m.recover(now, inputs)
	}
	return m.round(m.snapshot.Begin(), now, inputs)
}

// round settles what tx and the inputs began, and makes it the next snapshot.
func (m *Machine) round(tx *state.Txn, now time.Time, inputs []Input) Output {
	c := m.engine.Context(tx, now)
	m.configure(c)
	m.tellMissing(c)
	if m.lastRound.IsZero() || now.Sub(m.lastRound) > MaxRoundGap {
		m.restartSilence(tx, now)
	}
	m.lastRound = now
	for _, in := range inputs {
		switch in := in.(type) {
		case Candidate:
			if in.Again {
				applyAgain(c, in)
			} else {
				accept(c, in)
			}
		case NodeReport:
			m.report(c, in)
		case Acknowledgement:
			m.acked[in.Node] = max(m.acked[in.Node], in.Version)
		case SourceReport:
			reportSource(c, in)
		case SecretSize:
			noteSecretSize(c, in)
		}
	}
	m.judgeNodes(c)
	m.drain(c)
	m.forgetEvents(c)
	m.takeEvidence(c)
	m.engine.Run(tx, m.queue, now)
	m.closeEvidence(c)
	withheld := m.withhold(c)
	changes := tx.Changes()
	m.noteTerminating(changes, tx.Counters().ResourceVersion)
	m.forgetTails(changes)
	out := Output{Changes: changes, Counters: tx.Counters(), Wake: m.wake(now), Withheld: withheld}
	if len(changes) > 0 {
		m.snapshot = tx.Commit()
	}
	out.Snapshot = m.snapshot
	return out
}

func (m *Machine) wake(now time.Time) time.Time {
	if !m.queue.Rested() {
		return now
	}
	wake := now.Add(Tick)
	if next := m.queue.NextWake(); !next.IsZero() && next.Before(wake) {
		wake = next
	}
	return wake
}

// configure holds the objects that come from no repository: namespace default and
// the sources of the master's configuration.
func (m *Machine) configure(c *control.Context) {
	control.KeepDefaultNamespace(c)
	for i := range m.sources {
		want := &m.sources[i]
		have, ok := state.Source(c.Tx, schema.SourceName(want.Name))
		if !ok {
			src := state.Edit(want)
			src.CreationTimestamp = c.Stamp()
			c.Tx.Put(src)
			continue
		}
		next := state.Edit(have)
		next.Spec = state.Edit(want).Spec
		if len(schema.Diff(have, next)) > 0 {
			c.Tx.Put(next)
		}
	}
}

// drain marks terminating pods whose endpoints are out of the table of every
// node that keeps up: SIGTERM may go out.
func (m *Machine) drain(c *control.Context) {
	if len(m.draining) == 0 {
		return
	}
	acked := m.minAckedVersion(c)
	for _, uid := range slices.Sorted(maps.Keys(m.draining)) {
		pod, ok := podByUID(c.Tx, uid)
		if !ok {
			delete(m.draining, uid)
			continue
		}
		if m.draining[uid] > acked {
			continue
		}
		next := state.Edit(pod)
		if next.Annotations == nil {
			next.Annotations = map[string]string{}
		}
		next.Annotations[schema.AnnotationDrained] = "true"
		c.Tx.Put(next)
		delete(m.draining, uid)
	}
}

// minAckedVersion is the version that every node which keeps up has programmed.
func (m *Machine) minAckedVersion(c *control.Context) uint64 {
	least := uint64(math.MaxUint64)
	for node := range state.All[*corev1.Node](c.Tx, "") {
		name := schema.NodeName(node.Name)
		if c.Now.Sub(m.heard[name]) < NodeStaleAfter {
			least = min(least, m.acked[name])
		}
	}
	return least
}

// noteTerminating remembers, for pods that began to terminate, the version in
// which their endpoints are out.
func (m *Machine) noteTerminating(changes []state.Change, version uint64) {
	for _, ch := range changes {
		pod, ok := ch.New.(*corev1.Pod)
		if !ok || pod.DeletionTimestamp == nil {
			continue
		}
		// A pod that comes terminating is one of a recovered cluster.
		if old, ok := ch.Old.(*corev1.Pod); !ok || old.DeletionTimestamp == nil {
			m.draining[string(pod.UID)] = version
		}
	}
}
