// Package sim answers "does it hold, whatever goes wrong?": it drives the steps
// of master, agents and supervisor, the same that the daemons run, with one
// goroutine, one queue and one clock, on an in-memory store, fake runtimes, a
// fake network and a fake Git. What goes wrong is drawn from a seed, so that a
// seed replays exactly. Every step is held to the invariants; at the end faults
// stop and the cluster has to come to be as Git asks. Only tests import it.
package sim

import (
	"container/heap"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"fairlead/reconciler/gittest"
	"fairlead/reconciler/store"
	"fairlead/schema"
)

// Options say what to run. The zero value of a field is its default.
type Options struct {
	Seed   uint64
	Skip   map[int]bool // faults of the seed's plan that are left out, by number
	Out    io.Writer    // hears every event; nil keeps the last ones only
	Script *Script      // instead of a plan drawn from the seed
}

// Result is how a run ended.
type Result struct {
	Seed      uint64
	Violation *Violation // nil: all held
	Faults    []Fault    // the plan, with what was skipped
	Events    []string   // the last ones
	Hash      uint64     // of all events: equal for equal seeds
	Now       time.Duration
}

// Violation is an invariant that did not hold.
type Violation struct {
	ID     string // of the invariant: "S3", "L1", …
	Detail string
}

func (v *Violation) Error() string { return v.ID + ": " + v.Detail }

// eventsKept is how many events a Result tells.
const eventsKept = 400

// epoch is when every run begins.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// World is one run.
type World struct {
	ctx    context.Context
	log    *logrus.Entry
	chance *rand.Rand // of delays and the like; faults have their own
	now    time.Time  // no process sees it: each host's clock is some way off
	queue  queue
	next   uint64
	out    io.Writer
	last   []string
	hash   interface {
		io.Writer
		Sum64() uint64
	}

	dir        string
	git        *gittest.Fake
	store      *store.Memory
	nodes      []*node
	master     *master
	supervisor *supervisor
	team       *team
	truth      *truth
	violation  *Violation
}

// event is something that happens at a time; what happens at the same time
// happens in the order it was arranged.
type event struct {
	at   time.Time
	turn uint64
	do   func()
}

type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].turn < q[j].turn
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// after arranges for do to happen.
func (w *World) after(d time.Duration, do func()) {
	w.next++
	heap.Push(&w.queue, event{w.now.Add(max(0, d)), w.next, do})
}

// between is some duration from lo to hi.
func (w *World) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.chance.Int64N(int64(hi-lo)+1))
}

// note tells an event.
func (w *World) note(format string, args ...any) {
	line := fmt.Sprintf("%9.3fs  %s", w.now.Sub(epoch).Seconds(), fmt.Sprintf(format, args...))
	_, _ = io.WriteString(w.hash, line+"\n")
	if w.out != nil {
		fmt.Fprintln(w.out, line)
	}
	if w.last = append(w.last, line); len(w.last) > 2*eventsKept {
		w.last = append([]string(nil), w.last[eventsKept:]...)
	}
}

// broken ends the run: an invariant does not hold.
func (w *World) broken(id, format string, args ...any) {
	if w.violation == nil {
		w.violation = &Violation{id, fmt.Sprintf(format, args...)}
		w.note("BROKEN %s", w.violation.Error())
	}
}

// until runs events until a moment, or until something is broken.
func (w *World) until(t time.Time) {
	for w.violation == nil && len(w.queue) > 0 && !w.queue[0].at.After(t) {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
	}
	if w.violation == nil {
		w.now = t
	}
}

func (w *World) pass(d time.Duration) { w.until(w.now.Add(d)) }

// await lets time pass until ok, for at most d; it reports whether ok.
func (w *World) await(d time.Duration, ok func() bool) bool {
	for end := w.now.Add(d); w.violation == nil && w.now.Before(end); w.pass(time.Second) {
		if ok() {
			return true
		}
	}
	return w.violation == nil && ok()
}

// stream separates what is drawn for one purpose from all else, so that leaving
// something out does not change the rest.
func stream(seed uint64, purpose string) *rand.Rand {
	h := fnv.New64a()
	_, _ = io.WriteString(h, purpose)
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// Run runs one seed, or a script.
func Run(o Options) (r Result) {
	dir, err := os.MkdirTemp(scratch(), "fairlead-sim-")
	if err != nil {
		return Result{Seed: o.Seed, Violation: &Violation{"setup", err.Error()}}
	}
	defer os.RemoveAll(dir)
	w := newWorld(o, dir)
	defer func() {
		if p := recover(); p != nil {
			w.broken("panic", "%v", p)
			w.note("%s", stack())
		}
		r.Seed, r.Violation, r.Events, r.Hash, r.Now = o.Seed, w.violation, w.last[max(0, len(w.last)-eventsKept):], w.hash.Sum64(), w.now.Sub(epoch)
	}()
	w.start()
	if o.Script != nil {
		o.Script.play(w)
		return r
	}
	r.Faults = w.drawFaults(o.Seed)
	w.live(r.Faults, o.Skip)
	return r
}

// scratch is where agents keep their files: memory, where there is any to be had.
func scratch() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// Shorten leaves out the faults of a failed run without which the same invariant
// breaks, at most tries runs.
func Shorten(o Options, failed Result, tries int) (Options, Result) {
	best := failed
	skip := map[int]bool{}
	for size := max(1, len(failed.Faults)/2); size >= 1 && tries > 0; size /= 2 {
		for from := 0; from < len(failed.Faults) && tries > 0; from += size {
			attempt := map[int]bool{}
			for k := range skip {
				attempt[k] = true
			}
			grew := false
			for i := from; i < min(from+size, len(failed.Faults)); i++ {
				grew = grew || !attempt[i]
				attempt[i] = true
			}
			if !grew {
				continue
			}
			tries--
			r := Run(Options{Seed: o.Seed, Skip: attempt})
			if r.Violation != nil && r.Violation.ID == failed.Violation.ID {
				skip, best = attempt, r
			}
		}
	}
	o.Skip = skip
	return o, best
}

// Tell is a failed run as a person reads it.
func (r Result) Tell(skip map[int]bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %v\n", r.Seed, r.Violation)
	for i, f := range r.Faults {
		if !skip[i] {
			fmt.Fprintf(&b, "  fault %d at %v: %s\n", i, f.At, f)
		}
	}
	for _, e := range r.Events {
		fmt.Fprintln(&b, e)
	}
	return b.String()
}

func newWorld(o Options, dir string) *World {
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	quiet.SetLevel(logrus.PanicLevel)
	w := &World{
		ctx: context.Background(), log: logrus.NewEntry(quiet), chance: stream(o.Seed, "chance"), now: epoch,
		out: o.Out, hash: fnv.New64a(), dir: dir, git: gittest.New(), store: store.NewMemory(epoch),
	}
	w.truth = newTruth(w)
	skew := stream(o.Seed, "clocks")
	count := 3 + skew.IntN(3)
	if o.Script != nil {
		count = o.Script.Nodes
	}
	for i := range count {
		w.nodes = append(w.nodes, newNode(w, i, time.Duration(skew.Int64N(int64(2*clockSkew)))-clockSkew))
	}
	w.master = &master{w: w, process: process{w: w, name: "master"}, skew: time.Duration(skew.Int64N(int64(2*clockSkew))) - clockSkew}
	w.supervisor = newSupervisor(w)
	w.team = newTeam(w, o.Seed)
	return w
}

// clockSkew is how far a host's clock may be off.
const clockSkew = 10 * time.Minute

func (w *World) start() {
	w.supervisor.step()
	w.truth.watch()
}

func (w *World) node(name schema.NodeName) *node {
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}
