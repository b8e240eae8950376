package gitsource

import (
	"context"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"fairlead/schema"
	"fairlead/schema/chance"
)

// working is how many gits have a place.
func (p *Programs) working() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all
}

// A place is never given twice, nobody waits who may work, whoever gives up or leaves
// twice changes nothing, and what sources of many programs hold leaves room to a quiet one.
func TestProgramsHaveBounds(t *testing.T) {
	type guest struct {
		w    *place
		gone bool
	}
	chance.Check(t, func(t *rapid.T) {
		var p Programs
		var guests []*guest
		inside := func(w *place) bool {
			select {
			case <-w.granted:
				return true
			default:
				return false
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.IntRange(0, 2).Draw(t, "do") > 0 || len(guests) == 0 {
				w := &place{source: schema.SourceName(rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "source")), fetches: rapid.Bool().Draw(t, "fetches"), granted: make(chan struct{})}
				p.waiting = append(p.waiting, w)
				p.grant()
				guests = append(guests, &guest{w: w})
			} else if g := rapid.SampledFrom(guests).Draw(t, "who"); !g.gone {
				g.gone = true
				p.leave(g.w)
			}
			all, of := 0, map[schema.SourceName]int{}
			for _, g := range guests {
				if !g.gone && inside(g.w) {
					all++
					of[g.w.source]++
				}
			}
			if all != p.all || all > maxPrograms {
				t.Fatalf("%d at work, %d counted", all, p.all)
			}
			for _, g := range guests {
				switch {
				case of[g.w.source] > maxSourcePrograms:
					t.Fatalf("source %s has %d", g.w.source, of[g.w.source])
				case !g.gone && !inside(g.w) && p.mayEnter(g.w):
					t.Fatalf("one of source %s waits", g.w.source)
				}
			}
		}
	})
}

// Two hostile sources that push and fetch as much as they may leave places to others.
func TestProgramsOfHostileSourcesLeaveRoom(t *testing.T) {
	var p Programs
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 {
		for _, source := range []schema.SourceName{"hostile", "worse"} {
			_, _ = p.enter(ended, source) // whoever is not let in at once gives up
		}
	}
	for _, source := range []schema.SourceName{"quiet", "another"} {
		if leave, err := p.enter(ended, source); len(p.waiting) > 0 || p.of[source] != 1 {
			t.Errorf("source %s: %d at work, %d wait, %v", source, p.of[source], len(p.waiting), err)
		} else if leave != nil {
			leave()
			leave()
		}
	}
}

// Remotes that answer slowly, however many, leave places to pushes.
func TestFetchesLeaveRoomToTheDoor(t *testing.T) {
	var p Programs
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 2 * maxPrograms {
		_, _ = p.enterFetch(ended, schema.SourceName(fmt.Sprint("slow", i))) // whoever is not let in at once gives up
	}
	if p.all != maxPrograms-doorPrograms {
		t.Errorf("%d fetches are at work, want %d", p.all, maxPrograms-doorPrograms)
	}
	if _, err := p.enter(ended, "main"); err != nil {
		t.Errorf("a push: %v", err)
	}
}

// A push gives its place up when its hook tells of it, once.
func TestAPushThatIsTakenInGivesItsPlaceUp(t *testing.T) {
	var p Programs
	leave, err := p.enter(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	name, forget := p.name(leave)
	p.received("no such push")
	if p.all != 1 {
		t.Errorf("%d at work", p.all)
	}
	p.received(name)
	p.received(name)
	leave()
	forget()
	p.received(name)
	if p.all != 0 || len(p.pushes) != 0 {
		t.Errorf("%d at work, %d pushes known", p.all, len(p.pushes))
	}
	var none *Programs
	leave, err = none.enter(t.Context(), "main")
	leave()
	none.received("x")
	if err != nil {
		t.Error(err)
	}
}
