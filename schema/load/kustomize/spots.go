package kustomize

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"fairlead/schema/load/child"
	"fairlead/schema/load/yaml"
)

// spots are the places where one value of an object may be written.
type spots struct {
	sources    *sources
	way        []string // from the object to here
	from       []spot   // patches, the outermost first, and the object's own document
	hasOwn     bool     // the last of them is that
	operations []*patch
	key        child.Place
	near       child.Place // of what is around it and written
}

// place is the place of the value: of a scalar, where just that is written; of an object
// or list, for which text is nil, its own document.
func (s *spots) place(text *string) child.Place {
	if text == nil {
		if len(s.from) > 0 {
			return s.from[len(s.from)-1].place()
		}
		return s.near
	}
	from := s.from
	if way := strings.Join(s.way, "."); s.hasOwn && (way == "metadata.name" || way == "kind" || way == "apiVersion") {
		from = s.from[len(s.from)-1:] // a patch repeats it, to say what it is for
	}
	for _, at := range from {
		if n := yaml.Target(at.node); n.Kind == yaml.ScalarNode && n.Value == *text {
			return at.place()
		}
	}
	if at, ok := s.sources.transformed(s.way, *text); ok {
		return at
	}
	if len(s.from) > 0 {
		return s.from[len(s.from)-1].place()
	}
	return s.near
}

// below is a value one step down.
func (s *spots) below(step string) *spots {
	out := &spots{sources: s.sources, way: append(slices.Clip(s.way), step), operations: s.operations, near: s.place(nil)}
	for _, op := range s.operations {
		if slices.Equal(op.pointer, out.way) {
			out.from = append(out.from, op.spot)
		}
	}
	return out
}

// field is the value under a key.
func (s *spots) field(name string, value any) *spots {
	out := s.below(name)
	var keys []spot
	for range out.from {
		keys = append(keys, spot{}) // an operation has no key of its own
	}
	for i, at := range s.from {
		if key, child := yaml.Member(at.node, name); child != nil {
			out.from = append(out.from, spot{at.file, at.line, at.column, yaml.Target(child)})
			keys = append(keys, spot{at.file, at.line, at.column, key})
			out.hasOwn = s.hasOwn && i == len(s.from)-1
		}
	}
	out.key = out.keyPlace(keys, value)
	return out
}

// keyPlace is the place of a key: that of a scalar is where its value is.
func (s *spots) keyPlace(keys []spot, value any) child.Place {
	if text, ok := textOf(value); ok {
		at := s.place(&text)
		for i := range s.from {
			if keys[i].node != nil && s.from[i].place() == at {
				return keys[i].place()
			}
		}
		return at
	}
	if n := len(keys); n > 0 && keys[n-1].node != nil {
		return keys[n-1].place()
	}
	return s.place(nil)
}

// textOf is a scalar as it is written; false for what is none.
func textOf(value any) (string, bool) {
	switch value.(type) {
	case map[string]any, []any:
		return "", false
	}
	_, text := scalar(value)
	return text, true
}

// mergeKeys are what the elements of lists are told apart by, the commonest first.
var mergeKeys = []string{"name", "mountPath", "containerPort", "port", "key", "ip", "devicePath", "topologyKey", "host", "path"}

// element is the i-th value of a list of n.
func (s *spots) element(i, n int, value any) *spots {
	out := s.below(strconv.Itoa(i))
	for j, at := range s.from {
		list := yaml.Target(at.node)
		if list.Kind != yaml.SequenceNode {
			continue
		}
		if found := elementLike(list, value, i, n); found != nil {
			out.from = append(out.from, spot{at.file, at.line, at.column, yaml.Target(found)})
			out.hasOwn = s.hasOwn && j == len(s.from)-1
		}
	}
	return out
}

// elementLike is the element of a written list that a built one was made from.
func elementLike(list *yaml.Node, value any, i, n int) *yaml.Node {
	if object, ok := value.(map[string]any); ok {
		for _, key := range mergeKeys {
			text, isText := textOf(object[key])
			if _, has := object[key]; !has || !isText {
				continue
			}
			for _, e := range list.Content {
				if have := yaml.Child(e, key); have != nil && have.Value == text {
					return e
				}
			}
		}
	}
	if text, ok := textOf(value); ok {
		for _, e := range list.Content {
			if yaml.Target(e).Kind == yaml.ScalarNode && yaml.Target(e).Value == text {
				return e
			}
		}
	}
	if len(list.Content) == n {
		return list.Content[i]
	}
	return nil
}

// transformed is where a kustomization says what became of a value: the outermost that
// has a field for it.
func (s *sources) transformed(way []string, text string) (child.Place, bool) {
	if len(way) == 0 {
		return child.Place{}, false
	}
	last := way[len(way)-1]
	for _, w := range s.ways {
		field := ""
		switch {
		case last == "image":
			field = w.imageField(text)
		case last == "replicas" && len(way) == 2:
			field = w.replicasField(text)
		case last == "namespace" && w.says.Namespace == text:
			field = "namespace"
		case len(way) > 1:
			field = w.pairField(way[len(way)-2], last, text)
		}
		if field == "" {
			field = w.replacementField(way)
		}
		if field != "" {
			return w.at(field), true
		}
	}
	return child.Place{}, false
}

func (w way) imageField(text string) string {
	for i, image := range w.says.Images {
		name := image.Name
		if image.NewName != "" {
			name = image.NewName
		}
		rest, ok := strings.CutPrefix(text, name)
		if !ok || rest != "" && rest[0] != ':' && rest[0] != '@' {
			continue
		}
		for _, f := range []struct{ name, value string }{{"newTag", image.NewTag}, {"digest", image.Digest}, {"tagSuffix", image.TagSuffix}, {"newName", image.NewName}} {
			if f.value != "" && strings.Contains(text, f.value) {
				return fmt.Sprintf("images[%d].%s", i, f.name)
			}
		}
	}
	return ""
}

func (w way) replicasField(text string) string {
	for i, r := range w.says.Replicas {
		if strconv.FormatInt(r.Count, 10) == text {
			return fmt.Sprintf("replicas[%d].count", i)
		}
	}
	return ""
}

// pairField is the field that adds a label or an annotation.
func (w way) pairField(around, key, text string) string {
	switch around {
	case "annotations":
		if w.says.CommonAnnotations[key] == text && text != "" {
			return "commonAnnotations[" + key + "]"
		}
	case "labels", "matchLabels", "selector":
		if w.says.CommonLabels[key] == text && text != "" {
			return "commonLabels[" + key + "]"
		}
		for i, l := range w.says.Labels {
			if l.Pairs[key] == text && text != "" {
				return fmt.Sprintf("labels[%d].pairs[%s]", i, key)
			}
		}
	}
	return ""
}

// replacementField is the field that copies a value to where a way leads.
func (w way) replacementField(way []string) string {
	for i, r := range w.says.Replacements {
		for j, t := range r.Targets {
			for k, p := range t.FieldPaths {
				if slices.Equal(names(strings.Split(p, ".")), names(way)) {
					return fmt.Sprintf("replacements[%d].targets[%d].fieldPaths[%d]", i, j, k)
				}
			}
		}
	}
	return ""
}

// names are the steps of a way that are fields, not elements.
func names(way []string) (out []string) {
	for _, step := range way {
		if _, err := strconv.Atoi(step); err != nil && step != "*" && !strings.HasPrefix(step, "[") {
			out = append(out, step)
		}
	}
	return out
}
