package schema

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"

	"fairlead/schema/chance"
)

// What is simple is right by the rules that are not asked then.
func TestSimpleIsRight(t *testing.T) {
	part := rapid.SampledFrom([]string{"a", "b1", "a-b", "a--b", "-", "A", "1", "0a", "_", "docker.io", "index.docker.io", "localhost", "library", strings.Repeat("n", 62), strings.Repeat("abc.", 60)})
	separator := rapid.SampledFrom([]string{"", ".", "/", "/", ":", ":", "-", "@", "=", " "})
	chance.Check(t, func(t *rapid.T) {
		text := part.Draw(t, "part")
		for range rapid.IntRange(0, 5).Draw(t, "parts") {
			text += separator.Draw(t, "separator") + part.Draw(t, "part")
		}
		if isSimpleKey(text) {
			right(t, text, validation.IsQualifiedName)
		}
		if isSimpleDomain(text) {
			right(t, text, validation.IsDNS1123Subdomain)
		}
		if isSimpleVariable(text) {
			right(t, text, validation.IsRelaxedEnvVarName)
		}
		if isSimpleName(text) && len(text) <= maxPortName {
			right(t, text, validation.IsValidPortName)
		}
		if !isSimpleImage(text) {
			return
		}
		named, err := reference.ParseNormalizedNamed(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if got := reference.TagNameOnly(named).String(); got != text {
			t.Fatalf("%q is %q", text, got)
		}
	})
}

func right(t *rapid.T, text string, rule func(string) []string) {
	t.Helper()
	if wrong := rule(text); len(wrong) > 0 {
		t.Fatalf("%q: %v", text, wrong)
	}
}
