package schema

import "testing"

func TestProbeFailureIsReadBack(t *testing.T) {
	for _, times := range []int32{0, 1, 3} {
		for _, answer := range []string{"HTTP probe failed with statuscode: 404 no", "command exited with code 1: startup probe failed 2 times: x", ""} {
			text := ProbeFailure("Liveness", times, answer)
			kind, got, ok := ReadProbeFailure(text)
			if !ok || kind != "liveness" || got != answer {
				t.Errorf("%q is read as %q, %q, %v", text, kind, got, ok)
			}
		}
	}
	for _, text := range []string{"", "the health check: no probe failed: x", "exit code 1", " probe failed"} {
		if kind, answer, ok := ReadProbeFailure(text); ok {
			t.Errorf("%q is read as %q, %q", text, kind, answer)
		}
	}
}
