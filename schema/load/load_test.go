package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	k8syaml "sigs.k8s.io/yaml"

	"fairlead/schema"
	"fairlead/schema/load/yaml"
)

// treeOf makes a tree from paths and texts, alternating.
func treeOf(pairs ...string) schema.Tree {
	var tree schema.Tree
	for i := 0; i < len(pairs); i += 2 {
		tree.Files = append(tree.Files, memoryFile(pairs[i], pairs[i+1]))
	}
	return tree
}

func lines(ds schema.Diagnostics) []string {
	var out []string
	for _, d := range ds {
		out = append(out, d.String())
	}
	return out
}

const configYAML = `apiVersion: v1
kind: ConfigMap
metadata: {name: config}
data:
  level: info
`

// What Kubernetes' own strict reader makes of a document, ours makes too.
func TestDecodesAsKubernetesDoes(t *testing.T) {
	text := strings.Replace(deploymentYAML(7), "emptyDir: {}", `configMap: {name: config, defaultMode: 0440, items: [{key: level, path: x}]}
      terminationGracePeriodSeconds: 5
      tolerations: [{operator: Exists, tolerationSeconds: 3, effect: NoExecute}]
      nodeSelector: {disk: "yes"}
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In, values: [b]}]}]`, 1)
	result := Load(context.Background(), treeOf("a.yaml", text, "b.yaml", configYAML), schema.SourceSpec{}, Options{})
	if len(result.Diagnostics) > 0 {
		t.Fatal(result.Diagnostics)
	}
	want := &appsv1.Deployment{}
	if err := k8syaml.UnmarshalStrict([]byte(text), want); err != nil {
		t.Fatal(err)
	}
	want.Namespace = "default"
	schema.Default(want)
	schema.SetOrigin(want, schema.Origin{Path: "a.yaml", Line: 1})
	got := result.Objects[1].Object
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-Kubernetes +ours):\n%s", diff)
	}
}

func TestOriginAndNamespace(t *testing.T) {
	tree := treeOf("apps/a.yaml", "# first\n---\n"+configYAML)
	tree.Commit = schema.CommitObject{Hash: "abc", Author: "Ann <ann@example.com>"}
	result := Load(context.Background(), tree, schema.SourceSpec{Namespace: "shop"}, Options{Source: "main", KnownNamespaces: []string{"shop"}})
	if len(result.Diagnostics) > 0 || len(result.Objects) != 1 {
		t.Fatalf("%d objects, %v", len(result.Objects), result.Diagnostics)
	}
	got := result.Objects[0]
	want := schema.Origin{Source: "main", Path: "apps/a.yaml", Line: 3, Commit: "abc", Author: "Ann <ann@example.com>"}
	if schema.OriginOf(got.Object) != want || got.Object.GetNamespace() != "shop" || got.Position.Line != 3 {
		t.Errorf("got %+v in %s at %s", schema.OriginOf(got.Object), got.Object.GetNamespace(), got.Position)
	}
	if kind := got.Object.GetObjectKind().GroupVersionKind().Kind; kind != "ConfigMap" {
		t.Errorf("kind %q", kind)
	}
}

func TestObjectsAreSortedWhateverTheFiles(t *testing.T) {
	var forward, backward []string
	for i := range 100 {
		name, text := fmt.Sprintf("%03d.yaml", i), strings.Replace(configYAML, "config", fmt.Sprintf("c%02d", 99-i), 1)
		forward = append(forward, name, text)
		backward = append([]string{name, text}, backward...)
	}
	a := Load(context.Background(), treeOf(forward...), schema.SourceSpec{}, Options{})
	b := Load(context.Background(), treeOf(backward...), schema.SourceSpec{}, Options{})
	for i := range a.Objects {
		if a.Objects[i].Object.GetName() != fmt.Sprintf("c%02d", i) || b.Objects[i].Position != a.Objects[i].Position {
			t.Fatalf("object %d: %s and %s", i, a.Objects[i].Position, b.Objects[i].Position)
		}
	}
}

func TestLocate(t *testing.T) {
	text := "# comment\n" + strings.Replace(configYAML, "config", "other", 1) + "---\n" + deploymentYAML(7)
	list := `{"apiVersion": "v1", "kind": "List", "items": [
  {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
   "stringData": {"a.b": "x"}}]}`
	result := Load(context.Background(), treeOf("a.yaml", text, "l.json", list), schema.SourceSpec{}, Options{})
	if len(result.Diagnostics) > 0 || len(result.Objects) != 3 {
		t.Fatalf("%d objects, %v", len(result.Objects), result.Diagnostics)
	}
	tests := []struct {
		object      int
		field, want string
	}{
		{0, "data[level]", "a.yaml:6:10"},
		{1, "", "a.yaml:8:1"},
		{1, "spec.replicas", "a.yaml:16:13"},
		{1, "spec.template.spec.containers[0].image", "a.yaml:28:18"},
		{1, "spec.template.spec.containers[name=app].image", "a.yaml:28:18"},
		{1, "spec.template.spec.containers[name=app].env[name=POD_NAME].valueFrom", "a.yaml:34:15"},
		{1, "spec.template.spec.containers[0].ports[0].hostPort", "a.yaml:38:15"},
		{1, "metadata.labels[app.kubernetes.io/name]", "a.yaml:13:29"},
		{1, "spec.strategy.rollingUpdate", "a.yaml:15:1"},
		{2, "data[a.b]", "l.json:3:26"},
		{2, "metadata.namespace", "l.json:2:42"},
	}
	for _, test := range tests {
		if got := result.Objects[test.object].Locate(test.field).String(); got != test.want {
			t.Errorf("%s: got %s, want %s", test.field, got, test.want)
		}
	}
}

func TestLocateAfterTheFileChanged(t *testing.T) {
	file := memoryFile("a.yaml", configYAML)
	result := Load(context.Background(), schema.Tree{Files: []schema.File{file}}, schema.SourceSpec{}, Options{})
	s := &source{file: schema.File{Path: "a.yaml", Blob: &schema.Blob{Open: func() ([]byte, error) { return nil, errors.New("gone") }}}}
	at := result.Objects[0].Position
	if got := yaml.Locator(func() *yaml.Document { return s.again(0, 0) }, at, "")("data"); got != at {
		t.Errorf("got %s, want %s", got, at)
	}
}

func TestSourcePathAndGlobs(t *testing.T) {
	bad := "nonsense"
	tree := treeOf(
		"deploy/.hidden/x.yaml", bad, "deploy/a.yaml", configYAML, "deploy/charts/values.yaml", bad, "deploy/cue.mod/x.yaml", bad,
		"deploy/deep/er/skip.json", bad, "deploy/readme.txt", bad)
	spec := schema.SourceSpec{Path: "deploy", Exclude: []string{"charts", "skip.*"}}
	result := Load(context.Background(), tree, spec, Options{})
	if result.Files != 1 || len(result.Diagnostics) > 0 {
		t.Errorf("%d files, %v", result.Files, result.Diagnostics)
	}
}

func TestGlobs(t *testing.T) {
	tests := []struct {
		glob, path string
		want       bool
	}{
		{"*.yaml", "a.yaml", true},
		{"*.yaml", "x/y/a.yaml", true},
		{"x", "x/y/a.yaml", true},
		{"x/", "x/y/a.yaml", true},
		{"y", "x/y/a.yaml", true},
		{"/y", "x/y/a.yaml", false},
		{"/a.yaml", "a.yaml", true},
		{"x/*.yaml", "x/a.yaml", true},
		{"x/*.yaml", "x/y/a.yaml", false},
		{"x/**", "x/y/a.yaml", true},
		{"x/**/*.yaml", "x/a.yaml", true},
		{"x/**/*.yaml", "x/y/z/a.yaml", true},
		{"**/test/*", "a/b/test/c.yaml", true},
		{"**/test/*", "test/c.yaml", true},
		{"*/test", "a/b/test/c.yaml", false},
		{"v[0-9].yaml", "v1.yaml", true},
	}
	for _, test := range tests {
		if got := matchAny(splitGlobs([]string{test.glob}), strings.Split(test.path, "/")); got != test.want {
			t.Errorf("%s on %s: got %t", test.glob, test.path, got)
		}
	}
}

func TestBounds(t *testing.T) {
	large := schema.File{Path: "large.yaml", Blob: &schema.Blob{Size: schema.MaxFileSize + 1}}
	liar := schema.File{Path: "liar.yaml", Blob: &schema.Blob{Size: 1, Open: func() ([]byte, error) { return make([]byte, schema.MaxFileSize+1), nil }}}
	broken := schema.File{Path: "broken.yaml", Blob: &schema.Blob{Open: func() ([]byte, error) { return nil, errors.New("no such object") }}}
	empty := append([]byte("---"), strings.Repeat(" ", schema.MaxFileSize-3)...) // there is nothing to parse
	unmeasured := schema.File{Blob: &schema.Blob{Size: schema.UnknownSize, Open: func() ([]byte, error) { return empty, nil }}}
	numbered := func(n int, f schema.File) (tree schema.Tree) {
		for i := range n {
			f.Path = fmt.Sprintf("%d.yaml", i)
			tree.Files = append(tree.Files, f)
		}
		return tree
	}
	tests := []struct {
		name string
		tree schema.Tree
		want string
	}{
		{"large", schema.Tree{Files: []schema.File{large}}, `large.yaml: 3145729 bytes, at most 3145728 are read (to leave it out, add "large.yaml" to exclude in the Source)`},
		{"larger than told", schema.Tree{Files: []schema.File{liar}}, `liar.yaml: more than the 3145728 bytes that are read (to leave it out, add "liar.yaml" to exclude in the Source)`},
		{"unreadable", schema.Tree{Files: []schema.File{broken}}, "broken.yaml: cannot be read: no such object"},
		{"deep YAML", treeOf("a.yaml", strings.Repeat("[", 102)+strings.Repeat("]", 102)), "a.yaml:1:102: nested deeper than 100 levels"},
		{"deep JSON", treeOf("a.json", strings.Repeat("[", 102)+strings.Repeat("]", 102)), "a.json:1:102: not JSON: nested deeper than 100 levels"},
		{"many", numbered(schema.MaxFiles+1, schema.File{Blob: &schema.Blob{}}), ": the tree has 50001 manifests, at most 50000 are read"},
		{"all too large", numbered(schema.MaxTreeBytes/schema.MaxFileSize+1, unmeasured), ": the tree's manifests have more than the 268435456 bytes that are read"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			result := Load(context.Background(), test.tree, schema.SourceSpec{}, Options{})
			if diff := cmp.Diff([]string{test.want}, lines(result.Diagnostics)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAStoppedLoadIsAnError(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	result := Load(ctx, treeOf("a.yaml", configYAML), schema.SourceSpec{}, Options{})
	if !result.Diagnostics.HasErrors() {
		t.Errorf("%d objects and no error", len(result.Objects))
	}
}

func TestOtherSources(t *testing.T) {
	pod := `apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop}
spec:
  containers:
    - name: a
      image: localhost/a:v1
      envFrom: [{configMapRef: {name: theirs}}]
      env: [{name: A, valueFrom: {configMapKeyRef: {name: theirs, key: levle}}}]
`
	source := "apiVersion: fairlead/v1\nkind: Source\nmetadata: {name: main}\nspec: {embedded: true}\n"
	theirs := &corev1.ConfigMap{Data: map[string]string{"level": "info"}}
	known := func(key schema.Key) schema.Object {
		if key == (schema.Key{Kind: schema.KindConfigMap, Namespace: "shop", Name: "theirs"}) {
			return theirs
		}
		return nil
	}
	result := Load(context.Background(), treeOf("a.yaml", pod, "s.yaml", source), schema.SourceSpec{}, Options{Source: "main", KnownNamespaces: []string{"shop"}, Known: known})
	want := []string{
		`a.yaml:9:72: spec.containers[0].env[0].valueFrom.configMapKeyRef.key: ConfigMap shop/theirs has no key "levle" (did you mean "level"?)`,
		`s.yaml:3:18: metadata.name: this tree comes from the source "main" and cannot change it (change it where it is configured)`,
	}
	if diff := cmp.Diff(want, lines(result.Diagnostics)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A namespace that nobody declares may yet come from another source, unless it looks like
// a mistyped one that is there.
func TestAMistypedNamespaceWaitsForNobody(t *testing.T) {
	for name, elsewhere := range map[string]bool{"monitoring": true, "shp": false, "defualt": false} {
		text := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: " + name + "}\n"
		got := Load(t.Context(), treeOf("a.yaml", text), schema.SourceSpec{}, Options{Source: "main", KnownNamespaces: []string{"shop"}}).Diagnostics
		if len(got) != 1 || got[0].Elsewhere != elsewhere || got.WaitForOthers() != elsewhere || strings.Contains(got[0].Hint, "did you mean") == elsewhere {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"b/a.yaml": configYAML, ".git/x.yaml": "x", "a.yaml": configYAML} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a.yaml", filepath.Join(dir, "link.yaml")); err != nil {
		t.Fatal(err)
	}
	tree, err := Directory(dir)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, f := range tree.Files {
		paths = append(paths, f.Path)
	}
	if diff := cmp.Diff([]string{"a.yaml", "b/a.yaml"}, paths); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if len(tree.Refused) != 1 || tree.Refused[0].Path != "link.yaml" {
		t.Errorf("refused: %v", tree.Refused)
	}
	if _, err := Directory(filepath.Join(dir, "nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// What only has a restricting word in its name is left out like other foreign kinds.
func TestHarmlessForeignKindsAreLeftOut(t *testing.T) {
	for kind, want := range map[[2]string]schema.Severity{
		{"keda.sh/v1alpha1", "TriggerAuthentication"}: schema.Warning, {"keda.sh/v1alpha1", "ClusterTriggerAuthentication"}: schema.Warning,
		{"image.toolkit.fluxcd.io/v1", "ImagePolicy"}: schema.Warning, {"security.istio.io/v1", "AuthorizationPolicy"}: schema.Error, {"kyverno.io/v1", "ImagePolicy"}: schema.Error,
	} {
		if _, got := judgeKind(kind[0], kind[1], "warn"); got.severity != want {
			t.Errorf("%v: %+v", kind, got)
		}
	}
}

// That a service finds no pod or port is not told where the pod may be what was refused.
func TestServicesAreNotJudgedByPartOfATree(t *testing.T) {
	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}\n"
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {app: web}}\nspec: {containers: [{name: web, image: localhost/web:v1"
	for other, want := range map[string]int{
		"":                     1,
		pod + "}]}\n":          1,
		"{":                    1,
		pod + ", imag: x}]}\n": 1,
		pod + ", ports: [{name: http, containerPort: 80}]}]}\n": 0,
	} {
		got := Load(t.Context(), treeOf("a.yaml", other, "b.yaml", service), schema.SourceSpec{}, Options{}).Diagnostics
		refused := strings.Contains(other, "imag:") || other == "{"
		if len(got) != want || refused != got.HasErrors() {
			t.Errorf("%q: %v", other, got)
		}
	}
}
