package yaml

import (
	"slices"
	"strings"
	"unsafe"

	"go.yaml.in/yaml/v3"
)

// Nearly all manifests are written in a small part of YAML: keys and dashes
// indented by spaces, values that stand on one line. parsePlain reads that part
// some ten times as fast as the YAML library, which parses, and finds the errors
// of, everything else.

// parsePlain returns the root that ParseYAML's library makes of a chunk, without
// comments; ok is false when the chunk has anything that is not plain to it,
// mistakes among it. It never accepts what the library refuses. The nodes are of
// the arena and live as long as it lets them.
func parsePlain(text []byte, nodes *Arena) (root *yaml.Node, ok bool) {
	p := plainParser{Arena: nodes}
	if nodes.Borrows {
		p.text = unsafe.String(unsafe.SliceData(text), len(text))
	} else {
		p.text = string(text)
	}
	p.next()
	if p.indent == 0 && p.rest() == "---" {
		p.next()
	}
	if p.start == p.end || p.indent != 0 {
		return nil, false
	}
	p.stack = p.stack[:0]
	root = p.block(0)
	return root, !p.strange && p.start == p.end
}

// plainParser stands at a line; strange says that it met what it does not read,
// after which its nodes mean nothing.
type plainParser struct {
	text    string
	at      int // where the next line begins
	number  int // of the current line, from 1
	begin   int // of the current line
	start   int // of what stands on it, behind its indent; equal to end behind the last line
	end     int // behind what stands on it, without trailing spaces
	indent  int
	depth   int
	strange bool
	*Arena
}

// Arena hands out nodes and takes all of them back at once: those of a document
// take some ten times the room of its text, and live while it is decoded.
type Arena struct {
	blocks []*[nodesPerBlock]yaml.Node
	block  int          // that nodes are taken from
	taken  int          // nodes of it
	lists  []*yaml.Node // to be handed out, behind those that were
	stack  []*yaml.Node // children of the nodes that are being read
	// Borrows has the nodes' values be parts of the text that is parsed, which then
	// never changes and lives as long as any of them; else they are parts of a copy.
	Borrows bool
}

const (
	nodesPerBlock = 64
	// maxIdleBlocks is what an arena keeps for the next document: twenty times what
	// one usually takes.
	maxIdleBlocks = 64
)

// node is one that is zero.
func (a *Arena) node() *yaml.Node {
	if a.taken == nodesPerBlock {
		a.block, a.taken = a.block+1, 0
	}
	if a.block == len(a.blocks) {
		a.blocks = append(a.blocks, new([nodesPerBlock]yaml.Node))
	}
	a.taken++
	return &a.blocks[a.block][a.taken-1]
}

// list is a copy of some nodes.
func (a *Arena) list(of []*yaml.Node) []*yaml.Node {
	if len(of) > cap(a.lists)-len(a.lists) {
		a.lists = make([]*yaml.Node, 0, max(2*nodesPerBlock, 2*cap(a.lists), len(of)))
	}
	from := len(a.lists)
	a.lists = append(a.lists, of...)
	return a.lists[from:len(a.lists):len(a.lists)]
}

// Reset takes back all that was handed out. Nothing of a document stays in it.
func (a *Arena) Reset() {
	for i := range min(a.block+1, len(a.blocks)) {
		clear(a.blocks[i][:])
	}
	clear(a.stack[:cap(a.stack)])
	clear(a.lists)
	a.blocks = a.blocks[:min(len(a.blocks), maxIdleBlocks)]
	a.block, a.taken, a.lists = 0, 0, a.lists[:0]
	if cap(a.lists) > maxIdleBlocks*nodesPerBlock {
		a.lists = nil
	}
}

// plainDepth is far below the bound on depth, which the library's way tells of.
const plainDepth = 50

func (p *plainParser) rest() string { return p.text[p.start:p.end] }

// fail gives up; what is returned only ends the caller's work.
func (p *plainParser) fail() *yaml.Node {
	p.strange = true
	p.start = p.end
	return nil
}

// next moves to the next line on which something stands.
func (p *plainParser) next() {
	for p.at < len(p.text) {
		p.begin = p.at
		p.number++
		length := strings.IndexByte(p.text[p.at:], '\n')
		if length < 0 {
			length = len(p.text) - p.at
		}
		p.at = min(p.at+length+1, len(p.text))
		p.end = p.begin + length
		for i := p.begin; i < p.end; i++ {
			if c := p.text[i]; c < ' ' || c > '~' {
				p.fail()
				return
			}
		}
		for p.end > p.begin && p.text[p.end-1] == ' ' {
			p.end--
		}
		for p.start = p.begin; p.start < p.end && p.text[p.start] == ' '; p.start++ {
		}
		if p.start == p.end || p.text[p.start] == '#' {
			continue
		}
		p.indent = p.start - p.begin
		if p.indent == 0 && (strings.HasPrefix(p.rest(), "...") || strings.HasPrefix(p.rest(), "---") && (p.number > 1 || p.rest() != "---")) {
			p.fail() // ends of documents, but for the one that split leaves at the beginning
		}
		return
	}
	p.indent, p.start, p.end = -1, len(p.text), len(p.text)
}

func (p *plainParser) node(kind yaml.Kind, tag string, at int) *yaml.Node {
	n := p.Arena.node()
	n.Kind, n.Tag, n.Line, n.Column = kind, tag, p.number, at-p.begin+1
	return n
}

// close makes what was pushed since from the children of n.
func (p *plainParser) close(n *yaml.Node, from int) *yaml.Node {
	n.Content = p.list(p.stack[from:])
	p.stack = p.stack[:from]
	return n
}

// block reads the mapping or list whose lines are indented so far; the current
// one is its first.
func (p *plainParser) block(indent int) *yaml.Node {
	if p.depth++; p.depth > plainDepth {
		return p.fail()
	}
	defer func() { p.depth-- }()
	if p.isItem() {
		return p.items(indent)
	}
	return p.mapping(indent)
}

// isItem reports whether a dash stands first.
func (p *plainParser) isItem() bool {
	return p.start < p.end && p.text[p.start] == '-' && (p.start+1 == p.end || p.text[p.start+1] == ' ')
}

func (p *plainParser) items(indent int) *yaml.Node {
	n := p.node(yaml.SequenceNode, "!!seq", p.start)
	from := len(p.stack)
	for p.start < p.end && p.indent == indent && p.isItem() {
		for p.start++; p.start < p.end && p.text[p.start] == ' '; p.start++ {
		}
		var item *yaml.Node
		switch {
		case p.start == p.end || p.text[p.start] == '#':
			if p.next(); p.indent <= indent {
				return p.fail()
			}
			item = p.block(p.indent)
		case p.isItem():
			return p.fail()
		case p.key() > 0: // a mapping that begins on the dash's line
			p.indent = p.start - p.begin
			item = p.block(p.indent)
		default:
			item = p.line()
		}
		if p.strange {
			return nil
		}
		p.stack = append(p.stack, item)
	}
	return p.close(n, from)
}

func (p *plainParser) mapping(indent int) *yaml.Node {
	n := p.node(yaml.MappingNode, "!!map", p.start)
	from := len(p.stack)
	for p.start < p.end && p.indent == indent {
		length := p.key()
		if length == 0 {
			return p.fail()
		}
		key := p.scalar(p.start, p.start+length)
		p.stack = append(p.stack, key)
		for p.start += length + 1; p.start < p.end && p.text[p.start] == ' '; p.start++ {
		}
		var value *yaml.Node
		if p.start == p.end || p.text[p.start] == '#' {
			p.next()
			if p.indent < indent || p.indent == indent && !p.isItem() {
				return p.fail()
			}
			value = p.block(p.indent)
		} else {
			value = p.line()
		}
		if p.strange {
			return nil
		}
		p.stack = append(p.stack, value)
	}
	if p.start < p.end && p.indent > indent {
		return p.fail()
	}
	return p.close(n, from)
}

// plainFirst may begin a scalar without quotes wherever it stands.
func plainFirst(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '/' || c == '.' || c == '_' || c == '$' || c == '('
}

// key is the length of the key that stands here with a colon behind, 0 for none.
func (p *plainParser) key() int {
	rest := p.rest()
	length := 0
	if quote := rest[0]; quote == '"' || quote == '\'' {
		length = quoted(rest)
	} else if plainFirst(rest[0]) {
		for length < len(rest) && !endsPlainKey(rest[length]) && !endsKey(rest[length:]) {
			length++
		}
		if length > 0 && rest[length-1] == ' ' {
			return 0
		}
	}
	if length == 0 || length > maxPlainKey || !endsKey(rest[length:]) {
		return 0
	}
	return length
}

// endsPlainKey may not stand in a key without quotes, though it may to YAML.
func endsPlainKey(c byte) bool {
	switch c {
	case '#', '{', '}', '[', ']', ',', '"', '\'':
		return true
	}
	return false
}

// maxPlainKey is below the 1024 bytes in which a key must end.
const maxPlainKey = 512

func endsKey(rest string) bool {
	return len(rest) > 0 && rest[0] == ':' && (len(rest) == 1 || rest[1] == ' ')
}

// quoted is the length of the quoted scalar at the beginning of rest, 0 if it
// has escapes or does not end.
func quoted(rest string) int {
	end := strings.IndexByte(rest[1:], rest[0]) + 1
	if end == 0 || strings.IndexByte(rest[:end], '\\') >= 0 || strings.HasPrefix(rest[end+1:], "'") {
		return 0
	}
	return end + 1
}

// scalar is the one at text[from:to], quoted or not.
func (p *plainParser) scalar(from, to int) *yaml.Node {
	n := p.node(yaml.ScalarNode, "!!str", from)
	switch p.text[from] {
	case '"':
		n.Style, n.Value = yaml.DoubleQuotedStyle, p.text[from+1:to-1]
	case '\'':
		n.Style, n.Value = yaml.SingleQuotedStyle, p.text[from+1:to-1]
	default:
		n.Value = p.text[from:to]
		switch {
		case isWord(n.Value):
		case isInt(n.Value):
			n.Tag = "!!int"
		default:
			n.Tag = ""
			n.Tag = n.ShortTag() // as the library resolves it
		}
	}
	return n
}

// isWord reports, cheaply, of some scalars that they cannot be anything but text.
func isWord(s string) bool {
	if c := s[0] | 0x20; c < 'a' || c > 'z' {
		return s[0] == '/' || s[0] == '$' || s[0] == '(' || isMeasure(s)
	}
	if len(s) > len("false") || strings.IndexByte("tfnyo", s[0]|0x20) < 0 {
		return true
	}
	return !slices.ContainsFunc(meaningWords, func(word string) bool { return strings.EqualFold(word, s) })
}

// meaningWords are those that some YAML takes for more than text.
var meaningWords = []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}

// isMeasure reports whether a decimal number with a letter behind begins here, as
// in 100m: no number to YAML, but for one with an exponent.
func isMeasure(s string) bool {
	digits := decimals(s)
	if digits == 0 || digits == len(s) {
		return false
	}
	c := s[digits] | 0x20
	return c >= 'a' && c <= 'z' && c != 'e'
}

// isInt reports, of numbers that anyone writes, that they are whole.
func isInt(s string) bool { return len(s) <= maxPlainInt && decimals(s) == len(s) }

// maxPlainInt is how many digits every 64-bit number has room for.
const maxPlainInt = 18

// decimals is the length of the decimal number that s begins with.
func decimals(s string) int {
	if s == "" || s[0] < '1' || s[0] > '9' {
		return 0
	}
	n := 1
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// line reads the value that takes the rest of the line and moves on.
func (p *plainParser) line() *yaml.Node {
	var n *yaml.Node
	rest := p.rest()
	switch c := rest[0]; {
	case c == '"' || c == '\'':
		length := quoted(rest)
		if length == 0 {
			return p.fail()
		}
		n = p.scalar(p.start, p.start+length)
		p.start += length
	case c == '[' || c == '{':
		n = p.flow()
	case plainFirst(c) || c == '-' && len(rest) > 1 && rest[1] != ' ':
		length := len(rest)
		if comment := strings.Index(rest, " #"); comment >= 0 {
			length = len(strings.TrimRight(rest[:comment], " "))
		}
		if word := rest[:length]; word[length-1] == ':' || strings.Contains(word, ": ") {
			return p.fail()
		}
		n = p.scalar(p.start, p.start+length)
		p.start += length
	default:
		return p.fail()
	}
	if p.strange || p.start < p.end && !strings.HasPrefix(strings.TrimLeft(p.text[p.start:p.end], " "), "#") || p.start < p.end && p.text[p.start] != ' ' {
		return p.fail()
	}
	p.next()
	return n
}

// flow reads the list or mapping in brackets that begins here and ends on this
// line.
func (p *plainParser) flow() *yaml.Node {
	if p.depth++; p.depth > plainDepth {
		return p.fail()
	}
	defer func() { p.depth-- }()
	n := p.node(yaml.SequenceNode, "!!seq", p.start)
	closing := byte(']')
	if p.text[p.start] == '{' {
		n.Kind, n.Tag, closing = yaml.MappingNode, "!!map", '}'
	}
	n.Style = yaml.FlowStyle
	from := len(p.stack)
	p.start++
	for p.skip(); ; p.skip() {
		if p.start < p.end && p.text[p.start] == closing && len(p.stack) == from {
			break
		}
		if n.Kind == yaml.MappingNode {
			key := p.flowScalar()
			if p.strange || !strings.HasPrefix(p.text[p.start:p.end], ": ") {
				return p.fail()
			}
			p.stack = append(p.stack, key)
			p.start++
			p.skip()
		}
		var item *yaml.Node
		if p.start < p.end && (p.text[p.start] == '[' || p.text[p.start] == '{') {
			item = p.flow()
		} else {
			item = p.flowScalar()
		}
		if p.strange {
			return nil
		}
		p.stack = append(p.stack, item)
		p.skip()
		if p.start < p.end && p.text[p.start] == closing {
			break
		}
		if p.start == p.end || p.text[p.start] != ',' {
			return p.fail()
		}
		p.start++
	}
	p.start++
	return p.close(n, from)
}

func (p *plainParser) skip() {
	for p.start < p.end && p.text[p.start] == ' ' {
		p.start++
	}
}

// flowScalar reads one inside brackets.
func (p *plainParser) flowScalar() *yaml.Node {
	rest := p.rest()
	if rest == "" {
		return p.fail()
	}
	length := 0
	if rest[0] == '"' || rest[0] == '\'' {
		length = quoted(rest)
	} else if plainFirst(rest[0]) || rest[0] == '-' && len(rest) > 1 && (rest[1] == '-' || plainFirst(rest[1])) {
		for length < len(rest) && (plainFirst(rest[length]) || strings.IndexByte("-=+)@", rest[length]) >= 0) {
			length++
		}
	}
	if length == 0 || length > maxPlainKey {
		return p.fail()
	}
	n := p.scalar(p.start, p.start+length)
	p.start += length
	if p.start < p.end && strings.IndexByte(" ,]}:", p.text[p.start]) < 0 {
		return p.fail()
	}
	return n
}
