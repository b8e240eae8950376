package place

import (
	"strings"
	"testing"

	"fairlead/schema"
	"fairlead/schema/objecttest"
)

// A repository is the same however it is reached, and no other one is.
func TestWhichSourceARemoteIs(t *testing.T) {
	const (
		forge    = "https://git.example.org/team/shop.git"
		embedded = ""
	)
	for _, test := range []struct {
		follows, remote string
		want            bool
	}{
		{forge, "https://git.example.org/team/shop.git", true},
		{forge, "https://git.example.org/team/shop", true},
		{forge, "https://git.example.org/team/shop/", true},
		{forge, "https://GIT.example.org/Team/Shop.git", true},
		{forge, "git@git.example.org:team/shop.git", true},
		{forge, "ssh://git@git.example.org:2222/team/shop.git", true},
		{forge, "https://ci-token:secret@git.example.org/team/shop.git", true},
		{forge, "http://git.example.org/team/shop.git", true},
		{forge, "https://git.example.org/team/shop2.git", false},
		{forge, "https://git.example.org/shop.git", false},
		{forge, "https://git.example.com/team/shop.git", false},
		{forge, "/team/shop.git", false},
		{forge, "", false},
		{"/srv/git/shop.git", "/srv/git/shop.git", true},
		{"/srv/git/shop.git", "file:///srv/git/shop.git", true},
		{"/srv/git/shop.git", "/srv/git/other.git", false},
		{embedded, "/var/lib/fairlead/up/git/main.git", true},
		{embedded, "https://10.0.0.1:6443/git/main", true},
		{embedded, "https://pusher:token@cluster.example.org:6443/git/main", true},
		{embedded, "/var/lib/fairlead/up/git/team.git", false},
		{embedded, "https://git.example.org/org/main.git", false},
	} {
		if got := followsRemote(objecttest.Source("main", test.follows, "."), test.remote); got != test.want {
			t.Errorf("a source that follows %q, a clone of %q: %v", test.follows, test.remote, got)
		}
	}
}

// Of several sources with one repository the path tells which is meant.
func TestWhichOfSeveralSources(t *testing.T) {
	const url = "https://git.example.org/team/shop.git"
	sources := []*schema.Source{
		objecttest.Source("production", url, "deploy/production"), objecttest.Source("staging", url, "deploy/staging"), objecttest.Source("deep", url, "deploy/staging/deep"),
		objecttest.Source("other", "https://git.example.org/other.git", "."), objecttest.Source("twin", url, "twin"), objecttest.Source("twin2", url, "./twin/"),
	}
	for below, want := range map[string]string{
		"deploy/production": "production", "deploy/production/apps/a.yaml": "production", "deploy/staging": "staging", "deploy/staging/deep/x": "deep",
		"deploy/stagingx": "deep, production, staging, twin and twin2", "": "deep, production, staging, twin and twin2", "twin": "twin and twin2",
	} {
		src, err := (Place{Below: below, URLs: []string{url}}).SourceOf(sources)
		switch {
		case err != nil && !strings.Contains(err.Error(), "sources "+want+" follow this repository"):
			t.Errorf("%q: %v", below, err)
		case err == nil && (src == nil || src.Name != want):
			t.Errorf("%q: %v, want %s", below, src, want)
		}
	}
	if src, err := (Place{URLs: []string{"https://git.example.org/none.git"}}).SourceOf(sources); src != nil || err != nil {
		t.Errorf("a clone of nothing is of %v, %v", src, err)
	}
}
