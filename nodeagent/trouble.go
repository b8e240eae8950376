package nodeagent

import (
	"cmp"
	"fmt"
	"time"

	"fairlead/schema"
	"fairlead/schema/wire"
)

// troubleAfter is how long the runtime may be seen to answer nothing, or the
// network not be programmed, before the node says that it cannot work. A service
// that hangs is replaced sooner, and then it is no news.
const troubleAfter = 30 * time.Second

// troubles are why the node cannot work.
type troubles struct {
	runtime    lasting       // it lists nothing
	networking lasting       // it cannot be programmed
	unfit      *wire.Trouble // what the machine lacks, nil for nothing
}

// lasting is a trouble that may pass by itself: it is told of once it has lasted.
type lasting struct {
	since time.Time // zero while all is well
	told  *wire.Trouble
}

// over notes that all is well again.
func (l *lasting) over() { *l = lasting{} }

// goesOn notes that something failed once more. What it was when it had lasted for
// troubleAfter stays what is told.
func (l *lasting) goesOn(now time.Time, trouble *wire.Trouble) {
	if l.since.IsZero() {
		l.since = now
	}
	if l.told == nil && now.Sub(l.since) >= troubleAfter {
		l.told = trouble
	}
}

// silentRuntime is that the runtime gave no answer for troubleAfter, and what it failed
// with.
func silentRuntime(err error) *wire.Trouble {
	return &wire.Trouble{
		Reason: schema.ReasonRuntimeUnavailable, Message: fmt.Sprintf("the container runtime has not answered for %s: %v", troubleAfter, err),
	}
}

// refusingNetwork is that the node's network could not be programmed for troubleAfter.
func refusingNetwork(err error) *wire.Trouble {
	return &wire.Trouble{
		Reason: schema.ReasonNetworkUnavailable, Message: fmt.Sprintf("the node's network could not be programmed for %s: %v", troubleAfter, err),
	}
}

// unfit is a machine that lacks something.
func unfit(lacks string) *wire.Trouble {
	return &wire.Trouble{Reason: schema.ReasonNodeUnfit, Message: "the node cannot run containers: " + lacks}
}

// told is the trouble that a report has, nil for none.
func (t *troubles) told() *wire.Trouble { return cmp.Or(t.unfit, t.runtime.told, t.networking.told) }

// Refused notes that a network state could not be programmed. The caller tries on.
func (c *Core) Refused(err error, now time.Time) {
	c.trouble.networking.goesOn(now, refusingNetwork(err))
}

// Unlisted notes that the runtime did not list what runs. The caller tries on.
func (c *Core) Unlisted(err error, now time.Time) {
	c.trouble.runtime.goesOn(now, silentRuntime(err))
}

// Checked notes what the machine lacks to run containers, "" for nothing, and reports
// whether that is news.
func (c *Core) Checked(lacks string) (news bool) {
	was := c.trouble.unfit
	if c.trouble.unfit = nil; lacks != "" {
		c.trouble.unfit = unfit(lacks)
	}
	is := c.trouble.unfit
	return (was == nil) != (is == nil) || was != nil && *was != *is
}
