package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"fairlead/reconciler/gitsource"
	"fairlead/schema"
	"fairlead/schema/chance"
	"fairlead/schema/load"
)

func sourceAt(name, url, path string) *schema.Source {
	src := &schema.Source{Spec: schema.DefaultSourceSpec(schema.SourceSpec{URL: url, Embedded: url == "", Path: path})}
	src.Name = name
	return src
}

// What is told is what was asked about, called as it was called.
func TestToldPathsAreFromWhereOneStands(t *testing.T) {
	all := schema.Diagnostics{{Message: "tree"}}
	for _, p := range []string{"deploy", "deploy/a.yaml", "deploy/apps/b.yaml", "deploy/apps", "deploy/apps2/c.yaml"} {
		all = append(all, schema.Diagnostic{Position: schema.Position{Path: p}})
	}
	for _, test := range []struct {
		asked, at string
		want      []string
	}{
		{".", "", []string{".", "deploy", "deploy/a.yaml", "deploy/apps/b.yaml", "deploy/apps", "deploy/apps2/c.yaml"}},
		{"deploy", "deploy", []string{".", "deploy", "deploy/a.yaml", "deploy/apps/b.yaml", "deploy/apps", "deploy/apps2/c.yaml"}},
		{".", "deploy", []string{"..", ".", "a.yaml", "apps/b.yaml", "apps", "apps2/c.yaml"}},
		{".", "deploy/apps", []string{"../..", "..", "b.yaml", "."}},
		{"../apps", "deploy/apps", []string{"../..", "..", "../apps/b.yaml", "../apps"}},
	} {
		var got []string
		for _, d := range (portion{asked: test.asked, at: test.at}).told(all) {
			got = append(got, d.Path)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("asked for %s, which is %q: %q, want %q", test.asked, test.at, got, test.want)
		}
	}
}

// A file is in or out, and has one name, whether Git is read, as for a push, or a work
// tree from wherever one stands in it, as for validate, plan and diff.
func TestExclusionIsTheSameInGitAndInAClone(t *testing.T) {
	for _, v := range [][2]string{{"GIT_CONFIG_GLOBAL", "/dev/null"}, {"GIT_AUTHOR_NAME", "Ada"}, {"GIT_AUTHOR_EMAIL", "a@example.org"}, {"GIT_COMMITTER_NAME", "Ada"}, {"GIT_COMMITTER_EMAIL", "a@example.org"}} {
		t.Setenv(v[0], v[1])
	}
	top := t.TempDir()
	gitIn(t, top, "init", "-q", "-b", "main")
	for _, dir := range []string{"", "deploy/", "deploy/apps/", "deploy/.hidden/", "deployed/", ".deploy/"} {
		for _, name := range []string{".gitlab-ci.yml", "..x.yaml", "values.yaml", "a.yaml", "deploy.yaml", "app[1].yaml"} {
			put(t, filepath.Join(top, dir, name), "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}\n")
		}
	}
	gitIn(t, top, "add", ".")
	gitIn(t, top, "commit", "-q", "-m", "all")
	repo, err := gitsource.Open(filepath.Join(top, ".git"))
	if err != nil {
		t.Fatal(err)
	}
	commit := schema.Commit(strings.TrimSpace(gitIn(t, top, "rev-parse", "HEAD")))
	globs := []string{".gitlab-ci.yml", "/.gitlab-ci.yml", "./.gitlab-ci.yml", "apps/", "/apps/**", "**/values.yaml", "deploy/*.yaml", "*.yaml", `app\[1].yaml`, "..*", "**"}
	random := chance.Rand()
	for range 40 {
		spec := schema.SourceSpec{Embedded: true, Path: []string{".", "deploy", "./deploy/", "deploy/apps", ".deploy"}[random.IntN(5)]}
		for range 1 + random.IntN(2) {
			spec.Exclude = append(spec.Exclude, globs[random.IntN(len(globs))])
		}
		if random.IntN(3) == 0 {
			spec.Include = []string{globs[random.IntN(len(globs))]}
		}
		src := &schema.Source{Spec: spec}
		tree, err := repo.Tree(commit, spec.Path)
		if err != nil {
			t.Fatal(err)
		}
		want := judged(t, tree, spec)
		for _, place := range []string{".", "deploy", "deploy/apps", ".deploy", "deploy/a.yaml"} {
			name := filepath.Join(top, place)
			co, ok := checkoutAt(t.Context(), name)
			if !ok {
				t.Fatalf("%s is in no clone", name)
			}
			part, err := co.whole(t.Context(), src, name)
			if err != nil {
				continue // outside of what the source reads
			}
			tree, err := part.tree()
			if err != nil {
				t.Fatal(err)
			}
			if got := judged(t, tree, spec); got != want {
				t.Errorf("path %q, include %q, exclude %q, asked at %s:\n%s\nin Git:\n%s", spec.Path, spec.Include, spec.Exclude, place, got, want)
			}
		}
	}
}

// What Git ignores no push brings, and a place below which nothing is read is empty.
// One file that is in no clone stands where the source reads.
func TestWhatIsReadOfAClone(t *testing.T) {
	t.Setenv("GIT_CONFIG_GLOBAL", "/dev/null")
	top := t.TempDir()
	gitIn(t, top, "init", "-q", "-b", "main")
	put(t, filepath.Join(top, ".gitignore"), "node_modules/\n")
	for _, name := range []string{"deploy/a.yaml", "deploy/node_modules/b.yaml", "deploy/charts/c.yaml", "deploy/ä [1].yaml"} {
		put(t, filepath.Join(top, name), "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}\n")
	}
	gitIn(t, top, "add", "deploy/a.yaml")
	src := sourceAt("main", "https://git.example.org/team/shop.git", "deploy")
	src.Spec.Exclude = []string{"charts/"}
	for place, want := range map[string]int{".": 2, "deploy": 2, "deploy/a.yaml": 1, "deploy/charts": 0, "deploy/node_modules": 0} {
		name := filepath.Join(top, place)
		co, _ := checkoutAt(t.Context(), name)
		part, err := co.whole(t.Context(), src, name)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := part.tree()
		if err != nil {
			t.Fatal(err)
		}
		if got := part.reads(tree, src.Spec); got != want || len(tree.Files) != 3 {
			t.Errorf("%s: %d files are read of %d, want %d of 3", place, got, len(tree.Files), want)
		}
	}
	alone := filepath.Join(t.TempDir(), "one.yaml")
	put(t, alone, "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}\n")
	part := elsewhere(t.Context(), src, alone)
	told := part.told(schema.Diagnostics{{Position: schema.Position{Path: "deploy/one.yaml", Line: 1}}})
	if len(told) != 1 || told[0].Path != alone {
		t.Errorf("told of %s: %v", alone, told)
	}
}

// judged is what a tree comes to: each object's place, and the diagnostics.
func judged(t *testing.T, tree schema.Tree, spec schema.SourceSpec) string {
	t.Helper()
	result := load.Load(t.Context(), tree, spec, load.Options{})
	var b strings.Builder
	for _, d := range result.Diagnostics {
		fmt.Fprintln(&b, d)
	}
	for _, o := range result.Objects {
		fmt.Fprintln(&b, o.Position)
	}
	return b.String()
}
