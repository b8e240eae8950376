package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/schema"
)

// What a repository says never ends the master, keeps it from starting, or holds up
// another source: a ConfigMap of 250,000 keys without values, and a commit of the year
// 10000, by a push and from a repository outside.
func testHostilePoison(t *testing.T) {
	c := fresh(t, 1)
	w := c.clone(t)
	outside := outsideRepository(t)
	w.write(t, map[string]string{
		"outside.yaml": fmt.Sprintf("apiVersion: fairlead/v1\nkind: Source\nmetadata: {name: outside}\nspec: {url: %s, interval: 1s}\n", outside.dir),
		"lab.yaml":     "apiVersion: v1\nkind: Namespace\nmetadata: {name: lab}\n",
	})
	w.pushHealthy(t, "a source of somebody else's")
	master := c.living("master")

	outside.write(t, map[string]string{"many.yaml": manyKeys("many"), "own.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: own}\n"})
	outside.commitIn(t, "@1700000000 +0000", "many keys")
	c.awaitOutside(t, outside.head(t), schema.PhaseInvalid)
	w.write(t, map[string]string{"many.yaml": manyKeys("many")})
	out, err := w.push(t, "many keys")
	refused(t, out, err, "remote: many.yaml:4:", "keys and values take")
	w.git(t, "reset", "--quiet", "--hard", "HEAD~1")

	outside.write(t, map[string]string{"many.yaml": ""})
	outside.commitIn(t, "@253402300800 +0000", strings.Repeat("a subject of 900 kB ", 45_000))
	c.awaitOutside(t, outside.head(t), "")
	late := w
	late.commitIn(t, "@253402300800 +0000", "the year 10000")
	if out, err := late.tryGit(t, "push", "origin", "HEAD:main"); err != nil && !strings.Contains(out, "remote: ") {
		t.Errorf("a commit of the year 10000 is refused without a word: %v\n%s", err, out)
	} else if err != nil {
		w.git(t, "reset", "--quiet", "--hard", "HEAD~1")
	}

	w.write(t, map[string]string{"quiet.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: quiet, namespace: lab}\n"})
	w.pushHealthy(t, "another source's push")
	if now := c.living("master"); now != master {
		t.Fatalf("the master is process %v, was %v", now, master)
	}
	c.killDaemon(t, "master")
	c.awaitDaemon(t, "master", master)
	c.awaitReady(t)
	w.write(t, map[string]string{"quiet.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: quiet, namespace: lab}\ndata: {after: start}\n"})
	w.pushHealthy(t, "a push after the start")
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	if _, _, err := client.List[*schema.Revision](ctx, c.api, schema.KindRevision); err != nil {
		t.Errorf("revisions cannot be read: %v", err)
	}
	if m, err := client.Get[*corev1.ConfigMap](ctx, c.api, schema.KindConfigMap, lab, "quiet"); err != nil || m.Data["after"] != "start" {
		t.Errorf("%v, %v", m, err)
	}
}

func manyKeys(name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata:\n", name)
	for i := range 250_000 {
		fmt.Fprintf(&b, "  k%d:\n", i)
	}
	return b.String()
}

// outsideRepository is one that the master follows from its disk.
func outsideRepository(t *testing.T) worktree {
	t.Helper()
	w := worktree{dir: t.TempDir()}
	w.git(t, "init", "--quiet", "--initial-branch=main")
	w.git(t, "config", "user.name", "outside")
	w.git(t, "config", "user.email", "outside@example.invalid")
	w.write(t, map[string]string{"own.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: own}\ndata: {k: v}\n"})
	w.commitIn(t, "@1700000000 +0000", "first")
	return w
}

// commitIn commits everything, dated as git writes dates.
func (w worktree) commitIn(t *testing.T, date, subject string) {
	t.Helper()
	message := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(message, []byte(subject), 0o600); err != nil {
		t.Fatal(err)
	}
	w.git(t, "add", "--all")
	cmd := exec.CommandContext(t.Context(), "git", "commit", "--quiet", "--allow-empty", "-F", message)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_COMMITTER_DATE="+date, "GIT_AUTHOR_DATE="+date)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("commit of %s: %v\n%s", date, err, out)
	}
}

// awaitOutside waits until the source "outside" was judged at the commit: it is in the
// phase, or for "" in any, or its repository was refused for it.
func (c *cluster) awaitOutside(t *testing.T, commit schema.Commit, phase schema.Phase) {
	t.Helper()
	eventually(t, time.Minute, "the source outside is judged at "+string(commit), func() (bool, string) {
		ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
		defer cancel()
		rev, err := client.Get[*schema.Revision](ctx, c.api, schema.KindRevision, "", string(schema.RevisionOf("outside", commit)))
		if err == nil {
			return phase == "" || rev.Status.Phase == phase, string(rev.Status.Phase)
		}
		src, err := client.Get[*schema.Source](ctx, c.api, schema.KindSource, "", "outside")
		if err != nil {
			return false, err.Error()
		}
		for _, cond := range src.Status.Conditions {
			if phase == "" && cond.Type == schema.ConditionFetched && cond.Status == "False" && cond.Message != "" {
				return true, cond.Message
			}
		}
		return false, fmt.Sprint(src.Status.Conditions)
	})
}
