package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"fairlead/schema/wire"
)

// ledger is the protocol over an engine: rounds, terms, and the way back.
//
// A round is written in transactions that each compare the term; the last one
// also moves the round key. So an interrupted round has left keys whose
// revision is later than the round key's, and Load puts them back to what they
// were as of that revision. That works while that revision can be read, hence
// the ledger compacts only up to it.
type ledger struct {
	engine engine
	now    time.Time // where a new store's resourceVersion starts
	log    *logrus.Entry
	// writers is how many transactions of a round may be under way at once; with
	// 0 or 1 they happen in order, one after the other.
	writers int

	mu       sync.Mutex // one Load or Commit at a time
	loaded   bool
	term     uint64
	round    uint64
	revision int64    // that moved the round last
	taken    int64    // the revision that took the term
	damaged  []damage // keys of meta/ that this load makes anew
	newest   uint64   // no version above it was handed out
	counters counters
	written  int      // keys since the last compaction
	untold   bool     // keyMissing is there: the next round takes it away
	missing  []string // the keys in it, as the load found it
}

// Load takes a new term, undoes a round that was not finished, and returns the
// store as of the last that was. Whatever an earlier term still had under way
// is refused from here on. ErrTermLost: another load took the term meanwhile, and
// what was read may be of its rounds.
func (l *ledger) Load(ctx context.Context) (wire.Loaded, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loaded = false
	if err := l.takeTerm(ctx); err != nil {
		return wire.Loaded{}, fmt.Errorf("take a term: %w", err)
	}
	if err := l.readMeta(ctx); err != nil {
		return wire.Loaded{}, fmt.Errorf("read the last round: %w", err)
	}
	if err := l.readMissing(ctx); err != nil {
		return wire.Loaded{}, fmt.Errorf("read what was set aside: %w", err)
	}
	entries, err := l.finished(ctx)
	if err != nil {
		return wire.Loaded{}, fmt.Errorf("read round %d: %w", l.round, err)
	}
	l.checkMeta(entries)
	if err := l.putBack(ctx, entries); err != nil {
		return wire.Loaded{}, fmt.Errorf("put back what followed round %d: %w", l.round, err)
	}
	if e, found, err := l.get(ctx, keyTerm); err != nil {
		return wire.Loaded{}, fmt.Errorf("read the term: %w", err)
	} else if term, whole := parseNumber(e, found); !whole || term != l.term {
		return wire.Loaded{}, fmt.Errorf("term %d: %w", l.term, ErrTermLost)
	}
	out := wire.Loaded{
		ResourceVersion: l.counters.ResourceVersion, Creations: l.counters.Creations,
		Round: l.round, Term: l.term,
		Records: make([]wire.Record, 0, len(entries)),
	}
	for _, e := range entries {
		if rec, err := l.decode(e); err == nil {
			out.Records = append(out.Records, rec)
		} else {
			out.Unreadable = append(out.Unreadable, wire.Unreadable{Key: e.key, Why: err.Error()})
		}
	}
	if err := l.readAside(ctx, &out); err != nil {
		return wire.Loaded{}, fmt.Errorf("read what is set aside: %w", err)
	}
	slices.SortStableFunc(out.Unreadable, func(a, b wire.Unreadable) int { return strings.Compare(a.Key, b.Key) })
	slices.SortFunc(out.Records, func(a, b wire.Record) int { return a.Key.Compare(b.Key) })
	l.loaded = true
	return out, nil
}

// maxTermAttempts bounds how often a load tries again when another loads at the
// same moment.
const maxTermAttempts = 5

func (l *ledger) takeTerm(ctx context.Context) error {
	for range maxTermAttempts {
		l.damaged = nil
		isNew, err := l.schema(ctx)
		if err != nil {
			return err
		}
		before, ops := condition{key: keySchema}, l.firstKeys()
		if l.term = 1; !isNew {
			if before, err = l.nextTerm(ctx); err != nil {
				return err
			}
			ops = []op{{keyTerm, decimal(l.term)}, {keySchema, []byte(schemaVersion)}}
		}
		held, revision, err := l.apply(ctx, before, ops)
		if err != nil {
			return err
		}
		if held {
			l.taken = revision
			return nil
		}
	}
	return fmt.Errorf("another handle took it %d times in a row", maxTermAttempts)
}

// firstKeys are those of a new store.
func (l *ledger) firstKeys() []op {
	first := counters{ResourceVersion: firstResourceVersion(l.now)}
	return []op{{keySchema, []byte(schemaVersion)}, {keyTerm, decimal(1)}, {keyRound, decimal(0)}, {keyCounter, first.encode()}}
}

// nextTerm is the term after the one that is there, and what must hold when it is taken.
func (l *ledger) nextTerm(ctx context.Context) (condition, error) {
	old, term, whole, err := l.number(ctx, keyTerm)
	if err == nil && !whole {
		old.value = nil
		term, err = l.freeTerm(ctx)
	}
	l.term = term + 1
	return condition{keyTerm, string(old.value)}, err
}

// finished is every object as of the last finished round.
func (l *ledger) finished(ctx context.Context) ([]entry, error) {
	var entries []entry
	err := l.engine.scan(ctx, objectPrefix, l.revision, false, func(e entry) error {
		entries = append(entries, e)
		return nil
	})
	return entries, err
}

// putBack makes the present equal to entries, in transactions of this term, and
// then writes the round key again, unchanged, so that its revision vouches for
// all of it. Interrupted, the next load does it again from the same revision.
func (l *ledger) putBack(ctx context.Context, entries []entry) error {
	var ops []op
	i := 0
	err := l.engine.scan(ctx, objectPrefix, 0, true, func(now entry) error {
		for i < len(entries) && entries[i].key < now.key {
			ops = append(ops, op{entries[i].key, entries[i].value})
			i++
		}
		switch {
		case i == len(entries) || entries[i].key != now.key:
			ops = append(ops, op{key: now.key})
		case entries[i].modified != now.modified:
			ops = append(ops, op{now.key, entries[i].value})
			i++
		default:
			i++
		}
		return nil
	})
	if err != nil {
		return err
	}
	for ; i < len(entries); i++ {
		ops = append(ops, op{entries[i].key, entries[i].value})
	}
	if len(ops) == 0 && len(l.damaged) == 0 {
		return nil
	}
	if len(ops) > 0 {
		l.log.WithFields(logrus.Fields{"round": l.round, "keys": len(ops)}).Warn("an unfinished round is undone")
	}
	last, err := l.remade(ctx)
	if err != nil {
		return err
	}
	return l.write(ctx, ops, append(last, op{keyRound, decimal(l.round)}))
}

// readAside tells of the keys of meta/ that this load made anew, and counts what earlier
// starts set aside. What was set aside by one that ended before its first round is told
// of again, for nobody has acted on it.
func (l *ledger) readAside(ctx context.Context, out *wire.Loaded) error {
	untold := map[string]bool{} // by the place of a key's first value
	for _, d := range l.damaged {
		out.Unreadable = append(out.Unreadable, d.Unreadable)
		untold[asideKey(d.Key, 1)] = true
	}
	for _, key := range l.missing {
		if !untold[asideKey(key, 1)] {
			untold[asideKey(key, 1)] = true
			out.Unreadable = append(out.Unreadable, wire.Unreadable{Key: key, Why: "it was set aside by a start that did not get further"})
		}
	}
	return l.engine.scan(ctx, asidePrefix, 0, true, func(e entry) error {
		place := firstAside(e.key)
		if !untold[place] {
			out.Aside++
		}
		delete(untold, place) // what else is kept of the key was told of before
		return nil
	})
}

// SetAside moves records that cannot be read to asidePrefix, where nothing reads them
// and their bytes stay for a person to look at. It comes between Load and the first
// Commit, until which later loads tell of them again; after an error Load comes first.
func (l *ledger) SetAside(ctx context.Context, records []wire.Unreadable) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.loaded {
		return ErrNotLoaded
	}
	var ops []op
	for _, r := range records {
		if !strings.HasPrefix(r.Key, objectPrefix) {
			continue // a key of meta/: Load has put it right
		}
		e, found, err := l.get(ctx, r.Key)
		if err != nil {
			return fmt.Errorf("set %s aside: %w", r.Key, err)
		}
		if found {
			at, err := l.freeAside(ctx, r.Key, e.value)
			if err != nil {
				return err
			}
			ops = append(ops, op{at, append([]byte{}, e.value...)}, op{key: r.Key})
		}
	}
	missing := make([]string, 0, len(records))
	for _, r := range records {
		missing = append(missing, r.Key)
	}
	// The round key is written again, unchanged: the next load reads as of it.
	if err := l.write(ctx, ops, []op{{keyRound, decimal(l.round)}, {keyMissing, missingLines(missing)}}); err != nil {
		l.loaded = false
		return fmt.Errorf("set %d records aside: %w", len(records), err)
	}
	l.untold = true
	return nil
}

// Commit makes b durable, all of it or nothing, before it returns. It does not
// keep b. After an error other than ErrRefused it takes no further batch until
// Load has been called.
func (l *ledger) Commit(ctx context.Context, b wire.Batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.loaded {
		return ErrNotLoaded
	}
	ops, err := l.check(b)
	if err != nil {
		return fmt.Errorf("round %d: %w: %w", b.Round, ErrRefused, err)
	}
	after := counters{ResourceVersion: b.ResourceVersion, Creations: b.Creations}
	last := []op{{keyRound, decimal(b.Round)}, {keyCounter, after.encode()}}
	if l.untold {
		last = append(last, op{key: keyMissing})
	}
	if err := l.write(ctx, ops, last); err != nil {
		l.loaded = false
		return fmt.Errorf("round %d: %w", b.Round, err)
	}
	l.untold = false
	l.round, l.counters = b.Round, after
	l.compact(ctx)
	return nil
}

// check judges a batch before anything is sent and translates its writes.
func (l *ledger) check(b wire.Batch) ([]op, error) {
	switch {
	case b.Round <= l.round:
		return nil, fmt.Errorf("round %d was finished before", l.round)
	case b.ResourceVersion < l.counters.ResourceVersion:
		return nil, fmt.Errorf("resourceVersion would go back from %d to %d", l.counters.ResourceVersion, b.ResourceVersion)
	case b.Creations < l.counters.Creations:
		return nil, fmt.Errorf("creations would go back from %d to %d", l.counters.Creations, b.Creations)
	}
	ops := make([]op, len(b.Writes))
	seen := make(map[string]bool, len(b.Writes))
	for i, w := range b.Writes {
		key, err := objectKey(w.Key)
		if err != nil {
			return nil, err
		}
		if seen[key] {
			return nil, fmt.Errorf("%s is written twice", w.Key)
		}
		seen[key] = true
		ops[i].key = key
		if w.Record == nil {
			continue
		}
		if err := checkRecord(w, b.ResourceVersion); err != nil {
			return nil, fmt.Errorf("%s: %w", w.Key, err)
		}
		ops[i].value = encodeRecord(w.Record)
	}
	return ops, nil
}

func checkRecord(w wire.Write, counter uint64) error {
	switch r := w.Record; {
	case r.Key != w.Key:
		return fmt.Errorf("its record is %s", r.Key)
	case r.ResourceVersion > counter:
		return fmt.Errorf("resourceVersion %d is above the counter, %d", r.ResourceVersion, counter)
	case len(r.Object) > MaxObjectBytes:
		return fmt.Errorf("%d bytes, at most %d can be stored", len(r.Object), MaxObjectBytes)
	}
	return nil
}

// write sends ops in transactions, last with the final one of them. That one,
// which finishes a round, goes when all others have happened; those touch
// different keys and go together, up to l.writers at a time: the disk then makes
// them durable with few syncs.
func (l *ledger) write(ctx context.Context, ops, last []op) error {
	l.written += len(ops) + len(last)
	var parts [][]op
	n := transactionSize(ops)
	for ; n < len(ops); n = transactionSize(ops) {
		parts = append(parts, ops[:n:n])
		ops = ops[n:]
	}
	if err := l.sendAll(ctx, parts); err != nil {
		return err
	}
	revision, err := l.send(ctx, append(ops[:n:n], last...))
	if err != nil {
		return err
	}
	l.revision = revision
	return nil
}

// sendAll sends each part in a transaction, and none more after one that failed.
func (l *ledger) sendAll(ctx context.Context, parts [][]op) error {
	if l.writers <= 1 {
		for _, part := range parts {
			if _, err := l.send(ctx, part); err != nil {
				return err
			}
		}
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(l.writers)
	for _, part := range parts {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			_, err := l.send(ctx, part)
			return err
		})
	}
	return g.Wait()
}

// send makes one transaction of ops happen in this term.
func (l *ledger) send(ctx context.Context, ops []op) (revision int64, err error) {
	held, revision, err := l.apply(ctx, condition{keyTerm, string(decimal(l.term))}, ops)
	if err == nil && !held {
		err = fmt.Errorf("term %d: %w", l.term, ErrTermLost)
	}
	return revision, err
}

// transactionSize is how many of ops, from the first, go into one transaction.
func transactionSize(ops []op) int {
	bytes := 0
	for i, o := range ops {
		bytes += len(o.key) + len(o.value)
		if i == MaxWritesPerTransaction || (i > 0 && bytes > maxTransactionBytes) {
			return i
		}
	}
	return len(ops)
}

// compact gives up history now and then. The batch is durable by then, so a
// failure is told and tried again later.
func (l *ledger) compact(ctx context.Context) {
	if l.written < compactEvery {
		return
	}
	l.written = 0
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := l.engine.compact(ctx, l.revision); err != nil {
		l.log.WithError(err).Warn("the store's history was not compacted")
	}
}

func (l *ledger) apply(ctx context.Context, when condition, ops []op) (bool, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return l.engine.apply(ctx, when, ops)
}

func (l *ledger) get(ctx context.Context, key string) (entry, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return l.engine.get(ctx, key)
}
