package nodeagent

import (
	"errors"
	"testing"
	"time"

	"fairlead/schema"
)

func TestWhatLastsIsTold(t *testing.T) {
	var p problems
	at := func(d time.Duration) time.Time { return time.Unix(1000, 0).Add(d) }
	reason := func() string {
		if told := p.told(); told != nil {
			return told.Reason
		}
		return ""
	}
	p.unlisted(errors.New("first"), at(0))
	p.refused(errors.New("first"), at(time.Second))
	if got := reason(); got != "" {
		t.Errorf("at once %q is told", got)
	}
	p.refused(errors.New("then"), at(time.Second+problemAfter))
	if got := reason(); got != schema.ReasonNetworkUnavailable {
		t.Errorf("of a network that was refused for long %q is told", got)
	}
	p.unlisted(errors.New("then"), at(problemAfter))
	p.unlisted(errors.New("at last"), at(2*problemAfter))
	if told := p.told(); told == nil || told.Message != "the container runtime has not answered for 30s: then" {
		t.Errorf("of a runtime that was silent for long %v is told", told)
	}
	if !p.checked("no cgroups") || p.checked("no cgroups") {
		t.Error("what a machine lacks is news once")
	}
	if got := reason(); got != schema.ReasonNodeUnfit {
		t.Errorf("of a machine that lacks something %q is told", got)
	}
	p.checked("")
	p.runtime.over()
	p.networking.over()
	p.unlisted(errors.New("again"), at(3*problemAfter))
	if got := reason(); got != "" {
		t.Errorf("after all was well %q is told at once", got)
	}
}
