package child

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"fairlead/schema/chance"
)

// drawTree writes a random tree through w and returns what must be read back.
func drawTree(t *rapid.T, w *Writer, depth int) *yaml.Node {
	drawPlace := func(label string) Place {
		return Place{
			File: rapid.SampledFrom([]string{"a.cue", "b/c.cue", ""}).Draw(t, label),
			Line: rapid.IntRange(0, 1000).Draw(t, label), Column: rapid.IntRange(0, 100).Draw(t, label),
		}
	}
	at := drawPlace("node")
	kind := rapid.IntRange(Object, Bytes).Draw(t, "kind")
	if depth == 0 {
		kind = max(kind, String)
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: flatTags[kind], Line: at.Line, Column: at.Column, HeadComment: at.File}
	if kind >= String {
		n.Value = rapid.String().Draw(t, "value")
		if kind == String || kind == Bytes {
			n.Style = yaml.DoubleQuotedStyle
		}
		w.Scalar(kind, n.Value, at)
		return n
	}
	n.Kind = yaml.SequenceNode
	if kind == Object {
		n.Kind = yaml.MappingNode
	}
	children := rapid.IntRange(0, 3).Draw(t, "children")
	w.Composite(kind, children, at)
	for range children {
		if kind == Object {
			name, at := rapid.String().Draw(t, "key"), drawPlace("key")
			w.Key(name, at)
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name, Style: yaml.DoubleQuotedStyle, Line: at.Line, Column: at.Column, HeadComment: at.File})
		}
		n.Content = append(n.Content, drawTree(t, w, depth-1))
	}
	return n
}

// fileInComment moves what readFlat tells beside the nodes into them.
func fileInComment(n *yaml.Node, path string, files map[*yaml.Node]string) {
	n.HeadComment = path
	if file, ok := files[n]; ok {
		n.HeadComment = file
	}
	for _, c := range n.Content {
		fileInComment(c, path, files)
	}
}

func TestFlatTree(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		var w Writer
		want := drawTree(t, &w, 4)
		encoded, err := w.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, path, files, err := readFlat(encoded)
		if err != nil {
			t.Fatal(err)
		}
		fileInComment(got, path, files)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-written +read):\n%s", diff)
		}
	})
}

// What comes from a child ends, holds to its bounds and never panics.
func FuzzResponse(f *testing.F) {
	f.Add([]byte(`{"directory": ".", "objects": [{"f": ["a.cue"], "n": [0, 1, 0, 1, 1, 0, 1, 1, 2, 0, 1, 4], "t": ["a", "b"]}]}` + "\n"))
	f.Add([]byte(`{"directory": ".", "objects": [{"n": [1, 1, 1, 1]}, 5, null], "diagnostics": [{"line": -1}]}` + "\n\n{}"))
	f.Add([]byte(`{"objects": [{"f": ["a"], "n": [0, 9223372036854775807, 0, 0, 0]}]}` + "\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bufio.NewReader(bytes.NewReader(stream))
		for {
			resp, err := readResponse(r)
			if err != nil {
				if errors.Is(err, io.EOF) && bytes.HasSuffix(stream, []byte("\n")) && r.Buffered() > 0 {
					t.Errorf("%d bytes left", r.Buffered())
				}
				return
			}
			for _, encoded := range resp.Objects {
				doc, err := Document(encoded)
				if err != nil {
					continue
				}
				if at := doc.Position(doc.Node); at.Line < 0 || at.Column < 0 {
					t.Error(at)
				}
				if again := doc.Again(); again == nil || again.Path != doc.Path {
					t.Errorf("read again it is %v", again)
				}
			}
		}
	})
}
