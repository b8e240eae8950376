package state

import (
	"sort"
	"sync"
)

// FeedLength is how many changes a Feed remembers. At 10,000 pods rolling at
// once a watcher may fall a whole rollout behind before it must relist.
const FeedLength = 1 << 16

// Feed is the published line of snapshots with a bounded log of what changed
// between them: what watches, the work streams and pages are fed from. The
// master's loop alone publishes; everybody reads.
type Feed struct {
	length   int // changes remembered
	mu       sync.Mutex
	snapshot *Snapshot
	log      []Change // in resourceVersion order
	floor    uint64   // changes at or below it are forgotten
	moved    chan struct{}
}

// NewFeed starts a line at s; what happened before is unknown to it.
func NewFeed(s *Snapshot) *Feed {
	return &Feed{length: FeedLength, snapshot: s, floor: s.Counters().ResourceVersion, moved: make(chan struct{})}
}

// Publish makes s the current snapshot; changes are those since the last one,
// in resourceVersion order.
func (f *Feed) Publish(s *Snapshot, changes []Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snapshot = s
	f.log = append(f.log, changes...)
	// The log outgrows its length by a quarter before it is cut, so that the cut is
	// not paid at every publication.
	if most := f.length + f.length/4; len(f.log) > most {
		over := len(f.log) - f.length
		f.floor = f.log[over-1].RV
		f.log = append(make([]Change, 0, most), f.log[over:]...)
	}
	close(f.moved)
	f.moved = make(chan struct{})
}

// Snapshot is the current one.
func (f *Feed) Snapshot() *Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.snapshot
}

// Since returns the changes after rv in resourceVersion order, the snapshot they
// lead to and a channel that closes at the next publication. ok is false when
// rv is forgotten or from the future: the reader must list again (HTTP 410).
func (f *Feed) Since(rv uint64) (changes []Change, s *Snapshot, moved <-chan struct{}, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if rv < f.floor || rv > f.snapshot.counters.ResourceVersion {
		return nil, f.snapshot, f.moved, false
	}
	i := sort.Search(len(f.log), func(i int) bool { return f.log[i].RV > rv })
	return f.log[i:len(f.log):len(f.log)], f.snapshot, f.moved, true
}
