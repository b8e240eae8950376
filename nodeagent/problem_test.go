package nodeagent

import (
	"errors"
	"testing"
	"time"

	"fairlead/schema"
)

func TestWhatLastsIsTold(t *testing.T) {
	var c Core
	at := func(d time.Duration) time.Time { return time.Unix(1000, 0).Add(d) }
	reason := func() string {
		if told := c.problem.told(); told != nil {
			return told.Reason
		}
		return ""
	}
	c.Unlisted(errors.New("first"), at(0))
	c.Refused(errors.New("first"), at(time.Second))
	if got := reason(); got != "" {
		t.Errorf("at once %q is told", got)
	}
	c.Refused(errors.New("then"), at(time.Second+problemAfter))
	if got := reason(); got != schema.ReasonNetworkUnavailable {
		t.Errorf("of a network that was refused for long %q is told", got)
	}
	c.Unlisted(errors.New("then"), at(problemAfter))
	c.Unlisted(errors.New("at last"), at(2*problemAfter))
	if told := c.problem.told(); told == nil || told.Message != "the container runtime has not answered for 30s: then" {
		t.Errorf("of a runtime that was silent for long %v is told", told)
	}
	if !c.Checked("no cgroups") || c.Checked("no cgroups") {
		t.Error("what a machine lacks is news once")
	}
	if got := reason(); got != schema.ReasonNodeUnfit {
		t.Errorf("of a machine that lacks something %q is told", got)
	}
	c.Checked("")
	c.problem.runtime.over()
	c.problem.networking.over()
	c.Unlisted(errors.New("again"), at(3*problemAfter))
	if got := reason(); got != "" {
		t.Errorf("after all was well %q is told at once", got)
	}
}
