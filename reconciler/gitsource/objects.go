package gitsource

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

const (
	// maxBaseSize bounds what an object may be made from: a pack of a few
	// kilobytes can name a base of a gigabyte.
	maxBaseSize = 2 * maxTreeSize
	// maxDeltaDepth is the longest chain of deltas that git makes.
	maxDeltaDepth = 4095
	// maxDeltaBytes bounds all that is made on the way to one object: about a
	// second's work.
	maxDeltaBytes = 512 << 20
	// heavy is a chain that is read while no other such one is, so that a few
	// readers together stay within the memory of one.
	heavy = 4 << 20
	// baseCache is the weight of each generation of bases kept near, keptBase of
	// the largest one.
	baseCache = 8 << 20
	keptBase  = 1 << 20
	// maxOpenPacks are read at most. Git packs them together at fifty.
	maxOpenPacks = 1_000
)

// objects reads one of git's objects directories: loose objects and packs with
// deltas. It is go-git's store in less: that one holds every index in memory, once
// for each reader, follows a delta to a base of any size, and opens a pack again
// by a path that may be gone. What is read here is held to the name it was asked
// for by.
//
// It may be used by many goroutines while git adds to the directory, and packs
// what is in it.
type objects struct {
	fs      billy.Filesystem // the directory
	changes bool             // whether git may add packs while it is open
	bases   *generations[baseKey, base]
	large   sync.Mutex // one heavy chain at a time

	// mu is held for reading as long as an open pack is used.
	mu     sync.RWMutex
	looks  int // how often the directory was looked at
	looked int // the look that packs is of; 0 while none is open
	packs  []*pack
	bad    error // why a pack that is there is not among them
}

// baseKey names an object by its place.
type baseKey struct {
	pack *pack
	at   int64
}

// base is what a delta was applied to.
type base struct {
	kind plumbing.ObjectType
	data []byte
}

func newObjects(at billy.Filesystem, changes bool) *objects {
	return &objects{fs: at, changes: changes, bases: newGenerations[baseKey, base](baseCache)}
}

// errTooLarge is an object that has more bytes than are read.
type errTooLarge struct{ size, limit int64 }

func (e errTooLarge) Error() string {
	return fmt.Sprintf("%d bytes, at most %d are read", e.size, e.limit)
}

// read is an object's content; of another type it is not found. Nobody changes it.
func (o *objects) read(t plumbing.ObjectType, h plumbing.Hash, limit int64) ([]byte, error) {
	var out base
	err := o.find(h,
		func(p *pack, at int64) (err error) { out, err = o.packed(p, at, limit); return err },
		func(f billy.File) (err error) { out, err = loose(f, limit); return err })
	switch {
	case err != nil:
		return nil, err
	case out.kind != t:
		return nil, ErrNotFound
	}
	if is := nameOf(out); is != h {
		return nil, fmt.Errorf("object %s is damaged: what is stored for it is %s", h, is)
	}
	return out.data, nil
}

// nameOf is the name that git gives to an object.
func nameOf(b base) plumbing.Hash {
	h := sha1.New()
	fmt.Fprintf(h, "%s %d\x00", b.kind, len(b.data))
	h.Write(b.data)
	return plumbing.Hash(h.Sum(nil))
}

// size is an object's size without its content.
func (o *objects) size(h plumbing.Hash) (size int64, err error) {
	err = o.find(h,
		func(p *pack, at int64) (err error) { size, err = packedSize(p, at); return err },
		func(f billy.File) (err error) { size, err = looseSize(f); return err })
	return size, err
}

// find gives an object to the one of its readers that it is stored for. Where one
// fails others may have it whole: git packs what was loose, and packs together
// what was packed, while we look.
func (o *objects) find(h plumbing.Hash, inPack func(*pack, int64) error, alone func(billy.File) error) error {
	looked, err := o.look(h, inPack, alone)
	if err == nil || looked > 0 && !o.changes {
		return err
	}
	if err := o.refresh(looked); err != nil {
		return err
	}
	_, err = o.look(h, inPack, alone)
	return err
}

func (o *objects) look(h plumbing.Hash, inPack func(*pack, int64) error, alone func(billy.File) error) (looked int, err error) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	failed := o.bad
	for _, p := range o.packs {
		at, ok, err := p.find(h)
		if ok {
			err = inPack(p, at)
		}
		if ok && err == nil {
			return o.looked, nil
		}
		if failed == nil {
			failed = err
		}
	}
	name := h.String()
	f, err := o.fs.Open(name[:2] + "/" + name[2:])
	if err == nil {
		defer f.Close()
		return o.looked, alone(f)
	}
	if failed != nil || !errors.Is(err, fs.ErrNotExist) {
		return o.looked, errors.Join(failed, notMissing(err))
	}
	return o.looked, ErrNotFound
}

func notMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// refresh opens the packs that came and closes those that went, unless someone has
// since looked.
func (o *objects) refresh(looked int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.looked != looked && o.looked > 0 {
		return nil
	}
	names, err := indexNames(o.fs)
	if notMissing(err) != nil {
		return err
	}
	if len(names) > maxOpenPacks {
		return fmt.Errorf("%d packs, at most %d are read; git gc packs them together", len(names), maxOpenPacks)
	}
	o.looks++
	o.looked, o.bad = o.looks, nil
	var packs []*pack
	for _, p := range o.packs {
		if slices.Contains(names, p.name+".idx") {
			packs = append(packs, p)
		} else {
			p.close()
		}
	}
	for _, name := range names {
		if slices.ContainsFunc(packs, func(p *pack) bool { return p.name+".idx" == name }) {
			continue
		}
		p, err := openPack(o.fs, name)
		if err == nil {
			packs = append(packs, p)
		} else if o.bad == nil {
			o.bad = notMissing(err) // one of the two files may have gone already
		}
	}
	o.packs = packs
	return nil
}

// close gives back the open packs; they are opened again when they are needed.
func (o *objects) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.packs {
		p.close()
	}
	o.packs, o.looked, o.bad = nil, 0, nil
}

// link is one object of a chain of deltas.
type link struct {
	pack *pack
	at   int64
	size int64 // of what it makes
}

// packed is the object at a place in a pack, made from its deltas.
func (o *objects) packed(p *pack, at, limit int64) (base, error) {
	in := inflaters.Get().(*inflater)
	defer inflaters.Put(in)
	chain, from, err := o.chain(p, at, limit, in)
	if err != nil {
		return from, err
	}
	if slices.ContainsFunc(chain, func(l link) bool { return l.size > heavy }) {
		o.large.Lock()
		defer o.large.Unlock()
	}
	for i := len(chain) - 1; i >= 0; i-- {
		l := chain[i]
		if from.data == nil {
			from, err = l.pack.plain(l.at, in)
		} else {
			from.data, err = l.pack.applied(l.at, from.data, in)
		}
		if err != nil {
			return from, err
		}
		if i > 0 && len(from.data) <= keptBase {
			o.bases.put(baseKey{l.pack, l.at}, from, len(from.data))
		}
	}
	return from, nil
}

// chain is what must be read for an object, down to the one that is whole or kept
// near, and what is kept near. Nothing is made yet, and nothing will be that is
// beyond the bounds.
func (o *objects) chain(p *pack, at, limit int64, in *inflater) (chain []link, from base, err error) {
	var made int64
	for {
		if len(chain) > 0 {
			if kept, ok := o.bases.get(baseKey{p, at}); ok {
				return chain, kept, nil
			}
			limit = maxBaseSize
		}
		e, size, err := p.sizeAt(at, in)
		if err != nil {
			return nil, from, err
		}
		if made += size + e.size; size > limit || e.size > max(limit, maxBaseSize) {
			return nil, from, errTooLarge{max(size, e.size), limit}
		}
		if len(chain) == maxDeltaDepth || made > maxDeltaBytes {
			return nil, from, fmt.Errorf("%s.pack at %d: made from more than %d others or %d bytes", p.name, at, maxDeltaDepth, maxDeltaBytes)
		}
		chain = append(chain, link{p, at, size})
		switch e.kind {
		case plumbing.OFSDeltaObject:
			at = e.base
		case plumbing.REFDeltaObject:
			if p, at, err = o.place(p, e.named); err != nil {
				return nil, from, err
			}
			if p == nil {
				from, err = o.looseBase(e.named)
				return chain, from, err
			}
		default:
			return chain, from, nil
		}
	}
}

// place is where the base of a delta in a pack is: there, or in another; nil if it
// is in none.
func (o *objects) place(first *pack, h plumbing.Hash) (*pack, int64, error) {
	for _, p := range slices.Concat([]*pack{first}, o.packs) {
		if at, ok, err := p.find(h); ok || err != nil {
			return p, at, err
		}
	}
	return nil, 0, nil
}

func (o *objects) looseBase(h plumbing.Hash) (base, error) {
	name := h.String()
	f, err := o.fs.Open(name[:2] + "/" + name[2:])
	if err != nil {
		return base{}, fmt.Errorf("the base of a delta: %w", err)
	}
	defer f.Close()
	return loose(f, maxBaseSize)
}

// plain is the object at an offset that is no delta.
func (p *pack) plain(at int64, in *inflater) (base, error) {
	e, err := p.entry(at, in)
	if err != nil {
		return base{}, err
	}
	data, err := in.whole(e.size)
	if err != nil {
		return base{}, fmt.Errorf("%s.pack at %d: %w", p.name, at, err)
	}
	return base{e.kind, data}, nil
}

// applied is what the delta at an offset makes of its base.
func (p *pack) applied(at int64, from []byte, in *inflater) ([]byte, error) {
	delta, err := p.plain(at, in)
	if err != nil {
		return nil, err
	}
	out, err := packfile.PatchDelta(from, delta.data)
	if err != nil {
		return nil, fmt.Errorf("%s.pack at %d: %w", p.name, at, err)
	}
	if out == nil {
		out = []byte{}
	}
	return out, nil
}

// sizeAt is the beginning of the object at an offset, and the size of what it
// makes.
func (p *pack) sizeAt(at int64, in *inflater) (packed, int64, error) {
	e, err := p.entry(at, in)
	if err != nil || e.kind != plumbing.OFSDeltaObject && e.kind != plumbing.REFDeltaObject {
		return e, e.size, err
	}
	var target int64
	head, err := in.head(maxDeltaHead)
	if err == nil {
		_, target, err = deltaSizes(head)
	}
	if err != nil {
		return e, 0, fmt.Errorf("%s.pack at %d: %w", p.name, at, err)
	}
	return e, target, nil
}

func packedSize(p *pack, at int64) (int64, error) {
	in := inflaters.Get().(*inflater)
	defer inflaters.Put(in)
	_, size, err := p.sizeAt(at, in)
	return size, err
}

// maxLooseHead is the longest beginning of a loose object: its type, its size, NUL.
const maxLooseHead = 32

var looseTypes = map[string]plumbing.ObjectType{
	"commit": plumbing.CommitObject, "tree": plumbing.TreeObject, "blob": plumbing.BlobObject, "tag": plumbing.TagObject,
}

// looseHead is a loose object's type, its size, and the beginning of its content.
func looseHead(f billy.File, in *inflater) (kind plumbing.ObjectType, size int64, first []byte, err error) {
	in.from(f, 0)
	head, err := in.head(maxLooseHead)
	if err != nil {
		return 0, 0, nil, fmt.Errorf("loose object: %w", err)
	}
	words, first, ok := bytes.Cut(head, []byte{0})
	name, number, spaced := strings.Cut(string(words), " ")
	size, err = strconv.ParseInt(number, 10, 64)
	kind, known := looseTypes[name]
	if !ok || !spaced || !known || err != nil || size < int64(len(first)) {
		return 0, 0, nil, errors.New("loose object: no type and size at its beginning")
	}
	return kind, size, first, nil
}

func looseSize(f billy.File) (int64, error) {
	in := inflaters.Get().(*inflater)
	defer inflaters.Put(in)
	_, size, _, err := looseHead(f, in)
	return size, err
}

func loose(f billy.File, limit int64) (base, error) {
	in := inflaters.Get().(*inflater)
	defer inflaters.Put(in)
	kind, size, first, err := looseHead(f, in)
	if err != nil {
		return base{}, err
	}
	if size > limit {
		return base{}, errTooLarge{size, limit}
	}
	rest, err := in.rest(size - int64(len(first)))
	if err != nil {
		return base{}, fmt.Errorf("loose object: %w", err)
	}
	return base{kind, slices.Concat(first, rest)}, nil
}
