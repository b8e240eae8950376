package hook

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"fairlead/schema/chance"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRequestComesBack(t *testing.T) {
	name := rapid.StringMatching(`[0-9a-f]{40}`)
	text := rapid.StringN(0, 200, 1000)
	chance.Check(t, func(t *rapid.T) {
		want := Request{
			Phase:      rapid.SampledFrom([]Phase{Pre, Post}).Draw(t, "phase"),
			Source:     rapid.StringN(1, 63, -1).Draw(t, "source"),
			Repo:       rapid.StringN(1, 200, -1).Draw(t, "repo"),
			Quarantine: text.Draw(t, "quarantine"),
			Pusher:     text.Draw(t, "pusher"),
			Entry:      text.Draw(t, "entry"),
			Updates: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Update {
				return Update{Ref: text.Draw(t, "ref"), Old: name.Draw(t, "old"), New: name.Draw(t, "new")}
			}), 1, 5).Draw(t, "updates"),
			Allowed: rapid.SliceOfN(text, 0, 3).Draw(t, "allowed"),
			Options: rapid.SliceOfN(text, 0, 3).Draw(t, "options"),
		}
		if len(want.Options) == 0 {
			want.Options = nil
		}
		if len(want.Allowed) == 0 {
			want.Allowed = nil
		}
		sent, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadRequest(NewReader(bytes.NewReader(sent)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		cut := rapid.IntRange(0, len(sent)-1).Draw(t, "cut")
		if _, err := ReadRequest(NewReader(bytes.NewReader(sent[:cut]))); err == nil {
			t.Fatalf("half a request was taken: %q", sent[:cut])
		}
	})
}

func TestRequestBounds(t *testing.T) {
	good := Request{Phase: Pre, Source: "main", Repo: "/r", Updates: []Update{{Ref: "refs/heads/main", Old: Zero, New: Zero}}}
	for name, change := range map[string]func(*Request){
		"updates": func(r *Request) { r.Updates = make([]Update, MaxUpdates+1) },
		"allowed": func(r *Request) { r.Allowed = make([]string, MaxAllowed+1) },
		"options": func(r *Request) { r.Options = make([]string, MaxOptions+1) },
		"line":    func(r *Request) { r.Options = []string{strings.Repeat("x", MaxLine)} },
	} {
		r := good
		change(&r)
		if _, err := r.Encode(); err == nil {
			t.Errorf("%s beyond their bound were sent", name)
		}
	}
	for _, raw := range []string{
		"fairlead-hook 2\n",
		"fairlead-hook 1\nend\n",
		"fairlead-hook 1\nphase \"sideways\"\nsource \"s\"\nrepo \"r\"\nupdate \"x\" " + Zero + " " + Zero + "\nend\n",
		"fairlead-hook 1\nupdate \"x\" 12 34\nend\n",
		"fairlead-hook 1\nnews \"x\"\nend\n",
		"fairlead-hook 1\nphase pre-receive\nend\n",
		"fairlead-hook 1\n" + strings.Repeat("option \"x\"\n", MaxOptions+1) + "end\n",
		strings.Repeat("x", MaxLine+1) + "\n",
	} {
		if got, err := ReadRequest(NewReader(strings.NewReader(raw))); err == nil {
			t.Errorf("%.60q was taken: %+v", raw, got)
		}
	}
}

func TestReplies(t *testing.T) {
	sent := Text("hello") + Working() + Text("") + Text(strings.Repeat("é", MaxLine)) + Exit(3)
	r := NewReader(strings.NewReader(sent))
	for _, want := range []Reply{
		{Kind: IsText, Text: "hello"},
		{Kind: IsWorking},
		{Kind: IsText},
		{Kind: IsText, Text: strings.Repeat("é", (MaxLine-6)/2) + "..."},
		{Kind: IsExit, Code: 3},
	} {
		got, err := ReadReply(r)
		if err != nil || got != want {
			t.Errorf("got %.40v, %v, want %.40v", got, err, want)
		}
	}
	if _, err := ReadReply(r); !errors.Is(err, io.EOF) {
		t.Errorf("after the exit code: %v", err)
	}
	for _, raw := range []string{"= x\n", "hello\n", "> cut"} {
		if got, err := ReadReply(NewReader(strings.NewReader(raw))); err == nil {
			t.Errorf("%q was taken: %+v", raw, got)
		}
	}
}
