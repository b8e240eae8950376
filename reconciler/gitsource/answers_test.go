package gitsource

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/reconciler/gitsource/hook"
	"fairlead/schema"
)

// What a push is told quotes files, names and programs of others: none of it steers
// the pusher's terminal, and none of it is a line that could be taken for ours.
func TestAnswersSteerNoTerminal(t *testing.T) {
	a := newAnswers(t.Context())
	fmt.Fprintf(a, "Plan: \x1b[2J%s and \u202egpj\t\u009b31m\xff.\n", "a")
	a.finish(schema.Diagnostics{{
		Position: schema.Position{Path: "a\n= 0\r.yaml", Line: 1}, Severity: schema.Error,
		Message: "unknown field \"\x1b]0;t\a\"", Hint: "did you mean\u2028x?",
	}})
	b := newAnswers(t.Context())
	b.finish(errors.New("git said:\n\x1b[31mfatal\u2066"))
	var got []string
	for _, answers := range []*answers{a, b} {
		for line := range answers.lines {
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
	}
	last := strings.TrimSuffix(hook.Exit(1), "\n")
	want := []string{
		`> Plan: \x1b[2Ja and \u202egpj` + "\t" + `\u009b31m\xff.`,
		`> a\n= 0\r.yaml:1: unknown field "\x1b]0;t\x07" (did you mean\u2028x?)`,
		last,
		"> fairlead: git said:",
		`> \x1b[31mfatal\u2066`,
		last,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// While a push is judged, however long that takes, its pusher reads at least every
// fifteen seconds what is being done; of what tells of itself nothing is added.
func TestAPushIsToldWhatIsBeingDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		a := newAnswers(t.Context())
		done := make(chan struct{})
		go func() { a.send(ours, func() { t.Error("hung up") }); ours.Close(); close(done) }()
		go func() {
			a.doing.note("reading and checking the tree")
			time.Sleep(28 * time.Second)
			a.doing.note("planning 3 objects")
			fmt.Fprintln(a, "a line of its own")
			time.Sleep(24 * time.Second)
			a.doing.note("")
			time.Sleep(time.Minute)
			a.finish(nil)
		}()
		began := time.Now()
		var got []string
		for r := hook.NewReader(theirs); ; {
			reply, err := hook.ReadReply(r)
			if err != nil {
				break
			}
			if reply.Kind == hook.IsText {
				got = append(got, fmt.Sprintf("%s: %s", time.Since(began), reply.Text))
			}
		}
		<-done
		want := []string{
			"10s: still reading and checking the tree after 10s",
			"20s: still reading and checking the tree after 20s",
			"28s: a line of its own",
			"40s: still planning 3 objects after 12s",
			"50s: still planning 3 objects after 22s",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}
