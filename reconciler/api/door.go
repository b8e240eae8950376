package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler/state"
	"fairlead/reconciler/work"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// Bounds of the agents' door.
const (
	// HeartbeatInterval is how often a work stream says something.
	HeartbeatInterval = 5 * time.Second
	// unopenedRetry is how soon a Secret that could not be opened is tried again:
	// after a start its source is being read.
	unopenedRetry = 250 * time.Millisecond
	// maxHeld is for how many such tries the first frame of a stream is held
	// back: an agent that runs pods must not be told, for a moment, that their
	// Secrets are gone.
	maxHeld = 40
	// sharedLogLength is how many changes of services and peers are remembered;
	// an agent that is further behind gets the whole.
	sharedLogLength = 1 << 14
	// maxUnacknowledged versions are told apart per node; beyond it they count as
	// one.
	maxUnacknowledged = 256
)

// Door is the agents' door. It keeps, for every node that has ever connected, what it should know and
// what it was sent, so that a change costs what it touches: services and peers
// are the same for all nodes and kept once; a node's own part is made again only
// when one of its pods, or what they reference, changed.
//
// run is the one writer of everything but a node's stream; the streams' requests
// read under mu.
type Door struct {
	cfg        DoorConfig
	feed       *state.Feed
	log        logrus.FieldLogger
	ackMoved   chan struct{} // size one
	logs       *logDesk
	frames     prometheus.Counter
	frameBytes prometheus.Counter

	mu        sync.Mutex
	snapshot  *state.Snapshot // everything below is as of it
	lost      bool            // snapshot is a lost store's: no work is told from it
	records   bool            // shared has records, as it does from the first connection on
	shared    wire.Items      // "services/...", "peers/..." and "records/..."
	sharedSum wire.Sum
	sharedLog []sharedChange             // by version
	briefly   map[schema.SourceName]bool // sources of which only briefs are in records
	floor     uint64                     // changes at or below it are not in sharedLog
	nodes     map[schema.NodeName]*nodeDoor
}

type sharedChange struct {
	version uint64
	key     string
}

// nodeDoor is one node's side of the door. Its fields are guarded by door.mu.
type nodeDoor struct {
	node     schema.NodeName
	own      wire.Items                // the node's part, without shared
	pods     map[types.UID]*corev1.Pod // those in own, as they were when it was made
	ownSum   wire.Sum
	refs     map[schema.Key]bool // ConfigMaps and Secrets its pods name, existing or not
	unopened bool                // a Secret could not be opened; tried again
	held     int                 // tries for which the first frame of a stream waited for it

	greet   bool              // a new stream has sent no frame yet
	renewed bool              // the work changed without a new version: a Secret was opened late
	changed uint64            // version that changed its work last
	sent    uint64            // version of the last frame
	sentOwn wire.Items        // own as of it; nil before the first
	stream  *WorkStream       // the open one, or nil
	logs    []wire.LogRequest // to send

	unacked []span // versions that changed its work and were not acknowledged
}

// WorkStream is one connection of an agent.
type WorkStream struct {
	node     *nodeDoor
	wake     chan struct{} // size one: there may be something to send
	replaced chan struct{} // closed when the agent has connected again
}

func (n *nodeDoor) wake() {
	if n.stream != nil {
		signal(n.stream.wake)
	}
}

// span is a range of versions, somewhere in which a node's work changed: none of
// them counts as applied before the last is.
type span struct{ first, last uint64 }

// NewDoor opens the door on a feed; a Server drives it.
func NewDoor(feed *state.Feed, cfg DoorConfig, log logrus.FieldLogger) *Door {
	if cfg.OpenSecret == nil {
		cfg.OpenSecret = func(string, string) (map[string][]byte, bool) { return nil, false }
	}
	d := &Door{
		cfg: cfg, feed: feed, log: log, ackMoved: make(chan struct{}, 1), logs: newLogDesk(),
		frames:     prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_api_work_frames_total", Help: "Frames of work sent to agents."}),
		frameBytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_api_work_bytes_total", Help: "Bytes of work sent to agents."}),
		nodes:      map[schema.NodeName]*nodeDoor{}, lost: cfg.Recovering,
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rebuildShared(feed.Snapshot())
	return d
}

// run follows the feed until ctx is done.
func (d *Door) run(ctx context.Context) {
	retry := time.NewTicker(unopenedRetry)
	defer retry.Stop()
	for {
		moved := d.Step()
		select {
		case <-moved:
		case <-retry.C:
			d.retryUnopened()
		case <-ctx.Done():
			return
		}
	}
}

// Step takes the changes since the last one and wakes the streams they concern.
// It returns the channel that closes at the next publication.
func (d *Door) Step() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	from := d.snapshot.Counters().ResourceVersion
	changes, snapshot, moved, ok := d.feed.Since(from)
	if snapshot == d.snapshot {
		return moved
	}
	d.lost = false
	dirty := map[schema.NodeName]bool{}
	var shared []string
	if ok {
		d.snapshot = snapshot
		shared = d.applyShared(changes)
		d.markDirty(changes, dirty)
	} else {
		shared = d.rebuildShared(snapshot)
		for name := range d.nodes {
			dirty[name] = true
		}
	}
	for name, n := range d.nodes {
		switch {
		case dirty[name] && d.rebuildOwn(n) || n.concerns(shared):
			n.changedIn(span{from + 1, snapshot.Counters().ResourceVersion})
			n.wake()
		case slices.ContainsFunc(shared, isRecord): // nothing to apply, so nothing to acknowledge
			n.changed = snapshot.Counters().ResourceVersion
			n.wake()
		}
		if n.stream == nil && dirty[name] && snapshot.Get(schema.Key{Kind: schema.KindNode, Name: string(name)}) == nil {
			delete(d.nodes, name)
		}
	}
	signal(d.ackMoved)
	return moved
}

// concerns reports whether one of the shared keys is told to the node to act
// upon: its own entry among the peers is not told, and records it merely keeps.
func (n *nodeDoor) concerns(shared []string) bool {
	return slices.ContainsFunc(shared, func(key string) bool { return key != n.selfPeer() && !isRecord(key) })
}

func isRecord(key string) bool { return strings.HasPrefix(key, wire.FamilyRecords+"/") }

func (n *nodeDoor) selfPeer() string { return "peers/" + string(n.node) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// rebuildShared makes services, peers and records from nothing and returns the keys that
// differ from what they were.
func (d *Door) rebuildShared(snapshot *state.Snapshot) []string {
	d.snapshot = snapshot
	keys := map[string]bool{}
	for key := range d.shared {
		keys[key] = true
	}
	for svc := range state.All[*corev1.Service](snapshot, "") {
		keys["services/"+svc.Namespace+"/"+svc.Name] = true
	}
	for n := range state.All[*corev1.Node](snapshot, "") {
		keys["peers/"+n.Name] = true
	}
	d.addRecords(keys)
	d.addHistory(keys)
	if d.shared == nil {
		d.shared = wire.Items{}
		d.floor = snapshot.Counters().ResourceVersion
	}
	return d.renewShared(keys)
}

// makeRecords makes all records when the first node connects: sealing them takes
// tens of microseconds each, which a start does not wait for. mu is held.
func (d *Door) makeRecords() {
	if d.records || d.cfg.Keeper == nil {
		return
	}
	d.records = true
	keys := map[string]bool{}
	d.addRecords(keys)
	d.addHistory(keys)
	d.renewShared(keys)
}

func (d *Door) addRecords(keys map[string]bool) {
	if !d.records {
		return
	}
	for _, info := range schema.Kinds() {
		for obj := range d.snapshot.List(info.Kind, "") {
			d.addRecord(keys, obj)
		}
	}
}

// addRecord adds the key under which nodes keep obj, if they keep it.
func (d *Door) addRecord(keys map[string]bool, obj schema.Object) {
	if !d.records || obj == nil {
		return
	}
	if key, kept := work.RecordKey(obj); kept {
		keys[key] = true
	}
}

// applyShared renews what the changes touch of services, peers and records and
// returns the keys that differ.
func (d *Door) applyShared(changes []state.Change) []string {
	keys := map[string]bool{}
	for _, c := range changes {
		d.addRecord(keys, c.Old)
		d.addRecord(keys, c.New)
		if row := rows.Of(c.Key.Kind); row != nil && row.shared.Do != nil {
			for _, key := range row.shared.Do(c) {
				keys[key] = true
			}
		}
	}
	d.addHistory(keys)
	return d.renewShared(keys)
}

// addHistory decides anew of which sources nodes keep the history, and adds the records of
// those of which they did not and now do, or the other way round.
func (d *Door) addHistory(keys map[string]bool) {
	if !d.records {
		return
	}
	briefly := work.Briefly(d.snapshot, d.briefly)
	differ := map[schema.SourceName]bool{}
	for source := range briefly {
		if !d.briefly[source] {
			differ[source] = true
			d.log.WithFields(logrus.Fields{"source": source, "most": schema.MaxSpareBytes}).Warn("the history of this source takes more than nodes keep with that of the other sources: if the master's store is lost, its replica sets and Jobs without pods, and what its revisions tell in detail, will be lost too")
		}
	}
	for source := range d.briefly {
		if !briefly[source] {
			differ[source] = true
			d.log.WithField("source", source).Info("the history of this source is kept by nodes again")
		}
	}
	if d.briefly = briefly; len(differ) == 0 {
		return
	}
	for _, key := range work.History(d.snapshot, differ) {
		keys[key] = true
	}
}

func (d *Door) renewShared(keys map[string]bool) []string {
	var changed []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		old, had := d.shared[key]
		value, has := d.sharedItem(key)
		if had == has && string(old) == string(value) {
			continue
		}
		if had {
			d.sharedSum = d.sharedSum.Minus(wire.ItemSum(key, old))
			delete(d.shared, key)
		}
		if has {
			d.sharedSum = d.sharedSum.Plus(wire.ItemSum(key, value))
			d.shared[key] = value
		}
		changed = append(changed, key)
		d.sharedLog = append(d.sharedLog, sharedChange{d.snapshot.Counters().ResourceVersion, key})
	}
	if over := len(d.sharedLog) - sharedLogLength; over > 0 {
		d.floor = d.sharedLog[over-1].version
		d.sharedLog = slices.Clone(d.sharedLog[over:])
	}
	return changed
}

// record is the current value of a record's key.
func (d *Door) record(key string) (json.RawMessage, bool) {
	id, err := work.KeyOfRecord(key)
	if err != nil {
		panic("api: " + err.Error())
	}
	obj := d.snapshot.Get(id)
	if obj == nil {
		return nil, false
	}
	if _, kept := work.RecordKey(obj); !kept {
		return nil, false
	}
	if d.briefly[schema.BelongsTo(obj)] {
		return d.cfg.Keeper.Brief(key, obj)
	}
	return d.cfg.Keeper.Record(key, obj), true
}

// sharedItem is the current value of one of the shared keys.
func (d *Door) sharedItem(key string) (json.RawMessage, bool) {
	family, name, _ := strings.Cut(key, "/")
	if family == wire.FamilyRecords {
		return d.record(key)
	}
	var value any
	var ok bool
	if family == "peers" {
		var n *corev1.Node
		if n, ok = state.Get[*corev1.Node](d.snapshot, "", name); ok {
			value, ok = work.PeerOf(n)
		}
	} else {
		namespace, service, _ := strings.Cut(name, "/")
		value, ok = work.ServiceOf(d.snapshot, namespace, service)
	}
	if !ok {
		return nil, false
	}
	data, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("api: marshal %s: %v", key, err))
	}
	return data, true
}

// markDirty finds the nodes whose own part the changes may concern.
func (d *Door) markDirty(changes []state.Change, dirty map[schema.NodeName]bool) {
	for _, c := range changes {
		if row := rows.Of(c.Key.Kind); row != nil && row.concerns.Do != nil {
			row.concerns.Do(d, c, dirty)
		}
	}
}

// readers marks the nodes whose pods name the changed object.
func readers(d *Door, c state.Change, dirty map[schema.NodeName]bool) {
	for name, n := range d.nodes {
		if n.refs[c.Key] {
			dirty[name] = true
		}
	}
}

// rebuildOwn makes a node's own part again and reports whether it changed. Pods that
// are as they were keep their items: most are, each time that one comes or goes.
func (d *Door) rebuildOwn(n *nodeDoor) bool {
	w, opened := work.Own(d.snapshot, n.node, d.cfg.Cluster, d.cfg.OpenSecret)
	n.unopened = !opened
	n.refs = map[schema.Key]bool{}
	for _, p := range w.Pods {
		for r := range schema.References(&p.Pod.Spec) {
			n.refs[schema.Key{Kind: r.Kind, Namespace: p.Pod.Namespace, Name: r.Name}] = true
		}
	}
	same := wire.Items{}
	pods := make(map[types.UID]*corev1.Pod, len(w.Pods))
	for pod := range state.By[*corev1.Pod](d.snapshot, state.PodsByNode, string(n.node)) {
		pods[pod.UID] = pod
		if was := n.pods[pod.UID]; was != nil && (was == pod || work.SamePod(was, pod)) {
			delete(w.Pods, pod.UID)
			for _, key := range podItems(pod.UID) {
				if item, ok := n.own[key]; ok {
					same[key] = item
				}
			}
		}
	}
	items := wire.Split(&w)
	d.sealPods(w.Pods, items)
	maps.Copy(items, same)
	n.pods = pods
	return n.setOwn(items)
}

// setOwn replaces the node's own part and reports whether it is another one. Only
// what differs is added up.
func (n *nodeDoor) setOwn(items wire.Items) bool {
	changed, sum := n.own == nil, n.ownSum
	for key, item := range items {
		was, had := n.own[key]
		if had && bytes.Equal(was, item) {
			continue
		}
		if had {
			sum = sum.Minus(wire.ItemSum(key, was))
		}
		changed, sum = true, sum.Plus(wire.ItemSum(key, item))
	}
	for key, was := range n.own {
		if _, has := items[key]; !has {
			changed, sum = true, sum.Minus(wire.ItemSum(key, was))
		}
	}
	if changed {
		n.own, n.ownSum = items, sum
	}
	return changed
}

// podItems are the keys of a pod's item and of its seal.
func podItems(uid types.UID) [2]string {
	return [2]string{wire.FamilyPods + "/" + string(uid), wire.FamilySeals + "/" + string(uid)}
}

// sealPods puts a seal beside each of the pods.
func (d *Door) sealPods(pods map[types.UID]wire.PodWork, items wire.Items) {
	if d.cfg.Keeper == nil {
		return
	}
	for uid := range pods {
		keys := podItems(uid)
		items[keys[1]] = d.cfg.Keeper.Seal(keys[0], items[keys[0]])
	}
}

// retryUnopened tries Secrets again that could not be opened.
func (d *Door) retryUnopened() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.nodes {
		if !n.unopened {
			continue
		}
		changed := d.rebuildOwn(n)
		n.renewed = n.renewed || changed
		if changed || n.held > 0 {
			n.wake()
		}
	}
}
