package local

import (
	"context"
	"fmt"
	"time"
)

const (
	// ServeTimeout is how long `up` waits for what ran before to serve again, once the
	// nodes are ready: most programs have started by then, and a cluster that lacks one
	// is up all the same.
	ServeTimeout = time.Minute
	// serveInterval is how often `up` asks for that: each answer is all pods.
	serveInterval = 500 * time.Millisecond
)

// Serving is what of a cluster does not serve: what is awaited, since it ran before the
// nodes were started at a time, and what is not.
type Serving func(ctx context.Context, started time.Time) (awaited, lacking []string, err error)

// AwaitServing returns once nothing is awaited any more, when ctx ends, or after
// ServeTimeout, with what does not serve then; the error is ctx's. Of a cluster that was
// up already nothing is awaited but what has just stopped.
func (r Result) AwaitServing(ctx context.Context, look Serving, progress func(string)) ([]string, error) {
	started := r.started
	if started.IsZero() {
		started = time.Now()
	}
	waits, cancel := context.WithTimeout(ctx, ServeTimeout)
	defer cancel()
	ticker := time.NewTicker(serveInterval)
	defer ticker.Stop()
	say := waiting{progress: progress, began: time.Now()}
	lacking := []string{"what serves is not known: the master gave no answer"}
	for {
		awaited, others, err := look(waits, started)
		if err == nil && len(awaited) == 0 {
			return others, nil
		}
		if err == nil {
			lacking = append(awaited, others...)
			say.forThing(firstOf(awaited), time.Now())
		} else if waits.Err() == nil {
			lacking = []string{fmt.Sprintf("what serves is not known: %v", err)}
		}
		select {
		case <-ticker.C:
		case <-waits.Done():
			if err := ctx.Err(); err != nil {
				return lacking, fmt.Errorf("the cluster is up; wait for what ran before to serve: %w", err)
			}
			return lacking, nil
		}
	}
}

// firstOf is the first of the lines, with how many more there are.
func firstOf(lines []string) string {
	if n := len(lines) - 1; n > 0 {
		return fmt.Sprintf("%s (and %d more)", lines[0], n)
	}
	return lines[0]
}
