package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"fairlead/cmd/fairlead/internal/config"
	"fairlead/reconciler/follow"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/load"
	"fairlead/schema/load/child"
)

// patience is how long a test waits for what takes a second on an idle machine.
const patience = 5 * time.Minute

// bombSize is that of two files which are a few bytes in a pack, one made from the other:
// to take them in, git holds both.
const bombSize = 96 << 20

// hostileRepos are what may be pushed to harm others, each a repository of a source: CUE
// that never ends, a long history, a wide tree, files that git inflates, a pack that takes
// all memory of whoever fetches it.
func hostileRepos(t *testing.T) map[string]string {
	var cue strings.Builder
	cue.WriteString("package bomb\n")
	for i := range 12 {
		fmt.Fprintf(&cue, "d%d: {a: 1} | {b: 2} | {c: 3}\n", i)
	}
	cue.WriteString("all: d0 & d1 & d2 & d3 & d4 & d5 & d6 & d7 & d8 & d9 & d10 & d11\n")
	out := map[string]string{}
	for name, stream := range map[string]string{
		"cue-1":   commitOf(1, map[string]string{"a.cue": cue.String()}),
		"cue-2":   commitOf(1, map[string]string{"b/a.cue": cue.String(), "c/a.cue": cue.String()}),
		"cue-3":   commitOf(1, map[string]string{"a.cue": cue.String(), "a.yaml": configMap("a", "1")}),
		"memory":  commitOf(1, map[string]string{"a.cue": "package bomb\nimport \"list\"\nx: list.Range(0, 100000000, 1)\n"}),
		"history": commitOf(3_000, map[string]string{"a.cue": cue.String()}),
		"wide":    commitOf(1, wideTree(20_000)),
		"bomb":    commitOf(1, map[string]string{"a.yaml": strings.Repeat("\x00", bombSize), "b.yaml": strings.Repeat("\x00", bombSize) + "b"}),
		"inflate": commitOf(1, map[string]string{"a.yaml": strings.Repeat("\x00", 64<<20), "a.cue": cue.String()}),
	} {
		dir := filepath.Join(t.TempDir(), name+".git")
		repo := &outsideRepo{t, t.TempDir()}
		repo.git("init", "--quiet", "--bare", "--initial-branch=main", dir)
		path := filepath.Join(t.TempDir(), "stream")
		if err := os.WriteFile(path, []byte(stream), 0o600); err != nil {
			t.Fatal(err)
		}
		// As one pack, in which files of any size are made from others.
		repo.git("-c", "alias.import=!git -c fastimport.unpackLimit=1 -c core.bigFileThreshold=1g -C "+dir+" fast-import --quiet <"+path, "import")
		out[name] = dir
	}
	return out
}

// wideTree is a directory of so many manifests, all the same.
func wideTree(n int) map[string]string {
	out := map[string]string{}
	for i := range n {
		out[fmt.Sprintf("m%05d.yaml", i)] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: same}\n"
	}
	return out
}

// commitOf is a stream for git fast-import: so many commits, the files in the first.
func commitOf(commits int, files map[string]string) string {
	var b strings.Builder
	for i := range commits {
		fmt.Fprintf(&b, "commit refs/heads/main\ncommitter Mallory <m@example.org> %d +0000\ndata 1\nx\n", 1_700_000_000+i)
		for name, text := range files {
			if i == 0 {
				fmt.Fprintf(&b, "M 100644 inline %s\ndata %d\n%s\n", name, len(text), text)
			}
		}
	}
	return b.String()
}

// held keeps every place that hostile sources were given until the quiet source is done,
// after its tree was judged by the real child.
type held struct {
	cue   *load.CUE
	begun chan string   // sources that a judgement began of
	free  chan struct{} // closed when hostile judgements may end
}

func (h *held) load(ctx context.Context, source schema.SourceName, tree schema.Tree, spec schema.SourceSpec, rights schema.Rights, namespaces []string) ([]*schema.Desired, schema.Diagnostics) {
	r := load.Load(ctx, tree, spec, load.Options{CUE: h.cue, Source: source, Rights: &rights, KnownNamespaces: namespaces})
	if source != "quiet" {
		select {
		case h.begun <- string(source):
		default:
		}
		select {
		case <-h.free:
		case <-ctx.Done():
		}
	}
	return r.Objects, r.Diagnostics
}

// A quiet source is judged although hostile ones hold every place that they are given and
// never give one back by themselves: of real repositories, by real git and in the real
// child. So it waits for the end of none of their judgements, however long these take;
// what it takes from then on is what it takes alone.
func TestHostileRepositoriesHoldUpNoOther(t *testing.T) {
	h := &held{
		cue:   load.NewCUE(load.CUEConfig{Command: []string{childProgram(t), load.ChildSubcommand}, Limits: child.Limits{Memory: 128 << 20, CPU: time.Second}}),
		begun: make(chan string, 64), free: make(chan struct{}),
	}
	quiet := newOutsideRepo(t, filepath.Join(t.TempDir(), "quiet"))
	first := schema.Commit(quiet.commit("first", map[string]string{"a.yaml": configMap("a", "1")}))
	sources := []config.Source{{Name: "quiet", Spec: schema.SourceSpec{URL: quiet.dir}}}
	repos := hostileRepos(t)
	for name, dir := range repos {
		sources = append(sources, config.Source{Name: name, Spec: schema.SourceSpec{URL: dir}})
	}
	m := newGitMasterThatLoads(t, h.load, sources...)
	defer close(h.free) // hostile judgements end with the master
	m.awaitFor(patience, "quiet applies its first commit", func(r state.Reader) bool { return appliedCommit(r, "quiet") == first })
	m.awaitFor(patience, "the bomb is refused", func(r state.Reader) bool {
		src, ok := state.Source(r, "bomb")
		return ok && meta.FindStatusCondition(src.Status.Conditions, schema.ConditionFetched) != nil && meta.FindStatusCondition(src.Status.Conditions, schema.ConditionFetched).Reason == string(follow.TooLarge)
	})
	for waiting := map[string]bool{}; len(waiting) < 3; { // they hold what they can get
		select {
		case name := <-h.begun:
			waiting[name] = true
		case <-time.After(patience):
			t.Fatalf("only %v of the hostile sources were begun", waiting)
		}
	}
	for n := 2; n < 5; n++ {
		commit := schema.Commit(quiet.commit("next", map[string]string{"a.yaml": configMap("a", fmt.Sprint(n))}))
		m.sources.get("quiet").hint()
		m.awaitFor(patience, fmt.Sprint("quiet applies commit ", n), func(r state.Reader) bool { return appliedCommit(r, "quiet") == commit })
	}
	for name := range repos {
		if commit := appliedCommit(m.feed.Snapshot(), schema.SourceName(name)); commit != "" {
			t.Errorf("source %s was let go ahead at %s: the quiet one was not beside it", name, commit)
		}
	}
}

func appliedCommit(r state.Reader, source schema.SourceName) schema.Commit {
	if src, ok := state.Source(r, source); ok {
		return src.Status.Applied.Commit
	}
	return ""
}

// childProgram is this test's binary under the name of the program that TestMain runs.
func childProgram(t *testing.T) string {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "fairlead")
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}
