package gitsource

import (
	"container/heap"
	"fmt"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"fairlead/schema"
)

// maxHistory bounds how many commits one question may read.
const maxHistory = 1_000_000

// IsAncestor reports whether commit a can be reached from commit b; a commit is
// its own ancestor. A yes is found near b when a is recent, a no reads all of
// b's history.
func (r *Repo) IsAncestor(a, b string) (bool, error) {
	target := plumbing.NewHash(a)
	seen := map[plumbing.Hash]bool{}
	var queue byDate
	push := func(h plumbing.Hash) error {
		if seen[h] {
			return nil
		}
		seen[h] = true
		c, err := r.commit(h)
		if err != nil {
			return fmt.Errorf("read commit %s: %w", h, err)
		}
		heap.Push(&queue, c)
		return nil
	}
	if a == b {
		return true, nil
	}
	if err := push(plumbing.NewHash(b)); err != nil {
		return false, err
	}
	for len(queue) > 0 {
		c := heap.Pop(&queue).(*object.Commit)
		for _, p := range c.ParentHashes {
			if p == target {
				return true, nil
			}
			if err := push(p); err != nil {
				return false, err
			}
		}
		if len(seen) > maxHistory {
			return false, fmt.Errorf("history of %s: more than %d commits", short(b), maxHistory)
		}
	}
	return false, nil
}

// CommitsBetween lists the commits that can be reached from new and not from
// old, newest first, as `git rev-list old..new` does, and at most max of them
// (the newest). An empty old means "from the beginning".
func (r *Repo) CommitsBetween(old, new string, max int) ([]schema.Commit, error) {
	w := between{repo: r, known: map[plumbing.Hash]*reached{}}
	if err := w.reach(plumbing.NewHash(new), false); err != nil {
		return nil, err
	}
	if old != "" && old != plumbing.ZeroHash.String() {
		if err := w.reach(plumbing.NewHash(old), true); err != nil {
			return nil, err
		}
	}
	if err := w.run(); err != nil {
		return nil, err
	}
	var out []schema.Commit
	for _, c := range w.order {
		if len(out) == max {
			break
		}
		if !c.excluded {
			out = append(out, toSchema(c.commit))
		}
	}
	return out, nil
}

// between walks back from both ends by commit date, as git does: what old
// reaches is excluded, and so is everything below it.
type between struct {
	repo     *Repo
	known    map[plumbing.Hash]*reached
	queue    byDate
	wanted   int        // queued and not excluded
	order    []*reached // visited and not excluded at that time
	earliest time.Time  // of order
}

type reached struct {
	commit   *object.Commit
	excluded bool
	visited  bool
}

// reach queues a commit, or passes exclusion on to what was walked from it.
func (w *between) reach(h plumbing.Hash, excluded bool) error {
	e, ok := w.known[h]
	if !ok {
		c, err := w.repo.commit(h)
		if err != nil {
			return fmt.Errorf("read commit %s: %w", h, err)
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
	for _, p := range e.commit.ParentHashes {
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
		if w.wanted == 0 && (len(w.order) == 0 || w.queue[0].Committer.When.Before(w.earliest)) {
			return nil
		}
		if len(w.known) > maxHistory {
			return fmt.Errorf("more than %d commits", maxHistory)
		}
		e := w.known[heap.Pop(&w.queue).(*object.Commit).Hash]
		e.visited = true
		if !e.excluded {
			w.wanted--
			w.order = append(w.order, e)
			if when := e.commit.Committer.When; len(w.order) == 1 || when.Before(w.earliest) {
				w.earliest = when
			}
		}
		if err := w.parents(e); err != nil {
			return err
		}
	}
	return nil
}

// byDate is a heap of commits, the newest first, ties by name.
type byDate []*object.Commit

func (q byDate) Len() int      { return len(q) }
func (q byDate) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q byDate) Less(i, j int) bool {
	if c := q[i].Committer.When.Compare(q[j].Committer.When); c != 0 {
		return c > 0
	}
	return q[i].Hash.String() < q[j].Hash.String()
}
func (q *byDate) Push(c any) { *q = append(*q, c.(*object.Commit)) }
func (q *byDate) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}
