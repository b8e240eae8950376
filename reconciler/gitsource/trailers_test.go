package gitsource

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/reconciler/follow"
)

// Git's own program reads the same trailers.
func TestTrailersAsGit(t *testing.T) {
	w := newWork(t)
	w.git("config", "trailer.prune.key", "Fairlead-Allow-Prune")
	w.git("config", "trailer.rewind.key", "Fairlead-Allow-Rewind")
	messages := []string{
		"subject only",
		"Fairlead-Allow-Prune: 1",
		"subject\n\nFairlead-Allow-Prune: 12",
		"subject\n\nbody\n\nFairlead-Allow-Prune: 12\nfairlead-allow-rewind:abc\n\n",
		"subject\n\nFairlead-Allow-Prune: 12\n\nlater text",
		"subject\n\nsome text\nFairlead-Allow-Prune: 12",
		"subject\n\none\ntwo\nthree\nfour\nFairlead-Allow-Prune: 12",
		"subject\n\nsome text\nReviewed-by: x",
		"subject\n\nReviewed-by: x\nAcked-by: y",
		"subject\n\nFairlead-Allow-Prune: 1\n  and more\n\tand more",
		"subject\n\n  indented\nReviewed-by: x",
		"subject\n\ntext\nSigned-off-by: x <x@y>",
		"subject\n\nFairlead-Allow-Prune : 3",
		"subject\n\nA key: value\nFairlead-Allow-Prune: 3",
		"subject\n\n(cherry picked from commit abc)\nAcked-by: y\ntext",
	}
	for _, m := range messages {
		cmd := w.command(w.dir, "interpret-trailers", "--parse")
		cmd.Stdin = strings.NewReader(m + "\n")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, tr := range follow.Trailers(m) {
			got.WriteString(tr.Key + ": " + tr.Value + "\n")
		}
		if diff := cmp.Diff(strings.ToLower(string(out)), strings.ToLower(got.String())); diff != "" {
			t.Errorf("%q:\n%s", m, diff)
		}
	}
}
