package kustomize

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/schema/load/child"
	"fairlead/schema/load/yaml"
)

// Each value is where a person would change it: in the outermost patch that has it, at the
// field of a kustomization that makes it, or in the object's own document.
func TestPlaces(t *testing.T) {
	files := filesIn(t, "testdata/places.txtar")
	resp := newBuilder(files).build("overlay")
	if len(resp.Diagnostics) > 0 {
		t.Fatal(resp.Diagnostics)
	}
	documents := make(map[string]*yaml.Document)
	for _, encoded := range resp.Objects {
		doc, err := child.Document(encoded)
		if err != nil {
			t.Fatal(err)
		}
		documents[yaml.TextAt(doc.Node, "kind")] = doc
	}
	for _, test := range []struct{ kind, field, want string }{
		{"Deployment", "", "base/web.yaml:2:1"},
		{"Deployment", "metadata.name", "base/web.yaml:5:9"},
		{"Deployment", "metadata.namespace", "overlay/kustomization.yaml:3:12"},
		{"Deployment", "metadata.labels[team]", "overlay/kustomization.yaml:6:11"},
		{"Deployment", "metadata.annotations[note]", "overlay/kustomization.yaml:8:9"},
		{"Deployment", "spec.replicas", "overlay/kustomization.yaml:11:10"},
		{"Deployment", "spec.paused", "overlay/patch.yaml:6:11"},
		{"Deployment", "spec.minReadySeconds", "overlay/kustomization.yaml:25:53"},
		{"Deployment", "spec.revisionHistoryLimit", "overlay/kustomization.yaml:21:34"},
		{"Deployment", "spec.template.spec.containers[0].image", "overlay/kustomization.yaml:14:11"},
		{"Deployment", "spec.template.spec.containers[0].env[0].value", "overlay/patch.yaml:13:18"},
		{"Deployment", "spec.template.spec.containers[0].env[1].value", "base/web.yaml:20:18"},
		{"Deployment", "spec.template.spec.containers[1].image", "overlay/patch.yaml:15:16"},
		{"Deployment", "spec.template.metadata.annotations[from]", "overlay/kustomization.yaml:34:18"},
		{"ConfigMap", "", "base/kustomization.yaml:4:3"},
		{"ConfigMap", "metadata.name", "base/kustomization.yaml:4:9"},
		{"ConfigMap", "data[A]", "base/kustomization.yaml:5:14"},
		{"ConfigMap", "data[B]", "overlay/kustomization.yaml:29:14"},
		{"ConfigMap", "data[C]", "base/c.env:2:1"},
		{"ConfigMap", "data[app.conf]", "base/kustomization.yaml:7:11"},
	} {
		doc := documents[test.kind]
		if doc == nil {
			t.Fatalf("no %s is built", test.kind)
		}
		n, _ := yaml.Locate(doc.Node, test.field)
		if diff := cmp.Diff(test.want, fmt.Sprint(doc.Position(n))); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", test.kind, test.field, diff)
		}
	}
}
