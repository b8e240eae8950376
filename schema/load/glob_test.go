package load

import (
	"path"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"fairlead/schema"
	"fairlead/schema/chance"
)

// A glob means one thing, said here another way: what a source's path is, and how a
// glob is written, changes nothing of which files it names.
func TestGlobsNameTheSameFilesEverywhere(t *testing.T) {
	part := rapid.SampledFrom([]string{".gitlab-ci.yml", "a", "a.yaml", "ab.yaml", "..x", "b", "[v].yaml"})
	pattern := rapid.SampledFrom([]string{".gitlab-ci.yml", "a", "a*", "*.yaml", "**", "?.yaml", "..x", "b", ".*", `\[v].yaml`})
	chance.Check(t, func(t *rapid.T) {
		base := rapid.SampledFrom([]string{".", "", "./", "a", "a/", "./a/b", ".hidden", "ab"}).Draw(t, "base")
		file := rapid.SliceOfN(part, 1, 4).Draw(t, "file")
		glob := rapid.SliceOfN(pattern, 1, 4).Draw(t, "glob")
		lead := rapid.SampledFrom([]string{"", "/", "./"}).Draw(t, "lead")
		tail := rapid.SampledFrom([]string{"", "/"}).Draw(t, "tail")
		written := lead + strings.Join(glob, "/") + tail
		if lead == "" && len(glob) == 1 {
			glob = append([]string{"**"}, glob...)
		}
		want := names(glob, file)
		for _, s := range []selection{
			selectionOf(schema.SourceSpec{Path: base, Include: []string{written}}),
			selectionOf(schema.SourceSpec{Path: base, Exclude: []string{"nothing", written}}),
		} {
			inDot := slices.ContainsFunc(file[:len(file)-1], func(dir string) bool { return strings.HasPrefix(dir, ".") })
			asked := want == (len(s.include) > 0) && !inDot
			if got := s.covers(path.Join(path.Clean(base), strings.Join(file, "/"))); got != asked {
				t.Fatalf("glob %q, path %q, include %v: %q is read: %v", written, base, s.include != nil, file, got)
			}
		}
	})
}

// names reports whether a glob names a file or a directory above it.
func names(glob, file []string) bool {
	switch {
	case len(glob) == 0:
		return true
	case glob[0] == "**":
		// As the last part it stands for whatever is there, for nothing at the root.
		for n := range len(file) + 1 {
			if len(glob) > 1 && names(glob[1:], file[n:]) {
				return true
			}
		}
		return len(glob) == 1
	case len(file) == 0:
		return false
	}
	ok, err := path.Match(glob[0], file[0])
	return ok && err == nil && names(glob[1:], file[1:])
}

// The hint to a file that is no manifest names a glob that leaves it out, in a source
// that reads a directory too.
func TestHintToExcludeWorks(t *testing.T) {
	for _, base := range []string{".", "deploy", ".deploy"} {
		for _, name := range []string{".gitlab-ci.yml", "values.yaml", "charts/values.yaml", "a[1]*?.yaml", `a\b.yaml`} {
			tree := treeOf(path.Join(base, name), "metadata: {}\n")
			got := Load(t.Context(), tree, schema.SourceSpec{Path: base}, Options{}).Diagnostics
			if len(got) != 1 {
				t.Fatalf("%s in %s: %v", name, base, got)
			}
			quoted := strings.SplitAfterN(got[0].Hint, `"`, 2)[1]
			glob := strings.ReplaceAll(quoted[:strings.LastIndex(quoted, `"`)], `\\`, `\`)
			if got := Load(t.Context(), tree, schema.SourceSpec{Path: base, Exclude: []string{glob}}, Options{}).Diagnostics; len(got) > 0 {
				t.Errorf("%s in %s, excluding %q: %v", name, base, glob, got)
			}
		}
	}
}

// A path is cut off as a directory, not as a beginning of names.
func TestPathIsADirectory(t *testing.T) {
	s := selectionOf(schema.SourceSpec{Path: "app", Exclude: []string{"le.yaml", "le/x.yaml", ".yaml"}})
	for _, name := range []string{"apple.yaml", "apple/x.yaml", "app.yaml", "app/apple.yaml"} {
		if !s.covers(name) {
			t.Errorf("%s is left out", name)
		}
	}
}
