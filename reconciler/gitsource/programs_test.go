package gitsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fairlead/schema"
	"fairlead/schema/chance"
)

// taken is what is taken of the places.
func (p *Programs) taken() taken {
	p.mu.Lock()
	defer p.mu.Unlock()
	return takenBy(p.inside)
}

// working is how many gits have a place.
func (p *Programs) working() int { return p.taken().all }

func isInside(w *place) bool {
	select {
	case <-w.granted:
		return true
	default:
		return false
	}
}

// A place is never given twice, nobody waits who may work, nobody overtakes one that waits
// only for others to leave, whoever gives up or leaves twice changes nothing, and what
// sources of many programs hold leaves room to a quiet one.
func TestProgramsHaveBounds(t *testing.T) {
	type guest struct {
		w    *place
		gone bool
	}
	chance.Check(t, func(t *rapid.T) {
		var p Programs
		var guests []*guest
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			stayed, waited := slices.Clone(p.inside), slices.Clone(p.waiting)
			if rapid.IntRange(0, 2).Draw(t, "do") > 0 || len(guests) == 0 {
				w := &place{source: schema.SourceName(rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g", "h"}).Draw(t, "source")), granted: make(chan struct{})}
				if w.fetches = rapid.Bool().Draw(t, "fetches"); !w.fetches {
					w.pusher = rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "pusher")
				}
				w.local = w.fetches && rapid.Bool().Draw(t, "local")
				w.tidies = !w.local && rapid.Bool().Draw(t, "tidies")
				p.waiting = append(p.waiting, w)
				p.grant()
				guests, waited = append(guests, &guest{w: w}), append(waited, w)
			} else if g := rapid.SampledFrom(guests).Draw(t, "who"); !g.gone {
				g.gone = true
				p.leave(g.w)
			}
			all, of, by, fetched := 0, map[schema.SourceName]int{}, map[string]int{}, 0
			for _, g := range guests {
				if !g.gone && isInside(g.w) {
					all += g.w.size()
					of[g.w.source] += g.w.size()
					by[g.w.pusher]++
					if g.w.fetches {
						fetched += g.w.size()
					}
				}
			}
			if by["x"] > maxPusherPrograms || by["y"] > maxPusherPrograms || fetched > maxPrograms-doorPrograms {
				t.Fatalf("pushers have %v, fetches %d", by, fetched)
			}
			if all != p.working() || all > maxPrograms {
				t.Fatalf("%d at work, %d counted", all, p.working())
			}
			if len(admitted(p.inside, p.waiting)) > 0 {
				t.Fatalf("some wait who may work")
			}
			for _, g := range guests {
				if of[g.w.source] > maxSourcePrograms {
					t.Fatalf("source %s has %d", g.w.source, of[g.w.source])
				}
			}
			checkNoneOvertakes(t, &p, stayed, waited)
		}
	})
}

// checkNoneOvertakes finds one that entered in this step although one that came earlier
// waits, and waited for nothing but places: beside those who stayed there were too few for
// it. Those of one source wait for each other.
func checkNoneOvertakes(t *rapid.T, p *Programs, stayed, waited []*place) {
	beside := takenBy(slices.DeleteFunc(stayed, func(w *place) bool { return !slices.Contains(p.inside, w) }))
	sources := map[schema.SourceName]bool{}
	for i, first := range waited {
		isFirst := !sources[first.source]
		sources[first.source] = true
		if first.tidies || !isFirst || !slices.Contains(p.waiting, first) || beside.hinders(first) != others {
			continue
		}
		for _, later := range waited[i+1:] {
			if isInside(later) {
				t.Fatalf("one of source %s overtook one of source %s", later.source, first.source)
			}
		}
	}
}

// Two hostile sources that push and fetch as much as they may leave places to others.
func TestProgramsOfHostileSourcesLeaveRoom(t *testing.T) {
	var p Programs
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 {
		for _, source := range []schema.SourceName{"hostile", "worse"} {
			_, _ = p.enterDoor(ended, source, "", nil) // whoever is not let in at once gives up
		}
	}
	for _, source := range []schema.SourceName{"quiet", "another"} {
		if leave, err := p.enterDoor(ended, source, "", nil); len(p.waiting) > 0 || p.taken().of[source] != 1 {
			t.Errorf("source %s: %d at work, %d wait, %v", source, p.taken().of[source], len(p.waiting), err)
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
	if p.working() != maxPrograms-doorPrograms {
		t.Errorf("%d fetches are at work, want %d", p.working(), maxPrograms-doorPrograms)
	}
	if _, err := p.enterDoor(ended, "main", "", nil); err != nil {
		t.Errorf("a push: %v", err)
	}
}

// A push gives its place up when its hook tells of it, once.
func TestAPushThatIsTakenInGivesItsPlaceUp(t *testing.T) {
	var p Programs
	leave, err := p.enterDoor(t.Context(), "main", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	name, forget := p.name(leave)
	p.received("no such push")
	if p.working() != 1 {
		t.Errorf("%d at work", p.working())
	}
	p.received(name)
	p.received(name)
	leave()
	forget()
	p.received(name)
	if p.working() != 0 || len(p.pushes) != 0 {
		t.Errorf("%d at work, %d pushes known", p.working(), len(p.pushes))
	}
	var none *Programs
	leave, err = none.enterDoor(t.Context(), "main", "", nil)
	leave()
	none.received("x")
	if err != nil {
		t.Error(err)
	}
}

// A fetch that needs two places gets them, however many others come after it that need
// one: what it waits for is kept free.
func TestALocalFetchIsNotStarved(t *testing.T) {
	var p Programs
	came := 0
	fetch := func(local bool) *place {
		came++
		w := &place{source: schema.SourceName(fmt.Sprint("s", came)), fetches: true, local: local, granted: make(chan struct{})}
		p.waiting = append(p.waiting, w)
		p.grant()
		return w
	}
	for range 3 {
		fetch(false)
	}
	local := fetch(true)
	for turns := 0; !isInside(local); turns++ {
		if turns > maxPrograms {
			t.Fatalf("after %d others have left it waits still; %d are inside, %d wait", turns, len(p.inside), len(p.waiting))
		}
		fetch(false)
		p.leave(p.inside[0])
	}
	waits := fetch(false)
	push := &place{source: "main", granted: make(chan struct{})}
	p.waiting = append(p.waiting, push)
	p.grant()
	if isInside(waits) || !isInside(push) {
		t.Error("pushes wait for fetches")
	}
}

// Tidying up lets others go first: nobody waits for what it waits for.
func TestTidyingUpLetsOthersGoFirst(t *testing.T) {
	door := func(source schema.SourceName) *place { return &place{source: source} }
	var inside []*place
	for i := range maxPrograms {
		inside = append(inside, door(schema.SourceName(fmt.Sprint("s", i))))
	}
	tidies, later := &place{source: "a", tidies: true}, &place{source: "b"}
	if in := admitted(inside, []*place{tidies, later}); len(in) > 0 {
		t.Fatalf("%d enter where no place is", len(in))
	}
	if in := admitted(inside[1:], []*place{tidies, later}); len(in) != 1 || in[0] != later {
		t.Error("it comes before others")
	}
	if in := admitted(inside[1:], []*place{tidies}); len(in) != 1 {
		t.Error("it does not get a place that is free")
	}
	local := &place{source: "c", fetches: true, local: true}
	if in := admitted(inside[1:], []*place{local, tidies}); len(in) > 0 {
		t.Error("it takes a place that another waits for")
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

// Who waits ends a push that is too slow only where it stands in its way, the slowest of
// several, and no more than it needs: neither one that is fast enough, nor one that has
// just begun, nor one that has come and is worked on.
func TestASlowPushMakesWay(t *testing.T) {
	const minute = int64(slowPace) * 60
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	whole := &slowBody{bytes: 10, ended: true}
	push := func(name string, bytes int64) *place {
		return &place{source: schema.SourceName(name), pusher: name, body: &slowBody{bytes: bytes}, began: now.Add(-2 * time.Minute)}
	}
	began := func(p *place, at time.Time) *place { p.began = at; return p }
	fast := func(name string) *place { return push(name, 3*minute) }
	slow := func(name string) *place { return push(name, minute) }
	ended := func(name string) *place {
		p := push(name, 10)
		p.body.end()
		return p
	}
	fetches := func(name string) *place { return &place{source: schema.SourceName(name), fetches: true} }
	as := func(p *place, pusher string) *place { p.pusher = pusher; return p }
	for name, c := range map[string]struct {
		inside []*place
		before []*place // who waits and came earlier
		waits  *place
		out    string // the source of the push that is ended, "" for none
	}{
		"the slowest":                            {[]*place{slow("slow"), push("slowest", minute/10), fast("a"), fast("b"), began(push("new", 0), now.Add(-slowAfter/2)), {source: "whole", body: whole, began: now.Add(-time.Hour)}}, nil, fast("w"), "slowest"},
		"nobody is too slow":                     {[]*place{fast("a"), fast("b"), fast("c"), fast("d"), fast("e"), fast("f")}, nil, fast("w"), ""},
		"a place is free":                        {[]*place{slow("a"), fast("b"), fast("c"), fast("d"), fast("e")}, nil, fast("w"), ""},
		"one was ended before":                   {[]*place{ended("gone"), slow("a"), fast("b"), fast("c"), fast("d"), fast("e")}, nil, fast("w"), ""},
		"its pusher has as much as it may":       {[]*place{as(fast("a"), "me"), as(fast("b"), "me"), slow("c")}, nil, as(fast("w"), "me"), ""},
		"its pusher's own is slow":               {[]*place{as(fast("a"), "me"), as(slow("b"), "me"), push("c", 10)}, nil, as(fast("w"), "me"), "b"},
		"its source has as much as it may":       {[]*place{fast("w"), as(fast("w"), "x"), slow("c")}, nil, as(fast("w"), "y"), ""},
		"its source's own is slow":               {[]*place{fast("w"), as(slow("w"), "x"), push("c", 10)}, nil, as(fast("w"), "y"), "w"},
		"fetches wait for fetches":               {[]*place{fetches("a"), fetches("b"), fetches("c"), fetches("d"), slow("e")}, nil, fetches("w"), ""},
		"a fetch waits for a place":              {[]*place{fetches("a"), fetches("b"), fast("c"), fast("d"), fast("f"), slow("e")}, nil, fetches("w"), "e"},
		"one is not enough":                      {[]*place{fast("a"), fast("b"), fast("c"), fast("d"), fast("e"), slow("f")}, nil, &place{source: "w", fetches: true, local: true}, ""},
		"two are, the slowest first":             {[]*place{fast("a"), fast("b"), fast("c"), fast("d"), slow("e"), push("f", minute/10)}, nil, &place{source: "w", fetches: true, local: true}, "f"},
		"two are, and one has been ended":        {[]*place{fast("a"), fast("b"), fast("c"), fast("d"), slow("e"), ended("f")}, nil, &place{source: "w", fetches: true, local: true}, "e"},
		"another has the place that it would be": {[]*place{fast("a"), fast("b"), fast("c"), fast("d"), fast("e"), slow("f")}, []*place{fast("first")}, fast("w"), ""},
		"tidying up ends nothing":                {[]*place{fast("a"), fast("b"), fast("c"), fast("d"), fast("e"), slow("f")}, nil, &place{source: "w", tidies: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if out := turnedOut(c.waits, c.inside, append(slices.Clone(c.before), c.waits), now); out != nil {
				got = string(out.source)
			}
			if got != c.out {
				t.Errorf("%q is ended, want %q", got, c.out)
			}
		})
	}
}

// A push that is ended reads no more, and its sender is told why.
func TestAPushThatIsEndedSaysWhy(t *testing.T) {
	var p Programs
	bodies := map[schema.SourceName]*slowBody{}
	for i := range maxPrograms {
		source := schema.SourceName(fmt.Sprint("s", i))
		bodies[source] = tell(t, (i+1)*1000)
		if _, err := p.enterDoor(t.Context(), source, string(source), bodies[source]); err != nil {
			t.Fatal(err)
		}
	}
	w := &place{source: "w", granted: make(chan struct{})}
	p.waiting = append(p.waiting, w)
	later := time.Now().Add(2 * slowAfter)
	p.turnOut(w, later)
	p.turnOut(w, later)
	for source, body := range bodies {
		_, err := body.Read(make([]byte, 1))
		if out := source == "s0"; errors.Is(err, errTooSlow) != out || (body.complaint() != "") != out {
			t.Errorf("%s: %v, %q", source, err, body.complaint())
		}
	}
	p.leave(p.inside[0])
	if !isInside(w) {
		t.Error("who waited has no place")
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

// Who asks first is let in first, beside slow ones that wait for each other.
func TestLooksComeInTheirOrder(t *testing.T) {
	var p Programs
	p.looks.late = map[schema.SourceName]bool{"slow": true}
	var inside []*looker
	for range maxLooks {
		inside = append(inside, p.looks.come("quick"))
	}
	first, second := p.looks.come("quick"), p.looks.come("slow")
	for _, l := range inside[:slowLooks] {
		p.looks.giveUp(l)
		p.looks.come("slow") // it came later
	}
	for i, l := range []*looker{first, second} {
		select {
		case <-l.granted:
		default:
			t.Errorf("number %d waits still", i+1)
		}
	}
	for range inside[slowLooks:] {
		p.looks.giveUp(p.looks.inside[0])
	}
	if slow := slices.DeleteFunc(slices.Clone(p.looks.inside), func(l *looker) bool { return !l.slow }); len(slow) != slowLooks {
		t.Errorf("%d slow ones look, want %d", len(slow), slowLooks)
	}
}
