package nodeagent

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/schema/wire"
)

// tellMaster wakes the reporter.
func (a *Agent) tellMaster() { wake(a.changed) }

// report tells the master, on change and every interval. The next report is
// made after the last was answered, so that no event is told twice.
func (a *Agent) report(ctx context.Context) {
	away := false
	for {
		var r *wire.Report
		var number uint64
		if !a.ask(ctx, func() { r, number = a.core.Report(); a.latest.Store(r) }) {
			return
		}
		call, cancel := context.WithTimeout(ctx, callTimeout)
		err := a.cfg.Master.Report(call, r)
		cancel()
		switch {
		case err == nil:
			if away {
				a.log.Info("the master takes reports again")
			}
			away = false
			a.ask(ctx, func() {
				if a.core.Heard(number, time.Now()) {
					a.tellMaster()
				}
			})
		case !away && ctx.Err() == nil:
			away = true
			a.log.WithError(err).Warn("the master does not take reports")
		}
		if !a.worthReporting(ctx, err) {
			return
		}
	}
}

// worthReporting waits for a change or the interval; after a failure a moment
// passes either way. It reports false when ctx ended.
func (a *Agent) worthReporting(ctx context.Context, failed error) bool {
	wait := wire.ReportInterval
	changed := a.changed
	if failed != nil {
		wait, changed = retryInterval/2, nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-timer.C:
	}
	return true
}

// answerLog reads a container's log for the master, beside the loop. Nobody waits
// for a slot: a reader who is told at once that the node is busy asks again, one
// who waits may have left before the answer.
func (a *Agent) answerLog(ctx context.Context, r wire.LogRequest) {
	slots, answer := a.logSem, a.sendLog
	select {
	case slots <- struct{}{}:
	default:
		slots, answer = a.busySem, a.refuseLog
		select {
		case slots <- struct{}{}:
		default:
			return // the master gives up by itself
		}
	}
	a.tasks.Go(func() {
		defer func() { <-slots }()
		if err := answer(ctx, r); err != nil && ctx.Err() == nil {
			a.log.WithError(err).WithFields(logrus.Fields{"pod": r.Pod, "container": r.Container}).Warn("a log request was not answered")
		}
	})
}

func (a *Agent) refuseLog(ctx context.Context, r wire.LogRequest) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return a.cfg.Master.SendLog(ctx, r.ID, nil, fmt.Errorf("%w: %d", wire.ErrLogsBusy, logAnswers))
}

func (a *Agent) sendLog(ctx context.Context, r wire.LogRequest) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	attempt, err := a.dirs.logAttempt(r.Pod, r.Container, r.Options.Previous)
	if err != nil {
		return a.cfg.Master.SendLog(ctx, r.ID, nil, err)
	}
	log := logReader{
		path: a.dirs.log(r.Pod, r.Container, attempt), options: r.Options, now: time.Now(),
		alive: func() bool { return a.writes(r.Pod, r.Container, attempt) },
	}
	read, write := io.Pipe()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		write.CloseWithError(log.copy(ctx, write))
	}()
	err = a.cfg.Master.SendLog(ctx, r.ID, read, nil)
	cancel()
	read.Close()
	<-copied
	return err
}

// writes tells whether an attempt of a container runs, by the last report.
func (a *Agent) writes(uid types.UID, container string, attempt int) bool {
	r := a.latest.Load()
	if r == nil {
		return false
	}
	for _, p := range r.Pods {
		if p.UID != uid {
			continue
		}
		for _, c := range append(slices.Clone(p.Status.InitContainerStatuses), p.Status.ContainerStatuses...) {
			if c.Name == container {
				return c.State.Running != nil && int(c.RestartCount) == attempt
			}
		}
	}
	return false
}
