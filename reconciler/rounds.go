package reconciler

import (
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// RoundTimes is what the rounds of a Loop have taken, together and the longest.
type RoundTimes struct {
	Count         uint64
	Took, Longest time.Duration // by the clock
	// What the loop's own thread computed: what a round costs, however busy the
	// machine is otherwise.
	Computed, LongestComputed time.Duration
}

type roundTimes struct {
	mu    sync.Mutex
	times RoundTimes
}

func (r *roundTimes) read() RoundTimes {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.times
}

// begin measures a round until done is called, on the same goroutine, which keeps
// its thread meanwhile.
func (r *roundTimes) begin() (done func()) {
	runtime.LockOSThread()
	began, computed := time.Now(), threadTime()
	return func() {
		took, spent := time.Since(began), threadTime()-computed
		runtime.UnlockOSThread()
		r.mu.Lock()
		defer r.mu.Unlock()
		t := &r.times
		t.Count++
		t.Took, t.Longest = t.Took+took, max(t.Longest, took)
		t.Computed, t.LongestComputed = t.Computed+spent, max(t.LongestComputed, spent)
	}
}

// threadTime is the CPU time of the calling thread; 0 where it cannot be told.
func threadTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
