package state

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"fairlead/schema"
	"fairlead/schema/chance"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pod(namespace, name, node string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.PodSpec{NodeName: node}}
}

func names(r Reader, node string) []string {
	var out []string
	for p := range By[*corev1.Pod](r, PodsByNode, node) {
		out = append(out, p.Namespace+"/"+p.Name)
	}
	return out
}

func TestPutSetsIdentityOnce(t *testing.T) {
	tx := Empty(Counters{ResourceVersion: 100}).Begin()
	tx.Put(pod("a", "x", ""))
	first, _ := Get[*corev1.Pod](tx, "a", "x")
	if first.ResourceVersion != "101" || first.UID == "" || first.Kind != "Pod" || first.APIVersion != "v1" {
		t.Fatalf("created pod: rv %s uid %q %s %s", first.ResourceVersion, first.UID, first.APIVersion, first.Kind)
	}
	next := Edit(first)
	next.Spec.NodeName = "n1"
	tx.Put(next)
	if next.UID != first.UID || next.ResourceVersion != "102" {
		t.Errorf("edited pod: rv %s uid %s, want 102 %s", next.ResourceVersion, next.UID, first.UID)
	}
	tx.Delete(schema.KeyOf(next))
	tx.Put(pod("a", "x", ""))
	again, _ := Get[*corev1.Pod](tx, "a", "x")
	if again.UID == first.UID {
		t.Error("a pod made again has the UID of the one that went")
	}
}

// A model of the tables: whatever is done, indexes and lists agree with a map,
// and the snapshot a transaction began from stays as it was.
func TestTablesAgreeWithModel(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		model := map[string]string{} // "ns/name" -> node
		snapshot := Empty(Counters{})
		for range rapid.IntRange(1, 5).Draw(t, "transactions") {
			before := maps.Clone(model)
			tx := snapshot.Begin()
			for range rapid.IntRange(0, 12).Draw(t, "operations") {
				name := fmt.Sprintf("p%d", rapid.IntRange(0, 5).Draw(t, "name"))
				ns := rapid.SampledFrom([]string{"a", "a-b", "b"}).Draw(t, "namespace")
				if rapid.Bool().Draw(t, "delete") {
					_, was := model[ns+"/"+name]
					if tx.Delete(schema.Key{Kind: schema.KindPod, Namespace: ns, Name: name}) != was {
						t.Fatalf("Delete %s/%s does not say whether it was there", ns, name)
					}
					delete(model, ns+"/"+name)
					continue
				}
				node := rapid.SampledFrom([]string{"", "n1", "n10"}).Draw(t, "node")
				tx.Put(pod(ns, name, node))
				model[ns+"/"+name] = node
			}
			agree(t, snapshot, before)
			checkChanges(t, tx, before, model)
			snapshot = tx.Commit()
			agree(t, snapshot, model)
		}
	})
}

func agree(t *rapid.T, r Reader, model map[string]string) {
	t.Helper()
	if r.Len(schema.KindPod) != len(model) {
		t.Fatalf("Len is %d, want %d", r.Len(schema.KindPod), len(model))
	}
	for _, node := range []string{"", "n1", "n10"} {
		var want []string
		for k, n := range model {
			if n == node {
				want = append(want, k)
			}
		}
		slices.Sort(want)
		if got := names(r, node); !slices.Equal(got, want) {
			t.Fatalf("pods of node %q: %v, want %v", node, got, want)
		}
	}
	for _, ns := range []string{"a", "a-b", "b"} {
		for p := range All[*corev1.Pod](r, ns) {
			if p.Namespace != ns {
				t.Fatalf("list of namespace %s holds %s/%s", ns, p.Namespace, p.Name)
			}
		}
	}
}

func checkChanges(t *rapid.T, tx *Txn, before, after map[string]string) {
	t.Helper()
	replayed := maps.Clone(before)
	var last uint64
	for _, ch := range tx.Changes() {
		if ch.RV <= last {
			t.Fatalf("changes are not in resourceVersion order: %d after %d", ch.RV, last)
		}
		last = ch.RV
		key := ch.Key.Namespace + "/" + ch.Key.Name
		if _, was := before[key]; was != (ch.Old != nil) {
			t.Fatalf("change of %s: Old is %v", key, ch.Old)
		}
		if ch.New == nil {
			delete(replayed, key)
			continue
		}
		if ch.New.GetResourceVersion() != strconv.FormatUint(ch.RV, 10) {
			t.Fatalf("change of %s: RV %d, object has %s", key, ch.RV, ch.New.GetResourceVersion())
		}
		replayed[key] = ch.New.(*corev1.Pod).Spec.NodeName
	}
	if !maps.Equal(replayed, after) {
		t.Fatalf("changes lead to %v, want %v", replayed, after)
	}
}

func TestForkIsIsolated(t *testing.T) {
	tx := Empty(Counters{}).Begin()
	tx.Put(pod("a", "x", "n1"))
	base := tx.Commit()
	fork, main := base.Begin(), base.Begin()
	fork.Delete(schema.Key{Kind: schema.KindPod, Namespace: "a", Name: "x"})
	main.Put(pod("a", "y", "n1"))
	if got := names(main, "n1"); !slices.Equal(got, []string{"a/x", "a/y"}) {
		t.Errorf("main sees %v", got)
	}
	if got := names(fork, "n1"); len(got) != 0 {
		t.Errorf("fork sees %v", got)
	}
	if got := names(base, "n1"); !slices.Equal(got, []string{"a/x"}) {
		t.Errorf("base sees %v", got)
	}
}

// Readers of a snapshot run beside the writer that goes on from it.
func TestReadersBesideWriter(t *testing.T) {
	tx := Empty(Counters{}).Begin()
	for i := range 200 {
		tx.Put(pod("a", fmt.Sprint(i), "n1"))
	}
	snapshot := tx.Commit()
	done := make(chan int)
	for range 4 {
		go func() {
			n := 0
			for range 20 {
				n = len(names(snapshot, "n1"))
			}
			done <- n
		}()
	}
	for i := range 50 {
		w := snapshot.Begin()
		w.Put(pod("a", fmt.Sprint(i), "n2"))
		w.Commit()
	}
	for range 4 {
		if n := <-done; n != 200 {
			t.Errorf("a reader saw %d pods of 200", n)
		}
	}
}

func TestFeed(t *testing.T) {
	s := Empty(Counters{ResourceVersion: 10})
	feed := NewFeed(s)
	if _, _, _, ok := feed.Since(9); ok {
		t.Error("what came before the feed is not known, yet it answers")
	}
	if _, _, _, ok := feed.Since(11); ok {
		t.Error("the feed answers for the future")
	}
	_, _, moved, ok := feed.Since(10)
	if !ok {
		t.Fatal("the feed does not know its own beginning")
	}
	tx := s.Begin()
	tx.Put(pod("a", "x", ""))
	tx.Put(pod("a", "y", ""))
	changes := tx.Changes()
	feed.Publish(tx.Commit(), changes)
	select {
	case <-moved:
	default:
		t.Error("a publication does not wake who waits")
	}
	got, now, _, ok := feed.Since(11)
	if !ok || len(got) != 1 || got[0].Key.Name != "y" || now.Counters().ResourceVersion != 12 {
		t.Errorf("since 11: %v %v, at %d", got, ok, now.Counters().ResourceVersion)
	}
}

func TestFeedForgets(t *testing.T) {
	s := Empty(Counters{})
	feed := NewFeed(s)
	for range 3 {
		tx := s.Begin()
		for i := range FeedLength / 2 {
			tx.Put(pod("a", fmt.Sprint(i), ""))
		}
		changes := tx.Changes()
		s = tx.Commit()
		feed.Publish(s, changes)
	}
	if _, _, _, ok := feed.Since(FeedLength/2 - 1); ok {
		t.Error("a forgotten version is answered")
	}
	got, now, _, ok := feed.Since(FeedLength / 2)
	if !ok || len(got) != FeedLength || now.Counters().ResourceVersion != 3*FeedLength/2 {
		t.Errorf("%d changes, %v; want the last %d", len(got), ok, FeedLength)
	}
}

// A reader that comes back with the version it has got to, at any time, hears each
// later change once and in order until it has what there is; or is told to list
// again (S17). The log stays within its bound.
func TestFeedIsResumedWithoutLossOrRepeat(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		s := Empty(Counters{ResourceVersion: 100}) // the log of a feed that starts knows nothing before
		feed := NewFeed(s)
		feed.length = rapid.IntRange(1, 30).Draw(t, "length")
		type reader struct {
			at   uint64
			have map[string]string // name -> version, as a client's cache holds it
		}
		list := func() reader {
			r := reader{at: s.Counters().ResourceVersion, have: map[string]string{}}
			for p := range All[*corev1.Pod](s, "") {
				r.have[p.Name] = p.ResourceVersion
			}
			return r
		}
		readers := []reader{list(), list(), list()}
		for range rapid.IntRange(1, 30).Draw(t, "rounds") {
			tx := s.Begin()
			for range rapid.IntRange(0, 6).Draw(t, "changes") {
				name := fmt.Sprintf("p%d", rapid.IntRange(0, 4).Draw(t, "pod"))
				if rapid.IntRange(0, 2).Draw(t, "gone") == 0 {
					tx.Delete(schema.Key{Kind: schema.KindPod, Namespace: "a", Name: name})
				} else {
					tx.Put(pod("a", name, ""))
				}
			}
			if changes := tx.Changes(); len(changes) > 0 {
				s = tx.Commit()
				feed.Publish(s, changes)
			}
			if len(feed.log) > feed.length+feed.length/4 {
				t.Fatalf("the log holds %d changes, at most %d are due", len(feed.log), feed.length)
			}
			i := rapid.IntRange(0, len(readers)).Draw(t, "reader")
			if i == len(readers) {
				continue
			}
			r := readers[i]
			changes, now, _, ok := feed.Since(r.at)
			if forgotten := r.at < feed.floor; ok == forgotten {
				t.Fatalf("from %d with all after %d known: %v", r.at, feed.floor, ok)
			}
			if !ok {
				readers[i] = list()
				continue
			}
			for _, c := range changes {
				if c.RV <= r.at {
					t.Fatalf("%d after %d", c.RV, r.at)
				}
				r.at = c.RV
				if c.New == nil {
					delete(r.have, c.Key.Name)
				} else {
					r.have[c.Key.Name] = c.New.GetResourceVersion()
				}
			}
			r.at = now.Counters().ResourceVersion
			if want := list(); !maps.Equal(r.have, want.have) || r.at != want.at {
				t.Fatalf("a reader has %v at %d, there is %v at %d", r.have, r.at, want.have, want.at)
			}
			readers[i] = r
		}
	})
}
