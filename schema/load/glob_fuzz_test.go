package load

import (
	"path"
	"strings"
	"testing"

	"fairlead/schema"
)

// Globs come from Sources in Git: whatever they say, a file is a manifest by its
// name, and excluding wins.
func FuzzGlobs(f *testing.F) {
	f.Add("apps/**", "*.md", "apps/web/a.yaml", "apps")
	f.Add("**/**/**/a", "[", "a/b/c/d.json", ".")
	f.Add("", "/", ".git/a.yaml", "")
	f.Add("**", "x/**/y/", "x/1/2/y/a.cue", "x")
	f.Fuzz(func(t *testing.T, include, exclude, name, base string) {
		spec := schema.SourceSpec{Path: base, Include: []string{include}, Exclude: []string{exclude}}
		if !selectionOf(spec).wants(name) {
			return
		}
		if !schema.IsManifest(name) {
			t.Errorf("%q is read", name)
		}
		spec.Exclude = []string{exclude, "**"}
		if selectionOf(spec).covers(name) {
			t.Errorf("%q is read although everything is excluded", name)
		}
		for dir := range strings.SplitSeq(path.Dir(strings.TrimPrefix(strings.TrimPrefix(name, path.Clean(base)), "/")), "/") {
			if dir == "cue.mod" {
				t.Errorf("%q is read", name)
			}
		}
	})
}
