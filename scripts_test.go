package house

import (
	"os/exec"
	"regexp"
	"testing"
)

// What runs the gate keeps the exit code and every line of the steps, ends at the
// first that fails, and tells where the time went either way.
func TestStepsAreTimed(t *testing.T) {
	const ok = `step first printf 'ok  \tfairlead/a\t1.25s\nok  \tfairlead/b\t(cached)\nFAIL\tfairlead/c\t12.5s\n'; `
	for _, tc := range []struct {
		name, script string
		code         int
		want         string
	}{
		{"all is well", ok + `step second true`, 0,
			`^ok  \tfairlead/a\t1.25s\nok  \tfairlead/b\t\(cached\)\nFAIL\tfairlead/c\t12.5s\n\nseconds  step\n +\d+  first\n +\d+  second\n +\d+  in all\n\n  seconds  slowest packages\n     12.5  fairlead/c\n      1.2  fairlead/a\n$`},
		{"tests are told of", `step first printf '=== RUN   TestA\n=== PAUSE TestA\n=== an answer\n    a_test.go:1: hello\n--- PASS: TestA (2.50s)\n    --- FAIL: TestA/step (11.04s)\n--- SKIP: TestB\n'`, 0,
			`^=== an answer\n    a_test.go:1: hello\n--- PASS: TestA \(2.50s\)\n    --- FAIL: TestA/step \(11.04s\)\n--- SKIP: TestB\n\nseconds  step\n +\d+  first\n +\d+  in all\n\n  seconds  slowest tests, each with its steps\n     11.0  TestA/step\n      2.5  TestA\n$`},
		{"one fails", `step first sh -c 'echo told; exit 7'; step second echo not reached`, 7,
			`^told\nFAIL  first: exit status 7\n\nseconds  step\n +\d+  first\n +\d+  in all\n$`},
		{"the script fails", `step first true; false`, 1, `^\nseconds  step\n +\d+  first\n +\d+  in all\n$`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", ". scripts/timed; "+tc.script)
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState == nil {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			if !regexp.MustCompile(tc.want).Match(out) {
				t.Errorf("printed:\n%s\nwant %s", out, tc.want)
			}
		})
	}
}
