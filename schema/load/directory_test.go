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
