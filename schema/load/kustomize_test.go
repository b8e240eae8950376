package load

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/schema"
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
	if len(o.Object.GetAnnotations()) != 4 { // of the origin, and none of kustomize's
		t.Errorf("annotations %v", o.Object.GetAnnotations())
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
