package schema

import "testing"

func TestShort(t *testing.T) {
	for commit, want := range map[Commit]string{"": "", "4f2a1c": "4f2a1c", "4f2a1c0d9b3e4f2a1c0d9b3e4f2a1c0d9b3e4f2a": "4f2a1c0d9b3e"} {
		if got := commit.Short(); got != want {
			t.Errorf("%q is %q for people, want %q", commit, got, want)
		}
		if got := RevisionName("shop", commit); got != "shop-"+want {
			t.Errorf("the revision of %q is named %q", commit, got)
		}
	}
}
