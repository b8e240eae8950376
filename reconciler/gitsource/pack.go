package gitsource

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-git/v5/plumbing"
)

const (
	nameSize = len(plumbing.Hash{})
	// indexHead is what stands before the names of a pack's index: its signature,
	// and for each first byte of a name how many names are not above it.
	indexHead = 8 + 256*4
	// namesAtOnce are read from an index in one call, where a search has got so far.
	namesAtOnce = 64
	// maxObjectsPerPack keeps places in an index within what an offset can hold.
	maxObjectsPerPack = 1 << 31
)

// indexSignature begins an index of version 2, which git writes since 2008
// (gitformat-pack(5)).
const indexSignature = "\xfftOc\x00\x00\x00\x02"

var errIndex = errors.New("not an index as git writes it since 2008; git repack -ad writes a new one")

// pack is one pack and its index, open. Both are read where they are asked for and
// never whole: the index of a pack within the bounds of a push may have a gigabyte.
type pack struct {
	name    string
	index   billy.File
	data    billy.File
	upTo    [256]uint32 // how many names have a first byte not above this
	objects int64
}

// openPack opens the pack of an index's name.
func openPack(fs billy.Filesystem, index string) (*pack, error) {
	p := &pack{name: strings.TrimSuffix(index, ".idx")}
	var err error
	if p.index, err = fs.Open("pack/" + index); err != nil {
		return nil, err
	}
	if p.data, err = fs.Open("pack/" + p.name + ".pack"); err == nil {
		err = p.readHead(fs)
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("%s: %w", index, err)
	}
	return p, nil
}

func (p *pack) close() {
	p.index.Close()
	if p.data != nil {
		p.data.Close()
	}
}

func (p *pack) readHead(fs billy.Filesystem) error {
	var head [indexHead]byte
	if _, err := p.index.ReadAt(head[:], 0); err != nil {
		return err
	}
	if !bytes.HasPrefix(head[:], []byte(indexSignature)) {
		return errIndex
	}
	for i := range p.upTo {
		p.upTo[i] = binary.BigEndian.Uint32(head[8+4*i:])
		if i > 0 && p.upTo[i] < p.upTo[i-1] {
			return errIndex
		}
	}
	p.objects = int64(p.upTo[255])
	info, err := fs.Stat("pack/" + p.name + ".idx")
	if err != nil {
		return err
	}
	// A name, a checksum and an offset for each, and two checksums at the end.
	if p.objects > maxObjectsPerPack || info.Size() < indexHead+p.objects*int64(nameSize+8)+2*int64(nameSize) {
		return errIndex
	}
	return nil
}

// find is where an object begins in the pack.
func (p *pack) find(h plumbing.Hash) (offset int64, ok bool, err error) {
	low, high := int64(0), int64(p.upTo[h[0]])
	if h[0] > 0 {
		low = int64(p.upTo[h[0]-1])
	}
	var names [namesAtOnce * nameSize]byte
	for high-low > namesAtOnce {
		middle := low + (high-low)/2
		if err := p.read(names[:nameSize], indexHead+middle*int64(nameSize)); err != nil {
			return 0, false, err
		}
		if bytes.Compare(names[:nameSize], h[:]) <= 0 {
			low = middle
		} else {
			high = middle
		}
	}
	n := int(high - low)
	if err := p.read(names[:n*nameSize], indexHead+low*int64(nameSize)); err != nil {
		return 0, false, err
	}
	name := func(i int) []byte { return names[i*nameSize : (i+1)*nameSize] }
	i := sort.Search(n, func(i int) bool { return bytes.Compare(name(i), h[:]) >= 0 })
	if i == n || !bytes.Equal(name(i), h[:]) {
		return 0, false, nil
	}
	offset, err = p.offset(low + int64(i))
	return offset, err == nil, err
}

// offset is that of the object at a place in the index: 31 bits, or a place among
// the long ones.
func (p *pack) offset(place int64) (int64, error) {
	var raw [8]byte
	offsets := indexHead + p.objects*int64(nameSize+4)
	if err := p.read(raw[:4], offsets+4*place); err != nil {
		return 0, err
	}
	short := binary.BigEndian.Uint32(raw[:4])
	if short>>31 == 0 {
		return int64(short), nil
	}
	long := int64(short &^ (1 << 31))
	if err := p.read(raw[:], offsets+4*p.objects+8*long); err != nil {
		return 0, err
	}
	at := binary.BigEndian.Uint64(raw[:])
	if at>>63 != 0 {
		return 0, errIndex
	}
	return int64(at), nil
}

func (p *pack) read(into []byte, at int64) error {
	if _, err := p.index.ReadAt(into, at); err != nil {
		return fmt.Errorf("%s.idx: %w", p.name, err)
	}
	return nil
}

// packed is the beginning of an object in a pack: what stands before its
// compressed bytes.
type packed struct {
	kind  plumbing.ObjectType
	size  int64         // of what is compressed: a whole object, or a delta
	base  int64         // of an OFSDeltaObject: where its base begins
	named plumbing.Hash // of a REFDeltaObject: its base
}

// entry reads the beginning of the object at an offset; the compressed bytes come
// next from in.
func (p *pack) entry(at int64, in *inflater) (packed, error) {
	in.from(p.data, at)
	e, err := readEntry(at, in.raw)
	if err != nil {
		return e, fmt.Errorf("%s.pack at %d: %w", p.name, at, unexpected(err))
	}
	return e, nil
}

var errEntry = errors.New("not an object that git would write")

func readEntry(at int64, in io.ByteReader) (packed, error) {
	var e packed
	b, err := in.ReadByte()
	if err != nil {
		return e, err
	}
	e.kind, e.size = plumbing.ObjectType(b>>4&7), int64(b&15)
	for shift := 4; b&0x80 != 0; shift += 7 {
		if b, err = in.ReadByte(); err != nil {
			return e, err
		}
		if shift > 53 {
			return e, errEntry
		}
		e.size |= int64(b&0x7f) << shift
	}
	switch e.kind {
	case plumbing.CommitObject, plumbing.TreeObject, plumbing.BlobObject, plumbing.TagObject:
		return e, nil
	case plumbing.OFSDeltaObject:
		e.base, err = readDistance(in)
		e.base = at - e.base
		if err == nil && e.base <= 0 {
			err = errEntry
		}
		return e, err
	case plumbing.REFDeltaObject:
		for i := range e.named {
			if e.named[i], err = in.ReadByte(); err != nil {
				return e, err
			}
		}
		return e, nil
	}
	return e, errEntry
}

// readDistance reads how far before a delta its base begins; at least one.
func readDistance(in io.ByteReader) (int64, error) {
	b, err := in.ReadByte()
	distance := int64(b & 0x7f)
	for n := 1; err == nil && b&0x80 != 0; n++ {
		if n > 8 {
			return 0, errEntry
		}
		b, err = in.ReadByte()
		distance = (distance+1)<<7 | int64(b&0x7f)
	}
	if err == nil && distance == 0 {
		err = errEntry
	}
	return distance, err
}

// maxDeltaHead is the longest beginning of a delta: two numbers.
const maxDeltaHead = 20

// deltaSizes are those that a delta's beginning tells: of its base and of what it
// makes.
func deltaSizes(head []byte) (base, target int64, err error) {
	sizes := [2]int64{}
	for i := range sizes {
		for shift := 0; ; shift += 7 {
			if len(head) == 0 || shift > 56 {
				return 0, 0, errEntry
			}
			b := head[0]
			head = head[1:]
			sizes[i] |= int64(b&0x7f) << shift
			if b&0x80 == 0 {
				break
			}
		}
	}
	return sizes[0], sizes[1], nil
}

// indexNames are the packs' indexes in a directory, sorted.
func indexNames(fs billy.Filesystem) ([]string, error) {
	files, err := fs.ReadDir("pack")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range files {
		if strings.HasPrefix(f.Name(), "pack-") && strings.HasSuffix(f.Name(), ".idx") {
			out = append(out, f.Name())
		}
	}
	slices.Sort(out)
	return out, nil
}
