package load

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/schema"
)

// A document that has nothing of an object is no manifest: all such files are told of in
// one warning, which is the same when nothing of them is read again.
func TestFilesThatAreNoManifests(t *testing.T) {
	const hint = "have neither apiVersion nor kind nor metadata; exclude in the Source those in which no object stands)"
	for _, test := range []struct {
		files []string
		want  []string
	}{
		{[]string{"compose.yaml", "services: {web: {image: x}}\n"}, []string{
			"compose.yaml: warning: this file is no manifest and is passed over (it has neither apiVersion nor kind nor metadata; exclude it in the Source if no object stands in it)",
		}},
		{[]string{"a.yaml", "just notes\n", "b.json", "[1, 2]\n{\"a\": 1}\n", "c.yaml", configYAML + "---\nreplicas: 2\n---\nreplicas: 3\n"}, []string{
			"a.yaml: warning: 3 files are no manifests and are passed over: a.yaml, b.json, c.yaml (they " + hint,
		}},
		{[]string{"a.yaml", "a: 1", "b.yaml", "a: 1", "c.yaml", "a: 1", "d.yaml", "a: 1", "e.yaml", "a: 1", "f.yaml", "a: 1", "g.yaml", "a: 1"}, []string{
			"a.yaml: warning: 7 files are no manifests and are passed over: a.yaml, b.yaml, c.yaml, d.yaml, e.yaml and 2 more (they " + hint,
		}},
		{[]string{"a.yaml", "kind: null\n"}, []string{"a.yaml:1:7: apiVersion is missing"}},
		{[]string{"a.yaml", "metadata: {}\n"}, []string{`a.yaml:1:1: no apiVersion and kind: this is not an object (to leave it out, add "a.yaml" to exclude in the Source)`}},
		{[]string{"a.yaml", "MetaData: {}\n"}, []string{`a.yaml:1:1: no apiVersion and kind: this is not an object (to leave it out, add "a.yaml" to exclude in the Source)`}},
		{[]string{"a.yaml", "apiVersion: v1\nkind: List\nitems: [{a: b}]\n"}, []string{`a.yaml:3:9: no apiVersion and kind: this is not an object (to leave it out, add "a.yaml" to exclude in the Source)`}},
	} {
		cache := NewCache(0)
		var tree schema.Tree
		for i := 0; i < len(test.files); i += 2 {
			f := memoryFile(test.files[i], test.files[i+1])
			f.Hash = test.files[i+1]
			tree.Files = append(tree.Files, f)
		}
		for _, when := range []string{"read", "remembered"} {
			got := lines(Load(t.Context(), tree, schema.SourceSpec{}, Options{Source: "main", Cache: cache}).Diagnostics)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
	}
}

// Namespaces that Kubernetes makes by itself need no object that declares them.
func TestGivenNamespaces(t *testing.T) {
	for namespace, want := range map[string]int{"default": 0, "kube-system": 0, "kube-public": 0, "kube-node-lease": 0, "kube-sytem": 1} {
		text := strings.Replace(configYAML, "name: config", "name: config, namespace: "+namespace, 1)
		if got := Load(t.Context(), treeOf("a.yaml", text), schema.SourceSpec{}, Options{}).Diagnostics; len(got) != want {
			t.Errorf("%s: %v", namespace, got)
		}
	}
}
