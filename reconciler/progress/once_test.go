package progress

import (
	"slices"
	"testing"
)

func TestALongReasonIsToldOnce(t *testing.T) {
	const why = "Deployment shop/api: no progress for 10m0s: container api of pod api-x ends with exit code 1, 4 restarts"
	var once Once
	var got []string
	for _, text := range []string{
		"went back to 1a2b3c4d5e6f: " + why, why,
		"Git asks for 4f2a1c0d9b3e, which failed (" + why + "); 1a2b3c4d5e6f runs",
		"went back to 1a2b3c4d5e6f: " + why,
		"applied", "applied", why + ", and more",
	} {
		got = append(got, once.Tell(text))
	}
	want := []string{
		"went back to 1a2b3c4d5e6f: " + why, "as above",
		"Git asks for 4f2a1c0d9b3e, which failed (as above); 1a2b3c4d5e6f runs",
		"as above",
		"applied", "applied", "as above, and more",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
