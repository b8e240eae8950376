package gitsource

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/reconciler/follow"
	"fairlead/reconciler/gitsource/hook"
)

// A pack of 16 KB that asks for a gigabyte is refused in words, and takes none.
func TestPushOfABomb(t *testing.T) {
	m := newMaster(t)
	m.write("a.yaml", "a: 1\n")
	first := m.commit("first")
	m.push("main")
	pack := bomb(1<<24-1, 1<<24-1, 64)
	command := fmt.Sprintf("%s %s refs/heads/main\x00report-status side-band-64k", first, strings.Repeat("1", len(hook.Zero)))
	body := slices.Concat(fmt.Appendf(nil, "%04x%s0000", len(command)+4, command), pack)
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/git/main/git-receive-pack", bytes.NewReader(body))
	request.Header.Set("Content-Type", "application/x-git-receive-pack-request")
	answer := httptest.NewRecorder()

	HTTPHandler(m.root, nil, func(string, string) (Pusher, bool) { return Pusher{Name: "grace"}, true }).ServeHTTP(answer, request)

	for _, want := range []string{"Out of memory", "fairlead: the push needs more than the 512 MiB of memory that git may take here", "unpack index-pack abnormal exit"} {
		if !strings.Contains(answer.Body.String(), want) && !(strings.HasPrefix(want, "unpack") && strings.Contains(answer.Body.String(), "unpack unpack-objects abnormal exit")) {
			t.Errorf("a pack of %d bytes: %d %q, want %q", len(pack), answer.Code, answer.Body, want)
		}
	}
	if m.tip() != first {
		t.Errorf("the branch is at %s", m.tip())
	}
	m.write("a.yaml", "a: 2\n")
	m.commit("second")
	if out, ok := m.push("main"); !ok {
		t.Errorf("the next push: %s", out)
	}
}

func TestUpstreamWithinMemory(t *testing.T) {
	w := newWork(t)
	w.write("a.yaml", "a: 1\n")
	good := w.commit("good")
	dir := w.bare()
	u := followed(t, dir, "")
	at(t, u, good)
	// Files that are large are streamed, but no commit is.
	message := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(message, bytes.Repeat([]byte("#"), 60<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	large := w.git("commit-tree", "-F", message, "-p", good, "HEAD^{tree}")
	w.git("push", "--quiet", dir, large+":main")
	u.bounds.memory = 32 << 20
	troubled(t, u, follow.TooLarge, "ut of memory")
	kept(t, u, good)
	u.bounds = usualBounds
	if tip, err := u.Look(t.Context()); err != nil || tip != large {
		t.Errorf("with the usual memory: at %q, %v, want %s", tip, err, large)
	}
}

// Who keeps a source busy leaves the others their turn.
func TestDoorIsSharedBetweenSources(t *testing.T) {
	busy := underWay{of: map[string]int{}}
	for i := range maxSourceRequests {
		if !busy.begin("a") {
			t.Fatalf("request %d was turned away", i)
		}
	}
	if busy.begin("a") || !busy.begin("b") {
		t.Error("a full source is served, or keeps another from being")
	}
	busy.end("a")
	if !busy.begin("a") {
		t.Error("what has ended still counts")
	}
	busy.end("b")
	if len(busy.of) != 1 {
		t.Errorf("what nobody asks for is kept: %v", busy.of)
	}
}

// The pieces in which an answer comes do not matter.
func TestSideband(t *testing.T) {
	packet := func(band byte, text string) string { return fmt.Sprintf("%04x%c%s", len(text)+5, band, text) }
	told := string(line(metLimit([]byte(packet(2, "fatal: Out of memory, malloc failed\n")))))
	for _, c := range []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"quiet", packet(2, "ok\n") + packet(1, "Out of memory") + "0000", packet(2, "ok\n") + packet(1, "Out of memory") + "0000"},
		{"memory", packet(2, "fatal: Out of memory, malloc failed\n") + packet(2, "Out of memory\n") + "0000", packet(2, "fatal: Out of memory, malloc failed\n") + told + packet(2, "Out of memory\n") + "0000"},
		{"no packets", "HTTP Out of memory", "HTTP Out of memory"},
		{"a bad length", "0003" + packet(2, "Out of memory"), "0003" + packet(2, "Out of memory")},
	} {
		for _, size := range []int{1, 3, 7, 1000} {
			var s sideband
			var got []byte
			for piece := range slices.Chunk([]byte(c.in), size) {
				got = append(got, s.explained(piece)...)
			}
			if string(got) != c.want {
				t.Errorf("%s, %d bytes at a time: %q, want %q", c.name, size, got, c.want)
			}
		}
	}
}

// A limit of ours is never above one that we are under.
func TestLimitsOfACommand(t *testing.T) {
	command := limits{memory: 1 << 20, processor: time.Minute, file: 1 << 20}.command("version")
	if want := []string{"git", "1024", "60", "2048", "version"}; !slices.Equal(command[3:], want) {
		t.Errorf("%q, want %q at its end", command, want)
	}
}
