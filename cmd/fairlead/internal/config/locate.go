package config

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"
)

// located is err with the place in the file of everything that is wrong, each on a
// line of its own.
func located(path string, data []byte, into any, err error) error {
	top, parseErr := topMapping(data)
	if parseErr != nil {
		return fmt.Errorf("%s:%s", path, parseErr.Error())
	}
	wrong := repeated(top)
	for i := 0; i+1 < len(top.Content); i += 2 {
		wrong = append(wrong, mistakes(into, top.Content[i], top.Content[i+1])...)
	}
	if len(wrong) == 0 {
		return fmt.Errorf("%s: %w", path, err)
	}
	slices.SortStableFunc(wrong, func(a, b problem) int { return cmp.Or(a.at.Line-b.at.Line, a.at.Column-b.at.Column) })
	var all []error
	for _, w := range wrong {
		all = append(all, fmt.Errorf("%s:%d:%d: %s", path, w.at.Line, w.at.Column, w.says))
	}
	return errors.Join(all...)
}

// mostMistakes bounds how many of one field are told.
const mostMistakes = 20

// mistakes are what is wrong with one field. A reader tells of one at a time, so each is
// taken out before the next is looked for.
func mistakes(into any, key, value *yamlv3.Node) (out []problem) {
	for range mostMistakes {
		said := tryField(into, key, value)
		if said == nil {
			break
		}
		at := deepest(said, key, value)
		out = append(out, problem{at, sayField(said, into, at == key)})
		if at == key || !remove(value, at) {
			break
		}
	}
	return out
}

// remove takes a key out of the mapping that has it.
func remove(n, key *yamlv3.Node) bool {
	if i := slices.Index(n.Content, key); i >= 0 && n.Kind == yamlv3.MappingNode {
		n.Content = slices.Delete(n.Content, i, i+2)
		return true
	}
	return slices.ContainsFunc(n.Content, func(c *yamlv3.Node) bool { return remove(c, key) })
}

type problem struct {
	at   *yamlv3.Node
	says string
}

var parsed = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)`)

// topMapping is the file's mapping. Its error begins with a line and a colon.
func topMapping(data []byte) (*yamlv3.Node, error) {
	var doc yamlv3.Node
	if err := yamlv3.Unmarshal(data, &doc); err != nil {
		m := parsed.FindStringSubmatch(err.Error())
		return nil, fmt.Errorf("%s:1: %s", cmp.Or(m[1], "1"), m[2])
	}
	if len(doc.Content) == 0 {
		return &yamlv3.Node{Kind: yamlv3.MappingNode}, nil
	}
	if top := doc.Content[0]; top.Kind != yamlv3.MappingNode {
		return nil, fmt.Errorf("%d:%d: a configuration is a mapping of fields to values", top.Line, top.Column)
	}
	return doc.Content[0], nil
}

// repeated are the keys, at any depth, that stand twice in one mapping.
func repeated(n *yamlv3.Node) (out []problem) {
	seen := map[string]int{}
	for i, c := range n.Content {
		if n.Kind == yamlv3.MappingNode && i%2 == 0 {
			if line := seen[c.Value]; line != 0 {
				out = append(out, problem{c, fmt.Sprintf("%s is set already, in line %d", c.Value, line)})
			}
			seen[c.Value] = c.Line
			continue
		}
		out = append(out, repeated(c)...)
	}
	return out
}

// tryField reads one field alone; what is wrong with it is its own.
func tryField(into any, key, value *yamlv3.Node) error {
	alone := &yamlv3.Node{Kind: yamlv3.MappingNode, Content: []*yamlv3.Node{key, value}}
	data, err := yamlv3.Marshal(alone)
	if err != nil {
		return nil // an alias of elsewhere: the whole was read
	}
	return yaml.UnmarshalStrict(data, reflect.New(reflect.TypeOf(into).Elem()).Interface())
}

var (
	unknownField = regexp.MustCompile(`unknown field "([^"]+)"`)
	wrongType    = regexp.MustCompile(`cannot unmarshal (\w+) into Go struct field \w+\.([\w.]+) of type \S+`)
	wrapping     = regexp.MustCompile(`^(error unmarshaling JSON: |while decoding JSON: |error converting YAML to JSON: |json: )+`)
)

// deepest is the key that an error names, or the field's own.
func deepest(said error, key, value *yamlv3.Node) *yamlv3.Node {
	name := ""
	if m := unknownField.FindStringSubmatch(said.Error()); m != nil {
		name = m[1]
	} else if m := wrongType.FindStringSubmatch(said.Error()); m != nil {
		name = m[2]
	}
	name = name[strings.LastIndexByte(name, '.')+1:]
	if found := keyNamed(value, name); found != nil {
		return found
	}
	return key
}

func keyNamed(n *yamlv3.Node, name string) *yamlv3.Node {
	for i, c := range n.Content {
		if n.Kind == yamlv3.MappingNode && i%2 == 0 {
			if c.Value == name {
				return c
			}
			continue
		}
		if found := keyNamed(c, name); found != nil {
			return found
		}
	}
	return nil
}

func sayField(said error, into any, top bool) string {
	if m := unknownField.FindStringSubmatch(said.Error()); m != nil {
		text := fmt.Sprintf("there is no field %s", m[1])
		if top {
			text += "; at the top there are " + strings.Join(fieldsOf(into), ", ")
		}
		return text
	}
	if m := wrongType.FindStringSubmatch(said.Error()); m != nil {
		return fmt.Sprintf("%s cannot be a YAML %s", m[2], map[string]string{"array": "list", "object": "mapping"}[m[1]]+map[string]string{"number": "number", "string": "string", "bool": "boolean"}[m[1]])
	}
	return wrapping.ReplaceAllString(said.Error(), "")
}

// fieldsOf are the names of a configuration's fields.
func fieldsOf(into any) []string {
	var out []string
	t := reflect.TypeOf(into).Elem()
	for i := range t.NumField() {
		out = append(out, t.Field(i).Tag.Get("json"))
	}
	slices.Sort(out)
	return out
}
