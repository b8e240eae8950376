package gitsource

import "sync"

// maxCachedEntries bounds each generation of a cache: two trees of
// schema.MaxFiles fit.
const maxCachedEntries = 100_000

// generations is a bounded cache: when the young generation is full it becomes
// the old one, and what the old one held and nobody asked for is forgotten.
type generations[K comparable, V any] struct {
	mu     sync.Mutex
	limit  int // weight of one generation
	weight int
	young  map[K]weighed[V]
	old    map[K]weighed[V]
}

type weighed[V any] struct {
	value  V
	weight int
}

func newGenerations[K comparable, V any](limit int) *generations[K, V] {
	return &generations[K, V]{limit: limit, young: make(map[K]weighed[V])}
}

func (g *generations[K, V]) get(k K) (V, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e, ok := g.young[k]; ok {
		return e.value, true
	}
	e, ok := g.old[k]
	if ok {
		g.add(k, e)
	}
	return e.value, ok
}

func (g *generations[K, V]) put(k K, v V, weight int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.add(k, weighed[V]{v, weight})
}

func (g *generations[K, V]) add(k K, e weighed[V]) {
	if g.weight+e.weight > g.limit {
		g.old, g.young, g.weight = g.young, make(map[K]weighed[V]), 0
	}
	g.weight += e.weight - g.young[k].weight
	g.young[k] = e
}
