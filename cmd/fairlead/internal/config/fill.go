package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"
)

// Kept is a field that a person, or an earlier Fill, wrote otherwise.
type Kept struct {
	Field        string
	At           string // file:line:col
	Have, Wanted string // as one line of YAML
}

// Fill writes into the file at path the fields of c that it lacks, and leaves all
// else as it is, comments too. It returns the fields that the file has otherwise, or
// without a value. A zero field of c is not written. The fields of podman count each
// for itself. A file that cannot be added to is left as it is.
func Fill(path string, c any) ([]Kept, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if err := read(path, reflect.New(reflect.TypeOf(c)).Interface()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	wanted, err := fieldsWanted(c)
	if err != nil {
		return nil, err
	}
	f, err := filled(path, data, wanted)
	if err != nil || len(f.added) == 0 {
		return f.kept, err
	}
	data = append(bytes.Join(f.lines, nil), f.missing.Bytes()...)
	err = parse(path, data, reflect.New(reflect.TypeOf(c)).Interface())
	// A reader passes over what follows a whole document.
	if again, unread := filled(path, data, wanted); err != nil || unread != nil || len(again.added) > 0 {
		return nil, fmt.Errorf("%s: it lacks %s, which cannot be added to it: write each field on a line of its own", path, strings.Join(f.added, ", "))
	}
	return f.kept, write(path, data)
}

// filled is a file with what it lacks of the fields that are wanted.
func filled(path string, data []byte, wanted map[string]any) (filler, error) {
	f := filler{path: path, lines: bytes.SplitAfter(data, []byte("\n"))}
	have, err := topMapping(data)
	if err != nil {
		return f, fmt.Errorf("%s:%w", path, err)
	}
	if n := len(data); n > 0 && data[n-1] != '\n' {
		f.missing.WriteByte('\n')
	}
	return f, f.fill("", have, wanted)
}

// fieldsWanted is c as a mapping of what is not zero in it.
func fieldsWanted(c any) (map[string]any, error) {
	data, err := yaml.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	var out map[string]any
	if err := yaml.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return pruned(out), nil
}

// pruned leaves out what is empty, and what holds nothing else.
func pruned(m map[string]any) map[string]any {
	for key, value := range m {
		inner, isMap := value.(map[string]any)
		if isMap {
			inner = pruned(inner)
		}
		if v := reflect.ValueOf(value); !v.IsValid() || v.IsZero() || isMap && len(inner) == 0 || v.Kind() == reflect.Slice && v.Len() == 0 || value == "0s" {
			delete(m, key)
		}
	}
	return m
}

// Place is where a file has a field, as file:line:col; the file where it has none.
func Place(path string, field ...string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return path
	}
	in, err := topMapping(data)
	var key *yamlv3.Node
	for _, name := range field {
		if err != nil || in == nil {
			return path
		}
		key, in = entry(in, name)
	}
	if key == nil {
		return path
	}
	return fmt.Sprintf("%s:%d:%d", path, key.Line, key.Column)
}

type filler struct {
	path    string
	lines   [][]byte
	missing bytes.Buffer // goes behind the last line
	kept    []Kept
	added   []string // fields
}

// nested are the fields whose own fields count each for itself.
var nested = []string{"podman"}

func (f *filler) fill(within string, have *yamlv3.Node, wanted map[string]any) error {
	for _, name := range sortedKeys(wanted) {
		key, value := entry(have, name)
		inner, isMap := wanted[name].(map[string]any)
		switch {
		case key == nil && within == "":
			f.added = append(f.added, name)
			if err := f.add(&f.missing, "", map[string]any{name: wanted[name]}); err != nil {
				return err
			}
		case key == nil:
			if err := f.insert(have, within, name, wanted[name]); err != nil {
				return err
			}
		case isMap && slices.Contains(nested, name) && value.Kind == yamlv3.MappingNode && within == "":
			if err := f.fill(name+".", value, inner); err != nil {
				return err
			}
		default:
			f.compare(within+name, key, value, wanted[name])
		}
	}
	return nil
}

func sortedKeys(m map[string]any) []string {
	out := make([]string, 0, len(m))
	for key := range m {
		out = append(out, key)
	}
	slices.Sort(out)
	return out
}

func entry(n *yamlv3.Node, name string) (key, value *yamlv3.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

func (f *filler) add(to *bytes.Buffer, indent string, fields map[string]any) error {
	data, err := yaml.Marshal(fields)
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	for line := range bytes.Lines(data) {
		to.WriteString(indent)
		to.Write(line)
	}
	return nil
}

// insert puts a field before the first of a mapping that has each field on a line of
// its own; into another nothing is put, and what is not there has its default.
func (f *filler) insert(into *yamlv3.Node, within, name string, value any) error {
	if into.Style&yamlv3.FlowStyle != 0 || len(into.Content) == 0 {
		return nil
	}
	f.added = append(f.added, within+name)
	var text bytes.Buffer
	if err := f.add(&text, strings.Repeat(" ", into.Content[0].Column-1), map[string]any{name: value}); err != nil {
		return err
	}
	at := into.Content[0].Line - 1
	f.lines[at] = append(text.Bytes(), f.lines[at]...)
	return nil
}

func (f *filler) compare(field string, key, value *yamlv3.Node, wanted any) {
	data, err := yamlv3.Marshal(value)
	if err != nil {
		return // an alias of elsewhere: what it comes to is the person's own
	}
	var have any
	if err := yaml.Unmarshal(data, &have); err != nil || reflect.DeepEqual(have, wanted) || fmt.Sprint(have) == fmt.Sprint(wanted) {
		return
	}
	f.kept = append(f.kept, Kept{
		Field: field, At: fmt.Sprintf("%s:%d:%d", f.path, key.Line, key.Column), Have: oneLine(have), Wanted: oneLine(wanted),
	})
}

func oneLine(v any) string {
	n := &yamlv3.Node{}
	if err := n.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	n.Style = yamlv3.FlowStyle
	data, err := yamlv3.Marshal(n)
	if err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(string(data))
}
