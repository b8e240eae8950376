package load

import (
	"context"
	"path"
	"strings"
	"testing"

	"fairlead/schema"
	"fairlead/schema/load/yaml"
)

// Whatever a file holds, decoding ends, is repeatable, and every diagnostic is
// at a line the file has.
func FuzzDecode(f *testing.F) {
	f.Add(deploymentYAML(1), false)
	f.Add(configYAML+"---\n"+configYAML+"...\n---\n", false)
	f.Add("apiVersion: v1\nkind: Secret\nmetadata: &m {name: a, <<: *m}\ndata: {a: \"###\", <<: [{b: c}]}\n", false)
	f.Add("%YAML 1.1\n---\napiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Service, spec: {ports: [{port: 1e3}]}}]\n", false)
	f.Add("apiVersion: v1\nkind: Pod\nspec: {containers: [{resources: {limits: {cpu: 1_0}}}], tolerations: null}\n", false)
	for i, bad := range readBadTrees(f) {
		if i%8 == 0 && path.Ext(bad.files[0]) != ".cue" { // as many as a short run gets through
			f.Add(bad.files[1], path.Ext(bad.files[0]) == ".json")
		}
	}
	f.Add(`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "\ud83d\ude00", "b": 1.5e3}}`, true)
	f.Fuzz(func(t *testing.T, text string, isJSON bool) {
		name := "a.yaml"
		if isJSON {
			name = "a.json"
		}
		first := Load(context.Background(), treeOf(name, text), schema.SourceSpec{}, Options{})
		second := Load(context.Background(), treeOf(name, text), schema.SourceSpec{}, Options{})
		if first.Diagnostics.Error() != second.Diagnostics.Error() {
			t.Errorf("first\n%v\nthen\n%v", first.Diagnostics, second.Diagnostics)
		}
		height := strings.Count(text, "\n") + strings.Count(text, "\r") + strings.Count(text, "\u0085") + strings.Count(text, "\u2028") + strings.Count(text, "\u2029") + 1
		for _, d := range first.Diagnostics {
			if strings.HasPrefix(d.Message, panicMessage) {
				t.Error(d)
			}
			ofTheFile := d.Severity == schema.Warning && d.Line == 0 && d.Column == 0
			if !ofTheFile && d.Line < 1 || d.Line > height || d.Column < 0 {
				t.Errorf("%s, of %d lines", d, height)
			}
			if d.Message == "" || len(d.Message)+len(d.Hint) > 2*yaml.MaxMessage+2*len("…") {
				t.Errorf("a diagnostic of %d bytes", len(d.Message)+len(d.Hint))
			}
		}
	})
}
