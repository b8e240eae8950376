package schema

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable is one value of somebody else's (a name, a commit's subject, a line
// of a log) as a terminal may show it: on one line, and with nothing in it that
// steers the terminal, that changes the order of what is read or that cannot be
// seen. Such characters are shown escaped: \n, \x1b, \u202e, \U000e0041, and a
// byte that is not UTF-8 as \xff. The text is for eyes: a backslash stays one,
// so that the escaped form cannot be read back. Printable of it is itself.
func Printable(s string) string { return escaped(s, IsPrintable) }

// PrintableText is Printable for text that has lines and columns of our own: line
// feeds and tabs stay. What others put into such text goes through Printable
// before, or it could pass for lines of ours.
func PrintableText(s string) string {
	return escaped(s, func(r rune) bool { return r == '\n' || r == '\t' || IsPrintable(r) })
}

// Fprintf is fmt.Fprintf for what people read: the format is ours and stays as it
// is, every argument that is text (a string of any type, an error, a Stringer) is
// shown as Printable shows it.
func Fprintf(w io.Writer, format string, args ...any) {
	shown := make([]any, len(args))
	for i, a := range args {
		shown[i] = printableArgument(a)
	}
	fmt.Fprintf(w, format, shown...)
}

func printableArgument(a any) any {
	switch v := a.(type) {
	case error:
		return Printable(v.Error())
	case fmt.Stringer:
		return Printable(v.String())
	}
	if v := reflect.ValueOf(a); v.Kind() == reflect.String {
		return Printable(v.String())
	}
	return a
}

// IsPrintable reports whether a terminal may be shown the character as it is: it
// has a shape, or is the space. Combining marks count, and of the variation
// selectors the two that choose between an emoji and a plain sign; control, format
// (bidi among them), separator, private-use and unassigned characters do not, nor
// letters that Unicode says are shown as nothing (DerivedCoreProperties.txt:
// Default_Ignorable_Code_Point).
func IsPrintable(r rune) bool {
	switch {
	case r == '\ufe0e' || r == '\ufe0f':
		return true
	case r < utf8.RuneSelf:
		return ' ' <= r && r < '\x7f'
	}
	return unicode.IsPrint(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

func escaped(s string, stays func(rune) bool) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !stays(r) }) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case stays(r):
			b.WriteString(s[:size])
		default:
			b.WriteString(escape(r))
		}
		s = s[size:]
	}
	return b.String()
}

func escape(r rune) string {
	switch {
	case r == '\n':
		return `\n`
	case r == '\r':
		return `\r`
	case r == '\t':
		return `\t`
	case r < utf8.RuneSelf:
		return fmt.Sprintf(`\x%02x`, r)
	case r <= 0xffff:
		return fmt.Sprintf(`\u%04x`, r)
	}
	return fmt.Sprintf(`\U%08x`, r)
}
