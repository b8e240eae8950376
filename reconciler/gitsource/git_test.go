package gitsource

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fairlead/schema"
)

// hookBinary is the hook built from this tree, once for all tests.
var hookBinary string

func TestMain(m *testing.M) {
	if isFuzzing() {
		os.Exit(m.Run()) // no fuzz target pushes
	}
	os.Exit(withHook(m))
}

// isFuzzing reports whether this process fuzzes or is one that go test made for
// it: each of those begins here too.
func isFuzzing() bool {
	return slices.ContainsFunc(os.Args, func(a string) bool { return strings.HasPrefix(a, "-test.fuzz") })
}

func withHook(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "fairlead-hook-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	hookBinary = filepath.Join(dir, "fairlead-hook")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", hookBinary, "fairlead/cmd/fairlead-hook")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the hook: %v\n%s", err, out)
		return 1
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(c int) { code = c }))
	return code
}

// firstCommit dates commits, so that their names do not depend on when the test
// ran.
const firstCommit = 1_700_000_000

// work is a user's clone.
type work struct {
	t     testing.TB
	dir   string
	env   []string
	ticks int
}

func newWork(t testing.TB, args ...string) *work {
	t.Helper()
	w := &work{t: t, dir: filepath.Join(t.TempDir(), "work"), ticks: firstCommit}
	w.in("", append([]string{"init", "--quiet", "--initial-branch=main", w.dir}, args...)...)
	return w
}

func isolated() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C", "USER=ada",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org",
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org",
	}
}

// run is git's combined output and its error; a minute is more than any needs.
func (w *work) run(dir string, args ...string) (string, error) {
	cmd := w.command(dir, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func (w *work) command(dir string, args ...string) *exec.Cmd {
	date := fmt.Sprintf("%d +0000", w.ticks)
	cmd := exec.CommandContext(w.t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(isolated(), "GIT_AUTHOR_DATE="+date, "GIT_COMMITTER_DATE="+date)
	cmd.Env = append(cmd.Env, w.env...)
	cmd.WaitDelay = time.Second
	return cmd
}

func (w *work) in(dir string, args ...string) string {
	w.t.Helper()
	out, err := w.run(dir, args...)
	if err != nil {
		w.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

func (w *work) git(args ...string) string {
	w.t.Helper()
	return w.in(w.dir, args...)
}

func (w *work) write(name, text string) {
	w.t.Helper()
	name = filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// commit commits everything and returns the commit's name.
func (w *work) commit(message string) schema.Commit {
	w.t.Helper()
	w.ticks++
	w.git("add", "--all")
	w.git("commit", "--quiet", "--allow-empty", "--message", message)
	return schema.Commit(w.git("rev-parse", "HEAD"))
}

// bare clones the work into a bare repository, packed as git likes.
func (w *work) bare() string {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), "bare.git")
	w.in("", "clone", "--quiet", "--bare", "--no-local", w.dir, dir)
	return dir
}

func open(t testing.TB, dir string) *Repo {
	t.Helper()
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}
