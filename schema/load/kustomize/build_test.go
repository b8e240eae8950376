package kustomize

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	program "sigs.k8s.io/kustomize/kustomize/v5/commands/build"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	sigsyaml "sigs.k8s.io/yaml"

	"fairlead/schema"
	"fairlead/schema/load/child"
	"fairlead/schema/load/yaml"
)

// filesIn are the files of an archive, as a request has them.
func filesIn(t *testing.T, archive string) []child.File {
	t.Helper()
	a, err := txtar.ParseFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	var out []child.File
	for _, f := range a.Files {
		out = append(out, child.File{Path: f.Name, Text: f.Data})
	}
	return out
}

func surveyOf(files []child.File) *Survey {
	return Look(context.Background(), schema.Tree{Files: newBuilder(files).files}, func(string) bool { return true })
}

// onDisk writes the files below a new directory.
func onDisk(t *testing.T, files []child.File) string {
	t.Helper()
	top := t.TempDir()
	for _, f := range files {
		name := filepath.Join(top, f.Path)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return top
}

// printed is what the kustomize program prints of a directory.
func printed(dir string) (string, error) {
	var out bytes.Buffer
	cmd := program.NewCmdBuild(filesys.MakeFsOnDisk(), program.MakeHelp("kustomize", "build"), &out)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs([]string{dir})
	err := cmd.Execute()
	return out.String(), err
}

// plain is a value as it was written out, without places.
func plain(t *testing.T, n *yaml.Node) any {
	t.Helper()
	switch n.Kind {
	case yaml.MappingNode:
		out := make(map[string]any)
		for i := 0; i < len(n.Content); i += 2 {
			out[n.Content[i].Value] = plain(t, n.Content[i+1])
		}
		return out
	case yaml.SequenceNode:
		out := []any{}
		for _, c := range n.Content {
			out = append(out, plain(t, c))
		}
		return out
	}
	var out any
	if n.Tag == "!!str" {
		return n.Value
	}
	if err := sigsyaml.Unmarshal([]byte(n.Value), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// What is built from each kustomization is what the kustomize program prints.
func TestBuildsWhatKustomizePrints(t *testing.T) {
	archives, err := filepath.Glob("testdata/build/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatal(archives, err)
	}
	count := 0
	for _, archive := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(archive), ".txtar"), func(t *testing.T) {
			files := filesIn(t, archive)
			top := onDisk(t, files)
			survey := surveyOf(files)
			for _, d := range survey.Diagnostics {
				t.Error(d)
			}
			if len(survey.Units) == 0 {
				t.Error("nothing is built")
			}
			count += len(survey.Units)
			b := newBuilder(files)
			for _, u := range survey.Units {
				want, err := printed(filepath.Join(top, u.Dir))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(objectsIn(t, want), builtIn(t, b, u.Dir)); diff != "" {
					t.Errorf("%s (-printed +built):\n%s", u.Dir, diff)
				}
			}
		})
	}
	if count < 60 {
		t.Errorf("%d kustomizations are compared, 60 are wanted", count)
	}
}

func objectsIn(t *testing.T, text string) (out []any) {
	t.Helper()
	for _, document := range strings.Split(text, "\n---\n") {
		var object any
		if err := sigsyaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		out = append(out, object)
	}
	return out
}

func builtIn(t *testing.T, b *builder, dir string) (out []any) {
	t.Helper()
	resp := b.build(dir)
	for _, d := range resp.Diagnostics {
		if d.Severity == schema.Error {
			t.Error(d)
		}
	}
	for _, encoded := range resp.Objects {
		doc, err := child.Document(encoded)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, plain(t, doc.Node))
		if at := doc.Position(doc.Node); at.Line == 0 {
			t.Errorf("%s: an object without a line: %v", dir, at)
		}
	}
	return out
}

// A line of variables without = is an empty value, whatever the environment of who builds
// it has, and a warning says so.
func TestVariablesWithoutValueAreEmpty(t *testing.T) {
	t.Setenv("HOME", "/somewhere")
	b := newBuilder([]child.File{
		{Path: "kustomization.yaml", Text: []byte("configMapGenerator: [{name: a, envs: [a.env]}]\n")},
		{Path: "a.env", Text: []byte("# comment\nA=1\n  HOME\n")},
	})
	resp := b.build(".")
	const want = "a.env:3:1: warning: this line has no =, so the variable is made with an empty value, as kustomize does (write = behind it if that is meant)"
	if len(resp.Diagnostics) != 1 || resp.Diagnostics[0].String() != want || len(resp.Objects) != 1 {
		t.Fatalf("%d objects, %v", len(resp.Objects), resp.Diagnostics)
	}
	doc, err := child.Document(resp.Objects[0])
	if err != nil {
		t.Fatal(err)
	}
	value := yaml.Child(yaml.Child(doc.Node, "data"), "HOME")
	if at := doc.Position(value); value.Value != "" || at.String() != "a.env:3:1" {
		t.Errorf("HOME is %q, at %v", value.Value, at)
	}
}
