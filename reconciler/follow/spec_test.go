package follow

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

func TestWhatChangesARepository(t *testing.T) {
	base := schema.SourceSpec{URL: "https://git.example.org/shop.git", Branch: "main", Interval: &metav1.Duration{Duration: time.Minute}}
	tests := []struct {
		what   string
		change func(*schema.SourceSpec)
		same   bool
	}{
		{"nothing", func(*schema.SourceSpec) {}, true},
		{"the path", func(s *schema.SourceSpec) { s.Path = "deploy" }, true},
		{"no credentials at all", func(s *schema.SourceSpec) { s.Auth = &schema.SourceAuth{} }, true},
		{"credentials", func(s *schema.SourceSpec) { s.Auth = &schema.SourceAuth{SecretFile: "shop"} }, false},
		{"the address", func(s *schema.SourceSpec) { s.URL += "x" }, false},
		{"the branch", func(s *schema.SourceSpec) { s.Branch = "next" }, false},
		{"the interval", func(s *schema.SourceSpec) { s.Interval = &metav1.Duration{Duration: time.Hour} }, false},
		{"where it lies", func(s *schema.SourceSpec) { s.Embedded = true }, false},
	}
	for _, test := range tests {
		next := base
		test.change(&next)
		if got := SameRepository(base, next); got != test.same {
			t.Errorf("%s changed: the same repository: got %v, want %v", test.what, got, test.same)
		}
	}
}

func TestHintsWaitByWhereTheRepositoryIs(t *testing.T) {
	for url, want := range map[string]time.Duration{
		"https://git.example.org/shop.git": remoteGap, "ssh://git@git.example.org/shop.git": remoteGap, "file:///srv/shop.git": localGap, "": localGap,
	} {
		if got := PaceOf("shop", schema.SourceSpec{URL: url, Interval: &metav1.Duration{Duration: time.Minute}}); got.Gap != want || got.Interval != time.Minute {
			t.Errorf("%q: got %+v, want a gap of %v", url, got, want)
		}
	}
}
