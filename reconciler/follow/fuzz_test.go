package follow

import (
	"slices"
	"strings"
	"testing"
)

// Trailers are lines of the message's last paragraph and nothing else.
func FuzzTrailers(f *testing.F) {
	f.Add("subject\n\nbody\n\nFairlead-Allow-Prune: 3\n continued\nSigned-off-by: A\n")
	f.Add("Fairlead-Allow-Prune: 3")
	f.Add("a\n\n: x\nb : c\n\td\n(cherry picked from commit x)\n\r\n")
	f.Fuzz(func(t *testing.T, message string) {
		trailers := Trailers(message)
		if len(trailers) > strings.Count(message, "\n") {
			t.Errorf("%d trailers", len(trailers))
		}
		for _, trailer := range trailers {
			if trailer.Key == "" || strings.ContainsAny(trailer.Key, " \t\n:") || strings.Contains(trailer.Value, "\n") {
				t.Errorf("%+v", trailer)
			}
			if got := TrailerValues(message, strings.ToUpper(trailer.Key)); !slices.Contains(got, trailer.Value) {
				t.Errorf("%+v is not among %q", trailer, got)
			}
		}
	})
}
