package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// The master's log names each commit's fate once, the reason with it, and nothing of
// what lies between.
func TestTheJournalTellsWhatBecomesOfCommits(t *testing.T) {
	rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-1"}, Spec: schema.RevisionSpec{Source: "main", Commit: "4f2a1c0d9b3e"}}
	feed := state.NewFeed(state.Empty(state.Counters{}))
	publish := func(phase schema.Phase, reason string) {
		tx := feed.Snapshot().Begin()
		next := rev.DeepCopyObject().(*schema.Revision)
		next.Enter(phase, metav1.NewTime(time.Unix(int64(len(rev.Status.Phases)), 0)), reason)
		tx.Put(next)
		rev = next.DeepCopyObject().(*schema.Revision)
		changes := tx.Changes()
		feed.Publish(tx.Commit(), changes)
	}
	var out bytes.Buffer
	log := logrus.New()
	log.SetOutput(&out)
	log.SetFormatter(&logrus.TextFormatter{DisableTimestamp: true, DisableColors: true})
	m := &master{feed: feed, log: logrus.NewEntry(log)}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // it tells what is there and ends
	at := feed.Snapshot().Counters().ResourceVersion
	publish(schema.PhaseSeen, "")
	publish(schema.PhaseValid, "2 objects")
	publish(schema.PhaseRollingOut, "applied")
	publish(schema.PhaseFailed, "no progress for 30s")
	m.keepJournal(ctx, at)
	want := `level=info msg=revision commit=4f2a1c0d9b3e phase=RollingOut reason=applied source=main
level=warning msg=revision commit=4f2a1c0d9b3e phase=Failed reason="no progress for 30s" source=main
`
	if got := strings.ReplaceAll(out.String(), "  ", " "); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
