package gitsource

import (
	"errors"
	"fmt"
	"strings"
	"testing"

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
	verdict := strings.TrimSuffix(hook.Verdict(1), "\n")
	want := []string{
		`> Plan: \x1b[2Ja and \u202egpj` + "\t" + `\u009b31m\xff.`,
		`> a\n= 0\r.yaml:1: unknown field "\x1b]0;t\x07" (did you mean\u2028x?)`,
		verdict,
		"> fairlead: git said:",
		`> \x1b[31mfatal\u2066`,
		verdict,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
