package kustomize

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/openapi"

	"fairlead/schema"
	"fairlead/schema/load/child"
	"fairlead/schema/load/yaml"
)

// builder builds units in the child.
type builder struct {
	files []schema.File
	texts map[string][]byte
}

func newBuilder(files []child.File) *builder {
	goOffline()
	b := &builder{texts: make(map[string][]byte)}
	for _, f := range files {
		b.texts[f.Path] = f.Text
		b.files = append(b.files, schema.File{Path: f.Path, Blob: &schema.Blob{
			Size: int64(len(f.Text)), Open: func() ([]byte, error) { return f.Text, nil },
		}})
	}
	slices.SortFunc(b.files, func(x, y schema.File) int { return strings.Compare(x.Path, y.Path) })
	return b
}

// prepare has the library unpack its schema of Kubernetes, which it does at the first
// strategic merge patch.
func prepare() {
	newBuilder([]child.File{
		{Path: "kustomization.yaml", Text: []byte("resources: [pod.yaml]\npatches: [{path: patch.yaml}]\nconfigMapGenerator: [{name: a, literals: [a=a]}]\n")},
		{Path: "pod.yaml", Text: []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: a}]}\n")},
		{Path: "patch.yaml", Text: []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: b}]}\n")},
	}).build(".")
}

// build builds the unit in a directory. It sees the unit's own files only, so that what
// comes out does not depend on what else is built.
func (b *builder) build(dir string) (resp child.Response) {
	resp.Directory = dir
	w := walker{Survey: &Survey{}, ctx: context.Background()}
	w.open(b.files, nil)
	root, _ := w.node(dir)
	if root == nil {
		return resp // the parent names only directories that have one
	}
	u := &built{root: root, sources: &sources{}}
	defer func() {
		if r := recover(); r != nil {
			resp.Objects = nil
			resp.Diagnostics = schema.Diagnostics{{
				Position: schema.Position{Path: root.file}, Severity: schema.Error,
				Message: "kustomize panicked: " + u.sources.withoutSecrets(fmt.Sprint(r)), Hint: "this is a bug in kustomize; writing it differently may help",
			}}
		}
	}()
	w.visit(root, nil)
	u.run(b.texts)
	resp.Objects, resp.Diagnostics, resp.Private = u.objects, u.diagnostics, u.private
	return resp
}

// built is a unit that is being built.
type built struct {
	root        *node
	sources     *sources
	objects     []json.RawMessage
	private     bool // there is a Secret among them
	diagnostics schema.Diagnostics
}

func (u *built) run(texts map[string][]byte) {
	own := make(map[string][]byte)
	for _, f := range closure(u.root) {
		own[f.Path] = texts[f.Path]
	}
	if u.diagnostics = check(u.root, own); u.diagnostics.HasErrors() {
		return
	}
	u.sources = sourcesOf(u.root)
	made, err := kustomize(own, u.root)
	if err != nil {
		u.diagnostics = append(u.diagnostics, explain(u.root, u.sources, err))
		return
	}
	for _, r := range made.Resources() {
		text, err := r.MarshalJSON()
		if err == nil {
			err = u.write(text)
		}
		if err != nil {
			u.diagnostics = append(u.diagnostics, explain(u.root, u.sources, err))
			return
		}
	}
}

// kustomize has the library build what stands in a directory, with the defaults of its
// program: no plugins, and no file outside of each kustomization's own directory.
func kustomize(texts map[string][]byte, root *node) (resmap.ResMap, error) {
	asked := false // for a schema of its own, which the library would keep for the next
	collect(root, map[*node]bool{}, func(n *node) { asked = asked || len(n.says.OpenAPI) > 0 })
	if asked {
		openapi.ResetOpenAPI()
		defer openapi.ResetOpenAPI()
	}
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionUnspecified // the program's, not the library's
	return krusty.MakeKustomizer(options).Run(newReadOnly(texts), path.Join(treeRoot, root.dir))
}

// write writes an object out as the program prints it, each value with its place.
func (u *built) write(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var object map[string]any
	if err := d.Decode(&object); err != nil {
		return fmt.Errorf("read what was built: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("read what was built: %w", err)
	}
	u.private = u.private || object["kind"] == "Secret"
	var w child.Writer
	if err := writeValue(&w, object, u.sources.of(object), 0); err != nil {
		return err
	}
	encoded, err := w.Encode()
	if err != nil {
		return fmt.Errorf("write what was built: %w", err)
	}
	u.objects = append(u.objects, encoded)
	return nil
}

// writeValue writes a value and those in it.
func writeValue(w *child.Writer, value any, at *spots, depth int) error {
	if depth > yaml.MaxDepth {
		return fmt.Errorf("what is built nests deeper than %d levels", yaml.MaxDepth)
	}
	switch v := value.(type) {
	case map[string]any:
		w.Composite(child.Object, len(v), at.place(nil))
		for _, key := range sortedKeys(v) {
			below := at.field(key, v[key])
			w.Key(key, below.key)
			if err := writeValue(w, v[key], below, depth+1); err != nil {
				return err
			}
		}
	case []any:
		w.Composite(child.List, len(v), at.place(nil))
		for i, element := range v {
			if err := writeValue(w, element, at.element(i, len(v), element), depth+1); err != nil {
				return err
			}
		}
	default:
		kind, text := scalar(v)
		w.Scalar(kind, text, at.place(&text))
	}
	return nil
}

// scalar is how a value that JSON has is written out.
func scalar(value any) (kind int, text string) {
	switch v := value.(type) {
	case string:
		return child.String, v
	case bool:
		return child.Bool, fmt.Sprint(v)
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return child.Float, v.String()
		}
		return child.Int, v.String()
	}
	return child.Null, "null"
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
