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
	trees map[schema.SourceName]*rememberedTree // by source
	size  int64
	clock int64 // counts uses
}

// NewCache makes an empty cache of so many bytes; zero is DefaultCacheBytes.
func NewCache(bytes int64) *Cache {
	return &Cache{bound: cmp.Or(bytes, DefaultCacheBytes), trees: make(map[schema.SourceName]*rememberedTree)}
}

// rememberedTree is what one Load left behind. It is never changed.
type rememberedTree struct {
	reading reading // how its files were read
	commit  schema.Commit
	listing []schema.File // the tree's own
	// files stand beside the listing: unwanted for what is no manifest, unkept for
	// one that has to be decoded again, nil for one of which not even that is known.
	files   fileParts
	telling []*rememberedFile     // of files, those with diagnostics
	objects []*schema.Desired     // sorted; those of the files that are kept
	units   map[string]*builtUnit // by directory, those that are known again
	judged  judgement
	kept    amount
	used    int64 // guarded by the Cache
}

// weight is what the tree takes.
func (t *rememberedTree) weight() int64 {
	sum := t.kept.weight()
	for _, u := range t.units {
		sum += u.weight
	}
	return sum
}

// rememberedFile is one file as it was decoded, objects apart.
type rememberedFile struct {
	source      *source
	diagnostics schema.Diagnostics
	nameless    *schema.Diagnostic
	makes       []leftOut
	passedOver  bool               // it holds a document that is no manifest
	ignored     schema.Diagnostics // see decoded
	hides       bool               // see decoded
	facts       []*facts           // of its objects
	size        int64              // see sizeOf
	stored      stored             // of its objects
	again       bool               // the last Load decoded it too, and did not keep it
	unread      bool               // it could not be read or cut
	secret      bool               // it holds one
}

// fileParts is a list of files in parts, each but the last of filesPerPart. Trees
// share the parts in which nothing changed: fresh memory costs more than what is
// written there. Behind a file that came or went there are none to share.
type fileParts [][]*rememberedFile

const filesPerPart = 256

func (p fileParts) at(i int) *rememberedFile { return p[i/filesPerPart][i%filesPerPart] }

func (p fileParts) set(i int, r *rememberedFile) { p[i/filesPerPart][i%filesPerPart] = r }

// What stands in place of a rememberedFile; see rememberedTree.
var unwanted, unkept = new(rememberedFile), new(rememberedFile)

func (r *rememberedFile) isKept() bool { return r != nil && r != unwanted && r != unkept }

// reading is all that decoding and judging a tree depends on, besides its files: the spec,
// and which files are no plain manifests.
type reading struct{ spec, claimed string }

func (l *loader) readingOf() reading {
	s := &l.spec
	return reading{
		spec:    fmt.Sprintf("%q %q %q %q %q %t %q", s.Path, s.Namespace, s.Unsupported, s.Include, s.Exclude, s.CreateNamespaces, s.MissingReferences),
		claimed: l.digest(),
	}
}

// isEvaluated reports whether objects of the tree come out of a child: which of them are
// as they were the Cache does not know.
func (l *loader) isEvaluated(m *manifests) bool { return len(m.cues)+len(l.survey.Units) > 0 }

// recall is the last tree of a source that was read in the same way; it is empty
// when there is none. Of one whose kustomizations used other files it has what they
// built.
func (c *Cache) recall(source schema.SourceName, how reading) *rememberedTree {
	if c == nil {
		return &rememberedTree{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.trees[source]
	switch {
	case t == nil || t.reading.spec != how.spec:
		return &rememberedTree{}
	case t.reading != how:
		return &rememberedTree{commit: t.commit, units: t.units}
	}
	c.clock++
	t.used = c.clock
	return t
}

// keep puts a tree in the place of the source's last one, and forgets trees of
// other sources that were not used for longest.
func (c *Cache) keep(source schema.SourceName, t *rememberedTree) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.trees[source]; old != nil {
		c.size -= old.weight()
	}
	c.clock++
	t.used = c.clock
	c.trees[source] = t
	for c.size += t.weight(); c.size > c.bound && len(c.trees) > 1; {
		var oldest schema.SourceName
		for name, other := range c.trees {
			if name != source && (oldest == "" || other.used < c.trees[oldest].used) {
				oldest = name
			}
		}
		c.size -= c.trees[oldest].weight()
		delete(c.trees, oldest)
	}
}

// listing walks the last tree's files beside this one's, both sorted by path.
type listing struct {
	tree *rememberedTree
	at   int
	*manifests
}

// same is the last tree's part with exactly these files, nil if there is none or one
// of them has to be read.
func (w *listing) same(files []schema.File) []*rememberedFile {
	end := w.at + len(files)
	if w.at%filesPerPart != 0 || end > len(w.tree.listing) || !slices.Equal(w.tree.listing[w.at:end], files) {
		return nil
	}
	part := w.tree.files[w.at/filesPerPart]
	if len(part) != len(files) || slices.Contains(part, nil) || slices.Contains(part, unkept) {
		return nil
	}
	w.at = end
	return part
}

// find is what is remembered of a file with this path and hash, nil for nothing.
func (w *listing) find(f *schema.File) *rememberedFile {
	for ; w.at < len(w.tree.listing); w.pass() {
		have, known := &w.tree.listing[w.at], w.tree.files.at(w.at)
		switch {
		case have.Blob == f.Blob && have.Path == f.Path: // the usual one costs no look at the blob
			w.at++
			return known
		case have.Path > f.Path:
			return nil
		case have.Path == f.Path && have.Hash == f.Hash && f.Hash != "":
			if known.isKept() {
				known.source.reopen(f.Blob)
			}
			w.at++
			return known
		}
	}
	return nil
}

// pass goes by a file that is not in this tree as it was in the last.
func (w *listing) pass() {
	switch r := w.tree.files.at(w.at); r {
	case nil, unkept:
		w.lost = true
	case unwanted:
	default:
		w.gone = append(w.gone, r)
		w.all.takeFile(r)
	}
	w.at++
}

// end goes by whatever is left.
func (w *listing) end() {
	for w.at < len(w.tree.listing) {
		w.pass()
	}
}

// tellingWithout are the files that have something to tell and did not go.
func (t *rememberedTree) tellingWithout(gone []*rememberedFile) []*rememberedFile {
	if len(t.telling) == 0 || len(gone) == 0 {
		return t.telling
	}
	went := make(map[*rememberedFile]bool, len(gone))
	for _, r := range gone {
		went[r] = true
	}
	return slices.DeleteFunc(slices.Clone(t.telling), func(r *rememberedFile) bool { return went[r] })
}

// places are where the objects of these files stand among the tree's, sorted.
func (t *rememberedTree) places(files []*rememberedFile) []int {
	var out []int
	for _, r := range files {
		out = placesOf(t.objects, r.facts, out)
	}
	slices.Sort(out)
	return out
}

// placesOf adds where the objects that these facts are of stand to places.
func placesOf(objects []*schema.Desired, all []*facts, places []int) []int {
	for _, f := range all {
		i, _ := slices.BinarySearchFunc(objects, f.key, byKey)
		for objectOf(objects[i]).facts != f {
			i++
		}
		places = append(places, i)
	}
	return places
}

// reuse takes over the last tree's objects, those of files that went among them.
// They get this tree's commit, unless they are as they were in the one that runs.
func (l *loader) reuse(ctx context.Context) []*schema.Desired {
	if l.staysStamped() {
		return l.last.objects
	}
	all := slices.Clone(l.last.objects)
	inParallel(ctx, (len(all)+stampsPerJob-1)/stampsPerJob, func(i int) {
		l.stamp(all[i*stampsPerJob : min(len(all), (i+1)*stampsPerJob)])
	})
	return all
}

// staysStamped reports whether what the last tree's objects say of their commit stays
// true of those that did not change.
func (l *loader) staysStamped() bool {
	return l.last.commit == l.tree.Commit.Hash || l.last.commit == l.opts.Applied && l.last.commit != ""
}

// stamp puts copies that come from this tree's commit in the place of objects.
func (l *loader) stamp(all []*schema.Desired) {
	for i, d := range all {
		fresh := *d
		fresh.Object = l.stamped(fresh.Object)
		all[i] = &fresh
	}
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

// remember leaves this Load's files for the next, at the cost of what changed as
// long as all of it may be kept. A tree that is not Git's leaves the last one that
// was.
func (l *loader) remember(m *manifests, objects []*schema.Desired, sound bool) {
	isOnDisk := func(f schema.File) bool { return f.Hash == "" }
	if slices.ContainsFunc(l.tree.Files, isOnDisk) || l.survey.Reads(isOnDisk) {
		return
	}
	t := &rememberedTree{
		reading: l.how, commit: l.tree.Commit.Hash, listing: l.tree.Files, files: m.files, kept: m.all, telling: slices.Clone(m.telling),
		judged: judgement{sound: sound && !l.isEvaluated(m), namespaces: slices.Clone(l.opts.KnownNamespaces), nodePorts: l.opts.NodePorts, services: l.opts.ServiceRange, rights: rightsOf(l.opts), outside: l.outside},
	}
	var dropped []*facts
	silent := make(map[*rememberedFile]bool)
	drop := func(i int) {
		r := t.files.at(i)
		t.kept.takeFile(r)
		dropped = append(dropped, r.facts...)
		silent[r] = true
		t.files.set(i, unkept)
	}
	for i := range m.cues {
		t.kept.take(sizeOf(&m.cues[i]))
	}
	for _, i := range m.fresh {
		switch r := t.files.at(i); {
		case r.unread:
			t.kept.takeFile(r)
			t.files.set(i, nil)
		case r.secret:
			drop(i)
		case len(r.diagnostics) > 0 || r.nameless != nil || r.passedOver || len(r.ignored) > 0:
			t.telling = append(t.telling, r)
		}
	}
	if bound := l.opts.Cache.bound; t.kept.weight() > bound {
		t.kept = amount{}
		for p, part := range t.files {
			t.files[p] = slices.Clone(part) // other trees may have it too
			for i, r := range part {
				if !r.isKept() {
					continue
				}
				if t.kept.addFile(r); t.kept.weight() > bound {
					drop(p*filesPerPart + i)
				}
			}
		}
	}
	t.telling = slices.DeleteFunc(t.telling, func(r *rememberedFile) bool { return silent[r] })
	places := placesOf(objects, dropped, nil)
	if l.isEvaluated(m) {
		for i, d := range objects {
			if objectOf(d).file == nil {
				places = append(places, i)
			}
		}
	}
	slices.Sort(places)
	t.objects = edited(objects, places, nil)
	t.units = l.unitsToKeep(l.opts.Cache.bound - t.kept.weight())
	l.opts.Cache.keep(l.opts.Source, t)
}

// edited is a sorted list without the objects at some places and with others;
// what it gets it leaves as it is. Of equals, those of all come first.
func edited(all []*schema.Desired, without []int, with []*schema.Desired) []*schema.Desired {
	if len(all) == 0 {
		return with
	}
	if len(without)+len(with) == 0 {
		return all
	}
	out := make([]*schema.Desired, 0, len(all)-len(without)+len(with))
	from := 0
	upTo := func(i int) {
		out = append(out, all[from:i]...)
		from = i
	}
	for _, d := range with {
		place, _ := slices.BinarySearchFunc(all, d, func(x, o *schema.Desired) int {
			if compare(x, o) <= 0 {
				return -1
			}
			return 1
		})
		for ; len(without) > 0 && without[0] < place; without = without[1:] {
			upTo(without[0])
			from++
		}
		upTo(place)
		out = append(out, d)
	}
	for _, i := range without {
		upTo(i)
		from++
	}
	upTo(len(all))
	return out
}
