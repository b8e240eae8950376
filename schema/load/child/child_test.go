package child

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"fairlead/schema"
)

// words is a language of tests.
var words = Language{
	Name: "words", Called: "Words", OfTree: "the tree's words", Simplify: "say less", Recursion: "say it once",
	Evaluate: func(files []File) func(string) Response {
		return func(dir string) Response { return Response{Directory: dir} }
	},
}

// TestMain lets the test binary be the child that evaluates CUE, also one that
// does wrong.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if run, ok := testChildren[os.Args[1]]; ok {
			// Not os.Exit: there the race detector stays for another second.
			if err := run(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				syscall.Exit(1)
			}
			syscall.Exit(0)
		}
	}
	goleak.VerifyTestMain(m)
}

var testChildren = map[string]func(args []string) error{
	Subcommand: func([]string) error { return Serve(os.Stdin, os.Stdout, words) },
	"prepared": func(args []string) error { // says so; told "dies", it does not live long after
		isPrepared := false
		told := words
		told.Prepare = func() { isPrepared = true }
		told.Evaluate = func(files []File) func(string) Response {
			if isPrepared && slices.Contains(args, "dies") {
				syscall.Exit(3)
			}
			return func(dir string) Response {
				return Response{Directory: dir, Diagnostics: schema.Diagnostics{{Position: schema.Position{Path: files[0].Path}, Severity: schema.Warning, Message: fmt.Sprintf("prepared: %v", isPrepared)}}}
			}
		}
		return Serve(os.Stdin, os.Stdout, told)
	},
	"foreign": func([]string) error { return Serve(os.Stdin, os.Stdout) },
	"surroundings": func([]string) error {
		told := words
		told.Evaluate = func(files []File) func(string) Response {
			return func(dir string) Response {
				return Response{Directory: dir, Diagnostics: surroundings(files[0].Path)}
			}
		}
		return Serve(os.Stdin, os.Stdout, told)
	},
	"objects": func([]string) error { // two for each directory
		made := words
		made.Evaluate = func([]File) func(string) Response {
			return func(dir string) Response {
				return Response{Directory: dir, Objects: []json.RawMessage{[]byte(`"0123456789"`), []byte(`"0123456789"`)}}
			}
		}
		return Serve(os.Stdin, os.Stdout, made)
	},
	"costly": func(args []string) error {
		costly := words
		costly.Evaluate = func([]File) func(string) Response {
			return func(dir string) Response {
				if dir == "b" {
					costs[args[0]]()
				}
				return Response{Directory: dir}
			}
		}
		return Serve(os.Stdin, os.Stdout, costly)
	},
	"slow": func([]string) error {
		req, err := readRequest(requests(os.Stdin))
		if err != nil {
			return err
		}
		for _, dir := range req.Directories {
			<-time.After(200 * time.Millisecond)
			if err := writeResponse(os.Stdout, Response{Directory: dir}); err != nil {
				return err
			}
		}
		return nil
	},
	"silent": func([]string) error { return nil },
	"hanging": func([]string) error {
		<-time.After(time.Hour)
		return nil
	},
	"babbling": func([]string) error {
		_, err := os.Stdout.WriteString("PASS\n")
		return err
	},
	"mistaken": func([]string) error { return writeResponse(os.Stdout, Response{Directory: "elsewhere"}) },
	"placeless": func([]string) error {
		return respond(`{"directory": ".", "diagnostics": [{"path": "/etc/passwd", "line": 3, "severity": "error", "message": "no"}]}`)
	},
	"endless": func([]string) error {
		for much := make([]byte, 1<<20); ; {
			if _, err := os.Stdout.Write(much); err != nil {
				return err
			}
		}
	},
}

func respond(line string) error {
	_, err := io.WriteString(os.Stdout, line+"\n")
	return err
}

// costs are what an evaluation may take too much of.
var costs = map[string]func(){
	"CPU": func() {
		for n := 0; ; n++ {
			sink = n
		}
	},
	"memory": func() {
		for kept := [][]byte{}; ; {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			kept = append(kept, b)
			sink = len(kept)
		}
	},
	"stack": func() {
		debug.SetMaxStack(64 << 10) // the race detector has a stack of its own, which ends before Go's
		sink = deeper(1)
	},
}

// sink keeps what is computed from being left out.
var sink int

func deeper(n int) int { return deeper(n+1) + n }

// evaluatorOf makes an evaluator whose child is one of testChildren.
func evaluatorOf(t *testing.T, limits Limits, args ...string) *Evaluator {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return New(words, Config{Command: append([]string{self}, args...), Limits: limits})
}

// A child waits for what is evaluated next, and is prepared for it. One that did not live
// to be asked, or dies of what it was prepared with, is no fault of the directory's.
func TestChildWaits(t *testing.T) {
	const fresh, prepared = "a.txt: warning: prepared: false", "a.txt: warning: prepared: true"
	keeping := func(args ...string) *Evaluator {
		e := evaluatorOf(t, Limits{}, args...)
		e.isKept, e.memory.bound = true, -1
		t.Cleanup(e.Close)
		return e
	}
	says := func(e *Evaluator, want string) {
		t.Helper()
		if got := told(t.Context(), e, "a.txt"); !slices.Equal(got, []string{want}) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	e := keeping("prepared")
	says(e, fresh)
	says(e, prepared)
	e.spare.next.kill()
	says(e, fresh)
	says(e, prepared)
	e.Close()
	says(e, fresh)
	says(e, fresh)
	if e.spare.next != nil {
		t.Error("a child waits after Close")
	}
	dies := keeping("prepared", "dies")
	says(dies, fresh)
	says(dies, fresh)
	alone := evaluatorOf(t, Limits{}, "prepared")
	says(alone, fresh)
	if alone.spare.next != nil {
		t.Error("a child waits that nobody asked for")
	}
}

// told is what an evaluator says of some files.
func told(ctx context.Context, e *Evaluator, names ...string) []string {
	var out []string
	for _, r := range e.Eval(ctx, inputOf(names...)) {
		for _, d := range r.Diagnostics {
			out = append(out, d.String())
		}
	}
	slices.Sort(out)
	return out
}

func inputOf(names ...string) *Input {
	var files []schema.File
	var directories []string
	for _, name := range names {
		text := []byte("x")
		files = append(files, schema.File{Path: name, Blob: &schema.Blob{Size: 1, Open: func() ([]byte, error) { return text, nil }}})
		directories = append(directories, path.Dir(name))
	}
	return NewInput(files, directories, func(string) bool { return false })
}

// A child that takes too much is killed for the directory that it was at, and the
// others are evaluated.
func TestLimits(t *testing.T) {
	for _, test := range []struct {
		cost   string
		limits Limits
		want   string
	}{
		{"memory", Limits{Memory: 64 << 20}, "b/a.txt: evaluating this directory takes more than 64 MiB of memory (say less)"},
		{"CPU", Limits{CPU: time.Second}, "b/a.txt: evaluating this directory takes more than 1s of CPU time (say less)"},
		{"stack", Limits{}, "b/a.txt: evaluating this directory recurses without end (say it once)"},
	} {
		t.Run(test.cost, func(t *testing.T) {
			t.Parallel()
			got := told(t.Context(), evaluatorOf(t, test.limits, "costly", test.cost), "a/a.txt", "b/a.txt", "c/a.txt")
			if diff := cmp.Diff([]string{test.want}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A child that was killed for one directory says nothing about the next ones,
// but there is an end to it.
func TestGivesUp(t *testing.T) {
	var files []string
	for i := range maxChildren + 2 {
		files = append(files, fmt.Sprintf("%02d/a.txt", i))
	}
	got := told(t.Context(), evaluatorOf(t, Limits{}, "silent"), files...)
	if len(got) != maxChildren+2 || got[0] != "00/a.txt: Words's evaluator ended early: exit status 0" {
		t.Errorf("%d diagnostics, first %v", len(got), got[0])
	}
	if want := "09/a.txt: not evaluated: evaluation of this tree has been ended 8 times"; got[len(got)-1] != want {
		t.Errorf("last %q, want %q", got[len(got)-1], want)
	}
}

func TestBrokenChild(t *testing.T) {
	for _, test := range []struct{ child, want string }{
		{"silent", "a.txt: Words's evaluator ended early: exit status 0"},
		{"hanging", "a.txt: evaluating this directory takes longer than 500ms (" + words.Simplify + ")"},
		{"babbling", "a.txt: Words cannot be evaluated: read response: invalid character 'P' looking for beginning of value"},
		{"mistaken", `a.txt: Words cannot be evaluated: the answer is for directory "elsewhere"`},
		{"foreign", "a.txt: Words's evaluator ended early: exit status 1"},
		{"placeless", "a.txt: no"},
		{"endless", fmt.Sprintf("a.txt: Words cannot be evaluated: more than %d bytes", maxResponse)},
	} {
		t.Run(test.child, func(t *testing.T) {
			limits := Limits{}
			switch test.child {
			case "hanging":
				limits.Wall = 500 * time.Millisecond
			case "endless": // all of it is read first, which takes long on a busy machine
				limits.Wall, limits.Tree = time.Hour, time.Hour
			}
			got := told(t.Context(), evaluatorOf(t, limits, test.child), "a.txt")
			if diff := cmp.Diff([]string{test.want}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	slow := evaluatorOf(t, Limits{Tree: 300 * time.Millisecond}, "hanging")
	want := []string{
		"a/a.txt: not evaluated: evaluating the tree's words takes longer than 300ms (simplify what takes long, or split the source)",
		"b/a.txt: not evaluated: evaluating the tree's words takes longer than 300ms (simplify what takes long, or split the source)",
	}
	if diff := cmp.Diff(want, told(t.Context(), slow, "a/a.txt", "b/a.txt")); diff != "" {
		t.Errorf("a slow tree (-want +got):\n%s", diff)
	}
	slow = evaluatorOf(t, Limits{Tree: time.Second}, "slow")
	var files []string
	for i := range 20 {
		files = append(files, fmt.Sprintf("%02d/a.txt", i))
	}
	if got := told(t.Context(), slow, files...); len(got) < 15 || !strings.HasPrefix(got[len(got)-1], "19/a.txt: not evaluated: evaluating the tree's words takes longer than 1s") {
		t.Errorf("a slow tree of many directories: %q", got)
	}
	missing := New(words, Config{Command: []string{"/nonexistent/fairlead"}})
	if got := told(t.Context(), missing, "a.txt"); len(got) != 1 || !strings.Contains(got[0], "no such file") {
		t.Errorf("without a program: %v", got)
	}
}

// A program that does not know the subcommand must not start itself for ever.
func TestChildStartsNone(t *testing.T) {
	mark, value, _ := strings.Cut(childMark, "=")
	t.Setenv(mark, value)
	want := []string{"a.txt: Words cannot be evaluated: this program was started as evaluate and did not run it"}
	if diff := cmp.Diff(want, told(t.Context(), New(words, Config{}), "a.txt")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// surroundings tells what a child could reach.
func surroundings(file string) (out schema.Diagnostics) {
	say := func(format string, args ...any) {
		out = append(out, schema.Diagnostic{Position: schema.Position{Path: file}, Severity: schema.Warning, Message: fmt.Sprintf(format, args...)})
	}
	say("environment %v", os.Environ())
	entries, err := os.ReadDir(".")
	say("files %v %v", entries, err)
	links, err := net.Interfaces()
	for _, link := range links {
		addresses, err := link.Addrs()
		say("link %s up=%v %v %v", link.Name, link.Flags&net.FlagUp != 0, addresses, err)
	}
	say("links %v", err)
	open, err := os.ReadDir("/proc/self/fd")
	for _, fd := range open {
		if target, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name())); err == nil && strings.HasPrefix(target, "socket:") {
			say("open %s", target)
		}
	}
	say("descriptors %v", err)
	return out
}

func TestSurroundings(t *testing.T) {
	t.Setenv("SOME_TOKEN", "secret")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	got := told(t.Context(), evaluatorOf(t, Limits{}, "surroundings"), "a.txt")
	want := []string{
		"a.txt: warning: descriptors <nil>",
		"a.txt: warning: environment [FAIRLEAD_CHILD=1]",
		"a.txt: warning: files [] <nil>",
		"a.txt: warning: link lo up=false [] <nil>",
		"a.txt: warning: links <nil>",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	in := inputOf()
	m := memory{bound: 3 * entryOverhead}
	for _, dir := range []string{"a", "b", "c"} {
		m.keep(&Response{Directory: dir}, in)
	}
	if _, ok := m.recall("a", in); !ok {
		t.Error("a is forgotten too early")
	}
	m.keep(&Response{Directory: "d"}, in)
	for dir, want := range map[string]bool{"a": true, "b": false, "c": true, "d": true} {
		if _, got := m.recall(dir, in); got != want {
			t.Errorf("%s remembered: %v, want %v", dir, got, want)
		}
	}
	if m.count != 3 || m.size != 3*entryOverhead {
		t.Errorf("%d entries of %d bytes", m.count, m.size)
	}
}

// Where it is known what a directory reads, its result depends on that alone, and only
// that is sent. What has a Secret in it is not remembered.
func TestNeeds(t *testing.T) {
	var m memory
	m.bound = 1 << 20
	input := func(changed string) *Input {
		in := inputOf("a/a.txt", "b/b.txt", "c/c.txt")
		for i := range in.files {
			if in.files[i].Hash = "same"; in.files[i].Path == changed {
				in.files[i].Hash = "another"
			}
		}
		in.Needs("a", "a/a.txt", []schema.File{in.files[0], in.files[2]})
		in.Needs("b", "b/b.txt", []schema.File{in.files[1]})
		return in
	}
	m.keep(&Response{Directory: "a"}, input(""))
	m.keep(&Response{Directory: "b", Private: true}, input(""))
	for changed, want := range map[string]bool{"": true, "a/a.txt": false, "b/b.txt": true, "c/c.txt": false} {
		if _, got := m.recall("a", input(changed)); got != want {
			t.Errorf("with %q changed, a is remembered: %v", changed, got)
		}
	}
	if _, ok := m.recall("b", input("")); ok {
		t.Error("a Secret is remembered")
	}
	files, readable := input("").read(words, []string{"b"}, nil)
	if len(files) != 1 || files[0].Path != "b/b.txt" || len(readable) != 1 {
		t.Errorf("sent %v for %v", files, readable)
	}
	if at := input("").First("a"); at.Path != "a/a.txt" {
		t.Errorf("a begins at %v", at)
	}
}

// A directory for which a file cannot be read is refused, each of them: a result without
// objects would look like one that comes to nothing. The others are evaluated.
func TestUnreadableFiles(t *testing.T) {
	broken := func(in *Input) *Input {
		in.files[1].Blob = &schema.Blob{Open: func() ([]byte, error) { return nil, os.ErrPermission }}
		in.files[2].Blob = &schema.Blob{Size: schema.MaxFileSize + 1, Open: func() ([]byte, error) { panic("it is opened") }}
		return in
	}
	told := func(in *Input) (out []string) {
		for _, r := range evaluatorOf(t, Limits{}, Subcommand).Eval(t.Context(), in) {
			out = append(out, r.Directory)
			for _, d := range r.Diagnostics {
				out = append(out, d.String())
			}
		}
		return out
	}
	in := broken(inputOf("a/a.txt", "b/b.txt", "c/c.txt", "d/d.txt"))
	in.Needs("a", "a/a.txt", in.files[:1])
	in.Needs("b", "b/b.txt", in.files[:2])
	in.Needs("c", "c/c.txt", in.files[1:3])
	in.Needs("d", "d/d.txt", in.files[3:])
	const unreadable, large = "b/b.txt: cannot be read: permission denied", "c/c.txt: 3145729 bytes, at most 3145728 are read"
	if diff := cmp.Diff([]string{"a", "b", unreadable, "c", unreadable, large, "d"}, told(in)); diff != "" {
		t.Errorf("with needs (-want +got):\n%s", diff)
	}
	in = broken(inputOf("a/a.txt", "b/b.txt", "c/c.txt"))
	if diff := cmp.Diff([]string{"a", unreadable, large, "b", unreadable, "c", unreadable}, told(in)); diff != "" {
		t.Errorf("where any file may be needed (-want +got):\n%s", diff)
	}
}

// What a tree comes to is held at once, and has a bound; what is beyond is refused, also
// if it is remembered.
func TestRoom(t *testing.T) {
	for _, test := range []struct {
		room room
		want string
	}{
		{room{bytes: 1000, objects: 5, name: words.OfTree}, "c/a.txt: not evaluated: evaluating the tree's words gives more than 100000 objects (split the source)"},
		{room{bytes: 60, objects: 100, name: words.OfTree}, "c/a.txt: not evaluated: evaluating the tree's words gives more than 256 MiB (split the source)"},
	} {
		in, results := inputOf("a/a.txt", "b/a.txt", "c/a.txt", "d/a.txt"), make(map[string]Response)
		evaluatorOf(t, Limits{}, "objects").evalMissing(t.Context(), in, []string{"a", "b", "c", "d"}, &test.room, results)
		for _, dir := range []string{"a", "b"} {
			if len(results[dir].Objects) != 2 || len(results[dir].Diagnostics) > 0 {
				t.Errorf("%s: %v", dir, results[dir])
			}
		}
		if len(results["d"].Diagnostics) != 1 || len(results["d"].Objects) > 0 {
			t.Errorf("d: %v", results["d"])
		}
		if got := fmt.Sprint(results["c"].Diagnostics); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
	r := newRoom(words)
	r.objects = 1
	if r.take(Response{Objects: make([]json.RawMessage, 2)}) == nil || r.take(Response{}) == nil {
		t.Error("a result beyond the bound is taken")
	}
}
