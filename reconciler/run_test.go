package reconciler_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler"
	"fairlead/reconciler/control"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/objecttest"
	"fairlead/schema/wire"
)

// slowDisk takes its time for each round.
type slowDisk struct {
	takes  time.Duration
	breaks uint64 // the round that cannot be written, 0 for none

	mu      sync.Mutex
	begun   []uint64
	written []uint64
	pods    map[schema.Key]bool // in written rounds
}

func (d *slowDisk) Commit(_ context.Context, b wire.Batch) error {
	d.mu.Lock()
	d.begun = append(d.begun, b.Round)
	d.mu.Unlock()
	time.Sleep(d.takes)
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.Round == d.breaks {
		return errors.New("no space left on device")
	}
	d.written = append(d.written, b.Round)
	for _, w := range b.Writes {
		if w.Key.Kind == schema.KindPod {
			d.pods[w.Key] = true
		}
	}
	return nil
}

func (d *slowDisk) count() (begun, written, pods int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.begun), len(d.written), len(d.pods)
}

// running is a Loop on a slow disk.
type running struct {
	*reconciler.Loop
	disk  *slowDisk
	feed  *state.Feed
	stop  context.CancelFunc
	ended chan error
}

func runLoop(t *testing.T, disk *slowDisk) *running {
	c := newCluster(t, 0)
	disk.pods = map[schema.Key]bool{}
	log := logrus.New()
	log.SetOutput(io.Discard)
	ctx, stop := context.WithCancel(t.Context())
	r := &running{disk: disk, feed: state.NewFeed(c.machine.Snapshot()), stop: stop, ended: make(chan error, 1)}
	r.Loop = reconciler.NewLoop(reconciler.LoopConfig{Machine: c.machine, Store: disk, Feed: r.feed, Log: logrus.NewEntry(log), Now: time.Now})
	var running sync.WaitGroup
	running.Go(func() { r.ended <- r.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	return r
}

func (r *running) pods() (n int) {
	for range state.All[*corev1.Pod](r.feed.Snapshot(), "") {
		n++
	}
	return n
}

// many asks for more pods than one round makes.
func many(t *testing.T) reconciler.Candidate {
	return shop(t, objecttest.Commit(1), "v1", scale("web", 4_000))
}

// A round that carries work over is decided on while it is written, so that the
// disk never waits for the machine; and nobody sees what is not on the disk.
func TestRoundsAreDecidedWhileOthersAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t, &slowDisk{takes: time.Second})
		start := time.Now()
		if err := r.Submit(t.Context(), many(t)); err != nil {
			t.Fatal(err)
		}
		if _, written, _ := r.disk.count(); written != 1 || time.Since(start) != time.Second {
			t.Fatalf("the candidate's round is told durable after %v and %d written rounds, want 1s and 1", time.Since(start), written)
		}
		// The second round is being written now, and the third is decided: what comes
		// in meanwhile is of the fourth.
		time.Sleep(500 * time.Millisecond)
		begun, written, pods := r.disk.count()
		if begun != 2 || written != 1 || r.pods() != pods {
			t.Errorf("%d rounds are begun and %d written, %d pods are seen and %d on the disk", begun, written, r.pods(), pods)
		}
		start = time.Now()
		if err := r.Submit(t.Context(), shop(t, objecttest.Commit(2), "v2", nil)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 2500*time.Millisecond {
			t.Errorf("what comes in amid the second round is durable %v later, want with the fourth, 2.5s", took)
		}
		r.stop()
		if err := <-r.ended; err != nil {
			t.Fatal(err)
		}
	})
}

// Who asks for an instant to plan on gets one that is published, amid the rounds.
func TestBaseIsPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t, &slowDisk{takes: time.Second})
		if err := r.Post(t.Context(), many(t)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		base, err := r.Base(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if base.Snapshot != r.feed.Snapshot() {
			t.Error("the instant is not the published one")
		}
		if base.Queue.Rested() {
			t.Error("nothing waits in its queue, though pods are still to be made")
		}
		r.stop()
		if err := <-r.ended; err != nil {
			t.Fatal(err)
		}
	})
}

// A round that is being written when the loop stops is finished; what was decided
// on top of it never happened.
func TestStopFinishesTheRoundBeingWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t, &slowDisk{takes: time.Second})
		if err := r.Submit(t.Context(), many(t)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		r.stop()
		if err := <-r.ended; err != nil {
			t.Fatal(err)
		}
		if begun, written, _ := r.disk.count(); begun != 2 || written != 2 {
			t.Errorf("%d rounds are begun and %d written, want 2 of each", begun, written)
		}
		if err := r.Submit(context.Background(), many(t)); !errors.Is(err, reconciler.ErrStopped) {
			t.Errorf("got %v, want %v", err, reconciler.ErrStopped)
		}
	})
}

// After a round that could not be written nothing more is, and nobody is told.
func TestNothingFollowsARoundThatWasNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t, &slowDisk{takes: time.Second, breaks: 2})
		if err := r.Submit(t.Context(), many(t)); err != nil {
			t.Fatal(err)
		}
		seen := r.pods()
		waits := make(chan error, 1)
		go func() { waits <- r.Submit(t.Context(), many(t)) }()
		if err := <-r.ended; err == nil {
			t.Error("the loop ends without an error")
		}
		if err := <-waits; !errors.Is(err, reconciler.ErrStopped) {
			t.Errorf("who waits for a round after it gets %v, want %v", err, reconciler.ErrStopped)
		}
		if begun, _, _ := r.disk.count(); begun != 2 {
			t.Errorf("%d rounds are begun, want 2", begun)
		}
		if n := r.pods(); n != seen {
			t.Errorf("%d pods are seen, %d were before", n, seen)
		}
	})
}

// The values of a revision are held until its round is published, also when whoever
// handed it over waits no more.
func TestValuesOutliveWhoHandedThemOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t, &slowDisk{takes: time.Second})
		<-r.Begun()
		secret := func() []*schema.Desired {
			return []*schema.Desired{{Object: &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s"}, Data: map[string][]byte{"password": []byte("sesame")}}}}
		}
		f := &reconciler.Follower{
			Loop: r, Feed: r.feed, Engine: settle.NewEngine(control.Config{}), Vault: reconciler.NewVault([]byte("k")), Now: time.Now,
			Load: func(context.Context, schema.SourceName, schema.Tree, schema.SourceSpec, schema.Rights, []string) ([]*schema.Desired, schema.Diagnostics) {
				return secret(), nil
			},
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if _, _, err := f.Look(ctx, "main", opened(oneRepo{commit: objecttest.Commit(1)}), nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("it was waited for: %v", err)
		}
		f.Vault.Forget(r.feed.Snapshot) // as another source's push does
		time.Sleep(5 * time.Second)
		sealed, ok := state.Get[*corev1.Secret](r.feed.Snapshot(), "default", "s")
		if !ok {
			t.Fatal("the Secret did not come")
		}
		if _, known := f.Vault.Open(sealed); !known {
			t.Error("the Secret is there and its value is gone")
		}
		r.stop()
		if err := <-r.ended; err != nil {
			t.Fatal(err)
		}
	})
}

// Whoever hands something over is told once that nothing more comes of it.
func TestDeliveriesAreSettledOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t, &slowDisk{takes: time.Second})
		<-r.Begun()
		var settled atomic.Int32
		count := func() { settled.Add(1) }
		cancelled, cancel := context.WithCancel(t.Context())
		go func() { time.Sleep(100 * time.Millisecond); cancel() }()
		if err := r.Deliver(cancelled, many(t), count); !errors.Is(err, context.Canceled) || settled.Load() != 0 {
			t.Errorf("given up: %v, settled %d times", err, settled.Load())
		}
		time.Sleep(5 * time.Second)
		if settled.Load() != 1 {
			t.Errorf("after its round it is settled %d times", settled.Load())
		}
		if err := r.Deliver(t.Context(), shop(t, objecttest.Commit(2), "v2", nil), count); err != nil || settled.Load() != 2 {
			t.Errorf("waited for: %v, settled %d times", err, settled.Load())
		}
		r.stop()
		if err := <-r.ended; err != nil {
			t.Fatal(err)
		}
		if err := r.Deliver(t.Context(), many(t), count); !errors.Is(err, reconciler.ErrStopped) || settled.Load() != 3 {
			t.Errorf("after the loop's end: %v, settled %d times", err, settled.Load())
		}
	})
}
