package child

import (
	"encoding/json"
	"errors"

	"fairlead/schema"
	"fairlead/schema/load/yaml"
)

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
	Object = iota
	List
	String
	Int
	Float
	Bool
	Null
	Bytes
)

var flatTags = [...]string{"!!map", "!!seq", "!!str", "!!int", "!!float", "!!bool", "!!null", "!!binary"}

// Place is a position as an evaluator gives it; the zero place is unknown.
type Place struct {
	File         string
	Line, Column int
}

// Writer writes one object out, each node before those in it; the zero Writer is empty.
type Writer struct {
	tree  flatTree
	files map[string]int
}

func (w *Writer) place(p Place) {
	index, known := w.files[p.File]
	if !known {
		if w.files == nil {
			w.files = make(map[string]int)
		}
		index = len(w.tree.Files)
		w.files[p.File] = index
		w.tree.Files = append(w.tree.Files, p.File)
	}
	w.tree.Numbers = append(w.tree.Numbers, index, p.Line, p.Column)
}

func (w *Writer) text(s string) {
	w.tree.Texts = append(w.tree.Texts, s)
}

// Key writes the key of what comes next into the object around it.
func (w *Writer) Key(name string, p Place) {
	w.text(name)
	w.place(p)
}

// Composite begins an Object or List of so many children, which come next.
func (w *Writer) Composite(kind, children int, p Place) {
	w.tree.Numbers = append(w.tree.Numbers, kind, children)
	w.place(p)
}

// Scalar writes any other node.
func (w *Writer) Scalar(kind int, value string, p Place) {
	w.tree.Numbers = append(w.tree.Numbers, kind)
	w.place(p)
	w.text(value)
}

// Encode is what was written, as Response.Objects has it.
func (w *Writer) Encode() ([]byte, error) { return json.Marshal(w.tree) }

var errFlat = errors.New("malformed tree")

// Document is an object that came from a child.
func Document(encoded []byte) (*yaml.Document, error) {
	root, path, paths, err := readFlat(encoded)
	if err != nil {
		return nil, err
	}
	again := func() *yaml.Document {
		doc, _ := Document(encoded)
		return doc
	}
	return &yaml.Document{Path: path, Node: root, Paths: paths, Again: again}, nil
}

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
	if !ok || depth > yaml.MaxDepth {
		return nil, errFlat
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: flatTags[kind]}
	if kind > List {
		return n, r.scalar(n, kind)
	}
	n.Kind = yaml.SequenceNode
	if kind == Object {
		n.Kind = yaml.MappingNode
	}
	children, ok := r.number(len(r.numbers))
	if !ok || !r.place(n) {
		return nil, errFlat
	}
	for range children {
		if kind == Object {
			key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.QuotedStyle}
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
	if kind == String || kind == Bytes {
		n.Style = yaml.QuotedStyle
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
