package reconciler_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler"
	"fairlead/reconciler/control"
	"fairlead/reconciler/plan"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/load"
)

// Objects are shared by the trees they did not change between: what was loaded
// stays as it was loaded.
func TestSealingLeavesWhatWasLoaded(t *testing.T) {
	const text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: sesame}\n"
	blob := &schema.Blob{Hash: "h", Size: int64(len(text)), Open: func() ([]byte, error) { return []byte(text), nil }}
	tree := schema.Tree{Commit: schema.CommitObject{Hash: "1"}, Files: []schema.File{{Path: "all.yaml", Blob: blob}}}
	cache := load.NewCache(0)
	vault := reconciler.NewVault([]byte("k"))
	password := func(d *schema.Desired) string { return string(d.Object.(*corev1.Secret).Data["password"]) }
	for range 2 {
		loaded := load.Load(context.Background(), tree, schema.SourceSpec{}, load.Options{Source: "main", Cache: cache}).Objects
		sealed, values := vault.Seal(loaded)
		if _, ok := vault.Open(sealed[1].Object.(*corev1.Secret)); ok {
			t.Error("what was merely sealed can be opened")
		}
		vault.Hold(values)()
		if got := password(loaded[1]); got != "sesame" {
			t.Errorf("the Secret that was loaded has become %q", got)
		}
		if got := password(sealed[1]); got == "sesame" || len(sealed) != 2 || sealed[0] != loaded[0] || sealed[1].Position != loaded[1].Position {
			t.Errorf("sealed: %v %v, password %q", sealed[0], sealed[1], got)
		}
		if values, ok := vault.Open(sealed[1].Object.(*corev1.Secret)); !ok || string(values["password"]) != "sesame" {
			t.Errorf("opened: %s %t", values, ok)
		}
		vault.Forget(nothing)
	}
}

// planned is a loop of which only plans are asked.
type planned struct{ reconciler.Rounds }

func (planned) Base(context.Context) (reconciler.Base, error) {
	tx := state.Empty(state.Counters{}).Begin()
	tx.Put(&schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: schema.SourceSpec{Embedded: true}})
	snapshot := tx.Commit()
	return reconciler.Base{Snapshot: snapshot, Queue: settle.NewQueue()}, nil
}

// A plan compares Secrets and delivers none: a reader who asks for many must not
// fill the master's memory with what the trees held.
func TestPlansLeaveNoSecretBehind(t *testing.T) {
	vault := reconciler.NewVault([]byte("k"))
	secret := func() *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s"}, Data: map[string][]byte{"password": []byte("sesame")}}
	}
	f := &reconciler.Follower{
		Loop: planned{}, Engine: settle.NewEngine(control.Config{}), Vault: vault, Now: time.Now,
		Load: func(context.Context, schema.SourceName, schema.Tree, schema.SourceSpec, schema.Rights, []string) ([]*schema.Desired, schema.Diagnostics) {
			return []*schema.Desired{{Object: secret()}}, nil
		},
	}
	p, err := f.Answer(t.Context(), reconciler.Question{Source: "main", Tree: &schema.Tree{}})
	if err != nil || len(p.Objects) != 1 {
		t.Fatalf("planned %+v: %v", p, err)
	}
	sealed, _ := vault.Seal([]*schema.Desired{{Object: secret()}})
	if _, known := vault.Open(sealed[0].Object.(*corev1.Secret)); known {
		t.Error("the vault keeps a value that only a plan has seen")
	}
}

// The values of all Secrets together can be sent to one node: a tree with which they
// could not is refused where its largest Secret stands, and one that takes no more than
// before never is.
func TestSecretsFitTogether(t *testing.T) {
	mib := make([]byte, 1<<20)
	secrets := func(source schema.SourceName, n int) []*schema.Desired {
		var out []*schema.Desired
		for i := range n {
			s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("%s-%d", source, i), Annotations: map[string]string{schema.AnnotationSource: string(source)}}, Data: map[string][]byte{"k": mib}}
			out = append(out, &schema.Desired{Object: s, Position: schema.Position{Path: string(source) + ".yaml", Line: i + 1}})
		}
		return out
	}
	const all, share = schema.MaxSecretBytes >> 20, schema.MaxSecretBytes >> 20 / schema.DeclaredShare
	for name, c := range map[string]struct {
		has    map[string]int // negative where it was not read since the master's start
		source schema.SourceName
		asks   int
		want   string
	}{
		"too much with what was not read":   {map[string]int{"second": 2 - all}, "main", 3, "the values of all Secrets would take "},
		"fits beside what was not read":     {map[string]int{"second": 3 - all}, "main", 3, ""},
		"instead of as much, not read":      {map[string]int{"main": 1 - all, "second": -1}, "main", all - 1, ""},
		"more than before, which is unread": {map[string]int{"main": 1 - all, "second": -1}, "main", all, "the values of all Secrets would take "},
		"all that fits":                     {nil, "main", all, ""},
		"too much":                          {nil, "main", all + 1, "the values of the Secrets of source main take "},
		"too much with another's":           {map[string]int{"second": all - 2}, "main", 3, "the values of all Secrets would take "},
		"instead of as many":                {map[string]int{"main": all - 1}, "main", all - 1, ""},
		"less, and still too much":          {map[string]int{"main": all + 4}, "main", all + 2, ""},
		"a declared one's share":            {nil, "team", share, ""},
		"more than its share":               {nil, "team", share + 1, "the values of the Secrets of source team take "},
		"none":                              {map[string]int{"second": all}, "main", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			vault := reconciler.NewVault([]byte("k"))
			tx := state.Empty(state.Counters{}).Begin()
			for _, name := range []string{"main", "second", "team"} {
				src := &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: name}}
				if name == "team" {
					src.Annotations = map[string]string{schema.AnnotationSource: "main"}
				}
				n := c.has[name]
				src.Status.SecretKiB = int64(max(0, -n)) << 10
				tx.Put(src)
				sealed, values := vault.Seal(secrets(schema.SourceName(name), max(n, -n)))
				if n > 0 {
					vault.Hold(values)()
				}
				for _, d := range sealed {
					tx.Put(d.Object)
				}
			}
			f := &reconciler.Follower{
				Loop: at{snapshot: tx.Commit()}, Engine: settle.NewEngine(control.Config{}), Vault: vault, Now: time.Now,
				Load: func(context.Context, schema.SourceName, schema.Tree, schema.SourceSpec, schema.Rights, []string) ([]*schema.Desired, schema.Diagnostics) {
					return secrets(c.source, c.asks), nil
				},
			}
			cand, err := f.Judge(t.Context(), c.source, schema.Tree{}, schema.Overrides{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case c.want == "" && cand.Diagnostics.HasErrors():
				t.Errorf("refused: %v", cand.Diagnostics)
			case c.want != "" && (cand.Plan.Verdict != plan.Refused || !strings.HasPrefix(cand.Diagnostics[0].Message, c.want) || cand.Diagnostics[0].Path != string(c.source)+".yaml"):
				t.Errorf("%s: %v, want %q", cand.Plan.Verdict, cand.Diagnostics, c.want)
			}
		})
	}
}

// Two trees that were judged side by side, neither of which knows of the other, are not
// both applied where their values are too much together.
func TestSecretsJudgedSideBySideFitTogether(t *testing.T) {
	vault, engine := reconciler.NewVault([]byte("k")), settle.NewEngine(control.Config{})
	sources := []schema.Source{{ObjectMeta: metav1.ObjectMeta{Name: "main"}}, {ObjectMeta: metav1.ObjectMeta{Name: "second"}}}
	machine := reconciler.NewMachine(engine, state.Empty(state.Counters{}), sources)
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	machine.Step(now, nil)
	var inputs []reconciler.Input
	for i, source := range sources {
		f := &reconciler.Follower{
			Loop: at{snapshot: machine.Snapshot()}, Engine: engine, Vault: vault, Now: func() time.Time { return now },
			Load: func(context.Context, schema.SourceName, schema.Tree, schema.SourceSpec, schema.Rights, []string) ([]*schema.Desired, schema.Diagnostics) {
				var out []*schema.Desired
				for n := range schema.MaxSecretBytes>>20/2 + 1 {
					s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("%s-%d", source.Name, n), Annotations: map[string]string{schema.AnnotationSource: source.Name}}, Data: map[string][]byte{"k": make([]byte, 1<<20)}}
					out = append(out, &schema.Desired{Object: s, Position: schema.Position{Path: "s.yaml", Line: 1}})
				}
				return out, nil
			},
		}
		cand, err := f.Judge(t.Context(), source.SourceName(), schema.Tree{Hash: schema.TreeHash(fmt.Sprintf("%040x", i+1)), Commit: schema.CommitObject{Hash: schema.Commit(fmt.Sprintf("%040x", i+1))}}, schema.Overrides{}, nil)
		if err != nil || cand.Diagnostics.HasErrors() {
			t.Fatal(err, cand.Diagnostics)
		}
		inputs = append(inputs, cand)
	}
	s := machine.Step(now.Add(time.Second), inputs).Snapshot
	phases := map[schema.Phase]int{}
	for rev := range state.All[*schema.Revision](s, "") {
		phases[rev.Status.Phase]++
	}
	if phases[schema.PhaseInvalid] != 1 || s.Len(schema.KindSecret) != schema.MaxSecretBytes>>20/2+1 {
		t.Errorf("phases %v, %d Secrets", phases, s.Len(schema.KindSecret))
	}
	for src := range state.All[*schema.Source](s, "") {
		if has := s.BySource(schema.KindSecret, src.SourceName()); src.Status.SecretKiB == 0 != (len(slices.Collect(has)) == 0) {
			t.Errorf("source %s says it has %d KiB of Secrets", src.Name, src.Status.SecretKiB)
		}
	}
}

// at is a loop that stands still.
type at struct {
	reconciler.Rounds
	snapshot *state.Snapshot
}

func (a at) Base(context.Context) (reconciler.Base, error) {
	return reconciler.Base{Snapshot: a.snapshot, Queue: settle.NewQueue()}, nil
}

func nothing() *state.Snapshot { return state.Empty(state.Counters{}) }

// What one source has handed over, and no snapshot has yet, is not for another to
// forget; what is settled is.
func TestForgettingLeavesWhatIsComing(t *testing.T) {
	vault := reconciler.NewVault([]byte("k"))
	hold := func(value string) (known func() bool, settled func()) {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "s"}, Data: map[string][]byte{"k": []byte(value)}}
		sealed, values := vault.Seal([]*schema.Desired{{Object: s}})
		return func() bool {
			_, ok := vault.Open(sealed[0].Object.(*corev1.Secret))
			return ok
		}, vault.Hold(values)
	}
	first, firstSettled := hold("one")
	same, sameSettled := hold("one")
	other, otherSettled := hold("two")
	otherSettled()
	vault.Forget(nothing)
	if !first() || other() {
		t.Errorf("coming %v, settled %v", first(), other())
	}
	firstSettled()
	vault.Forget(nothing)
	if !same() {
		t.Error("a value that two hand over is gone with the first")
	}
	sameSettled()
	vault.Forget(nothing)
	if same() {
		t.Error("a value that never came is kept")
	}
}

// noted is a loop that keeps what it is told.
type noted struct {
	reconciler.Rounds
	inputs *[]reconciler.Input
}

func (n noted) Post(_ context.Context, in reconciler.Input) error {
	*n.inputs = append(*n.inputs, in)
	return nil
}

// oneTree is a repository whose only tree is empty: what it asks for is the loader's.
type oneTree struct{ reconciler.Git }

func (oneTree) Tree(schema.Commit, string) (schema.Tree, error) { return schema.Tree{}, nil }

// After a start, what the applied Secrets take is known as soon as their values are opened,
// also where an earlier version applied them and noted nothing. It is told once, and of
// what is applied alone.
func TestTheSizeOfSecretsIsKnownAfterAStart(t *testing.T) {
	const commit = schema.Commit("c1")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s", Annotations: map[string]string{schema.AnnotationSource: "main"}}, Data: map[string][]byte{"k": make([]byte, 5<<10)}}
	desired := []*schema.Desired{{Object: secret}}
	sealed, _ := reconciler.NewVault([]byte("k")).Seal(desired)
	tx := nothing().Begin()
	src := &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}}
	src.Status.Applied.Commit, src.Status.Desired.Commit = commit, commit
	tx.Put(src)
	tx.Put(sealed[0].Object)
	machine := reconciler.NewMachine(settle.NewEngine(control.Config{}), tx.Commit(), []schema.Source{{ObjectMeta: metav1.ObjectMeta{Name: "main"}}})
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	kib := func() int64 {
		src, _ := state.Source(machine.Snapshot(), "main")
		return src.Status.SecretKiB
	}
	start := func() (inputs []reconciler.Input) {
		f := &reconciler.Follower{
			Loop: noted{inputs: &inputs}, Feed: state.NewFeed(machine.Snapshot()), Vault: reconciler.NewVault([]byte("k")), Now: func() time.Time { return now },
			Load: func(context.Context, schema.SourceName, schema.Tree, schema.SourceSpec, schema.Rights, []string) ([]*schema.Desired, schema.Diagnostics) {
				return desired, nil
			},
		}
		if err := f.Stay(t.Context(), "main", oneTree{}); err != nil {
			t.Fatal(err)
		}
		return inputs
	}
	told := start()
	if len(told) != 1 {
		t.Fatalf("the loop is told %v", told)
	}
	machine.Step(now, []reconciler.Input{reconciler.SecretSize{Source: "main", Commit: "another", KiB: 64}, reconciler.SecretSize{Source: "gone", Commit: commit, KiB: 64}})
	if n := kib(); n != 0 {
		t.Errorf("%d KiB are noted of what is not applied", n)
	}
	machine.Step(now, told)
	if n := kib(); n != 8 {
		t.Errorf("%d KiB are noted, want 8", n)
	}
	if told := start(); len(told) != 0 {
		t.Errorf("what is noted is told again: %v", told)
	}
}
