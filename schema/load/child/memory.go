package child

import (
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"sync"
)

// memory keeps what directories evaluate to, under the hash of all that the
// result depends on.
type memory struct {
	bound int64 // bytes; negative keeps nothing

	mu      sync.Mutex
	entries map[string][]*entry // by directory
	count   int
	size    int64
	clock   int64 // counts uses
}

type entry struct {
	response Response
	size     int64
	used     int64
}

// maxEntries bounds the search for the one to forget.
const maxEntries = 4096

// entryOverhead is what an entry without objects takes.
const entryOverhead = 512

// recall finds the result of a directory whose inputs are as they were.
func (m *memory) recall(dir string, in *Input) (Response, bool) {
	m.mu.Lock()
	candidates := slices.Clone(m.entries[dir])
	m.mu.Unlock()
	for _, e := range candidates {
		if e.response.Inputs == in.sum(e.response) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.clock++
			e.used = m.clock
			return e.response, true
		}
	}
	return Response{}, false
}

// keep notes in a result without Secrets what it depends on, remembers it and forgets what
// was not used for longest.
func (m *memory) keep(r *Response, in *Input) {
	if r.Private {
		return
	}
	r.Inputs = in.sum(*r)
	e := &entry{response: *r, size: entryOverhead}
	for _, o := range r.Objects {
		e.size += int64(len(o))
	}
	for _, d := range r.Diagnostics {
		e.size += int64(len(d.Message) + len(d.Hint) + len(d.Path))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	same := func(o *entry) bool { return o.response.Inputs == r.Inputs }
	if e.size > m.bound || slices.ContainsFunc(m.entries[r.Directory], same) {
		return
	}
	if m.entries == nil {
		m.entries = make(map[string][]*entry)
	}
	m.clock++
	e.used = m.clock
	m.entries[r.Directory] = append(m.entries[r.Directory], e)
	m.count++
	m.size += e.size
	for m.size > m.bound || m.count > maxEntries {
		m.forgetOldest()
	}
}

func (m *memory) forgetOldest() {
	var oldest *entry
	for _, entries := range m.entries {
		for _, e := range entries {
			if oldest == nil || e.used < oldest.used {
				oldest = e
			}
		}
	}
	dir := oldest.response.Directory
	m.entries[dir] = slices.DeleteFunc(m.entries[dir], func(e *entry) bool { return e == oldest })
	if len(m.entries[dir]) == 0 {
		delete(m.entries, dir)
	}
	m.count--
	m.size -= oldest.size
}

// sum hashes all that a result depends on: the files that its directory needs; where that
// is not known beforehand, those of the directories it used and those that all depend on,
// or the whole input.
func (in *Input) sum(r Response) [sha256.Size]byte {
	h := sha256.New()
	if n, ok := in.needs[r.Directory]; ok {
		for _, i := range n.files {
			in.hashInto(h, i)
		}
	} else if r.Whole {
		for i := range in.files {
			in.hashInto(h, i)
		}
	} else {
		for _, dir := range r.Used {
			for _, i := range in.below[dir] {
				in.hashInto(h, i)
			}
		}
		for _, i := range in.common {
			in.hashInto(h, i)
		}
	}
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return sum
}

func (in *Input) hashInto(w io.Writer, i int) {
	fmt.Fprintf(w, "%q %s\n", in.files[i].Path, in.hash(i))
}
