package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Memory keeps the store's contract without a disk. Several handles may share
// one set of data, as the processes before and after a restart share a disk.
type Memory struct {
	ledger
	data *memory
}

// NewMemory makes an empty store; now is where its resourceVersion starts.
func NewMemory(now time.Time) *Memory {
	return handle(&memory{versions: map[string][]version{}}, now)
}

// Open is another handle on the same data, with a term of its own once loaded.
// The old one stays as it is, like a process that does not know yet.
func (m *Memory) Open() *Memory { return handle(m.data, m.now) }

func handle(data *memory, now time.Time) *Memory {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return &Memory{ledger: ledger{engine: data, now: now, log: logrus.NewEntry(log)}, data: data}
}

// Close does nothing; the data stays for other handles.
func (m *Memory) Close() error { return nil }

// Fault is what goes wrong with one transaction.
type Fault int

// The faults. Each but NoFault makes the transaction return an error.
const (
	NoFault   Fault = iota
	FaultLost       // it has no effect
	FaultSent       // it takes effect
	FaultLate       // it takes effect when Deliver is called, unless its term is over by then
)

// Inject asks fault about every transaction to come, on any handle. It is
// called with the number of keys the transaction writes. Nil ends it.
func (m *Memory) Inject(fault func(keys int) Fault) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	m.data.fault = fault
}

// Deliver lets the late transactions arrive, in order.
func (m *Memory) Deliver() {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	for _, t := range m.data.late {
		m.data.transact(t.when, t.ops)
	}
	m.data.late = nil
}

// Transactions counts those that took effect, on any handle.
func (m *Memory) Transactions() int {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	return int(m.data.revision)
}

// memory is an engine: every key with its versions, oldest first.
type memory struct {
	mu        sync.Mutex
	revision  int64
	compacted int64
	versions  map[string][]version
	fault     func(keys int) Fault
	late      []transaction
}

type version struct {
	revision int64
	value    []byte // nil: deleted
}

type transaction struct {
	when condition
	ops  []op
}

var errFault = errors.New("injected fault")

func (m *memory) apply(ctx context.Context, when condition, ops []op) (bool, int64, error) {
	if err := ctx.Err(); err != nil {
		return false, 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	fault := NoFault
	if m.fault != nil {
		fault = m.fault(len(ops))
	}
	switch fault {
	case FaultLost:
		return false, 0, errFault
	case FaultLate:
		m.late = append(m.late, transaction{when, slices.Clone(ops)})
		return false, 0, errFault
	case FaultSent:
		m.transact(when, ops)
		return false, 0, errFault
	}
	held := m.transact(when, ops)
	return held, m.revision, nil
}

func (m *memory) transact(when condition, ops []op) bool {
	if now, _ := m.at(when.key, m.revision); when != (condition{}) && string(now.value) != when.value {
		return false
	}
	m.revision++
	for _, o := range ops {
		v := version{revision: m.revision}
		if o.value != nil {
			v.value = slices.Clone(o.value)
		}
		m.versions[o.key] = append(m.versions[o.key], v)
	}
	return true
}

// at is key as of revision.
func (m *memory) at(key string, revision int64) (entry, bool) {
	for _, v := range slices.Backward(m.versions[key]) {
		if v.revision <= revision {
			return entry{key, v.value, v.revision}, v.value != nil
		}
	}
	return entry{}, false
}

func (m *memory) get(ctx context.Context, key string) (entry, bool, error) {
	if err := ctx.Err(); err != nil {
		return entry{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e, found := m.at(key, m.revision)
	return e, found, nil
}

func (m *memory) scan(ctx context.Context, prefix string, revision int64, keysOnly bool, visit func(entry) error) error {
	entries, err := m.list(prefix, revision)
	if err := errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	for _, e := range entries {
		if keysOnly {
			e.value = nil
		}
		if err := visit(e); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) list(prefix string, revision int64) ([]entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if revision == 0 {
		revision = m.revision
	}
	if revision < m.compacted {
		return nil, fmt.Errorf("revision %d is compacted", revision)
	}
	var entries []entry
	for _, key := range slices.Sorted(maps.Keys(m.versions)) {
		if e, found := m.at(key, revision); found && strings.HasPrefix(key, prefix) {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

func (m *memory) compact(_ context.Context, revision int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.compacted = revision
	for key, versions := range m.versions {
		keep := 0
		for i, v := range versions {
			if v.revision <= revision {
				keep = i
			}
		}
		versions = slices.Delete(versions, 0, keep)
		if len(versions) == 1 && versions[0].value == nil && versions[0].revision <= revision {
			delete(m.versions, key)
			continue
		}
		m.versions[key] = versions
	}
	return nil
}
