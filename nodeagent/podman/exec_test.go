package podman

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Turns are given in the order in which they are asked for, and who keeps one for
// long does not keep the others waiting.
func TestTurnsAreFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := make(turns, 1)
		began := time.Now()
		if _, err := turn.take(t.Context()); err != nil { // never done
			t.Fatal(err)
		}
		order := make(chan int, 3)
		for i := range cap(order) {
			go func() {
				done, err := turn.take(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				order <- i
				done()
				done() // a second time is nobody else's
			}()
			synctest.Wait()
		}
		for want := range cap(order) {
			if got := <-order; got != want {
				t.Errorf("turn %d went to %d", want, got)
			}
		}
		if waited := time.Since(began); waited != execTurn {
			t.Errorf("they waited %s for one that keeps its turn, want %s", waited, execTurn)
		}
		synctest.Wait()
		if len(turn) != 0 {
			t.Errorf("%d turns are never given back", len(turn))
		}
	})
}

func TestATurnCanBeGivenUp(t *testing.T) {
	turn := make(turns, 1)
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := turn.take(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	turn <- struct{}{}
	waiting, stop := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, stop)
	if _, err := turn.take(waiting); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
