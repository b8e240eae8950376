package load

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"path"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"fairlead/schema/chance"
)

// drawTree writes a random tree through w and returns what must be read back.
func drawTree(t *rapid.T, w *flatWriter, depth int) *yaml.Node {
	drawPlace := func(label string) place {
		return place{
			file: rapid.SampledFrom([]string{"a.cue", "b/c.cue", ""}).Draw(t, label),
			line: rapid.IntRange(0, 1000).Draw(t, label), column: rapid.IntRange(0, 100).Draw(t, label),
		}
	}
	at := drawPlace("node")
	kind := rapid.IntRange(flatObject, flatBytes).Draw(t, "kind")
	if depth == 0 {
		kind = max(kind, flatString)
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: flatTags[kind], Line: at.line, Column: at.column, HeadComment: at.file}
	if kind >= flatString {
		n.Value = rapid.String().Draw(t, "value")
		if kind == flatString || kind == flatBytes {
			n.Style = yaml.DoubleQuotedStyle
		}
		w.scalar(kind, n.Value, at)
		return n
	}
	n.Kind = yaml.SequenceNode
	if kind == flatObject {
		n.Kind = yaml.MappingNode
	}
	children := rapid.IntRange(0, 3).Draw(t, "children")
	w.composite(kind, children, at)
	for range children {
		if kind == flatObject {
			name, at := rapid.String().Draw(t, "key"), drawPlace("key")
			w.key(name, at)
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name, Style: yaml.DoubleQuotedStyle, Line: at.line, Column: at.column, HeadComment: at.file})
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
		var w flatWriter
		want := drawTree(t, &w, 4)
		encoded, err := json.Marshal(w.tree)
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
func FuzzCUEResponse(f *testing.F) {
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
				doc := flatDocument(encoded)
				if doc == nil {
					continue
				}
				l := loader{}
				for _, d := range l.decodeDocument(*doc).diagnostics {
					if d.Line < 0 || d.Column < 0 {
						t.Error(d)
					}
				}
			}
		}
	})
}

// What comes to a child makes a file system that holds to its own rules.
func FuzzCUERequest(f *testing.F) {
	f.Add([]byte(`{"version": 1, "limits": {"memory": 1}, "files": [{"path": "a/b.cue", "text": "YTogMQ=="}], "directories": ["a"]}`))
	f.Add([]byte(`{"version": 1, "files": [{"path": "../x.cue"}, {"path": "/etc/x.cue"}, {"path": "a//b.cue"}, {"path": ""}, {"path": "a.cue"}, {"path": "a.cue"}]}`))
	f.Add([]byte(`{"version": 2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		req, err := readRequest(bytes.NewReader(text))
		if err != nil {
			return
		}
		files := newCUEFiles(req.Files)
		for name := range files.overlay {
			if path.Clean(name) != name || fromCUE(name) == name {
				t.Errorf("%q is not below %s", name, cueRoot)
			}
		}
		for dir := range files.names {
			root := files.moduleRoot(dir)
			if _, ok := files.texts[path.Join(root, moduleFile)]; !ok && root != dir {
				t.Errorf("module root %q of %q has no module file", root, dir)
			}
			for _, file := range files.manifests(dir) {
				if path.Dir(file) != dir {
					t.Errorf("%q in %q", file, dir)
				}
			}
		}
	})
}
