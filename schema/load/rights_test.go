package load

import (
	"cmp"
	"testing"

	"sigs.k8s.io/yaml"

	"fairlead/schema"
)

// What a tree asks for beyond the rights of its source is refused at its line, and
// nothing else is. The file "source" of a case is the source's spec; "above", where it
// is there, that of the source which declares it.
func TestTreesStayWithinRights(t *testing.T) {
	for _, c := range readTrees(t, "../../testdata/rights/*/*.txtar") {
		t.Run(c.name, func(t *testing.T) {
			rights := schema.AllRights()
			for i := 0; i < len(c.files); i += 2 {
				if name := c.files[i]; name == "source" || name == "above" {
					rights = rights.And(rightsIn(t, c.files[i+1]))
				}
			}
			cache := NewCache(0)
			opts := Options{Source: "team", KnownNamespaces: []string{"shop", "team"}, Cache: cache, Rights: &rights}
			for range 2 { // the second time from what is known
				got := errorsOf(Load(t.Context(), hashed(treeOf(c.files...)), schema.SourceSpec{}, opts).Diagnostics)
				if len(c.want) == 0 {
					for _, d := range got {
						t.Error(d)
					}
					continue
				}
				for _, line := range mismatches(c.want, got) {
					t.Error(line)
				}
			}
		})
	}
}

func rightsIn(t *testing.T, text string) schema.Rights {
	t.Helper()
	spec := schema.SourceSpec{}
	if err := yaml.UnmarshalStrict([]byte(text), &spec); err != nil {
		t.Fatal(err)
	}
	spec = schema.DefaultSourceSpec(spec)
	return spec.Rights()
}

// hashed gives the files of a tree the hashes by which a Cache knows them again.
func hashed(tree schema.Tree) schema.Tree {
	for i := range tree.Files {
		blob := *tree.Files[i].Blob
		data, _ := blob.Open()
		blob.Hash = cmp.Or(blob.Hash, schema.ShortHash(string(data)))
		tree.Files[i].Blob = &blob
	}
	return tree
}

// A tree that was sound is not sound any more once its source has fewer rights, and
// one that is added to is held to them.
func TestRightsAreJudgedAnew(t *testing.T) {
	const namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: lab}\n"
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: localhost/a:1, ports: [{containerPort: 80, hostPort: 80}]}]}\n"
	all := schema.AllRights()
	narrow := all.And(rightsIn(t, "clusterKinds: [Namespace]"))
	none := all.And(rightsIn(t, ""))
	cache := NewCache(0)
	for i, step := range []struct {
		rights *schema.Rights
		files  []string
		errors int
	}{
		{&all, []string{"a.yaml", namespace, "b.yaml", pod}, 0},
		{&narrow, []string{"a.yaml", namespace, "b.yaml", pod}, 1},
		{&none, []string{"a.yaml", namespace, "b.yaml", pod}, 2},
		{&all, []string{"a.yaml", namespace}, 0},
		{&narrow, []string{"a.yaml", namespace}, 0},
		{&narrow, []string{"a.yaml", namespace, "b.yaml", pod}, 1},
		{&narrow, []string{"a.yaml", namespace}, 0},
		{nil, []string{"a.yaml", namespace, "b.yaml", pod}, 0},
	} {
		got := errorsOf(Load(t.Context(), hashed(treeOf(step.files...)), schema.SourceSpec{}, Options{Source: "team", Cache: cache, Rights: step.rights}).Diagnostics)
		if len(got) != step.errors {
			t.Errorf("step %d: %v, want %d errors", i, got, step.errors)
		}
	}
}
