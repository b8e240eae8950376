package load

import (
	"fmt"
	"path"
	"sync"
	"weak"

	"fairlead/schema"
	"fairlead/schema/load/yaml"
)

// source is one YAML or JSON file. It can be read again, to find the position of
// a field long after its nodes are gone; what was read last is kept as long as
// the garbage collector lets it, so that many questions about one file cost one
// reading.
type source struct {
	file schema.File
	base string // of the selection that took it
	mu   sync.Mutex
	last weak.Pointer[parsedFile]
}

// parsedFile is a file cut into chunks. Roots are the parsed documents of chunk
// number `chunk`, used by Locate only.
type parsedFile struct {
	chunks []yaml.Chunk
	chunk  int
	roots  []*yaml.Node
}

func (p *parsedFile) size() (bytes int64) {
	for _, c := range p.chunks {
		bytes += int64(len(c.Text))
	}
	return bytes
}

// read opens and cuts the file. A nil parsedFile comes with an error.
func (s *source) read() (*parsedFile, schema.Diagnostics) {
	at := schema.Position{Path: s.file.Path}
	text, err := s.file.Open()
	if err != nil {
		return nil, schema.Diagnostics{{Position: at, Severity: schema.Error, Message: fmt.Sprintf("cannot be read: %v", err)}}
	}
	if len(text) > schema.MaxFileSize {
		return nil, schema.Diagnostics{{Position: at, Severity: schema.Error, Message: fmt.Sprintf("more than the %d bytes that are read", schema.MaxFileSize), Hint: selection{base: s.base}.hint(s.file.Path)}}
	}
	if problem := sealed(s.file.Path, text); problem != nil {
		return nil, schema.Diagnostics{*problem}
	}
	if s.isJSON() {
		return &parsedFile{chunks: []yaml.Chunk{{Text: text}}, chunk: -1}, nil
	}
	return &parsedFile{chunks: yaml.Split(text), chunk: -1}, nil
}

// reopen has the file read from where it is now: the same bytes.
func (s *source) reopen(from *schema.Blob) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file.Blob = from
}

func (s *source) isJSON() bool { return path.Ext(s.file.Path) == ".json" }

func (s *source) parse(text []byte, nodes *yaml.Arena) ([]*yaml.Node, *yaml.SyntaxError) {
	if s.isJSON() {
		return yaml.ParseJSON(text)
	}
	return yaml.ParseYAML(text, nodes)
}

// documents parses one chunk; they live as long as the arena lets them.
func (s *source) documents(p *parsedFile, index int, nodes *yaml.Arena) ([]yaml.Document, *schema.Diagnostic) {
	c := p.chunks[index]
	roots, problem := s.parse(c.Text, nodes)
	documents := make([]yaml.Document, len(roots))
	for i, root := range roots {
		documents[i] = yaml.Document{Path: s.file.Path, Node: root, Line: c.Line, Again: func() *yaml.Document { return s.again(index, i) }}
	}
	if problem != nil {
		d := problem.Diagnostic(s.file.Path, c.Line)
		return documents, &d
	}
	return documents, nil
}

// again reads one document anew; nil if the file has changed meanwhile and has
// no such document any more.
func (s *source) again(index, number int) *yaml.Document {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.last.Value()
	if p == nil {
		p, _ = s.read()
	}
	if p == nil || index >= len(p.chunks) {
		return nil
	}
	if p.chunk != index {
		roots, _ := s.parse(p.chunks[index].Text, new(yaml.Arena))
		p = &parsedFile{chunks: p.chunks, chunk: index, roots: roots}
	}
	s.last = weak.Make(p)
	if number >= len(p.roots) {
		return nil
	}
	return &yaml.Document{Path: s.file.Path, Node: p.roots[number], Line: p.chunks[index].Line}
}
