package reconciler_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"fairlead/reconciler"
	"fairlead/reconciler/state"
	"fairlead/reconciler/store"
	"fairlead/schema"
	"fairlead/schema/load"
	"fairlead/schema/objecttest"
	"fairlead/schema/wire"
)

// hostileText is a file that somebody may push to harm others.
func hostileText(r *rand.Rand) string {
	n := []int{10, 1_000, 60_000, 250_000}[r.Intn(4)]
	repeat := func(line string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, line, i)
		}
		return b.String()
	}
	head := fmt.Sprintf("apiVersion: v1\nkind: %s\nmetadata: {name: h%d}\n", []string{"ConfigMap", "Secret"}[r.Intn(2)], r.Intn(5))
	deployment := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: h}\nspec:\n  replicas: %d\n  selector: {matchLabels: {a: b}}\n  template:\n    metadata: {labels: {a: b}}\n    spec: {containers: [{name: c, image: i:v1, args: [%s]}]}\n"
	switch r.Intn(10) {
	case 0:
		return head + "data:\n" + repeat("  k%d:\n")
	case 1:
		return head + "data: {k: \"" + strings.Repeat("\\u0001", n) + "\"}\n"
	case 2:
		return fmt.Sprintf(deployment, n, "x")
	case 3:
		return fmt.Sprintf(deployment, 1, strings.Repeat("x", 10*n))
	case 4:
		return head + "data: &a\n  k: *a\n"
	case 5:
		return head + "data: {k: \"\xff\xfe\"}\n"
	case 6:
		return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: h\n  annotations:\n" + repeat("    k%d:\n")
	case 7:
		return fmt.Sprintf(deployment, 1, "x") + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i, resources: {limits: {cpu: 1E999999999999}}}]}\n"
	case 8:
		return "apiVersion: v1\nkind: Service\nmetadata: {name: h}\nspec:\n  selector: {a: b}\n  ports:\n" + repeat("    - {name: p%[1]d, port: %[1]d}\n")
	}
	return strings.Repeat("[", n)
}

// hostileInput is a commit of the hostile source, or what its repository says.
func hostileInput(r *rand.Rand, turn int) reconciler.Input {
	noise := func(n int) string {
		out := make([]byte, r.Intn(n))
		r.Read(out)
		return string(out)
	}
	if r.Intn(4) == 0 {
		return reconciler.SourceReport{Source: "hostile", Reason: []string{"", "Rewound", "BranchGone", "BadRepository"}[r.Intn(4)], Message: noise(100_000), Observed: objecttest.Commit(turn)}
	}
	text := hostileText(r)
	blob := &schema.Blob{Size: int64(len(text)), Open: func() ([]byte, error) { return []byte(text), nil }}
	tree := schema.Tree{
		Commit: schema.CommitObject{Hash: objecttest.Commit(1000 + turn), Author: noise(1 << 20), Subject: strings.Repeat(noise(100), 9_000), Time: time.Unix(r.Int63()-r.Int63(), 0)},
		Hash:   schema.TreeHash(fmt.Sprintf("tree-%d", turn)),
		Files:  []schema.File{{Path: strings.Repeat("d", 1+r.Intn(300)) + "/a.yaml", Blob: blob}},
	}
	loaded := load.Load(context.Background(), tree, schema.DefaultSourceSpec(schema.SourceSpec{}), load.Options{Source: "hostile"})
	for i := range r.Intn(200) {
		loaded.Diagnostics = append(loaded.Diagnostics, schema.Diagnostic{Severity: schema.Warning, Position: schema.Position{Path: noise(5_000), Line: i}, Message: noise(5_000)})
	}
	objects, _ := reconciler.NewVault([]byte("k")).Seal(loaded.Objects)
	return reconciler.Candidate{Source: "hostile", Commit: tree.Commit, Tree: tree.Hash, Pusher: noise(10_000), Diagnostics: loaded.Diagnostics, Objects: objects}
}

// stored runs the cluster's rounds through a store, as the master does.
type stored struct {
	*cluster
	store *store.Memory
	loop  *reconciler.Loop
}

func (s *stored) start() {
	s.t.Helper()
	s.store = s.store.Open()
	loaded, err := s.store.Load(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	snapshot, unreadable := reconciler.Restore(loaded.Records, state.Counters{ResourceVersion: loaded.ResourceVersion, Creations: loaded.Creations})
	if len(unreadable)+len(loaded.Unreadable) > 0 {
		s.t.Fatalf("what was stored cannot be read: %v", unreadable)
	}
	var sources []schema.Source
	for _, name := range []string{"main", "hostile"} {
		src := schema.Source{Spec: schema.DefaultSourceSpec(schema.SourceSpec{Embedded: true})}
		src.Name = name
		sources = append(sources, src)
	}
	s.machine = reconciler.NewMachine(s.engine, snapshot, sources)
	log := logrus.New()
	log.SetOutput(io.Discard)
	s.loop = reconciler.NewLoop(reconciler.LoopConfig{Machine: s.machine, Store: s.store, Feed: state.NewFeed(snapshot), Round: loaded.Round, Log: logrus.NewEntry(log), Now: func() time.Time { return s.now }})
}

// round is one round a second, made durable.
func (s *stored) round(inputs ...reconciler.Input) {
	s.t.Helper()
	s.now = s.now.Add(time.Second)
	for i, node := range s.nodes {
		inputs = append(inputs, s.report(i, node), reconciler.Acknowledgement{Node: node, Version: s.machine.Snapshot().Counters().ResourceVersion})
	}
	r := s.loop.Decide(inputs)
	if err := s.loop.Write(s.t.Context(), r); err != nil {
		s.t.Fatalf("the master ends: %v", err)
	}
	s.loop.Publish(r)
}

// rollOut hands the quiet source's commit over and counts the rounds until it is
// healthy.
func (s *stored) rollOut(n int, beside func() []reconciler.Input) (rounds int) {
	s.t.Helper()
	commit := objecttest.Commit(n)
	s.round(append(beside(), shop(s.t, commit, fmt.Sprintf("v%d", n), nil))...)
	for rounds = 1; s.revision(commit).Status.Phase != schema.PhaseHealthy; rounds++ {
		if rounds > 300 {
			s.t.Fatalf("the quiet source's commit %d is %s after %d rounds", n, s.revision(commit).Status.Phase, rounds)
		}
		s.round(beside()...)
	}
	return rounds
}

// Whatever a hostile source says, every round can be stored, read back and shown, a
// quiet source beside it takes as many rounds as without it, and a master that starts
// again finds everything.
func TestHostileSourcesHarmNoOther(t *testing.T) {
	quiet := func() []reconciler.Input { return nil }
	for seed := range int64(6) {
		r := rand.New(rand.NewSource(seed))
		alone := newStored(t)
		beside := newStored(t)
		turn := 0
		attack := func() []reconciler.Input {
			if turn++; turn%3 != 0 {
				return nil
			}
			return []reconciler.Input{hostileInput(r, turn)}
		}
		for n := 1; n <= 2; n++ {
			want, got := alone.rollOut(n, quiet), beside.rollOut(n, attack)
			if got != want {
				t.Errorf("seed %d: commit %d takes %d rounds, %d without the hostile source", seed, n, got, want)
			}
		}
		for _, info := range schema.Kinds() {
			for obj := range beside.machine.Snapshot().List(info.Kind, "") {
				if err := wire.CheckStorable(obj); err != nil {
					t.Errorf("seed %d: %s: %v", seed, schema.KeyOf(obj), err)
				}
			}
		}
		before := records(t, beside.machine.Snapshot())
		beside.start()
		after := records(t, beside.machine.Snapshot())
		if len(before) != len(after) {
			t.Fatalf("seed %d: %d objects, %d after a start", seed, len(before), len(after))
		}
		for i := range before {
			if !bytes.Equal(before[i].Object, after[i].Object) {
				t.Errorf("seed %d: %s is another after a start", seed, before[i].Key)
			}
		}
		beside.rollOut(3, attack)
	}
}

func newStored(t *testing.T) *stored {
	s := &stored{cluster: newCluster(t, 2), store: store.NewMemory(time.Unix(1_700_000_000, 0))}
	s.start()
	s.round()
	s.round()
	return s
}

// A commit of the year 10000, with a subject of 900 kB and an author in Latin-1, is
// taken as far as it can be kept, and the next start reads it.
func TestHostileCommitsAreKeptAsFarAsTheyFit(t *testing.T) {
	s := newStored(t)
	cand := shop(t, objecttest.Commit(1), "v1", nil)
	cand.Commit.Time = time.Unix(253402300800, 0)
	cand.Commit.Subject, cand.Commit.Author = strings.Repeat("x", 900_000), "Ren\xe9\r\n <r@example.org>"
	s.round(cand)
	rev := s.revision(objecttest.Commit(1))
	if err := wire.CheckStorable(rev); err != nil {
		t.Error(err)
	}
	if rev.Status.Phase == schema.PhaseInvalid || rev.Spec.Time.UTC().Year() != 9999 || len(rev.Spec.Subject) > schema.MaxCommitText {
		t.Errorf("the revision is %s, of %s, with a subject of %d bytes", rev.Status.Phase, rev.Spec.Time, len(rev.Spec.Subject))
	}
	s.start()
	if got := s.revision(objecttest.Commit(1)).Spec; !got.Time.Equal(&rev.Spec.Time) || got.Author != rev.Spec.Author {
		t.Errorf("read back: %+v", got)
	}
}

// An object that fits nowhere makes its revision Invalid, whoever read the tree.
func TestObjectsThatCannotBeStoredAreInvalid(t *testing.T) {
	s := newStored(t)
	s.rollOut(1, func() []reconciler.Input { return nil })
	cand := shop(t, objecttest.Commit(2), "v2", func(objects []*schema.Desired) []*schema.Desired {
		big := *objects[0]
		big.Object = state.Edit(objects[0].Object)
		a := big.Object.GetAnnotations()
		a["note"] = strings.Repeat("x", schema.MaxDesiredBytes+1<<14)
		big.Object.SetAnnotations(a)
		return append([]*schema.Desired{&big}, objects[1:]...)
	})
	s.round(cand)
	rev := s.revision(objecttest.Commit(2))
	if rev.Status.Phase != schema.PhaseInvalid || len(rev.Status.Diagnostics) == 0 || !strings.Contains(rev.Status.Diagnostics[0].String(), "cannot be stored: ") {
		t.Errorf("the revision is %s: %v", rev.Status.Phase, rev.Status.Diagnostics)
	}
	if got := s.source().Status.Applied.Commit; got != objecttest.Commit(1) {
		t.Errorf("commit %s is applied", got)
	}
}
