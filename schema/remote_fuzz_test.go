package schema

import (
	"strings"
	"testing"
)

// What is read of a repository's address is what git is given, and git takes
// none of it for an option, a transport of another kind or a password.
func FuzzParseRemote(f *testing.F) {
	for _, seed := range []string{
		"/srv/git/a.git", "file:///srv//git/../a.git", "https://git.example.com:8443/team/a.git", "ssh://git@git.example.com/~/a.git",
		"git@git.example.com:team/a.git", "-oProxyCommand=x@host:a", "ssh://-oProxyCommand=x/a", "https://u:p@host/a", "ext::sh -c x", "https://host/%2e%2e/%00", "a@b:-c", "ssh://host/a?b#c", "https://[::1]:1/a",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRemote(text)
		if err != nil {
			if err.Error() == "" {
				t.Error("refused without a word")
			}
			return
		}
		written := r.String()
		if strings.HasPrefix(written, "-") || strings.ContainsAny(written, " \t\r\n\x00") {
			t.Errorf("%q is given to git as %q", text, written)
		}
		again, err := ParseRemote(written)
		if err != nil || again != r {
			t.Errorf("%q is %+v, written %q, which is %+v, %v", text, r, written, again, err)
		}
		if !r.Below(r) {
			t.Errorf("%+v is not below itself", r)
		}
	})
}
