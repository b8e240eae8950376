package reconciler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler"
	"fairlead/reconciler/control"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/load"
	"fairlead/schema/objecttest"
)

// followed is a Follower over a Machine whose rounds happen when something is
// submitted, and the repositories of its sources.
type followed struct {
	*reconciler.Follower
	t       *testing.T
	machine *reconciler.Machine
	feed    *state.Feed
	now     time.Time
	repos   map[schema.SourceName]repository
}

// repository is the trees of a source by commit; the last one is its branch's tip.
type repository struct {
	trees map[schema.Commit]string
	tip   schema.Commit
}

func newFollowed(t *testing.T, configured ...schema.Source) *followed {
	engine := settle.NewEngine(control.Config{
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), DNS: netip.MustParseAddr("10.96.0.10"), NodePortFirst: 30000, NodePortLast: 32767,
	})
	snapshot := state.Empty(state.Counters{ResourceVersion: 1 << 40})
	f := &followed{t: t, machine: reconciler.NewMachine(engine, snapshot, configured), feed: state.NewFeed(snapshot), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), repos: map[schema.SourceName]repository{}}
	read := func(ctx context.Context, source schema.SourceName, tree schema.Tree, spec schema.SourceSpec, rights schema.Rights, namespaces []string) ([]*schema.Desired, schema.Diagnostics) {
		r := load.Load(ctx, tree, spec, load.Options{
			Source: source, Rights: &rights, KnownNamespaces: namespaces,
			Known: reconciler.KnownOutside(f.feed.Snapshot(), source), Holder: reconciler.HolderOutside(f.feed.Snapshot(), source),
		})
		return r.Objects, r.Diagnostics
	}
	f.Follower = &reconciler.Follower{Loop: f, Feed: f.feed, Engine: engine, Load: read, Vault: reconciler.NewVault([]byte("k")), Now: func() time.Time { return f.now }}
	f.round()
	return f
}

func own(name string, spec schema.SourceSpec) schema.Source {
	spec.Embedded = true
	return schema.Source{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: schema.OwnSourceSpec(spec)}
}

func (f *followed) round(in ...reconciler.Input) {
	f.now = f.now.Add(time.Second)
	out := f.machine.Step(f.now, in)
	f.feed.Publish(out.Snapshot, out.Changes)
}

func (f *followed) Base(context.Context) (reconciler.Base, error) {
	return reconciler.Base{Snapshot: f.machine.Snapshot(), Queue: f.machine.Queue()}, nil
}

func (f *followed) Deliver(_ context.Context, in reconciler.Input, settled func()) error {
	defer settled()
	f.round(in)
	return nil
}

func (f *followed) Post(_ context.Context, in reconciler.Input) error {
	f.round(in)
	return nil
}

// commit adds a commit to a source's branch; its number is its hash.
func (f *followed) commit(source schema.SourceName, n int, text string) schema.Commit {
	repo, ok := f.repos[source]
	if !ok {
		repo.trees = map[schema.Commit]string{}
	}
	repo.tip = objecttest.Commit(n)
	repo.trees[repo.tip] = text
	f.repos[source] = repo
	return repo.tip
}

// push adds a commit and has it followed.
func (f *followed) push(source schema.SourceName, n int, text string) {
	f.t.Helper()
	f.commit(source, n, text)
	f.look(source)
}

func (f *followed) look(source schema.SourceName) {
	f.t.Helper()
	if _, _, err := f.Look(f.t.Context(), source, opened(f.repos[source]), nil); err != nil {
		f.t.Fatal(err)
	}
}

func opened(r reconciler.Remote) func(context.Context) (reconciler.Remote, error) {
	return func(context.Context) (reconciler.Remote, error) { return r, nil }
}

func (r repository) Tip(context.Context) (schema.Commit, error) { return r.tip, nil }

func (r repository) Commit(hash schema.Commit) (schema.CommitObject, error) {
	if _, ok := r.trees[hash]; !ok {
		return schema.CommitObject{}, fmt.Errorf("no commit %s", hash)
	}
	return schema.CommitObject{Hash: hash}, nil
}

func (r repository) Tree(commit schema.Commit, _ string) (schema.Tree, error) {
	text := r.trees[commit]
	blob := &schema.Blob{Hash: "blob-" + string(commit), Size: int64(len(text)), Open: func() ([]byte, error) { return []byte(text), nil }}
	return schema.Tree{Commit: schema.CommitObject{Hash: commit}, Hash: schema.TreeHash("tree-" + string(commit)), Files: []schema.File{{Path: "all.yaml", Blob: blob}}}, nil
}

func (r repository) Branch(name string) (schema.Commit, bool, error) {
	return r.tip, name == "main" && r.tip != "", nil
}

func (repository) IsAncestor(_, _ schema.Commit) (bool, error) { return true, nil }

func (repository) CommitsBetween(_, _ schema.Commit, _ int) ([]schema.CommitObject, error) {
	return nil, nil
}

func (repository) TreeHash(commit schema.Commit, _ string) (schema.TreeHash, error) {
	return schema.TreeHash("tree-" + string(commit)), nil
}

func (f *followed) source(name schema.SourceName) *schema.Source {
	src, _ := state.Source(f.machine.Snapshot(), name)
	return src
}

func (f *followed) phase(source schema.SourceName, n int) (schema.Phase, string) {
	rev, ok := state.Revision(f.machine.Snapshot(), schema.RevisionOf(source, objecttest.Commit(n)))
	if !ok {
		return "", ""
	}
	return rev.Status.Phase, schema.Diagnostics(rev.Status.Diagnostics).Error()
}

func secretOf(name, value string) string {
	return "apiVersion: v1\nkind: Secret\nmetadata: {name: " + name + "}\nstringData: {password: " + value + "}\n"
}

// asked is the plan of a tree that a reader sends, as JSON.
func (f *followed) asked(text string, against string) string {
	f.t.Helper()
	blob := &schema.Blob{Size: int64(len(text)), Open: func() ([]byte, error) { return []byte(text), nil }}
	p, err := f.Answer(f.t.Context(), reconciler.Question{Source: "main", Against: against, Git: f.repos["main"], Tree: &schema.Tree{Files: []schema.File{{Path: "all.yaml", Blob: blob}}}})
	if err != nil {
		f.t.Fatal(err)
	}
	data, err := json.Marshal(p)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(data)
}

// No plan that a reader asks for tells a right guess of a Secret's value from a wrong
// one: of what runs, of what ran once, of one that cannot change.
func TestReadersCannotTestGuesses(t *testing.T) {
	f := newFollowed(t, own("main", schema.SourceSpec{}))
	f.push("main", 1, secretOf("old", "rosebud")+"---\n"+secretOf("s", "rosebud"))
	f.push("main", 2, secretOf("s", "sesame")+"immutable: true\n")
	for name, against := range map[string]string{"what runs": "", "another revision": string(objecttest.Commit(1))} {
		for _, tree := range []func(guess string) string{
			func(guess string) string { return secretOf("s", guess) + "immutable: true\n" },
			func(guess string) string { return secretOf("s", guess) },
			func(guess string) string {
				return secretOf("s", guess) + "immutable: true\n---\n" + secretOf("old", guess)
			},
		} {
			want := f.asked(tree("wrong!"), against)
			for _, guess := range []string{"sesame", "rosebud", "wrong."} {
				if got := f.asked(tree(guess), against); got != want {
					t.Errorf("over %s, the guess %s is told from another:\n%s\n%s", name, guess, got, want)
				}
			}
			if !strings.Contains(want, `"uncompared":["Secret default/`) {
				t.Errorf("over %s, nothing says that no values are compared: %s", name, want)
			}
		}
	}
	g := newFollowed(t, own("main", schema.SourceSpec{}))
	g.push("main", 1, secretOf("s", "sesame"))
	if got := g.asked("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {other: x}\n", ""); !strings.Contains(got, "data[other]") || !strings.Contains(got, "data[password]") {
		t.Errorf("keys that come and go are not told: %s", got)
	}
}

// That a value changed between another revision and what runs is not told either.
func TestReadersAreNotToldThatAValueChanged(t *testing.T) {
	answers := map[string]bool{}
	for _, before := range []string{"rosebud", "sesame"} {
		f := newFollowed(t, own("main", schema.SourceSpec{}))
		f.push("main", 1, secretOf("s", before))
		f.push("main", 2, secretOf("s", "sesame")+"---\n"+aNamespace)
		answers[f.asked(secretOf("s", "guess"), string(objecttest.Commit(1)))] = true
	}
	if len(answers) != 1 {
		t.Errorf("where the value changed the answer is another: %q", slices.Sorted(maps.Keys(answers)))
	}
}

// What a reader asks about is not remembered as what runs: a push of the same is seen to
// change it.
func TestPlansOfReadersAreNotRemembered(t *testing.T) {
	f := newFollowed(t, own("main", schema.SourceSpec{}))
	read, remembered := f.Load, map[string]*schema.Same{}
	f.Load = func(ctx context.Context, source schema.SourceName, tree schema.Tree, spec schema.SourceSpec, rights schema.Rights, namespaces []string) ([]*schema.Desired, schema.Diagnostics) {
		text, _ := tree.Files[0].Open()
		objects, diags := read(ctx, source, tree, spec, rights, namespaces)
		for i, d := range objects { // as the cache of trees has them
			key := fmt.Sprint(i, string(text))
			if remembered[key] == nil {
				remembered[key] = new(schema.Same)
			}
			d.Same = remembered[key]
		}
		return objects, diags
	}
	f.push("main", 1, secretOf("s", "sesame"))
	f.asked(secretOf("s", "rosebud"), "")
	f.push("main", 2, secretOf("s", "rosebud"))
	f.opens("s", "rosebud")
}

// A push, whose pusher may replace the value, is told whether it changes.
func TestPushersSeeWhatChanges(t *testing.T) {
	f := newFollowed(t, own("main", schema.SourceSpec{}))
	f.push("main", 1, secretOf("s", "sesame"))
	for n, value := range map[int]string{2: "sesame", 3: "another"} {
		cand, err := f.JudgeCommit(t.Context(), "main", repository{trees: map[schema.Commit]string{objecttest.Commit(n): secretOf("s", value)}}, objecttest.Commit(n), nil)
		if err != nil {
			t.Fatal(err)
		}
		if changes := len(cand.Plan.Objects); changes != n-2 {
			t.Errorf("%s: %d changes", value, changes)
		}
	}
}

// Whoever judges a push is told each thing that may take long before it begins.
func TestJudgingTellsWhatItDoes(t *testing.T) {
	f := newFollowed(t, own("main", schema.SourceSpec{}))
	tip := f.commit("main", 1, secretOf("s", "sesame"))
	var got []string
	if _, err := f.JudgeCommit(t.Context(), "main", f.repos["main"], tip, func(what string) { got = append(got, what) }); err != nil {
		t.Fatal(err)
	}
	want := []string{"reading the commits", "waiting until the trees before it are judged", "reading and checking the tree", "planning 1 object"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The values of a revision are there when nodes ask for them, however much is pushed
// and planned elsewhere between its judgement and its round; those of others are gone.
func TestValuesStayUntilTheyAreDelivered(t *testing.T) {
	f := newFollowed(t, own("main", schema.SourceSpec{}), own("other", schema.SourceSpec{}))
	f.push("main", 1, secretOf("s", "sesame"))
	tip := f.commit("main", 2, secretOf("s", "rosebud"))
	if _, err := f.JudgeCommit(t.Context(), "main", f.repos["main"], tip, nil); err != nil {
		t.Fatal(err)
	}
	for n := range 99 {
		f.push("other", 100+n, fmt.Sprintf("%s---\n%s", secretOf("o", fmt.Sprint("v", n)), secretOf("p", "same")))
		f.asked(secretOf("s", fmt.Sprint("guess", n)), "")
		f.opens("s", "sesame")
	}
	f.look("main")
	f.opens("s", "rosebud")
	f.opens("o", "v98")
	f.push("other", 300, secretOf("p", "same"))
	f.opens("s", "rosebud")
	f.opens("p", "same")
	held := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s"}, Data: map[string][]byte{"password": []byte("sesame")}}
	sealed, _ := f.Vault.Seal([]*schema.Desired{{Object: held}})
	if _, ok := f.Vault.Open(sealed[0].Object.(*corev1.Secret)); ok {
		t.Error("a value that no Secret has any more is still held")
	}
}

func (f *followed) opens(name, want string) {
	f.t.Helper()
	secret, ok := state.Get[*corev1.Secret](f.machine.Snapshot(), "default", name)
	if !ok {
		f.t.Fatalf("there is no Secret %s", name)
	}
	if values, ok := f.Vault.Open(secret); !ok || string(values["password"]) != want {
		f.t.Fatalf("Secret %s opens as %s, %t, want %s", name, values, ok, want)
	}
}

func sourceOf(name, rights string) string {
	return "apiVersion: fairlead/v1\nkind: Source\nmetadata: {name: " + name + "}\nspec: {embedded: true" + rights + "}\n"
}

const (
	aNamespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: lab}\n"
	aHostPort  = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: localhost/a:1, ports: [{containerPort: 80, hostPort: 80}]}]}\n"
)

// A source has what it and all above it name; who is narrowed narrows all below, and
// what they ask for is judged again.
func TestRightsFollowTheChain(t *testing.T) {
	f := newFollowed(t, own("main", schema.SourceSpec{}))
	wide := sourceOf("team", `, clusterKinds: [Namespace, Source], podSecurity: privileged`)
	f.push("main", 1, wide)
	f.push("team", 1, sourceOf("sub", `, clusterKinds: [Namespace], podSecurity: privileged`))
	f.push("sub", 1, aNamespace+"---\n"+aHostPort)
	if phase, said := f.phase("sub", 1); phase != schema.PhaseRollingOut {
		t.Fatalf("sub is %s: %s", phase, said)
	}
	before, _ := state.Revision(f.machine.Snapshot(), schema.RevisionOf("sub", objecttest.Commit(1)))

	f.push("main", 2, sourceOf("team", `, clusterKinds: [Source, Namespace], podSecurity: privileged, namespaces: [default, lab]`))
	f.look("sub")
	if now, _ := state.Revision(f.machine.Snapshot(), schema.RevisionName(before.Name)); now != before {
		t.Errorf("judged again with nothing to say, it has become %+v", now.Status)
	}

	f.push("main", 3, sourceOf("team", `, clusterKinds: [Source]`))
	f.look("sub")
	phase, said := f.phase("sub", 1)
	if phase != schema.PhaseInvalid || !strings.Contains(said, "all.yaml:2:7: kind: ") || !strings.Contains(said, "baseline: Host Ports") {
		t.Errorf("narrowed: %s: %s", phase, said)
	}
	if got := f.source("sub").Status.Applied.Commit; got != objecttest.Commit(1) {
		t.Errorf("narrowed, sub runs %s", got)
	}
	f.look("team")
	if phase, said := f.phase("team", 1); phase != schema.PhaseInvalid || !strings.Contains(said, "spec.podSecurity") || !strings.Contains(said, "spec.clusterKinds[0]") {
		t.Errorf("narrowed: team is %s: %s", phase, said)
	}

	f.push("main", 4, wide)
	f.look("sub")
	if phase, said := f.phase("sub", 1); phase != schema.PhaseRollingOut {
		t.Errorf("wide again: %s: %s", phase, said)
	}
}

// What was judged under rights that are not in force any more is not taken.
func TestACandidateOfOtherRightsIsLeftAlone(t *testing.T) {
	f := newFollowed(t, own("main", schema.SourceSpec{}))
	f.push("main", 1, sourceOf("team", `, podSecurity: privileged`))
	tip := f.commit("team", 1, aHostPort)
	cand, err := f.JudgeCommit(t.Context(), "team", f.repos["team"], tip, nil)
	if err != nil || cand.Diagnostics.HasErrors() {
		t.Fatal(err, cand.Diagnostics)
	}
	f.push("main", 2, sourceOf("team", ``))
	f.round(cand)
	if phase, _ := f.phase("team", 1); phase != "" {
		t.Errorf("it is %s", phase)
	}
	f.look("team")
	if phase, said := f.phase("team", 1); phase != schema.PhaseInvalid {
		t.Errorf("judged anew it is %s: %s", phase, said)
	}
}

// Chains that end nowhere, or in themselves, have least.
func TestRightsOfSourcesWithoutParent(t *testing.T) {
	declared := func(name string, by schema.SourceName) *schema.Source {
		src := own(name, schema.SourceSpec{})
		schema.SetOrigin(&src, schema.Origin{Source: by, Path: "a.yaml", Line: 1, Commit: "c"})
		return &src
	}
	tx := state.Empty(state.Counters{}).Begin()
	for _, src := range []*schema.Source{declared("orphan", "gone"), declared("a", "b"), declared("b", "a")} {
		tx.Put(src)
	}
	for source, want := range map[schema.SourceName]string{
		"orphan":  "namespaces any, cluster kinds [], pod security baseline, hostPath false",
		"unknown": "namespaces any, cluster kinds [], pod security baseline, hostPath false",
		"a":       "namespaces [], cluster kinds [], pod security restricted, hostPath false",
	} {
		if got := settle.EffectiveRights(tx, source).String(); got != want {
			t.Errorf("%s has %s, want %s", source, got, want)
		}
	}
}

// refusing is a repository whose entries a later version refuses.
type refusing struct{ repository }

func (r refusing) Tree(commit schema.Commit, path string) (schema.Tree, error) {
	tree, err := r.repository.Tree(commit, path)
	tree.Faults = schema.Diagnostics{{Position: schema.Position{Path: "."}, Severity: schema.Error, Message: "an entry that is refused today"}}
	return tree, err
}

// After a start pods get the Secrets of what runs, whatever would be said of its tree
// today.
func TestSecretsOfWhatRunsAreOpened(t *testing.T) {
	f := newFollowed(t, own("main", schema.SourceSpec{}))
	f.push("main", 1, secretOf("s", "sesame"))
	f.Vault = reconciler.NewVault([]byte("k"))
	if _, _, err := f.Look(t.Context(), "main", opened(refusing{f.repos["main"]}), nil); err != nil {
		t.Fatal(err)
	}
	f.opens("s", "sesame")
}

// A Source whose rights were narrowed since keeps its pods' Secrets over a start: what
// runs was allowed when it was applied. Its tree is Invalid now.
func TestNarrowedRightsKeepSecretsOverAStart(t *testing.T) {
	f := newFollowed(t, own("main", schema.SourceSpec{}))
	f.push("main", 1, aNamespace+"---\n"+sourceOf("team", `, podSecurity: privileged, namespaces: [default, lab]`))
	f.push("team", 1, secretOf("s", "sesame")+"---\n"+strings.Replace(secretOf("t", "rosebud"), "{name: t}", "{name: t, namespace: lab}", 1)+"---\n"+aHostPort)
	f.opens("s", "sesame")
	f.push("main", 2, aNamespace+"---\n"+sourceOf("team", `, namespaces: [lab]`))
	f.look("team")
	if phase, said := f.phase("team", 1); phase != schema.PhaseInvalid || !strings.Contains(said, "baseline: Host Ports") {
		t.Errorf("narrowed: %s: %s", phase, said)
	}
	f.Vault = reconciler.NewVault([]byte("k"))
	f.look("team") // nothing is judged again: it is only opened
	f.opens("s", "sesame")
	sealed, _ := state.Get[*corev1.Secret](f.machine.Snapshot(), "lab", "t")
	if _, known := f.Vault.Open(sealed); !known {
		t.Error("the value of a Secret in another namespace is gone")
	}
}

// distant is a repository that does not answer before it is told to.
type distant struct {
	repository
	asked  chan struct{}
	answer chan struct{}
}

func (d distant) Tip(ctx context.Context) (schema.Commit, error) {
	close(d.asked)
	<-d.answer
	return d.tip, nil
}

// What is due for what runs waits for no remote.
func TestStayingWaitsForNoRemote(t *testing.T) {
	f := newFollowed(t, own("main", schema.SourceSpec{}))
	f.push("main", 1, secretOf("s", "one"))
	away := distant{f.repos["main"], make(chan struct{}), make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		_, _, err := f.Look(t.Context(), "main", opened(away), nil)
		ended <- err
	}()
	<-away.asked
	if err := f.Stay(t.Context(), "main", f.repos["main"]); err != nil {
		t.Error(err)
	}
	close(away.answer)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A Source that says otherwise how its trees are read has what Git asks for judged again,
// without a new commit.
func TestWhatIsReadOtherwiseIsJudgedAgain(t *testing.T) {
	f := newFollowed(t, own("main", schema.SourceSpec{}))
	f.push("main", 1, sourceOf("team", ""))
	f.push("team", 1, "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: localhost/c:1, envFrom: [{secretRef: {name: late}}]}]}\n")
	if phase, said := f.phase("team", 1); phase != schema.PhaseInvalid || !strings.Contains(said, "no Secret default/late is declared") {
		t.Fatalf("%s: %s", phase, said)
	}
	f.push("main", 2, sourceOf("team", ", missingReferences: wait"))
	f.look("team")
	if phase, said := f.phase("team", 1); phase != schema.PhaseRollingOut {
		t.Errorf("%s: %s", phase, said)
	}
	counters := f.machine.Snapshot().Counters()
	f.look("team")
	if now := f.machine.Snapshot().Counters(); now != counters {
		t.Errorf("looked at again with nothing new, it was written: %+v, then %+v", counters, now)
	}
}

// A namespace that its tree declares no more and that stays for what stands in it asks of
// pods what it asked before.
func TestAnUndeclaredNamespaceAsksAsBefore(t *testing.T) {
	const strict = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {pod-security.kubernetes.io/enforce: baseline}}\n"
	const loose = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec: {containers: [{name: c, image: localhost/c:1, securityContext: {privileged: true}}]}\n"
	const plain = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: shop}\n"
	f := newFollowed(t, own("main", schema.SourceSpec{CreateNamespaces: true}))
	f.push("main", 1, strict+"---\n"+plain)
	f.push("main", 2, loose+"---\n"+plain)
	if phase, said := f.phase("main", 2); phase != schema.PhaseInvalid || !strings.Contains(said, `namespace "shop" enforces baseline`) {
		t.Errorf("%s: %s", phase, said)
	}
}
