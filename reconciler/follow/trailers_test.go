package follow

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/schema"
)

func TestTrailerValues(t *testing.T) {
	got := TrailerValues("s\n\nFairlead-Retry: a\nfairlead-retry: b\nFairlead-Allow-Prune: 3", schema.TrailerRetry)
	if diff := cmp.Diff([]string{"a", "b"}, got); diff != "" {
		t.Error(diff)
	}
}
