package layout

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fairlead/schema"
	"fairlead/schema/chance"
)

func TestWidthCountsCells(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "web": 3, "Grüße": 5, "東京": 4, "नमस्ते": 4, "e\u0301": 1, "❤️": 2, "❤": 1, "⚡️": 2, "👩": 2, "ｱ": 1, "Ａ": 2, "\u0301": 0,
	} {
		if got := Width(text); got != want {
			t.Errorf("Width(%q) = %d, want %d", text, got, want)
		}
	}
}

func TestFold(t *testing.T) {
	for name, c := range map[string]struct {
		text          string
		columns, hang int
		want          []string
	}{
		"fits":                      {"as wide as can be", 17, 2, []string{"as wide as can be"}},
		"any width":                 {strings.Repeat("x", 300), 0, 2, []string{strings.Repeat("x", 300)}},
		"between words":             {"one two three four", 9, 2, []string{"one two", "  three", "  four"}},
		"the space at the edge":     {"one two three", 7, 0, []string{"one two", "three"}},
		"keeps its indentation":     {"    one two three", 11, 6, []string{"    one two", "three"}},
		"a long word":               {"abcdefghijklmnop", 10, 2, []string{"abcdefghij", "  klmnop"}},
		"a path at its slash":       {"deploy/shop/base.yaml", 14, 0, []string{"deploy/shop/", "base.yaml"}},
		"a long word after others":  {"of pod deploy/shop/base.yaml/too/long", 16, 0, []string{"of pod deploy/", "shop/base.yaml/", "too/long"}},
		"a long word after a sign":  {"+ abcdefghijklmnop", 10, 2, []string{"+ abcdefgh", "  ijklmnop"}},
		"a word for the next line":  {"of pod deploy/shop/base", 16, 0, []string{"of pod", "deploy/shop/base"}},
		"wide characters":           {"東京東京東京", 5, 0, []string{"東京", "東京", "東京"}},
		"marks stay with theirs":    {"e\u0301e\u0301e\u0301", 2, 0, []string{"e\u0301e\u0301", "e\u0301"}},
		"wider than there is room":  {"東京", 1, 0, []string{"東", "京"}},
		"no room for the hang":      {"one two three", 5, 4, []string{"one", "two", "three"}},
		"an indentation of its own": {"          a", 4, 0, []string{"", "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Fold(c.text, c.columns, c.hang)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTable(t *testing.T) {
	rows := [][]string{
		{"CHECK", "LEVEL", "FOUND"},
		{"podman", "ok", "4.3.1 at /usr/bin/podman"},
		{"address ranges", "ok", "no route of this host overlaps pods or services"},
		{"東京"},
	}
	for columns, want := range map[int]string{
		0: `
CHECK           LEVEL  FOUND
podman          ok     4.3.1 at /usr/bin/podman
address ranges  ok     no route of this host overlaps pods or services
東京
`,
		50: `
CHECK           LEVEL  FOUND
podman          ok     4.3.1 at /usr/bin/podman
address ranges  ok     no route of this host
                       overlaps pods or services
東京
`,
		30: `
CHECK           LEVEL
    FOUND
podman          ok
    4.3.1 at /usr/bin/podman
address ranges  ok
    no route of this host
    overlaps pods or services
東京
`,
	} {
		var b strings.Builder
		b.WriteString("\n")
		WriteTable(Sized(&b, columns), "", rows)
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("%d columns: %s", columns, diff)
		}
	}
}

func TestTextOfOthersHasNoCellOrLineOfItsOwn(t *testing.T) {
	var b strings.Builder
	WriteTable(&b, "  ", [][]string{{"a\tb\nc", "\x1b[2J"}, {"d", "e"}})
	Fprintf(Sized(&b, 20), "says %s\n", "one\ntwo\x1b three four")
	want := `  a\tb\nc  \x1b[2J` + "\n  d        e\n" + `says one\ntwo\x1b` + "\n  three four\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestNothingIsWiderThanTheScreenAndNothingIsLost(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		cell := rapid.StringOf(rapid.SampledFrom([]rune("ab  /-.é東\u0301❤\ufe0f👩\u202e\n")))
		rows := rapid.SliceOf(rapid.SliceOfN(cell, 0, 7)).Draw(t, "rows")
		columns := rapid.IntRange(40, 120).Draw(t, "columns")
		var b strings.Builder
		WriteTable(Sized(&b, columns), "  ", rows)
		for _, row := range rows {
			Fprintf(Sized(&b, columns), "    %s\n", strings.Join(row, " "))
		}
		for line := range strings.Lines(b.String()) {
			if got := Width(strings.TrimSuffix(line, "\n")); got > columns {
				t.Fatalf("%d cells of %d: %q", got, columns, line)
			}
		}
		for _, row := range rows {
			for i, c := range row {
				if got := letters(strings.Join(Fold(schema.Printable(c), 3+i, 1), "\n")); got != letters(schema.Printable(c)) {
					t.Fatalf("%q became %q", c, got)
				}
			}
		}
	})
}

func letters(s string) string { return strings.Join(strings.Fields(s), "") }
