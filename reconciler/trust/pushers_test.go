package trust

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/schema"
)

func TestPusherTokens(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	dir := t.TempDir()
	open := func() *Authority {
		a, err := Open(dir, Config{PodCIDR: netip.MustParsePrefix("10.112.0.0/12"), Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := open()
	ada, err := a.NewPusherToken(Grant{Pusher: "ada", Source: "main", Refs: []string{"refs/heads/main"}}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	anyone, err := a.NewPusherToken(Grant{Source: "shop"}, 2*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	check := func(token string, source schema.SourceName, want string, refs ...string) {
		t.Helper()
		// Another process has made them: the master reads the file.
		g, ok, err := open().Pusher(token, source)
		if err != nil || ok != (want != "") || !strings.HasPrefix(g.Pusher, want) || !slices.Equal(g.Refs, refs) {
			t.Errorf("at %s: %+v, %v, %v, want %q", source, g, ok, err, want)
		}
	}
	check(ada, "main", "ada", "refs/heads/main")
	check(ada, "shop", "")
	check(anyone, "shop", "token:")
	check(ada[:len(ada)-1]+"x", "main", "")
	check(ada[:len(ada)-4]+"0000", "main", "")
	check("", "main", "")
	join, err := a.NewToken(JoinGrant{}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	check(join, "main", "")
	if data, err := os.ReadFile(a.path(filePushers)); err != nil || strings.Contains(string(data), strings.Split(ada, ".")[2]) {
		t.Errorf("the secret is on disk, or %v", err)
	}
	now = now.Add(time.Hour)
	check(ada, "main", "")
	check(anyone, "shop", "token:")

	for name, g := range map[string]Grant{
		"no source":    {},
		"a short ref":  {Source: "main", Refs: []string{"main"}},
		"two refs":     {Source: "main", Refs: []string{"refs/heads/a refs/heads/b"}},
		"a local name": {Source: "main", Pusher: "local:root"},
		"a long name":  {Source: "main", Pusher: strings.Repeat("x", maxPusherName+1)},
	} {
		if _, err := a.NewPusherToken(g, time.Hour); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := a.NewPusherToken(Grant{Source: "main"}, 0); err == nil {
		t.Error("a token for no time was made")
	}
}

func TestWebhookSecret(t *testing.T) {
	a, err := Open(t.TempDir(), Config{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.TempDir(), Config{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	one := a.WebhookSecret("shop")
	if len(one) != 2*webhookBytes || one != a.WebhookSecret("shop") || one == a.WebhookSecret("web") || one == b.WebhookSecret("shop") {
		t.Errorf("%s is not the source's and the cluster's own", one)
	}
}
