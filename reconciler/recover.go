package reconciler

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/control"
	"fairlead/reconciler/state"
	"fairlead/reconciler/work"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// Recovered is what a node remembers of a cluster whose store was lost.
type Recovered struct {
	Node   schema.NodeName
	Memory work.Memory
}

func (Recovered) input() {}

const (
	// maxRecoveredVersion bounds what a node may say of its version, far above
	// the seconds since 1970 << 20 of any clock.
	maxRecoveredVersion = 1 << 60
	// maxRecoveryRuns bounds the engine's runs in the round that recovers: the
	// cluster is published once it rests, for endpoints must not come in parts.
	maxRecoveryRuns = 1000
)

// recovery gathers what the nodes remember until all of them have answered.
type recovery struct {
	nodes    []schema.NodeName               // registered when the store was found empty, sorted
	memories map[schema.NodeName]work.Memory // their records apart
	reports  map[schema.NodeName]NodeReport  // the last of each
	freshest work.Memory
	version  uint64                     // the highest of any node's work
	missing  map[string]wire.Unreadable // what cannot be read of what nodes kept, by key
}

// Recover makes a machine that starts from an empty store decide nothing until
// each of the nodes has said what it remembers and reported what it runs. Then
// one round has the whole cluster again. Without nodes there is nothing to wait
// for.
func (m *Machine) Recover(nodes []schema.NodeName) {
	if len(nodes) == 0 {
		return
	}
	m.recovery = &recovery{
		nodes:    slices.Sorted(slices.Values(nodes)),
		memories: map[schema.NodeName]work.Memory{}, reports: map[schema.NodeName]NodeReport{}, missing: map[string]wire.Unreadable{},
	}
}

// Awaited is a node that a recovering master still waits for.
type Awaited struct {
	Node schema.NodeName
	Why  string // "" when it has merely not answered
}

// Awaited lists the nodes that a recovering machine still waits for, sorted;
// none when it does not recover, or no more.
func (m *Machine) Awaited() []Awaited {
	if m.recovery == nil {
		return nil
	}
	var out []Awaited
	for _, node := range m.recovery.nodes {
		if why, answered := m.recovery.answered(node); !answered {
			out = append(out, Awaited{node, why})
		}
	}
	return out
}

// answered reports whether all is known of a node. One that runs pods and does
// not remember any work has lost its disk's file, not its pods: they are not
// stopped for that.
func (r *recovery) answered(node schema.NodeName) (why string, ok bool) {
	memory, remembers := r.memories[node]
	report, reported := r.reports[node]
	if n := len(report.Report.Pods); remembers && n > 0 && memory.Version == 0 {
		return fmt.Sprintf("it has %d pods and has lost the work that says what they are", n), false
	}
	return "", remembers && reported
}

// take notes what nodes say; anything else is not for now, and comes again.
func (r *recovery) take(inputs []Input) {
	for _, in := range inputs {
		switch in := in.(type) {
		case Recovered:
			r.remember(in)
		case NodeReport:
			r.reports[in.Report.Node] = in
		}
	}
}

// recover waits for the nodes, or has the cluster again in one round. That round
// is the store's first: a master that dies before it begins anew.
func (m *Machine) recover(now time.Time, inputs []Input) Output {
	r := m.recovery
	r.take(inputs)
	if len(m.Awaited()) > 0 {
		return Output{Counters: m.snapshot.Counters(), Snapshot: m.snapshot, Wake: now.Add(Tick)}
	}
	m.recovery = nil
	tx := state.Empty(r.counters(m.snapshot.Counters())).Begin()
	c := m.engine.Context(tx, now)
	r.restore(c)
	m.configure(c)
	m.Missing(r.unreadable(c.Tx))
	m.tellMissing(c)
	for _, node := range slices.Sorted(maps.Keys(r.reports)) {
		m.report(c, r.reports[node])
	}
	for range maxRecoveryRuns {
		if m.engine.Run(tx, m.queue, now); m.queue.Rested() {
			break
		}
	}
	return m.round(tx, now, nil)
}

func (r *recovery) remember(in Recovered) {
	if in.Memory.Version > maxRecoveredVersion {
		return
	}
	r.version = max(r.version, in.Memory.Version)
	if in.Memory.Fresher(r.freshest) {
		r.freshest = in.Memory
	}
	for _, u := range in.Memory.Unreadable {
		r.missing[u.Key] = u
	}
	in.Memory.Records = nil
	r.memories[in.Node] = in.Memory
}

// unreadable is what nobody could tell, sorted: an object that is there was told by
// another node.
func (r *recovery) unreadable(have state.Reader) []wire.Unreadable {
	var out []wire.Unreadable
	for _, key := range slices.Sorted(maps.Keys(r.missing)) {
		if k, ok := wire.KeyOfStore(key); !ok || have.Get(k) == nil {
			out = append(out, r.missing[key])
		}
	}
	return out
}

// counters are those of an empty store, raised above all that was ever handed
// out: no version goes back, and no identity comes twice. There never were more
// creations than versions.
func (r *recovery) counters(c state.Counters) state.Counters {
	c.ResourceVersion = max(c.ResourceVersion, r.version)
	c.Creations = max(c.Creations, c.ResourceVersion)
	return c
}

// restore puts the cluster as it was into an empty transaction: pods as each
// node remembers its own, everything else as the freshest memory has it.
func (r *recovery) restore(c *control.Context) {
	pods := r.pods()
	for _, obj := range r.freshest.Records {
		switch o := obj.(type) {
		case *corev1.Node:
			if _, ok := r.reports[schema.NodeName(o.Name)]; !ok {
				continue // no longer registered
			}
		case *corev1.Pod:
			if pods[schema.KeyOf(o)] != nil {
				continue // bound since
			}
			control.PreparePod(c, o)
		}
		c.Tx.Put(obj)
	}
	for _, key := range slices.SortedFunc(maps.Keys(pods), schema.Key.Compare) {
		pod := pods[key]
		control.PreparePod(c, pod)
		pod.Status.Conditions = r.conditions(pod)
		c.Tx.Put(pod)
	}
}

// pods are the bound pods by key. Of two with one name the one bound last is the
// cluster's; the other's node learns that it has it no more.
func (r *recovery) pods() map[schema.Key]*corev1.Pod {
	out := map[schema.Key]*corev1.Pod{}
	for _, node := range slices.Sorted(maps.Keys(r.memories)) {
		for _, pod := range r.memories[node].Pods {
			key := schema.KeyOf(pod)
			if other := out[key]; other == nil || work.Epoch(pod) > work.Epoch(other) {
				out[key] = pod
			}
		}
	}
	return out
}

// conditions are those the pod must have had: bound, and ready if its node says
// that it is. Since when is forgotten; the pod's creation is taken, so that a
// rollout under way does not count every pod as just begun.
func (r *recovery) conditions(pod *corev1.Pod) []corev1.PodCondition {
	since := pod.CreationTimestamp
	out := []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: since}}
	for _, p := range r.reports[schema.NodeName(pod.Spec.NodeName)].Report.Pods {
		if p.UID != pod.UID {
			continue
		}
		for _, cond := range p.Status.Conditions {
			if cond.Status == corev1.ConditionTrue && slices.Contains(reportedConditions, cond.Type) {
				out = append(out, corev1.PodCondition{Type: cond.Type, Status: cond.Status, LastTransitionTime: since})
			}
		}
	}
	return out
}
