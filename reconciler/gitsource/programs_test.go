package gitsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

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
				w := &place{source: schema.SourceName(rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "source")), fetches: rapid.Bool().Draw(t, "fetches"), pusher: rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "pusher"), granted: make(chan struct{})}
				w.local = w.fetches && rapid.Bool().Draw(t, "local")
				p.waiting = append(p.waiting, w)
				p.grant()
				guests = append(guests, &guest{w: w})
			} else if g := rapid.SampledFrom(guests).Draw(t, "who"); !g.gone {
				g.gone = true
				p.leave(g.w)
			}
			all, of, by := 0, map[schema.SourceName]int{}, map[string]int{}
			for _, g := range guests {
				if !g.gone && inside(g.w) {
					all += g.w.size()
					of[g.w.source] += g.w.size()
					by[g.w.pusher]++
				}
			}
			if by["x"] > maxPusherPrograms || by["y"] > maxPusherPrograms {
				t.Fatalf("pushers have %v", by)
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
		_, _ = p.enterFetch(ended, schema.SourceName(fmt.Sprint("slow", i)), false) // whoever is not let in at once gives up
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

// tell is a body of which so many bytes have come.
func tell(t *testing.T, bytes int) *slowBody {
	t.Helper()
	body := &slowBody{ReadCloser: io.NopCloser(strings.NewReader(strings.Repeat("x", bytes+16)))}
	if _, err := io.ReadFull(body, make([]byte, bytes)); err != nil {
		t.Fatal(err)
	}
	return body
}

// Where somebody waits, the slowest of the pushes that come too slowly makes way, and no
// other one: neither one that is fast enough, nor one that has just begun, nor one that
// has come and is worked on.
func TestTheSlowestPushMakesWay(t *testing.T) {
	var p Programs
	const minute = int(slowPace) * 60
	whole := tell(t, 10)
	if _, err := io.ReadAll(whole); err != nil {
		t.Fatal(err)
	}
	bodies := map[string]*slowBody{
		"slow": tell(t, minute), "slowest": tell(t, minute/10), "fast": tell(t, 3*minute), "new": tell(t, 0), "whole": whole,
	}
	leaves := map[string]func(){}
	for _, name := range slices.Sorted(maps.Keys(bodies)) {
		leave, err := p.enterDoor(t.Context(), schema.SourceName(name), name, bodies[name])
		if err != nil {
			t.Fatal(err)
		}
		leaves[name] = leave
	}
	now := time.Now().Add(2 * time.Minute)
	for _, w := range p.inside {
		if w.began = now.Add(-2 * time.Minute); w.source == "new" {
			w.began = now.Add(-slowAfter / 2)
		}
	}
	for _, want := range []string{"slowest", "slow", "", ""} {
		p.turnOut(now)
		for name, body := range bodies {
			if _, err := body.Read(make([]byte, 1)); errors.Is(err, errTooSlow) != (name == want) {
				t.Fatalf("%s: %v, when %q was to make way", name, err, want)
			}
		}
		if want != "" {
			leaves[want]()
			delete(bodies, want)
		}
	}
	for _, leave := range leaves {
		leave()
		leave()
	}
	if p.all != 0 || len(p.of)+len(p.by)+len(p.inside) != 0 {
		t.Errorf("when all have left, %d places are taken: %v, %v, %d", p.all, p.of, p.by, len(p.inside))
	}
}

// Remotes that take long to say where their branch is wait for each other and not for
// those that say it at once; all hold a bounded number of programs.
func TestSlowRemotesAreAskedBesideOthers(t *testing.T) {
	var p Programs
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 2 * maxLooks {
		if leave, err := p.look(t.Context(), schema.SourceName(fmt.Sprint("slow", i))); err == nil {
			leave(2 * slowLook)
		}
	}
	var inside []func(time.Duration)
	ask := func(kind string, n int) (let int) {
		for i := range n {
			if leave, err := p.look(ended, schema.SourceName(fmt.Sprint(kind, i))); err == nil {
				inside = append(inside, leave)
				let++
			}
		}
		return let
	}
	if n := ask("slow", 2*maxLooks); n != slowLooks {
		t.Errorf("%d slow remotes are asked at once, want %d", n, slowLooks)
	}
	if n := ask("quick", 2*maxLooks); n != maxLooks-slowLooks {
		t.Errorf("beside them %d quick ones are, want %d", n, maxLooks-slowLooks)
	}
	waits := make(chan error)
	go func() {
		_, err := p.look(t.Context(), "another")
		waits <- err
	}()
	inside[0](0)
	if err := <-waits; err != nil {
		t.Error(err)
	}
}
