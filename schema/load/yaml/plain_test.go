package yaml

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// samePlain holds parsePlain to the library: the same nodes at the same places,
// or no answer.
func samePlain(t *testing.T, text string) (ok bool) {
	t.Helper()
	return samePlainIn(t, usedArena(), text)
}

// usedArena is one that has read something before.
func usedArena() *Arena {
	used := new(Arena)
	parsePlain([]byte(deploymentYAML(3)+deploymentYAML(4)), used)
	used.Reset()
	return used
}

// samePlainIn is samePlain with an arena that others have used and will use.
func samePlainIn(t *testing.T, used *Arena, text string) (ok bool) {
	t.Helper()
	defer used.Reset()
	got, ok := parsePlain([]byte(text), used)
	if !ok {
		return false
	}
	want, problem := parseAnyYAML([]byte(text))
	if problem != nil || len(want) != 1 {
		t.Fatalf("%q is read, and the library says: %d documents, %+v", text, len(want), problem)
	}
	if diff := cmp.Diff(bare(want[0]), bare(got)); diff != "" {
		t.Fatalf("%q is read otherwise than by the library (-library +plain):\n%s", text, diff)
	}
	return true
}

// bareNode is a node without comments.
type bareNode struct {
	Kind         yaml.Kind
	Style        yaml.Style
	Tag, Value   string
	Line, Column int
	Content      []bareNode
}

func bare(n *yaml.Node) bareNode {
	out := bareNode{Kind: n.Kind, Style: n.Style, Tag: n.Tag, Value: n.Value, Line: n.Line, Column: n.Column}
	for _, c := range n.Content {
		out.Content = append(out.Content, bare(c))
	}
	return out
}

// plainTexts are read without the library.
var plainTexts = []string{
	deploymentYAML(7),
	"a: 1",
	"- " + strings.Join([]string{"1", "0", "12345678901234567890", "123456789012345678", "1e5", "1E5", "1.5", "100m", "64Mi", "1_000m", "1x", "2001-12-14", "2001-12-14t21:59:43Z", "0x1F", "0b1", "08"}, "\n- "),
	"---\na: 1\n",
	"# comment\na: b # comment\n\n  # another\nc:   d   \n",
	"a:\n- b\n- c\nd: e\n",
	"a:\n  - b: 1\n    c: 2\n  -\n    d: 3\n  - e:\n      - f\n    g: h\n",
	"- a\n- b: c\n",
	"a: {b: c, d: [e, 'f', \"g: h\"], i: {}, j: []} # comment",
	"args: [\"--listen\", ':8080', --port=8080, -v, a/b@c]",
	"\"a\": 'b'\n'c d': \"e # f\"\n",
	"a: true\nb: False\nc: null\nd: 12\ne: 0x1F\nf: 1.5\ng: 1e3\nh: 2001-01-01\ni: 0o17\nj: yes\nk: 'no'\nl: .5\nm: -3\nn: 1_000\no: 12:30:45\n",
	"on: off\nn: y\n1: 2\n",
	"url: http://example.org/a?b=c#d\nimage: registry:5000/a/b:1.2@sha256:00\n",
	"a: b c  d\n",
	"a: -b\nc: (d)\ne: $(f)\n",
	"a b: c\na.b/c-d: e\n",
}

// otherTexts are left to the library, which reads them or says what is wrong.
var otherTexts = []string{
	"", "# comment\n", "---\n", "a", "a:\n", "a:\nb: c\n", "a: |\n  b\n", "a: >-\n  b\n", "a: &b c\nd: *b\n", "a: !!str 1\n", "<<: {a: b}\n",
	"a: b\n  c\n", "- a\n  b\n", "a: \"b\n  c\"\n", "a: [b,\n  c]\n", "a: \"b\\n\"\n", "a: 'b''c'\n", "a:\tb\n", "a: \u00e4\n", "a: b\r\n",
	"a: b: c\n", "a: b:\n", "a:\n   b: 1\n  c: 2\n", "a: 1\n b: 2\n", "a:\n- b\n c: d\n", "- - a\n", "? a\n: b\n", "a: [b", "a: [b]]\n", "a: [b] c\n", "a: {b}\n", "a: {b: }\n", "a: [b, ]\n",
	"a: b\n...\n", "a: b\n---\nc: d\n", "--- a\n", "%YAML 1.2\n---\na: b\n", "a: 'b'c\n", "a: 'b'#c\n", "a: `b`\n", "a: @b\n", "[a]: b\n", "{a: b}\n", "a: - b\n", "-a\n", "a: [b: c]\n", "a: [-]\n", " a: b\n",
	"a: " + strings.Repeat("[", plainDepth+1) + strings.Repeat("]", plainDepth+1),
}

func TestPlainIsReadAsTheLibraryDoes(t *testing.T) {
	for _, text := range plainTexts {
		if !samePlain(t, text) {
			t.Errorf("left to the library: %q", text)
		}
	}
	for _, text := range otherTexts {
		if samePlain(t, text) {
			t.Errorf("not left to the library: %q", text)
		}
	}
}

// The manifests that people will copy are read the fast way, too.
func TestPlainReadsManifests(t *testing.T) {
	read, all := 0, 0
	err := filepath.WalkDir("../../../examples", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, c := range Split(text) {
			if all++; samePlain(t, string(c.Text)) {
				read++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if 10*read < 7*all || all == 0 {
		t.Errorf("%d of %d documents of the examples are read without the library", read, all)
	}
}

// Whatever is put together of YAML's own pieces is read as by the library or left
// to it.
func TestPlainPieces(t *testing.T) {
	pieces := []string{
		"a", "b c", "d.e/f", "1", "-2", "0x1f", "1.5", "true", "null", "~", "yes", "$(A)", "(", "@", "=", "'a'", "\"b\"", "'", "\"", "\\",
		":", ": ", "a: ", "b: ", "'c': ", "- ", "-", "- a: ", "? ", "#", " #", " ", "  ", "    ", "\n", "\n", "\n  ", "\n    ", "\n- ", "\n  - ",
		"[", "]", "{", "}", ", ", ",", "[]", "{}", "[a, b]", "{a: b}", "|", ">", "&x", "*x", "!", "%", "---", "...", "<<: ", "\t", "\r", "\u00e4",
	}
	random := rand.New(rand.NewPCG(1, 2))
	read := 0
	used := usedArena() // one for all: another for each takes most of the time
	for range 100_000 {
		var text strings.Builder
		for range 2 + random.IntN(12) {
			text.WriteString(pieces[random.IntN(len(pieces))])
		}
		if samePlainIn(t, used, text.String()) {
			read++
		}
	}
	if read < 500 {
		t.Errorf("%d texts are read without the library: the pieces show little", read)
	}
}

func FuzzPlain(f *testing.F) {
	for _, text := range append(plainTexts, otherTexts...) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, c := range Split([]byte(text)) {
			samePlain(t, string(c.Text))
		}
	})
}
