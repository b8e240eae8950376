package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
	k8syaml "sigs.k8s.io/yaml"

	"fairlead/schema"
	"fairlead/schema/layout"
)

// terminal is standard output or standard error, and the only way to them: names,
// commits, logs and errors of others never steer what shows them. Whatever is
// written goes through schema.PrintableText; colour is added behind that. What can
// hold line feeds or tabs of others is written with schema.Fprintf.
type terminal struct {
	out *os.File

	mu  sync.Mutex
	cut []byte // the beginning of a character that the next Write completes
}

func newTerminal(out *os.File) *terminal { return &terminal{out: out} }

// Write shows p. A character may come in two pieces.
func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := append(t.cut, p...)
	whole := len(text) - unfinished(text)
	t.cut = bytes.Clone(text[whole:])
	if _, err := t.out.WriteString(schema.PrintableText(string(text[:whole]))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// close shows what is left of a character that was never completed.
func (t *terminal) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = t.out.WriteString(schema.PrintableText(string(t.cut))) // nobody is left to tell
	t.cut = nil
}

// unfinished is how many bytes at the end of p begin a character.
func unfinished(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if tail := p[len(p)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

const (
	// leastColumns is the narrowest screen that text is folded for: below, tables
	// would be towers of syllables.
	leastColumns = 40
	// usualColumns is a terminal's that does not say how wide it is.
	usualColumns = 80
)

// Columns is how many cells a line of the screen has, $COLUMNS before what the
// terminal says; 0, any number, for what is no terminal: lines in pipes and files stay
// whole. Package layout asks for it.
func (t *terminal) Columns() int {
	size, err := unix.IoctlGetWinsize(int(t.out.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	columns := int(size.Col)
	if asked, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && asked > 0 {
		columns = asked
	} else if columns == 0 {
		columns = usualColumns
	}
	return max(columns, leastColumns)
}

// The colours of lines by their sign, as diff tools have them.
var colours = map[string]string{"+ ": "\x1b[32m", "- ": "\x1b[31m", "~ ": "\x1b[33m"}

// paint writes text with the lines of additions, changes and removals in colour.
func (t *terminal) paint(text string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for line := range strings.Lines(schema.PrintableText(text)) {
		sign := strings.TrimLeft(line, " ")
		if colour := colours[sign[:min(2, len(sign))]]; colour != "" {
			line = colour + strings.TrimSuffix(line, "\n") + "\x1b[0m\n"
		}
		b.WriteString(line)
	}
	_, err := t.out.WriteString(b.String())
	return err
}

// colourful reports whether it is a terminal that is not asked to stay plain
// (https://no-color.org).
func (t *terminal) colourful() bool {
	if os.Getenv("NO_COLOR") != "" {
		return false
	}
	info, err := t.out.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// painted writes what write says, in colour where w shows colours.
func painted(w io.Writer, write func(io.Writer)) error {
	t, ok := w.(*terminal)
	if !ok || !t.colourful() {
		write(w)
		return nil
	}
	var plain strings.Builder
	write(layout.Sized(&plain, t.Columns()))
	return t.paint(plain.String())
}

// writeAs writes v as JSON or YAML. It means exactly v: characters that a terminal
// must not get are escaped as the format escapes them.
func writeAs(w io.Writer, format string, v any) error {
	var data []byte
	var err error
	if format == "yaml" {
		data, err = yamlText(v)
	} else {
		data, err = jsonText(v)
	}
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

func jsonText(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return escapeUnseen(b.Bytes(), func(r rune) string { // RFC 8259, section 7
		if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
			return fmt.Sprintf(`\u%04x\u%04x`, high, low)
		}
		return fmt.Sprintf(`\u%04x`, r)
	}), nil
}

// yamlText is written as Kubernetes' tools do, unless there is something unseen in
// it: only between double quotes does YAML know escapes (YAML 1.2, section 5.7),
// so the texts that need them are quoted.
func yamlText(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if !bytes.ContainsFunc(data, unseen) {
		if plain, err := k8syaml.JSONToYAML(data); err != nil || !bytes.ContainsFunc(plain, unseen) {
			return plain, err
		}
	}
	escape := func(r rune) string { return fmt.Sprintf(`\U%08x`, r) }
	var doc yaml.Node
	if err := yaml.Unmarshal(escapeUnseen(data, escape), &doc); err != nil { // JSON is YAML
		return nil, err
	}
	unquoteSeen(&doc)
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return nil, err
	}
	return escapeUnseen(b.Bytes(), escape), nil
}

// unquoteSeen leaves quotes around what has escapes in it; for all else they are
// the encoder's to choose.
func unquoteSeen(n *yaml.Node) {
	if n.Kind != yaml.ScalarNode || !strings.ContainsFunc(n.Value, func(r rune) bool { return !schema.IsPrintable(r) }) {
		n.Style = 0
	}
	for _, child := range n.Content {
		unquoteSeen(child)
	}
}

// unseen characters are written escaped. Line feeds and tabs are not among them:
// outside of quotes they are the format's own.
func unseen(r rune) bool { return r != '\n' && r != '\t' && !schema.IsPrintable(r) }

func escapeUnseen(data []byte, escape func(rune) string) []byte {
	if !bytes.ContainsFunc(data, unseen) {
		return data
	}
	var b bytes.Buffer
	for _, r := range string(data) {
		if unseen(r) {
			b.WriteString(escape(r))
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}
