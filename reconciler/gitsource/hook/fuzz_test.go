package hook

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// A request is refused in words, or is within the bounds and the same after it
// was told again.
func FuzzReadRequest(f *testing.F) {
	whole, err := Request{
		Phase: Pre, Source: "main", Repo: "/r.git", Quarantine: "/r.git/objects/tmp", Pusher: "local:root", Allowed: []string{"refs/heads/main"},
		Updates: []Update{{Ref: "refs/heads/ma\nin", Old: Zero, New: strings.Repeat("a", 40)}}, Options: []string{"wait"},
	}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(whole))
	f.Add("fairlead-hook 1\nend\n")
	f.Add("fairlead-hook 2\nphase \"pre-receive\"\nsource \"a\"\nrepo \"/\"\nupdate \"r\" " + Zero + " " + Zero + " x\nend\n")
	f.Add("fairlead-hook 2\nphase pre\n")
	f.Add("fairlead-hook 2\noption `a" + strings.Repeat("x", MaxLine) + "`\n")
	f.Fuzz(func(t *testing.T, text string) {
		request, err := ReadRequest(NewReader(strings.NewReader(text)))
		if err != nil {
			if err.Error() == "" || len(err.Error()) > 8*MaxLine { // a byte quoted twice is eight at most
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		told, err := request.Encode()
		if err != nil {
			return // quoting made a line too long
		}
		again, err := ReadRequest(NewReader(strings.NewReader(string(told))))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(request, again, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

// The hook's side: every answer ends, and a line is text, a sign of life, a
// exit code or an error.
func FuzzReadReply(f *testing.F) {
	f.Add(Text("hello") + Working() + Exit(1))
	f.Add("= 99999999999999999999\n")
	f.Add("> " + strings.Repeat("x", MaxLine))
	f.Fuzz(func(t *testing.T, text string) {
		r := NewReader(strings.NewReader(text))
		for range strings.Count(text, "\n") + 1 {
			reply, err := ReadReply(r)
			if err != nil {
				return
			}
			if reply.Kind == IsText && Text(reply.Text) != "> "+reply.Text+"\n" || reply.Kind != IsText && reply.Kind != IsWorking && reply.Kind != IsExit {
				t.Errorf("%+v", reply)
			}
		}
		if _, err := ReadReply(r); !errors.Is(err, io.EOF) {
			t.Errorf("more answers than lines: %v", err)
		}
	})
}
