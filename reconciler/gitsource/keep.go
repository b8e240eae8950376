package gitsource

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"time"
)

// Bounds of looking again after trouble.
const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
)

// Backoff is how long to wait after the attempt-th failure in a row, counted
// from 1: twice as long each time, up to five minutes, and a quarter more or less so
// that many sources behind one host do not come back at once. The share is
// derived from the source's name and the attempt: the same history waits the
// same.
func Backoff(source string, attempt int) time.Duration {
	wait := lastRetry
	if attempt < 10 {
		wait = min(lastRetry, firstRetry<<max(0, attempt-1))
	}
	sum := sha256.Sum256([]byte(source + "\x00" + strconv.Itoa(attempt)))
	share := float64(binary.BigEndian.Uint32(sum[:4])) / (1 << 32)
	return time.Duration(float64(wait) * (0.75 + share/2))
}

// Pace says how often a source is looked at.
type Pace struct {
	Source   string
	Interval time.Duration
	// Gap is how long a hint waits after the last look: hints may come from
	// anyone who can reach the door.
	Gap   time.Duration
	Hints <-chan struct{}
}

// Keep calls look at once, at every interval and soon after a hint, until ctx
// ends. After an error that is not a standing trouble the next look waits as
// Backoff says; a hint ends that wait.
func Keep(ctx context.Context, p Pace, look func(context.Context) error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	attempt := 0
	for {
		err := look(ctx)
		wait := p.Interval
		if err == nil || IsStanding(err) {
			attempt = 0
		} else {
			attempt++
			wait = Backoff(p.Source, attempt)
		}
		gap := time.Now().Add(p.Gap)
		if !pause(ctx, timer, wait, p.Hints) || !pause(ctx, timer, time.Until(gap), nil) {
			return
		}
	}
}

// pause waits for so long or for a hint; false when ctx ended.
func pause(ctx context.Context, timer *time.Timer, wait time.Duration, hints <-chan struct{}) bool {
	timer.Reset(max(0, wait))
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-hints:
	}
	return ctx.Err() == nil
}
