package yaml

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"fairlead/schema"
)

// Locator finds fields of the object that stands at prefix in a document, by
// reading the document again.
func Locator(again func() *Document, at schema.Position, prefix string) func(string) schema.Position {
	return func(field string) schema.Position {
		if again == nil {
			return at
		}
		doc := again()
		if doc == nil {
			return at
		}
		root := doc.Node
		if prefix != "" {
			root = locateObject(root, strings.TrimSuffix(prefix, "."))
		}
		n, _ := Locate(root, field)
		return doc.Position(n)
	}
}

// locateObject goes down to an item of a List.
func locateObject(root *yaml.Node, path string) *yaml.Node {
	n := root
	for _, step := range steps(path) {
		_, n = step.find(n)
		if n == nil {
			return root
		}
	}
	return n
}

// Locate is the node a person should look at for a field: a scalar itself, the
// key of an object or list, the nearest ancestor of what is not written down
// (and then false). What a Secret's data lacks is missed by its stringData, or by
// its type.
func Locate(root *yaml.Node, field string) (*yaml.Node, bool) {
	n, found := locateExact(root, field)
	if rest, isData := strings.CutPrefix(field, "data["); isData && !found {
		if s, ok := locateExact(root, "stringData["+rest); ok {
			return s, true
		}
	}
	if field == "data" && !found {
		for _, name := range []string{"stringData", "type"} {
			if s, ok := locateExact(root, name); ok {
				return s, false
			}
		}
	}
	return n, found
}

func locateExact(root *yaml.Node, field string) (*yaml.Node, bool) {
	last, n := root, root
	for _, step := range steps(field) {
		key, value := step.find(n)
		if value == nil {
			return last, false
		}
		last, n = key, value
		if value.Kind == yaml.ScalarNode && !IsNull(value) {
			last = value
		}
	}
	return last, true
}

// step is one step of a field path: a name, or what stands in brackets.
type step struct {
	name     string
	bracket  bool
	position int // of a list element; -1 if name is no number
}

func steps(field string) []step {
	var out []step
	for field != "" {
		if field[0] == '[' {
			name, rest, _ := strings.Cut(field[1:], "]")
			position, err := strconv.Atoi(name)
			if err != nil {
				position = -1
			}
			out = append(out, step{name: name, bracket: true, position: position})
			field = strings.TrimPrefix(rest, ".")
			continue
		}
		end := strings.IndexAny(field, ".[")
		if end < 0 {
			end = len(field)
		}
		out = append(out, step{name: field[:end]})
		field = strings.TrimPrefix(field[end:], ".")
	}
	return out
}

// find is the key and value one step below n; for a list element both are the
// element. Nil when it is not written down.
func (s step) find(n *yaml.Node) (key, value *yaml.Node) {
	n = Target(n)
	switch {
	case n.Kind == yaml.MappingNode:
		return findKey(n, s.name, nil)
	case n.Kind != yaml.SequenceNode || !s.bracket:
		return nil, nil
	case s.position >= 0 && s.position < len(n.Content):
		return n.Content[s.position], n.Content[s.position]
	}
	return s.findElement(n)
}

// findElement finds a list element by its key, "name=api" or "port=53/UDP".
func (s step) findElement(list *yaml.Node) (key, value *yaml.Node) {
	name, want, ok := strings.Cut(s.name, "=")
	if !ok {
		return nil, nil
	}
	number, _, _ := strings.Cut(want, "/")
	for _, element := range list.Content {
		if v := Child(element, name); v != nil && (v.Value == want || v.Value == number) {
			return element, element
		}
	}
	return nil, nil
}

// Child is the value of an object's own or merged key; nil without one.
func Child(n *yaml.Node, name string) *yaml.Node {
	n = Target(n)
	if n.Kind != yaml.MappingNode {
		return nil
	}
	_, value := findKey(n, name, nil)
	if value == nil {
		return nil
	}
	return Target(value)
}

// Member is the key and the value of an object's own or merged key; nil without one.
func Member(n *Node, name string) (key, value *Node) { return findKey(Target(n), name, nil) }

// TextAt is the scalar at a field; empty if there is none.
func TextAt(n *Node, field string) string {
	for name := range strings.SplitSeq(field, ".") {
		if n = Child(n, name); n == nil {
			return ""
		}
	}
	return n.Value
}

// Scalars calls do for each scalar below a node that has no aliases, with the way to it as
// Locate takes it.
func Scalars(root *Node, do func(field string, n *Node)) { scalarsBelow(root, "", do) }

func scalarsBelow(n *Node, field string, do func(field string, n *Node)) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			step := "." + n.Content[i].Value
			if strings.ContainsAny(step[1:], ".[]/") || field == "" {
				step = n.Content[i].Value
				if field != "" {
					step = "[" + step + "]"
				}
			}
			scalarsBelow(n.Content[i+1], field+step, do)
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			scalarsBelow(c, fmt.Sprintf("%s[%d]", field, i), do)
		}
	case yaml.ScalarNode:
		do(field, n)
	}
}

// Names are the names of the fields on the way to a field, without what stands in
// brackets.
func Names(field string) (out []string) {
	for _, s := range steps(field) {
		if !s.bracket {
			out = append(out, s.name)
		}
	}
	return out
}

// CountNodes is how many values stand below a node, without what its own aliases name:
// the decoder of the object counts those.
func CountNodes(n *Node) int {
	count := 1
	for _, c := range n.Content {
		count += CountNodes(c)
	}
	return count
}

// findKey looks among an object's own keys, then among those it merges; visited
// keeps merges of merges from being walked more than once.
func findKey(n *yaml.Node, name string, visited map[*yaml.Node]bool) (key, value *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i], n.Content[i+1]
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if !isMerge(n.Content[i]) {
			continue
		}
		if visited == nil {
			visited = make(map[*yaml.Node]bool)
		}
		for _, source := range mergeSources(Target(n.Content[i+1])) {
			source = Target(source)
			if source.Kind != yaml.MappingNode || visited[source] {
				continue
			}
			visited[source] = true
			if key, value := findKey(source, name, visited); value != nil {
				return key, value
			}
		}
	}
	return nil, nil
}

// Target is what an alias stands for.
func Target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}
