package load

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"fairlead/schema"
)

const (
	// DefaultCacheBytes bounds a Cache: 10,000 Deployments as people write them
	// take 60 MiB.
	DefaultCacheBytes = 64 << 20
	// fileWeight and byteWeight are what a file and each of its bytes take when
	// decoded.
	fileWeight = 512
	byteWeight = 5
)

// Cache remembers what the files of each source's last tree were decoded to. A
// file is known again by its path and blob hash, as long as the source's spec
// reads files the same way. Trees on disk, which have no hashes, and files with
// Secrets are not kept. It may be used by several Loads at once.
type Cache struct {
	bound int64

	mu    sync.Mutex
	trees map[string]*rememberedTree // by source
	size  int64
	clock int64 // counts uses
}

// NewCache makes an empty cache of so many bytes; zero is DefaultCacheBytes.
func NewCache(bytes int64) *Cache {
	return &Cache{bound: cmp.Or(bytes, DefaultCacheBytes), trees: make(map[string]*rememberedTree)}
}

// rememberedTree is what one Load left behind. It is never changed.
type rememberedTree struct {
	reading string // how its files were read
	commit  string
	files   []*rememberedFile // sorted by path; nil for one that is not kept
	objects []object          // sorted; those of the files that are kept
	size    int64
	used    int64 // guarded by the Cache
}

// rememberedFile is one file as it was decoded, objects apart.
type rememberedFile struct {
	source      *source
	diagnostics schema.Diagnostics
	nameless    *schema.Position
}

// reading is all that decoding a file depends on, besides the file.
func reading(spec schema.SourceSpec) string {
	return fmt.Sprintf("%q %q %q %q %q", spec.Path, spec.Namespace, spec.Unsupported, spec.Include, spec.Exclude)
}

// recall is the last tree of a source that was read in the same way; it is empty
// when there is none.
func (c *Cache) recall(source, reading string) *rememberedTree {
	if c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if t := c.trees[source]; t != nil && t.reading == reading {
			c.clock++
			t.used = c.clock
			return t
		}
	}
	return &rememberedTree{}
}

// keep puts a tree in the place of the source's last one, and forgets trees of
// other sources that were not used for longest.
func (c *Cache) keep(source string, t *rememberedTree) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.trees[source]; old != nil {
		c.size -= old.size
	}
	c.clock++
	t.used = c.clock
	c.trees[source] = t
	for c.size += t.size; c.size > c.bound && len(c.trees) > 1; {
		oldest := ""
		for name, other := range c.trees {
			if name != source && (oldest == "" || other.used < c.trees[oldest].used) {
				oldest = name
			}
		}
		c.size -= c.trees[oldest].size
		delete(c.trees, oldest)
	}
}

// known finds the remembered file for f; at is the place to look from and moves
// on, because both are sorted by path.
func (t *rememberedTree) known(f *schema.File, at *int) (index int, ok bool) {
	for *at < len(t.files) && (t.files[*at] == nil || t.files[*at].source.file.Path < f.Path) {
		*at++
	}
	if *at == len(t.files) {
		return 0, false
	}
	r := t.files[*at].source
	return *at, f.Hash != "" && r.file.Hash == f.Hash && r.file.Path == f.Path
}

// reuse takes over the objects of the files that are known, still sorted. They
// get this tree's commit, unless they are as they were in the one that runs.
func (l *loader) reuse(ctx context.Context, files []selected) []object {
	if len(l.last.objects) == 0 {
		return nil
	}
	place := make([]int32, len(l.last.files)) // of a remembered file, as object.file
	for i := range files {
		if f := &files[i]; f.known {
			place[f.remembered] = int32(i) + 1
		}
	}
	kept := make([]object, 0, len(l.last.objects)+fewObjects)
	for _, o := range l.last.objects {
		if at := place[o.file-1]; at > 0 {
			o.file = at
			kept = append(kept, o)
		}
	}
	if l.last.commit != l.tree.Commit.Hash && (l.last.commit != l.opts.Applied || l.last.commit == "") {
		inParallel(ctx, (len(kept)+stampsPerJob-1)/stampsPerJob, func(i int) {
			for j := i * stampsPerJob; j < min(len(kept), (i+1)*stampsPerJob); j++ {
				kept[j].Object = l.stamped(kept[j].Object)
			}
		})
	}
	return kept
}

// stampsPerJob is how many objects a worker stamps at a time.
const stampsPerJob = 256

// stamped is an object that says it comes from this tree's commit. It shares all
// but its annotations with the one it is made from: neither is ever changed.
func (l *loader) stamped(obj schema.Object) schema.Object {
	fresh := reflect.New(reflect.TypeOf(obj).Elem())
	fresh.Elem().Set(reflect.ValueOf(obj).Elem())
	out := fresh.Interface().(schema.Object)
	annotations := make(map[string]string, len(obj.GetAnnotations()))
	for k, v := range obj.GetAnnotations() {
		annotations[k] = v
	}
	out.SetAnnotations(annotations)
	origin := schema.OriginOf(obj)
	origin.Commit, origin.Author = l.tree.Commit.Hash, l.tree.Commit.Author
	schema.SetOrigin(out, origin)
	return out
}

// remember leaves this Load's files for the next. A tree that is not Git's leaves
// the last one that was.
func (l *loader) remember(files []selected, objects []object) {
	if slices.ContainsFunc(files, func(f selected) bool { return f.source.file.Hash == "" }) {
		return
	}
	t := &rememberedTree{reading: reading(l.spec), commit: l.tree.Commit.Hash, files: make([]*rememberedFile, len(files))}
	secret := make([]bool, len(files))
	for i := range objects {
		if o := &objects[i]; o.key.Kind == schema.KindSecret && o.file > 0 {
			secret[o.file-1] = true
		}
	}
	for i := range files {
		f := &files[i]
		weight := fileWeight + byteWeight*f.source.file.Size
		if f.unread || secret[i] || t.size+weight > l.opts.Cache.bound {
			continue
		}
		t.size += weight
		t.files[i] = f.rememberedFile
	}
	isKept := func(o object) bool { return o.file > 0 && t.files[o.file-1] != nil }
	t.objects = objects // which nobody changes from here on
	if slices.ContainsFunc(objects, func(o object) bool { return !isKept(o) }) {
		t.objects = nil
		for _, o := range objects {
			if isKept(o) {
				t.objects = append(t.objects, o)
			}
		}
	}
	l.opts.Cache.keep(l.opts.Source, t)
}

// fewObjects are as many as are put into a list rather than copied with it.
const fewObjects = 64

// merge joins two sorted lists; of equals, those of a come first. It may use the
// room behind a.
func merge(a, b []object) []object {
	if len(a) == 0 {
		return b
	}
	place := func(o object) int {
		n, _ := slices.BinarySearchFunc(a, o, func(x, y object) int {
			if compare(&x, &y) <= 0 {
				return -1
			}
			return 1
		})
		return n
	}
	if len(b) <= cap(a)-len(a) {
		for _, o := range b {
			a = slices.Insert(a, place(o), o)
		}
		return a
	}
	out := make([]object, 0, len(a)+len(b))
	for _, o := range b {
		n := place(o)
		out = append(append(out, a[:n]...), o)
		a = a[n:]
	}
	return append(out, a...)
}

// compare orders objects by key and, for one key, by position.
func compare(a, b *object) int {
	return cmp.Or(a.key.Compare(b.key), a.Position.Compare(b.Position))
}
