package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"

	"fairlead/cmd/fairlead/internal/config"
	"fairlead/reconciler"
	"fairlead/reconciler/api"
	"fairlead/reconciler/control"
	"fairlead/reconciler/gitsource"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/reconciler/store"
	"fairlead/reconciler/trust"
	"fairlead/schema"
	"fairlead/schema/load"
)

// gitMaster is a master without nodes and doors: the loop, its sources, and a
// store that a second one can take over.
type gitMaster struct {
	t       *testing.T
	dir     string
	store   *store.Memory
	sources *sources
	feed    *state.Feed
	load    reconciler.Loader
	stop    func()
}

func newGitMaster(t *testing.T, configured ...config.Source) *gitMaster {
	return newGitMasterThatLoads(t, loadPlainly, configured...)
}

// loadPlainly evaluates no CUE.
func loadPlainly(ctx context.Context, source schema.SourceName, tree schema.Tree, spec schema.SourceSpec, rights schema.Rights, namespaces []string) ([]*schema.Desired, schema.Diagnostics) {
	r := load.Load(ctx, tree, spec, load.Options{Source: source, Rights: &rights, KnownNamespaces: namespaces})
	return r.Objects, r.Diagnostics
}

func newGitMasterThatLoads(t *testing.T, read reconciler.Loader, configured ...config.Source) *gitMaster {
	t.Helper()
	m := &gitMaster{t: t, dir: t.TempDir(), store: store.NewMemory(time.Now()), load: read}
	m.start(configured)
	t.Cleanup(func() { m.stop() })
	return m
}

func (m *gitMaster) start(configured []config.Source) {
	m.t.Helper()
	authority, err := trust.Open(filepath.Join(m.dir, "pki"), trust.Config{Now: time.Now})
	m.fatal(err)
	log := logrus.New()
	log.SetOutput(io.Discard)
	m.sources, err = newSources(config.Master{Dir: m.dir, Sources: configured}, filepath.Join(m.dir, "hook.sock"), authority, logrus.NewEntry(log))
	m.fatal(err)
	// Nobody pushes to the embedded remotes of this test through hooks.
	m.sources.hookBinary = "/bin/true"
	m.store = m.store.Open()
	loaded, err := m.store.Load(m.t.Context())
	m.fatal(err)
	snapshot, unreadable := reconciler.Restore(loaded.Records, state.Counters{ResourceVersion: loaded.ResourceVersion, Creations: loaded.Creations})
	if unreadable = append(unreadable, loaded.Unreadable...); len(unreadable) > 0 {
		m.t.Fatal(unreadable)
	}
	engine := settle.NewEngine(control.Config{
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), DNS: netip.MustParseAddr("10.96.0.10"), NodePortFirst: 30000, NodePortLast: 32767,
	})
	m.feed = state.NewFeed(snapshot)
	loop := reconciler.NewLoop(reconciler.LoopConfig{
		Machine: reconciler.NewMachine(engine, snapshot, m.sources.configured), Store: m.store, Feed: m.feed, Round: loaded.Round,
		Log: logrus.NewEntry(log), Now: time.Now,
	})
	follower := &reconciler.Follower{Loop: loop, Feed: m.feed, Engine: engine, Load: m.load, Vault: reconciler.NewVault(authority.SealKey()), Now: time.Now}
	m.sources.loop, m.sources.feed, m.sources.follower = loop, m.feed, follower
	m.fatal(m.sources.prepare(m.t.Context(), snapshot))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- loop.Run(ctx) }()
	go func() { done <- m.sources.run(ctx) }()
	m.stop = func() {
		cancel()
		for range 2 {
			// A round may be under way.
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				m.t.Error(err)
			}
		}
		m.stop = func() {}
	}
}

func (m *gitMaster) fatal(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// await waits until the published cluster, or what follows it, is as wanted.
func (m *gitMaster) await(what string, is func(r state.Reader) bool) {
	m.t.Helper()
	m.awaitFor(20*time.Second, what, is)
}

func (m *gitMaster) awaitFor(most time.Duration, what string, is func(r state.Reader) bool) {
	m.t.Helper()
	late := time.After(most)
	for {
		_, snapshot, moved, _ := m.feed.Since(0)
		if is(snapshot) {
			return
		}
		select {
		case <-moved:
		case <-time.After(10 * time.Millisecond):
		case <-late:
			m.t.Fatalf("never: %s; the source says %+v", what, m.conditions("shop"))
		}
	}
}

func (m *gitMaster) conditions(source schema.SourceName) map[string]string {
	out := map[string]string{}
	if src, ok := state.Source(m.feed.Snapshot(), source); ok {
		for _, c := range src.Status.Conditions {
			out[c.Type] = c.Reason + ": " + c.Message
		}
	}
	return out
}

// says waits until a source's condition gives a reason.
func (m *gitMaster) says(source schema.SourceName, condition, reason string) {
	m.t.Helper()
	m.await(fmt.Sprintf("%s is %s %s", source, condition, reason), func(state.Reader) bool {
		return strings.HasPrefix(m.conditions(source)[condition], reason+":")
	})
}

func (m *gitMaster) applied(source schema.SourceName, commit schema.Commit) {
	m.t.Helper()
	m.await(string(source)+" applies "+string(commit), func(r state.Reader) bool {
		src, ok := state.Source(r, source)
		return ok && src.Status.Applied.Commit == commit
	})
}

// outsideRepo is a repository to work in.
type outsideRepo struct {
	t   *testing.T
	dir string
}

func newOutsideRepo(t *testing.T, dir string) *outsideRepo {
	c := &outsideRepo{t, dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c.git("init", "--quiet", "--initial-branch=main")
	return c
}

func (c *outsideRepo) git(args ...string) string {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "git", args...)
	cmd.Dir = c.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (c *outsideRepo) commit(message string, files map[string]string) string {
	c.t.Helper()
	for name, text := range files {
		path := filepath.Join(c.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			c.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			c.t.Fatal(err)
		}
	}
	c.git("add", "--all")
	c.git("commit", "--quiet", "--allow-empty", "--message", message)
	return c.git("rev-parse", "HEAD")
}

func configMap(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {k: v%s}\n", name, value)
}

// Whatever an outside repository does, what was applied stays, the Source says
// why, and goes on when the repository is well again.
func TestOutsideSourceKeepsTheLastGoodState(t *testing.T) {
	shop := newOutsideRepo(t, filepath.Join(t.TempDir(), "shop"))
	good := schema.Commit(shop.commit("good", map[string]string{"deploy/a.yaml": configMap("a", "1"), "deploy/b.yaml": configMap("b", "1")}))
	m := newGitMaster(t, config.Source{Name: "shop", Spec: schema.SourceSpec{URL: shop.dir, Path: "deploy"}})
	m.applied("shop", good)
	m.says("shop", schema.ConditionFetched, schema.ReasonFetched)
	cm, ok := state.Get[*corev1.ConfigMap](m.feed.Snapshot(), "default", "a")
	if !ok {
		t.Fatal("no ConfigMap a")
	}
	stays := func() {
		t.Helper()
		now, ok := state.Get[*corev1.ConfigMap](m.feed.Snapshot(), "default", "a")
		if !ok || now.UID != cm.UID || now.ResourceVersion != cm.ResourceVersion {
			t.Fatalf("ConfigMap a is %+v, was %+v", now, cm)
		}
	}
	for _, c := range []struct {
		name, condition, reason string
		lie, mend               func()
	}{
		{
			"force-push", schema.ConditionFetched, "Rewound",
			func() {
				shop.git("checkout", "--quiet", "--orphan", "x")
				shop.commit("else", nil)
				shop.git("branch", "--force", "-M", "main")
			},
			func() { shop.git("reset", "--quiet", "--hard", string(good)) },
		}, {
			"vanished branch", schema.ConditionFetched, "BranchGone",
			func() { shop.git("branch", "-M", "old") }, func() { shop.git("branch", "-M", "main") },
		}, {
			"path gone", schema.ConditionFetched, "PathGone",
			func() { shop.git("mv", "deploy", "away"); shop.commit("moved", nil) }, func() { shop.git("revert", "--no-edit", "HEAD") },
		}, {
			"missing object", schema.ConditionFetched, "BadRepository",
			func() {
				tree := shop.git("rev-parse", "HEAD:deploy")
				cmd := exec.CommandContext(t.Context(), "git", "mktree", "--missing")
				cmd.Dir = shop.dir
				cmd.Stdin = strings.NewReader(shop.git("ls-tree", tree) + "\n100644 blob 1111111111111111111111111111111111111111\tc.yaml\n")
				out, err := cmd.Output()
				m.fatal(err)
				cmd = exec.CommandContext(t.Context(), "git", "mktree")
				cmd.Dir = shop.dir
				cmd.Stdin = strings.NewReader("040000 tree " + strings.TrimSpace(string(out)) + "\tdeploy\n")
				out, err = cmd.Output()
				m.fatal(err)
				shop.git("update-ref", "refs/heads/main", shop.git("commit-tree", "-p", "HEAD", "-m", "missing", strings.TrimSpace(string(out))))
			},
			func() { shop.git("reset", "--quiet", "--hard", "HEAD~1") },
		}, {
			"empty tree", "Ready", "Held",
			func() {
				shop.git("rm", "-r", "--quiet", "deploy")
				shop.commit("empty", map[string]string{"deploy/README": "nothing"})
			},
			func() { shop.git("revert", "--no-edit", "HEAD") },
		},
	} {
		c.lie()
		m.says("shop", c.condition, c.reason)
		stays()
		c.mend()
		m.applied("shop", schema.Commit(shop.git("rev-parse", "main")))
		m.says("shop", schema.ConditionFetched, schema.ReasonFetched)
		stays()
	}
	// A master that starts while nobody answers still has what was applied.
	m.stop()
	away := shop.dir + ".away"
	m.fatal(os.Rename(shop.dir, away))
	m.start([]config.Source{{Name: "shop", Spec: schema.SourceSpec{URL: shop.dir, Path: "deploy"}}})
	m.says("shop", schema.ConditionFetched, "Unreachable")
	stays()
	m.fatal(os.Rename(away, shop.dir))
	next := schema.Commit(shop.commit("next", map[string]string{"deploy/b.yaml": configMap("b", "2")}))
	m.applied("shop", next)
	stays()
}

// Sources that a tree adds are followed at once, and no longer when it drops
// them; their repositories stay on disk.
func TestSourcesFromGit(t *testing.T) {
	base := t.TempDir()
	root, shop := newOutsideRepo(t, filepath.Join(base, "root")), newOutsideRepo(t, filepath.Join(base, "shop"))
	source := func(name, spec string) string {
		return fmt.Sprintf("apiVersion: fairlead/v1\nkind: Source\nmetadata: {name: %s}\nspec: %s\n", name, spec)
	}
	first := schema.Commit(shop.commit("first", map[string]string{"a.yaml": configMap("a", "1")}))
	root.commit("sources", map[string]string{
		"shop.yaml": source("shop", "{url: "+shop.dir+"}"), "team.yaml": source("team", "{embedded: true}"), "a.yaml": configMap("root", "1"),
		"thief.yaml": source("thief", "{url: "+shop.dir+", auth: {secretFile: "+filepath.Join(base, "passwd")+"}}"),
	})
	m := newGitMaster(t, config.Source{Name: "main", Spec: schema.SourceSpec{URL: root.dir}})
	m.applied("shop", first)
	m.says("thief", schema.ConditionFetched, "BadCredentials")
	m.await("the embedded remote of team", func(state.Reader) bool { _, ok := m.sources.remote("team"); return ok })
	team := newOutsideRepo(t, filepath.Join(base, "team"))
	pushed := schema.Commit(team.commit("pushed", map[string]string{"t.yaml": configMap("team", "1")}))
	m.sources.get("team").note(pushed, "ada")
	// The hook is /bin/true: the watch alone sees the push.
	team.git("push", "--quiet", filepath.Join(m.dir, "git/team.git"), "main")
	m.applied("team", pushed)
	if rev, _ := state.Revision(m.feed.Snapshot(), schema.RevisionOf("team", pushed)); rev == nil || rev.Spec.Pusher != "ada" {
		t.Errorf("revision %+v, want pusher ada", rev)
	}

	// Another branch is followed as soon as the Source says so.
	shop.git("checkout", "--quiet", "-b", "next")
	next := schema.Commit(shop.commit("next", map[string]string{"a.yaml": configMap("a", "2")}))
	root.commit("branch", map[string]string{"shop.yaml": source("shop", "{url: "+shop.dir+", branch: next}")})
	m.applied("shop", next)

	root.git("rm", "--quiet", "shop.yaml", "team.yaml", "thief.yaml")
	root.commit("gone\n\nFairlead-Allow-Prune: 9", nil)
	m.await("the followers end", func(r state.Reader) bool {
		_, ok := state.Source(r, "team")
		return !ok && m.sources.get("shop") == nil && m.sources.get("team") == nil
	})
	for _, kept := range []string{"git/team.git/HEAD", "cache/shop.git/HEAD"} {
		if _, err := os.Stat(filepath.Join(m.dir, kept)); err != nil {
			t.Error(err)
		}
	}
	if _, ok := state.Get[*corev1.ConfigMap](m.feed.Snapshot(), "default", "a"); !ok {
		t.Error("the objects of a Source went with it")
	}
}

// The port lets through what git takes, and no more.
func TestTheGitDoorTakesWhatGitTakes(t *testing.T) {
	for _, l := range api.Limits() {
		if l.Door == "git" && l.BodyBytes != gitsource.MaxPushBytes {
			t.Errorf("the port takes %d bytes of a push, git %d", l.BodyBytes, gitsource.MaxPushBytes)
		}
	}
}
