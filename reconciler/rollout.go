package reconciler

import (
	"context"
	"fmt"
	"io"
	"time"

	"fairlead/reconciler/progress"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// View is a revision and its source as whoever follows it sees them now.
type View struct {
	Cluster  state.Reader
	Source   *schema.Source
	Revision *schema.Revision // nil while there is none of the commit yet
	Commit   string           // then, what is waited for; "" for the source's first one
	Moved    <-chan struct{}  // closed, or sent to, when there may be more to see; nil for never
}

// Look is how one sees a revision: in the master's tables, or by the API.
type Look func(context.Context) (View, error)

const (
	// lookEvery is how often a follower looks when nothing moves: often enough to say
	// what is waited for every fifteen seconds.
	lookEvery = 5 * time.Second
	// LeastWait is how long a rollout is followed at least, whatever its deadlines.
	LeastWait = 10 * time.Minute
	// longestWait is when a follower gives up on a rollout that moves and never ends:
	// before whatever carries its words does.
	longestWait = time.Hour
)

// Follow writes a line to out whenever something of the rollout moves, and while
// nothing does what is waited for, until it ends, ctx does, or no end can be
// expected any more. It returns what was seen last.
func Follow(ctx context.Context, look Look, now func() time.Time, out io.Writer) (View, error) {
	var story progress.Story
	var last View
	for {
		v, err := look(ctx)
		switch {
		case err != nil && (ctx.Err() == nil || last.Source == nil):
			return v, err
		case err != nil:
			return last, nil
		}
		last = v
		lines, ended := next(&story, v, now())
		for _, l := range lines {
			fmt.Fprintln(out, l)
		}
		if ended || waitedEnough(&story, v, now()) || !await(ctx, v.Moved) {
			return v, nil
		}
	}
}

func next(story *progress.Story, v View, now time.Time) (lines []string, ended bool) {
	if v.Revision == nil {
		return story.Before(v.Source, v.Commit, now), false
	}
	return story.Next(v.Cluster, v.Source, v.Revision, now)
}

// waitedEnough reports whether the revision must have been judged by now if it ever is.
func waitedEnough(story *progress.Story, v View, now time.Time) bool {
	waited := story.Waited(now)
	switch {
	case waited < LeastWait:
		return false
	case v.Revision == nil || waited >= longestWait:
		return true
	}
	return now.After(progress.Patience(v.Cluster, v.Source, v.Revision, now))
}

// await waits for a move or a while; false when ctx ended.
func await(ctx context.Context, moved <-chan struct{}) bool {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	select {
	case <-moved:
	case <-timer.C:
	case <-ctx.Done():
		return false
	}
	return true
}

// InFeed looks at a revision of the master's own.
func InFeed(feed *state.Feed, revision schema.RevisionName) Look {
	return func(context.Context) (View, error) {
		_, snap, moved, _ := feed.Since(0)
		rev, ok := state.Revision(snap, revision)
		if !ok {
			return View{}, fmt.Errorf("%s: the revision is not known to the cluster", revision)
		}
		src, ok := state.Source(snap, rev.Spec.Source)
		if !ok {
			return View{}, fmt.Errorf("%s: its source is gone", revision)
		}
		return View{Cluster: snap, Source: src, Revision: rev, Moved: moved}, nil
	}
}

// pushedLog is how many lines of a log a push is told of each piece of evidence.
const pushedLog = 10

// Tell writes to out what came of a revision: what its pods showed, if it does not
// work, and how it ended in the last line.
func Tell(v View, out io.Writer) {
	switch progress.OutcomeOf(v.Source, v.Revision) {
	case progress.UnderWay:
		fmt.Fprintln(out, "it has not ended; follow it with: fairlead status --wait")
		fallthrough
	case progress.Not:
		for _, l := range progress.Evidence(v.Revision.Status.Evidence, pushedLog) {
			fmt.Fprintln(out, l)
		}
	}
	fmt.Fprintln(out, progress.LastLine(v.Source, v.Revision))
}
