package nodeagent

import (
	"cmp"
	"fmt"
	"time"

	"fairlead/schema"
	"fairlead/schema/wire"
)

// problemAfter is how long the runtime may be seen to answer nothing, or the
// network not be programmed, before the node says that it cannot work. A service
// that hangs is replaced sooner, and then it is no news.
const problemAfter = 30 * time.Second

// problems are why the node cannot work.
type problems struct {
	runtime    lasting           // it lists nothing
	networking lasting           // it cannot be programmed
	unfit      *wire.NodeProblem // what the machine lacks, nil for nothing
}

// lasting is a problem that may pass by itself: it is told of once it has lasted.
type lasting struct {
	since time.Time // zero while all is well
	told  *wire.NodeProblem
}

// over notes that all is well again.
func (l *lasting) over() { *l = lasting{} }

// again notes that something failed once more. What it was when it had lasted for
// problemAfter stays what is told.
func (l *lasting) again(now time.Time, problem *wire.NodeProblem) {
	if l.since.IsZero() {
		l.since = now
	}
	if l.told == nil && now.Sub(l.since) >= problemAfter {
		l.told = problem
	}
}

// silentRuntime is that the runtime gave no answer for problemAfter, and what it failed
// with.
func silentRuntime(err error) *wire.NodeProblem {
	return &wire.NodeProblem{
		Reason: schema.ReasonRuntimeUnavailable, Message: fmt.Sprintf("the container runtime has not answered for %s: %v", problemAfter, err),
	}
}

// refusingNetwork is that the node's network could not be programmed for problemAfter.
func refusingNetwork(err error) *wire.NodeProblem {
	return &wire.NodeProblem{
		Reason: schema.ReasonNetworkUnavailable, Message: fmt.Sprintf("the node's network could not be programmed for %s: %v", problemAfter, err),
	}
}

// unfit is a machine that lacks something.
func unfit(lacks string) *wire.NodeProblem {
	return &wire.NodeProblem{Reason: schema.ReasonNodeUnfit, Message: "the node cannot run containers: " + lacks}
}

// told is the problem that a report has, nil for none.
func (t *problems) told() *wire.NodeProblem {
	return cmp.Or(t.unfit, t.runtime.told, t.networking.told)
}

// refused notes that a network state could not be programmed.
func (t *problems) refused(err error, now time.Time) {
	t.networking.again(now, refusingNetwork(err))
}

// unlisted notes that the runtime did not list what runs.
func (t *problems) unlisted(err error, now time.Time) { t.runtime.again(now, silentRuntime(err)) }

// checked notes what the machine lacks, and reports whether that is news.
func (t *problems) checked(lacks string) (news bool) {
	was := t.unfit
	if t.unfit = nil; lacks != "" {
		t.unfit = unfit(lacks)
	}
	is := t.unfit
	return (was == nil) != (is == nil) || was != nil && *was != *is
}
