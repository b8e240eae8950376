package schema

import "testing"

func TestShort(t *testing.T) {
	for commit, want := range map[Commit]string{"": "", "4f2a1c": "4f2a1c", "4f2a1c0d9b3e4f2a1c0d9b3e4f2a1c0d9b3e4f2a": "4f2a1c0d9b3e"} {
		if got := commit.Short(); got != want {
			t.Errorf("%q is %q for people, want %q", commit, got, want)
		}
		if got := RevisionOf("shop", commit); got != RevisionName("shop-"+want) {
			t.Errorf("the revision of %q is named %q", commit, got)
		}
	}
}

func TestCommitIn(t *testing.T) {
	for called, want := range map[string]Commit{"shop-4f2a1c0d9b3e": "4f2a1c0d9b3e", "4f2a": "4f2a", "web-4f2a1c0d9b3e": "web-4f2a1c0d9b3e", "": ""} {
		if got, named := SourceName("shop").CommitIn(called); got != want || named != (string(got) != called) {
			t.Errorf("%q is commit %q of source shop, named %v, want %q", called, got, named, want)
		}
	}
}

func TestSourceNamesFromOutside(t *testing.T) {
	for s, want := range map[string]bool{"main": true, "a-1": true, "": false, "-a": false, "a/b": false, "..": false, "A": false, "a.b": false} {
		if got, ok := ParseSourceName(s); ok != want || string(got) != s {
			t.Errorf("%q: %q, %v, want %v", s, got, ok, want)
		}
	}
}
