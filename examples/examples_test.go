// Package examples holds the example repositories to what they promise.
package examples

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"

	"fairlead/schema"
	"fairlead/schema/load"
)

// TestMain lets the test binary be the child that evaluates CUE.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == load.ChildSubcommand {
		if err := load.RunChild(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// repository is an example as it would stand at a path of a Git repository.
func repository(t *testing.T, example, at string) schema.Tree {
	t.Helper()
	tree, err := load.Directory(example)
	if err != nil {
		t.Fatal(err)
	}
	for i := range tree.Files {
		tree.Files[i].Path = path.Join(at, tree.Files[i].Path)
	}
	return tree
}

// objects loads an example that is to have no diagnostics, not even a warning.
func objects(t *testing.T, tree schema.Tree, spec schema.SourceSpec) map[schema.Key]*schema.Desired {
	t.Helper()
	result := load.Load(context.Background(), tree, spec, load.Options{Source: "main"})
	for _, d := range result.Diagnostics {
		t.Error(d)
	}
	out := make(map[schema.Key]*schema.Desired)
	for _, d := range result.Objects {
		out[schema.KeyOf(d.Object)] = d
	}
	return out
}

func TestShopIsTheSameInYAMLAndCUE(t *testing.T) {
	yaml := objects(t, repository(t, "shop", "."), schema.SourceSpec{})
	cue := objects(t, repository(t, "shop-cue", "."), schema.SourceSpec{})
	if len(yaml) == 0 || len(yaml) != len(cue) {
		t.Fatalf("%d objects in YAML, %d in CUE", len(yaml), len(cue))
	}
	for key, want := range yaml {
		got, ok := cue[key]
		if !ok {
			t.Errorf("%v is not in CUE", key)
			continue
		}
		for _, change := range schema.Diff(want.Object, got.Object) {
			t.Errorf("%v %s: %q in YAML, %q in CUE", key, change.Path, change.From, change.To)
		}
	}
}

func TestShopBelowAPath(t *testing.T) {
	for example, include := range map[string]string{"shop": "/*.yaml", "shop-cue": "/*.cue"} {
		at := path.Join("deploy", example)
		spec := schema.SourceSpec{Path: at, Include: []string{include}, Exclude: []string{"/images"}}
		all := objects(t, repository(t, example, at), spec)
		if len(all) == 0 {
			t.Errorf("%s: nothing loaded", example)
		}
		for key, d := range all {
			origin := schema.OriginOf(d.Object)
			if origin.Path != d.Position.Path || origin.Line != d.Position.Line || path.Dir(origin.Path) != at || origin.Line == 0 {
				t.Errorf("%v: %v, origin %+v", key, d.Position, origin)
			}
			if name := d.Locate("metadata.name"); path.Dir(name.Path) != at || name.Line == 0 {
				t.Errorf("%v: the name is at %v", key, name)
			}
		}
	}
}

// The values of the CUE shop are found where a person would change them.
func TestShopPositionsInCUE(t *testing.T) {
	all := objects(t, repository(t, "shop-cue", "."), schema.SourceSpec{})
	for _, test := range []struct {
		kind  schema.Kind
		name  string
		field string
		want  string // text that the place begins with
	}{
		{schema.KindDeployment, "api", "", "api: #app"},
		{schema.KindService, "web", "", "web: #app"},
		{schema.KindDeployment, "api", "spec.replicas", "3"},
		{schema.KindDeployment, "store", "spec.replicas", "int | *1"},
		{schema.KindDeployment, "api", "spec.template.spec.containers[0].resources.limits[cpu]", `"500m"`},
		{schema.KindDeployment, "web", "spec.template.spec.containers[0].image", `"localhost/shop-`},
		{schema.KindService, "web", "spec.ports[0].nodePort", "30080"},
		{schema.KindConfigMap, "shop", "data[greeting]", `"Welcome`},
	} {
		key := schema.Key{Kind: test.kind, Namespace: "shop", Name: test.name}
		d, ok := all[key]
		if !ok {
			t.Errorf("no %v", key)
			continue
		}
		at := d.Position
		if test.field != "" {
			at = d.Locate(test.field)
		}
		text, err := os.ReadFile(path.Join("shop-cue", at.Path))
		if err != nil {
			t.Fatal(err)
		}
		line := strings.Split(string(text), "\n")[at.Line-1]
		if !strings.HasPrefix(line[at.Column-1:], test.want) {
			t.Errorf("%v %s is at %v, %q", key, test.field, at, line[at.Column-1:])
		}
	}
}

// The Job and the CronJob of the example load without a word.
func TestJobsLoad(t *testing.T) {
	got := objects(t, repository(t, "jobs", "."), schema.SourceSpec{})
	for _, name := range []string{"Job default/migrate", "CronJob default/report"} {
		found := false
		for key := range got {
			found = found || key.String() == name
		}
		if !found {
			t.Errorf("no %s in %v", name, got)
		}
	}
}
