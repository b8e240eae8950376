package kustomize

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/schema"
	"fairlead/schema/load/child"
)

// summary is what a survey comes to, a word for each thing.
func summary(s *Survey) (out []string) {
	for _, u := range s.Units {
		out = append(out, "unit "+u.Dir)
	}
	for _, f := range s.Idle {
		out = append(out, "idle "+f.Path)
	}
	for _, name := range s.Beside {
		out = append(out, "beside "+name)
	}
	for _, d := range s.Diagnostics {
		out = append(out, d.String())
	}
	return out
}

const object = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"

// A file is no plain manifest when a kustomization reads it or stands beside it; what
// else is below stays what it is.
func TestClaims(t *testing.T) {
	const component = "kind: Component\nresources: [../base]\n"
	for _, test := range []struct {
		name   string
		files  []child.File
		want   []string
		claims string // those of the files that are claimed
	}{
		{"below the root", pairs("kustomization.yaml", "resources: [apps/a]\n", "apps/a/kustomization.yaml", "resources: [c.yaml]\n", "apps/a/c.yaml", object,
			"apps/a/idle.yaml", object, "apps/b/d.yaml", object, "apps/b/e.cue", "", "f.cue", "", "g.json", "{}"),
			[]string{"unit .", "idle apps/a/idle.yaml", "idle g.json", "beside apps/b/d.yaml"},
			"apps/a/c.yaml apps/a/idle.yaml apps/a/kustomization.yaml g.json kustomization.yaml"},
		{"files below that are read", pairs("k/kustomization.yaml", "resources: [b/c.yaml]\n", "k/b/c.yaml", object, "k/b/d.yaml", object),
			[]string{"unit k", "beside k/b/d.yaml"}, "k/b/c.yaml k/kustomization.yaml"},
		{"a broken one", pairs("k/kustomization.yaml", "resources: [nothing.yaml]\n", "k/b/c.yaml", object, "k/d.yaml", object, "k/e.cue", "", "l/kustomization.yaml", "resources: [c.yaml]\n", "l/c.yaml", object, "l/d.yaml", object, "m.yaml", object),
			[]string{"unit l", "idle l/d.yaml", "k/kustomization.yaml:1:13: there is no file or directory k/nothing.yaml"},
			"k/b/c.yaml k/d.yaml k/kustomization.yaml l/c.yaml l/d.yaml l/kustomization.yaml"},
		{"another group", pairs("k/kustomization.yaml", "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n", "k/c.yaml", object), nil, ""},
		{"an unused component", pairs("base/kustomization.yaml", "resources: [c.yaml]\n", "base/c.yaml", object, "part/kustomization.yaml", component),
			[]string{"unit base", "part/kustomization.yaml:1:1: warning: no kustomization uses this component, so nothing is built from it (list it under components of a kustomization, or exclude it in the Source)"},
			"base/c.yaml base/kustomization.yaml part/kustomization.yaml"},
		{"a component used by an unused one", pairs("a/kustomization.yaml", "kind: Component\ncomponents: [../b]\n", "b/kustomization.yaml", "kind: Component\nnamePrefix: x-\n", "c.yaml", object),
			[]string{"a/kustomization.yaml:1:1: warning: no kustomization uses this component, so nothing is built from it (list it under components of a kustomization, or exclude it in the Source)",
				"b/kustomization.yaml:1:1: warning: no kustomization uses this component, so nothing is built from it (list it under components of a kustomization, or exclude it in the Source)"},
			"a/kustomization.yaml b/kustomization.yaml"},
		{"nothing but a component", pairs("part/kustomization.yaml", "kind: Component\nresources: [c.yaml]\n", "part/c.yaml", object),
			[]string{"part/kustomization.yaml:1:1: no kustomization uses this component, so nothing is built from it (choose a kustomization that lists it under components, with path in the Source)"},
			"part/c.yaml part/kustomization.yaml"},
		{"a used component", pairs("base/kustomization.yaml", "resources: [c.yaml]\n", "base/c.yaml", object, "part/kustomization.yaml", component, "top/kustomization.yaml", "components: [../part]\n"),
			[]string{"unit top"}, "base/c.yaml base/kustomization.yaml part/kustomization.yaml top/kustomization.yaml"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := surveyOf(test.files)
			if diff := cmp.Diff(test.want, summary(s)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			var claimed []string
			for _, f := range test.files {
				if s.Claims(f.Path) {
					claimed = append(claimed, f.Path)
				}
			}
			slices.Sort(claimed)
			if got := strings.Join(claimed, " "); got != test.claims {
				t.Errorf("claims %q, want %q", got, test.claims)
			}
		})
	}
}

// Units are in the order of their directories, which is not that of their files.
func TestOrderOfUnits(t *testing.T) {
	s := surveyOf(pairs("a-b/kustomization.yaml", "namePrefix: x-\n", "a/kustomization.yaml", "namePrefix: x-\n", "kustomization.yaml", "namePrefix: x-\n", "a/b/kustomization.yaml", "namePrefix: x-\n"))
	if diff := cmp.Diff([]string{"unit .", "unit a", "unit a-b", "unit a/b"}, summary(s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What a kustomization's patch says is no name of a file; what configures a generator or
// transformer may name some.
func TestNamedFiles(t *testing.T) {
	const patch = object + "data: {app.yaml: app.yaml, path: app.yaml}\npath: app.yaml\n"
	for name, test := range map[string]struct {
		files []child.File
		reads string
	}{
		"strategic merge":        {pairs("kustomization.yaml", "patchesStrategicMerge: [p.yaml]\n", "p.yaml", patch, "app.yaml", object), "kustomization.yaml p.yaml"},
		"inline strategic merge": {pairs("kustomization.yaml", "patchesStrategicMerge: [\"{path: app.yaml, files: [app.yaml]}\"]\n", "app.yaml", object), "kustomization.yaml"},
		"patch in a transformer": {pairs("kustomization.yaml", "transformers: [t.yaml]\n", "t.yaml", "kind: PatchTransformer\nmetadata: {name: app.yaml}\npatch: app.yaml\ntarget: {name: app.yaml}\n", "app.yaml", object), "kustomization.yaml t.yaml"},
		"path in a transformer":  {pairs("kustomization.yaml", "transformers: [t.yaml]\n", "t.yaml", "kind: PatchTransformer\nPath: app.yaml\n", "app.yaml", object), "app.yaml kustomization.yaml t.yaml"},
		"inline transformer":     {pairs("kustomization.yaml", "transformers: [\"{kind: PatchStrategicMergeTransformer, paths: [app.yaml]}\"]\n", "app.yaml", object), "app.yaml kustomization.yaml"},
		"generator": {pairs("kustomization.yaml", "generators: [g.yaml]\n", "g.yaml", "kind: ConfigMapGenerator\nfiles: [a=a.txt]\nenvs: [b.txt]\nenv: c.txt\nliterals: [d.txt]\n", "a.txt", "", "b.txt", "", "c.txt", "", "d.txt", ""),
			"a.txt b.txt c.txt g.yaml kustomization.yaml"},
		"replacements": {pairs("kustomization.yaml", "transformers: [t.yaml]\n", "t.yaml", "kind: ReplacementTransformer\nreplacements: [{path: r.yaml}, {source: {name: s.yaml}}]\n", "r.yaml", "", "s.yaml", ""), "kustomization.yaml r.yaml t.yaml"},
		"a list":       {pairs("kustomization.yaml", "transformers: [t.yaml]\n", "t.yaml", "kind: List\nitems:\n- {kind: PatchTransformer, path: app.yaml}\n", "app.yaml", object), "app.yaml kustomization.yaml t.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			var reads []string
			for _, f := range surveyOf(test.files).Used() {
				reads = append(reads, f.Path)
			}
			if got := strings.Join(reads, " "); got != test.reads {
				t.Errorf("reads %q, want %q", got, test.reads)
			}
		})
	}
}

// Of several kustomizations in a directory, those that the source leaves out do not count.
func TestExcludedRival(t *testing.T) {
	files := pairs("a/kustomization.yaml", "resources: [c.yaml]\n", "a/kustomization.yml", "resources: [d.yaml]\n", "a/c.yaml", object, "a/d.yaml", object)
	look := func(selects func(string) bool) *Survey {
		return Look(t.Context(), schema.Tree{Files: newBuilder(files).files}, selects)
	}
	s := look(func(name string) bool { return name != "a/kustomization.yaml" && name != "a/c.yaml" })
	if diff := cmp.Diff([]string{"unit a"}, summary(s)); diff != "" || s.Units[0].File != "a/kustomization.yml" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want := []string{"a/kustomization.yaml:1:1: kustomization.yaml and kustomization.yml stand in one directory, and kustomize reads only one (keep one of them, or exclude the other in the Source)"}
	if diff := cmp.Diff(want, summary(look(func(string) bool { return true }))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if used := look(nil).Used(); len(used) != 4 { // either may be the one that the source chooses
		t.Errorf("used %v", used)
	}
}

// A directory that cannot be listed is told where it is named, each time.
func TestUnlistableDirectories(t *testing.T) {
	files := pairs("o/kustomization.yaml", "resources:\n- ../b/x\n- ../c\n- ../b/y\n")
	tree := schema.Tree{Files: newBuilder(files).files, Outside: schema.NewOutside("o", func(dir string) (schema.Tree, error) {
		if dir == "b" {
			return schema.Tree{}, errors.New("object is damaged")
		}
		return schema.Tree{}, nil
	})}
	s := Look(t.Context(), tree, func(string) bool { return true })
	want := []string{
		"o/kustomization.yaml:2:3: b/x cannot be read: object is damaged",
		"o/kustomization.yaml:3:3: there is no file or directory c (did you mean \"o\"?)",
		"o/kustomization.yaml:4:3: b/y cannot be read: object is damaged",
	}
	if diff := cmp.Diff(want, summary(s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What the bound keeps from being looked into is not told to be missing.
func TestManyDirectoriesOutside(t *testing.T) {
	f := files{outside: schema.NewOutside("o", func(string) (schema.Tree, error) { return schema.Tree{}, nil }), listed: make(map[string]listed)}
	for i := range maxListed {
		if _, err := f.isDir(fmt.Sprint("d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := f.find("e/f"); !errors.Is(err, errListed) {
		t.Errorf("got %v", err)
	}
	if _, err := f.isDir("d1"); err != nil {
		t.Error(err)
	}
}

// The survey is made by the parent: whatever it takes has a bound that is told, and
// nothing is built from part of a tree.
func TestBoundsOfSurveys(t *testing.T) {
	many := func(n int, text string) (out []child.File) {
		for i := range n {
			out = append(out, pairs(fmt.Sprintf("k%d/kustomization.yaml", i), text)...)
		}
		return out
	}
	base := pairs("base/kustomization.yaml", "resources:\n")
	for i := range 1_000 {
		base = append(base, pairs(fmt.Sprintf("base/f%d.yaml", i), object)...)
		base[0].Text = fmt.Appendf(base[0].Text, "- f%d.yaml\n", i)
	}
	long := "# " + strings.Repeat("x", schema.MaxFileSize-100) + "\n"
	for _, test := range []struct {
		name  string
		files []child.File
		want  string
	}{
		{"kustomizations", many(maxKustomizations+1, "namePrefix: x-\n"), "the tree has more than the 10000 kustomizations that are read"},
		{"units", many(maxUnits+1, "namePrefix: x-\n"), "more than 5000 kustomizations of the tree are used by no other one"},
		{"reads", append(many(1_001, "resources: [../base]\n"), base...), "read more than 1000000 files, each as often as one that is built uses it"},
		{"text", many(maxParsed/schema.MaxFileSize+2, long+"namePrefix: x-\n"), "have more than the 67108864 bytes that are read"},
		{"values that aliases read", many(40, "configMapGenerator: [&a {files: ["+strings.Repeat("x,", 300)+"]}"+strings.Repeat(",*a", 300)+"]\n"), "have more than the 2000000 values that are read together"},
		{"the same text again", append(many(25, "generators: [g.yaml]\n"), pairs("k/kustomization.yaml", "transformers: ["+strings.Repeat("t.yaml, ", 30)+"]\n", "k/t.yaml", long)...), "have more than the 67108864 bytes that are read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := surveyOf(test.files)
			if got := fmt.Sprintf("%.5000v", s.Diagnostics); !strings.Contains(got, test.want) || len(s.Units) > 0 || !s.Claims("k1/any.yaml") {
				t.Errorf("%d units, %s", len(s.Units), got)
			}
		})
	}
}

// A file that is too large, or whose name is, is not opened.
func TestLargeFiles(t *testing.T) {
	files := newBuilder(pairs("kustomization.yaml", "resources: [large.yaml, "+strings.Repeat("x/", 3000)+"y.yaml]\n", "large.yaml", object, strings.Repeat("x/", 3000)+"y.yaml", object)).files
	files[1].Blob = &schema.Blob{Size: schema.MaxFileSize + 1, Open: func() ([]byte, error) { panic("it is opened") }}
	s := Look(t.Context(), schema.Tree{Files: files}, func(string) bool { return true })
	want := []string{"kustomization.yaml:1:13: large.yaml has 3145729 bytes, at most 3145728 are read", "kustomization.yaml:1:25: the name of this file has 6006 bytes, at most 4096 are taken"}
	if diff := cmp.Diff(want, summary(s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A file that makes the parser panic is the error of what uses it, and of nobody else.
func TestPanicsAreContained(t *testing.T) {
	files := newBuilder(pairs("a/kustomization.yaml", "", "b/kustomization.yaml", "transformers: [t.yaml]\n", "b/t.yaml", "", "c/kustomization.yaml", "namePrefix: x-\n")).files
	for _, i := range []int{0, 2} {
		files[i].Blob = &schema.Blob{Open: func() ([]byte, error) { panic("index out of range") }}
	}
	want := []string{
		"unit c",
		"a/kustomization.yaml:1:1: a/kustomization.yaml cannot be read, which is a bug of Fairlead's: index out of range",
		"b/kustomization.yaml:1:1: b/t.yaml cannot be read, which is a bug of Fairlead's: index out of range",
	}
	if diff := cmp.Diff(want, summary(Look(t.Context(), schema.Tree{Files: files}, func(string) bool { return true }))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A survey ends when ctx does, and then claims everything: nothing is known.
func TestSurveyEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opened := 0
	files := newBuilder(pairs("a/kustomization.yaml", "namePrefix: x-\n", "b/kustomization.yaml", "namePrefix: x-\n")).files
	for i := range files {
		files[i].Blob = &schema.Blob{Open: func() ([]byte, error) {
			opened++
			cancel()
			return []byte("namePrefix: x-\n"), nil
		}}
	}
	s := Look(ctx, schema.Tree{Files: files}, func(string) bool { return true })
	if opened != 1 || len(s.Units) > 0 || !s.Claims("c.yaml") {
		t.Errorf("%d files are opened, units %v", opened, s.Units)
	}
}

// What was parsed is not kept.
func TestSurveysForget(t *testing.T) {
	s := surveyOf(pairs("a/kustomization.yaml", "resources: [c.yaml, c.yaml, ../b, ../b]\n", "a/c.yaml", object, "b/kustomization.yaml", "namePrefix: x-\n"))
	for dir, n := range s.nodes {
		if n.text != nil || n.root != nil || n.uses != nil || n.says.NamePrefix != "" || len(n.files) > 2 || len(n.below) > 1 {
			t.Errorf("%s: %+v", dir, n)
		}
	}
}
