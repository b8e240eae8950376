package load

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"fairlead/schema"
)

// Every field of every kind that is acted on is written wrong: with values of other types,
// with its name misspelt, and twice. Each is refused, and told at the very place, in YAML
// and in JSON.

// fewestMutations is how many mistakes are made at least.
const fewestMutations = 5_000

// writtenField is a field of a kind that is acted on.
type writtenField struct {
	kind schema.KindInfo
	way  []fieldStep
	typ  reflect.Type
	// hasName says that it is a field of an object, and not a key of a map.
	hasName bool
	isBound bool // to a few values: another type is told as another value
}

// fieldStep is a key, or an element of a list.
type fieldStep struct {
	name      string
	isElement bool
}

// fieldsWritten lists the fields of a kind. Those of the pods in it are the Pod's.
func fieldsWritten(info schema.KindInfo) (out []writtenField) {
	pods := ""
	if of := schema.Of(info.Kind).Pods.Do; of != nil && info.Kind != schema.KindPod {
		pods = of(info.New()).SpecField
	}
	var below func(way []fieldStep, dotted string, typ reflect.Type, f *schema.FieldSupport)
	field := func(way []fieldStep, dotted, name string, typ reflect.Type, f *schema.FieldSupport, hasName bool) {
		if f.Treatment != schema.Supported {
			return
		}
		way = append(way[:len(way):len(way)], fieldStep{name: name})
		out = append(out, writtenField{info, way, typ, hasName, len(f.Values) > 0})
		if dotted = strings.TrimPrefix(dotted+"."+name, "."); dotted != pods {
			below(way, dotted, typ, f)
		}
	}
	below = func(way []fieldStep, dotted string, typ reflect.Type, f *schema.FieldSupport) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice && typ.Elem().Kind() != reflect.Uint8 {
			if typ.Kind() == reflect.Slice {
				way = append(way[:len(way):len(way)], fieldStep{isElement: true})
			}
			typ = typ.Elem()
		}
		switch {
		case isWrittenAsScalar(typ):
		case typ.Kind() == reflect.Map:
			if !isWrittenAsScalar(typ.Elem()) || typ.Elem().Kind() == reflect.String {
				field(way, dotted, "k", typ.Elem(), f.Field("k"), false)
			}
		case typ.Kind() == reflect.Struct:
			for i := range typ.NumField() {
				name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
				switch {
				case name == "" && dotted != "": // embedded, and not the kind's own header
					below(way, dotted, typ.Field(i).Type, f)
				case name != "":
					field(way, dotted, name, typ.Field(i).Type, f.Field(name), true)
				}
			}
		}
	}
	below(nil, "", reflect.TypeOf(info.New()).Elem(), schema.SupportedFields(info.Kind))
	return out
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

func isWrittenAsScalar(typ reflect.Type) bool {
	switch typ.Kind() {
	case reflect.Struct:
		return reflect.PointerTo(typ).Implements(unmarshaler)
	case reflect.Map, reflect.Pointer:
		return false
	case reflect.Slice:
		return typ.Elem().Kind() == reflect.Uint8
	}
	return true
}

// mutation is one mistake: what stands in the place of the field, and what is told of it.
type mutation struct {
	name        string
	value, json string // as it is written in YAML and in JSON
	isTwice     bool
	atValue     bool // it is told where the value is, not the key
	want        string
}

func (f writtenField) mutations() []mutation {
	last := f.way[len(f.way)-1].name
	value, quoted := "wrong", `"wrong"`
	typ := f.typ
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if isWrittenAsScalar(typ) {
		value, quoted = "{wrong: type}", `{"wrong": "type"}`
	}
	out := []mutation{{last, "{}", "{}", true, false, "is written twice"}}
	if f.hasName {
		for _, wrong := range []string{last + last[len(last)-1:], strings.ToUpper(last[:1]) + last[1:]} {
			out = append(out, mutation{wrong, value, quoted, false, false, fmt.Sprintf("unknown field %q", wrong)})
		}
	}
	if f.isBound {
		return out
	}
	out = append(out, mutation{last, value, quoted, false, true, "must be "})
	if typ.Kind() == reflect.Slice && !isWrittenAsScalar(typ) {
		return append(out, mutation{last, "{wrong: type}", `{"wrong": "type"}`, false, true, "must be a list, not an object"})
	}
	return append(out, mutation{last, "[wrong]", `["wrong"]`, false, true, ", not a list"})
}

// times is how often the key stands there.
func (m mutation) times() int {
	if m.isTwice {
		return 2
	}
	return 1
}

// inYAML writes the mistake into an object of its kind, and where it is to be told.
func (f writtenField) inYAML(m mutation) (text string, line, column int) {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: %s\nkind: %s\n", f.kind.APIVersion(), f.kind.Kind)
	if f.way[0].name != "metadata" {
		b.WriteString("metadata: {name: c}\n")
	}
	indent, dash := 0, ""
	for _, s := range f.way[:len(f.way)-1] {
		if s.isElement {
			dash = "- "
		} else {
			b.WriteString(strings.Repeat(" ", indent-len(dash)) + dash + s.name + ":\n")
			dash = ""
		}
		indent += 2
	}
	for range m.times() {
		line, column = 1+strings.Count(b.String(), "\n"), 1+indent
		b.WriteString(strings.Repeat(" ", indent-len(dash)) + dash + m.name + ": " + m.value + "\n")
		dash = ""
	}
	if m.atValue {
		column += len(m.name) + 2
	}
	return b.String(), line, column
}

// inJSON is that in JSON, on one line.
func (f writtenField) inJSON(m mutation) (text string, column int) {
	var b strings.Builder
	fmt.Fprintf(&b, `{"apiVersion": %q, "kind": %q, `, f.kind.APIVersion(), f.kind.Kind)
	if f.way[0].name != "metadata" {
		b.WriteString(`"metadata": {"name": "c"}, `)
	}
	end := "}"
	for i, s := range f.way[:len(f.way)-1] {
		switch {
		case s.isElement:
		case f.way[i+1].isElement:
			fmt.Fprintf(&b, "%q: [{", s.name)
			end = "}]" + end
		default:
			fmt.Fprintf(&b, "%q: {", s.name)
			end = "}" + end
		}
	}
	for i := range m.times() {
		if i > 0 {
			b.WriteString(", ")
		}
		column = 1 + b.Len()
		fmt.Fprintf(&b, "%q: %s", m.name, m.json)
	}
	if m.atValue {
		column += len(m.name) + 4
	}
	return b.String() + end, column
}

func TestEveryFieldWrittenWrongIsRefusedAtItsPlace(t *testing.T) {
	count := 0
	refused := func(name, text string, line, column int, m mutation) {
		count++
		r := Load(t.Context(), treeOf(name, text), schema.SourceSpec{Unsupported: "warn"}, Options{Source: "main"})
		for _, d := range r.Diagnostics {
			if strings.Contains(d.Message, panicMessage) {
				t.Errorf("%s\n%v", text, d)
			}
			if d.Severity == schema.Error && d.Path == name && d.Line == line && d.Column == column && strings.Contains(d.Message, m.want) {
				return
			}
		}
		t.Errorf("%s\nis not refused at %d:%d with %q, but\n%v", text, line, column, m.want, r.Diagnostics)
	}
	for _, info := range schema.Kinds() {
		if !info.Desired {
			continue
		}
		for _, f := range fieldsWritten(info) {
			for _, m := range f.mutations() {
				text, line, column := f.inYAML(m)
				refused("a.yaml", text, line, column, m)
				text, column = f.inJSON(m)
				refused("a.json", text, 1, column, m)
			}
		}
	}
	if count < fewestMutations {
		t.Errorf("%d mistakes are made, %d are wanted", count, fewestMutations)
	}
}
