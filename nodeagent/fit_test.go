package nodeagent_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"fairlead/nodeagent"
	"fairlead/schema"
)

// A start that fails on a machine that lacks something is the machine's fault, whatever
// the runtime says; the node says so, looks again, and starts the pod when it is well.
func TestAMachineThatLacksSomethingIsToBlame(t *testing.T) {
	lied(t, func(r *rig) {
		r.await("the agent has begun", func() bool { return r.begun() })
		r.runtime.Fail("start", errors.New("no such file"))
		r.lacks.Store("conmon: not installed")
		r.run("uid-1", "containers: [{name: c, args: [stay]}]")
		r.awaitStatus("uid-1", "Pending "+schema.ReasonNodeError)
		r.await("the node says so", func() bool { return r.trouble() == schema.ReasonNodeUnfit })
		r.runtime.Fail("start", nil)
		r.lacks.Store("")
		r.await("the node is well", func() bool { return r.trouble() == "" })
		r.awaitStatus("uid-1", "Running Ready")
	})
}

// What a machine comes to lack while nothing is started is seen by itself.
func TestAMachineIsLookedAtNowAndThen(t *testing.T) {
	lied(t, func(r *rig) {
		r.await("the agent has begun", func() bool { return r.begun() })
		r.lacks.Store("storage: full")
		r.await("the node says so", func() bool { return r.trouble() == schema.ReasonNodeUnfit })
	})
}

// Before a machine passes its checks the node says what is lacking, and is not ready.
func TestAwaitFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, master: newMaster(), patience: time.Minute}
		r.lacks.Store("cgroups: none")
		log := logrus.New()
		log.SetOutput(io.Discard)
		done := make(chan struct{})
		go func() {
			nodeagent.AwaitFit(t.Context(), nodeagent.Config{Node: "n1", Checks: r.checks, Master: r.master, Log: logrus.NewEntry(log)})
			close(done)
		}()
		r.await("the node says so", func() bool { return r.trouble() == schema.ReasonNodeUnfit })
		select {
		case <-done:
			t.Fatal("it did not wait")
		default:
		}
		r.lacks.Store("")
		<-done
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r.lacks.Store("cgroups: none")
		nodeagent.AwaitFit(ctx, nodeagent.Config{Node: "n1", Checks: r.checks, Master: r.master, Log: logrus.NewEntry(log)})
	})
}

func (r *rig) begun() bool {
	r.master.mu.Lock()
	defer r.master.mu.Unlock()
	return r.master.report != nil
}
