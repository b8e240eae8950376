package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"fairlead/schema/wire"
)

// identities are what leaders bind to nodes.
var identities = [...]string{"db-0", "db-1", "db-2"}

// bindings is the node each identity is bound to, "" for none.
type bindings [len(identities)]string

// sequential is the store as one thread of control would see it: who loads has
// the term, and who has the term binds.
type sequential struct {
	term  uint64
	bound bindings
}

// The operations. What a leader reads it reads by loading; peek is one key read
// beside any leader.
type (
	loading struct{}
	binding struct {
		term  uint64
		nodes bindings // "" leaves an identity as it is
	}
	peek struct{ identity int }
)

// The answers; errors that tell nothing are of type uncertain.
type (
	loaded struct {
		term  uint64
		bound bindings
	}
	outrun    struct{ term uint64 } // a term was taken, and another before all was read
	done      struct{}
	deposed   struct{}
	bound     struct{ node string }
	uncertain struct{ err string }
)

// bindingModel judges a history. An uncertain operation stays open to the end,
// where it changes nothing that anybody saw: so "may have happened" needs no
// more than that it can be put anywhere after its call.
var bindingModel = porcupine.Model{
	Init: func() any { return sequential{} },
	Step: func(state, input, output any) (bool, any) {
		s := state.(sequential)
		switch in := input.(type) {
		case loading:
			s.term++
			if out, ok := output.(outrun); ok {
				return out.term == s.term, s
			}
			out, certain := output.(loaded)
			return !certain || out == loaded{s.term, s.bound}, s
		case binding:
			if output == (deposed{}) {
				return s.term != in.term, s
			}
			if s.term != in.term {
				_, open := output.(uncertain)
				return open, s
			}
			for i, node := range in.nodes {
				if node != "" {
					s.bound[i] = node
				}
			}
			return true, s
		case peek:
			out, certain := output.(bound)
			return !certain || out.node == s.bound[in.identity], s
		}
		panic(fmt.Sprintf("no such operation: %T", input))
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// unreliable is one leader's way to the engine: transactions fail before and
// after their effect, and some arrive much later.
type unreliable struct {
	engine
	random *rand.Rand
	calm   bool
	late   []transaction
}

func (u *unreliable) apply(ctx context.Context, when condition, ops []op) (bool, int64, error) {
	if u.calm {
		return u.engine.apply(ctx, when, ops)
	}
	switch u.random.IntN(24) {
	case 0:
		return false, 0, errFault
	case 1:
		_, _, err := u.engine.apply(ctx, when, ops)
		return false, 0, errors.Join(errFault, err)
	case 2:
		u.late = append(u.late, transaction{when, slices.Clone(ops)})
		return false, 0, errFault
	}
	return u.engine.apply(ctx, when, ops)
}

// deliver lets what is late arrive.
func (u *unreliable) deliver(ctx context.Context) error {
	for _, t := range u.late {
		if _, _, err := u.engine.apply(ctx, t.when, t.ops); err != nil {
			return err
		}
	}
	u.late = nil
	return nil
}

// forgetful is the planted bug: it writes whatever the term is by now.
type forgetful struct{ engine }

func (f forgetful) apply(ctx context.Context, when condition, ops []op) (bool, int64, error) {
	takesTerm := slices.ContainsFunc(ops, func(o op) bool { return o.key == keyTerm })
	if when.key == keyTerm && !takesTerm {
		now, _, err := f.engine.get(ctx, keyTerm)
		if err != nil {
			return false, 0, err
		}
		when.value = string(now.value)
	}
	return f.engine.apply(ctx, when, ops)
}

// history collects operations with the order of their calls and returns.
type history struct {
	clock atomic.Int64
	mu    sync.Mutex
	ops   []porcupine.Operation
}

func (h *history) do(client int, input any, f func() any) any {
	call := h.clock.Add(1)
	output := f()
	o := porcupine.Operation{ClientId: client, Input: input, Call: call, Output: output, Return: h.clock.Add(1)}
	if _, open := output.(uncertain); open {
		o.Return = math.MaxInt64
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
	return output
}

// leader is one process that believes it may write.
type leader struct {
	client  int
	history *history
	way     *unreliable
	ledger  ledger
	random  *rand.Rand
	last    wire.Loaded // as loaded and committed since; its term is 0 when the ledger must be loaded
	bound   int         // counts the binds, to give each a node of its own
	wide    bool        // rounds take two transactions
}

func (l *leader) load(ctx context.Context) {
	l.last = wire.Loaded{}
	l.history.do(l.client, loading{}, func() any {
		got, err := l.ledger.Load(ctx)
		if errors.Is(err, ErrTermLost) {
			return outrun{l.ledger.term}
		}
		if err != nil {
			return uncertain{err.Error()}
		}
		l.last = got
		out := loaded{term: got.Term}
		for i, name := range identities {
			at := slices.IndexFunc(got.Records, func(r wire.Record) bool { return r.Key.Name == name })
			if at >= 0 {
				out.bound[i] = boundNode(got.Records[at].Object)
			}
		}
		return out
	})
}

func boundNode(object []byte) string {
	var node string
	if err := json.Unmarshal(object, &node); err != nil {
		panic(fmt.Sprintf("object %q: %v", object, err))
	}
	return node
}

// bind binds one identity, or in a wide round the first and the last, which
// then stand in different transactions.
func (l *leader) bind(ctx context.Context) {
	in := binding{term: l.last.Term}
	l.bound++
	node := fmt.Sprintf("n%d-%d", l.client, l.bound)
	batch := wire.Batch{Round: l.last.Round + 1, ResourceVersion: l.last.ResourceVersion + 1}
	write := func(i int) {
		in.nodes[i] = node
		w := put("Pod", "d", identities[i], batch.ResourceVersion)
		w.Record.Object, _ = json.Marshal(node)
		batch.Writes = append(batch.Writes, w)
	}
	if !l.wide {
		write(l.random.IntN(len(identities)))
	} else {
		write(0)
		for i := range MaxWritesPerTransaction {
			batch.Writes = append(batch.Writes, put("ConfigMap", "d", fmt.Sprint(i), batch.ResourceVersion))
		}
		write(len(identities) - 1)
	}
	output := l.history.do(l.client, in, func() any {
		switch err := l.ledger.Commit(ctx, batch); {
		case err == nil:
			return done{}
		case errors.Is(err, ErrTermLost):
			return deposed{}
		default:
			return uncertain{err.Error()}
		}
	})
	if output != (done{}) {
		l.last = wire.Loaded{}
		return
	}
	l.last.Round, l.last.ResourceVersion = batch.Round, batch.ResourceVersion
}

// peek reads one key as anybody could; never in wide rounds, whose keys show
// before they count.
func (l *leader) peek(ctx context.Context) {
	i := l.random.IntN(len(identities))
	l.history.do(l.client, peek{i}, func() any {
		key, err := objectKey(record("Pod", "d", identities[i], 0).Key)
		if err != nil {
			panic(err)
		}
		e, found, err := l.way.get(ctx, key)
		switch {
		case err != nil:
			return uncertain{err.Error()}
		case !found:
			return bound{}
		}
		r, err := decodeRecord(e)
		if err != nil {
			panic(err)
		}
		return bound{boundNode(r.Object)}
	})
}

// step is one thing of what a leader does.
func (l *leader) step(ctx context.Context) {
	switch n := l.random.IntN(10); {
	case n == 0:
		if err := l.way.deliver(ctx); err != nil {
			panic(err)
		}
	case n == 1 || l.last.Term == 0:
		l.load(ctx)
	case n < 4 && !l.wide:
		l.peek(ctx)
	default:
		l.bind(ctx)
	}
}

// race lets leaders work on one engine at once. All of them load before any of
// them binds, so that all but one have lost their term without knowing; calm ones
// load in turn, so that none of them knows.
func race(ctx context.Context, shared engine, seed uint64, wide, calm bool, leaders, steps int) []porcupine.Operation {
	h := &history{}
	var running, begun sync.WaitGroup
	begun.Add(leaders)
	for client := range leaders {
		random := rand.New(rand.NewPCG(seed, uint64(client)))
		way := &unreliable{engine: shared, random: random, calm: calm}
		l := &leader{client: client, history: h, way: way, random: random, wide: wide,
			ledger: ledger{engine: way, now: start, log: quiet()}}
		if calm {
			l.load(ctx)
		}
		running.Go(func() {
			if !calm {
				l.load(ctx)
			}
			begun.Done()
			begun.Wait()
			if l.last.Term != 0 {
				l.bind(ctx)
			}
			for range steps {
				l.step(ctx)
			}
		})
	}
	running.Wait()
	return h.ops
}

// patience bounds the search for an order; histories are short enough for a
// fraction of it.
const patience = time.Minute

func checkHistory(t *testing.T, seed uint64, ops []porcupine.Operation) {
	t.Helper()
	result := porcupine.CheckOperationsTimeout(bindingModel, ops, patience)
	if result != porcupine.Ok {
		t.Fatalf("seed %d: the history is %s:\n%s", seed, result, describe(ops))
	}
}

func describe(ops []porcupine.Operation) string {
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var b strings.Builder
	for _, o := range ops {
		to := fmt.Sprint(o.Return)
		if o.Return == math.MaxInt64 {
			to = "open"
		}
		fmt.Fprintf(&b, "%3d..%-4s leader %d %s\n", o.Call, to, o.ClientId, bindingModel.DescribeOperation(o.Input, o.Output))
	}
	return b.String()
}

// outcomes counts what the histories held: a check of histories in which
// nothing happened proves nothing.
type outcomes map[string]int

func (o outcomes) add(ops []porcupine.Operation) {
	for _, x := range ops {
		o[fmt.Sprintf("%T %T", x.Input, x.Output)]++
	}
}

func (o outcomes) want(t *testing.T, kinds ...string) {
	t.Helper()
	for _, k := range kinds {
		if o[k] == 0 {
			t.Errorf("no history held %s: %v", k, o)
		}
	}
}

// Bindings, terms and what is read of them behave as if one operation came
// after the other, whoever leads and whatever answers get lost (S16).
func TestBindAndFenceAreLinearizable(t *testing.T) {
	memory := func(t *testing.T) func() engine { return func() engine { return NewMemory(start).data } }
	etcd := func(t *testing.T) func() engine {
		e := openEtcd(t, t.TempDir()).engine.(*etcdEngine)
		return func() engine { emptyEtcd(t, e); return e }
	}
	for _, c := range []struct {
		name      string
		fresh     func(t *testing.T) func() engine
		histories uint64
		wide      bool
	}{
		{"memory", memory, 150, false},
		{"memory, rounds of two transactions", memory, 60, true},
		{"etcd", etcd, 12, false},
		{"etcd, rounds of two transactions", etcd, 6, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			fresh := c.fresh(t)
			seen := outcomes{}
			for seed := range c.histories {
				ops := race(t.Context(), fresh(), seed, c.wide, false, 4, 9)
				checkHistory(t, seed, ops)
				seen.add(ops)
			}
			t.Log(seen)
			seen.want(t, "store.loading store.loaded", "store.loading store.uncertain",
				"store.binding store.done", "store.binding store.deposed", "store.binding store.uncertain")
			if !c.wide {
				seen.want(t, "store.peek store.bound")
			}
		})
	}
}

// The check finds a store that lets an earlier leader write: it can fail.
func TestAStoreThatIgnoresTheTermIsFound(t *testing.T) {
	for seed := range uint64(5) {
		ops := race(t.Context(), forgetful{NewMemory(start).data}, seed, false, true, 3, 4)
		if result := porcupine.CheckOperationsTimeout(bindingModel, ops, patience); result != porcupine.Illegal {
			t.Errorf("seed %d: the history is %s, want %s:\n%s", seed, result, porcupine.Illegal, describe(ops))
		}
	}
}
