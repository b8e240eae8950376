package load

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/schema"
	"fairlead/schema/load/child"
	"fairlead/schema/load/kustomize"
)

// hashedTree is a tree of Git: each file has a hash, of its text.
func hashedTree(pairs ...string) schema.Tree {
	tree := treeOf(pairs...)
	for i := range tree.Files {
		tree.Files[i].Hash = pairs[2*i+1]
	}
	return tree
}

func configMapOf(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\n"
}

// What a kustomization takes over is no manifest any more, and is one again when it is
// gone, also where the files themselves are remembered.
func TestClaimedFilesAreForgotten(t *testing.T) {
	opts := Options{Source: "main", Cache: NewCache(0), Kustomize: NewKustomize(CUEConfig{})}
	names := func(tree schema.Tree) string {
		r := Load(t.Context(), tree, schema.SourceSpec{}, opts)
		var out []string
		for _, o := range r.Objects {
			out = append(out, o.Object.GetName())
		}
		for _, d := range r.Diagnostics {
			out = append(out, d.String())
		}
		return strings.Join(out, "; ")
	}
	const idle = `a/one.yaml: this file stands beside a kustomization that does not use it, so it is unclear whether it is to be applied (list it under resources of the kustomization; to leave it out, add "a/one.yaml" to exclude in the Source)`
	plain := []string{"a/one.yaml", configMapOf("one"), "a/two.yaml", configMapOf("two"), "b.yaml", configMapOf("b")}
	taken := append([]string{"a/kustomization.yaml", "resources: [two.yaml]\nnamePrefix: x-\n"}, plain...)
	for i, step := range []struct {
		files []string
		want  string
	}{
		{plain, "b; one; two"},
		{taken, "b; x-two; " + idle},
		{taken, "b; x-two; " + idle},
		{plain, "b; one; two"},
		{append([]string{"a/kustomization.yaml", "resources: [two.yaml, one.yaml]\n"}, plain...), "b; one; two"},
	} {
		if diff := cmp.Diff(step.want, names(hashedTree(step.files...))); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
}

// An object of a kustomization says where it stands, and so does each of its fields.
func TestKustomizedObjectIsLocated(t *testing.T) {
	tree := treeOf("base/a.yaml", configMapOf("a")+"data: {x: \"1\", y: \"2\"}\n", "base/kustomization.yaml", "resources: [a.yaml]\n",
		"top/kustomization.yaml", "resources: [../base]\npatches: [{path: p.yaml}]\n", "top/p.yaml", configMapOf("a")+"data: {y: \"3\"}\n")
	r := Load(t.Context(), tree, schema.SourceSpec{}, Options{Source: "main"})
	if len(r.Objects) != 1 || len(r.Diagnostics) > 0 {
		t.Fatalf("%d objects, %v", len(r.Objects), r.Diagnostics)
	}
	o := r.Objects[0]
	origin := schema.OriginOf(o.Object)
	got := []string{o.Position.String(), o.Locate("data[x]").String(), o.Locate("data[y]").String(), origin.Path}
	if diff := cmp.Diff([]string{"base/a.yaml:1:1", "base/a.yaml:4:11", "top/p.yaml:4:11", "base/a.yaml"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(o.Object.GetAnnotations()) != 5 { // of the origin and of how it was built, and none of kustomize's
		t.Errorf("annotations %v", o.Object.GetAnnotations())
	}
	built := schema.Built{By: "top", Set: []schema.BuiltSet{{By: "a patch of top", At: "top/p.yaml:4", Fields: []string{"data.y"}}}}
	if diff := cmp.Diff(built, schema.BuiltOf(o.Object)); diff != "" {
		t.Errorf("how it was built (-want +got):\n%s", diff)
	}
	if _, by := o.Written("data[y]"); by != "a patch of top for base/a.yaml:1" {
		t.Errorf("data[y] is set by %q", by)
	}
	if _, by := o.Written("data[x]"); by != "" || o.Made() != "built by top" {
		t.Errorf("data[x] is set by %q, and the object made: %q", by, o.Made())
	}
}

// Nobody says by hand how an object was built, in a plain manifest nor in what is built.
func TestBuiltIsNotWrittenByHand(t *testing.T) {
	byHand := "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: NAME\n  annotations: {a: b, fairlead/built: '{\"by\":\"elsewhere\"}'}\n"
	tree := treeOf("a.yaml", strings.Replace(byHand, "NAME", "a", 1), "k/b.yaml", strings.Replace(byHand, "NAME", "b", 1), "k/kustomization.yaml", "resources: [b.yaml]\n")
	r := Load(t.Context(), tree, schema.SourceSpec{}, Options{Source: "main"})
	if len(r.Objects) != 2 || r.Diagnostics.HasErrors() {
		t.Fatalf("%d objects, %v", len(r.Objects), r.Diagnostics)
	}
	for _, o := range r.Objects {
		want := map[string]string{"b": "k"}[o.Object.GetName()]
		_, noted := o.Object.GetAnnotations()[schema.AnnotationBuilt]
		if got := schema.BuiltOf(o.Object).By; got != want || noted != (want != "") || o.Object.GetAnnotations()["a"] != "b" {
			t.Errorf("%s is built by %q, want %q: %v", o.Object.GetName(), got, want, o.Object.GetAnnotations())
		}
	}
}

// Decoding what was built ends with ctx, between two objects.
func TestDecodingUnitsEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l := loader{}
	if u := l.decodeUnit(ctx, &kustomize.Unit{Dir: "a"}, child.Response{Objects: []json.RawMessage{[]byte("{}")}}, false, schema.Position{}); u != nil {
		t.Errorf("%+v", u)
	}
}

// A tree of files on disk leaves what is remembered of the last one of Git, also where all
// of it are kustomizations.
func TestKustomizationsOnDiskAreNotRemembered(t *testing.T) {
	opts := Options{Source: "main", Cache: NewCache(0), Kustomize: NewKustomize(CUEConfig{})}
	Load(t.Context(), hashedTree("a.yaml", configMapOf("a"), "k/kustomization.yaml", "resources: [b.yaml]\n", "k/b.yaml", configMapOf("b")), schema.SourceSpec{}, opts)
	was := opts.Cache.trees["main"]
	if was == nil || len(was.units) != 1 {
		t.Fatal("the first tree is not remembered")
	}
	for what, tree := range map[string]schema.Tree{
		"kustomizations": treeOf("k/kustomization.yaml", "resources: [b.yaml]\n", "k/b.yaml", configMapOf("c")),
		"one file":       treeOf("k/kustomization.yaml", "namePrefix: x-\n"),
		"no manifests":   treeOf("README", "x"),
	} {
		if Load(t.Context(), tree, schema.SourceSpec{}, opts); opts.Cache.trees["main"] != was {
			t.Errorf("%s: the tree of Git is forgotten", what)
		}
	}
	mixed := hashedTree("a.yaml", configMapOf("a"), "k/kustomization.yaml", "resources: [b.yaml]\n", "k/b.yaml", configMapOf("c"))
	mixed.Files[2].Hash = ""
	if Load(t.Context(), mixed, schema.SourceSpec{}, opts); opts.Cache.trees["main"] != was {
		t.Error("one file on disk: the tree of Git is forgotten")
	}
}

// A tree is known by what its kustomizations use outside of its path.
func TestOutsideTellsTreesApart(t *testing.T) {
	identity := func(base string) string {
		tree := hashedTree("o/kustomization.yaml", "resources: [../b]\n")
		tree.Hash = schema.TreeHash(strings.Repeat("1", 40))
		outside := hashedTree("b/kustomization.yaml", "resources: [a.yaml]\n", "b/a.yaml", base, "b/unused.yaml", base).Files
		tree.Outside = schema.NewOutside("o", func(dir string) (schema.Tree, error) {
			if dir == "b" {
				return schema.Tree{Files: outside}, nil
			}
			return schema.Tree{}, nil
		})
		r := Load(t.Context(), tree, schema.SourceSpec{Path: "o"}, Options{Source: "main"})
		if len(r.Objects) != 1 || len(r.Diagnostics) > 0 {
			t.Fatalf("%d objects, %v", len(r.Objects), r.Diagnostics)
		}
		return string(tree.Identity())
	}
	one, other := identity(configMapOf("a")), identity(configMapOf("b"))
	if one == other || one == strings.Repeat("1", 40) || len(one) != 40 || one != identity(configMapOf("a")) {
		t.Errorf("identities %s, %s", one, other)
	}
}

// What each unit comes to is its own, whatever the order of their directories and files.
func TestUnitsAreToldApart(t *testing.T) {
	wrong := func(name string) string { return configMapOf(name) + "daat: {}\n" }
	r := Load(t.Context(), treeOf("a-b/kustomization.yaml", "resources: [z.yaml]\n", "a-b/z.yaml", wrong("z"), "a/kustomization.yaml", "resources: [y.yaml]\n", "a/y.yaml", wrong("y"),
		"kustomization.yaml", "resources: [x.yaml]\n", "x.yaml", wrong("x")), schema.SourceSpec{}, Options{Source: "main"})
	var got []string
	for _, d := range r.Diagnostics {
		got = append(got, d.String())
	}
	const said = `unknown field "daat" in ConfigMap (did you mean "data"?)`
	if diff := cmp.Diff([]string{"a-b/z.yaml:4:1: " + said, "a/y.yaml:4:1: " + said, "x.yaml:4:1: " + said}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Files of kustomizations count in what a tree may hold.
func TestKustomizedFilesCount(t *testing.T) {
	tree := treeOf("a/kustomization.yaml", "resources: [x.yaml, y.yaml]\n", "a/x.yaml", configMapOf("x"), "a/y.yaml", configMapOf("y"))
	for i := range tree.Files {
		if strings.HasPrefix(tree.Files[i].Path, "a/x") {
			tree.Files[i].Size = schema.MaxFileSize
		}
	}
	var more []string
	for i := range schema.MaxTreeBytes / schema.MaxFileSize {
		more = append(more, fmt.Sprintf("b/%d.yaml", i), "")
	}
	plain := treeOf(more...)
	for i := range plain.Files {
		plain.Files[i].Size = schema.MaxFileSize
	}
	tree.Files = append(tree.Files, plain.Files...)
	r := Load(t.Context(), tree, schema.SourceSpec{}, Options{Source: "main"})
	if got := fmt.Sprint(r.Diagnostics); !strings.Contains(got, "the tree's manifests have 270532") {
		t.Error(got)
	}
}

// Beside a kustomization only what may hold an object is refused, and one mistake hides
// no other.
func TestFilesBesideKustomizations(t *testing.T) {
	for name, test := range map[string]struct {
		files []string
		want  string
	}{
		"nothing in it":   {[]string{"a/n.yaml", "# nothing\n"}, ""},
		"no manifest":     {[]string{"a/n.yaml", "replicas: 3\n", "a/n.json", "{}"}, "a/n.json: warning: 2 files are no manifests and are passed over: a/n.json, a/n.yaml"},
		"not YAML":        {[]string{"a/n.yaml", "a: [\n"}, "a/n.yaml: this file stands beside a kustomization that does not use it"},
		"second document": {[]string{"a/n.yaml", "a: b\n---\n" + configMapOf("n")}, "a/n.yaml: this file stands beside a kustomization that does not use it"},
		"JSON":            {[]string{"a/n.json", `{"kind": "ConfigMap"}`}, "a/n.json: this file stands beside a kustomization that does not use it"},
		"two directories": {[]string{"a/n.yaml", configMapOf("n"), "a/o.yaml", configMapOf("o"), "b/kustomization.yaml", "namePrefix: x-\n", "b/n.yaml", configMapOf("n")},
			"a/n.yaml: 2 files stand beside a kustomization that does not use them, so it is unclear whether they are to be applied: a/n.yaml, a/o.yaml (list them under resources of the kustomization, or exclude them in the Source); b/n.yaml: this file stands beside a kustomization that does not use it"},
	} {
		t.Run(name, func(t *testing.T) {
			tree := treeOf(append([]string{"a/c.yaml", configMapOf("c"), "a/kustomization.yaml", "resources: [c.yaml]\n"}, test.files...)...)
			var told []string
			for _, d := range Load(t.Context(), tree, schema.SourceSpec{}, Options{Source: "main"}).Diagnostics {
				told = append(told, d.String())
			}
			if got := strings.Join(told, "; "); !strings.HasPrefix(got, test.want) || test.want == "" && got != "" {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// What was built of the same files is not decoded again: its objects are the ones they
// were, of the commit since which they are so if that is what runs. What is read in another
// way, or has a Secret, is decoded anew.
func TestUnitsAreKnownAgain(t *testing.T) {
	opts := Options{Source: "main", Cache: NewCache(0), Kustomize: NewKustomize(CUEConfig{})}
	files := []string{
		"a/kustomization.yaml", "resources: [a.yaml]\n", "a/a.yaml", configMapOf("a"),
		"b/kustomization.yaml", "resources: [b.yaml]\n", "b/b.yaml", configMapOf("b"),
		"s/kustomization.yaml", "secretGenerator: [{name: s, literals: [A=a], options: {disableNameSuffixHash: true}}]\n",
	}
	load := func(commit schema.Commit, spec schema.SourceSpec) map[string]*schema.Desired {
		t.Helper()
		tree := hashedTree(files...)
		tree.Commit.Hash = commit
		r := Load(t.Context(), tree, spec, opts)
		if len(r.Objects) != 3 || r.Diagnostics.HasErrors() {
			t.Fatalf("%d objects, %v", len(r.Objects), r.Diagnostics)
		}
		out := make(map[string]*schema.Desired)
		for _, o := range r.Objects {
			out[o.Object.GetName()] = o
		}
		return out
	}
	commitOf := func(o *schema.Desired) schema.Commit { return schema.OriginOf(o.Object).Commit }

	first := load("1", schema.SourceSpec{})
	opts.Applied = "1"
	files[7] += "data: {x: y}\n" // b.yaml
	second := load("2", schema.SourceSpec{})
	if second["a"].Object != first["a"].Object || commitOf(second["a"]) != "1" {
		t.Errorf("a is decoded again, of commit %s", commitOf(second["a"]))
	}
	if second["b"].Object == first["b"].Object || commitOf(second["b"]) != "2" {
		t.Errorf("b is what it was, of commit %s", commitOf(second["b"]))
	}
	if second["s"].Object == first["s"].Object || opts.Cache.trees["main"].units["s"] != nil {
		t.Error("a Secret is kept")
	}
	third := load("3", schema.SourceSpec{})
	if third["a"].Same != first["a"].Same || commitOf(third["a"]) != "3" {
		t.Errorf("what does not run is of commit %s", commitOf(third["a"]))
	}
	files = append(files, "a/none.yaml", "# nothing\n")
	if fourth := load("3", schema.SourceSpec{}); fourth["a"].Object != third["a"].Object {
		t.Error("a file more has all units decoded again")
	}
	if fifth := load("3", schema.SourceSpec{Unsupported: "warn"}); fifth["a"].Object == third["a"].Object {
		t.Error("what is read in another way is taken for what it was")
	}
	opts.Cache = NewCache(1)
	load("3", schema.SourceSpec{})
	if kept := opts.Cache.trees["main"].units; len(kept) > 0 {
		t.Errorf("%d units are kept beyond the bound", len(kept))
	}
}
