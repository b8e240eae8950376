package load

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

// chunk is a part of a file that is parsed by itself: usually one YAML document.
type chunk struct {
	text []byte
	line int // lines of the file before it
}

// split cuts a YAML file before its document markers. A line that starts with
// "---" is one wherever it stands (YAML 1.2, 9.1.2), so each document can be
// parsed alone: in parallel, and a syntax error in one hides nothing of the
// others. A file with directives stays whole, they belong to what follows.
func split(text []byte) []chunk {
	if text = bytes.TrimPrefix(text, []byte("\ufeff")); hasDirective(text) {
		return []chunk{{text: text}}
	}
	var chunks []chunk
	start, startLine, line := 0, 0, 0
	for at := 0; at < len(text); line++ {
		if at > start && isMarker(text[at:]) {
			chunks = append(chunks, chunk{text[start:at], startLine})
			start, startLine = at, line
		}
		end := bytes.IndexByte(text[at:], '\n')
		if end < 0 {
			break
		}
		at += end + 1
	}
	return append(chunks, chunk{text[start:], startLine})
}

func isMarker(text []byte) bool {
	return bytes.HasPrefix(text, []byte("---")) && (len(text) == 3 || strings.IndexByte(" \t\r\n", text[3]) >= 0)
}

func hasDirective(text []byte) bool {
	return bytes.HasPrefix(text, []byte("%")) || bytes.Contains(text, []byte("\n%"))
}

// syntaxError is a file that cannot be read at all from a line on.
type syntaxError struct {
	line, column int
	message      string
}

// parseYAML returns the roots of a chunk's documents, with lines counted from
// the chunk's start. They live as long as the arena lets them.
func parseYAML(text []byte, nodes *arena) ([]*yaml.Node, *syntaxError) {
	if len(bytes.Trim(text, "- \r\n")) == 0 && isMarker(text) {
		return nil, nil // a marker and nothing behind it: a file may have very many
	}
	if root, ok := parsePlain(text, nodes); ok {
		return []*yaml.Node{root}, nil
	}
	return parseAnyYAML(text)
}

// parseAnyYAML is parseYAML by the library alone.
func parseAnyYAML(text []byte) ([]*yaml.Node, *syntaxError) {
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
			return roots, &syntaxError{deep.Line, deep.Column, fmt.Sprintf("nested deeper than %d levels", maxDepth)}
		}
		roots = append(roots, root)
	}
}

func tooDeep(n *yaml.Node, depth int) *yaml.Node {
	if depth > maxDepth {
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
func yamlError(err error, text []byte) *syntaxError {
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
	return &syntaxError{line: line, message: "not YAML: " + message}
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

// parseJSON returns the roots of a file's JSON values as the YAML nodes they
// would be, with their positions.
func parseJSON(text []byte) ([]*yaml.Node, *syntaxError) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	p := jsonParser{text: text, tokens: json.NewDecoder(bytes.NewReader(text)), lines: lineStarts(text)}
	p.tokens.UseNumber()
	if at := invalidUTF8(text); at >= 0 {
		line, column := p.position(at)
		return nil, &syntaxError{line, column, "not JSON: this is not UTF-8"} // the decoder would replace it unasked
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

var errTooDeep = fmt.Errorf("nested deeper than %d levels", maxDepth)

func (p *jsonParser) value(depth int) (*yaml.Node, error) {
	if depth > maxDepth {
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

func (p *jsonParser) syntaxError(err error) *syntaxError {
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
	line, column := p.position(max(0, min(offset, len(p.text)-1)))
	return &syntaxError{line, column, "not JSON: " + err.Error()}
}

// diagnostic places a syntax error in its file.
func (e *syntaxError) diagnostic(path string, before int) schema.Diagnostic {
	return schema.Diagnostic{
		Position: schema.Position{Path: path, Line: e.line + before, Column: e.column},
		Severity: schema.Error, Message: e.message,
	}
}
