// Package settle answers "what follows from this?": it runs controllers and
// scheduler over what changed until the cluster rests. The master's loop and
// every plan call the same engine, which is why a plan is what happens. It is
// pure: the time is an argument, and the same inputs in the same order give
// byte-equal decisions.
package settle

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/control"
	"fairlead/reconciler/scheduler"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// MaxVisits is how often one item may be visited without outside input before
// it is parked: two controllers that undo each other must not take the master.
const MaxVisits = 20

// MaxChanged is after how many changes one Run leaves the rest for the next
// round, so that a round stays short whatever is asked. Pods that were made are
// still placed in it, up to MaxPlaced changes in all: each is then written once.
const (
	MaxChanged = 1000
	MaxPlaced  = 3 * MaxChanged
)

// item is one controller's interest in one key.
type item struct {
	controller int
	key        schema.Key
}

// Queue is what still has to be looked at and when to look again, and what
// placement knows of the cluster. It belongs to one line of snapshots and outlives
// its rounds; the zero Queue is not usable, see NewQueue.
type Queue struct {
	waiting []item
	placing []item // of placement, before all others
	queued  map[item]bool
	wakes   map[item]time.Time
	visits  map[item]int // since the last outside input
	parked  map[item]string

	view   *scheduler.View // nil until the first pod is placed
	viewAt uint64          // the resourceVersion that view has followed
}

// NewQueue returns an empty queue.
func NewQueue() *Queue {
	return &Queue{queued: map[item]bool{}, wakes: map[item]time.Time{}, visits: map[item]int{}, parked: map[item]string{}}
}

// Clone copies the queue, for a plan.
func (q *Queue) Clone() *Queue {
	out := &Queue{
		waiting: slices.Clone(q.waiting), placing: slices.Clone(q.placing), queued: map[item]bool{}, wakes: maps.Clone(q.wakes),
		visits: map[item]int{}, parked: maps.Clone(q.parked),
	}
	// Copied as a map it would have the room of the most that ever waited.
	for _, list := range [][]item{q.waiting, q.placing} {
		for _, it := range list {
			out.queued[it] = true
		}
	}
	if q.view != nil {
		out.view, out.viewAt = q.view.Clone(), q.viewAt
	}
	return out
}

// follow drops the view unless it has followed all that came before the changes,
// which are about to be noted.
func (q *Queue) follow(tx *state.Txn, changes []state.Change) {
	at := tx.Counters().ResourceVersion
	if len(changes) > 0 {
		at = changes[0].RV - 1 // each change counts one
	}
	if q.viewAt != at {
		q.view = nil
	}
}

// Rested reports whether nothing waits to be visited now.
func (q *Queue) Rested() bool { return len(q.waiting)+len(q.placing) == 0 }

// NextWake is the earliest time something wants to be visited again, zero if
// nothing does.
func (q *Queue) NextWake() time.Time {
	var next time.Time
	for _, at := range q.wakes {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// Parked lists the items taken out of the loop, each with its reason, sorted.
func (q *Queue) Parked() []string { return slices.Sorted(maps.Values(q.parked)) }

// add appends it to one of the queue's lists unless it waits already.
func (q *Queue) add(list *[]item, it item) {
	if q.queued[it] {
		return
	}
	if _, ok := q.parked[it]; ok {
		return
	}
	q.queued[it] = true
	*list = append(*list, it)
}

// take removes the next item.
func (q *Queue) take() item {
	list := &q.placing
	if len(*list) == 0 {
		list = &q.waiting
	}
	it := (*list)[0]
	*list = (*list)[1:]
	delete(q.queued, it)
	return it
}

// due enqueues what wants to be visited by now; it reports whether anything does.
func (q *Queue) due(now time.Time) bool {
	var due []item
	for it, at := range q.wakes {
		if !at.After(now) {
			due = append(due, it)
		}
	}
	slices.SortFunc(due, func(a, b item) int {
		if c := q.wakes[a].Compare(q.wakes[b]); c != 0 {
			return c
		}
		if a.controller != b.controller {
			return a.controller - b.controller
		}
		return a.key.Compare(b.key)
	})
	for _, it := range due {
		delete(q.wakes, it)
		q.add(&q.waiting, it)
	}
	return len(due) > 0
}

// Engine runs the controllers and the scheduler. It holds no state of the
// cluster; one engine serves the loop and any number of plans.
type Engine struct {
	config      control.Config
	controllers []control.Controller
}

// NewEngine wires the controllers, the placement of pods last.
func NewEngine(config control.Config) *Engine {
	e := &Engine{config: config, controllers: control.Table()}
	e.controllers = append(e.controllers, control.Controller{Name: "placement"})
	return e
}

// Foreseeing is the engine for a plan: what only the time brings does not happen in it.
func (e *Engine) Foreseeing() *Engine {
	out := *e
	out.config.Foreseen = true
	return &out
}

// placement is the index of the engine's own controller.
func (e *Engine) placement() int { return len(e.controllers) - 1 }

// ForgetWakes drops the controllers' wake-ups, so that a plan follows only those
// its own candidate causes. Pods that wait for their planned node stay on their way.
func (e *Engine) ForgetWakes(q *Queue) {
	maps.DeleteFunc(q.wakes, func(it item, _ time.Time) bool { return it.controller != e.placement() })
}

// Context is what an edge needs to write to tx itself, at now.
func (e *Engine) Context(tx *state.Txn, now time.Time) *control.Context {
	return &control.Context{Tx: tx, Now: now, Config: e.config}
}

// EnqueueAll asks for a visit of every object by every controller that cares:
// the level trigger, used once at start.
func (e *Engine) EnqueueAll(q *Queue, r state.Reader) {
	for _, k := range schema.Kinds() {
		for obj := range r.List(k.Kind, "") {
			e.trigger(q, r, state.Change{Key: schema.KeyOf(obj), New: obj})
		}
	}
}

// Run notes what changed in tx since it was last looked at, then visits until
// nothing waits or enough was changed for one round. The caller's own changes count
// as outside input, and so does the time: all visits count anew from there, and
// the parkings of what was changed are lifted.
func (e *Engine) Run(tx *state.Txn, q *Queue, now time.Time) {
	run := &run{engine: e, tx: tx, q: q, ctx: e.Context(tx, now)}
	run.ctx.PutPod, run.ctx.TakenElsewhere = run.putPod, run.takenElsewhere
	input := tx.TakeDirty()
	q.follow(tx, input)
	if q.due(now) || len(input) > 0 {
		q.forgetVisits()
	}
	for _, c := range input {
		run.outside = true
		run.note(c)
	}
	run.outside = false
	changed := 0
	for !q.Rested() && changed < MaxChanged || len(q.placing) > 0 && changed < MaxPlaced {
		changed += run.visit(q.take())
	}
	run.tellParked()
	q.viewAt = tx.Counters().ResourceVersion
}

// keptVisits is how large a map of visits may be to be emptied rather than left
// to the collector: emptying one costs what it once held.
const keptVisits = 64

func (q *Queue) forgetVisits() {
	if len(q.visits) > keptVisits {
		q.visits = map[item]int{}
		return
	}
	clear(q.visits)
}

// run is one Run of the engine.
type run struct {
	engine  *Engine
	tx      *state.Txn
	q       *Queue
	ctx     *control.Context
	outside bool // the change being noted came from outside
	bound   int  // pods bound so far
	parked  []item
}

func (r *run) visit(it item) (changed int) {
	r.q.visits[it]++
	if n := r.q.visits[it]; n > MaxVisits {
		r.q.parked[it] = fmt.Sprintf("%s of %s parked after %d visits without outside input", r.engine.controllers[it.controller].Name, it.key, n-1)
		r.parked = append(r.parked, it)
		return 0
	}
	var wake time.Time
	if it.controller == r.engine.placement() {
		wake = r.place(it.key)
	} else {
		wake = r.engine.controllers[it.controller].Reconcile(r.ctx, it.key)
	}
	delete(r.q.wakes, it)
	if !wake.IsZero() {
		r.q.wakes[it] = wake
	}
	dirty := r.tx.TakeDirty()
	for _, c := range dirty {
		r.note(c)
	}
	return len(dirty)
}

// tellParked tells of what this Run parked in events on the objects. They come
// after all it did: an object that changed after the event had another chance.
func (r *run) tellParked() {
	for _, it := range r.parked {
		if obj := r.tx.Get(it.key); obj != nil {
			control.Event(r.ctx, obj, corev1.EventTypeWarning, schema.ReasonParked, r.q.parked[it])
		}
	}
	r.tx.TakeDirty() // no controller looks at events
}

// note enqueues whoever cares about a change.
func (r *run) note(c state.Change) {
	if r.q.view != nil {
		r.q.view.Update(r.tx, c)
	}
	if r.outside {
		r.lift(c)
	}
	r.engine.trigger(r.q, r.tx, c)
}

// lift gives the key of an outside change a new chance with every controller.
func (r *run) lift(c state.Change) {
	if len(r.q.parked) == 0 {
		return
	}
	for it := range r.q.parked {
		if it.key == c.Key {
			delete(r.q.parked, it)
		}
	}
}

func (e *Engine) trigger(q *Queue, r state.Reader, c state.Change) {
	for i := range e.controllers {
		if i == e.placement() {
			continue
		}
		for _, key := range e.controllers[i].Triggers(r, c) {
			q.add(&q.waiting, item{i, key})
		}
	}
	for _, key := range placementTriggers(r, c) {
		q.add(&q.placing, item{e.placement(), key})
	}
}
