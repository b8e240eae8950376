package main

import (
	"context"

	"github.com/sirupsen/logrus"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// told are the phases of a revision that the master's log tells, and whether they are
// as one would have it: what comes between them says nothing by itself.
var told = map[schema.Phase]logrus.Level{
	schema.PhaseRollingOut: logrus.InfoLevel,
	schema.PhaseHealthy:    logrus.InfoLevel,
	schema.PhaseSuperseded: logrus.InfoLevel,
	schema.PhaseInvalid:    logrus.WarnLevel,
	schema.PhaseHeld:       logrus.WarnLevel,
	schema.PhaseStalled:    logrus.WarnLevel,
	schema.PhaseFailed:     logrus.WarnLevel,
	schema.PhaseRolledBack: logrus.WarnLevel,
}

// keepJournal logs what becomes of commits after a version of the cluster, until ctx is
// done.
func (m *master) keepJournal(ctx context.Context, at uint64) {
	for {
		changes, snapshot, moved, _ := m.feed.Since(at) // what the feed has forgotten by now is not told
		for _, c := range changes {
			rev, ok := c.New.(*schema.Revision)
			if !ok {
				continue
			}
			for _, p := range entered(c) {
				if level, ok := told[p.Name]; ok {
					m.log.WithFields(logrus.Fields{
						"source": rev.Spec.Source, "commit": rev.Spec.Commit, "phase": p.Name, "reason": p.Reason,
					}).Log(level, "revision")
				}
			}
		}
		at = snapshot.Counters().ResourceVersion
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}

// entered are the phases that a change of a revision added. One that is seen anew
// begins anew.
func entered(c state.Change) []schema.PhaseRecord {
	phases := c.New.(*schema.Revision).Status.Phases
	old, ok := c.Old.(*schema.Revision)
	if !ok {
		return phases
	}
	same := 0
	for same < min(len(phases), len(old.Status.Phases)) && phases[same] == old.Status.Phases[same] {
		same++
	}
	return phases[same:]
}

// join lets a node in and logs it.
func (m *master) join(_ context.Context, req wire.JoinRequest) (wire.JoinResponse, error) {
	resp, err := m.authority.Join(req)
	log := m.log.WithFields(logrus.Fields{"node": req.Node, "address": req.NodeIP})
	if err != nil {
		log.WithError(err).Warn("node may not join")
		return resp, err
	}
	log.Info("node joined")
	return resp, nil
}

// countObjects is how many objects the cluster has.
func (m *master) countObjects() (n int) {
	snapshot := m.feed.Snapshot()
	for _, info := range schema.Kinds() {
		n += snapshot.Len(info.Kind)
	}
	return n
}
