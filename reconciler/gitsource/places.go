package gitsource

import (
	"cmp"
	"slices"
	"time"

	"fairlead/schema"
)

// place is what a git that is to work asks for.
type place struct {
	source  schema.SourceName
	pusher  string // "" for none
	fetches bool   // from a remote, which may be slow
	local   bool   // from a path
	tidies  bool   // nobody waits for it: it comes after all others, and ends none
	body    *slowBody
	began   time.Time // when it was granted
	granted chan struct{}
}

// size is how many places it takes.
func (w *place) size() int {
	if w.local {
		return localPlaces
	}
	return 1
}

// taken is what those inside take of the places.
type taken struct {
	all     int
	fetches int
	of      map[schema.SourceName]int
	by      map[string]int // by pusher
}

func takenBy(inside []*place) taken {
	t := taken{of: map[schema.SourceName]int{}, by: map[string]int{}}
	for _, w := range inside {
		t.add(w)
	}
	return t
}

func (t *taken) add(w *place) {
	t.all += w.size()
	t.of[w.source] += w.size()
	if w.fetches {
		t.fetches += w.size()
	}
	if w.pusher != "" {
		t.by[w.pusher]++
	}
}

// hindrance is what keeps one that waits from its place.
type hindrance int

const (
	nothing hindrance = iota
	itself            // its source or its pusher has as much as it may
	fetches           // the places of fetches are taken
	others            // all places are taken
)

func (t *taken) hinders(w *place) hindrance {
	switch {
	case w.pusher != "" && t.by[w.pusher] >= maxPusherPrograms:
		return itself
	case t.of[w.source] > 0 && (t.of[w.source]+w.size() > maxSourcePrograms || t.all+w.size()+sparePrograms > maxPrograms):
		return itself
	case t.all+w.size() > maxPrograms:
		return others
	case w.fetches && t.fetches+w.size() > maxPrograms-doorPrograms:
		return fetches
	}
	return nothing
}

// admitted are those of the waiting who may enter beside those inside, in their order, but
// for tidying up, which comes last. Whoever is first and waits only for others to leave has
// what it needs kept free: nobody who came later takes a place before it, however many
// places it needs, and nobody else of its source enters before it.
func admitted(inside, waiting []*place) (in []*place) {
	t, waits := takenBy(inside), map[schema.SourceName]bool{}
	for _, w := range inOrder(waiting) {
		if waits[w.source] {
			continue
		}
		hinders := t.hinders(w)
		switch hinders {
		case nothing:
			in = append(in, w)
			t.add(w)
		case fetches:
			t.fetches += w.size()
		case others:
			t.all += w.size()
		}
		waits[w.source] = hinders == fetches || hinders == others
	}
	return in
}

func inOrder(waiting []*place) []*place {
	out := slices.Clone(waiting)
	slices.SortStableFunc(out, func(a, b *place) int {
		switch {
		case a.tidies == b.tidies:
			return 0
		case b.tidies:
			return -1
		}
		return 1
	})
	return out
}

// turnedOut is whom of those inside one that waits may end for its place, nil for nobody:
// one that comes too slowly, without whom it would enter, at the latest when those have
// left who were ended before. Of several it is the slowest.
func turnedOut(w *place, inside, waiting []*place, now time.Time) *place {
	if w.tidies {
		return nil
	}
	pace := map[*place]float64{}
	var stay, slow []*place
	for _, p := range inside {
		if p.body.isEnded() {
			continue // it is leaving
		}
		stay = append(stay, p)
		if pace[p] = p.body.pace(now.Sub(p.began)); pace[p] < slowPace {
			slow = append(slow, p)
		}
	}
	enters := func(gone []*place) bool {
		rest := slices.DeleteFunc(slices.Clone(stay), func(p *place) bool { return slices.Contains(gone, p) })
		return slices.Contains(admitted(rest, waiting), w)
	}
	if enters(nil) || !enters(slow) {
		return nil
	}
	slices.SortStableFunc(slow, func(a, b *place) int { return cmp.Compare(pace[b], pace[a]) })
	for i := 0; i < len(slow); { // the fastest first: whoever is not in the way stays
		if without := slices.Delete(slices.Clone(slow), i, i+1); enters(without) {
			slow = without
		} else {
			i++
		}
	}
	return slow[len(slow)-1]
}
