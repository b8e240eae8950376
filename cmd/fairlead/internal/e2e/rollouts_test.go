package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fairlead/schema"
)

const (
	rollouts = 12
	// crashing is the rollout whose store cannot run. It replaces no witness: one that goes
	// while it starts has no handler for SIGTERM yet, which a first process then never
	// hears, and it has no end but SIGKILL.
	crashing = 7
	// witnesses are replaced in every third turn: they show the order of
	// things, the shop shows the number.
	witnesses   = 3
	witnessTurn = 3
	// lingering is how long a witness goes on answering after SIGTERM: whoever
	// is still sent to it is written down.
	lingering = 300 * time.Millisecond
)

// Twelve rollouts of the whole shop while clients on three nodes and outside ask
// without pause, one of them with a store that crashes and is rolled back by
// itself. No request fails, what was planned is what runs, and no pod hears
// SIGTERM before every node's table has lost it.
func testRolloutsLoseNothing(t *testing.T) {
	c := fresh(t, nodeCount)
	w := c.clone(t)
	seen := t.TempDir()
	w.write(t, rolloutTree(t, seen, 0))
	w.pushHealthy(t, "turn 0")

	clients := newTraffic(t)
	clients.fromHost("outside, through a NodePort of n1", nodePort(c.address("n1")), witnessAt(c.address("n1")))
	clients.fromPod("a pod on n2", c, c.one(t, "client-n2"), apiURL, witnessURL)
	clients.fromPod("a pod on n3", c, c.one(t, "client-n3"), apiURL, witnessURL, "http://web.shop.svc.cluster.local")
	watcher := c.watchTables(t)
	for turn := 1; turn <= rollouts; turn++ {
		tree := rolloutTree(t, seen, turn)
		if turn == crashing {
			rollBack(t, c, w, tree)
			continue
		}
		w.write(t, tree)
		c.awaitRest(t) // what still ends when a plan is made counts in it
		want := c.foretold(t, w)
		w.pushHealthy(t, fmt.Sprint("turn ", turn))
		if wrong := differences(c.placements(t), want); len(wrong) > 0 {
			t.Errorf("turn %d: not as planned:\n%s", turn, strings.Join(wrong, "\n"))
		}
	}
	clients.endFlawless()
	ended := awaitEnded(t, seen, witnesses*rollouts/witnessTurn)
	watcher.stop()
	checkOrder(t, ended, watcher)
}

// rolloutTree is the shop, with a store that is never away, and the lab. Each
// turn replaces every pod of the shop.
func rolloutTree(t *testing.T, seen string, turn int) map[string]string {
	t.Helper()
	tree := probedOften(shopTree(t, fmt.Sprint("v", 1+turn%2)))
	const recreate = "  strategy:\n    type: Recreate\n"
	if !strings.Contains(tree["store.yaml"], recreate) {
		t.Fatal("the example's store is not recreated any more")
	}
	tree["store.yaml"] = strings.Replace(tree["store.yaml"], recreate, patient+"  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}\n", 1)
	witness := workload{name: "witness", replicas: witnesses, diaries: seen, turn: turn / witnessTurn, args: []string{fmt.Sprint("-linger=", lingering)}}
	for name, text := range labTree([]string{"n2", "n3"}, witness) {
		tree[name] = text
	}
	return tree
}

// patient is the store's deadline but for the rollout that fails: on a loaded
// machine a good one takes its time.
const (
	patient   = "  progressDeadlineSeconds: 120\n"
	impatient = "  progressDeadlineSeconds: 10\n"
)

func witnessAt(address string) string { return fmt.Sprintf("http://%s:%d/", address, witnessNodePort) }

// rollBack pushes a tree whose store exits at once, and waits until the cluster
// is back where it was.
func rollBack(t *testing.T, c *cluster, w worktree, tree map[string]string) {
	t.Helper()
	before := c.source(t).Status.Applied.Commit
	tree["store.yaml"] = strings.NewReplacer("name: STORE_TOKEN", "name: STORE_TOKEN_OF_OLD", patient, impatient).Replace(tree["store.yaml"])
	w.write(t, tree)
	out, err := w.push(t, "the store cannot run")
	if err != nil || !strings.Contains(out, "remote: FAILED main-") {
		t.Fatalf("push: %v\n%s", err, out)
	}
	bad := w.head(t)
	eventually(t, time.Minute, "the last healthy revision runs again", func() (bool, string) {
		src, rev, good := c.source(t), c.revision(t, bad), c.revision(t, before)
		state := fmt.Sprintf("%s is %s, %s is %s, applied is %.12s", rev.Name, rev.Status.Phase, good.Name, good.Status.Phase, src.Status.Applied.Commit)
		return src.Status.Applied.Commit == before && rev.Status.Phase == schema.PhaseRolledBack && good.Status.Phase == schema.PhaseHealthy, state
	})
	if got, whole := c.why(t, "source/main"); got != "Quarantined" {
		t.Errorf("source/main is %s, not Quarantined: %s", got, whole)
	}
	if rev := c.revision(t, bad); rev.Status.RolledBackTo != before || !rev.Status.Quarantined {
		t.Errorf("rolled back to %q (quarantined %v), want %q", rev.Status.RolledBackTo, rev.Status.Quarantined, before)
	}
}

// awaitEnded waits until as many witnesses as were replaced have written their
// last line.
func awaitEnded(t *testing.T, seen string, replaced int) (ended []diary) {
	t.Helper()
	eventually(t, time.Minute, fmt.Sprint(replaced, " witnesses ended"), func() (bool, string) {
		ended = nil
		all := diaries(t, seen)
		state := fmt.Sprintf("of %d diaries these have no end:", len(all))
		for _, d := range all {
			if !d.end.IsZero() {
				ended = append(ended, d)
				continue
			}
			state += fmt.Sprintf("\n%s: started %s, SIGTERM %s", d.pod, d.start.Format(clock), d.term.Format(clock))
		}
		return len(ended) >= replaced && len(all) == len(ended)+witnesses, state
	})
	return ended
}

// checkOrder wants every ended witness out of every table before it heard
// SIGTERM, and nobody sent to it after.
func checkOrder(t *testing.T, ended []diary, w *tableWatcher) {
	t.Helper()
	for _, d := range ended {
		if d.term.IsZero() {
			t.Errorf("%s ended at %s without SIGTERM", d.pod, d.end.Format(clock))
		}
		if len(d.late) > 0 {
			t.Errorf("%s heard SIGTERM at %s and was sent %d requests after it: %s", d.pod, d.term.Format(clock), len(d.late), strings.Join(d.late, ", "))
		}
		ip, err := netip.ParseAddr(d.ip)
		if err != nil {
			t.Fatalf("%s: address %q: %v", d.pod, d.ip, err)
		}
		for _, node := range sorted(w.kernel) {
			last, ok := w.last[node][ip]
			switch {
			case !ok:
				t.Errorf("%s at %s was never seen in the table of %s", d.pod, ip, node)
			case last.After(d.term):
				t.Errorf("%s at %s was in the table of %s at %s, %v after its SIGTERM", d.pod, ip, node, last.Format(clock), last.Sub(d.term))
			}
		}
	}
	t.Logf("%d pods ended; the tables were read %d times", len(ended), w.reads)
}

// tableWatcher remembers when it last saw an address in a node's table. The
// time is that of the reading's begin, so that it is never too late.
type tableWatcher struct {
	kernel tables
	last   map[string]map[netip.Addr]time.Time
	reads  int
	stop   func()
}

// tablePause is between two readings: a pod is out of the tables for longer before its
// SIGTERM where the order is wrong.
const tablePause = 10 * time.Millisecond

func (c *cluster) watchTables(t *testing.T) *tableWatcher {
	t.Helper()
	w := &tableWatcher{kernel: c.openTables(t), last: make(map[string]map[netip.Addr]time.Time)}
	for node := range w.kernel {
		w.last[node] = make(map[netip.Addr]time.Time)
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(tablePause)
		defer tick.Stop()
		for {
			for node := range w.kernel {
				w.read(t, node)
			}
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	}()
	stopped := false
	w.stop = func() {
		if !stopped {
			stopped = true
			close(quit)
			<-done
		}
	}
	t.Cleanup(w.stop)
	return w
}

func (w *tableWatcher) read(t *testing.T, node string) {
	began := time.Now()
	found, err := w.kernel.endpoints(node)
	if err != nil {
		t.Error(err)
		return
	}
	w.reads++
	for ip := range found {
		w.last[node][ip] = began
	}
}
