package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"fairlead/cmd/fairlead/internal/rollback"
	"fairlead/schema"
)

// gitIn runs git in a repository that no other configuration reaches.
func gitIn(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Of a source that reads a directory, the rest of the repository stays as it is at
// the tip; variables that point git elsewhere have no effect.
func TestOnlyTheSourcesDirectoryGoesBack(t *testing.T) {
	for _, v := range [][2]string{{"GIT_CONFIG_GLOBAL", "/dev/null"}, {"GIT_AUTHOR_NAME", "Ada"}, {"GIT_AUTHOR_EMAIL", "a@example.org"}, {"GIT_COMMITTER_NAME", "Ada"}, {"GIT_COMMITTER_EMAIL", "a@example.org"}} {
		t.Setenv(v[0], v[1])
	}
	dir := t.TempDir()
	gitIn(t, dir, "init", "-q", "-b", "main")
	put(t, filepath.Join(dir, "deploy/a.yaml"), "old\n")
	put(t, filepath.Join(dir, "deploy/gone.yaml"), "gone\n")
	put(t, filepath.Join(dir, "main.go"), "old\n")
	gitIn(t, dir, "add", ".")
	gitIn(t, dir, "commit", "-q", "-m", "first")
	first := schema.Commit(gitIn(t, dir, "rev-parse", "HEAD"))
	put(t, filepath.Join(dir, "deploy/a.yaml"), "new\n")
	put(t, filepath.Join(dir, "deploy/more.yaml"), "more\n")
	put(t, filepath.Join(dir, "main.go"), "new\n")
	gitIn(t, dir, "rm", "-q", "deploy/gone.yaml")
	gitIn(t, dir, "add", ".")
	gitIn(t, dir, "commit", "-q", "-m", "second")
	tip := schema.Commit(gitIn(t, dir, "rev-parse", "HEAD"))

	t.Setenv("GIT_DIR", filepath.Join(dir, "elsewhere"))
	t.Setenv("GIT_INDEX_FILE", filepath.Join(dir, "elsewhere"))
	r := &rollbackCommit{Plan: rollback.Plan{Source: "main", Followed: "main", Path: "deploy", To: first, Parent: tip, Why: "Failed: crash\nFairlead-Allow-Prune: 100"}}
	if err := r.make(t.Context(), clone{filepath.Join(dir, "deploy")}, "back"); err != nil {
		t.Fatal(err)
	}
	os.Unsetenv("GIT_DIR")
	os.Unsetenv("GIT_INDEX_FILE")
	if got, want := gitIn(t, dir, "diff", "--name-status", string(first), "back"), "M\tmain.go"; got != want {
		t.Errorf("back differs from the first commit in %q, want %q", got, want)
	}
	if got, want := gitIn(t, dir, "diff", "--name-status", string(tip), "back", "--", "main.go"), ""; got != want {
		t.Errorf("back differs from the tip outside of the directory: %q", got)
	}
	if got := schema.Commit(gitIn(t, dir, "rev-parse", "back^")); got != tip {
		t.Errorf("parent %s, want %s", got, tip)
	}
	if got := gitIn(t, dir, "log", "-1", "--format=%(trailers:only)", "back"); got != "Fairlead-Rollback: "+string(first) {
		t.Errorf("trailers %q", got)
	}
	if got := gitIn(t, dir, "status", "--porcelain"); got != "" {
		t.Errorf("the work tree changed: %s", got)
	}
}
