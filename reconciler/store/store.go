// Package store answers what survives: it makes each round of the master
// durable, all of it or nothing, and gives back the last finished one. It
// decides nothing and knows no object's meaning. The master's loop is its one
// user, one handle its one writer: loading takes a new term, and from then on
// every write of an earlier term is refused.
//
// Two stores keep one contract: Etcd, the only importer of etcd, and Memory for
// tests and the simulation. The protocol itself (ledger.go) is shared.
package store

import (
	"context"
	"errors"
	"time"

	"fairlead/schema/wire"
)

// What a caller of Commit acts on. Any other error is uncertain: the batch may
// or may not have become durable, and Load tells.
var (
	// ErrRefused: the batch broke a rule and nothing was sent. The store stands
	// as it stood and goes on taking batches.
	ErrRefused = errors.New("batch refused")
	// ErrTermLost: somebody else has loaded the store since. Nothing of the
	// batch happened or will. Load gives it too.
	ErrTermLost = errors.New("term lost")
	// ErrNotLoaded: Load comes first, and again after every error but ErrRefused.
	ErrNotLoaded = errors.New("store is not loaded")
)

// Bounds of what the store takes.
const (
	// MaxWritesPerTransaction is where etcd's throughput levels off; a round of
	// more is written in several transactions.
	MaxWritesPerTransaction = 128
	// MaxObjectBytes bounds one object. Kubernetes stops at 1.5 MiB.
	MaxObjectBytes = wire.MaxObjectBytes
	// maxTransactionBytes bounds the objects of one transaction, unless it
	// carries one only.
	maxTransactionBytes = 1 << 20
	// callTimeout is the deadline of every single call to the engine.
	callTimeout = 10 * time.Second
	// compactEvery is after how many written keys the history before the last
	// finished round is given up.
	compactEvery = 20_000
)

// firstResourceVersion is where a new store's counter starts: above whatever a
// store that was lost can have reached, at less than a million changes a second.
func firstResourceVersion(now time.Time) uint64 { return uint64(now.Unix()) << 20 }

// engine is what the protocol asks of a key-value store with etcd's revisions:
// every applied transaction has a higher one, and the state as of a revision
// that was not compacted can still be read.
type engine interface {
	// apply makes all ops happen at once if when holds; held tells. The revision
	// is that of the transaction. After an error it may have happened, or may
	// yet.
	apply(ctx context.Context, when condition, ops []op) (held bool, revision int64, err error)
	get(ctx context.Context, key string) (entry, bool, error)
	// scan visits the keys under prefix in order as of revision, 0 being now.
	// With keysOnly the entries have no value.
	scan(ctx context.Context, prefix string, revision int64, keysOnly bool, visit func(entry) error) error
	// compact gives up the states before revision, not the one as of it.
	compact(ctx context.Context, revision int64) error
}

// condition holds when key has exactly this value; "" means there is no key. The zero
// condition always holds.
type condition struct{ key, value string }

// op writes a key; a nil value deletes it.
type op struct {
	key   string
	value []byte
}

// entry is a key as found, with the revision that wrote it last.
type entry struct {
	key      string
	value    []byte
	modified int64
}

var _, _ interface {
	Load(context.Context) (wire.Loaded, error)
	SetAside(context.Context, []wire.Unreadable) error
	Commit(context.Context, wire.Batch) error
	Close() error
} = (*Etcd)(nil), (*Memory)(nil)
