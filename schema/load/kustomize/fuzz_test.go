package kustomize

import (
	"strings"
	"testing"
)

// Kustomizations come from Git and are surveyed in the master, outside of the child:
// whatever they say, a survey names only files of the tree, and what is wrong has a place.
func FuzzSurvey(f *testing.F) {
	f.Add("resources: [../base, c.yaml]\npatches: [{path: p.yaml}]\n", "resources: [c.yaml]\nconfigMapGenerator: [{name: a, envs: [c.env]}]\n")
	f.Add("kind: Component\ncomponents: [../base]\n", "resources: [&a ../over]\nbases: [*a]\n")
	f.Add("replacements: [{path: p.yaml}]\nimages: [{name: x, newTag: y}]\n", "secretGenerator: [{files: [k=c.yaml]}]\nopenapi: {path: c.yaml}\n")
	f.Add("helmCharts: [{name: x}]\nresources: [https://example.org/x]\n", "a: 1\n---\nb: 2\n")
	f.Fuzz(func(t *testing.T, over, base string) {
		files := pairs("over/kustomization.yaml", over, "over/p.yaml", object, "over/c.yaml", object, "base/kustomization.yaml", base, "base/c.yaml", object, "base/c.env", "A=1\nB\n")
		has := map[string]bool{}
		for _, file := range files {
			has[file.Path] = true
		}
		s := surveyOf(files)
		for _, u := range s.Units {
			for _, file := range u.Files {
				if !has[file.Path] {
					t.Errorf("unit %s reads %q", u.Dir, file.Path)
				}
			}
		}
		for _, d := range s.Diagnostics {
			if d.Path == "" || strings.HasPrefix(d.Path, "..") || d.Message == "" {
				t.Errorf("%q, at %q", d.Message, d.Path)
			}
		}
	})
}
