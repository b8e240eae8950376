package schema

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"fairlead/schema/chance"
)

func TestLogTail(t *testing.T) {
	long := strings.Repeat("x", 3*MaxEvidenceLine)
	many := ""
	for i := range 80 {
		many += fmt.Sprintf("line %d\n", i)
	}
	tests := map[string]struct {
		output string
		want   []string
	}{
		"nothing":               {"", nil},
		"only line ends":        {"\n\r\n\n", nil},
		"lines":                 {"one\ntwo\n", []string{"one", "two"}},
		"no end of line":        {"one\ntwo", []string{"one", "two"}},
		"of another system":     {"one\r\ntwo\r\n", []string{"one", "two"}},
		"an empty line stays":   {"one\n\ntwo\n", []string{"one", "", "two"}},
		"a tab":                 {"a\tb\n", []string{"a    b"}},
		"colours":               {"\x1b[31mred\x1b[0m\n", []string{`\x1b[31mred\x1b[0m`}},
		"a line that goes back": {"50%\r100%\n", []string{`50%\r100%`}},
		"turned text":           {"a\u202eb\n", []string{`a\u202eb`}},
		"not UTF-8":             {"caf\xe9\x00\n", []string{`caf\xe9\x00`}},
		"a long line":           {long, []string{long[:MaxEvidenceLine-len("…")] + "…"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := LogTail([]byte(tt.output)); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if got := LogTail([]byte(many)); len(got) != MaxEvidenceLines || got[0] != "line 30" || got[49] != "line 79" {
		t.Errorf("of 80 lines: %q", got)
	}
}

// Whatever a container writes, what is kept of it is bounded, can be stored, and does
// not change when it is fitted again.
func TestEvidenceIsBounded(t *testing.T) {
	chance.Check(t, func(rt *rapid.T) {
		var all []Evidence
		for range rapid.IntRange(0, 14).Draw(rt, "pieces") {
			output := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(rt, "output")
			output = slices.Repeat(output, rapid.IntRange(0, 400).Draw(rt, "times"))
			text := string(output[:min(len(output), 2000)])
			all = append(all, Evidence{
				Pod: "shop/" + text, Workload: text, Node: "n1", Container: text, Code: "CrashLoop", Reason: text,
				Exit: &EvidenceExit{Code: 1, Message: text}, Probe: &EvidenceProbe{Kind: "liveness", Answer: text}, Log: LogTail(output),
			})
		}
		got := FitEvidence(all)
		if len(got) > MaxEvidence {
			rt.Fatalf("%d pieces", len(got))
		}
		size := 0
		for _, e := range got {
			texts := append([]string{e.Pod, e.Workload, e.Container, e.Reason, e.Exit.Message, e.Probe.Answer}, e.Log...)
			for _, s := range texts {
				size += len(s)
				if !utf8.ValidString(s) || Printable(s) != s {
					rt.Fatalf("%q is kept", s)
				}
			}
			if len(e.Log) > MaxEvidenceLines {
				rt.Fatalf("%d lines", len(e.Log))
			}
		}
		// Where texts alone take all the room there are no lines.
		if most := max(MaxEvidenceBytes, MaxEvidence*6*maxEvidenceText); size > most {
			rt.Fatalf("%d bytes", size)
		}
	})
}

// Short logs stay whole beside a long one, and the last line of each stays.
func TestLogsShareTheirRoom(t *testing.T) {
	line := strings.Repeat("y", 300)
	long := slices.Repeat([]string{line}, 25)
	var all []Evidence
	for i := range 9 {
		all = append(all, Evidence{Pod: fmt.Sprintf("shop/p%d", i), Log: append(slices.Clone(long), fmt.Sprintf("end %d", i))})
	}
	all = append(all, Evidence{Pod: "shop/quiet", Log: []string{"one", "two", "three"}})
	size := 0
	for i, e := range FitEvidence(all) {
		size += logBytes(e.Log)
		if last := e.Log[len(e.Log)-1]; i < 9 && last != fmt.Sprintf("end %d", i) || i == 9 && len(e.Log) != 3 {
			t.Errorf("%s ends with %q after %d lines", e.Pod, last, len(e.Log))
		}
	}
	if size > MaxEvidenceBytes || size < MaxEvidenceBytes/2 {
		t.Errorf("%d bytes of logs", size)
	}
}
