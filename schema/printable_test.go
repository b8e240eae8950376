package schema

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"fairlead/schema/chance"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                   "",
		"shop/web-7f: ready": "shop/web-7f: ready",
		"Grüße, 東京, नमस्ते, ❤️ ⚡️": "Grüße, 東京, नमस्ते, ❤️ ⚡️",
		`a\b`:                          `a\b`,
		"two\nlines\r\n":               `two\nlines\r\n`,
		"a\tb":                         `a\tb`,
		"\x1b]0;title\a\x1b[2J":        `\x1b]0;title\x07\x1b[2J`,
		"\u009b31m":                    `\u009b31m`, // C1: CSI in one character
		"\x9b31m":                      `\x9b31m`,   // the same as a byte
		"\x00\x7f":                     `\x00\x7f`,
		"cut \xe2\x80":                 `cut \xe2\x80`,
		"\xed\xa0\x80":                 `\xed\xa0\x80`, // a surrogate
		"\u202eexe.yaml\u202c":         `\u202eexe.yaml\u202c`,
		"\u2066\u2067\u2068\u2069":     `\u2066\u2067\u2068\u2069`,
		"\u200e\u200f\u061c":           `\u200e\u200f\u061c`,
		"\u2028\u2029":                 `\u2028\u2029`,
		"\u200b\u200c\u200d\u2060":     `\u200b\u200c\u200d\u2060`,
		"\ufeffbom":                    `\ufeffbom`,
		"no\u00a0break, sh\u00ady":     `no\u00a0break, sh\u00ady`,
		"\u2003\u3000":                 `\u2003\u3000`,
		"\u115f\u3164\uffa0\u034f":     `\u115f\u3164\uffa0\u034f`, // letters and a mark without a shape
		"\ufe00\U000e0100":             `\ufe00\U000e0100`,
		"\U000e0041\U000e007f":         `\U000e0041\U000e007f`, // tags
		"\ue000\U000f0000":             `\ue000\U000f0000`,     // private use
		"\U0001d173\u206a\u180e":       `\U0001d173\u206a\u180e`,
		"\ufffd stands for one \ufffd": "\ufffd stands for one \ufffd",
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %s, want %s", in, got, want)
		}
	}
	if got, want := PrintableText("a\tb\n\x1b[1mc\r\n"), "a\tb\n"+`\x1b[1mc\r`+"\n"; got != want {
		t.Errorf("PrintableText: %q, want %q", got, want)
	}
}

func TestPrintableLeavesNothingUnseen(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) + rapid.String().Draw(t, "text")
		one, text := Printable(s), PrintableText(s)
		for _, r := range one {
			if !IsPrintable(r) {
				t.Fatalf("%q holds %U", one, r)
			}
		}
		if !utf8.ValidString(one) || !utf8.ValidString(text) {
			t.Fatalf("%q or %q is not UTF-8", one, text)
		}
		if again := Printable(one); again != one {
			t.Fatalf("%q became %q", one, again)
		}
		if got := Printable(text); got != one {
			t.Fatalf("as text %q, as a value %q", got, one)
		}
	})
}

// What Unicode calls control, format, separator, private use or surrogate is never
// shown as it is, the space apart.
func TestNoInvisibleCharacterIsPrintable(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if r != ' ' && unicode.In(r, unicode.C, unicode.Z, unicode.Bidi_Control, unicode.Join_Control) && IsPrintable(r) {
			t.Errorf("%U is taken for printable", r)
		}
	}
	for _, s := range []string{"a", "é", "東", "ا", "א", "👩", "e\u0301", "€", "│"} {
		if strings.ContainsFunc(s, func(r rune) bool { return !IsPrintable(r) }) {
			t.Errorf("%q is not taken for printable", s)
		}
	}
}
