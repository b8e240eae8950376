package api

import (
	"fmt"
	"strings"
	"testing"

	logrustest "github.com/sirupsen/logrus/hooks/test"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/reconciler/work"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// rolledOut puts a Deployment's replica sets: so many old ones, each with a template of
// its own of that size, and a current one with pods.
func rolledOut(tx *state.Txn, source, name string, olds, size int) {
	origin := map[string]string{schema.AnnotationSource: source}
	for i := range olds + 1 {
		replicas := int32(0)
		if i == olds {
			replicas = 1
		}
		tx.Put(&appsv1.ReplicaSet{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "shop", Name: fmt.Sprintf("%s-%d", name, i), Annotations: origin,
				OwnerReferences: []metav1.OwnerReference{{Kind: "Deployment", Name: name, Controller: new(true)}},
			},
			Spec: appsv1.ReplicaSetSpec{Replicas: &replicas, Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				Containers: []corev1.Container{{Name: "c", Env: []corev1.EnvVar{{Name: "V", Value: strings.Repeat("v", size)}}}},
			}}},
		})
	}
}

// remembered puts the revisions of a source, each with so many placements and all that a
// tree can be told to be wrong.
func remembered(tx *state.Txn, source string, revisions, placements int) {
	for i := range revisions {
		rev := &schema.Revision{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%012x", source, i)},
			Spec:       schema.RevisionSpec{Source: schema.SourceName(source), Commit: schema.Commit(fmt.Sprintf("%040x", i)), Subject: strings.Repeat("\x01", schema.MaxCommitText), Author: strings.Repeat("<", schema.MaxCommitText), Pusher: strings.Repeat("&", schema.MaxCommitText)},
		}
		for range schema.MaxPhaseRecords / 2 {
			rev.Enter(schema.PhaseSeen, metav1.Time{}, strings.Repeat("\"", schema.MaxReasonText))
			rev.Enter(schema.PhaseInvalid, metav1.Time{}, strings.Repeat(">", schema.MaxReasonText))
		}
		rev.Status.Diagnostics = schema.Diagnostics{{Message: strings.Repeat("\x01", schema.MaxDiagnosticsBytes), Severity: schema.Error}}.Fit()
		rev.Status.Placements = map[string]schema.NodeName{}
		for p := range placements {
			rev.Status.Placements[fmt.Sprintf("shop/%s-%030d", source, p)] = "n1"
		}
		tx.Put(rev)
	}
}

// However much history a source has, the frame to a node stays small, and the history of
// other sources is in it whole; the source is named, and comes back when it has less.
func TestTheHistoryOfOneSourceIsNotKeptAtTheCostOfOthers(t *testing.T) {
	const most = schema.MaxSpareBytes/3*4 + 1<<20
	tx := sampleCluster().Begin()
	rolledOut(tx, "quiet", "web", 10, 1<<10)
	remembered(tx, "quiet", 3, 10)
	feed := state.NewFeed(tx.Commit())
	log, told := logrustest.NewNullLogger()
	door := NewDoor(feed, DoorConfig{Keeper: work.NewKeeper([]byte("secret")), OpenSecret: emptySecrets}, log)
	whole := func() (wire.Frame, int) {
		f, _ := door.Next(door.Connect("n1", 0))
		data, err := f.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		return f, len(data)
	}
	publish := func(change func(tx *state.Txn)) {
		tx := feed.Snapshot().Begin()
		change(tx)
		changes := tx.Changes()
		feed.Publish(tx.Commit(), changes)
		door.Step()
	}
	before, _ := whole()

	publish(func(tx *state.Txn) {
		rolledOut(tx, "hostile", "many", 100, schema.MaxPodBytes)
		remembered(tx, "hostile", schema.KeptRevisions, 20_000)
	})
	during, size := whole()
	if size > most {
		t.Errorf("the frame has %d bytes, at most %d", size, most)
	}
	for key := range before.Set {
		if string(during.Set[key]) != string(before.Set[key]) {
			t.Errorf("%s is another one", key)
		}
	}
	if during.Set["records/ReplicaSet/shop/many-0"] != nil || during.Set["records/ReplicaSet/shop/many-100"] == nil {
		t.Error("of the hostile source the set with pods is to be kept, and no other one")
	}
	for i := range schema.KeptRevisions {
		if n := len(during.Set[fmt.Sprintf("records/Revision//hostile-%012x", i)]); n == 0 || n > schema.MaxBriefRevision/3*4+2*48 {
			t.Errorf("the record of revision %d has %d bytes", i, n)
		}
	}
	if n := len(told.AllEntries()); n != 1 || fmt.Sprint(told.LastEntry().Data["source"]) != "hostile" {
		t.Errorf("told %d things, last %v", n, told.LastEntry())
	}

	publish(func(tx *state.Txn) {
		for i := range 100 {
			tx.Delete(schema.Key{Kind: schema.KindReplicaSet, Namespace: "shop", Name: fmt.Sprintf("many-%d", i)})
		}
		for i := range schema.KeptRevisions {
			tx.Delete(schema.Key{Kind: schema.KindRevision, Name: fmt.Sprintf("hostile-%012x", i)})
		}
		rolledOut(tx, "hostile", "few", 2, 1<<10)
	})
	if after, _ := whole(); after.Set["records/ReplicaSet/shop/few-0"] == nil {
		t.Error("a history that has room again is not kept")
	}
}
