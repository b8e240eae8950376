package schema_test

import (
	"strings"
	"testing"

	"fairlead/schema"
)

func TestParseRemote(t *testing.T) {
	for _, c := range []struct{ url, want, refused string }{
		{url: "/srv/git/shop.git", want: "/srv/git/shop.git"},
		{url: "/srv/git/../git/shop.git/", want: "/srv/git/shop.git"},
		{url: "file:///srv/git/shop.git", want: "/srv/git/shop.git"},
		{url: "https://Git.Example.org/team/shop", want: "https://git.example.org/team/shop"},
		{url: "https://git.example.org:8443/shop.git", want: "https://git.example.org:8443/shop.git"},
		{url: "ssh://git@git.example.org:2222/team/shop.git", want: "ssh://git@git.example.org:2222/team/shop.git"},
		{url: "git@git.example.org:team/shop.git", want: "git@git.example.org:team/shop.git"},
		{url: "http://git.example.org/shop", refused: `scheme "http"`},
		{url: "git://git.example.org/shop", refused: `scheme "git"`},
		{url: "ext::sh -c id", refused: "spaces"},
		{url: "ext::sh", refused: `scheme "ext"`},
		{url: "file://host/srv/shop", refused: "absolute path"},
		{url: "shop.git", refused: `scheme ""`},
		{url: "-oProxyCommand=id@host:x", refused: "is not a URL"},
		{url: "git@-host:x", refused: "is not a URL"},
		{url: "git@host:-x", refused: "is not a URL"},
		{url: "ssh://-oProxyCommand=id/x", refused: "names no host"},
		{url: "https:///shop", refused: "names no host"},
		{url: "https://ada:secret@git.example.org/shop", refused: "credentials"},
		{url: "https://ada@git.example.org/shop", refused: "credentials"},
		{url: "ssh://ada:secret@git.example.org/shop", refused: "credentials"},
		{url: "https://git.example.org/shop?token=x", refused: "query"},
	} {
		r, err := schema.ParseRemote(c.url)
		switch {
		case c.refused == "" && (err != nil || r.String() != c.want):
			t.Errorf("%s = %s, %v, want %s", c.url, r, err, c.want)
		case c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)):
			t.Errorf("%s: %v, want %q", c.url, err, c.refused)
		}
	}
}

func TestRemoteBelow(t *testing.T) {
	parse := func(text string) schema.Remote {
		r, err := schema.ParseRemote(text)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, c := range []struct {
		url, base string
		want      bool
	}{
		{"https://git.example.org/team/shop", "https://git.example.org/team/", true},
		{"https://git.example.org/team/shop", "https://git.example.org", true},
		{"https://git.example.org/team/shop", "https://GIT.example.org/team/shop", true},
		{"https://git.example.org/teammates/shop", "https://git.example.org/team", false},
		{"https://git.example.org/team/../other", "https://git.example.org/team", false},
		{"https://git.example.org:8443/team/shop", "https://git.example.org/team", false},
		{"https://evil.example.org/team/shop", "https://git.example.org/team", false},
		{"git@git.example.org:team/shop", "ssh://git.example.org/team", true},
		{"git@git.example.org:team/shop", "https://git.example.org/team", false},
	} {
		if got := parse(c.url).Below(parse(c.base)); got != c.want {
			t.Errorf("%s below %s = %v", c.url, c.base, got)
		}
	}
}
