package health

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// What a container said of its end is part of a sentence, whatever it is.
func TestExitTellsTheMessage(t *testing.T) {
	for said, want := range map[string]string{
		"":                             "exit code 3",
		"why\n":                        "exit code 3: why",
		"panic: x\n\n\tmain.go:7\r\n":  "exit code 3: panic: x | main.go:7",
		strings.Repeat("a", 300):       "exit code 3: " + strings.Repeat("a", 300),
		strings.Repeat("é", 200) + "x": "exit code 3: ..." + strings.Repeat("é", 149) + "x",
	} {
		if got := Exit(&corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error", Message: said}); got != want {
			t.Errorf("%q: got %q, want %q", said, got, want)
		}
	}
}
