package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"fairlead/reconciler/state"
	"fairlead/reconciler/work"
	"fairlead/schema"
	"fairlead/schema/chance"
	"fairlead/schema/wire"
)

// modelAgent takes frames as an agent does.
type modelAgent struct {
	items   wire.Items
	version uint64
}

func (a *modelAgent) take(f wire.Frame) error {
	if f.Hash == "" {
		return nil
	}
	if f.Since != 0 && f.Since != a.version {
		return fmt.Errorf("frame since %d at version %d", f.Since, a.version)
	}
	items, err := a.items.Apply(f)
	if err != nil {
		return err
	}
	a.items, a.version = items, f.Version
	return nil
}

// TestDoorTellsEveryNodeItsWork changes a cluster at random and lets agents lose
// connections and acknowledge late: whatever the door sends adds up to work.For,
// and Acked never names a version whose work the agent does not have.
func TestDoorTellsEveryNodeItsWork(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		feed := state.NewFeed(sampleCluster())
		cfg := DoorConfig{Cluster: wire.ClusterInfo{ID: "test"}, OpenSecret: func(_, name string) (map[string][]byte, bool) {
			return map[string][]byte{"password": []byte(name)}, true
		}}
		if rapid.Bool().Draw(t, "kept for the master") {
			cfg.Keeper = work.NewKeeper([]byte("secret"))
		}
		d := NewDoor(feed, cfg, logrus.StandardLogger())
		names := []schema.NodeName{"n1", "n2"}
		agents := map[schema.NodeName]*modelAgent{"n1": {}, "n2": {}}
		streams := map[schema.NodeName]*WorkStream{}
		hashes := map[schema.NodeName]map[uint64]string{"n1": {}, "n2": {}} // of work
		wholes := map[schema.NodeName]map[uint64]string{"n1": {}, "n2": {}} // of work and what is kept for the master
		note := func() {
			s := feed.Snapshot()
			for _, name := range names {
				w := work.For(s, name, cfg.Cluster, cfg.OpenSecret)
				items := wire.Split(&w)
				hashes[name][s.Counters().ResourceVersion] = items.Hash()
				addKept(cfg.Keeper, s, items)
				wholes[name][s.Counters().ResourceVersion] = items.Hash()
			}
		}
		note()
		versions := []uint64{feed.Snapshot().Counters().ResourceVersion}
		steps := rapid.IntRange(1, 30).Draw(t, "steps")
		for range steps {
			name := rapid.SampledFrom(names).Draw(t, "node")
			agent := agents[name]
			switch rapid.SampledFrom([]string{"change", "change", "step", "connect", "read", "read", "report", "restart"}).Draw(t, "do") {
			case "change":
				tx := feed.Snapshot().Begin()
				randomChange(t, tx)
				changes := tx.Changes()
				if len(changes) == 0 {
					continue
				}
				feed.Publish(tx.Commit(), changes)
				note()
				versions = append(versions, feed.Snapshot().Counters().ResourceVersion)
			case "step":
				d.Step()
			case "connect":
				streams[name] = d.Connect(name, agent.version)
			case "restart":
				d = NewDoor(feed, cfg, logrus.StandardLogger())
				streams = map[schema.NodeName]*WorkStream{}
			case "read":
				if streams[name] == nil {
					continue
				}
				f, _ := d.Next(streams[name])
				if err := agent.take(f); err != nil {
					t.Fatal(err)
				}
				if want := wholes[name][agent.version]; agent.items.Hash() != want {
					t.Fatalf("%s at %d has other work than work.For", name, agent.version)
				}
			case "report":
				d.Acknowledge(name, agent.version)
			}
			for _, name := range names {
				checkAcked(t, d.Acked(name), agents[name].version, versions, hashes[name])
			}
		}
		for _, name := range names {
			d.Step()
			stream := d.Connect(name, agents[name].version)
			f, _ := d.Next(stream)
			if err := agents[name].take(f); err != nil {
				t.Fatal(err)
			}
			d.Acknowledge(name, agents[name].version)
			if got, want := d.Acked(name), versions[len(versions)-1]; got != want {
				t.Fatalf("%s has it all and %d acknowledged, want %d", name, got, want)
			}
		}
	})
}

// checkAcked: the agent's work is that of the newest version up to acked, or
// newer.
func checkAcked(t *rapid.T, acked, applied uint64, versions []uint64, hashes map[uint64]string) {
	t.Helper()
	newest := uint64(0)
	for _, v := range versions {
		if v <= acked {
			newest = v
		}
	}
	if newest > applied && hashes[newest] != hashes[applied] {
		t.Fatalf("acknowledged up to %d, but the work of %d differs from that of %d which the agent has", acked, newest, applied)
	}
}

func randomChange(t *rapid.T, tx *state.Txn) {
	for range rapid.IntRange(1, 3).Draw(t, "changes") {
		switch rapid.SampledFrom([]string{"config", "status", "endpoint", "service", "pod", "unpod", "node", "secret", "event", "unservice"}).Draw(t, "kind") {
		case "config":
			tx.Put(configMap(rapid.SampledFrom([]string{"api-config", "unused"}).Draw(t, "name"), fmt.Sprint(tx.Counters().ResourceVersion)))
		case "status":
			if pod, ok := state.Get[*corev1.Pod](tx, "shop", "api-5d9c7b-aaaaa"); ok {
				pod = state.Edit(pod)
				pod.Status.Message = "x"
				tx.Put(pod)
			}
		case "endpoint":
			s := sampleSlice("api", "api-x7x7x")
			s.Endpoints = s.Endpoints[:rapid.IntRange(0, 2).Draw(t, "endpoints")]
			tx.Put(s)
		case "service":
			tx.Put(&corev1.Service{ObjectMeta: meta("shop", "web", nil), Spec: corev1.ServiceSpec{ClusterIP: rapid.SampledFrom([]string{"10.96.0.30", "None"}).Draw(t, "ip")}})
		case "unservice":
			tx.Delete(schema.Key{Kind: schema.KindService, Namespace: "shop", Name: "web"})
		case "pod":
			name := rapid.SampledFrom([]string{"x", "y"}).Draw(t, "pod")
			tx.Put(samplePod(name, rapid.SampledFrom([]string{"n1", "n2", ""}).Draw(t, "on"), "10.112.0.7", nil, true))
		case "unpod":
			tx.Delete(schema.Key{Kind: schema.KindPod, Namespace: "shop", Name: rapid.SampledFrom([]string{"x", "y", "api-5d9c7b-aaaaa"}).Draw(t, "pod")})
		case "node":
			name := rapid.SampledFrom([]string{"n1", "n3"}).Draw(t, "name")
			if name == "n3" && rapid.Bool().Draw(t, "gone") {
				tx.Delete(schema.Key{Kind: schema.KindNode, Name: name})
				continue
			}
			tx.Put(sampleNode(name, "10.0.0.9", rapid.SampledFrom([]string{"10.112.8.0/22", "10.112.12.0/22"}).Draw(t, "cidr"), corev1.ConditionTrue))
		case "secret":
			tx.Put(&corev1.Secret{ObjectMeta: meta("shop", "api-secret", nil)})
		case "event":
			tx.Put(&corev1.Event{ObjectMeta: meta("shop", "e", nil)})
		}
	}
}

func emptySecrets(string, string) (map[string][]byte, bool) { return nil, true }

// An agent that runs pods is not told, while a master that has just started reads
// its sources, that their Secrets are gone; nor is it kept waiting for ever.
func TestFirstFrameWaitsForSecrets(t *testing.T) {
	known := false
	d := NewDoor(state.NewFeed(sampleCluster()), DoorConfig{OpenSecret: func(string, string) (map[string][]byte, bool) {
		return map[string][]byte{"password": []byte("x")}, known
	}}, logrus.StandardLogger())
	stream := d.Connect("n1", 0)
	if f, ok := d.Next(stream); ok {
		t.Errorf("a frame without the Secret: %+v", f)
	}
	known = true
	d.retryUnopened()
	if f, ok := d.Next(stream); !ok || len(f.Set["secrets/shop/api-secret"]) == 0 {
		t.Errorf("the Secret is known now, the frame is %+v", f)
	}

	known = false
	stream = d.Connect("n1", 0)
	d.rebuildOwn(stream.node)
	tries := 0
	for ; tries < 2*maxHeld; tries++ {
		if _, ok := d.Next(stream); ok {
			break
		}
		d.retryUnopened()
	}
	if tries != maxHeld {
		t.Errorf("the first frame is held for %d tries, want %d", tries, maxHeld)
	}
}

func TestOnlyWhatConcernsANodeMakesAFrame(t *testing.T) {
	feed := state.NewFeed(sampleCluster())
	d := NewDoor(feed, DoorConfig{OpenSecret: emptySecrets}, logrus.StandardLogger())
	stream := d.Connect("n1", 0)
	if f, ok := d.Next(stream); !ok || f.Since != 0 || len(f.Set) == 0 {
		t.Fatalf("the first frame is %+v, want the whole", f)
	}
	publish := func(change func(*state.Txn)) {
		tx := feed.Snapshot().Begin()
		change(tx)
		changes := tx.Changes()
		feed.Publish(tx.Commit(), changes)
		d.Step()
	}
	cases := []struct {
		name   string
		change func(*state.Txn)
		want   string // keys of the frame
	}{
		{"an event", func(tx *state.Txn) { tx.Put(&corev1.Event{ObjectMeta: meta("shop", "e", nil)}) }, ""},
		{"another ConfigMap", func(tx *state.Txn) { tx.Put(configMap("unused", "x")) }, ""},
		{"another node's pod", func(tx *state.Txn) { tx.Put(samplePod("x", "n2", "", nil, true)) }, ""},
		{"a pod's status", func(tx *state.Txn) {
			pod, _ := state.Get[*corev1.Pod](tx, "shop", "api-5d9c7b-aaaaa")
			pod = state.Edit(pod)
			pod.Status.Phase = corev1.PodFailed
			tx.Put(pod)
		}, ""},
		{"its own conditions", func(tx *state.Txn) { tx.Put(sampleNode("n1", "10.0.0.1", "10.112.0.0/22", corev1.ConditionFalse)) }, ""},
		{"its own address", func(tx *state.Txn) { tx.Put(sampleNode("n1", "10.0.0.7", "10.112.0.0/22", corev1.ConditionFalse)) }, ""},
		{"a peer's address", func(tx *state.Txn) { tx.Put(sampleNode("n2", "10.0.0.7", "10.112.4.0/22", corev1.ConditionTrue)) }, "peers/n2"},
		{"its ConfigMap", func(tx *state.Txn) { tx.Put(configMap("api-config", "x")) }, "configMaps/shop/api-config"},
		{"its pod", func(tx *state.Txn) {
			pod, _ := state.Get[*corev1.Pod](tx, "shop", "api-5d9c7b-aaaaa")
			pod = state.Edit(pod)
			pod.DeletionTimestamp = &metav1.Time{}
			tx.Put(pod)
		}, "pods/uid-api-5d9c7b-aaaaa"},
		{"an endpoint", func(tx *state.Txn) {
			s := sampleSlice("api", "api-x7x7x")
			s.Endpoints = nil
			tx.Put(s)
		}, "services/shop/api"},
	}
	for _, c := range cases {
		publish(c.change)
		f, ok := d.Next(stream)
		var keys []string
		for k := range f.Set {
			keys = append(keys, k)
		}
		if got := strings.Join(keys, " "); got != c.want || ok != (c.want != "") {
			t.Errorf("%s sends %q (%v), want %q", c.name, got, ok, c.want)
		}
	}
}

func TestASecretOpenedLateIsSent(t *testing.T) {
	opened := false
	d := NewDoor(state.NewFeed(sampleCluster()), DoorConfig{OpenSecret: func(string, string) (map[string][]byte, bool) {
		return map[string][]byte{"password": []byte("x")}, opened
	}}, logrus.StandardLogger())
	agent := &modelAgent{}
	stream := d.Connect("n1", 0)
	f, _ := d.Next(stream)
	if err := agent.take(f); err != nil || f.Set["secrets/shop/api-secret"] != nil {
		t.Fatalf("a sealed Secret was sent: %v %v", f, err)
	}
	opened = true
	d.retryUnopened()
	f, _ = d.Next(stream)
	if err := agent.take(f); err != nil || f.Set["secrets/shop/api-secret"] == nil {
		t.Fatalf("the opened Secret was not sent: %v %v", f, err)
	}
}

// openWork connects as a node and returns a function that reads the next frame.
func openWork(t testing.TB, ts *testServer, node string, since uint64) func() (wire.Frame, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s%s?since=%d", ts.url, wire.PathWork, since), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := ts.client("node:" + node).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		resp.Body.Close()
	})
	lines := bufio.NewReader(resp.Body)
	return func() (wire.Frame, error) {
		var f wire.Frame
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return f, err
		}
		return f, json.Unmarshal(line, &f)
	}
}

func TestWorkStreamAndReport(t *testing.T) {
	var reported wire.Report
	ts := startServer(t, func(c *Config) {
		c.Door.Report = func(_ context.Context, _ schema.NodeName, r wire.Report) error {
			reported = r
			return nil
		}
	})
	agent := &modelAgent{}
	next := openWork(t, ts, "n1", 0)
	take := func() {
		t.Helper()
		f, err := next()
		if err == nil {
			err = agent.take(f)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	take()
	w, err := wire.Join(agent.items)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(w.Secrets["shop/api-secret"]["password"]); got != "clear-api-secret" {
		t.Errorf("the node's Secret is %q", got)
	}
	rv := ts.publish(func(tx *state.Txn) { tx.Put(configMap("api-config", "new")) })
	take()
	if agent.version != rv {
		t.Errorf("agent is at %d, want %d", agent.version, rv)
	}

	report := func(client, node string) (int, string) {
		body, err := json.Marshal(wire.Report{Node: schema.NodeName(node), BootID: "b", AppliedVersion: agent.version})
		if err != nil {
			t.Fatal(err)
		}
		code, answer, _ := do(t, ts.client(client), http.MethodPost, ts.url+wire.PathReport, body)
		return code, string(answer)
	}
	if code, _ := report("node:n1", "n1"); code != http.StatusOK || reported.BootID != "b" {
		t.Errorf("report answered %d, handed on %+v", code, reported)
	}
	await(t, func() bool { return ts.Acked("n1") == rv })
	if code, answer := report("node:n1", "n2"); code != http.StatusForbidden || !strings.Contains(answer, "node n1 may not report for node n2") {
		t.Errorf("a report for another node answered %d %s", code, answer)
	}
	if code, _ := report("reader:ada", "n1"); code != http.StatusForbidden {
		t.Errorf("a reader's report answered %d", code)
	}

	// a newer connection ends the older and goes on where it was
	other := openWork(t, ts, "n1", rv)
	if _, err := next(); err == nil {
		t.Error("the replaced stream goes on")
	}
	f, err := other()
	if err != nil || f.Since != rv || len(f.Set) != 0 {
		t.Errorf("the new stream starts with %+v (%v), want nothing since %d", f, err, rv)
	}
}

func TestReportBodyIsBounded(t *testing.T) {
	ts := startServer(t)
	body := []byte(`{"node":"n1","bootID":"` + strings.Repeat("x", int(doorReport.BodyBytes)) + `"}`)
	if code, _, _ := do(t, ts.client("node:n1"), http.MethodPost, ts.url+wire.PathReport, body); code != http.StatusRequestEntityTooLarge {
		t.Errorf("an endless report answered %d", code)
	}
}

func TestJoin(t *testing.T) {
	refused := errors.New("token used up")
	ts := startServer(t, func(c *Config) {
		c.Door.Refused = refused
		c.Door.Join = func(_ context.Context, req wire.JoinRequest) (wire.JoinResponse, error) {
			switch req.Token {
			case "good":
				return wire.JoinResponse{Certificate: []byte("cert of " + req.Node)}, nil
			case "used":
				return wire.JoinResponse{}, fmt.Errorf("join %s: %w", req.Node, refused)
			}
			return wire.JoinResponse{}, io.ErrShortWrite
		}
		c.Door.Renew = func(_ context.Context, node schema.NodeName, _ wire.RenewRequest) (wire.JoinResponse, error) {
			return wire.JoinResponse{Certificate: []byte("fresh of " + node)}, nil
		}
	})
	for token, want := range map[string]int{"good": http.StatusOK, "used": http.StatusForbidden, "unlucky": http.StatusInternalServerError} {
		code, _, _ := do(t, ts.client(""), http.MethodPost, ts.url+wire.PathJoin, []byte(`{"token":"`+token+`","node":"n9"}`))
		if code != want {
			t.Errorf("join with a %s token answered %d, want %d", token, code, want)
		}
	}
	code, body, _ := do(t, ts.client("node:n1"), http.MethodPost, ts.url+wire.PathRenew, []byte(`{}`))
	var resp wire.JoinResponse
	if err := json.Unmarshal(body, &resp); err != nil || code != http.StatusOK || string(resp.Certificate) != "fresh of n1" {
		t.Errorf("renew answered %d %s", code, body)
	}
	if code, _, _ := do(t, ts.client(""), http.MethodPost, ts.url+wire.PathRenew, []byte(`{}`)); code != http.StatusUnauthorized {
		t.Errorf("renew by nobody answered %d", code)
	}
}

// BenchmarkEndpointChange is one endpoint of many services changing, up to the
// frame for one of a hundred nodes.
func BenchmarkEndpointChange(b *testing.B) {
	for _, services := range []int{100, 10_000} {
		b.Run(fmt.Sprint(services, " services"), func(b *testing.B) {
			tx := sampleCluster().Begin()
			for i := range services {
				name := fmt.Sprintf("s%d", i)
				tx.Put(&corev1.Service{ObjectMeta: meta("shop", name, nil), Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1"}})
				tx.Put(sampleSlice(name, name+"-1"))
			}
			feed := state.NewFeed(tx.Commit())
			d := NewDoor(feed, DoorConfig{}, logrus.StandardLogger())
			for i := range 100 {
				stream := d.Connect(schema.NodeName(fmt.Sprintf("n%d", i)), 0)
				d.Next(stream)
			}
			stream := d.nodes["n1"].stream
			for i := 0; b.Loop(); i++ {
				tx := feed.Snapshot().Begin()
				s := sampleSlice("s7", "s7-1")
				s.Endpoints = s.Endpoints[:i%2]
				tx.Put(s)
				changes := tx.Changes()
				feed.Publish(tx.Commit(), changes)
				d.Step()
				if f, ok := d.Next(stream); !ok || len(f.Set) != 1 {
					b.Fatalf("frame %+v", f)
				}
			}
		})
	}
}

// The sum that follows a node's part from one to the next is that of the whole.
func TestSumOfOwnPartIsThatOfItsItems(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		var n nodeDoor
		for range rapid.IntRange(1, 5).Draw(t, "changes") {
			items := wire.Items{}
			for i := range rapid.IntRange(0, 3).Draw(t, "items") {
				items[fmt.Sprint("pods/", i)] = json.RawMessage(rapid.SampledFrom([]string{`1`, `2`}).Draw(t, "value"))
			}
			differs := n.own == nil || items.Sum() != n.own.Sum()
			if changed := n.setOwn(items); changed != differs {
				t.Fatalf("changed: %v, want %v", changed, differs)
			}
			if n.ownSum != items.Sum() {
				t.Fatalf("%v adds up to %v, want %v", items, n.ownSum, items.Sum())
			}
		}
	})
}

// What was encoded of a pod is not encoded again when another one comes.
func TestUnchangedPodsKeepTheirItems(t *testing.T) {
	feed := state.NewFeed(sampleCluster())
	d := NewDoor(feed, DoorConfig{OpenSecret: emptySecrets, Keeper: work.NewKeeper([]byte("k"))}, logrus.StandardLogger())
	n := d.Connect("n1", 0).node
	before := maps.Clone(n.own)
	tx := feed.Snapshot().Begin()
	tx.Put(samplePod("late", "n1", "", nil, true))
	changes := tx.Changes()
	feed.Publish(tx.Commit(), changes)
	d.Step()
	if len(n.own) != len(before)+2 || n.own["pods/uid-late"] == nil || n.own["seals/uid-late"] == nil {
		t.Fatalf("items %v, want those of another pod beside %v", slices.Sorted(maps.Keys(n.own)), slices.Sorted(maps.Keys(before)))
	}
	kept := 0
	for key, was := range before {
		if family, _, _ := strings.Cut(key, "/"); family == wire.FamilyPods || family == wire.FamilySeals {
			if kept++; &was[0] != &n.own[key][0] {
				t.Errorf("%s is encoded again", key)
			}
		}
	}
	if kept == 0 {
		t.Error("the node had no pod before")
	}
}
