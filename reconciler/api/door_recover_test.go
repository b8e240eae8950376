package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/reconciler/work"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// addKept adds to a node's work what it keeps for the master.
func addKept(k *work.Keeper, s *state.Snapshot, items wire.Items) {
	if k == nil {
		return
	}
	for key, value := range items {
		if uid, ok := strings.CutPrefix(key, wire.FamilyPods+"/"); ok {
			items[wire.FamilySeals+"/"+uid] = k.Seal(key, value)
		}
	}
	for _, info := range schema.Kinds() {
		for obj := range s.List(info.Kind, "") {
			if key, ok := work.RecordKey(obj); ok {
				items[key] = k.Record(key, obj)
			}
		}
	}
}

func TestRecordsMakeFramesOnlyWhenTheyChange(t *testing.T) {
	feed := state.NewFeed(sampleCluster())
	d := NewDoor(feed, DoorConfig{Keeper: work.NewKeeper([]byte("secret")), OpenSecret: emptySecrets}, logrus.StandardLogger())
	stream := d.Connect("n1", 0)
	d.Next(stream)
	d.Acknowledge("n1", feed.Snapshot().Counters().ResourceVersion)
	edit := func(change func(*appsv1.Deployment)) (wire.Frame, bool) {
		tx := feed.Snapshot().Begin()
		deployment, _ := state.Get[*appsv1.Deployment](tx, "shop", "api")
		next := state.Edit(deployment)
		change(next)
		tx.Put(next)
		changes := tx.Changes()
		feed.Publish(tx.Commit(), changes)
		d.Step()
		return d.Next(stream)
	}
	if f, ok := edit(func(d *appsv1.Deployment) { d.Status.ReadyReplicas++ }); ok {
		t.Errorf("a status makes the frame %+v", f)
	}
	f, ok := edit(func(d *appsv1.Deployment) { d.Annotations["deployment.kubernetes.io/revision"] = "2" })
	if _, has := f.Set["records/Deployment/shop/api"]; !ok || !has || len(f.Set) != 1 {
		t.Errorf("an annotation makes the frame %+v", f)
	}
	if got, want := d.Acked("n1"), feed.Snapshot().Counters().ResourceVersion; got != want {
		t.Errorf("acknowledged is %d, want %d: a record is not to be applied", got, want)
	}
}

func TestNodesCannotReadRecords(t *testing.T) {
	s := sampleCluster()
	items := wire.Items{}
	addKept(work.NewKeeper([]byte("secret")), s, items)
	all, err := json.Marshal(items)
	if err != nil || len(items) == 0 {
		t.Fatal(len(items), err)
	}
	for _, clear := range []string{"hunter2", "password", "greeting", "apiVersion", sampleCommit} {
		if strings.Contains(string(all), clear) {
			t.Errorf("%q stands in the records", clear)
		}
	}
}

// A lost store must look like nothing is known, never like nothing is wanted.
func TestLostStoreTellsNoWork(t *testing.T) {
	var told wire.Kept
	waiting := errors.New("waiting for n1")
	feed := state.NewFeed(state.Empty(state.Counters{ResourceVersion: sampleRV}))
	ts := startServer(t, func(c *Config) {
		c.Feed = feed
		c.Ready = func() error { return waiting }
		c.Door.Recovering = true
		c.Door.Recover = func(_ context.Context, node schema.NodeName, kept wire.Kept) error {
			if node != "n1" {
				return errors.New("who is " + string(node))
			}
			told = kept
			return nil
		}
	})
	agent, reader := ts.client("node:n1"), ts.client("reader:r")
	read := openWork(t, ts, "n1", 7)
	if f, err := read(); err != nil || !f.Recover || f.Hash != "" || len(f.Set)+len(f.Delete) > 0 {
		t.Fatalf("first frame %+v, %v; want nothing but the question", f, err)
	}
	for _, path := range []string{"/readyz", "/api/v1/pods", "/apis/fairlead/v1/sources"} {
		code, body, _ := do(t, reader, http.MethodGet, ts.url+path, nil)
		if code != http.StatusServiceUnavailable || !strings.Contains(string(body), "waiting for n1") || path != "/readyz" && !strings.Contains(string(body), `"reason":"`+schema.ReasonRecovering+`"`) {
			t.Errorf("%s answers %d %s", path, code, body)
		}
	}
	body, err := json.Marshal(wire.Kept{Version: 7, Items: wire.Items{"pods/u": []byte(`{}`)}})
	if err != nil {
		t.Fatal(err)
	}
	if code, answer, _ := do(t, agent, http.MethodPost, ts.url+wire.PathKept, body); code != http.StatusOK || told.Version != 7 || len(told.Items) != 1 {
		t.Errorf("%d %s; taken was %+v", code, answer, told)
	}
	if code, _, _ := do(t, reader, http.MethodPost, ts.url+wire.PathKept, body); code != http.StatusForbidden {
		t.Errorf("a reader tells what a node kept: %d", code)
	}
	tx := feed.Snapshot().Begin()
	tx.Put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	tx.Put(sampleNode("n1", "10.0.0.1", "10.112.0.0/22", corev1.ConditionTrue))
	changes := tx.Changes()
	feed.Publish(tx.Commit(), changes)
	for {
		f, err := read()
		if err != nil {
			t.Fatal(err)
		}
		if f.Recover {
			continue
		}
		if f.Since != 0 || f.Hash == "" || f.Set["node"] == nil {
			t.Fatalf("the first frame of the recovered cluster is %+v, want the whole", f)
		}
		break
	}
	await(t, func() bool {
		code, _, _ := do(t, reader, http.MethodGet, ts.url+"/api/v1/pods", nil)
		return code == http.StatusOK
	})
}
