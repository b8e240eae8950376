package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"

	"fairlead/schema"
)

// The parent sends one request and closes the pipe; the child answers with one
// line of JSON for each directory, in the order asked, and ends.

// Bounds on what passes between parent and child.
const (
	maxCUEText     = 64 << 20  // bytes of CUE in one tree
	maxCUERequest  = 128 << 20 // bytes; text travels as base64
	maxCUEResponse = 128 << 20 // bytes for one directory
)

// cueVersion is raised when request or response change their meaning, and with
// it everything remembered is forgotten.
const cueVersion = 1

type cueRequest struct {
	Version     int       `json:"version"`
	Limits      CUELimits `json:"limits"`
	Files       []cueFile `json:"files"`
	Directories []string  `json:"directories"` // to be evaluated, "." for the root
}

type cueFile struct {
	Path string `json:"path"`
	Text []byte `json:"text"`
}

// cueResponse is what one directory evaluates to.
type cueResponse struct {
	Directory   string             `json:"directory"`
	Objects     []json.RawMessage  `json:"objects,omitempty"` // each a flatTree
	Diagnostics schema.Diagnostics `json:"diagnostics,omitempty"`
	Used        []string           `json:"used,omitempty"`  // directories whose files or absence mattered
	Whole       bool               `json:"whole,omitempty"` // any file of the tree may have mattered
}

func readRequest(r io.Reader) (cueRequest, error) {
	var req cueRequest
	if err := json.NewDecoder(io.LimitReader(r, maxCUERequest)).Decode(&req); err != nil {
		return cueRequest{}, fmt.Errorf("read request: %w", err)
	}
	if req.Version != cueVersion {
		return cueRequest{}, fmt.Errorf("request has version %d, want %d", req.Version, cueVersion)
	}
	return req, nil
}

var errResponseTooLong = fmt.Errorf("more than %d bytes", maxCUEResponse)

// readResponse reads one line; io.EOF says that there are no more.
func readResponse(r *bufio.Reader) (cueResponse, error) {
	line, err := readLine(r, maxCUEResponse)
	if err != nil {
		return cueResponse{}, err
	}
	var resp cueResponse
	if err := json.Unmarshal(line, &resp); err != nil {
		return cueResponse{}, fmt.Errorf("read response: %w", err)
	}
	return resp, nil
}

// readLine reads up to and with a newline. What ends without one is incomplete
// and not returned.
func readLine(r *bufio.Reader, most int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > most:
			return nil, errResponseTooLong
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// flatTree is a node tree written out from its root on, each node before its
// children. A node is its type; for an object or list the number of children;
// then file, line and column. What is inside an object has its key's name and
// position before it.
type flatTree struct {
	Files   []string `json:"f"`
	Numbers []int    `json:"n"`
	Texts   []string `json:"t"` // keys and scalars, in that order of the nodes
}

// The types of nodes, as numbers on the wire.
const (
	flatObject = iota
	flatList
	flatString
	flatInt
	flatFloat
	flatBool
	flatNull
	flatBytes
)

var flatTags = [...]string{"!!map", "!!seq", "!!str", "!!int", "!!float", "!!bool", "!!null", "!!binary"}

// place is a position as CUE gives it; the zero place is unknown.
type place struct {
	file         string
	line, column int
}

// flatWriter builds a flatTree.
type flatWriter struct {
	tree  flatTree
	files map[string]int
	size  int // of the texts
}

func (w *flatWriter) place(p place) {
	index, known := w.files[p.file]
	if !known {
		if w.files == nil {
			w.files = make(map[string]int)
		}
		index = len(w.tree.Files)
		w.files[p.file] = index
		w.tree.Files = append(w.tree.Files, p.file)
	}
	w.tree.Numbers = append(w.tree.Numbers, index, p.line, p.column)
}

func (w *flatWriter) text(s string) {
	w.tree.Texts = append(w.tree.Texts, s)
	w.size += len(s)
}

func (w *flatWriter) key(name string, p place) {
	w.text(name)
	w.place(p)
}

func (w *flatWriter) composite(kind, children int, p place) {
	w.tree.Numbers = append(w.tree.Numbers, kind, children)
	w.place(p)
}

func (w *flatWriter) scalar(kind int, value string, p place) {
	w.tree.Numbers = append(w.tree.Numbers, kind)
	w.place(p)
	w.text(value)
}

var errFlat = errors.New("malformed tree")

// readFlat turns an encoded flatTree into nodes. A node's file is told in files
// if it is not path, which is the root's.
func readFlat(encoded []byte) (root *yaml.Node, path string, files map[*yaml.Node]string, err error) {
	var tree flatTree
	if err := json.Unmarshal(encoded, &tree); err != nil {
		return nil, "", nil, err
	}
	r := flatReader{numbers: tree.Numbers, texts: tree.Texts, names: tree.Files, files: make(map[*yaml.Node]string)}
	root, err = r.node(0)
	if err != nil || len(r.numbers) > 0 || len(r.texts) > 0 {
		return nil, "", nil, errFlat
	}
	path = r.files[root]
	for n, file := range r.files {
		if file == path {
			delete(r.files, n)
		}
	}
	return root, path, r.files, nil
}

type flatReader struct {
	numbers []int
	texts   []string
	names   []string
	files   map[*yaml.Node]string
}

func (r *flatReader) node(depth int) (*yaml.Node, error) {
	kind, ok := r.number(len(flatTags) - 1)
	if !ok || depth > maxDepth {
		return nil, errFlat
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: flatTags[kind]}
	if kind > flatList {
		return n, r.scalar(n, kind)
	}
	n.Kind = yaml.SequenceNode
	if kind == flatObject {
		n.Kind = yaml.MappingNode
	}
	children, ok := r.number(len(r.numbers))
	if !ok || !r.place(n) {
		return nil, errFlat
	}
	for range children {
		if kind == flatObject {
			key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle}
			if !r.text(&key.Value) || !r.place(key) {
				return nil, errFlat
			}
			n.Content = append(n.Content, key)
		}
		child, err := r.node(depth + 1)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, child)
	}
	return n, nil
}

func (r *flatReader) scalar(n *yaml.Node, kind int) error {
	if kind == flatString || kind == flatBytes {
		n.Style = yaml.DoubleQuotedStyle
	}
	if !r.place(n) || !r.text(&n.Value) {
		return errFlat
	}
	return nil
}

func (r *flatReader) number(most int) (int, bool) {
	if len(r.numbers) == 0 || r.numbers[0] < 0 || r.numbers[0] > most {
		return 0, false
	}
	n := r.numbers[0]
	r.numbers = r.numbers[1:]
	return n, true
}

func (r *flatReader) place(n *yaml.Node) bool {
	const far = schema.MaxFileSize + 1 // no file has more lines or columns
	file, ok := r.number(len(r.names) - 1)
	if !ok {
		return false
	}
	r.files[n] = r.names[file]
	var known bool
	n.Line, ok = r.number(far)
	n.Column, known = r.number(far)
	return ok && known
}

func (r *flatReader) text(into *string) bool {
	if len(r.texts) == 0 {
		return false
	}
	*into = r.texts[0]
	r.texts = r.texts[1:]
	return true
}
