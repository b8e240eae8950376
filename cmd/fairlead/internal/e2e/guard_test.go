package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/schema"
)

// failsAfter is the progress deadline, in seconds, of what cannot run until a file is
// there: longer than a pod takes to start on a busy machine.
const failsAfter = 10

// settings is how many ConfigMaps stand in the guarded tree.
const settings = 12

// What Git asks for by accident is not done: nothing goes and no container
// restarts, the status says why, and a trailer lifts it. Each step builds on the
// one before.
func testGuards(t *testing.T) {
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
		{"a crash that comes late", g.lateCrash},
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
	w := workload{name: name, replicas: 1, diaries: g.seen}
	if need != "" {
		w.args, w.deadline = []string{"-need=/diaries/" + need}, failsAfter
	}
	tree := labTree(nil, w)
	for i := range settings {
		tree[fmt.Sprintf("settings/%d.yaml", i)] = fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: setting-%d, namespace: %s}\ndata: {v: \"%d\"}\n", i, lab, i)
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
func (g *guards) held(t *testing.T, subject, trailer, code string, options ...string) (lift string) {
	t.Helper()
	out, err := g.w.push(t, subject, options...)
	if err != nil || !strings.Contains(out, "remote: HELD main-") || !strings.Contains(out, trailer) || strings.Contains(out, "rolling out") {
		t.Errorf("the push does not tell that it is held and of %s: %v\n%s", trailer, err, out)
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
	g.w.git(t, "checkout", "--quiet", string(g.c.source(t).Status.Applied.Commit), "--", ".")
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
	refused(t, out, err, schema.TrailerAllowRewind, was.Short())
	g.unchanged(t, settings)
	if applied := g.c.source(t).Status.Applied.Commit; applied != was {
		t.Errorf("applied is %s, was %s", applied, was)
	}
	g.w.git(t, "commit", "--quiet", "--amend", "--allow-empty", "-m", "history written anew\n\n"+schema.TrailerAllowRewind+": "+string(was))
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
	g.held(t, "nothing left", schema.TrailerAllowPrune, "TreeEmpty", "--no-signed") // a push that does not wait
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
	const last = "stat /diaries/" + permit + ": no such file or directory"
	if err != nil || !strings.Contains(out, "remote: FAILED main-") || !strings.Contains(out, "remote:   | ") || !strings.Contains(out, "last log line: ") {
		t.Fatalf("push: %v\n%s", err, out)
	}
	eventually(t, time.Minute, "the good revision is healthy again", func() (bool, string) {
		rev, src := g.c.revision(t, good), g.c.source(t)
		return src.Status.Applied.Commit == good && rev.Status.Phase == schema.PhaseHealthy, fmt.Sprintf("applied %.12s, %s is %s", src.Status.Applied.Commit, rev.Name, rev.Status.Phase)
	})
	g.c.awaitRest(t)
	g.unchanged(t, 2)
	failed := g.c.revision(t, g.w.head(t))
	if !failed.Status.Quarantined || failed.Status.Phase != schema.PhaseRolledBack {
		t.Errorf("%s is %s, quarantined %v", failed.Name, failed.Status.Phase, failed.Status.Quarantined)
	}
	g.remembered(t, failed, last)
	lift := g.held(t, "the same tree again", schema.TrailerRetry, "Quarantined")
	g.unchanged(t, 2)
	if err := os.WriteFile(filepath.Join(g.seen, permit), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	g.w.pushHealthy(t, "there is a permit now\n\n"+strings.Replace(lift, "<why>", "the file is there", 1))
}

// remembered wants what a failed revision's pod wrote to be told by everything that is
// asked about it, now that the pod and its log are gone.
func (g *guards) remembered(t *testing.T, failed *schema.Revision, last string) {
	t.Helper()
	if len(failed.Status.Evidence) != 1 {
		t.Fatalf("%s keeps %d pieces of evidence: %+v", failed.Name, len(failed.Status.Evidence), failed.Status.Evidence)
	}
	e := failed.Status.Evidence[0]
	if n := len(e.Log); e.Exit == nil || e.Exit.Code != 1 || e.Node == "" || e.Workload != "Deployment "+lab+"/running" || n == 0 || !strings.HasSuffix(e.Log[n-1], last) {
		t.Errorf("evidence: %+v, exit %+v", e, e.Exit)
	}
	for _, pod := range g.c.pods(t, lab, "app", "running") {
		if pod.Name == e.PodName() {
			t.Errorf("pod %s is still there", e.Pod)
		}
	}
	for _, object := range []string{"pod/" + e.PodName(), "deployment/running", "revision/" + failed.Name, "source/main"} {
		if code, whole := g.c.why(t, object); !strings.Contains(whole, last) {
			t.Errorf("why %s (%s) does not tell the last line:\n%s", object, code, whole)
		}
	}
	if out, code := g.c.fairlead(t, "status", "--kubeconfig", g.c.Kubeconfig, failed.Name); code != 1 || !strings.Contains(out, "  | ") || !strings.Contains(out, last) {
		t.Errorf("status exits with %d and says:\n%s", code, out)
	}
}

// lateCrasher is Healthy when it has run for a moment, and ends after another.
const lateCrasher = `apiVersion: apps/v1
kind: Deployment
metadata: {name: late, namespace: ` + lab + `}
spec:
  selector: {matchLabels: {app: late}}
  template:
    metadata: {labels: {app: late}}
    spec:
      containers:
        - {name: c, image: "` + witnessImage + `", imagePullPolicy: Never, args: [crash, 6s, cannot go on]}
`

// lateCrash pushes what is healthy at first and then crashes: what is true now is said
// beside what was, also by a master that lost its store, and nothing goes back to it.
func (g *guards) lateCrash(t *testing.T) {
	g.w.write(t, map[string]string{"lab/late.yaml": lateCrasher})
	g.w.pushHealthy(t, "it crashes later")
	late := g.w.head(t)
	var degraded *schema.Revision
	eventually(t, time.Minute, "it is degraded", func() (bool, string) {
		degraded = g.c.revision(t, late)
		return degraded.Status.Health.Word == schema.Degraded, fmt.Sprintf("%+v", degraded.Status.Health)
	})
	if s := degraded.Status; s.Phase != schema.PhaseHealthy || s.Sync.Word != schema.Synced || !strings.Contains(s.Health.Reason, "exit code 1; last log line: ") || !strings.Contains(s.Health.Reason, "cannot go on") || s.ProvenAt != nil {
		t.Errorf("%s, %+v, %+v, proven at %v", s.Phase, s.Sync, s.Health, s.ProvenAt)
	}
	degradedStatus := func() (bool, string) {
		out, code := g.c.fairlead(t, "status", "--kubeconfig", g.c.Kubeconfig)
		return code == 1 && strings.Contains(out, "\nDEGRADED main-"), fmt.Sprint(code, " ", out)
	}
	if ok, said := degradedStatus(); !ok {
		t.Errorf("status: %s", said)
	}
	words := func() map[string]string {
		return told(t, g.c, schema.KindRevision, func(r *schema.Revision) string {
			s := schema.RevisionStatus{Phase: r.Status.Phase, Sync: r.Status.Sync, Health: r.Status.Health, ProvenAt: r.Status.ProvenAt, Evidence: r.Status.Evidence}
			text, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		})
	}
	before := words()
	g.c.loseStore(t)
	eventually(t, time.Minute, "the next master says the same", degradedStatus)
	if diff := cmp.Diff(before, words()); diff != "" {
		t.Errorf("after the store was lost (-before +after):\n%s", diff)
	}
	g.w.write(t, map[string]string{"lab/running.yaml": g.tree("running", "nothing")["lab/running.yaml"]})
	if out, err := g.w.push(t, "a broken one after it"); err != nil || !strings.Contains(out, "remote: FAILED main-") {
		t.Fatalf("push: %v\n%s", err, out)
	}
	eventually(t, time.Minute, "what ran well runs again", func() (bool, string) {
		applied := g.c.source(t).Status.Applied.Commit
		rev := g.c.revision(t, applied)
		return applied != late && rev.Status.Health.Word == schema.Healthy, fmt.Sprintf("applied %s, %+v", rev.Name, rev.Status.Health)
	})
}
