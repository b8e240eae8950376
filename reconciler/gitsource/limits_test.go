package gitsource

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"fairlead/reconciler/follow"
	"fairlead/reconciler/gitsource/hook"
	"fairlead/schema"
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

	HTTPHandler(m.root, nil, func(string, schema.SourceName) (Pusher, bool) { return Pusher{Name: "grace"}, true }).ServeHTTP(answer, request)

	for _, want := range []string{"Out of memory", "fairlead: the push needs more than the 256 MiB of memory that git may take here", "unpack index-pack abnormal exit"} {
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

// What all processes of a request hold together takes in half a million objects, and
// twice as many in twice the memory: each process of a fetch has the least.
func TestALargePushFitsIntoMemory(t *testing.T) {
	const objects = 500_000
	dir := filepath.Join(t.TempDir(), "large.git")
	w := newWork(t)
	w.git("init", "--quiet", "--bare", dir)
	command := limits{memory: min(fetchMemory, receiveMemory) / 2, processor: gitProcessor, file: MaxFetchBytes}.command("index-pack", "--stdin", "--strict")
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Dir = dir
	cmd.Env = append(gitEnv(), "PATH="+os.Getenv("PATH"), "GIT_DIR="+dir)
	cmd.Stdin = bytes.NewReader(manyObjects(objects))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%d objects in %d MiB: %v\n%s", objects, min(fetchMemory, receiveMemory)/2>>20, err, out)
	}
}

// manyObjects is a pack of so many small files.
func manyObjects(n int) []byte {
	var out bytes.Buffer
	out.WriteString("PACK")
	out.Write(binary.BigEndian.AppendUint32(nil, 2))
	out.Write(binary.BigEndian.AppendUint32(nil, uint32(n)))
	z, _ := zlib.NewWriterLevel(&out, zlib.NoCompression)
	for i := range n {
		text := fmt.Sprintf("%08d", i)
		out.WriteByte(byte(plumbing.BlobObject)<<4 | byte(len(text)))
		z.Reset(&out)
		_, _ = z.Write([]byte(text))
		_ = z.Close()
	}
	sum := sha1.Sum(out.Bytes())
	out.Write(sum[:])
	return out.Bytes()
}

// Whoever changes a limit on git's requests changes what people were promised.
func TestDocumentedPlacesAreTheEnforcedOnes(t *testing.T) {
	data, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		fmt.Sprintf("in all | %d", maxPrograms),
		fmt.Sprintf("of one source; of one pusher | %d; %d", maxSourcePrograms, maxPusherPrograms),
		fmt.Sprintf("only for sources that have none | the last %d", sparePrograms),
		fmt.Sprintf("of fetches together | %d", maxPrograms-doorPrograms),
		fmt.Sprintf("a fetch from a path takes | %d", localPlaces),
		fmt.Sprintf("a push or a clone waits for | %v", programWait),
		fmt.Sprintf("tidying up waits for | %v", tidyWait),
		fmt.Sprintf("a push may be ended for one that waits, if it is slower than | %d KiB a second", slowPace>>10),
		fmt.Sprintf("... after it has had its place for | %v", slowAfter),
		fmt.Sprintf("... by one that has waited for | %v", slowPatience),
		fmt.Sprintf("remotes that are asked for their branch at once | %d", maxLooks),
		fmt.Sprintf("... of those that took longer than %v the last time | %d", slowLook, slowLooks),
	} {
		if !strings.Contains(string(data), "  | "+row+" |\n") {
			t.Errorf("docs/security.md does not say: | %s |", row)
		}
	}
}

// Places times what a request holds is what docs/security.md says of all gits.
func TestAllGitsTogether(t *testing.T) {
	const pushers, cloners, fetchers = 2, 1, 3 // processes that may each fill what they have
	for what, most := range map[string]int{
		"pushes":  pushers * receiveMemory,
		"clones":  cloners*packMemory + requestMemory/4,
		"fetches": fetchers * fetchMemory,
	} {
		if most > requestMemory || maxPrograms*most > 3<<30 {
			t.Errorf("%s hold %d MiB each", what, most>>20)
		}
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
	large := schema.Commit(w.git("commit-tree", "-F", message, "-p", string(good), "HEAD^{tree}"))
	w.git("push", "--quiet", dir, string(large)+":main")
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
	busy := underWay{of: map[schema.SourceName]int{}}
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
