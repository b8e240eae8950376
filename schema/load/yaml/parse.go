package yaml

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"fairlead/schema"
)

// Chunk is a part of a file that is parsed by itself: usually one YAML document.
type Chunk struct {
	Text []byte
	Line int // lines of the file before it
}

// Split cuts a YAML file before its document markers. A line that starts with
// "---" is one wherever it stands (YAML 1.2, 9.1.2), so each document can be
// parsed alone: in parallel, and a syntax error in one hides nothing of the
// others. A file with directives stays whole, they belong to what follows.
func Split(text []byte) []Chunk {
	text = withoutMarks(text)
	if hasDirective(text) {
		return []Chunk{{Text: text}}
	}
	var chunks []Chunk
	start, startLine, line := 0, 0, 0
	for at := 0; at < len(text); line++ {
		if at > start && isMarker(text[at:]) {
			chunks = append(chunks, Chunk{text[start:at], startLine})
			start, startLine = at, line
		}
		end := bytes.IndexByte(text[at:], '\n')
		if end < 0 {
			break
		}
		at += end + 1
	}
	return append(chunks, Chunk{text[start:], startLine})
}

// byteOrderMark begins files that some editors write, and so parts of what was put
// together from them.
var byteOrderMark = []byte("\ufeff")

// withoutMarks takes away the byte order marks at the beginning of the text, before
// document markers, and before what comes first behind one.
func withoutMarks(text []byte) []byte {
	text = bytes.TrimPrefix(text, byteOrderMark)
	if !bytes.Contains(text, byteOrderMark) {
		return text
	}
	var out []byte
	first := true // nothing but blank lines and comments since the document's marker
	for line := range bytes.Lines(text) {
		bare := bytes.TrimPrefix(line, byteOrderMark)
		marker := isMarker(bare)
		if first || marker {
			line = bare
		}
		first = marker || first && (len(bytes.TrimSpace(line)) == 0 || line[0] == '#')
		out = append(out, line...)
	}
	return out
}

func isMarker(text []byte) bool {
	return bytes.HasPrefix(text, []byte("---")) && (len(text) == 3 || strings.IndexByte(" \t\r\n", text[3]) >= 0)
}

func hasDirective(text []byte) bool {
	return bytes.HasPrefix(text, []byte("%")) || bytes.Contains(text, []byte("\n%"))
}

// SyntaxError is a file that cannot be read at all from a line on.
type SyntaxError struct {
	line, column int
	message      string
	hint         string
}

// ParseYAML returns the roots of a chunk's documents, with lines counted from
// the chunk's start. They live as long as the arena lets them.
func ParseYAML(text []byte, nodes *Arena) ([]*yaml.Node, *SyntaxError) {
	if len(bytes.Trim(text, "- \r\n")) == 0 && isMarker(text) {
		return nil, nil // a marker and nothing behind it: a file may have very many
	}
	if root, ok := parsePlain(text, nodes); ok {
		return []*yaml.Node{root}, nil
	}
	return parseAnyYAML(text)
}

// parseAnyYAML is ParseYAML by the library alone.
func parseAnyYAML(text []byte) ([]*yaml.Node, *SyntaxError) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var roots []*yaml.Node
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return roots, nil
		}
		if err != nil {
			return roots, yamlError(err, text)
		}
		if len(document.Content) == 0 {
			continue
		}
		root := document.Content[0]
		if deep := tooDeep(root, 0); deep != nil {
			return roots, &SyntaxError{line: deep.Line, column: deep.Column, message: fmt.Sprintf("nested deeper than %d levels", MaxDepth)}
		}
		roots = append(roots, root)
	}
}

func tooDeep(n *yaml.Node, depth int) *yaml.Node {
	if depth > MaxDepth {
		return n
	}
	for _, c := range n.Content {
		if deep := tooDeep(c, depth+1); deep != nil {
			return deep
		}
	}
	return nil
}

// yamlError finds where a document stops being YAML. The parser names the line
// where the surrounding block began or none at all; the line a person must look
// at is the one after the longest beginning that parses.
func yamlError(err error, text []byte) *SyntaxError {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if rest, ok := strings.CutPrefix(message, "line "); ok {
		number, what, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			line, message = n, what
		}
	}
	if len(text) <= maxSearchBytes && bytes.Count(text, []byte("\n")) <= maxSearchLines {
		line = firstBadLine(text)
	}
	return &SyntaxError{line: line, message: "not YAML: " + message, hint: syntaxHint(message, lineOf(text, line))}
}

// lineOf is the text's line of a number, from 1.
func lineOf(text []byte, number int) string {
	for line := range bytes.Lines(text) {
		if number--; number == 0 {
			return string(line)
		}
	}
	return ""
}

// syntaxHint is what to write instead of a line that the parser does not understand;
// empty where that is not known.
func syntaxHint(message, line string) string {
	value := strings.TrimSpace(line)
	if _, after, ok := strings.Cut(line, ": "); ok {
		value = strings.TrimSpace(after)
	}
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	switch {
	case strings.Contains(line, "{{"):
		return TemplateHint
	case strings.HasPrefix(line, "<<<<<<<"), strings.HasPrefix(line, "======="), strings.HasPrefix(line, ">>>>>>>"):
		return "this is what a merge left: resolve the conflict"
	case strings.Contains(indent, "\t"):
		return "indent with spaces: YAML takes no tabs there"
	case strings.Contains(message, "<document start>"):
		return "write a line --- between two documents"
	case strings.Contains(message, "cannot start any token") && value != "" && strings.ContainsRune("@`%", rune(value[0])):
		return fmt.Sprintf("quote what begins with %c", value[0])
	case strings.HasSuffix(value, ":") && strings.Contains(message, "mapping values are not allowed"):
		return "a colon at the end begins an object: leave it out, or quote the value"
	case strings.Contains(message, "mapping values are not allowed") && strings.Contains(value, ": "):
		return "quote a value that has a colon and a space in it"
	case strings.Contains(message, "unknown escape"):
		return "write single quotes, or two backslashes for one"
	case strings.Contains(message, "mapping values are not allowed"), strings.Contains(message, "did not find expected key"):
		return "the indentation does not fit the lines before, or a quote or bracket is left open there"
	}
	return ""
}

// Bounds on firstBadLine, which parses everything before it once per line.
const (
	maxSearchLines = 400
	maxSearchBytes = 32 << 10
)

func firstBadLine(text []byte) int {
	lines := bytes.SplitAfter(text, []byte("\n"))
	if len(lines[len(lines)-1]) == 0 {
		lines = lines[:len(lines)-1] // the end of the last line is no line
	}
	for good := len(lines) - 1; good > 0; good-- {
		if isYAML(bytes.Join(lines[:good], nil)) {
			return good + 1
		}
	}
	return 1
}

func isYAML(text []byte) bool {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var n yaml.Node
		if err := decoder.Decode(&n); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

// ParseJSON returns the roots of a file's JSON values as the YAML nodes they
// would be, with their positions.
func ParseJSON(text []byte) ([]*yaml.Node, *SyntaxError) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	p := jsonParser{text: text, tokens: json.NewDecoder(bytes.NewReader(text)), lines: lineStarts(text)}
	p.tokens.UseNumber()
	if at := invalidUTF8(text); at >= 0 {
		line, column := p.position(at)
		return nil, &SyntaxError{line: line, column: column, message: "not JSON: this is not UTF-8"} // the decoder would replace it unasked
	}
	var roots []*yaml.Node
	for {
		p.root = int(p.tokens.InputOffset())
		root, err := p.value(0)
		if errors.Is(err, io.EOF) {
			return roots, nil
		}
		if err != nil {
			return roots, p.syntaxError(err)
		}
		roots = append(roots, root)
	}
}

// invalidUTF8 is the offset of the first byte that belongs to no character; -1
// without one.
func invalidUTF8(text []byte) int {
	if utf8.Valid(text) {
		return -1
	}
	at := 0
	for {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
}

type jsonParser struct {
	text   []byte
	tokens *json.Decoder
	lines  []int // offsets at which lines start
	root   int   // offset at which the value of the file that is being read starts
}

func lineStarts(text []byte) []int {
	starts := []int{0}
	for i, c := range text {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

var errTooDeep = fmt.Errorf("nested deeper than %d levels", MaxDepth)

func (p *jsonParser) value(depth int) (*yaml.Node, error) {
	if depth > MaxDepth {
		return nil, errTooDeep
	}
	token, n, err := p.next()
	if err != nil {
		return nil, err
	}
	delim, composite := token.(json.Delim)
	if !composite {
		fillScalar(n, token)
		return n, nil
	}
	n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
	if delim == '{' {
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
	}
	for p.tokens.More() {
		if delim == '{' {
			name, key, err := p.next()
			if err != nil {
				return nil, err
			}
			fillScalar(key, name)
			n.Content = append(n.Content, key)
		}
		item, err := p.value(depth + 1)
		if err != nil {
			return nil, noEOF(err)
		}
		n.Content = append(n.Content, item)
	}
	_, err = p.tokens.Token()
	return n, noEOF(err)
}

// noEOF turns an end inside a value into an error of its own.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// next reads a token and makes a node at its first byte.
func (p *jsonParser) next() (json.Token, *yaml.Node, error) {
	start := int(p.tokens.InputOffset())
	for start < len(p.text) && strings.IndexByte(" \t\r\n,:", p.text[start]) >= 0 {
		start++
	}
	token, err := p.tokens.Token()
	line, column := p.position(start)
	return token, &yaml.Node{Line: line, Column: column}, err
}

func (p *jsonParser) position(offset int) (line, column int) {
	line = sort.SearchInts(p.lines, offset+1)
	return line, utf8.RuneCount(p.text[p.lines[line-1]:min(offset, len(p.text))]) + 1
}

func fillScalar(n *yaml.Node, token json.Token) {
	n.Kind = yaml.ScalarNode
	switch t := token.(type) {
	case string:
		n.Tag, n.Value, n.Style = "!!str", t, yaml.DoubleQuotedStyle
	case json.Number:
		n.Tag, n.Value = "!!int", t.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	case bool:
		n.Tag, n.Value = "!!bool", strconv.FormatBool(t)
	case nil:
		n.Tag, n.Value = "!!null", "null"
	}
}

func (p *jsonParser) syntaxError(err error) *SyntaxError {
	offset := int(p.tokens.InputOffset())
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		offset = len(bytes.TrimRight(p.text, " \t\r\n"))
	case errors.As(err, &syntax):
		// A decoder asked for tokens counts the bytes before an error in one of
		// several ways; asked for the whole value, from where that starts.
		var value json.RawMessage
		whole := json.NewDecoder(bytes.NewReader(p.text[p.root:])).Decode(&value)
		if errors.As(whole, &syntax) {
			err, offset = whole, p.root+int(syntax.Offset)-1
		}
	}
	at := max(0, min(offset, len(p.text)-1))
	line, column := p.position(at)
	return &SyntaxError{line: line, column: column, message: "not JSON: " + err.Error(), hint: jsonHint(p.text, at)}
}

// jsonHint is what to write instead of the character at an offset, which JSON does not
// have there; empty where that is not known.
func jsonHint(text []byte, at int) string {
	if at >= len(text) {
		return ""
	}
	before := bytes.TrimRight(text[:at], " \t\r\n")
	switch {
	case text[at] == '/' || text[at] == '#':
		return "JSON has no comments"
	case text[at] == '\'':
		return "JSON takes double quotes only"
	case (text[at] == '}' || text[at] == ']') && bytes.HasSuffix(before, []byte(",")):
		return "leave out the comma before it"
	}
	return ""
}

// Diagnostic places a syntax error in its file.
func (e *SyntaxError) Diagnostic(path string, before int) schema.Diagnostic {
	return schema.Diagnostic{
		Position: schema.Position{Path: path, Line: e.line + before, Column: e.column},
		Severity: schema.Error, Message: e.message, Hint: e.hint,
	}
}
