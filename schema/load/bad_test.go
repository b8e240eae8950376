package load

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"fairlead/schema"
)

// badTree is one case of testdata/bad: files with a mistake planted in them.
type badTree struct {
	name   string // "yaml/pod/no-image": format, theme and case
	files  []string
	before []string // what runs already, for mistakes that lie in the change
	want   []mark
}

// mark is where a mistake was planted, and what must be said there.
type mark struct {
	path string
	line int
	text string
}

func (m mark) String() string { return fmt.Sprintf("%s:%d: %s", m.path, m.line, m.text) }

// inlineMark begins a mark as it stands in YAML and CUE, behind the mistake; one
// mistake may have several.
var inlineMark = regexp.MustCompile(`\s+(?:#|//) want: `)

// readBadTrees reads every archive of testdata/bad. A case is a directory of its
// archive. Marks stand beside the mistake as a comment, "# want: text", or where
// none can stand in the case's file "want", as "path:line: text".
func readBadTrees(t testing.TB) []badTree { return readTrees(t, "../../testdata/bad/*/*.txtar") }

func readTrees(t testing.TB, pattern string) []badTree {
	t.Helper()
	archives, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var all []badTree
	for _, name := range archives {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		theme := path.Join(filepath.Base(filepath.Dir(name)), strings.TrimSuffix(filepath.Base(name), ".txtar"))
		cases := make(map[string]*badTree)
		for _, f := range archive.Files {
			dir, file, _ := strings.Cut(f.Name, "/")
			c := cases[dir]
			if c == nil {
				c = &badTree{name: theme + "/" + dir}
				cases[dir] = c
			}
			c.add(t, file, string(f.Data))
		}
		for _, dir := range slices.Sorted(maps.Keys(cases)) {
			all = append(all, *cases[dir])
		}
	}
	return all
}

func (c *badTree) add(t testing.TB, file, text string) {
	t.Helper()
	if was, ok := strings.CutPrefix(file, "before/"); ok {
		c.before = append(c.before, was, text)
		return
	}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if file == "want" {
			m := mark{}
			at, told, ok := strings.Cut(line, ": ")
			m.path, _, _ = strings.Cut(at, ":")
			if _, err := fmt.Sscanf(at, m.path+":%d", &m.line); !ok || err != nil {
				t.Fatalf("%s: want %q: %v", c.name, line, err)
			}
			m.text = told
			c.want = append(c.want, m)
			continue
		}
		for _, text := range inlineMark.Split(line, -1)[1:] {
			c.want = append(c.want, mark{file, number, text})
		}
	}
	if file != "want" {
		c.files = append(c.files, file, text)
	}
}

// load loads the case's tree, and for a tree that is to follow on another one
// judges the change as well, as the master does.
func (c *badTree) load(ctx context.Context) schema.Diagnostics {
	result := Load(ctx, treeOf(c.files...), schema.SourceSpec{}, Options{Source: "main"})
	if len(c.before) == 0 {
		return result.Diagnostics
	}
	runs := Load(ctx, treeOf(c.before...), schema.SourceSpec{}, Options{Source: "main"})
	out := append(result.Diagnostics, runs.Diagnostics...)
	for _, old := range runs.Objects {
		for _, next := range result.Objects {
			if schema.KeyOf(old.Object) != schema.KeyOf(next.Object) {
				continue
			}
			for _, p := range schema.ValidateUpdate(old.Object, next.Object) {
				out = append(out, schema.Diagnostic{Position: next.Locate(p.Field), Severity: schema.Error, Message: p.Field + ": " + p.Message, Hint: p.Hint})
			}
		}
	}
	return out.Sort()
}

// Every mistake is refused at its line, in the words that were marked there, and
// nothing else is.
func TestBadTrees(t *testing.T) {
	for _, c := range readBadTrees(t) {
		t.Run(c.name, func(t *testing.T) {
			if c.isEvaluated() {
				t.Parallel() // most of it is starting the child
			}
			for _, line := range mismatches(c.want, errorsOf(inTime(t, c.deadline(), c.load))) {
				t.Error(line)
			}
			if len(c.before) == 0 && !c.isEvaluated() {
				tree, opts := treeOf(c.files...), Options{Source: "main"}
				if diff := verdictDiffers(Load(t.Context(), tree, schema.SourceSpec{}, opts), tree, opts); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// fewest is how many mistakes the corpus holds at least, each told in words of
// its own: another number in them makes no other mistake.
const fewest = 300

func TestBadTreesDiffer(t *testing.T) {
	digits := regexp.MustCompile(`[0-9]+`)
	told := make(map[string]bool)
	for _, c := range readBadTrees(t) {
		for _, m := range c.want {
			told[digits.ReplaceAllString(m.text, "0")] = true
		}
	}
	if len(told) < fewest {
		t.Errorf("the corpus holds %d different mistakes, not %d", len(told), fewest)
	}
}

// isEvaluated reports whether what is read comes out of a child.
func (c *badTree) isEvaluated() bool {
	return strings.HasPrefix(c.name, "cue/") || strings.HasPrefix(c.name, "kustomize/")
}

// deadline is what a small tree may cost, whatever stands in it; for what is evaluated
// it leaves room for the start of a child.
func (c *badTree) deadline() time.Duration {
	if c.isEvaluated() {
		return 30 * time.Second
	}
	return time.Second
}

// inTime loads within the deadline, which ends the loading as an error of its
// own. A machine that stood still for so long says nothing of the tree, so the
// last of a few attempts counts.
func inTime(t *testing.T, deadline time.Duration, load func(context.Context) schema.Diagnostics) (out schema.Diagnostics) {
	t.Helper()
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		out = load(ctx)
		stopped := ctx.Err() != nil
		cancel()
		if !stopped {
			return out
		}
	}
	t.Errorf("not loaded within %s", deadline)
	return out
}

func errorsOf(ds schema.Diagnostics) (out schema.Diagnostics) {
	for _, d := range ds {
		if d.Severity == schema.Error {
			out = append(out, d)
		}
	}
	return out
}

// mismatches pairs marks with errors and tells what is left of both.
func mismatches(want []mark, got schema.Diagnostics) (out []string) {
	if len(want) == 0 {
		out = append(out, "no mistake is marked")
	}
	got = slices.Clone(got)
	slices.SortStableFunc(want, func(a, b mark) int { return cmp.Compare(len(b.text), len(a.text)) })
	for _, m := range want {
		i := slices.IndexFunc(got, func(d schema.Diagnostic) bool {
			return d.Path == m.path && d.Line == m.line && strings.Contains(d.String(), m.text)
		})
		if i < 0 {
			out = append(out, "want "+m.String())
			continue
		}
		got = slices.Delete(got, i, i+1)
	}
	for _, d := range got {
		out = append(out, "got  "+d.String())
	}
	return out
}
