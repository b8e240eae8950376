package main

import (
	"context"

	"github.com/sirupsen/logrus"

	"fairlead/reconciler/progress"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// keepJournal logs what becomes of commits after a version of the cluster, until ctx is
// done.
func (m *master) keepJournal(ctx context.Context, at uint64) {
	for {
		changes, snapshot, moved, _ := m.feed.Since(at) // what the feed has forgotten by now is not told
		for _, c := range changes {
			for _, fate := range progress.Fates(c) {
				level := logrus.InfoLevel
				if fate.Bad {
					level = logrus.WarnLevel
				}
				m.log.WithFields(logrus.Fields{
					"source": fate.Revision.Spec.Source, "commit": fate.Revision.Spec.Commit, "phase": fate.Phase.Name, "reason": fate.Phase.Reason,
				}).Log(level, "revision")
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

// join lets a node in and logs it.
func (m *master) join(_ context.Context, req wire.JoinRequest) (wire.JoinResponse, error) {
	resp, err := m.authority.Join(req)
	log := m.log.WithFields(logrus.Fields{"node": req.Node, "address": req.NodeIPs.First()})
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
