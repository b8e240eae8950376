package local

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A runtime that an earlier `up` wrote and that is gone since stops `up` at the line.
func TestARuntimeThatIsGoneIsTold(t *testing.T) {
	for text, want := range map[string]string{
		"dir: /d\npodman:\n  authFile: /a\n  runtime: no-such-runtime\n": ":4:3: podman.runtime is no-such-runtime, which is not installed: install it, or remove the line",
		"dir: /d\npodman:\n  runtime: sh\n":                              "",
		"dir: /d\n":                                                      "",
	} {
		path := filepath.Join(t.TempDir(), "agent.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := findRuntime(path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), path+want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestANodeOfAnEarlierVersion(t *testing.T) {
	for _, test := range []struct {
		boot, mark string
		want       bool
	}{
		{"kernel", "", true},
		{"", "", false},          // not ready
		{"kernel-a", "", false},  // of before a `down`
		{"before", "", false},    // of before a boot of the machine
		{"kernel", "b", false},   // its successor runs and has not reported
		{"kernel-b", "b", false}, // of this version
	} {
		if got := earlier(test.boot, "kernel", test.mark); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}
