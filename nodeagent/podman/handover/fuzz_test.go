package handover

import (
	"encoding/json"
	"strings"
	"testing"
)

// What Podman writes is not ours: whatever it is, a configuration comes of it that
// has the environment, or an error.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(podmans), []byte("v"))
	f.Add([]byte(podmans), []byte{0xe9})
	f.Add([]byte(`{"process":{"args":["x"],"env":["K"]},"mounts":{}}`), []byte("v"))
	f.Add([]byte(`{"process":null}`), []byte(mark))
	f.Fuzz(func(t *testing.T, config, value []byte) {
		out, err := Config(config, Process{Env: []Variable{{"K", value}}}, "/b")
		if err != nil {
			return
		}
		var made struct{ Process struct{ Env []string } }
		if err := json.Unmarshal(out, &made); err != nil {
			t.Fatal(err)
		}
		for _, e := range made.Process.Env {
			name, rest, _ := strings.Cut(e, "=")
			if got, _ := Reveal(rest); name == "K" && got == string(value) {
				if command, _, err := Command(out, []string{"c"}); err == nil && !json.Valid(command) {
					t.Errorf("a command in it: %q, %v", command, err)
				}
				return
			}
		}
		t.Errorf("no K in %s", out)
	})
}
