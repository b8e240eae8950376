package gitsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"fairlead/reconciler/gitsource/hook"
	"fairlead/schema"
)

// judgeFunc is a Judge that remembers what it was asked.
type judgeFunc struct {
	mu     sync.Mutex
	pushes []Push
	judge  func(ctx context.Context, p Push, out io.Writer) error
}

func (j *judgeFunc) Judge(ctx context.Context, p Push, out io.Writer) error {
	j.mu.Lock()
	j.pushes = append(j.pushes, p)
	judge := j.judge
	j.mu.Unlock()
	if judge == nil {
		return nil
	}
	return judge(ctx, p, out)
}

func (j *judgeFunc) set(f func(ctx context.Context, p Push, out io.Writer) error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.judge, j.pushes = f, nil
}

func (j *judgeFunc) asked() []Push {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.pushes
}

// master is an embedded remote, its server and a clone to push from.
type master struct {
	programs Programs
	*work
	root   string // holds main.git
	remote string
	socket string
	repo   *Repo
	judge  *judgeFunc
	stop   func() // ends the server, again is fine
}

func newMaster(t testing.TB) *master {
	t.Helper()
	root, err := os.MkdirTemp("", "fl-") // short: a socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	m := &master{
		work: newWork(t), root: root, remote: filepath.Join(root, "main.git"),
		socket: filepath.Join(root, "s"), judge: &judgeFunc{}, stop: func() {},
	}
	m.init()
	m.serve()
	m.git("remote", "add", "origin", m.remote)
	return m
}

func (m *master) init() {
	m.t.Helper()
	repo, err := Init(m.t.Context(), m.remote, HookConfig{HookBinary: hookBinary, Socket: m.socket, Source: "main"})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(repo.Close)
	if m.repo == nil {
		m.repo = repo
	}
}

func (m *master) serve() {
	m.t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	server, err := Listen(ServerConfig{
		Socket: m.socket,
		Remote: func(source schema.SourceName) (Remote, bool) { return Remote{m.repo, "main"}, source == "main" },
		Judge:  m.judge, Programs: &m.programs,
		Log: logrus.NewEntry(log),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			m.t.Error(err)
		}
	})
	m.t.Cleanup(m.stop)
}

// push is what the pusher sees of the master, and whether git was content.
func (m *master) push(args ...string) (remote string, ok bool) {
	m.t.Helper()
	out, err := m.run(m.dir, append([]string{"push", "origin"}, args...)...)
	return remoteLines(out), err == nil
}

func remoteLines(out string) string {
	var lines []string
	for line := range strings.Lines(out) {
		if text, ok := strings.CutPrefix(line, "remote: "); ok {
			lines = append(lines, strings.TrimRight(text, " \n\r"))
		}
	}
	return strings.Join(lines, "\n")
}

func (m *master) tip() schema.Commit {
	m.t.Helper()
	hash, _, err := m.repo.Branch("main")
	if err != nil {
		m.t.Fatal(err)
	}
	return hash
}

func TestPushIsJudgedBeforeGitAccepts(t *testing.T) {
	m := newMaster(t)
	m.write("deploy/web.yaml", "kind: Wrong\n")
	bad := m.commit("bad")
	var seen string
	m.judge.set(func(_ context.Context, p Push, out io.Writer) error {
		// Read through the quarantine: git has not accepted it.
		seen = read(t, tree(t, p.Repo, p.Tip(), "deploy"), "deploy/web.yaml")
		if _, err := m.repo.Commit(p.Tip()); !errors.Is(err, ErrNotFound) {
			t.Errorf("the pushed commit is in the repository already: %v", err)
		}
		return fmt.Errorf("load: %w", schema.Diagnostics{
			{Position: schema.Position{Path: "deploy/web.yaml", Line: 1, Column: 7}, Severity: schema.Error, Message: "unknown kind Wrong"},
		})
	})

	out, ok := m.push("main")

	if ok || m.tip() != "" {
		t.Errorf("a refused push is at %q", m.tip())
	}
	if diff := cmp.Diff("deploy/web.yaml:1:7: unknown kind Wrong", out); diff != "" {
		t.Error(diff)
	}
	if seen != "kind: Wrong\n" {
		t.Errorf("the judge read %q", seen)
	}

	// The same directory again: what was read of the refused push is gone.
	var listed schema.Tree
	m.judge.set(func(_ context.Context, p Push, out io.Writer) error {
		fmt.Fprintf(out, "%s %s by %s", p.Phase, p.Source, p.Pusher)
		if p.Phase == hook.Pre {
			listed = tree(t, p.Repo, p.Tip(), "deploy")
			read(t, listed, "deploy/web.yaml")
		}
		return nil
	})
	out, ok = m.push("main")
	if !ok || m.tip() != bad {
		t.Errorf("the accepted push is at %q, want %s\n%s", m.tip(), bad, out)
	}
	if diff := cmp.Diff("pre-receive main by local:ada\npost-receive main by local:ada", out); diff != "" {
		t.Error(diff)
	}
	if got := read(t, listed, "deploy/web.yaml"); got != "kind: Wrong\n" {
		t.Errorf("what was listed in quarantine reads %q afterwards", got)
	}
	want := []hook.Update{{Ref: "refs/heads/main", Old: hook.Zero, New: string(bad)}}
	if pushes := m.judge.asked(); len(pushes) != 2 || cmp.Diff(want, pushes[0].Updates) != "" {
		t.Errorf("asked about %+v", pushes)
	}
}

func TestPushOfAPack(t *testing.T) {
	m := newMaster(t)
	for i := range 150 { // above git's unpack limit: it stays a pack
		m.write(fmt.Sprintf("f%d.yaml", i), fmt.Sprint(i))
	}
	first := m.commit("many")
	files := 0
	m.judge.set(func(_ context.Context, p Push, _ io.Writer) error {
		files = len(tree(t, p.Repo, p.Tip(), ".").Files)
		return nil
	})
	if out, ok := m.push("main"); !ok || files != 150 {
		t.Fatalf("%d files judged\n%s", files, out)
	}
	m.write("f0.yaml", "changed")
	second := m.commit("one of many")
	if out, ok := m.push("main"); !ok || files != 150 {
		t.Fatalf("%d files judged\n%s", files, out)
	}
	if ahead, err := m.repo.IsAncestor(first, second); err != nil || !ahead {
		t.Errorf("IsAncestor = %v, %v", ahead, err)
	}
	if got := read(t, tree(t, m.repo, second, "."), "f0.yaml"); got != "changed" {
		t.Errorf("f0.yaml = %q", got)
	}
}

func TestFollowedBranchKeepsItsCommits(t *testing.T) {
	m := newMaster(t)
	first := m.commit("first")
	second := m.commit("second")
	m.push("main")
	m.git("reset", "--quiet", "--hard", string(first))
	third := m.commit("third, without the second")

	out, ok := m.push("--force", "main")
	want := fmt.Sprintf("fairlead: main would lose commits: %.12s does not contain %.12s; if that is intended, end the new tip's message with the line \"Fairlead-Allow-Rewind: %s\" and push again", third, second, second)
	if ok || m.tip() != second {
		t.Errorf("a rewind was let through to %s", m.tip())
	}
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	out, ok = m.push("--delete", "main")
	if want := "fairlead: main is what source main follows, it is not deleted"; ok || out != want {
		t.Errorf("delete: %v, %q, want %q", ok, out, want)
	}
	m.commit("third\n\nFairlead-Allow-Rewind: " + string(first))
	if _, ok := m.push("--force", "main"); ok {
		t.Error("a rewind was let through by another commit's trailer")
	}
	wanted := m.commit("third\n\nFairlead-Allow-Rewind: " + string(second[:12]))
	if out, ok := m.push("--force", "main"); !ok || m.tip() != wanted {
		t.Errorf("a recorded rewind was refused: %s", out)
	}
}

func TestOtherBranchesAreNotJudged(t *testing.T) {
	m := newMaster(t)
	m.commit("first")
	m.judge.set(func(context.Context, Push, io.Writer) error { return errors.New("asked") })
	for _, args := range [][]string{{"main:topic"}, {"main:refs/tags/v1"}, {"--delete", "topic"}} {
		if out, ok := m.push(args...); !ok || out != "" {
			t.Errorf("push %v: %v, %q", args, ok, out)
		}
	}
	if out, ok := m.push("main:topic", "main"); ok || out != "fairlead: asked" {
		t.Errorf("push of both: %v, %q", ok, out)
	}
}

func TestPushOptions(t *testing.T) {
	m := newMaster(t)
	m.commit("first")
	waits := []bool{}
	m.judge.set(func(_ context.Context, p Push, _ io.Writer) error {
		waits = append(waits, p.Wait())
		return nil
	})
	out, ok := m.push("-o", "wait", "-o", "wiat", "main")
	if want := `warning: push option "wiat" means nothing here (known: wait)`; !ok || out != want {
		t.Errorf("%v, %q, want %q", ok, out, want)
	}
	if diff := cmp.Diff([]bool{true, true}, waits); diff != "" {
		t.Error(diff)
	}
}

// Each line reaches the pusher when it is written, and a failed rollout fails
// no push.
func TestFollowingIsLive(t *testing.T) {
	m := newMaster(t)
	m.commit("first")
	shown, goOn := make(chan struct{}), make(chan struct{})
	m.judge.set(func(ctx context.Context, p Push, out io.Writer) error {
		if p.Phase == hook.Pre {
			return nil
		}
		fmt.Fprintf(out, "1 of 2 \x1b[31mpods\n")
		select {
		case <-goOn:
		case <-ctx.Done():
			return ctx.Err()
		}
		return errors.New("FAILED main")
	})
	cmd := m.command(m.dir, "push", "-o", "wait", "origin", "main")
	reader, writer := io.Pipe()
	cmd.Stderr = writer
	all := make(chan string)
	go func() {
		var text strings.Builder
		buf := make([]byte, 1024)
		told := false
		for {
			n, err := reader.Read(buf)
			text.Write(buf[:n])
			if !told && strings.Contains(text.String(), "1 of 2") {
				told = true
				close(shown)
			}
			if err != nil {
				all <- text.String()
				return
			}
		}
	}()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-shown:
	case <-time.After(20 * time.Second):
		t.Fatal("the line was not shown while the master went on")
	}
	close(goOn)
	err := cmd.Wait()
	writer.Close()
	if diff := cmp.Diff("1 of 2 \\x1b[31mpods\nfairlead: FAILED main", remoteLines(<-all)); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

// A pusher who goes away ends the judging.
func TestPusherHangsUp(t *testing.T) {
	m := newMaster(t)
	m.commit("first")
	began, ended := make(chan struct{}), make(chan struct{})
	m.judge.set(func(ctx context.Context, p Push, out io.Writer) error {
		close(began)
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	})
	conn, err := net.Dial("unix", m.socket)
	if err != nil {
		t.Fatal(err)
	}
	request, err := hook.Request{
		Phase: hook.Post, Source: "main", Repo: m.remote,
		Updates: []hook.Update{{Ref: "refs/heads/main", Old: hook.Zero, New: strings.Repeat("1", 40)}},
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	conn.Write(request)
	<-began
	conn.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("judging went on")
	}
}

func TestMasterDown(t *testing.T) {
	m := newMaster(t)
	first := m.commit("first")
	m.push("main")
	m.stop()
	m.commit("second")

	out, ok := m.push("main")
	want := "fairlead: the master does not answer on " + m.socket + "; nothing was changed; start it and push again (no such file or directory)"
	if ok || out != want || m.tip() != first {
		t.Errorf("%v at %s, %q, want %q", ok, m.tip(), out, want)
	}
	m.serve()
	if out, ok := m.push("main"); !ok {
		t.Errorf("the next push: %s", out)
	}
}

func TestMasterStopsMidway(t *testing.T) {
	m := newMaster(t)
	m.commit("first")
	began := make(chan struct{})
	m.judge.set(func(ctx context.Context, p Push, out io.Writer) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	})
	go func() { <-began; m.stop() }()
	out, ok := m.push("main")
	if want := "fairlead: the master is stopping; push again when it is back"; ok || out != want || m.tip() != "" {
		t.Errorf("%v at %s, %q, want %q", ok, m.tip(), out, want)
	}
}

func TestSocketIsTakenOnce(t *testing.T) {
	m := newMaster(t)
	if _, err := Listen(ServerConfig{Socket: m.socket}); err == nil || !strings.Contains(err.Error(), "another master") {
		t.Errorf("a second master: %v", err)
	}
	m.stop()
	// What a master that was killed leaves behind.
	dead, err := Listen(ServerConfig{Socket: m.socket})
	if err != nil {
		t.Fatal(err)
	}
	dead.listener.SetUnlinkOnClose(false)
	dead.listener.Close()
	m.commit("first")
	if _, ok := m.push("main"); ok {
		t.Error("nobody listens, and the push was accepted")
	}
	m.serve()
	if out, ok := m.push("main"); !ok {
		t.Errorf("after a master that was killed: %s", out)
	}
}

// A copy of the remote has its hooks and must not speak for the source.
func TestCopyIsNotTheSource(t *testing.T) {
	m := newMaster(t)
	m.commit("first")
	other := filepath.Join(m.root, "copy.git")
	if err := os.CopyFS(other, os.DirFS(m.remote)); err != nil {
		t.Fatal(err)
	}
	m.git("-C", other, "config", "core.hooksPath", "hooks")
	out, err := m.run(m.dir, "push", other, "main")
	if want := fmt.Sprintf("fairlead: %s is a copy, source main lives in %s; push there", other, m.remote); err == nil || remoteLines(out) != want {
		t.Errorf("%v, %s, want %s", err, out, want)
	}
}

func TestInitIsIdempotentAndMends(t *testing.T) {
	m := newMaster(t)
	first := m.commit("first")
	m.push("main")
	before := snapshot(t, m.remote)
	m.init()
	if diff := cmp.Diff(before, snapshot(t, m.remote)); diff != "" {
		t.Errorf("a second Init changed something:\n%s", diff)
	}
	if got := m.in(m.remote, "config", "core.fsync"); got != "all" {
		t.Errorf("core.fsync = %q", got)
	}
	if err := os.Remove(filepath.Join(m.remote, "hooks/pre-receive")); err != nil {
		t.Fatal(err)
	}
	m.in(m.remote, "config", "core.fsync", "none")
	m.in(m.remote, "config", "remote.mirror.url", "elsewhere")
	m.init()
	if got := m.in(m.remote, "config", "core.fsync") + " " + m.in(m.remote, "config", "remote.mirror.url"); got != "all elsewhere" {
		t.Errorf("after mending: %q", got)
	}
	m.judge.set(func(context.Context, Push, io.Writer) error { return errors.New("asked") })
	m.commit("second")
	if out, ok := m.push("main"); ok || out != "fairlead: asked" || m.tip() != first {
		t.Errorf("the mended hook: %v, %q", ok, out)
	}
}

// snapshot is every file's name, time and mode.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			out[path] = fmt.Sprint(info.ModTime(), info.Mode(), info.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A pusher's own configuration does not switch the hooks off.
func TestPusherCannotSkipHooks(t *testing.T) {
	m := newMaster(t)
	m.commit("first")
	global := filepath.Join(t.TempDir(), "gitconfig")
	if err := os.WriteFile(global, []byte("[core]\n\thooksPath = /nonexistent\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	m.env = append(m.env, "GIT_CONFIG_GLOBAL="+global)
	m.judge.set(func(context.Context, Push, io.Writer) error { return errors.New("asked") })
	if out, ok := m.push("main"); ok || out != "fairlead: asked" {
		t.Errorf("%v, %q", ok, out)
	}
}

func TestHookIsSmall(t *testing.T) {
	info, err := os.Stat(hookBinary)
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(3 << 20); info.Size() > most {
		t.Errorf("the hook weighs %d bytes, want at most %d", info.Size(), most)
	}
}
