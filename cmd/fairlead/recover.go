package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"fairlead/reconciler"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// recoveryTold is how often a master that waits for its nodes says so.
const recoveryTold = 10 * time.Second

// registered lists the nodes of the registry. A store without a single round
// beside nodes in the registry was lost.
func (m *master) registered() []schema.NodeName {
	var out []schema.NodeName
	for _, n := range m.authority.Nodes() {
		out = append(out, n.Name)
	}
	return out
}

// recover takes what a node kept of the cluster that was lost.
func (m *master) recover(ctx context.Context, node schema.NodeName, kept wire.Kept) error {
	memory, err := m.keeper.Recall(node, kept)
	if err != nil {
		m.refusals.Store(node, err)
		return err
	}
	m.refusals.Delete(node)
	for _, u := range memory.Unreadable {
		m.log.WithFields(logrus.Fields{"node": node, "key": u.Key, "reason": u.Why}).Error("a record that a node kept cannot be read and is left out")
	}
	m.log.WithFields(logrus.Fields{"node": node, "version": memory.Version, "records": len(memory.Records), "pods": len(memory.Pods)}).Info("a node told what it kept")
	return m.loop.Submit(ctx, reconciler.Recovered{Node: node, Memory: memory})
}

// setAside moves what cannot be read out of the store's way, says so, and has the
// machine make it anew as far as Git asks for it; before are those of earlier starts.
func (m *master) setAside(ctx context.Context, machine *reconciler.Machine, before int, unreadable []wire.Unreadable) error {
	m.aside.Store(int64(before + len(unreadable)))
	if before > 0 {
		m.log.WithFields(logrus.Fields{"records": before, "hint": "see docs/operations.md, records that cannot be read"}).Warn("the store holds records that earlier starts set aside")
	}
	if len(unreadable) == 0 {
		return nil
	}
	for _, u := range unreadable {
		m.log.WithFields(logrus.Fields{"key": u.Key, "reason": u.Why}).Error("a record cannot be read: it is set aside, and what Git asks for is created again")
	}
	machine.Missing(unreadable)
	return m.store.SetAside(ctx, unreadable)
}

// recovered says why nothing is decided yet; nil once everything is known.
func (m *master) recovered() error {
	var awaited []string
	for _, a := range m.loop.Awaited() {
		text := string(a.Node)
		if err, refused := m.refusals.Load(a.Node); refused {
			text += fmt.Sprintf(" (%v)", err)
		} else if a.Why != "" {
			text += " (" + a.Why + ")"
		}
		awaited = append(awaited, text)
	}
	if len(awaited) == 0 {
		return nil
	}
	return fmt.Errorf("the store was lost and is recovered from the nodes: waiting for %s", strings.Join(awaited, ", "))
}

// tellRecovery logs now and then whom a recovering master waits for.
func (m *master) tellRecovery(ctx context.Context) error {
	if m.recovered() == nil {
		return nil
	}
	tick := time.NewTicker(recoveryTold)
	defer tick.Stop()
	for {
		if err := m.recovered(); err != nil {
			m.log.WithField("hint", "nothing is decided before every registered node has answered; for one that is gone for good, stop the master, take it out of pki/nodes.json and start again").Warn(err)
		}
		select {
		case <-m.loop.Begun():
			m.log.Info("the cluster is recovered from its nodes")
			return nil
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
