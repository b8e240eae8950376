package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/api/meta"

	"fairlead/cmd/fairlead/internal/config"
	"fairlead/reconciler/state"
	"fairlead/reconciler/store"
	"fairlead/schema"
	"fairlead/schema/wire"
)

const asideTree = `apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {k: v}
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: shop}
stringData: {k: v}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: localhost/web:v1}]}
`

// The daemon on its own etcd, with one record of each kind damaged: it starts, says
// so, and everything is there again; the next start knows of what was set aside.
func TestMasterStartsWithoutWhatItCannotRead(t *testing.T) {
	repo := newOutsideRepo(t, filepath.Join(t.TempDir(), "shop"))
	repo.commit("all", map[string]string{"all.yaml": asideTree})
	c := asideConfig(t, repo.dir)

	var before []string
	runMaster(t, c, func(m *master) bool {
		before = objectsOf(m.feed.Snapshot())
		_, made := state.Revision(m.feed.Snapshot(), schema.RevisionOf("main", schema.Commit(repo.git("rev-parse", "HEAD"))))
		return made && m.feed.Snapshot().Len(schema.KindPod) == 2 && m.feed.Snapshot().Len(schema.KindEvent) > 0
	})
	damaged := damageStore(t, c)
	if len(damaged) < 9 {
		t.Fatalf("only these kinds were damaged: %v", damaged)
	}
	runMaster(t, c, func(m *master) bool {
		src, ok := state.Source(m.feed.Snapshot(), "main")
		return ok && meta.IsStatusConditionTrue(src.Status.Conditions, schema.ConditionComplete) &&
			slices.Equal(objectsOf(m.feed.Snapshot()), before) && int(m.aside.Load()) == len(damaged)
	})
	runMaster(t, c, func(m *master) bool {
		return slices.Equal(objectsOf(m.feed.Snapshot()), before) && int(m.aside.Load()) == len(damaged)
	})
}

func TestStatusTellsWhatTheMasterSaysOfItself(t *testing.T) {
	got := attention("[+]recovery ok\n[!]records: 2 of the store\nreadyz check passed\n")
	if want := []string{"records: 2 of the store"}; !slices.Equal(got, want) || len(attention("ok")) > 0 {
		t.Errorf("got %q, want %q", got, want)
	}
}

func asideConfig(t *testing.T, url string) config.Master {
	t.Helper()
	dir, err := os.MkdirTemp("", "fl") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.yaml")
	if err := config.Write(path, config.Master{
		Dir: dir, RunDir: dir, Listen: address, Advertise: address, Sources: []config.Source{{Name: "main", Spec: schema.SourceSpec{URL: url}}},
	}); err != nil {
		t.Fatal(err)
	}
	c, err := config.ReadMaster(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// runMaster runs the daemon until the cluster is as wanted, and ends it.
func runMaster(t *testing.T, c config.Master, is func(*master) bool) {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m, err := newMaster(ctx, c, logrus.NewEntry(log))
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	ended := make(chan error, 1)
	go func() { ended <- m.run(ctx) }()
	late := time.After(time.Minute)
	for done := false; !done; {
		select {
		case err := <-ended:
			t.Fatalf("the master ended: %v", err)
		case <-late:
			t.Errorf("the cluster is not as wanted after a minute: %v, %d set aside", objectsOf(m.feed.Snapshot()), m.aside.Load())
			done = true
		case <-time.After(20 * time.Millisecond):
			done = is(m)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the master ended with %v", err)
	}
}

// objectsOf are the keys of what has a name that stays.
func objectsOf(s *state.Snapshot) (out []string) {
	for _, info := range schema.Kinds() {
		if slices.Contains([]schema.Kind{schema.KindPod, schema.KindEvent, schema.KindEndpointSlice}, info.Kind) {
			continue
		}
		for obj := range s.List(info.Kind, "") {
			out = append(out, schema.KeyOf(obj).String())
		}
	}
	return out
}

// damageStore overwrites the last record of each kind.
func damageStore(t *testing.T, c config.Master) map[schema.Kind]schema.Key {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	s, err := store.OpenEtcd(t.Context(), store.Config{Dir: filepath.Join(c.Dir, "etcd"), SocketDir: c.RunDir, Log: logrus.NewEntry(log), Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	loaded, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last := map[schema.Kind]schema.Key{}
	for _, r := range loaded.Records {
		last[r.Key.Kind] = r.Key
	}
	b := wire.Batch{Round: loaded.Round + 1, ResourceVersion: loaded.ResourceVersion, Creations: loaded.Creations}
	for _, key := range last {
		b.Writes = append(b.Writes, wire.Write{Key: key, Record: &wire.Record{Key: key, ResourceVersion: loaded.ResourceVersion, Object: []byte("P\xff\xff\xff")}})
	}
	if err := s.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	return last
}
