// Package state is the cluster in memory: one table per kind on copy-on-write
// B-trees, with the few indexes decisions need. It answers "what is there?" for
// an instant; it decides nothing, reads no clock and does no I/O.
//
// A Snapshot never changes. A Txn is a private, mutable copy (a few pointers)
// whose Commit is the next Snapshot. The master's loop is the one writer of the
// line of snapshots that becomes the cluster; a plan writes a line of its own
// (a fork is nothing but a Txn nobody publishes).
//
// Objects in tables are frozen: read them, never change them. Edit hands out a
// deep copy to change and Put.
package state

import (
	"iter"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/tidwall/btree"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
	"fairlead/schema/wire"
)

// Index names a way to find objects of one kind by a value.
type Index struct {
	kind   schema.Kind
	slot   int
	values func(schema.Object) []string
}

// indexed are the indexes of every kind that has some, each kind's in the order of
// their slots. A value is exact; an object may have none or several.
var indexed = [][]Index{podIndexes, replicaSetIndexes, jobIndexes, endpointSliceIndexes, serviceIndexes, revisionIndexes}

// indexes are those of each kind, by schema.Index.
var indexes = func() [][]Index {
	out := make([][]Index, len(schema.Kinds()))
	for _, ofKind := range indexed {
		for slot, ix := range ofKind {
			i := schema.Index(ix.kind)
			if ix.slot != slot || slot != len(out[i]) {
				panic("state: index slots of " + string(ix.kind) + " are not in order")
			}
			out[i] = append(out[i], ix)
		}
	}
	return out
}()

// LabelValue is what PodsByLabel and ServicesBySelector hold a label under. Pods
// and services meet in their namespace only.
func LabelValue(namespace, key, value string) string {
	return namespace + "/" + key + "=" + value
}

func labelValues(namespace string, labels map[string]string) []string {
	out := make([]string, 0, len(labels))
	for key, value := range labels {
		out = append(out, LabelValue(namespace, key, value))
	}
	return out
}

func controllerUID(o schema.Object) []string {
	if ref := metav1.GetControllerOf(o); ref != nil {
		return []string{string(ref.UID)}
	}
	return []string{""}
}

// table holds one kind. Every table has one more tree than its indexes: the
// objects by source, keyed "source\x00namespace/name".
type table struct {
	objects  btree.Map[string, schema.Object] // by "namespace/name"
	bySource btree.Map[string, schema.Object]
	indexes  []btree.Map[string, schema.Object] // by "value\x00namespace/name"
}

func (t *table) copy() *table {
	out := &table{objects: *t.objects.Copy(), bySource: *t.bySource.Copy(), indexes: make([]btree.Map[string, schema.Object], len(t.indexes))}
	for i := range t.indexes {
		out.indexes[i] = *t.indexes[i].Copy()
	}
	return out
}

func tableKey(namespace, name string) string { return namespace + "/" + name }

// Counters are the two numbers that only grow.
type Counters struct {
	ResourceVersion uint64 // of the last object change
	Creations       uint64 // objects created so far, records of the cluster about itself aside; part of every UID
}

// Reader is what a Snapshot and a Txn have in common: the cluster at an instant.
type Reader interface {
	// Get returns the object of that key, frozen, or nil.
	Get(key schema.Key) schema.Object
	// List yields a kind's objects in key order; namespace "" is all.
	List(kind schema.Kind, namespace string) iter.Seq[schema.Object]
	// By yields the objects an index holds under value, in key order.
	By(ix Index, value string) iter.Seq[schema.Object]
	// BySource yields a kind's objects whose origin is that source, in key order.
	BySource(kind schema.Kind, source schema.SourceName) iter.Seq[schema.Object]
	// Delivered yields, in no order, the sources that have objects, and what all of theirs
	// take together of what every node is sent.
	Delivered() iter.Seq2[schema.SourceName, wire.Takes]
	// Len counts a kind's objects.
	Len(kind schema.Kind) int
	// Counters returns the counters at this instant.
	Counters() Counters
}

type view struct {
	tables    []*table
	delivered map[schema.SourceName]wire.Takes // by source; a Txn's own copy once it differs
	counters  Counters
}

func (v *view) Get(key schema.Key) schema.Object {
	obj, _ := v.tables[schema.Index(key.Kind)].objects.Get(tableKey(key.Namespace, key.Name))
	return obj
}

func (v *view) List(kind schema.Kind, namespace string) iter.Seq[schema.Object] {
	return scan(v.list(kind, namespace))
}

func (v *view) By(ix Index, value string) iter.Seq[schema.Object] { return scan(v.by(ix, value)) }

func (v *view) BySource(kind schema.Kind, source schema.SourceName) iter.Seq[schema.Object] {
	return scan(v.bySource(kind, source))
}

// list, by and bySource are the tree to go through, and what keys begin with there.
func (v *view) list(kind schema.Kind, namespace string) (*btree.Map[string, schema.Object], string) {
	prefix := ""
	if namespace != "" {
		prefix = namespace + "/"
	}
	return &v.tables[schema.Index(kind)].objects, prefix
}

func (v *view) by(ix Index, value string) (*btree.Map[string, schema.Object], string) {
	return &v.tables[schema.Index(ix.kind)].indexes[ix.slot], value + "\x00"
}

func (v *view) bySource(kind schema.Kind, source schema.SourceName) (*btree.Map[string, schema.Object], string) {
	return &v.tables[schema.Index(kind)].bySource, string(source) + "\x00"
}

func (v *view) Delivered() iter.Seq2[schema.SourceName, wire.Takes] { return maps.All(v.delivered) }

func (v *view) Len(kind schema.Kind) int { return v.tables[schema.Index(kind)].objects.Len() }

func (v *view) Counters() Counters { return v.counters }

// scan yields the values whose key has the prefix. The tree may change while
// the consumer runs (a controller deletes what it lists), so it iterates over a
// collected slice.
func scan(m *btree.Map[string, schema.Object], prefix string) iter.Seq[schema.Object] {
	return func(yield func(schema.Object) bool) {
		var found []schema.Object
		m.Ascend(prefix, func(k string, v schema.Object) bool {
			if !strings.HasPrefix(k, prefix) {
				return false
			}
			found = append(found, v)
			return true
		})
		for _, v := range found {
			if !yield(v) {
				return
			}
		}
	}
}

// Snapshot is the cluster at an instant. It never changes and may be read by
// any number of goroutines.
type Snapshot struct {
	view
	mu sync.Mutex // guards copying the trees' handles in Begin
}

// List, By and BySource go straight through the tables: nothing changes meanwhile.

// List is Reader's.
func (s *Snapshot) List(kind schema.Kind, namespace string) iter.Seq[schema.Object] {
	tree, prefix := s.list(kind, namespace)
	return walk(tree, prefix)
}

// By is Reader's.
func (s *Snapshot) By(ix Index, value string) iter.Seq[schema.Object] {
	tree, prefix := s.by(ix, value)
	return walk(tree, prefix)
}

// BySource is Reader's.
func (s *Snapshot) BySource(kind schema.Kind, source schema.SourceName) iter.Seq[schema.Object] {
	tree, prefix := s.bySource(kind, source)
	return walk(tree, prefix)
}

func walk(m *btree.Map[string, schema.Object], prefix string) iter.Seq[schema.Object] {
	return func(yield func(schema.Object) bool) {
		m.Ascend(prefix, func(k string, v schema.Object) bool { return strings.HasPrefix(k, prefix) && yield(v) })
	}
}

// Empty is a cluster without objects whose next resourceVersion follows counters.
func Empty(counters Counters) *Snapshot {
	s := &Snapshot{view: view{tables: make([]*table, len(schema.Kinds())), counters: counters}}
	for i := range s.tables {
		s.tables[i] = &table{indexes: make([]btree.Map[string, schema.Object], len(indexes[i]))}
	}
	return s
}

// Begin opens a transaction over a private copy; s is not affected by it.
func (s *Snapshot) Begin() *Txn {
	return &Txn{view: view{tables: slices.Clone(s.tables), delivered: s.delivered, counters: s.counters}, base: s, touched: make(map[schema.Key]int)}
}

// Change is what a transaction did to one key: Old nil is a creation, New nil a
// deletion. Both are frozen. The resourceVersion of a deletion is RV.
type Change struct {
	Key schema.Key
	Old schema.Object
	New schema.Object
	RV  uint64
}

// Txn is a mutable cluster. Not for concurrent use.
type Txn struct {
	view
	base    *Snapshot
	weighed bool // delivered is a copy
	changes []Change
	touched map[schema.Key]int // key -> index in changes
	log     []Change           // every change since Begin, in order, not merged
	dirty   int                // place in log of the last TakeDirty
}

func (t *Txn) table(kind schema.Kind) *table {
	i := schema.Index(kind)
	if t.tables[i] == t.base.tables[i] { // not copied yet
		t.base.mu.Lock()
		t.tables[i] = t.tables[i].copy()
		t.base.mu.Unlock()
	}
	return t.tables[i]
}

// Put stores obj, which the table owns from now on. It sets TypeMeta and
// resourceVersion, and on creation UID (if empty) from the creation counter.
// Storing an object equal in everything but resourceVersion is the caller's to
// avoid: every Put is a change.
func (t *Txn) Put(obj schema.Object) {
	key := schema.KeyOf(obj)
	tab := t.table(key.Kind)
	tk := tableKey(key.Namespace, key.Name)
	old, _ := tab.objects.Get(tk)
	t.counters.ResourceVersion++
	if old == nil {
		t.identify(key, obj)
	}
	schema.SetTypeMeta(obj)
	obj.SetResourceVersion(strconv.FormatUint(t.counters.ResourceVersion, 10))
	t.store(tab, key, tk, old, obj)
	t.record(key, old, obj)
}

// identify gives a new object its UID. What the cluster writes about itself
// takes no creation number: a plan, which writes no revision, must number the
// pods it foresees as the master then does.
func (t *Txn) identify(key schema.Key, obj schema.Object) {
	number := t.counters.ResourceVersion
	if !schema.Kinds()[schema.Index(key.Kind)].OfItself {
		t.counters.Creations++
		number = t.counters.Creations
	}
	if obj.GetUID() == "" {
		obj.SetUID(schema.UID(key, number))
	}
}

// Delete removes the object of that key and reports whether there was one.
func (t *Txn) Delete(key schema.Key) bool {
	tab := t.table(key.Kind)
	tk := tableKey(key.Namespace, key.Name)
	old, ok := tab.objects.Get(tk)
	if !ok {
		return false
	}
	t.counters.ResourceVersion++
	t.store(tab, key, tk, old, nil)
	t.record(key, old, nil)
	return true
}

// Restore stores obj exactly as it is, resourceVersion and UID included, and
// records no change: for loading from the store.
func (t *Txn) Restore(obj schema.Object) {
	key := schema.KeyOf(obj)
	tab := t.table(key.Kind)
	tk := tableKey(key.Namespace, key.Name)
	old, _ := tab.objects.Get(tk)
	schema.SetTypeMeta(obj)
	t.store(tab, key, tk, old, obj)
}

func (t *Txn) store(tab *table, key schema.Key, tk string, old, obj schema.Object) {
	for i, ix := range indexes[schema.Index(key.Kind)] {
		var had, has []string
		if old != nil {
			had = ix.values(old)
		}
		if obj != nil {
			has = ix.values(obj)
		}
		for _, v := range had {
			if !slices.Contains(has, v) {
				tab.indexes[i].Delete(v + "\x00" + tk)
			}
		}
		for _, v := range has {
			tab.indexes[i].Set(v+"\x00"+tk, obj)
		}
	}
	had, has := sourceOf(old), sourceOf(obj)
	if had != "" && had != has {
		tab.bySource.Delete(string(had) + "\x00" + tk)
	}
	if has != "" {
		tab.bySource.Set(string(has)+"\x00"+tk, obj)
	}
	t.weigh(old, obj)
	if obj == nil {
		tab.objects.Delete(tk)
		return
	}
	tab.objects.Set(tk, obj)
}

// weigh takes away what the old object took, and adds what the new one takes.
func (t *Txn) weigh(old, obj schema.Object) {
	if !t.weighed {
		t.weighed, t.delivered = true, maps.Clone(t.delivered)
		if t.delivered == nil {
			t.delivered = map[schema.SourceName]wire.Takes{}
		}
	}
	if old != nil {
		if source := schema.BelongsTo(old); source != "" {
			t.setTakes(source, t.delivered[source].Minus(wire.TakesOf(old)))
		}
	}
	if obj != nil {
		if source := schema.BelongsTo(obj); source != "" {
			t.setTakes(source, t.delivered[source].Plus(wire.TakesOf(obj)))
		}
	}
}

func (t *Txn) setTakes(source schema.SourceName, takes wire.Takes) {
	if takes == (wire.Takes{}) {
		delete(t.delivered, source)
		return
	}
	t.delivered[source] = takes
}

// sourceOf is "" for an object that is not there or comes from no source.
func sourceOf(obj schema.Object) schema.SourceName {
	if obj == nil {
		return ""
	}
	return schema.SourceOf(obj)
}

func (t *Txn) record(key schema.Key, old, obj schema.Object) {
	t.log = append(t.log, Change{Key: key, Old: old, New: obj, RV: t.counters.ResourceVersion})
	if i, ok := t.touched[key]; ok {
		t.changes[i].New = obj
		t.changes[i].RV = t.counters.ResourceVersion
		return
	}
	t.touched[key] = len(t.changes)
	t.changes = append(t.changes, Change{Key: key, Old: old, New: obj, RV: t.counters.ResourceVersion})
}

// Revert makes the object of that key what it was when the transaction began. It is
// no change: resourceVersions that were given to it meanwhile are not given again.
func (t *Txn) Revert(key schema.Key) {
	i, ok := t.touched[key]
	if !ok {
		return
	}
	tab := t.table(key.Kind)
	ch := t.changes[i]
	t.store(tab, key, tableKey(key.Namespace, key.Name), ch.New, ch.Old)
	t.changes[i] = Change{Key: key}
	delete(t.touched, key)
	t.counters.ResourceVersion++
}

// Changes lists what the transaction did since Begin, one entry a key, in
// resourceVersion order. A key created and deleted again is left out.
func (t *Txn) Changes() []Change {
	out := slices.DeleteFunc(slices.Clone(t.changes), func(c Change) bool { return c.Old == nil && c.New == nil })
	slices.SortFunc(out, func(a, b Change) int {
		if a.RV < b.RV {
			return -1
		}
		return 1
	})
	return out
}

// TakeDirty returns every change since the last call, in order, not merged by
// key: what the settle engine looks at next.
func (t *Txn) TakeDirty() []Change {
	return t.ChangesAfter(&t.dirty)
}

// ChangesAfter returns what changed since the caller last asked, not merged by
// key; *seen is the caller's place and starts at zero.
func (t *Txn) ChangesAfter(seen *int) []Change {
	log := t.log[*seen:]
	*seen = len(t.log)
	return log
}

// Base is the snapshot the transaction began from.
func (t *Txn) Base() *Snapshot { return t.base }

// Commit freezes the transaction into the next snapshot; t must not be used
// afterwards.
func (t *Txn) Commit() *Snapshot {
	s := &Snapshot{view: t.view}
	t.view = view{}
	return s
}

var kindOfType = func() map[reflect.Type]schema.Kind {
	m := make(map[reflect.Type]schema.Kind)
	for _, k := range schema.Kinds() {
		m[reflect.TypeOf(k.New())] = k.Kind
	}
	return m
}()

func kindFor[T schema.Object]() schema.Kind { return kindOfType[reflect.TypeFor[T]()] }

// Get is the typed form of Reader.Get: Get[*corev1.Pod](r, "shop", "api-x").
func Get[T schema.Object](r Reader, namespace, name string) (T, bool) {
	obj, ok := r.Get(schema.Key{Kind: kindFor[T](), Namespace: namespace, Name: name}).(T)
	return obj, ok
}

// All is the typed form of Reader.List; namespace "" is all.
func All[T schema.Object](r Reader, namespace string) iter.Seq[T] {
	return typed[T](r.List(kindFor[T](), namespace))
}

// By is the typed form of Reader.By.
func By[T schema.Object](r Reader, ix Index, value string) iter.Seq[T] {
	return typed[T](r.By(ix, value))
}

func typed[T schema.Object](seq iter.Seq[schema.Object]) iter.Seq[T] {
	return func(yield func(T) bool) {
		for o := range seq {
			if !yield(o.(T)) {
				return
			}
		}
	}
}

// Edit returns a deep copy of obj for the caller to change and Put.
func Edit[T schema.Object](obj T) T { return obj.DeepCopyObject().(T) }

// Shallow returns a copy of obj that shares with it whatever it points to: lists and
// maps are to be replaced in it, not changed. It is for objects of which there are
// thousands at once; elsewhere Edit leaves less to think of.
func Shallow[T any](obj *T) *T {
	out := *obj
	return &out
}
