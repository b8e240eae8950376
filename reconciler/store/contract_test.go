package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fairlead/schema"
	"fairlead/schema/chance"
	"fairlead/schema/wire"
)

var start = time.Unix(1_700_000_000, 0)

// A backend is one kind of store under the contract.
type backend struct {
	// open gives the first handle on new data.
	open func(t *testing.T) handleUnderTest
}

type handleUnderTest interface {
	Load(context.Context) (wire.Loaded, error)
	Commit(context.Context, wire.Batch) error
	SetAside(context.Context, []wire.Unreadable) error
	// another is a handle on the same data, as a process started later has.
	another() handleUnderTest
	inject(func(keys int) Fault)
	deliver()
	raw() engine // without faults
}

// gone is the value of a key that is missing.
const gone = "\x00gone"

// spoil overwrites keys beside the protocol, and the round's with itself, so that its
// revision vouches for what was put.
func spoil(t *testing.T, s handleUnderTest, value string, keys ...string) {
	t.Helper()
	var ops []op
	for _, key := range keys {
		o := op{key, []byte(value)}
		if value == gone {
			o.value = nil
		}
		ops = append(ops, o)
	}
	if round, _, err := s.raw().get(t.Context(), keyRound); err == nil && !strings.HasPrefix(keys[0], metaPrefix) {
		ops = append(ops, op{keyRound, round.value})
	}
	if held, _, err := s.raw().apply(t.Context(), condition{}, ops); err != nil || !held {
		t.Fatal(held, err)
	}
}

// madeAnew damages keys of a store: the next load has all that was there, fences who
// came before, gives out no version again, and tells of what it set aside.
func madeAnew(t *testing.T, b backend, value string, keys []string) {
	t.Helper()
	s := b.open(t)
	fill(t, s, 20)
	want := load(t, s)
	spoil(t, s, value, keys...)
	heir := s.another()
	got, err := heir.Load(t.Context())
	if err != nil {
		t.Errorf("%q in %v: %v", value, keys, err)
		return
	}
	diff(t, wire.Loaded{Records: got.Records}, wire.Loaded{Records: want.Records})
	if got.ResourceVersion < want.ResourceVersion || got.Creations < want.Creations || got.Term <= want.Term || got.Round < want.Round || got.Round == 0 {
		t.Errorf("%q in %v: from version %d, creation %d, term %d, round %d to %d, %d, %d, %d", value, keys, want.ResourceVersion, want.Creations, want.Term, want.Round, got.ResourceVersion, got.Creations, got.Term, got.Round)
	}
	for _, u := range got.Unreadable {
		if !slices.Contains(keys, u.Key) || u.Why == "" {
			t.Errorf("%q in %v: told of %v", value, keys, u)
		}
	}
	if len(got.Unreadable) == 0 {
		t.Errorf("%q in %v: nothing is told", value, keys)
	}
	if err := s.Commit(t.Context(), upheaval(want)); !errors.Is(err, ErrTermLost) {
		t.Errorf("%q in %v: a handle from before: %v", value, keys, err)
	}
	// A start that ends before its first round has told nobody.
	heir = heir.another()
	again := load(t, heir)
	if len(again.Unreadable) != len(got.Unreadable) || again.Term <= got.Term || again.Aside != 0 {
		t.Errorf("%q in %v: the next start is told of %v of %v, %d set aside before", value, keys, again.Unreadable, got.Unreadable, again.Aside)
	}
	if err := heir.SetAside(t.Context(), again.Unreadable); err != nil {
		t.Fatal(err)
	}
	commit(t, heir, upheaval(again))
	last := load(t, heir.another())
	aside := len(got.Unreadable)
	if value == gone {
		aside = 0
	}
	if len(last.Unreadable) > 0 || last.Aside != aside {
		t.Errorf("%q in %v: afterwards %v is told of and %d are set aside, want %d", value, keys, last.Unreadable, last.Aside, aside)
	}
	diff(t, wire.Loaded{Records: last.Records}, wire.Loaded{Records: after(again, upheaval(again)).Records})
}

// overtaken is an engine on which another handle acts once a term is taken.
type overtaken struct {
	engine
	by func()
}

func (o *overtaken) get(ctx context.Context, key string) (entry, bool, error) {
	if key == keyRound && o.by != nil {
		by := o.by
		o.by = nil
		by()
	}
	return o.engine.get(ctx, key)
}

// contract is what every store keeps.
var contract = map[string]func(t *testing.T, b backend){
	"a new store": func(t *testing.T, b backend) {
		got := load(t, b.open(t))
		want := wire.Loaded{ResourceVersion: 1_700_000_000 << 20, Term: 1, Records: []wire.Record{}}
		diff(t, got, want)
	},
	"a store of the schema before is taken over, one of a later schema is not": func(t *testing.T, b backend) {
		s := b.open(t)
		load(t, s)
		write := func(schema string) {
			if held, _, err := s.raw().apply(t.Context(), condition{keyRound, "0"}, []op{{keySchema, []byte(schema)}}); err != nil || !held {
				t.Fatal(held, err)
			}
		}
		write(schemaJSON)
		load(t, s.another())
		if got, _, err := s.raw().get(t.Context(), keySchema); err != nil || string(got.value) != schemaVersion {
			t.Errorf("schema %q, %v; want %q", got.value, err, schemaVersion)
		}
		write("9")
		if _, err := s.another().Load(t.Context()); err == nil || !strings.Contains(err.Error(), `schema "9"`) {
			t.Errorf("a later schema: %v", err)
		}
	},
	"what was committed is loaded": func(t *testing.T, b backend) {
		s := b.open(t)
		rv := load(t, s).ResourceVersion
		commit(t, s, wire.Batch{Round: 1, ResourceVersion: rv + 3, Creations: 3, Writes: []wire.Write{
			put("Pod", "shop", "b", rv+1), put("Node", "", "n1", rv+2), put("Pod", "shop", "a", rv+3),
		}})
		commit(t, s, wire.Batch{Round: 2, ResourceVersion: rv + 5, Creations: 3, Writes: []wire.Write{
			put("Pod", "shop", "a", rv+4), remove("Pod", "shop", "b"), remove("Pod", "shop", "never"),
		}})
		want := wire.Loaded{
			Records:         []wire.Record{record("Node", "", "n1", rv+2), record("Pod", "shop", "a", rv+4)},
			ResourceVersion: rv + 5, Creations: 3, Round: 2, Term: 2,
		}
		diff(t, load(t, s.another()), want)
	},
	"loading twice is the same but for the term": func(t *testing.T, b backend) {
		s := b.open(t)
		fill(t, s, 300)
		first := load(t, s)
		second := load(t, s)
		first.Term++
		diff(t, second, first)
	},
	"records come sorted by key": func(t *testing.T, b backend) {
		s := b.open(t)
		rv := load(t, s).ResourceVersion
		commit(t, s, wire.Batch{Round: 1, ResourceVersion: rv, Writes: []wire.Write{
			put("Pod", "a", "x", rv), put("Pod", "a-b", "x", rv), put("Pod", "a.b", "x", rv), put("Pod", "", "x", rv),
		}})
		got := load(t, s).Records
		if !slices.IsSortedFunc(got, func(a, b wire.Record) int { return a.Key.Compare(b.Key) }) {
			t.Errorf("not sorted: %v", got)
		}
	},
	"an empty round moves the counters": func(t *testing.T, b backend) {
		s := b.open(t)
		rv := load(t, s).ResourceVersion
		commit(t, s, wire.Batch{Round: 7, ResourceVersion: rv + 9, Creations: 4})
		diff(t, load(t, s), wire.Loaded{Records: []wire.Record{}, ResourceVersion: rv + 9, Creations: 4, Round: 7, Term: 2})
	},
	"batches that break a rule are refused and change nothing": func(t *testing.T, b backend) {
		s := b.open(t)
		rv := load(t, s).ResourceVersion
		commit(t, s, wire.Batch{Round: 3, ResourceVersion: rv + 1, Creations: 1, Writes: []wire.Write{put("Pod", "d", "a", rv+1)}})
		good := wire.Batch{Round: 4, ResourceVersion: rv + 2, Creations: 1}
		for name, spoil := range map[string]func(*wire.Batch){
			"round finished before":   func(b *wire.Batch) { b.Round = 3 },
			"resourceVersion back":    func(b *wire.Batch) { b.ResourceVersion = rv },
			"creations back":          func(b *wire.Batch) { b.Creations = 0 },
			"key twice":               func(b *wire.Batch) { b.Writes = []wire.Write{put("Pod", "d", "x", rv), remove("Pod", "d", "x")} },
			"slash in a name":         func(b *wire.Batch) { b.Writes = []wire.Write{put("Pod", "d", "x/y", rv)} },
			"no name":                 func(b *wire.Batch) { b.Writes = []wire.Write{remove("Pod", "d", "")} },
			"record of another key":   func(b *wire.Batch) { w := put("Pod", "d", "x", rv); w.Key.Name = "y"; b.Writes = []wire.Write{w} },
			"resourceVersion too new": func(b *wire.Batch) { b.Writes = []wire.Write{put("Pod", "d", "x", rv+3)} },
			"object too large": func(b *wire.Batch) {
				w := put("Pod", "d", "x", rv)
				w.Record.Object = make([]byte, MaxObjectBytes+1)
				b.Writes = []wire.Write{w}
			},
		} {
			bad := good
			spoil(&bad)
			if err := s.Commit(t.Context(), bad); !errors.Is(err, ErrRefused) {
				t.Errorf("%s: got %v, want ErrRefused", name, err)
			}
		}
		commit(t, s, good)
		diff(t, load(t, s), wire.Loaded{
			Records:         []wire.Record{record("Pod", "d", "a", rv+1)},
			ResourceVersion: rv + 2, Creations: 1, Round: 4, Term: 2,
		})
	},
	"objects up to the limit fit, many large ones too": func(t *testing.T, b backend) {
		s := b.open(t)
		rv := load(t, s).ResourceVersion
		batch := wire.Batch{Round: 1, ResourceVersion: rv}
		for i, size := range []int{MaxObjectBytes, 1, 700_000, 700_000, 700_000, MaxObjectBytes} {
			w := put("ConfigMap", "d", fmt.Sprintf("c%d", i), rv)
			w.Record.Object = []byte(strings.Repeat("x", size))
			batch.Writes = append(batch.Writes, w)
		}
		commit(t, s, batch)
		got := load(t, s).Records
		for i, w := range batch.Writes {
			if string(got[i].Object) != string(w.Record.Object) {
				t.Errorf("object %d: got %d bytes, want %d", i, len(got[i].Object), len(w.Record.Object))
			}
		}
	},
	"records that cannot be read are told of, and set aside for good": func(t *testing.T, b backend) {
		s := b.open(t)
		fill(t, s, 300)
		want := load(t, s)
		bad := map[string]string{
			objectPrefix + "Pod/shop/no-version":   "no line feed",
			objectPrefix + "Pod/shop/bad-version":  "x\nobject",
			objectPrefix + "Pod/shop/with/a/slash": "1\nobject",
			objectPrefix + "nothing":               "1\nobject",
			objectPrefix + "Pod/shop/empty":        "",
			objectPrefix + "Pod/shop/large":        strings.Repeat("x", MaxObjectBytes),
		}
		var ops []op
		for key, value := range bad {
			ops = append(ops, op{key, []byte(value)})
		}
		ops = append(ops, op{keyRound, decimal(want.Round)})
		if held, _, err := s.raw().apply(t.Context(), condition{keyRound, string(decimal(want.Round))}, ops); err != nil || !held {
			t.Fatal(held, err)
		}
		heir := s.another()
		got := load(t, heir)
		told := map[string]bool{}
		for _, u := range got.Unreadable {
			told[u.Key] = u.Why != ""
		}
		for key := range bad {
			if !told[key] {
				t.Errorf("nothing is said of %s", key)
			}
		}
		unreadable := append(got.Unreadable, wire.Unreadable{Key: wire.StoreKey(want.Records[7].Key)}) // and one whose object is damaged
		got.Unreadable = nil
		want.Term++
		diff(t, got, want)
		if err := heir.SetAside(t.Context(), unreadable); err != nil {
			t.Fatal(err)
		}
		commit(t, heir, upheaval(got))
		want.Records = slices.Delete(slices.Clone(want.Records), 7, 8)
		want = after(want, upheaval(got))
		want.Term++
		want.Aside = len(bad) + 1
		diff(t, load(t, heir.another()), want)
		for key, value := range bad {
			aside, found, err := s.raw().get(t.Context(), asidePrefix+strings.TrimPrefix(key, objectPrefix))
			if err != nil || !found || string(aside.value) != value {
				t.Errorf("%s is not kept: %v", key, err)
			}
			if _, found, _ := s.raw().get(t.Context(), key); found {
				t.Errorf("%s is still in the way", key)
			}
		}
	},
	"what is damaged again is kept beside what was": func(t *testing.T, b backend) {
		s := b.open(t)
		fill(t, s, 20)
		record := wire.StoreKey(load(t, s).Records[3].Key)
		values := func(key string) (out []string) {
			for n := range maxAside + 1 {
				e, found, err := s.raw().get(t.Context(), asideKey(key, n+1))
				if err != nil {
					t.Fatal(err)
				}
				if found {
					out = append(out, string(e.value))
				}
			}
			return out
		}
		var want []string
		for i := range maxAside + 2 {
			value := fmt.Sprintf("damaged %d", i)
			if want = append(want, value); len(want) > maxAside {
				want = slices.Delete(want, maxAside-1, maxAside) // the last one makes way
			}
			for _, key := range []string{record, keyTerm} {
				if _, _, err := s.raw().apply(t.Context(), condition{}, []op{{key, []byte(value)}, {keyRound, decimal(uint64(1 + 2*i))}}); err != nil {
					t.Fatal(err)
				}
			}
			heir := s.another()
			got := load(t, heir)
			if err := heir.SetAside(t.Context(), got.Unreadable); err != nil {
				t.Fatal(err)
			}
			if len(got.Unreadable) != 2 || got.Aside != 2*min(i, maxAside) && i < maxAside {
				t.Errorf("after damage %d: told of %v, %d set aside before", i, got.Unreadable, got.Aside)
			}
			commit(t, heir, wire.Batch{Round: got.Round + 1, ResourceVersion: got.ResourceVersion, Creations: got.Creations})
			for _, key := range []string{record, keyTerm} {
				if have := values(key); !slices.Equal(have, want) {
					t.Fatalf("after damage %d of %s there are %q, want %q", i, key, have, want)
				}
			}
		}
	},
	"a setting aside that failed is done again": func(t *testing.T, b backend) {
		s := b.open(t)
		fill(t, s, 300)
		want := load(t, s)
		aside := []wire.Unreadable{{Key: wire.StoreKey(want.Records[3].Key)}}
		s.inject(nth(1, FaultLost))
		if err := s.SetAside(t.Context(), aside); err == nil {
			t.Fatal("the fault was not injected")
		}
		s.inject(nil)
		if err := s.SetAside(t.Context(), aside); !errors.Is(err, ErrNotLoaded) {
			t.Errorf("after an error: %v", err)
		}
		heir := s.another()
		want.Term++
		diff(t, load(t, heir), want)
		if err := heir.SetAside(t.Context(), aside); err != nil {
			t.Fatal(err)
		}
		// A start that ends before its first round has told nobody.
		want.Records = slices.Delete(slices.Clone(want.Records), 3, 4)
		for range 2 {
			heir = heir.another()
			got := load(t, heir)
			if len(got.Unreadable) != 1 || got.Unreadable[0].Key != aside[0].Key || got.Aside != 0 {
				t.Fatalf("told of %v, %d set aside before", got.Unreadable, got.Aside)
			}
			got.Unreadable = nil
			want.Term++
			diff(t, got, want)
		}
		commit(t, heir, wire.Batch{Round: want.Round + 1, ResourceVersion: want.ResourceVersion, Creations: want.Creations})
		want.Term, want.Round, want.Aside = want.Term+1, want.Round+1, 1
		diff(t, load(t, heir.another()), want)
	},
	"a damaged key of meta/ is made anew": func(t *testing.T, b backend) {
		keys := []string{keySchema, keyTerm, keyRound, keyCounter}
		every := append([][]string{keys, keys[1:]}, slices.Collect(slices.Chunk(keys, 1))...)
		for _, value := range []string{"", gone, "\x00\xff"} {
			for _, damaged := range every {
				madeAnew(t, b, value, damaged)
			}
		}
		for _, value := range []string{"-1", "7.5", "18446744073709551615", "1152921504606846977", "null", "{}", `{"resourceVersion":5,"creations":1}`, `{"resourceVersion":-1}`, `{"resourceVersion":1152921504606846977,"creations":0}`} {
			madeAnew(t, b, value, keys)
		}
	},
	"a damage before the first round leaves an earlier one told of": func(t *testing.T, b backend) {
		s := b.open(t)
		fill(t, s, 20)
		record := wire.StoreKey(load(t, s).Records[3].Key)
		spoil(t, s, "no record", record)
		var told []string
		for _, damaged := range []string{"", keyCounter, keyRound, keyTerm, keySchema} {
			if damaged != "" {
				spoil(t, s, "x", damaged)
				told = append(told, damaged)
			} else {
				told = append(told, record)
			}
			s = s.another()
			got := load(t, s)
			for _, key := range told {
				if !slices.ContainsFunc(got.Unreadable, func(u wire.Unreadable) bool { return u.Key == key }) {
					t.Errorf("after the damage of %q nothing is said of %s, only of %v", damaged, key, got.Unreadable)
				}
			}
			if len(got.Unreadable) != len(told) || got.Aside != 0 {
				t.Errorf("after the damage of %q: told of %d of %d, %d set aside before", damaged, len(got.Unreadable), len(told), got.Aside)
			}
			if damaged == "" {
				must(t, s.SetAside(t.Context(), got.Unreadable))
			}
		}
		last := load(t, s)
		commit(t, s, wire.Batch{Round: last.Round + 1, ResourceVersion: last.ResourceVersion, Creations: last.Creations})
		if got := load(t, s.another()); len(got.Unreadable) > 0 || got.Aside != len(told) {
			t.Errorf("after a round: told of %v, %d set aside before", got.Unreadable, got.Aside)
		}
	},
	"of a round whose key is damaged nothing is half there": func(t *testing.T, b backend) {
		s := b.open(t)
		fill(t, s, 300)
		want := load(t, s)
		s.inject(nth(3, FaultLost))
		if err := s.Commit(t.Context(), upheaval(want)); err == nil {
			t.Fatal("the fault was not injected")
		}
		s.inject(nil)
		spoil(t, s, "x", keyRound)
		for failing := 1; failing <= 3; failing++ { // of putting back, after the term
			s.inject(nth(failing+1, FaultSent))
			if _, err := s.another().Load(t.Context()); failing < 3 && err == nil {
				t.Fatalf("transaction %d: the fault was not injected", failing)
			}
		}
		s.inject(nil)
		got := load(t, s.another())
		diff(t, wire.Loaded{Records: got.Records}, wire.Loaded{Records: want.Records})
	},
	"a new store beside records that were set aside is new": func(t *testing.T, b backend) {
		s := b.open(t)
		if held, _, err := s.raw().apply(t.Context(), condition{}, []op{{asidePrefix + "Pod/d/p", []byte("x")}}); err != nil || !held {
			t.Fatal(held, err)
		}
		if got := load(t, s); got.Round != 0 || got.Aside != 1 || len(got.Unreadable) > 0 {
			t.Errorf("round %d, %d set aside, told of %v", got.Round, got.Aside, got.Unreadable)
		}
	},
	"a store of no objects whose round is damaged is new": func(t *testing.T, b backend) {
		s := b.open(t)
		rv := load(t, s).ResourceVersion
		commit(t, s, wire.Batch{Round: 7, ResourceVersion: rv})
		spoil(t, s, "x", keyRound)
		if got := load(t, s.another()); got.Round != 0 {
			t.Errorf("it is at round %d", got.Round)
		}
	},
	"a version that was never handed out is no object's": func(t *testing.T, b backend) {
		s := b.open(t)
		fill(t, s, 5)
		want := load(t, s)
		spoil(t, s, fmt.Sprint(uint64(1)<<58)+"\nobject", objectPrefix+"Pod/shop/late")
		if got := load(t, s.another()); len(got.Records) != len(want.Records) || got.ResourceVersion != want.ResourceVersion || len(got.Unreadable) != 1 || !strings.Contains(got.Unreadable[0].Why, "never handed out") {
			t.Errorf("%d records, version %d, told of %v", len(got.Records), got.ResourceVersion, got.Unreadable)
		}
	},
	"load comes first": func(t *testing.T, b backend) {
		if err := b.open(t).Commit(t.Context(), wire.Batch{Round: 1}); !errors.Is(err, ErrNotLoaded) {
			t.Errorf("got %v, want ErrNotLoaded", err)
		}
	},
	"a later load fences an earlier handle": func(t *testing.T, b backend) {
		old := b.open(t)
		rv := load(t, old).ResourceVersion
		heir := old.another()
		before := load(t, heir)
		err := old.Commit(t.Context(), wire.Batch{Round: 1, ResourceVersion: rv, Writes: []wire.Write{put("Pod", "d", "a", rv)}})
		if !errors.Is(err, ErrTermLost) {
			t.Errorf("got %v, want ErrTermLost", err)
		}
		if err := old.Commit(t.Context(), wire.Batch{Round: 1, ResourceVersion: rv}); !errors.Is(err, ErrNotLoaded) {
			t.Errorf("after losing the term: got %v, want ErrNotLoaded", err)
		}
		commit(t, heir, wire.Batch{Round: 1, ResourceVersion: rv})
		before.Round, before.Term = 1, before.Term+1
		diff(t, load(t, heir), before)
	},
	"a term taken amid a round undoes it": func(t *testing.T, b backend) {
		for before := 1; before <= 3; before++ { // the transaction that the heir's load comes before
			old := b.open(t)
			fill(t, old, 300)
			want := load(t, old)
			old.inject(nth(before, FaultLate))
			if err := old.Commit(t.Context(), upheaval(want)); err == nil {
				t.Fatal("the fault was not injected")
			}
			old.inject(nil)
			heir := old.another()
			want.Term++
			got := load(t, heir)
			diff(t, got, want)
			old.deliver()
			commit(t, heir, upheaval(got))
			want = after(got, upheaval(got))
			want.Term++
			diff(t, load(t, heir.another()), want)
		}
	},
	"a load that another overtakes says so": func(t *testing.T, b backend) {
		s := b.open(t)
		fill(t, s, 300)
		heir := s.another()
		slow := ledger{now: start, log: quiet(), engine: &overtaken{engine: s.raw(), by: func() {
			got := load(t, heir)
			commit(t, heir, upheaval(got))
		}}}
		if got, err := slow.Load(t.Context()); !errors.Is(err, ErrTermLost) {
			t.Errorf("got round %d of term %d, %v, want ErrTermLost", got.Round, got.Term, err)
		}
		if err := slow.Commit(t.Context(), wire.Batch{Round: 99}); !errors.Is(err, ErrNotLoaded) {
			t.Errorf("commit after it: got %v, want ErrNotLoaded", err)
		}
	},
	"a round that failed between its transactions never happened": func(t *testing.T, b backend) {
		for failing := 1; failing <= 3; failing++ {
			for _, fault := range []Fault{FaultLost, FaultSent} {
				s := b.open(t)
				fill(t, s, 300)
				before := load(t, s)
				s.inject(nth(failing, fault))
				err := s.Commit(t.Context(), upheaval(before))
				if err == nil || errors.Is(err, ErrRefused) || errors.Is(err, ErrTermLost) {
					t.Fatalf("fault %d at transaction %d: got %v, want an uncertain error", fault, failing, err)
				}
				s.inject(nil)
				if err := s.Commit(t.Context(), wire.Batch{Round: 99, ResourceVersion: before.ResourceVersion}); !errors.Is(err, ErrNotLoaded) {
					t.Fatalf("after an uncertain error: got %v, want ErrNotLoaded", err)
				}
				want := before
				if failing == 3 && fault == FaultSent { // the last transaction took effect
					want = after(before, upheaval(before))
				}
				want.Term++
				got := load(t, s.another())
				diff(t, got, want)

				// Putting back is a thing of the past by the next load, and the
				// store takes rounds again.
				heir := s.another()
				got = load(t, heir)
				commit(t, heir, upheaval(got))
				want = after(got, upheaval(got))
				want.Term++
				diff(t, load(t, heir), want)
			}
		}
	},
	"a load that failed is done again by the next": func(t *testing.T, b backend) {
		s := b.open(t)
		fill(t, s, 300)
		want := load(t, s)
		s.inject(nth(3, FaultLost))
		if err := s.Commit(t.Context(), upheaval(want)); err == nil {
			t.Fatal("the fault was not injected")
		}
		for failing := 1; failing <= 3; failing++ { // the term, and two of putting back
			s.inject(nth(failing, FaultSent))
			if _, err := s.Load(t.Context()); err == nil {
				t.Fatalf("transaction %d: the fault was not injected", failing)
			}
			want.Term++
		}
		s.inject(nil)
		want.Term++
		diff(t, load(t, s), want)
	},
	"a transaction that arrives late is fenced": func(t *testing.T, b backend) {
		for late := 1; late <= 3; late++ {
			s := b.open(t)
			fill(t, s, 300)
			want := load(t, s)
			s.inject(nth(late, FaultLate))
			if err := s.Commit(t.Context(), upheaval(want)); err == nil {
				t.Fatal("the fault was not injected")
			}
			s.inject(nil)
			want.Term++
			diff(t, load(t, s), want)
			s.deliver()
			want.Term++
			diff(t, load(t, s), want)
		}
	},
	"history is given up and the last round stays": func(t *testing.T, b backend) {
		s := b.open(t)
		l := load(t, s)
		for round := uint64(1); round*1_000 <= compactEvery+2_000; round++ {
			batch := wire.Batch{Round: round, ResourceVersion: l.ResourceVersion}
			for i := range 1_000 {
				batch.Writes = append(batch.Writes, put("Pod", "d", fmt.Sprint(i), l.ResourceVersion))
			}
			commit(t, s, batch)
		}
		want := load(t, s)
		s.inject(nth(3, FaultLost))
		if err := s.Commit(t.Context(), upheaval(want)); err == nil {
			t.Fatal("the fault was not injected")
		}
		s.inject(nil)
		want.Term++
		diff(t, load(t, s), want)
	},
	"nothing is written while nothing is committed": func(t *testing.T, b backend) {
		s := b.open(t)
		load(t, s)
		s.inject(func(int) Fault { t.Error("a transaction was sent"); return NoFault })
		if err := s.Commit(t.Context(), wire.Batch{Round: 0}); !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
		s.inject(nil)
	},
}

func runContract(t *testing.T, b backend) {
	for name, test := range contract {
		t.Run(name, func(t *testing.T) { test(t, b) })
	}
}

// runModel compares a store with a plain map over random rounds, faults,
// restarts and late arrivals.
func runModel(t *testing.T, b backend) {
	chance.Check(t, func(rt *rapid.T) {
		s := b.open(t)
		model := load(t, s)
		for range rapid.IntRange(1, 6).Draw(rt, "rounds") {
			batch := wire.Batch{Round: model.Round + 1, ResourceVersion: model.ResourceVersion + 400}
			names := rapid.SliceOfNDistinct(rapid.IntRange(0, 400), 0, 300, rapid.ID).Draw(rt, "names")
			for i, n := range names {
				if n%3 == i%3 {
					batch.Writes = append(batch.Writes, remove("Pod", "d", fmt.Sprint(n)))
				} else {
					batch.Writes = append(batch.Writes, put("Pod", "d", fmt.Sprint(n), model.ResourceVersion+uint64(i)))
				}
			}
			fault := Fault(rapid.IntRange(0, 3).Draw(rt, "fault"))
			failing := rapid.IntRange(1, 4).Draw(rt, "failing")
			s.inject(nth(failing, fault))
			err := s.Commit(t.Context(), batch)
			s.inject(nil)
			last := (max(len(names), 1) + MaxWritesPerTransaction - 1) / MaxWritesPerTransaction
			if err == nil || (failing == last && fault == FaultSent) {
				model = after(model, batch)
			}
			if err != nil || rapid.Bool().Draw(rt, "restart") {
				s = s.another()
				model.Term++
				diff(rt, load(t, s), model)
			}
			if rapid.Bool().Draw(rt, "deliver") {
				s.deliver()
			}
		}
		model.Term++
		diff(rt, load(t, s), model)
	})
}

// upheaval is a batch of three transactions that creates, changes and deletes.
func upheaval(l wire.Loaded) wire.Batch {
	b := wire.Batch{Round: l.Round + 1, ResourceVersion: l.ResourceVersion + 1_000, Creations: l.Creations + 100}
	for i := range 100 {
		b.Writes = append(b.Writes, put("Pod", "d", fmt.Sprintf("new%d-%d", l.Round, i), l.ResourceVersion+1))
	}
	for i, r := range l.Records[:min(len(l.Records), 200)] {
		w := wire.Write{Key: r.Key}
		if i%2 == 0 {
			r.ResourceVersion = l.ResourceVersion + 2
			w.Record = &r
		}
		b.Writes = append(b.Writes, w)
	}
	return b
}

// after is what a load says once b was committed to l.
func after(l wire.Loaded, b wire.Batch) wire.Loaded {
	out := wire.Loaded{Records: []wire.Record{}, ResourceVersion: b.ResourceVersion, Creations: b.Creations, Round: b.Round, Term: l.Term}
	written := map[schema.Key]bool{}
	for _, w := range b.Writes {
		written[w.Key] = true
		if w.Record != nil {
			out.Records = append(out.Records, *w.Record)
		}
	}
	for _, r := range l.Records {
		if !written[r.Key] {
			out.Records = append(out.Records, r)
		}
	}
	slices.SortFunc(out.Records, func(a, b wire.Record) int { return a.Key.Compare(b.Key) })
	return out
}

func nth(n int, f Fault) func(int) Fault {
	seen := 0
	return func(int) Fault {
		if seen++; seen == n {
			return f
		}
		return NoFault
	}
}

func fill(t *testing.T, s handleUnderTest, pods int) {
	t.Helper()
	l := load(t, s)
	b := wire.Batch{Round: l.Round + 1, ResourceVersion: l.ResourceVersion + uint64(pods), Creations: l.Creations + uint64(pods)}
	for i := range pods {
		b.Writes = append(b.Writes, put("Pod", "d", fmt.Sprintf("p%d", i), l.ResourceVersion+uint64(i)))
	}
	commit(t, s, b)
}

func record(kind, namespace, name string, rv uint64) wire.Record {
	return wire.Record{
		Key:             schema.Key{Kind: schema.Kind(kind), Namespace: namespace, Name: name},
		ResourceVersion: rv, Object: fmt.Appendf(nil, "{\"name\":%q,\n\"rv\":%d}", name, rv),
	}
}

func put(kind, namespace, name string, rv uint64) wire.Write {
	r := record(kind, namespace, name, rv)
	return wire.Write{Key: r.Key, Record: &r}
}

func remove(kind, namespace, name string) wire.Write {
	return wire.Write{Key: record(kind, namespace, name, 0).Key}
}

func load(t *testing.T, s handleUnderTest) wire.Loaded {
	t.Helper()
	l, err := s.Load(t.Context())
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return l
}

func commit(t *testing.T, s handleUnderTest, b wire.Batch) {
	t.Helper()
	if err := s.Commit(t.Context(), b); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

func diff(t interface {
	Helper()
	Fatalf(string, ...any)
}, got, want wire.Loaded) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("loaded (-want +got):\n%s", d)
	}
}
