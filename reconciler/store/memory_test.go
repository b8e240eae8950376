package store

import (
	"context"
	"testing"
	"time"

	"fairlead/schema/wire"
)

type memoryHandle struct{ *Memory }

func (h memoryHandle) another() handleUnderTest      { return memoryHandle{h.Open()} }
func (h memoryHandle) inject(f func(keys int) Fault) { h.Inject(f) }
func (h memoryHandle) deliver()                      { h.Deliver() }
func (h memoryHandle) raw() engine                   { return h.data }

var memoryBackend = backend{func(*testing.T) handleUnderTest { return memoryHandle{NewMemory(start)} }}

func TestMemoryContract(t *testing.T) { runContract(t, memoryBackend) }

func TestMemoryModel(t *testing.T) { runModel(t, memoryBackend) }

func TestMemoryHistoryIsBounded(t *testing.T) {
	m := NewMemory(start)
	l, err := m.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for round := uint64(1); round <= 3*compactEvery; round++ {
		w := put("Pod", "d", "a", l.ResourceVersion)
		if round%2 == 0 {
			w = remove("Pod", "d", "b")
		}
		if err := m.Commit(t.Context(), wire.Batch{Round: round, ResourceVersion: l.ResourceVersion, Writes: []wire.Write{w}}); err != nil {
			t.Fatal(err)
		}
	}
	versions := 0
	for _, v := range m.data.versions {
		versions += len(v)
	}
	if limit := 4*compactEvery + 10; versions > limit {
		t.Errorf("%d versions are kept, want at most %d", versions, limit)
	}
}

// The clock of a machine may have been put back: the store's counter does not
// follow.
func TestResourceVersionNeverGoesBack(t *testing.T) {
	m := NewMemory(start)
	first, err := m.Load(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	again := m.Open()
	again.now = start.Add(-time.Hour)
	second, err := again.Load(context.Background())
	if err != nil || second.ResourceVersion < first.ResourceVersion {
		t.Errorf("got %d, %v, want at least %d", second.ResourceVersion, err, first.ResourceVersion)
	}
}
