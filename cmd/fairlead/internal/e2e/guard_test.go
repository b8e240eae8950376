package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/schema"
)

// settings is how many ConfigMaps stand in the guarded tree.
const settings = 12

// What Git asks for by accident is not done: nothing goes and no container
// restarts, the status says why, and a trailer lifts it. Each step builds on the
// one before.
func TestGuards(t *testing.T) {
	t.Parallel()
	c := fresh(t, 1)
	g := guards{c: c, w: c.clone(t), seen: t.TempDir()}
	g.w.write(t, g.tree("running", ""))
	g.w.pushHealthy(t, "all there is")
	g.before = c.truth()
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"an invalid tree", g.invalid},
		{"a branch deleted or rewound", g.rewound},
		{"a mass deletion", g.massDeletion},
		{"an empty tree", g.empty},
		{"a tree that failed", g.quarantined},
	} {
		if !t.Run(step.name, step.run) {
			t.FailNow()
		}
	}
}

// guards is what the steps share.
type guards struct {
	c      *cluster
	w      worktree
	seen   string
	before map[string]container // what runs all the time
}

// tree has one running witness and many small objects.
func (g *guards) tree(name, need string) map[string]string {
	w := workload{name: name, replicas: 1, diaries: g.seen, deadline: 5}
	if need != "" {
		w.args = []string{"-need=/diaries/" + need}
	}
	tree := labTree(nil, w)
	for i := range settings {
		tree[fmt.Sprintf("settings/%d.yaml", i)] = fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: setting-%d, namespace: %s}\ndata: {n: \"%d\"}\n", i, lab, i)
	}
	return tree
}

// unchanged wants every ConfigMap and every container to be as they were.
func (g *guards) unchanged(t *testing.T, want int) {
	t.Helper()
	if got := g.settings(t); got != want {
		t.Errorf("%d ConfigMaps, want %d", got, want)
	}
	if wrong := changes(g.before, g.c.truth()); len(wrong) > 0 {
		t.Errorf("containers changed:\n%s", strings.Join(wrong, "\n"))
	}
}

func (g *guards) settings(t *testing.T) (n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	all, _, err := client.List[*corev1.ConfigMap](ctx, g.c.api, schema.KindConfigMap)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if strings.HasPrefix(m.Name, "setting-") {
			n++
		}
	}
	return n
}

// refused wants git's push to fail and to say each of these.
func refused(t *testing.T, out string, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("the push was accepted:\n%s", out)
	}
	for _, s := range says {
		if !strings.Contains(out, s) {
			t.Errorf("the answer lacks %q:\n%s", s, out)
		}
	}
}

// held pushes and wants the revision to be held with a reason that names a
// trailer, and a code. It returns how the trailer would have to be written.
func (g *guards) held(t *testing.T, subject, trailer, code string) (lift string) {
	t.Helper()
	out, err := g.w.push(t, subject)
	if err != nil || !strings.Contains(out, trailer) {
		t.Errorf("the push does not tell of %s: %v\n%s", trailer, err, out)
	}
	rev := g.c.revision(t, g.w.head(t))
	reason := rev.Status.Phases[len(rev.Status.Phases)-1].Reason
	if rev.Status.Phase != schema.PhaseHeld || !strings.Contains(reason, trailer+": ") {
		t.Fatalf("%s is %s: %s", rev.Name, rev.Status.Phase, reason)
	}
	for _, object := range []string{"source/main", "revision/" + rev.Name} {
		if got, whole := g.c.why(t, object); got != code {
			t.Errorf("%s is %s, not %s: %s", object, got, code, whole)
		}
	}
	_, lift, _ = strings.Cut(reason, trailer+": ")
	lift, _, _ = strings.Cut(lift, `"`)
	return trailer + ": " + lift
}

// back resets the work tree to the commit that runs.
func (g *guards) back(t *testing.T) {
	t.Helper()
	g.w.git(t, "checkout", "--quiet", g.c.source(t).Status.Applied.Commit, "--", ".")
}

func (g *guards) invalid(t *testing.T) {
	g.w.write(t, map[string]string{"lab/broken.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not_A_Name, namespace: lab}\ndatum: {}\n", "settings/0.yaml": ""})
	out, err := g.w.push(t, "two slips of the pen")
	refused(t, out, err, "remote: lab/broken.yaml:3:", "remote: lab/broken.yaml:4:", "datum", "did you mean", "data")
	g.unchanged(t, settings)
	g.w.git(t, "reset", "--quiet", "--hard", "HEAD~1")
}

func (g *guards) rewound(t *testing.T) {
	out, err := g.w.tryGit(t, "push", "origin", ":main")
	refused(t, out, err, "main")
	was := g.w.head(t)
	g.w.git(t, "commit", "--quiet", "--amend", "--allow-empty", "-m", "history written anew")
	out, err = g.w.tryGit(t, "push", "--force", "origin", "HEAD:main")
	refused(t, out, err, schema.TrailerAllowRewind, was[:12])
	g.unchanged(t, settings)
	if applied := g.c.source(t).Status.Applied.Commit; applied != was {
		t.Errorf("applied is %s, was %s", applied, was)
	}
	g.w.git(t, "commit", "--quiet", "--amend", "--allow-empty", "-m", "history written anew\n\n"+schema.TrailerAllowRewind+": "+was)
	if out, err = g.w.tryGit(t, "push", "--force", "-o", "wait", "origin", "HEAD:main"); err != nil || !strings.Contains(out, "remote: HEALTHY main-") {
		t.Fatalf("with the trailer: %v\n%s", err, out)
	}
	g.unchanged(t, settings)
}

func (g *guards) massDeletion(t *testing.T) {
	for i := range settings - 2 {
		g.w.write(t, map[string]string{fmt.Sprintf("settings/%d.yaml", i): ""})
	}
	lift := g.held(t, "nearly all goes", schema.TrailerAllowPrune, "PruneGuard")
	g.unchanged(t, settings)
	g.w.pushHealthy(t, "yes, nearly all goes\n\n"+lift)
	g.unchanged(t, 2)
}

func (g *guards) empty(t *testing.T) {
	g.w.git(t, "rm", "-r", "--quiet", ".")
	g.held(t, "nothing left", schema.TrailerAllowPrune, "TreeEmpty")
	g.unchanged(t, 2)
	g.back(t)
	g.w.pushHealthy(t, "all back")
	g.unchanged(t, 2)
}

// quarantined pushes a tree that fails for want of a file: it is rolled back and
// not tried again, until somebody who has put the file there says so.
func (g *guards) quarantined(t *testing.T) {
	const permit = "permit"
	good := g.c.source(t).Status.Applied.Commit
	const changed = "lab/running.yaml"
	g.w.write(t, map[string]string{changed: g.tree("running", permit)[changed]})
	out, err := g.w.push(t, "without a permit")
	if err != nil || !strings.Contains(out, "remote: FAILED main-") {
		t.Fatalf("push: %v\n%s", err, out)
	}
	eventually(t, 30*time.Second, "the good revision is healthy again", func() (bool, string) {
		rev, src := g.c.revision(t, good), g.c.source(t)
		return src.Status.Applied.Commit == good && rev.Status.Phase == schema.PhaseHealthy, fmt.Sprintf("applied %.12s, %s is %s", src.Status.Applied.Commit, rev.Name, rev.Status.Phase)
	})
	g.c.awaitRest(t)
	g.unchanged(t, 2)
	failed := g.c.revision(t, g.w.head(t))
	if !failed.Status.Quarantined || failed.Status.Phase != schema.PhaseRolledBack {
		t.Errorf("%s is %s, quarantined %v", failed.Name, failed.Status.Phase, failed.Status.Quarantined)
	}
	lift := g.held(t, "the same tree again", schema.TrailerRetry, "Quarantined")
	g.unchanged(t, 2)
	if err := os.WriteFile(filepath.Join(g.seen, permit), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	g.w.pushHealthy(t, "there is a permit now\n\n"+strings.Replace(lift, "<why>", "the file is there", 1))
}
