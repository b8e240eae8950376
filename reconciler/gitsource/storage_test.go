package gitsource

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"

	"fairlead/reconciler/gitsource/hook"
	"fairlead/schema"
)

// The gate pushes few trees from one seed; `just fuzz` thousands from any.
var (
	treeCount = flag.Int("trees", 300, "how many random trees TestStorage pushes and reads back")
	treeSeed  = flag.Uint64("tree-seed", 1, "what TestStorage makes them from")
)

const (
	// treesPerPush are in one push, a commit each.
	treesPerPush = 15
	// mostFiles of a tree, but for those of one large directory.
	mostFiles = 80
)

// Whatever shape and size a tree has, and however git keeps it, in quarantine and
// after, we read what was pushed.
func TestStorage(t *testing.T) {
	t.Logf("to replay: go test ./reconciler/gitsource -run TestStorage -trees %d -tree-seed %d", *treeCount, *treeSeed)
	s := storage{master: newMaster(t), random: rand.New(rand.NewPCG(*treeSeed, 0)), files: map[string]string{}, want: map[schema.Commit]map[string]string{}}
	for i := 0; i < *treeCount; i += treesPerPush {
		commits := s.grow(min(treesPerPush, *treeCount-i))
		s.push(commits)
		s.compare(s.repo, "as pushed", s.some(commits))
		s.compare(s.repo, s.repack(), s.some(commits))
		if t.Failed() {
			t.FailNow()
		}
	}
	all := slices.Sorted(maps.Keys(s.want))
	s.compare(open(t, s.remote), "opened anew", s.some(all))
	s.compare(open(t, s.borrower()), "borrowed", s.some(all))
}

// some are a few of the commits: all are read in quarantine, and to read each in
// every form would take longer than it tells.
func (s *storage) some(commits []schema.Commit) []schema.Commit {
	out := []schema.Commit{commits[len(commits)-1]}
	for range 4 {
		out = append(out, commits[s.random.IntN(len(commits))])
	}
	return out
}

type storage struct {
	*master
	random *rand.Rand
	files  map[string]string                   // of the last tree
	want   map[schema.Commit]map[string]string // the files of each commit
}

// text is content of one of the sizes at which git or we take another way.
func (s *storage) text() string {
	size := s.random.IntN(200)
	switch s.random.IntN(60) {
	case 0, 1, 2:
		size = 15<<10 + s.random.IntN(4<<10)
	case 3:
		size = 60<<10 + s.random.IntN(80<<10)
	case 4:
		if s.random.IntN(4) == 0 {
			size = schema.MaxFileSize - s.random.IntN(2<<20)
		}
	case 5:
		size = 0
	}
	out := make([]byte, size)
	words := s.random.IntN(2) == 0
	for i := range out {
		if words {
			out[i] = "the quick brown fox\n"[(i*7+i/64)%20]
		} else {
			out[i] = byte(s.random.Uint32())
		}
	}
	return string(out)
}

// edit is text with a part of it changed, so that git makes a delta.
func (s *storage) edit(text string) string {
	if len(text) < 64 {
		return s.text()
	}
	at := s.random.IntN(len(text) - 32)
	return text[:at] + fmt.Sprintf("edited %d", s.random.Uint32()) + text[at+s.random.IntN(32):]
}

func (s *storage) path() string {
	var parts []string
	for range s.random.IntN(4) {
		parts = append(parts, fmt.Sprintf("d%d", s.random.IntN(5)))
	}
	name := []string{"f%d.yaml", "a b%d.yml", "é%d.json", "%d.txt", "f-%d.cue"}[s.random.IntN(5)]
	return strings.Join(append(parts, fmt.Sprintf(name, s.random.IntN(40))), "/")
}

// mutate makes the next tree of the last one.
func (s *storage) mutate() {
	for range 1 + s.random.IntN(8) {
		names := slices.Sorted(maps.Keys(s.files))
		switch kind := s.random.IntN(10); {
		case len(names) == 0 || kind < 5 && len(names) < mostFiles:
			s.files[s.path()] = s.text()
		case kind < 8:
			name := names[s.random.IntN(len(names))]
			s.files[name] = s.edit(s.files[name])
		default:
			delete(s.files, names[s.random.IntN(len(names))])
		}
	}
	maps.DeleteFunc(s.files, func(name, _ string) bool { return strings.HasPrefix(name, "many/") })
	if s.random.IntN(25) == 0 { // a directory object over 16 KiB, in this tree alone
		for i := range 450 {
			s.files[fmt.Sprintf("many/a-manifest-with-a-long-name-%03d.yaml", i)] = fmt.Sprint(i)
		}
	}
}

// grow commits n trees by one git.
func (s *storage) grow(n int) []schema.Commit {
	s.t.Helper()
	var stream bytes.Buffer
	var trees []map[string]string
	for i := range n {
		before := maps.Clone(s.files)
		s.mutate()
		trees = append(trees, maps.Clone(s.files))
		s.ticks++
		fmt.Fprintf(&stream, "commit refs/heads/main\nmark :%d\ncommitter A <a@example.org> %d +0000\ndata 1\nx\n", i+1, s.ticks)
		if i == 0 && len(s.want) > 0 {
			stream.WriteString("from refs/heads/main^0\n")
		}
		for name, text := range s.files {
			if old, had := before[name]; !had || old != text {
				fmt.Fprintf(&stream, "M 100644 inline %s\ndata %d\n%s\n", name, len(text), text)
			}
			delete(before, name)
		}
		for name := range before {
			fmt.Fprintf(&stream, "D %s\n", name)
		}
		fmt.Fprintf(&stream, "get-mark :%d\n", i+1)
	}
	cmd := s.command(s.dir, "fast-import", "--quiet")
	cmd.Stdin = &stream
	out, err := cmd.Output()
	var commits []schema.Commit
	for hash := range strings.FieldsSeq(string(out)) {
		commits = append(commits, schema.Commit(hash))
	}
	if err != nil || len(commits) != n {
		s.t.Fatalf("fast-import: %v, %d commits", err, len(commits))
	}
	for i, c := range commits {
		s.want[c] = trees[i]
	}
	return commits
}

// push lets git take the commits, and reads them in its quarantine.
func (s *storage) push(commits []schema.Commit) {
	s.t.Helper()
	s.judge.set(func(_ context.Context, p Push, _ io.Writer) error {
		if p.Phase == hook.Pre {
			s.compare(p.Repo, "in quarantine", commits)
		}
		return nil
	})
	limit := []string{"1", "100", "100000"}[s.random.IntN(3)]
	s.in(s.remote, "config", "receive.unpackLimit", limit)
	args := [][]string{{}, {"-c", "pack.window=0"}, {"-c", "pack.depth=4000", "-c", "pack.window=20"}, {"-c", "core.bigFileThreshold=32k"}, {"-c", "pack.compression=0"}}
	out, err := s.run(s.dir, slices.Concat(args[s.random.IntN(len(args))], []string{"push", "--quiet", "origin", "main"})...)
	if err != nil || s.tip() != commits[len(commits)-1] {
		s.t.Fatalf("push with unpackLimit %s: %v\n%s", limit, err, out)
	}
}

// repack has git keep what it has in another form and says which.
func (s *storage) repack() string {
	s.t.Helper()
	forms := [][]string{
		{"repack", "-adq"}, {"repack", "-adfq", "--depth=200", "--window=20"}, {"repack", "-dq"}, {"repack", "-dq", "--geometric=2", "--write-midx"},
		{"multi-pack-index", "write"}, {"commit-graph", "write", "--reachable"}, {"-c", "pack.writeReverseIndex=true", "repack", "-adq"},
		{"gc", "--quiet"}, {"pack-refs", "--all"},
	}
	form := forms[s.random.IntN(len(forms))]
	s.in(s.remote, form...)
	return "after " + strings.Join(form, " ")
}

// borrower is a repository that has no objects of its own.
func (s *storage) borrower() string {
	s.t.Helper()
	dir := filepath.Join(s.t.TempDir(), "borrower.git")
	s.in("", "clone", "--quiet", "--bare", "--shared", s.remote, dir)
	return dir
}

func (s *storage) compare(repo *Repo, when string, commits []schema.Commit) {
	s.t.Helper()
	for _, commit := range commits {
		got, err := repo.Tree(commit, ".")
		if err != nil {
			s.t.Errorf("%s: %v", when, err)
			return
		}
		if len(got.Files) != len(s.want[commit]) || len(got.Refused)+len(got.Faults) > 0 {
			s.t.Errorf("%s: tree of %s has %d files, want %d; %v%v", when, commit, len(got.Files), len(s.want[commit]), got.Refused, got.Faults)
		}
		for _, f := range got.Files {
			text, err := f.Open()
			if want, ok := s.want[commit][f.Path]; err != nil || !ok || string(text) != want || f.Size != int64(len(want)) {
				s.t.Errorf("%s: %s of %s: %d bytes, %v, want %d", when, f.Path, commit, len(text), err, len(want))
				return
			}
		}
	}
}

// bomb is a pack of two blobs: zeros of a size, and a delta that copies a piece of
// them so many times.
func bomb(size, piece, times int) []byte {
	var out bytes.Buffer
	out.WriteString("PACK")
	out.Write(binary.BigEndian.AppendUint32(nil, 2))
	out.Write(binary.BigEndian.AppendUint32(nil, 2))
	first := out.Len()
	out.Write(packEntry(plumbing.BlobObject, nil, make([]byte, size)))
	delta := binary.AppendUvarint(binary.AppendUvarint(nil, uint64(size)), uint64(piece*times))
	for range times { // copy from 0 so many bytes, in three
		delta = append(delta, 0xf0, byte(piece), byte(piece>>8), byte(piece>>16))
	}
	out.Write(packEntry(plumbing.OFSDeltaObject, distance(out.Len()-first), delta))
	sum := sha1.Sum(out.Bytes())
	out.Write(sum[:])
	return out.Bytes()
}

func packEntry(kind plumbing.ObjectType, base, data []byte) []byte {
	size := len(data)
	out := []byte{byte(kind)<<4 | byte(size&15)}
	for size >>= 4; size > 0; size >>= 7 {
		out[len(out)-1] |= 0x80
		out = append(out, byte(size&0x7f))
	}
	return slices.Concat(out, base, deflated(data))
}

func deflated(data []byte) []byte {
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	w.Write(data)
	w.Close()
	return out.Bytes()
}

// distance is how far before a delta its base is, as a pack tells it.
func distance(n int) []byte {
	out := []byte{byte(n & 0x7f)}
	for n >>= 7; n > 0; n >>= 7 {
		n--
		out = append([]byte{byte(n&0x7f) | 0x80}, out...)
	}
	return out
}

// A small object may be made from one that is not.
func TestObjectsMadeFromLargeOnes(t *testing.T) {
	w := newWork(t)
	const small = 100
	for _, c := range []struct{ size, piece, times int }{
		{maxBaseSize / 4, maxBaseSize / 4, 3}, {1<<24 - 1, 1<<24 - 1, 3}, {maxBaseSize + 1, small, 1},
	} {
		pack := filepath.Join(w.dir, ".git/objects/pack/x.pack")
		if err := os.WriteFile(pack, bomb(c.size, c.piece, c.times), 0o644); err != nil {
			t.Fatal(err)
		}
		name := strings.Fields(w.git("index-pack", pack))
		for _, suffix := range []string{".pack", ".idx"} {
			move(t, strings.TrimSuffix(pack, ".pack")+suffix, filepath.Join(filepath.Dir(pack), "pack-"+name[0]+suffix))
		}
	}
	repo := open(t, filepath.Join(w.dir, ".git"))
	for _, c := range []struct {
		size  int
		limit int64
		want  string
	}{
		{maxBaseSize / 4 * 3, maxBaseSize, ""},
		{maxBaseSize / 4 * 3, schema.MaxFileSize, "at most"},
		{(1<<24 - 1) * 3, maxBaseSize, "at most"},
		{small, maxBaseSize, "at most"},
	} {
		h := nameOf(base{plumbing.BlobObject, make([]byte, c.size)})
		data, err := repo.object(plumbing.BlobObject, h, c.limit)
		if c.want == "" && (err != nil || len(data) != c.size) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%d bytes within %d: %d, %v, want %q", c.size, c.limit, len(data), err, c.want)
		}
		if got, err := repo.size(h); err != nil || got != int64(c.size) {
			t.Errorf("size %d, %v, want %d", got, err, c.size)
		}
	}
}

// What is stored under a name is what that name says, or an error.
func TestDamagedObjects(t *testing.T) {
	w := newWork(t)
	w.write("a.yaml", "a: 1\n")
	w.commit("a")
	blob, commit := w.git("rev-parse", "HEAD:a.yaml"), schema.Commit(w.git("rev-parse", "HEAD"))
	at := filepath.Join(w.dir, ".git/objects", blob[:2], blob[2:])
	for what, content := range map[string][]byte{
		"another object":    deflated([]byte("blob 5\x00a: 2\n")),
		"more than it says": deflated([]byte("blob 5\x00a: 1\nand more")),
		"less than it says": deflated([]byte("blob 9\x00a: 1\n")),
		"cut off":           deflated([]byte("blob 5\x00a: 1\n"))[:9],
		"nothing":           nil,
		"no head":           deflated([]byte("blob a: 1\n")),
	} {
		os.Remove(at)
		if err := os.WriteFile(at, content, 0o644); err != nil {
			t.Fatal(err)
		}
		repo := open(t, filepath.Join(w.dir, ".git"))
		got, err := repo.Tree(commit, ".")
		if err == nil && len(got.Files) == 1 {
			_, err = got.Files[0].Open()
		}
		if err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A file or directory over 16 KiB in a push that git keeps as a pack.
func TestPushOfManyInOneDirectory(t *testing.T) {
	m := newMaster(t)
	for i := range 450 {
		m.write(fmt.Sprintf("many/a-manifest-with-a-long-name-%03d.yaml", i), fmt.Sprint(i))
	}
	m.write("large.yaml", strings.Repeat("# a line\n", 10_000))
	m.commit("many")
	files, large := 0, ""
	m.judge.set(func(_ context.Context, p Push, _ io.Writer) error {
		got := tree(t, p.Repo, p.Tip(), ".")
		files, large = len(got.Files), read(t, got, "large.yaml")
		return nil
	})
	if out, ok := m.push("main"); !ok || files != 451 || len(large) != 90_000 {
		t.Errorf("%d files and one of %d bytes judged\n%s", files, len(large), out)
	}
}
