package sim

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent"
	"fairlead/nodeagent/pod"
	"fairlead/reconciler/state"
	"fairlead/reconciler/work"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// Durations that the invariants name, and the room for what is measured.
const (
	keepsUp      = 5 * time.Second  // a node heard within this keeps up
	readyDead    = 5 * time.Second  // how long a dead process may be called Ready (S18)
	addressRest  = 60 * time.Second // of a released address (S8)
	silentNode   = 40 * time.Second // before a node is NotReady
	runtimeAway  = 30 * time.Second // before a node says so
	tickSlack    = 4 * time.Second  // a master's tick, a report's period, a message's way
	inContact    = 20 * time.Second // how long a node must have been in contact to be held to S9
	watchPeriod  = time.Second
	sandboxOwner = 10 * time.Second // how long a table may lead to a sandbox that is gone
)

// truth is what the simulation knows and no process does; it holds every step to
// the invariants.
type truth struct {
	w *World

	latest    *state.Snapshot       // the last one that was durable and published
	recovered bool                  // since a store was wiped, or none was
	model     map[schema.Key]uint64 // of a watcher that only hears changes
	bound     map[types.UID]binding
	highest   map[string]int64 // epoch by node and pod name
	released  map[netip.Addr]release
	missing   map[string]time.Time // since when a table leads to a sandbox that is gone
	deadReady map[types.UID]time.Time
	finished  map[types.UID]corev1.PodPhase // of what ended: how
	ending    map[types.UID]time.Time       // since when a pod's containers are told to end
	left      map[schema.Key]bool           // pods that went by themselves while Git asks for them
	work      *workTruth                    // of Jobs
	back      bool                          // the last commit that was applied was gone back to
	selectors map[string]labels.Selector    // of every service there was
	trees     map[schema.Commit]tree        // by commit
	contact   map[schema.NodeName]time.Time
	applied   schema.Commit
}

type binding struct {
	node  schema.NodeName
	epoch int64
}

type release struct {
	uid types.UID
	at  time.Time
}

// tree is what a commit asks for.
type tree struct {
	keys    []schema.Key // sorted
	removes int          // how many objects its trailer lets go
}

func newTruth(w *World) *truth {
	return &truth{
		w: w, recovered: true, latest: state.Empty(state.Counters{}), model: map[schema.Key]uint64{}, bound: map[types.UID]binding{}, highest: map[string]int64{},
		released: map[netip.Addr]release{}, missing: map[string]time.Time{}, deadReady: map[types.UID]time.Time{}, trees: map[schema.Commit]tree{},
		contact: map[schema.NodeName]time.Time{}, finished: map[types.UID]corev1.PodPhase{}, ending: map[types.UID]time.Time{}, left: map[schema.Key]bool{}, work: newWorkTruth(), selectors: map[string]labels.Selector{},
	}
}

// loaded holds what a master read at its start to what was published before:
// durable before visible, and no version goes back (S17).
func (t *truth) loaded(s *state.Snapshot, l wire.Loaded) {
	if l.Round == 0 { // a store that is new, or was wiped
		if t.recovered {
			t.take(s)
		}
		return
	}
	if was, is := t.latest.Counters().ResourceVersion, l.ResourceVersion; is < was {
		t.w.broken("S17", "the store is at version %d, %d was published before", is, was)
	} else if is == was {
		for _, k := range schema.Kinds() {
			for obj := range t.latest.List(k.Kind, "") {
				if have := s.Get(schema.KeyOf(obj)); have == nil || version(have) != version(obj) {
					t.w.broken("S17", "%s was published at version %d and is not in the store so", schema.KeyOf(obj), version(obj))
				}
			}
			if s.Len(k.Kind) != t.latest.Len(k.Kind) {
				t.w.broken("S17", "%d objects of kind %s are in the store, %d were published", s.Len(k.Kind), k.Kind, t.latest.Len(k.Kind))
			}
		}
	}
	t.take(s)
}

func version(obj schema.Object) uint64 {
	n, _ := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	return n
}

// take makes a snapshot that is durable the latest.
func (t *truth) take(s *state.Snapshot) {
	t.latest = s
	t.model = map[schema.Key]uint64{}
	for _, k := range schema.Kinds() {
		for obj := range s.List(k.Kind, "") {
			t.model[schema.KeyOf(obj)] = version(obj)
		}
	}
	for p := range state.All[*corev1.Pod](s, "") {
		t.note(p)
	}
}

func (t *truth) note(p *corev1.Pod) {
	if p.Spec.NodeName != "" {
		t.bound[p.UID] = binding{schema.NodeName(p.Spec.NodeName), work.Epoch(p)}
	}
}

// published takes what a round made visible.
func (t *truth) published(before *state.Snapshot, feed *state.Feed) {
	from := before.Counters().ResourceVersion
	changes, s, _, ok := feed.Since(from)
	if !ok {
		t.w.broken("S17", "the feed forgot version %d at once", from)
		return
	}
	if t.recovered && from != t.latest.Counters().ResourceVersion {
		t.w.broken("S17", "a round goes on from version %d, the last published is %d", from, t.latest.Counters().ResourceVersion)
	}
	last := from
	for _, c := range changes {
		if c.RV <= last {
			t.w.broken("S17", "change %d of %s comes after %d", c.RV, c.Key, last)
		}
		last = c.RV
		if c.New == nil {
			delete(t.model, c.Key)
		} else {
			t.model[c.Key] = c.RV
		}
	}
	if !t.recovered { // the first round after a wiped store has the whole cluster
		t.w.note("the cluster is recovered, version %d", s.Counters().ResourceVersion)
		t.take(s)
		t.recovered = true
	}
	was := t.latest
	t.latest = s
	t.watcher(s)
	for _, c := range changes {
		if p, ok := c.New.(*corev1.Pod); ok {
			t.note(p)
			if old, ok := c.Old.(*corev1.Pod); ok && old.DeletionTimestamp == nil && p.DeletionTimestamp != nil {
				t.deleted(was, s, old)
			}
		}
		if old, ok := c.Old.(*corev1.Pod); ok && c.New == nil && old.DeletionTimestamp == nil {
			t.deleted(was, s, old)
		}
		if n, ok := c.New.(*corev1.Node); ok {
			if old, ok := c.Old.(*corev1.Node); ok {
				t.nodeChanged(old, n)
			}
		}
	}
	if src, ok := state.Source(s, sourceName); ok {
		t.moves(s, src.Status.Applied.Commit)
	}
	t.promises(s)
	t.source(was, s)
	t.capacity(s)
}

// watcher holds what somebody knows who heard every change to the tables (S17).
func (t *truth) watcher(s *state.Snapshot) {
	count := 0
	for _, k := range schema.Kinds() {
		for obj := range s.List(k.Kind, "") {
			count++
			if rv := t.model[schema.KeyOf(obj)]; rv != version(obj) {
				t.w.broken("S17", "a watcher has %s at version %d, it is at %d", schema.KeyOf(obj), rv, version(obj))
			}
		}
	}
	if count != len(t.model) {
		t.w.broken("S17", "a watcher has %d objects, there are %d", len(t.model), count)
	}
}

// source: what is applied is one accepted tree (S4), moves along ancestry or by
// a recorded override (S5), and takes nothing away that nobody asked to (S3).
func (t *truth) source(was, s *state.Snapshot) {
	src, ok := state.Source(s, sourceName)
	if !ok || src.Status.Applied.Commit == "" {
		return
	}
	commit := src.Status.Applied.Commit
	asked, known := t.trees[commit]
	if !known {
		t.w.broken("S4", "commit %s is applied, which nobody made", commit)
		return
	}
	var have []schema.Key
	for _, k := range schema.Kinds() {
		if !k.Desired {
			continue
		}
		for obj := range s.BySource(k.Kind, sourceName) {
			if obj.GetDeletionTimestamp() == nil && obj.GetOwnerReferences() == nil {
				have = append(have, schema.KeyOf(obj))
			}
		}
	}
	slices.SortFunc(have, schema.Key.Compare)
	have = t.asked(s, asked.keys, have)
	if wanted := t.present(asked.keys, have); !slices.Equal(have, wanted) {
		t.w.broken("S4", "applied is %.12s, which asks for %v; there is %v", commit, wanted, have)
	}
	if commit == t.applied {
		return
	}
	t.w.note("applied: %.12s", commit)
	defer func() { t.applied = commit }()
	old, known := t.trees[t.applied]
	if !known {
		return
	}
	forward, err := t.w.git.IsAncestor(t.applied, commit)
	back, _ := t.w.git.IsAncestor(commit, t.applied)
	if err == nil && !forward && !(back && t.failed(s, t.applied)) {
		t.w.broken("S5", "applied moves from %.12s to %.12s, which does not follow it, and no rollback was due", t.applied, commit)
	}
	gone := 0
	for _, key := range old.keys {
		if !slices.Contains(asked.keys, key) {
			gone++
		}
	}
	if forward && 2*gone > len(old.keys) && asked.removes < gone {
		t.w.broken("S3", "%d of %d objects go with %.12s, and no commit allows it", gone, len(old.keys), commit)
	}
}

// moves notes which way the source moves.
func (t *truth) moves(s *state.Snapshot, commit schema.Commit) {
	if commit == t.applied {
		return
	}
	old, known := t.trees[t.applied]
	if forward, err := t.w.git.IsAncestor(t.applied, commit); known && err == nil {
		t.back = !forward
	}
	if known && !t.back && t.healthy(s, t.applied) {
		t.work.forget(old.keys)
	}
}

func (t *truth) healthy(r state.Reader, commit schema.Commit) bool {
	rev, ok := state.Revision(r, schema.RevisionOf(sourceName, commit))
	return ok && rev.Status.Phase == schema.PhaseHealthy
}

// asked are the keys of what is there, without those of objects that outlive the tree
// which was gone back from.
func (t *truth) asked(s *state.Snapshot, asked, have []schema.Key) (out []schema.Key) {
	for _, key := range have {
		outlives := rows.Of(key.Kind).outlives.Do
		if _, found := slices.BinarySearchFunc(asked, key, schema.Key.Compare); found || !t.back || outlives == nil || !outlives(s.Get(key)) {
			out = append(out, key)
		}
	}
	return out
}

// present are the keys without those of objects that went by themselves.
func (t *truth) present(asked, have []schema.Key) (out []schema.Key) {
	for _, key := range asked {
		mayMiss := rows.Of(key.Kind).missing.Do
		if _, found := slices.BinarySearchFunc(have, key, schema.Key.Compare); found || mayMiss == nil || !mayMiss(t, key) {
			out = append(out, key)
		}
	}
	return out
}

// promises holds every object to what its kind promises at every instant.
func (t *truth) promises(s *state.Snapshot) {
	for _, r := range rows.All() {
		if r.holds.Do == nil {
			continue
		}
		for obj := range s.List(r.kind, "") {
			r.holds.Do(t, s, obj)
		}
	}
}

// deleted is told of every pod that a round let go.
func (t *truth) deleted(was, s *state.Snapshot, p *corev1.Pod) {
	t.w.note("%s is to go from %s", p.Name, p.Spec.NodeName)
	for _, r := range rows.All() {
		if r.leaves.Do != nil {
			r.leaves.Do(t, was, s, p)
		}
	}
}

func (t *truth) failed(r state.Reader, commit schema.Commit) bool {
	rev, ok := state.Revision(r, schema.RevisionOf(sourceName, commit))
	return ok && (rev.Status.Phase == schema.PhaseFailed || rev.Status.Phase == schema.PhaseRolledBack)
}

func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func isReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func isStale(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == schema.ConditionStale && c.Status == corev1.ConditionTrue
	})
}

func nodeReady(r state.Reader, name string) bool {
	n, ok := state.Get[*corev1.Node](r, "", name)
	return ok && slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// troubled: a node says that it cannot work only after its runtime was away for
// long.
func (t *truth) troubled(said *corev1.Node) {
	for _, n := range t.w.nodes {
		if away := t.w.now.Sub(n.answered); string(n.name) == said.Name && away < runtimeAway {
			t.w.broken("S3", "node %s says that its runtime is away, which answered %v ago", n.name, away)
		}
	}
}

// nodeChanged: a node is given up only after a silence that its leader heard.
func (t *truth) nodeChanged(old, n *corev1.Node) {
	was := nodeIs(old)
	is := nodeIs(n)
	if was == is {
		return
	}
	t.w.note("node %s is Ready=%s", n.Name, is)
	if was != corev1.ConditionTrue {
		return
	}
	if is == corev1.ConditionFalse {
		t.troubled(n)
		return
	}
	m := t.w.master
	silence := t.w.now.Sub(m.heard[schema.NodeName(n.Name)])
	if at, heard := m.heard[schema.NodeName(n.Name)]; heard && silence < silentNode-tickSlack {
		t.w.broken("S3", "node %s is given up after %v of silence, it was heard at %v", n.Name, silence, at.Sub(epoch))
	}
	silent := 0
	for _, other := range t.w.nodes {
		if t.w.now.Sub(m.heard[other.name]) > silentNode+tickSlack {
			silent++
		}
	}
	if 2*silent > len(t.w.nodes) {
		t.w.broken("S3", "node %s is given up while %d of %d are silent", n.Name, silent, len(t.w.nodes))
	}
}

func nodeIs(n *corev1.Node) corev1.ConditionStatus {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status
		}
	}
	return ""
}

// capacity: what is bound to a node fits it (S8).
func (t *truth) capacity(s *state.Snapshot) {
	for n := range state.All[*corev1.Node](s, "") {
		var cpu, pods int64
		for p := range state.By[*corev1.Pod](s, state.PodsByNode, n.Name) {
			if ended(p) {
				continue
			}
			pods++
			for c := range schema.StayingContainers(&p.Spec) {
				cpu += c.Resources.Requests.Cpu().MilliValue()
			}
		}
		if room := n.Status.Allocatable; cpu > room.Cpu().MilliValue() || pods > room.Pods().Value() {
			t.w.broken("S8", "node %s holds %d pods asking for %dm, it has room for %d and %dm", n.Name, pods, cpu, room.Pods().Value(), room.Cpu().MilliValue())
		}
	}
}

// started: no container without a committed binding of the highest epoch (S2),
// and none twice.
func (t *truth) started(n *node, a *app) {
	uid := a.spec.Pod
	b, ok := t.bound[uid]
	if !ok || b.node != n.name {
		t.w.broken("S2", "%s starts %s, which is bound to %q", n.name, a.spec.Name, b.node)
		return
	}
	epoch, _ := strconv.ParseInt(a.spec.Labels[pod.LabelEpoch], 10, 64)
	if how := t.finished[uid]; how != "" {
		t.w.broken("S2", "%s starts %s, whose pod is %s", n.name, a.spec.Name, how)
	}
	id := fmt.Sprint(n.name, "/", a.spec.Labels[pod.LabelNamespace], "/", a.spec.Labels[pod.LabelPod])
	if epoch < t.highest[id] || epoch != b.epoch {
		t.w.broken("S2", "%s starts %s of epoch %d, %d was seen and %d is bound", n.name, a.spec.Name, epoch, t.highest[id], b.epoch)
	}
	t.highest[id] = epoch
	if twice := n.runtime.Twice(); len(twice) > 0 {
		t.w.broken("S2", "%s runs %v beside an earlier attempt", n.name, twice)
	}
}

// justified tells why a running container may be ended; "" if nothing allows it.
func (t *truth) justified(n *node, id string, a *app) string {
	p, ok := state.PodByUID(t.latest, a.spec.Pod) // what a lost store had decided counts until it is recovered
	switch {
	case !ok:
		return "deleted"
	case p.DeletionTimestamp != nil:
		return "to go"
	case p.Spec.NodeName != string(n.name):
		return "bound elsewhere"
	case a.sick:
		return "not live"
	case a.killed:
		return "its conmon died"
	case n.newer(id, a):
		return "a newer attempt runs"
	case n.strange(id):
		return "its start was cut short"
	}
	if c := schema.ContainerOf(&p.Spec, a.spec.Labels[pod.LabelContainer]); c != nil && c.Image != a.spec.Image {
		return "its image changed"
	}
	return ""
}

// newer reports whether another attempt of the same container was made.
func (n *node) newer(id string, a *app) bool {
	for other, b := range n.apps {
		if other != id && b.spec.Pod == a.spec.Pod && b.spec.Labels[pod.LabelContainer] == a.spec.Labels[pod.LabelContainer] && b.spec.Labels[pod.LabelAttempt] >= a.spec.Labels[pod.LabelAttempt] {
			return true
		}
	}
	return false
}

// strange reports whether Podman does not know the container, or not as running.
func (n *node) strange(id string) bool {
	found, err := n.runtime.List(n.w.ctx)
	if err != nil {
		return false
	}
	for _, f := range found {
		if f.ID == id {
			return f.State == pod.StateStray || f.State == pod.StateUnknown
		}
	}
	return true
}

// signalled: nothing ends without a decision (S3); SIGTERM waits for the tables,
// SIGKILL for the grace (S13).
func (t *truth) signalled(n *node, id string, a *app, s syscall.Signal) {
	reason := t.justified(n, id, a)
	t.w.note("%s: signal %d to %s (%s)", n.name, s, a.spec.Name, reason)
	if reason == "" {
		t.w.broken("S3", "%s sends signal %d to %s, which is to run", n.name, s, a.spec.Name)
	}
	if s == syscall.SIGKILL {
		if reason == "to go" && (a.termAt.IsZero() || t.w.now.Sub(t.graceBegan(a)) < graceSeconds*time.Second) {
			t.w.broken("S13", "%s kills %s before its grace period", n.name, a.spec.Name)
		}
		return
	}
	if reason == "to go" && a.termAt.IsZero() {
		t.mayEnd(n, a)
	}
}

// graceBegan is when the grace of a container began that was told to end: of a sidecar
// with that of its pod, of another with its preStop hook.
func (t *truth) graceBegan(a *app) time.Time {
	if at, ok := t.ending[a.spec.Pod]; ok && a.spec.Labels[pod.LabelContainer] == helperName {
		return at
	}
	if !a.hookAt.IsZero() {
		return a.hookAt
	}
	return a.termAt
}

// hookRan: a preStop hook runs for what may be told to end.
func (t *truth) hookRan(n *node, h nodeagent.Hook) {
	a := n.apps[h.ID]
	if a == nil || h.Kind != schema.PreStop || !n.running(h.ID) {
		return
	}
	reason := t.justified(n, h.ID, a)
	if reason == "" {
		t.w.broken("S3", "%s runs the preStop hook of %s, which is to run", n.name, a.spec.Name)
	}
	if reason == "to go" && a.hookAt.IsZero() {
		t.mayEnd(n, a)
	}
	if a.hookAt.IsZero() {
		a.hookAt = t.w.now
	}
}

// mayEnd holds the first that a container of a pod hears of its end to S13: no node that
// keeps up still sends the pod requests.
func (t *truth) mayEnd(n *node, a *app) {
	if _, began := t.ending[a.spec.Pod]; began {
		return
	}
	t.ending[a.spec.Pod] = t.w.now
	if seen, ok := n.agent.deleting[a.spec.Pod]; !ok || t.w.now.Sub(seen) >= pod.DrainWait {
		return // it waited long enough, or an earlier life did
	}
	ip, ok := n.live[a.spec.Pod]
	if !ok {
		return
	}
	for _, other := range t.w.nodes {
		heard, ok := t.w.master.heard[other.name]
		well := ok && t.w.now.Sub(heard) < keepsUp-time.Second && t.inContact(other, keepsUp+tickSlack)
		if (well || other == n) && leadsTo(other.table, ip) {
			t.w.broken("S13", "%s asks %s to end, %s still sends it requests", n.name, a.spec.Name, other.name)
		}
	}
}

// removed is Podman's forced removal of what runs.
func (t *truth) removed(n *node, id string, a *app) {
	if reason := t.justified(n, id, a); reason == "" {
		t.w.broken("S3", "%s removes %s, which is to run", n.name, a.spec.Name)
	}
}

// addressed: no two pods share an address, and a released one rests (S8).
func (t *truth) addressed(n *node, uid types.UID, ip netip.Addr) {
	for _, other := range t.w.nodes {
		for taken, have := range other.live {
			if have == ip && taken != uid {
				t.w.broken("S8", "%s gives %s to %s, it is %s's", n.name, ip, uid, taken)
			}
		}
	}
	if r, ok := t.released[ip]; ok && r.uid != uid && t.w.now.Sub(r.at) < addressRest {
		t.w.broken("S8", "%s gives %s to %s %v after it was given back", n.name, ip, uid, t.w.now.Sub(r.at))
	}
}

func (t *truth) unaddressed(uid types.UID, ip netip.Addr) {
	t.released[ip] = release{uid, t.w.now}
}

// watch looks, all the time, at what no event tells.
func (t *truth) watch() {
	t.looks()
	t.w.after(watchPeriod, t.watch)
}

func (t *truth) looks() {
	m := t.w.master
	for _, n := range t.w.nodes {
		well := m.alive && n.agent.alive && n.agent.begun && !n.cutUp && !n.cutDown && n.slow == 0 && !t.w.now.Before(m.paused) && !t.w.now.Before(n.agent.paused) && t.recovered
		if !well {
			delete(t.contact, n.name)
		} else if t.contact[n.name].IsZero() {
			t.contact[n.name] = t.w.now
		}
		t.backends(n)
	}
	t.liars()
	if n := len(m.inputs); n > 10*maxInputs {
		t.w.broken("S20", "%d inputs wait for the loop", n)
	}
}

// inContact reports whether nothing stood between a node and the master for d.
func (t *truth) inContact(n *node, d time.Duration) bool {
	since, ok := t.contact[n.name]
	return ok && t.w.now.Sub(since) >= d
}

func (t *truth) owner(ip string) (types.UID, bool) {
	for _, n := range t.w.nodes {
		for _, uid := range slices.Sorted(maps.Keys(n.live)) {
			if n.live[uid].String() == ip {
				return uid, true
			}
		}
	}
	return "", false
}

// liars: nobody is called Ready for long whose process is dead (S18).
func (t *truth) liars() {
	m := t.w.master
	if !m.alive || t.w.now.Before(m.paused) || !t.recovered {
		clear(t.deadReady)
		return
	}
	for p := range state.All[*corev1.Pod](t.latest, "") {
		n := t.w.node(schema.NodeName(p.Spec.NodeName))
		if n == nil || !isReady(p) || isStale(p) || n.lives(p.UID) || p.DeletionTimestamp != nil {
			delete(t.deadReady, p.UID)
			continue
		}
		if t.deadReady[p.UID].IsZero() {
			t.deadReady[p.UID] = t.w.now
		}
		if d := t.w.now.Sub(t.deadReady[p.UID]); d > readyDead+tickSlack+callTimeout {
			t.w.broken("S18", "%s on %s is Ready, its process is dead since %v", p.Name, n.name, d)
		}
	}
}

// lives reports whether a container of the pod runs on the node.
func (n *node) lives(uid types.UID) bool {
	for id, a := range n.apps {
		if a.spec.Pod == uid && n.running(id) {
			return true
		}
	}
	return false
}

// rest says what is still missing until the cluster is as Git asks; "" at rest.
func (t *truth) rest(commit schema.Commit) string {
	if !t.w.master.alive || !t.recovered {
		return "there is no master"
	}
	src, ok := state.Source(t.latest, sourceName)
	if !ok || src.Status.Applied.Commit != commit {
		return fmt.Sprintf("applied is %.12s, not %.12s", src.Status.Applied.Commit, commit)
	}
	rev, ok := state.Revision(t.latest, schema.RevisionOf(sourceName, commit))
	if !ok {
		return "there is no revision"
	}
	if rev.Status.Phase != schema.PhaseHealthy {
		return fmt.Sprintf("the revision is %s", rev.Status.Phase)
	}
	pods := podSet{}
	for _, r := range rows.All() {
		if r.rests.Do == nil {
			continue
		}
		for obj := range t.latest.List(r.kind, "") {
			if why := r.rests.Do(t, obj, pods); why != "" {
				return why
			}
		}
	}
	for p := range state.All[*corev1.Pod](t.latest, "") {
		if pods[p.UID] == nil {
			return p.Name + " is there for nothing"
		}
	}
	return t.nodesRest(pods)
}

// serves says what keeps a pod from being at rest and serving; "" for nothing.
func (t *truth) serves(p *corev1.Pod) string {
	n := t.w.node(schema.NodeName(p.Spec.NodeName))
	switch {
	case p.DeletionTimestamp != nil || n == nil || !isReady(p) || isStale(p):
		return p.Name + " is not at rest"
	case !n.lives(p.UID):
		return p.Name + " does not run"
	case n.live[p.UID].String() != p.Status.PodIP:
		return fmt.Sprintf("%s has address %s and says %s", p.Name, n.live[p.UID], p.Status.PodIP)
	}
	return ""
}

// nodesRest says what is on nodes that is no pod's.
func (t *truth) nodesRest(pods podSet) string {
	for _, n := range t.w.nodes {
		if !nodeReady(t.latest, string(n.name)) {
			return string(n.name) + " is not Ready"
		}
		for id, a := range n.apps {
			if n.running(id) && pods[a.spec.Pod] == nil {
				return fmt.Sprintf("%s runs %s, which is no pod's", n.name, a.spec.Name)
			}
		}
		for uid := range n.live {
			if pods[uid] == nil {
				return fmt.Sprintf("%s holds a sandbox of %s, which is no pod", n.name, uid)
			}
		}
		if left := n.leftovers(pods); left != "" {
			return left
		}
	}
	return ""
}

// leftovers names a container, dead or alive, that belongs to no pod (S10).
func (n *node) leftovers(pods podSet) string {
	for _, name := range n.runtime.Names() {
		known := false
		for _, a := range n.apps {
			known = known || a.spec.Name == name && pods[a.spec.Pod] != nil
		}
		if !known {
			return fmt.Sprintf("%s has container %s, which is no pod's", n.name, strings.TrimSpace(name))
		}
	}
	return ""
}
