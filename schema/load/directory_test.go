package load

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead/schema"
)

// What Git could not hold, or would be refused there, is refused in a work tree.
func TestDirectoryAgreesWithGit(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"ok.yaml", "\xff.yaml", "z\x1b.yaml", "up.YAML", "sub/.git/HEAD", "sub/in.yaml", ".git/config", ".github/x.yaml", "git~1/x.yaml", "notes.md"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(configYAML), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe.yaml"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"link.yaml", "linked", "doc.md"} {
		if err := os.Symlink("ok.yaml", filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := Directory(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := lines(Load(context.Background(), tree, schema.SourceSpec{Include: []string{"*"}}, Options{}).Diagnostics)
	want := []string{
		`.: "\xff.yaml" is a name that is not UTF-8 (rename it, or take it out of the tree)`,
		`.: "git~1" is a name that git keeps for itself, here or on other systems (rename it, or take it out of the tree)`,
		`.: "z\x1b.yaml" is a name with characters that are not seen but change what is (rename it, or take it out of the tree)`,
		`doc.md: warning: symlinks are not followed: doc.md (where one stands for manifests, put the files themselves there; exclude the others)`,
		`link.yaml: a symlink, which is not followed (write the file itself here)`,
		`linked: a symlink, which is not followed (write the file itself here)`,
		`pipe.yaml: neither a file nor a directory, which git does not take (write a file here)`,
		`sub: a submodule, which is not fetched (copy its files here, or make its repository a source)`,
		`up.YAML: "up.YAML" is almost a manifest's name, but not read as one (name it as "up.yaml", or exclude it)`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A file keeps its name whichever way its directory is called: a leading dot is the
// file's own, and no part of the path to it.
func TestDirectoryKeepsLeadingDots(t *testing.T) {
	above := t.TempDir()
	root := filepath.Join(above, ".repo")
	want := []string{"...yaml", "..a.yaml", "..d.json", ".gitlab-ci.yml", ".v.cue", "a.yaml", "sub/.b.yml", "sub/..c.yaml", "sub/b\\c.yaml"}
	slices.Sort(want)
	for _, name := range append(want, ".github/x.yaml", "sub/.x/y.yaml", "..d/e.yaml") {
		writeFile(t, filepath.Join(root, name))
	}
	if err := os.Symlink(".repo", filepath.Join(above, "link")); err != nil {
		t.Fatal(err)
	}
	for _, from := range []struct{ at, path string }{
		{root, "."}, {root, "./"}, {root, "././"}, {root, root}, {root, root + "/"}, {root, "../.repo"}, {root, "sub/.."}, {above, ".repo"}, {above, "./.repo"}, {above, "link"}, {above, "link/"}, {filepath.Join(root, "sub"), ".."},
	} {
		t.Chdir(from.at)
		tree, err := Directory(from.path)
		if err != nil {
			t.Fatal(err)
		}
		if got := paths(tree); !slices.Equal(got, want) {
			t.Errorf("%s read as %q: %q, want %q", root, from.path, got, want)
		}
		if d := schema.Diagnostics(slices.Concat(tree.Refused, tree.Faults)); len(d) > 0 {
			t.Errorf("%s read as %q: %v", root, from.path, d)
		}
	}
	t.Chdir(root)
	if tree, err := Directory(".gitlab-ci.yml"); err != nil || !slices.Equal(paths(tree), []string{".gitlab-ci.yml"}) {
		t.Errorf("one file: %q, %v", paths(tree), err)
	}
}

func writeFile(t *testing.T, file string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(configYAML), 0o644); err != nil {
		t.Fatal(err)
	}
}

func paths(tree schema.Tree) (names []string) {
	for _, f := range tree.Files {
		names = append(names, f.Path)
	}
	return names
}

// A source may leave refusals out, and never a fault, at the root or below.
func TestFaultsCannotBeExcluded(t *testing.T) {
	for _, directory := range []string{"", "apps"} {
		tree := treeOf("ok.yaml", configYAML)
		tree.Faults = schema.Diagnostics{*schema.NameFault(directory, "\xff.yaml")}
		tree.Refused = schema.Diagnostics{*schema.NameRefusal("up.YAML"), *schema.SubmoduleRefusal("v1.2"), *schema.LinkRefusal("conf.d")}
		for _, spec := range []schema.SourceSpec{{Include: []string{"ok.yaml"}}, {Exclude: []string{"up.YAML", "v1.2", "conf.d"}}} {
			got := Load(context.Background(), tree, spec, Options{}).Diagnostics
			if len(got) != 1 || !got.HasErrors() {
				t.Errorf("in %q with %+v: %v", directory, spec, got)
			}
		}
		if got := Load(context.Background(), tree, schema.SourceSpec{}, Options{}).Diagnostics; len(got) != 4 {
			t.Errorf("in %q: %v", directory, got)
		}
	}
}

// Many symlinks that are no manifests are one warning.
func TestSymlinksAreCounted(t *testing.T) {
	tree := treeOf("ok.yaml", configYAML)
	for i := range 30 {
		tree.Refused = append(tree.Refused, *schema.LinkRefusal(fmt.Sprintf("%02d.md", i)))
	}
	got := lines(Load(context.Background(), tree, schema.SourceSpec{}, Options{}).Diagnostics)
	if len(got) != 1 || !strings.Contains(got[0], "00.md, 01.md, 02.md, 03.md, 04.md and 25 more") {
		t.Errorf("%q", got)
	}
}

// What is not wanted is not even opened.
func TestUnwantedDirectoriesAreNotRead(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "a.yaml"))
	writeFile(t, filepath.Join(dir, "apps/node_modules/x/b.yaml"))
	writeFile(t, filepath.Join(dir, "apps/web/c.yaml"))
	var asked []string
	tree, err := DirectoryOf(dir, func(below string) bool {
		asked = append(asked, below)
		return filepath.Base(below) != "node_modules"
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := paths(tree), []string{"a.yaml", "apps/web/c.yaml"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	if want := []string{"apps", "apps/node_modules", "apps/web"}; !slices.Equal(asked, want) {
		t.Errorf("asked about %q, want %q", asked, want)
	}
}
