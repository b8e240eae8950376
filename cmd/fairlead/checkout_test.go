package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"fairlead/reconciler/gitsource"
	"fairlead/schema"
	"fairlead/schema/chance"
	"fairlead/schema/load"
	"fairlead/schema/objecttest"
)

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

// What a kustomization finds outside of its source's path is what a push brings, and what
// is not found is told as for a push. What Git ignores is not sent to the master either.
func TestOutsideIsTheSameInGitAndInAClone(t *testing.T) {
	for _, v := range [][2]string{{"GIT_CONFIG_GLOBAL", "/dev/null"}, {"GIT_AUTHOR_NAME", "Ada"}, {"GIT_AUTHOR_EMAIL", "a@example.org"}, {"GIT_COMMITTER_NAME", "Ada"}, {"GIT_COMMITTER_EMAIL", "a@example.org"}} {
		t.Setenv(v[0], v[1])
	}
	top := t.TempDir()
	gitIn(t, top, "init", "-q", "-b", "main")
	plain := "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}\n"
	for name, text := range map[string]string{
		".gitignore":                      "secret.env\nlocal.yaml\n/made/\n",
		"base/kustomization.yaml":         "resources: [a.yaml]\n",
		"base/a.yaml":                     plain,
		"base/local.yaml":                 plain,
		"ignored/kustomization.yaml":      "resources: [local.yaml]\n",
		"ignored/local.yaml":              plain,
		"made/kustomization.yaml":         "resources: [a.yaml]\n",
		"made/a.yaml":                     plain,
		"linked/kustomization.yaml":       "resources: [link.yaml]\n",
		"almost/kustomization.yaml":       "configMapGenerator: [{name: c, files: [a.YAML]}]\n",
		"almost/a.YAML":                   plain,
		"large/kustomization.yaml":        "configMapGenerator: [{name: c, files: [large.bin]}]\n",
		"large/large.bin":                 strings.Repeat("0", schema.MaxFileSize+1),
		"long/kustomization.yaml":         "resources: [long.yaml]\n",
		"long/long.yaml":                  plain + strings.Repeat("#", schema.MaxFileSize),
		".deploy/base/kustomization.yaml": "resources: [a.yaml]\n",
		".deploy/base/a.yaml":             plain,
		".deploy/o/kustomization.yaml":    "resources: [../base]\n",
		"o/own/kustomization.yaml":        "secretGenerator: [{name: s, envs: [secret.env]}]\n",
		"o/own/secret.env":                "PASSWORD=correct-horse-battery\n",
		"o/dot/kustomization.yaml":        "resources: [../../.deploy/base]\n",
	} {
		put(t, filepath.Join(top, name), text)
	}
	for _, name := range []string{"base", "ignored", "made", "linked", "almost", "large", "long", "sub", "way", "none"} {
		put(t, filepath.Join(top, "o", name, "kustomization.yaml"), "resources: [../../"+name+"]\n")
	}
	for from, to := range map[string]string{"linked/link.yaml": "../base/a.yaml", "way": "base"} {
		if err := os.Symlink(to, filepath.Join(top, from)); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(top, "sub/kustomization.yaml"), "resources: [a.yaml]\n")
	put(t, filepath.Join(top, "sub/a.yaml"), plain)
	gitIn(t, filepath.Join(top, "sub"), "init", "-q", "-b", "main")
	gitIn(t, filepath.Join(top, "sub"), "add", ".")
	gitIn(t, filepath.Join(top, "sub"), "commit", "-q", "-m", "all")
	gitIn(t, top, "-c", "advice.addEmbeddedRepo=false", "add", ".")
	gitIn(t, top, "commit", "-q", "-m", "all")
	repo, err := gitsource.Open(filepath.Join(top, ".git"))
	if err != nil {
		t.Fatal(err)
	}
	commit := schema.Commit(strings.TrimSpace(gitIn(t, top, "rev-parse", "HEAD")))
	for place, want := range map[string]string{
		"o/base": "base/a.yaml", "o/own": "secretGenerator[0].envs[0]: there is no such file", "o/ignored": "there is no file or directory ignored/local.yaml",
		"o/made": "there is no file or directory made", "o/linked": "linked/link.yaml is not read: a symlink", "o/almost": "almost/a.YAML is not read: ",
		"o/large": "large/large.bin", "o/long": "long/long.yaml", "o/sub": "sub is not read: a submodule", "o/way": "way is not read: a symlink",
		"o/none": "there is no file or directory none", ".deploy/o": ".deploy/base/a.yaml", "o/dot": "there is no file or directory .deploy/base",
	} {
		spec := schema.SourceSpec{Embedded: true, Path: place}
		tree, err := repo.Tree(commit, place)
		if err != nil {
			t.Fatal(err)
		}
		pushed := judged(t, tree, spec)
		if !strings.Contains(pushed, want) {
			t.Errorf("%s in Git: %q, want %q", place, pushed, want)
		}
		co, _ := checkoutAt(t.Context(), filepath.Join(top, place))
		part, err := co.whole(t.Context(), &schema.Source{Spec: spec}, filepath.Join(top, place))
		if err != nil {
			t.Fatal(err)
		}
		parts := []portion{part}
		if place == "o/base" || place == "o/ignored" {
			parts = append(parts, alone(t.Context(), filepath.Join(top, place)))
		}
		for _, part := range parts {
			tree, err := part.tree()
			if err != nil {
				t.Fatal(err)
			}
			// How long a file on disk is only reading it tells.
			if got := judged(t, tree, spec); got != pushed && place != "o/large" && place != "o/long" || !strings.Contains(got, want) {
				t.Errorf("%s in the clone: %q, in Git: %q", place, got, pushed)
			}
			for _, f := range load.Sent(t.Context(), tree) {
				if base := filepath.Base(f.Path); base == "secret.env" || base == "local.yaml" || strings.HasPrefix(f.Path, "made/") {
					t.Errorf("%s: %s is sent", place, f.Path)
				}
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
	src := objecttest.Source("main", "https://git.example.org/team/shop.git", "deploy")
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
