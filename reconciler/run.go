package reconciler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
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
	// leader gives its memory up.
	commitDeadline = 30 * time.Second
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
// durable, and only then publishes it.
type Loop struct {
	config LoopConfig
	inputs chan submission
	bases  chan chan<- Base
	begun  chan struct{} // closed after the first round
	done   chan struct{}
	waits  atomic.Pointer[[]Awaited] // what the machine awaits
}

type submission struct {
	input   Input
	durable chan<- struct{} // nil when nobody waits
}

// Base is an instant of the loop from which a plan may fork.
type Base struct {
	Snapshot *state.Snapshot
	Queue    *settle.Queue
}

// NewLoop prepares a loop; Run starts it.
func NewLoop(config LoopConfig) *Loop {
	l := &Loop{config: config, inputs: make(chan submission, maxInputs), bases: make(chan chan<- Base), begun: make(chan struct{}), done: make(chan struct{})}
	l.noteAwaited()
	return l
}

// Begun is closed once the first round is published: from then on the sources
// of the configuration are there. A lost cluster is recovered by then.
func (l *Loop) Begun() <-chan struct{} { return l.begun }

// Awaited lists the nodes a lost cluster is still awaited from, sorted; none
// when nothing is recovered.
func (l *Loop) Awaited() []Awaited { return *l.waits.Load() }

func (l *Loop) noteAwaited() {
	waits := l.config.Machine.Awaited()
	l.waits.Store(&waits)
}

// Submit hands an input to the loop and waits until the round that took it is
// durable and published.
func (l *Loop) Submit(ctx context.Context, in Input) error {
	durable := make(chan struct{})
	if err := l.send(ctx, submission{in, durable}); err != nil {
		return err
	}
	select {
	case <-durable:
		return nil
	case <-l.done:
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
		return <-reply, nil
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
	timer := time.NewTimer(0)
	defer timer.Stop()
	begin := sync.OnceFunc(func() { close(l.begun) })
	for {
		var taken []submission
		select {
		case <-ctx.Done():
			return nil
		case reply := <-l.bases:
			reply <- Base{l.config.Machine.Snapshot(), l.config.Machine.Queue()}
			continue
		case s := <-l.inputs:
			taken = append(taken, s)
		case <-timer.C:
		}
		taken = l.gather(taken)
		inputs := make([]Input, len(taken))
		for i, s := range taken {
			inputs[i] = s.input
		}
		wake, err := l.Round(ctx, inputs)
		if err != nil {
			return err
		}
		for _, s := range taken {
			if s.durable != nil {
				close(s.durable)
			}
		}
		if len(l.Awaited()) == 0 {
			begin()
		}
		timer.Reset(max(0, wake.Sub(l.config.Now())))
	}
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

// Round is one round: it steps, makes durable what was decided, and only then
// publishes it. Run calls it, and so may a caller that runs the loop by itself.
// After an error nothing is known of the store, and the loop must not be used
// again.
func (l *Loop) Round(ctx context.Context, inputs []Input) (wake time.Time, err error) {
	out := l.config.Machine.Step(l.config.Now(), inputs)
	if len(out.Changes) > 0 {
		batch, err := encode(l.config.Round+1, out)
		if err != nil {
			return wake, err
		}
		// A round that was begun is finished, also when the master stops meanwhile.
		commitCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitDeadline)
		err = l.config.Store.Commit(commitCtx, batch)
		cancel()
		if err != nil {
			return wake, fmt.Errorf("make round %d durable: %w", batch.Round, err)
		}
		l.config.Round = batch.Round
		l.config.Feed.Publish(out.Snapshot, out.Changes)
	}
	l.noteAwaited()
	return out.Wake, nil
}

// encode turns a round into what the store keeps, on all cores: the disk waits
// for it.
func encode(number uint64, out Output) (wire.Batch, error) {
	b := wire.Batch{
		Round: number, ResourceVersion: out.Counters.ResourceVersion, Creations: out.Counters.Creations,
		Writes: make([]wire.Write, len(out.Changes)),
	}
	var g errgroup.Group
	for first := 0; first < len(b.Writes); first += encodedTogether {
		g.Go(func() error {
			for i := first; i < min(first+encodedTogether, len(b.Writes)); i++ {
				var err error
				if b.Writes[i], err = encodeChange(out.Changes[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return b, g.Wait()
}

// encodedTogether is how many objects one goroutine encodes.
const encodedTogether = 128

func encodeChange(ch state.Change) (wire.Write, error) {
	w := wire.Write{Key: ch.Key}
	if ch.New == nil {
		return w, nil
	}
	data, err := json.Marshal(ch.New)
	if err != nil {
		return w, fmt.Errorf("encode %s: %w", ch.Key, err)
	}
	w.Record = &wire.Record{Key: ch.Key, ResourceVersion: ch.RV, Object: data}
	return w, nil
}

// Restore builds the snapshot that a store's records describe.
func Restore(records []wire.Record, counters state.Counters) (*state.Snapshot, error) {
	tx := state.Empty(counters).Begin()
	for _, rec := range records {
		info, ok := schema.Lookup(rec.Key.Kind)
		if !ok {
			return nil, fmt.Errorf("stored object %s: this version does not know its kind", rec.Key)
		}
		obj := info.New()
		if err := json.Unmarshal(rec.Object, obj); err != nil {
			return nil, fmt.Errorf("stored object %s: %w", rec.Key, err)
		}
		obj.SetResourceVersion(strconv.FormatUint(rec.ResourceVersion, 10))
		tx.Restore(obj)
	}
	return tx.Commit(), nil
}
