package kustomize

import (
	"bytes"
	"fmt"
	"iter"
	"path"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/types"

	"fairlead/schema"
	"fairlead/schema/load/child"
	"fairlead/schema/load/yaml"
)

// What comes out of the library says little of where it was written, and what it could
// be made to note in annotations would change what patches see. So the place of a value
// is found by looking for it: in the patches that may have made it, the outermost first,
// in what other fields of the kustomizations do, and in the object's own document.

// sources are what the objects of a unit are made from.
type sources struct {
	ways      []way // from the root, the outermost first
	documents []*document
	patches   []*patch // the one applied last comes first
	open      bool     // there is no Secret: what the library says may be told
}

// way is how a kustomization is reached from the root: what becomes of its names.
type way struct {
	*node
	prefix, suffix string
}

// document is one object as it is written, or as a generator writes it.
type document struct {
	spot
	kind, name  string
	final       string // the name that it ought to have in the end
	isGenerated bool   // a hash is added to that
}

// spot is a value as it is written in a file.
type spot struct {
	file         string
	line, column int // to be added to the node's
	node         *yaml.Node
}

func (s spot) place() child.Place {
	return child.Place{File: s.file, Line: s.node.Line + s.line, Column: s.node.Column + s.column}
}

// patch is one strategic merge patch, or one operation of a JSON patch.
type patch struct {
	spot
	target     *types.Selector // nil: the object that the patch itself names
	kind, name string
	pointer    []string // of the operation; nil for a merge
}

// maxWays bounds in how many ways the kustomizations of a unit are looked at: bases of
// bases may be reached in very many.
const maxWays = 10_000

func sourcesOf(root *node) *sources {
	s := &sources{}
	s.enter(way{node: root}, make(map[way]bool))
	for _, w := range s.ways {
		s.read(w)
	}
	s.open = true
	collect(root, make(map[*node]bool), func(n *node) { s.open = s.open && !holdsSecret(n) })
	return s
}

// holdsSecret reports whether a kustomization may make or change a Secret: whether any
// value in its files names that kind, in whatever form.
func holdsSecret(n *node) bool {
	return n.hidesValues() || slices.ContainsFunc(n.files, func(f schema.File) bool {
		text, err := f.Open()
		if err != nil || bytes.Contains(text, []byte("kind: Secret")) {
			return true
		}
		return slices.ContainsFunc(documentsOf(f.Path, text), func(at spot) bool { return namesSecret(at.node) })
	})
}

// namesSecret reports whether the kind is in a value below a node. Aliases are not
// followed: what they stand for is below another one.
func namesSecret(n *yaml.Node) bool {
	if n.Kind == yaml.ScalarNode {
		return strings.Contains(n.Value, "Secret")
	}
	for i, c := range n.Content {
		isKey := n.Kind == yaml.MappingNode && i%2 == 0
		if !isKey && namesSecret(c) {
			return true
		}
	}
	return false
}

func (s *sources) enter(w way, seen map[way]bool) {
	if seen[w] || len(s.ways) == maxWays {
		return
	}
	seen[w] = true
	s.ways = append(s.ways, w)
	prefix, suffix := w.prefix+w.says.NamePrefix, w.says.NameSuffix+w.suffix
	for _, below := range w.below {
		s.enter(way{below, prefix, suffix}, seen)
	}
}

// read takes in what one kustomization names.
func (s *sources) read(w way) {
	texts := make(map[string][]byte)
	for _, f := range w.files {
		if text, err := f.Open(); err == nil {
			texts[f.Path] = text
		}
	}
	for _, r := range w.uses {
		name := path.Join(w.dir, r.to)
		text, isFile := texts[name]
		switch field, _, _ := strings.Cut(r.field, "["); {
		case isFile && (field == "resources" || field == "bases"):
			for _, at := range documentsOf(name, text) {
				s.document(w, at, make(map[*yaml.Node]bool))
			}
		case isFile && field == "generators":
			s.configured(w, documentsOf(name, text))
		case r.isText() && field == "generators":
			s.configured(w, w.inlineAt(r.field, r.to))
		}
	}
	for field, g := range w.generators() {
		kind := "ConfigMap"
		if strings.HasPrefix(field, "secret") {
			kind = "Secret"
		}
		s.generator(w, kind, field, g, texts)
	}
	s.patchesOf(w, texts)
}

// documentsOf are the documents of a file, each where it stands.
func documentsOf(name string, text []byte) (out []spot) {
	chunks := []yaml.Chunk{{Text: text}}
	parse := yaml.ParseJSON
	if path.Ext(name) != ".json" {
		chunks = yaml.Split(text)
		parse = func(text []byte) ([]*yaml.Node, *yaml.SyntaxError) { return yaml.ParseYAML(text, new(yaml.Arena)) }
	}
	for _, c := range chunks {
		roots, _ := parse(bytes.TrimPrefix(c.Text, []byte("\xef\xbb\xbf")))
		for _, root := range roots {
			out = append(out, spot{file: name, line: c.Line, node: root})
		}
	}
	return out
}

// document takes in an object, or those of a list, each once: aliases of lists may name
// it any number of times.
func (s *sources) document(w way, at spot, seen map[*yaml.Node]bool) {
	if seen[at.node] {
		return
	}
	seen[at.node] = true
	kind := yaml.TextAt(at.node, "kind")
	if items := yaml.Child(at.node, "items"); strings.HasSuffix(kind, "List") && items != nil && items.Kind == yaml.SequenceNode {
		for _, item := range items.Content {
			s.document(w, spot{at.file, at.line, at.column, yaml.Target(item)}, seen)
		}
		return
	}
	name := yaml.TextAt(at.node, "metadata.name")
	s.documents = append(s.documents, &document{spot: at, kind: kind, name: name, final: w.named(name)})
}

// configured takes in what generators make that are configured in files of their own.
func (s *sources) configured(w way, all []spot) {
	for _, at := range all {
		name := yaml.TextAt(at.node, "name")
		if name == "" {
			name = yaml.TextAt(at.node, "metadata.name")
		}
		kind := strings.TrimSuffix(yaml.TextAt(at.node, "kind"), "Generator")
		s.documents = append(s.documents, &document{spot: at, kind: kind, name: name, final: w.named(name), isGenerated: true})
	}
}

// named is what becomes of a name that is written in the kustomization.
func (w way) named(name string) string {
	return w.prefix + w.says.NamePrefix + name + w.says.NameSuffix + w.suffix
}

// generators are those that stand in a kustomization, by field.
func (k *kustomization) generators() iter.Seq2[string, types.GeneratorArgs] {
	return func(yield func(string, types.GeneratorArgs) bool) {
		for i, g := range k.says.ConfigMapGenerator {
			if !yield(fmt.Sprintf("configMapGenerator[%d]", i), g.GeneratorArgs) {
				return
			}
		}
		for i, g := range k.says.SecretGenerator {
			if !yield(fmt.Sprintf("secretGenerator[%d]", i), g.GeneratorArgs) {
				return
			}
		}
	}
}

// generator takes in a ConfigMap or Secret as if it were written in the kustomization,
// each of its keys where its value is named.
func (s *sources) generator(w way, kind, field string, g types.GeneratorArgs, texts map[string][]byte) {
	data := &yaml.Node{Kind: yaml.MappingNode}
	add := func(field, key, value string) {
		n, _ := yaml.Locate(w.root, field)
		at := func(text string) *yaml.Node {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Line: n.Line, Column: n.Column}
		}
		data.Content = append(data.Content, at(key), at(value))
	}
	for i, l := range g.LiteralSources {
		key, value, _ := strings.Cut(l, "=")
		add(fmt.Sprintf("%s.literals[%d]", field, i), key, strings.Trim(value, `"'`))
	}
	for i, f := range g.FileSources {
		key, _, isNamed := strings.Cut(f, "=")
		if !isNamed {
			key = path.Base(f)
		}
		add(fmt.Sprintf("%s.files[%d]", field, i), key, "")
	}
	variables := &yaml.Node{Kind: yaml.MappingNode}
	files := slices.Concat(g.EnvSources, []string{g.EnvSource})
	for _, f := range files {
		variables.Content = append(variables.Content, variablesIn(texts[path.Join(w.dir, f)])...)
	}
	entry, _ := yaml.Locate(w.root, field)
	data.Line, data.Column = entry.Line, entry.Column
	named, _ := yaml.Locate(w.root, field+".name")
	of := func(children ...*yaml.Node) *yaml.Node {
		return &yaml.Node{Kind: yaml.MappingNode, Line: entry.Line, Column: entry.Column, Content: children}
	}
	key := func(name string) *yaml.Node {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name, Line: entry.Line, Column: entry.Column}
	}
	if len(variables.Content) > 0 {
		env := slices.IndexFunc(files, func(f string) bool { return texts[path.Join(w.dir, f)] != nil })
		s.patches = append(s.patches, &patch{
			spot: spot{file: path.Join(w.dir, files[env]), node: &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{key("data"), variables}}},
			kind: kind, name: g.Name,
		})
	}
	if g.Behavior == "merge" || g.Behavior == "replace" {
		s.patches = append(s.patches, &patch{spot: spot{file: w.file, node: of(key("data"), data, key("binaryData"), data)}, kind: kind, name: g.Name})
		return
	}
	whole := of(key("metadata"), of(key("name"), named), key("data"), data, key("binaryData"), data)
	s.documents = append(s.documents, &document{
		spot: spot{file: w.file, node: whole}, kind: kind, name: g.Name, final: w.named(g.Name), isGenerated: true,
	})
}

// variablesIn are the keys and values of a file of variables, as those of an object.
func variablesIn(text []byte) (out []*yaml.Node) {
	number := 0
	for line := range bytes.Lines(text) {
		number++
		key, value, _ := strings.Cut(strings.TrimSpace(string(line)), "=") // without =, the value is empty
		if key == "" || strings.HasPrefix(key, "#") {
			continue
		}
		at := func(text string) *yaml.Node {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Line: number, Column: 1}
		}
		out = append(out, at(key), at(value))
	}
	return out
}

// patchesOf takes in a kustomization's patches.
func (s *sources) patchesOf(w way, texts map[string][]byte) {
	var own []*patch
	add := func(field, file, text string, target *types.Selector) {
		if known, ok := texts[path.Join(w.dir, file)]; ok && file != "" {
			own = append(own, patchesIn(documentsOf(path.Join(w.dir, file), known), target)...)
			return
		}
		own = append(own, patchesIn(w.inlineAt(field, text), target)...)
	}
	for i, p := range w.says.PatchesStrategicMerge {
		add(fmt.Sprintf("patchesStrategicMerge[%d]", i), string(p), string(p), nil)
	}
	for i, p := range w.says.PatchesJson6902 {
		add(fmt.Sprintf("patchesJson6902[%d].patch", i), p.Path, p.Patch, p.Target)
	}
	for i, p := range w.says.Patches {
		add(fmt.Sprintf("patches[%d].patch", i), p.Path, p.Patch, p.Target)
	}
	slices.Reverse(own)
	s.patches = append(s.patches, own...)
}

// inlineAt are the documents of a text that stands in the kustomization itself.
func (w way) inlineAt(field, text string) []spot {
	n, _ := yaml.Locate(w.root, field)
	all := documentsOf("", []byte(text))
	for i := range all {
		all[i].file = w.file
		if n.Style&yaml.LiteralStyle == 0 {
			all[i].node = placed(all[i].node, n, make(map[*yaml.Node]*yaml.Node)) // its lines are not those of the file
			continue
		}
		all[i].line += n.Line
		all[i].column += indentOf(w.text, n.Line+1)
	}
	return all
}

// placed is a copy of a value that stands as a whole at one place. What aliases stand for
// is copied once: aliases of aliases would make any number of copies.
func placed(n, at *yaml.Node, copies map[*yaml.Node]*yaml.Node) *yaml.Node {
	n = yaml.Target(n)
	if known := copies[n]; known != nil {
		return known
	}
	out := *n
	copies[n] = &out
	out.Line, out.Column, out.Content = at.Line, at.Column, make([]*yaml.Node, len(n.Content))
	for i, c := range n.Content {
		out.Content[i] = placed(c, at, copies)
	}
	return &out
}

// indentOf is how far a line of a text is indented.
func indentOf(text []byte, number int) int {
	for line := range bytes.Lines(text) {
		if number--; number == 0 {
			return len(line) - len(bytes.TrimLeft(line, " "))
		}
	}
	return 0
}

// patchesIn are the patches among some documents: a list is one of operations.
func patchesIn(all []spot, target *types.Selector) (out []*patch) {
	for _, at := range all {
		if at.node.Kind != yaml.SequenceNode {
			out = append(out, &patch{spot: at, target: target, kind: yaml.TextAt(at.node, "kind"), name: yaml.TextAt(at.node, "metadata.name")})
			continue
		}
		for _, op := range at.node.Content {
			value := yaml.Child(op, "value")
			if value == nil {
				continue // it makes nothing that could be found
			}
			pointer := strings.Split(strings.TrimPrefix(yaml.TextAt(op, "path"), "/"), "/")
			for i := range pointer {
				pointer[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(pointer[i])
			}
			out = append(out, &patch{spot: spot{at.file, at.line, at.column, value}, target: target, pointer: pointer})
		}
	}
	return out
}

// of are the places where an object's values may be written.
func (s *sources) of(object map[string]any) *spots {
	kind, _ := object["kind"].(string)
	meta, _ := object["metadata"].(map[string]any)
	name, _ := meta["name"].(string)
	d := s.documentOf(kind, name)
	out := &spots{sources: s, near: child.Place{File: s.ways[0].file}}
	written := name
	if d != nil {
		written, out.near = d.name, d.place()
	}
	for _, p := range s.patches {
		switch {
		case !p.isFor(kind, written, name):
		case p.pointer != nil:
			out.operations = append(out.operations, p)
		default:
			out.from = append(out.from, p.spot)
		}
	}
	if d != nil {
		out.from = append(out.from, d.spot)
		out.hasOwn = true
	}
	return out
}

// documentOf is the document that an object was made from: the one that comes nearest to
// its name in the end; nil for none.
func (s *sources) documentOf(kind, name string) *document {
	var best *document
	bestScore := 0
	for _, d := range s.documents {
		if d.kind != kind {
			continue
		}
		score := 1 // a patch may have given it any name
		switch {
		case d.final == name, d.isGenerated && isHashed(name, d.final):
			score = 4
		case d.name == name:
			score = 3
		case d.name != "" && strings.Contains(name, d.name):
			score = 2
		}
		if score > bestScore {
			best, bestScore = d, score
		}
	}
	return best
}

// isHashed reports whether a name is another one with the hash that a generator adds.
func isHashed(name, of string) bool {
	hash, ok := strings.CutPrefix(name, of+"-")
	return ok && len(hash) == hashLength
}

// hashLength is that of the hash at the end of a generated name.
const hashLength = 10

// isFor reports whether a patch may be for an object, which is written with a name and
// has another in the end. Labels are not looked at: a value that the patch did not make
// is not found in it either.
func (p *patch) isFor(kind, written, final string) bool {
	if p.target == nil {
		return p.kind == kind && (p.name == written || p.name == final || strings.Contains(final, p.name))
	}
	matches := func(pattern, text string) bool {
		r, err := regexp.Compile("^(?:" + pattern + ")$")
		return pattern == "" || err == nil && r.MatchString(text)
	}
	return matches(p.target.Kind, kind) && (matches(p.target.Name, written) || matches(p.target.Name, final))
}

// at is where a field of a kustomization stands, as a place.
func (w way) at(field string) child.Place {
	at := w.kustomization.at(field)
	return child.Place{File: at.Path, Line: at.Line, Column: at.Column}
}

// positionOf is a place as diagnostics name it.
func positionOf(p child.Place) schema.Position {
	return schema.Position{Path: p.File, Line: p.Line, Column: p.Column}
}
