package gitsource

import (
	"bytes"
	"cmp"
	"container/heap"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"

	"fairlead/schema"
)

const (
	// maxHistory bounds how many commits one question may read.
	maxHistory = 1_000_000
	// maxLinks bounds how many parents they may name together.
	maxLinks = 4 * maxHistory
)

// ancestor is what is kept of a commit on the way: there may be many.
type ancestor struct {
	hash    plumbing.Hash
	parents []plumbing.Hash
	when    int64 // committed, in seconds since 1970
}

// past reads ancestors for one question.
type past struct {
	repo  *Repo
	read  int
	links int
}

func (p *past) commit(h plumbing.Hash) (*ancestor, error) {
	c, err := p.repo.commit(h)
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", h, err)
	}
	p.read++
	p.links += len(c.parents)
	if p.read > maxHistory || p.links > maxLinks {
		return nil, fmt.Errorf("more than %d commits, or %d parents of them", maxHistory, maxLinks)
	}
	return &ancestor{hash: h, parents: c.parents, when: when(c.committer)}, nil
}

// IsAncestor reports whether commit a can be reached from commit b; a commit is
// its own ancestor. A yes is found near b when a is recent, a no reads all of
// b's history.
func (r *Repo) IsAncestor(a, b schema.Commit) (bool, error) {
	target := plumbing.NewHash(string(a))
	seen := map[plumbing.Hash]bool{}
	behind := past{repo: r}
	var queue byDate
	push := func(h plumbing.Hash) error {
		if seen[h] {
			return nil
		}
		seen[h] = true
		c, err := behind.commit(h)
		if err == nil {
			heap.Push(&queue, c)
		}
		return err
	}
	if a == b {
		return true, nil
	}
	if err := push(plumbing.NewHash(string(b))); err != nil {
		return false, err
	}
	for len(queue) > 0 {
		for _, p := range heap.Pop(&queue).(*ancestor).parents {
			if p == target {
				return true, nil
			}
			if err := push(p); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// CommitsBetween lists the commits that can be reached from new and not from
// old, newest first, as `git rev-list old..new` does, and at most max of them
// (the newest). An empty old means "from the beginning".
func (r *Repo) CommitsBetween(old, new schema.Commit, max int) ([]schema.CommitObject, error) {
	w := between{past: past{repo: r}, known: map[plumbing.Hash]*reached{}}
	if err := w.reach(plumbing.NewHash(string(new)), false); err != nil {
		return nil, err
	}
	if old != "" && old != schema.Commit(plumbing.ZeroHash.String()) {
		if err := w.reach(plumbing.NewHash(string(old)), true); err != nil {
			return nil, err
		}
	}
	if err := w.run(); err != nil {
		return nil, err
	}
	var out []schema.CommitObject
	for _, e := range w.order {
		if len(out) == max {
			break
		}
		if e.excluded {
			continue
		}
		c, err := r.Commit(schema.Commit(e.commit.hash.String()))
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// between walks back from both ends by commit date, as git does: what old
// reaches is excluded, and so is everything below it.
type between struct {
	past     past
	known    map[plumbing.Hash]*reached
	queue    byDate
	wanted   int        // queued and not excluded
	order    []*reached // visited and not excluded at that time
	earliest int64      // of order
}

type reached struct {
	commit   *ancestor
	excluded bool
	visited  bool
}

// reach queues a commit, or passes exclusion on to what was walked from it.
func (w *between) reach(h plumbing.Hash, excluded bool) error {
	e, ok := w.known[h]
	if !ok {
		c, err := w.past.commit(h)
		if err != nil {
			return err
		}
		w.known[h] = &reached{commit: c, excluded: excluded}
		heap.Push(&w.queue, c)
		if !excluded {
			w.wanted++
		}
		return nil
	}
	if !excluded || e.excluded {
		return nil
	}
	e.excluded = true
	if !e.visited {
		w.wanted--
		return nil
	}
	return w.parents(e)
}

func (w *between) parents(e *reached) error {
	for _, p := range e.commit.parents {
		if err := w.reach(p, e.excluded); err != nil {
			return err
		}
	}
	return nil
}

func (w *between) run() error {
	for len(w.queue) > 0 {
		// Nothing wanted is left, and nothing excluded is recent enough to
		// reach what was taken, unless a clock was wrong twice in a row.
		if w.wanted == 0 && (len(w.order) == 0 || w.queue[0].when < w.earliest) {
			return nil
		}
		e := w.known[heap.Pop(&w.queue).(*ancestor).hash]
		e.visited = true
		if !e.excluded {
			w.wanted--
			w.order = append(w.order, e)
			if len(w.order) == 1 || e.commit.when < w.earliest {
				w.earliest = e.commit.when
			}
		}
		if err := w.parents(e); err != nil {
			return err
		}
	}
	return nil
}

// byDate is a heap of commits, the newest first, ties by name.
type byDate []*ancestor

func (q byDate) Len() int      { return len(q) }
func (q byDate) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q byDate) Less(i, j int) bool {
	if c := cmp.Compare(q[i].when, q[j].when); c != 0 {
		return c > 0
	}
	return bytes.Compare(q[i].hash[:], q[j].hash[:]) < 0
}
func (q *byDate) Push(c any) { *q = append(*q, c.(*ancestor)) }
func (q *byDate) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}
