package reconciler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema/wire"
)

// Store makes rounds durable. Commit returns when the round would survive the
// machine; after any error nothing is known of it.
type Store interface {
	Commit(ctx context.Context, b wire.Batch) error
}

// ErrStopped is returned to whoever waits when the loop ends.
var ErrStopped = errors.New("the master is stopping")

const (
	// maxInputs is how many inputs one round takes.
	maxInputs = 256
	// commitDeadline is how long a round may take to become durable before the
	// leader gives its memory up, and commitRate, in bytes a second, what a slow disk
	// is given more for a large one: a whole tree is one round, and comes again.
	commitDeadline = 30 * time.Second
	commitRate     = 2 << 20
)

// LoopConfig is what a Loop needs.
type LoopConfig struct {
	Machine *Machine
	Store   Store
	Feed    *state.Feed
	Round   uint64 // number of the last durable round
	Log     *logrus.Entry
	Now     func() time.Time
}

// Loop is the shell around Machine: it gathers inputs, steps, makes the round
// durable, and only then publishes it. While one round is on its way to the disk,
// the next is decided.
type Loop struct {
	config LoopConfig
	inputs chan submission
	bases  chan chan<- Base
	begun  chan struct{} // closed after the first round
	done   chan struct{}
	waits  atomic.Pointer[[]Awaited] // what the machine awaited in the round published last
	rounds roundTimes
}

type submission struct {
	input   Input
	durable chan<- struct{} // nil when nobody waits
	settled func()          // nil when nobody asks
}

// Base is an instant of the loop from which a plan may fork.
type Base struct {
	Snapshot *state.Snapshot
	Queue    *settle.Queue
}

// NewLoop prepares a loop; Run starts it.
func NewLoop(config LoopConfig) *Loop {
	l := &Loop{config: config, inputs: make(chan submission, maxInputs), bases: make(chan chan<- Base), begun: make(chan struct{}), done: make(chan struct{})}
	awaits := config.Machine.Awaited()
	l.waits.Store(&awaits)
	return l
}

// Rounds tells what the rounds have taken that were decided so far.
func (l *Loop) Rounds() RoundTimes { return l.rounds.read() }

// Begun is closed once the first round is published: from then on the sources
// of the configuration are there. A lost cluster is recovered by then.
func (l *Loop) Begun() <-chan struct{} { return l.begun }

// Awaited lists the nodes a lost cluster is still awaited from, sorted; none
// when nothing is recovered.
func (l *Loop) Awaited() []Awaited { return *l.waits.Load() }

// Submit hands an input to the loop and waits until the round that took it is
// durable and published.
func (l *Loop) Submit(ctx context.Context, in Input) error { return l.Deliver(ctx, in, func() {}) }

// Deliver is Submit that also tells, by calling settled once, when nothing more can come
// of the input: its round is published, or it was not taken. After Deliver has given up
// waiting for ctx that may be later. Of what a loop has when it ends it may not be told.
func (l *Loop) Deliver(ctx context.Context, in Input, settled func()) error {
	settled = sync.OnceFunc(settled)
	durable := make(chan struct{})
	if err := l.send(ctx, submission{in, durable, settled}); err != nil {
		settled()
		return err
	}
	select {
	case <-durable:
		return nil
	case <-l.done:
		settled()
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Post hands an input to the loop without waiting for its round.
func (l *Loop) Post(ctx context.Context, in Input) error { return l.send(ctx, submission{input: in}) }

func (l *Loop) send(ctx context.Context, s submission) error {
	select {
	case l.inputs <- s:
		return nil
	case <-l.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Base returns the published instant with a copy of what waits in the loop.
func (l *Loop) Base(ctx context.Context) (Base, error) {
	reply := make(chan Base, 1)
	select {
	case l.bases <- reply:
	case <-l.done:
		return Base{}, ErrStopped
	case <-ctx.Done():
		return Base{}, ctx.Err()
	}
	select {
	case base := <-reply:
		return base, nil
	case <-l.done:
		return Base{}, ErrStopped
	case <-ctx.Done():
		return Base{}, ctx.Err()
	}
}

// Run runs rounds until ctx ends or a round cannot be made durable. After an
// error the caller drops everything and starts from the store again.
func (l *Loop) Run(ctx context.Context) error {
	defer close(l.done)
	p := pipeline{loop: l, timer: time.NewTimer(0), begin: sync.OnceFunc(func() { close(l.begun) })}
	defer p.timer.Stop()
	for {
		p.advance(ctx)
		inputs, tick := l.inputs, p.timer.C
		if !p.mayDecide() {
			inputs, tick = nil, nil
		}
		select {
		case <-ctx.Done():
			return p.finish()
		case reply := <-l.bases:
			p.bases = append(p.bases, reply)
		case err := <-p.written:
			if err != nil {
				return err
			}
			p.publish()
		case s := <-inputs:
			p.decide(l.gather([]submission{s}))
		case <-tick:
			p.decide(l.gather(nil))
		}
	}
}

// pipeline is one Run: a round on its way to the disk and, behind it, at most one
// that is decided and waits. Only the goroutine of Run touches it.
type pipeline struct {
	loop    *Loop
	timer   *time.Timer
	begin   func()
	writing *decided
	written <-chan error // of writing
	next    *decided
	bases   []chan<- Base // who waits for an instant that is published
}

type decided struct {
	round *Round
	taken []submission
}

// mayDecide reports whether the next round may be decided. Ahead of one that is
// being written that is what the machine carries over: inputs alone had better
// gather meanwhile, for each round costs a turn of the disk.
func (p *pipeline) mayDecide() bool {
	if p.next != nil || len(p.bases) > 0 {
		return false
	}
	return p.writing == nil || !p.loop.config.Machine.queue.Rested()
}

// decide takes one more round; nothing waits behind the one that is written.
func (p *pipeline) decide(taken []submission) {
	inputs := make([]Input, len(taken))
	for i, s := range taken {
		inputs[i] = s.input
	}
	round := p.loop.Decide(inputs)
	p.next = &decided{round, taken}
	p.timer.Reset(max(0, round.Wake.Sub(p.loop.config.Now())))
}

// advance sends the next round to the disk when the one before it is there. When
// nothing is under way, machine and feed are at one instant, from which plans may
// fork.
func (p *pipeline) advance(ctx context.Context) {
	if p.writing != nil {
		return
	}
	if p.next != nil {
		p.writing, p.next = p.next, nil
		if p.writing.round.empty() {
			p.publish()
		} else {
			written := make(chan error, 1)
			p.written = written
			round := p.writing.round
			go func() { written <- p.loop.Write(ctx, round) }()
			return
		}
	}
	for _, reply := range p.bases {
		reply <- Base{p.loop.config.Machine.Snapshot(), p.loop.config.Machine.Queue()}
	}
	p.bases = nil
}

// publish shows the round that is written, and tells those who wait for it.
func (p *pipeline) publish() {
	d := p.writing
	p.writing, p.written = nil, nil
	p.loop.Publish(d.round)
	for _, s := range d.taken {
		if s.settled != nil {
			s.settled()
		}
		if s.durable != nil {
			close(s.durable)
		}
	}
	if len(p.loop.Awaited()) == 0 {
		p.begin()
	}
}

// finish waits for the round that is being written; one that only was decided
// never happened.
func (p *pipeline) finish() error {
	if p.writing == nil {
		return nil
	}
	if err := <-p.written; err != nil {
		return err
	}
	p.publish()
	return nil
}

// gather takes what else waits, without waiting for more.
func (l *Loop) gather(taken []submission) []submission {
	for len(taken) < maxInputs {
		select {
		case s := <-l.inputs:
			taken = append(taken, s)
		default:
			return taken
		}
	}
	return taken
}

// Round is a decided round of a Loop.
type Round struct {
	Wake   time.Time // when to decide again at the latest
	number uint64
	out    Output
	awaits []Awaited
}

func (r *Round) empty() bool { return len(r.out.Changes) == 0 }

// Decide steps the machine. What it decides happened once Write and then Publish
// were called with it, in the order of the rounds; the next one may be decided, and
// only one goroutine decides, while this one is written. Run does all that, and so
// may a caller that runs the loop by itself.
func (l *Loop) Decide(inputs []Input) *Round {
	done := l.rounds.begin()
	out := l.config.Machine.Step(l.config.Now(), inputs)
	done()
	if len(out.Changes) > 0 {
		l.config.Round++
	}
	for _, w := range out.Withheld {
		l.config.Log.WithFields(logrus.Fields{"object": w.Key.String(), "reason": w.Why}).Error("an object cannot be stored: it stays as it was, and its revision is Invalid")
	}
	return &Round{Wake: out.Wake, number: l.config.Round, out: out, awaits: l.config.Machine.Awaited()}
}

// Write makes a round durable. A round that was begun is finished, also when ctx
// ends meanwhile. After an error nothing is known of the store, and the loop must
// not be used again.
func (l *Loop) Write(ctx context.Context, r *Round) error {
	if r.empty() {
		return nil
	}
	batch, err := encode(r.number, r.out)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadlineOf(batch))
	defer cancel()
	if err := l.config.Store.Commit(ctx, batch); err != nil {
		return fmt.Errorf("make round %d durable: %w", r.number, err)
	}
	return nil
}

func deadlineOf(b wire.Batch) time.Duration {
	bytes := 0
	for _, w := range b.Writes {
		if w.Record != nil {
			bytes += len(w.Record.Object)
		}
	}
	return commitDeadline + time.Duration(bytes)*time.Second/commitRate
}

// Publish shows a durable round to everybody.
func (l *Loop) Publish(r *Round) {
	if !r.empty() {
		l.config.Feed.Publish(r.out.Snapshot, r.out.Changes)
	}
	l.waits.Store(&r.awaits)
}

// encode turns a round into what the store keeps.
func encode(number uint64, out Output) (wire.Batch, error) {
	b := wire.Batch{
		Round: number, ResourceVersion: out.Counters.ResourceVersion, Creations: out.Counters.Creations,
		Writes: make([]wire.Write, len(out.Changes)),
	}
	err := onAllCores(len(b.Writes), func(i int) (err error) {
		b.Writes[i], err = encodeChange(out.Changes[i])
		return err
	})
	return b, err
}

func encodeChange(ch state.Change) (wire.Write, error) {
	w := wire.Write{Key: ch.Key}
	if ch.New == nil {
		return w, nil
	}
	data, err := wire.EncodeObject(ch.New)
	if err != nil {
		return w, fmt.Errorf("encode %s: %w", ch.Key, err)
	}
	w.Record = &wire.Record{Key: ch.Key, ResourceVersion: ch.RV, Object: data}
	return w, nil
}
