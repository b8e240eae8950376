package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sirupsen/logrus"

	"fairlead/schema/wire"
)

// The keys of meta/ say how the objects are to be read. Where one of them cannot be
// read itself it is set aside and made anew from what the store shows beside it, so
// that what it promises still holds:
//
//   - term: a later one than any before. Each term was taken by a transaction of its
//     own, so there never were more terms than the store has revisions.
//   - round: likewise later than any before. What it vouches for, the objects as of its
//     own revision, the counter vouches for as well, which every round moves with it.
//     Where neither can be read the objects are taken as they are.
//     A store without objects is new: its cluster is recovered from the nodes.
//   - counter: above every version that was handed out, by the clock and by the objects
//     that are there. There never were more creations than versions.
//   - schema: this program's, whose reading of an object tells the schemas apart.

// maxNumber bounds the numbers of meta/: nothing that counts up gets there, and what is
// above would soon begin again from 0. No object's version is above maxVersion, so that
// a counter made anew above it is not either.
const (
	maxNumber  = 1 << 60
	maxVersion = maxNumber / 2
)

// deletedSince is how many versions are left out above the newest object: deleted ones
// may have had them. It matters on a machine whose clock is behind only.
const deletedSince = 1 << 24

// A damage is a key of meta/ that could not be read, as it was found.
type damage struct {
	wire.Unreadable
	value []byte // nil when it was missing
}

// harmed notes that a key is damaged. Why is in words.
func (l *ledger) harmed(e entry, found bool, why string) {
	d := damage{Unreadable: wire.Unreadable{Key: e.key, Why: why}}
	if !found {
		d.Why = "it is missing"
	} else {
		d.value = append([]byte{}, e.value...)
	}
	l.damaged = append(l.damaged, d)
}

// parseNumber reads the decimal of a key that must be there, of which one more can be
// told.
func parseNumber(e entry, found bool) (n uint64, ok bool) {
	n, err := strconv.ParseUint(string(bytes.TrimSpace(e.value)), 10, 64)
	return n, found && err == nil && n <= maxNumber
}

// number reads a key that is made anew when it is damaged.
func (l *ledger) number(ctx context.Context, key string) (e entry, n uint64, whole bool, err error) {
	e, found, err := l.get(ctx, key)
	if err != nil {
		return e, 0, false, err
	}
	if n, whole = parseNumber(e, found); !whole {
		e.key = key
		l.harmed(e, found, "it is not a number from 0 to 2^60")
	}
	return e, n, whole, nil
}

// schema judges the schema of the store. One without the key is new, unless something
// else of a store is there.
func (l *ledger) schema(ctx context.Context) (isNew bool, err error) {
	e, found, err := l.get(ctx, keySchema)
	if err != nil {
		return false, err
	}
	if !found {
		if isNew, err := l.empty(ctx); isNew || err != nil {
			return isNew, err
		}
	}
	e.key = keySchema
	version := string(e.value)
	_, noNumber := strconv.ParseUint(version, 10, 16)
	switch {
	case version == schemaVersion, version == schemaJSON:
	case noNumber != nil:
		l.harmed(e, found, "it names no schema")
	default:
		return false, fmt.Errorf("the store has schema %q, this program reads %q", version, schemaVersion)
	}
	return false, nil
}

var errNotEmpty = errors.New("there is a key")

// empty reports whether the store has no round and no object.
func (l *ledger) empty(ctx context.Context) (bool, error) {
	for _, under := range []string{metaPrefix, objectPrefix} {
		switch err := l.engine.scan(ctx, under, 0, true, func(entry) error { return errNotEmpty }); {
		case errors.Is(err, errNotEmpty):
			return false, nil
		case err != nil:
			return false, err
		}
	}
	return true, nil
}

// freeTerm clears the way for a term where the one that is there cannot be read, and
// is one that is above all there have been. Whoever took one meanwhile is fenced.
func (l *ledger) freeTerm(ctx context.Context) (uint64, error) {
	ops, err := l.asides(ctx)
	if err != nil {
		return 0, err
	}
	_, revision, err := l.apply(ctx, condition{}, append(ops, op{key: keyTerm}))
	return uint64(revision), err
}

// readMeta is which round was finished last and at which revision, and what it counted.
func (l *ledger) readMeta(ctx context.Context) error {
	round, n, whole, err := l.number(ctx, keyRound)
	if err != nil {
		return err
	}
	c, found, err := l.get(ctx, keyCounter)
	if err != nil {
		return err
	}
	l.counters = counters{}
	counted := found && json.Unmarshal(c.value, &l.counters) == nil && l.counters.plausible()
	if !counted {
		c.key, l.counters = keyCounter, counters{}
		l.harmed(c, found, "it does not hold the two counters")
	}
	switch {
	case whole:
		l.round, l.revision = n, round.modified
	case counted:
		l.round, l.revision = uint64(l.taken), c.modified
	default:
		l.round, l.revision = uint64(l.taken), 0
	}
	return nil
}

func (c counters) plausible() bool {
	return c.ResourceVersion > 0 && c.ResourceVersion <= maxNumber && c.Creations <= maxNumber
}

// checkMeta compares what meta/ says with the objects of its round: there are none
// before the first round, and none with a version that was not handed out.
func (l *ledger) checkMeta(entries []entry) {
	switch {
	case len(entries) == 0 && l.isDamaged(keyRound):
		l.round = 0
	case len(entries) > 0 && l.round == 0:
		l.harmed(entry{key: keyRound, value: decimal(0)}, true, fmt.Sprintf("it is 0, and there are %d objects", len(entries)))
		l.round = uint64(l.taken)
	}
	first := firstResourceVersion(l.now)
	l.newest = maxVersion
	if l.counters.plausible() {
		l.newest = max(l.counters.ResourceVersion, first+deletedSince)
	}
	highest := uint64(0)
	for _, e := range entries {
		if rec, err := l.decode(e); err == nil {
			highest = max(highest, rec.ResourceVersion)
		}
	}
	if c := l.counters; c.plausible() && c.ResourceVersion < highest {
		l.harmed(entry{key: keyCounter, value: c.encode()}, true, fmt.Sprintf("it is behind an object of version %d", highest))
		l.counters = counters{}
	}
	if !l.counters.plausible() {
		l.counters.ResourceVersion = max(first, highest+deletedSince)
		l.counters.Creations = l.counters.ResourceVersion
	}
}

// decode reads a record of the store, whose version must have been handed out.
func (l *ledger) decode(e entry) (wire.Record, error) {
	rec, err := decodeRecord(e)
	if err == nil && rec.ResourceVersion > l.newest {
		err = fmt.Errorf("%s: resourceVersion %d was never handed out", e.key, rec.ResourceVersion)
	}
	return rec, err
}

func (l *ledger) isDamaged(key string) bool {
	return slices.ContainsFunc(l.damaged, func(d damage) bool { return d.Key == key })
}

// remade are the writes that set aside what was damaged, and put in its place what was
// made anew. The round key is written with them, as always; a later load tells of the
// damage again until a round is committed.
func (l *ledger) remade(ctx context.Context) ([]op, error) {
	if len(l.damaged) == 0 {
		return nil, nil
	}
	keys := make([]string, 0, len(l.damaged)+len(l.missing))
	for _, d := range l.damaged {
		l.log.WithFields(logrus.Fields{"key": d.Key, "reason": d.Why, "term": l.term, "round": l.round, "resourceVersion": l.counters.ResourceVersion}).Error("a key of the store cannot be read: it is set aside and written again")
		keys = append(keys, d.Key)
	}
	// Those of earlier starts, of which no round has told yet, stay.
	ops, err := l.asides(ctx)
	return append(ops, op{keyCounter, l.counters.encode()}, op{keyMissing, missingLines(append(keys, l.missing...))}), err
}

// maxMissing bounds the keys in keyMissing: that some are missing is what counts.
const maxMissing = 1000

// missingLines is the value of keyMissing: each key once, the first ones where there are
// too many.
func missingLines(keys []string) []byte {
	var lines []byte
	told := map[string]bool{}
	for _, key := range keys {
		if !told[key] && len(told) < maxMissing {
			told[key] = true
			lines = append(append(lines, key...), '\n')
		}
	}
	return lines
}

// readMissing reads what keyMissing tells of earlier starts.
func (l *ledger) readMissing(ctx context.Context) error {
	e, found, err := l.get(ctx, keyMissing)
	l.untold, l.missing = found, nil
	for line := range strings.Lines(string(e.value)) {
		l.missing = append(l.missing, strings.TrimSuffix(line, "\n"))
	}
	return err
}

// asides are the writes that keep the damaged values for a person to look at.
func (l *ledger) asides(ctx context.Context) (ops []op, err error) {
	for _, d := range l.damaged {
		if d.value == nil {
			continue
		}
		at, err := l.freeAside(ctx, d.Key, d.value)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op{at, d.value})
	}
	return ops, nil
}

// maxAside bounds the values that are kept of one key: one that is damaged at every start
// must not fill the store.
const maxAside = 10

// freeAside is where a damaged value of a key is kept: what was kept of that key before
// stays. Beyond maxAside the last one makes way.
func (l *ledger) freeAside(ctx context.Context, key string, value []byte) (string, error) {
	for n := 1; ; n++ {
		at := asideKey(key, n)
		e, found, err := l.get(ctx, at)
		if err != nil {
			return "", fmt.Errorf("read %s: %w", at, err)
		}
		if !found || bytes.Equal(e.value, value) {
			return at, nil
		}
		if n == maxAside {
			l.log.WithFields(logrus.Fields{"key": key, "values": maxAside}).Error("a key of the store was damaged more often than values are kept: the last value that was set aside is replaced")
			return at, nil
		}
	}
}
