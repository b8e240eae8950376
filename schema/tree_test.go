package schema

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"fairlead/schema/chance"
)

// What may stand in a tree, and what becomes of it.
func TestNames(t *testing.T) {
	const (
		fine    = "read"
		fault   = "a fault"
		refused = "refused"
		passed  = "no manifest"
	)
	for name, want := range map[string]string{
		"a.yaml": fine, " a.yaml": fine, "é.yml": fine, "A.yaml": fine, "👩‍🚀.json": fine, ".a.cue": fine, `"a".yaml`: fine,
		"README.md": passed, "yaml": passed, "a.yaml.bak": passed, "a.yaml~": passed, "Makefile": passed, ".gitignore": passed, ".github": passed, "git~2": passed,
		"": fault, ".": fault, "..": fault, "a/b.yaml": fault, "\xff.yaml": fault, "a\n.yaml": fault, "a\x00.yaml": fault, "a\x1b[2J": fault, "a\x7f.yaml": fault,
		"a\u202elmay.yaml": fault, "a\u2066.yaml": fault, "a\u200f.yaml": fault, "a\u2028.yaml": fault, "\ufeffa.yaml": fault, "a\u0085.yaml": fault,
		".git": fault, ".GIT": fault, ".Git": fault, "git~1": fault, "GIT~1": fault, ".git ": fault, ".git.": fault, ".git . .": fault, ".g\u200cit": fault, ".git::$INDEX_ALLOCATION": fault, `.git\x`: fault,
		"a.YAML": refused, "a.Yml": refused, "a.yaml ": refused, "a.yaml.": refused, "a.yaml\u00a0": refused, "a.yaml\u200c": refused, "a.JSON": refused, "a.CUE. ": refused,
	} {
		got := passed
		switch {
		case NameFault("d", name) != nil:
			got = fault
		case NameRefusal("d/"+name) != nil:
			got = refused
		case IsManifest(name):
			got = fine
		}
		if got != want {
			t.Errorf("%q is %s, want %s", name, got, want)
		}
	}
}

// Whatever a name is, what is said of it is one line that a terminal shows as it is.
func TestNameDiagnosticsAreText(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		name := string(rapid.SliceOfN(rapid.SampledFrom([]byte("a.git~1/\\ \x00\n\x1b\xff\xe2\x80\xae")), 0, 400).Draw(t, "name"))
		for _, d := range []*Diagnostic{NameFault("d", name), NameRefusal("d/" + name)} {
			if d == nil {
				continue
			}
			text := d.Message
			if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) || len(text) > 8*maxQuoted || d.Severity != Error || d.Path == "" {
				t.Errorf("%q: %q", name, text)
			}
		}
	})
}
