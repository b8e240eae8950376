package yaml

import (
	"encoding/base64"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead/schema"
)

// Bounds on one document, so that no input makes the decoder slow or long-winded.
const (
	MaxDepth       = 100     // nesting of objects and lists; Kubernetes' own need about 20
	MaxAliasNodes  = 100_000 // values read through YAML aliases
	MaxDiagnostics = 200     // per document
)

// Decoder fills one Go object from one document's nodes, walking both and the
// table of supported fields side by side.
type Decoder struct {
	doc         Document
	unsupported string // of the source spec
	hideValues  bool   // a Secret: diagnostics tell no values
	diagnostics schema.Diagnostics

	way         []stepTo // from the object to here
	refused     bool     // there is an error among the diagnostics
	wrong       []string // fields that have a diagnostic already
	dropped     []noted  // set by a server
	meaningless []noted
	via         []*yaml.Node   // alias targets being read
	types       []reflect.Type // of the objects on the way, the outermost first
	aliases     *Aliases
	misplaced   []string // fields that stand where they are none, and are one elsewhere
	looked      int      // values that were looked through for anything in them
}

// noted is a field that is told about once per object.
type noted struct {
	field string
	note  string
	at    *yaml.Node
}

// usualDepth is how far down most objects go.
const usualDepth = 12

// stepTo is a step down. It is put into words only for what is told.
type stepTo struct {
	kind     stepKind
	name     string     // of a field or key
	position int        // of a list element
	at       *yaml.Node // the key, or the list element
}

type stepKind int8

const (
	toField stepKind = iota
	toKey
	toElement
)

func (d *Decoder) push(step stepTo) { d.way = append(d.way, step) }

func (d *Decoder) pop() { d.way = d.way[:len(d.way)-1] }

// field is the path to here, as in "spec.containers[0].image" or "data[key]".
func (d *Decoder) field() string {
	var b strings.Builder
	for _, step := range d.way {
		switch {
		case step.kind == toKey:
			b.WriteString("[" + step.name + "]")
		case step.kind == toElement:
			b.WriteString("[" + strconv.Itoa(step.position) + "]")
		case b.Len() > 0 && !strings.HasPrefix(step.name, "["):
			b.WriteString("." + step.name)
		default:
			b.WriteString(step.name)
		}
	}
	return b.String()
}

// Report adds a diagnostic at a node, as far as there is room.
func (d *Decoder) Report(severity schema.Severity, n *yaml.Node, hint, format string, args ...any) {
	if len(d.diagnostics) == MaxDiagnostics {
		if severity != schema.Error || d.refused {
			return
		}
		d.diagnostics = d.diagnostics[:MaxDiagnostics-1] // no number of warnings hides that there is an error
	}
	d.refused = d.refused || severity == schema.Error
	d.diagnostics = append(d.diagnostics, schema.Diagnostic{
		Position: d.doc.Position(n), Severity: severity, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// full reports whether nothing more will be told.
func (d *Decoder) full() bool { return d.refused && len(d.diagnostics) == MaxDiagnostics }

func (d *Decoder) errorf(n *yaml.Node, hint, format string, args ...any) {
	if d.full() {
		return
	}
	d.wrong = append(d.wrong, d.field())
	d.Report(schema.Error, n, hint, format, args...)
}

// explained reports whether a problem with field follows from a diagnostic that
// is there already: on its way, or, if it is not written down, beside it, or because it
// is written elsewhere.
func (d *Decoder) explained(field string, isWritten bool) bool {
	if !isWritten && slices.Contains(d.misplaced, field[strings.LastIndexByte(field, '.')+1:]) {
		return true
	}
	return slices.ContainsFunc(d.wrong, func(w string) bool {
		return strings.HasPrefix(field, w) || strings.HasPrefix(w, field) || !isWritten && parent(field) == parent(w)
	})
}

// isUnread reports whether a field, or what it stands in, has a diagnostic already,
// so that nothing is known of it. The empty field is read.
func (d *Decoder) isUnread(field string) bool {
	return field != "" && slices.ContainsFunc(d.wrong, func(w string) bool { return strings.HasPrefix(field, w) })
}

func parent(field string) string {
	return field[:max(0, strings.LastIndexAny(field, ".["))]
}

// resolve follows an alias and returns what must be called when its value has
// been read; nil when it must not be read.
func (d *Decoder) resolve(n *yaml.Node) (*yaml.Node, func()) {
	if n.Kind != yaml.AliasNode {
		if len(d.via) > 0 && !d.spend(n, 1) {
			return nil, nil
		}
		return n, func() {}
	}
	if slices.Contains(d.via, n.Alias) {
		d.errorf(n, "", "the alias *%s contains itself", n.Value)
		return nil, nil
	}
	d.via = append(d.via, n.Alias)
	return n.Alias, func() { d.via = d.via[:len(d.via)-1] }
}

// spend counts values read through aliases and tells once when they are too many.
func (d *Decoder) spend(n *yaml.Node, count int) bool {
	if d.aliases.Add(count) {
		d.errorf(n, "", AliasesTooMany, MaxAliasNodes)
	}
	return !d.aliases.TooMany()
}

// AliasesTooMany is told, with the bound, of what aliases write out.
const AliasesTooMany = "aliases expand to more than %d values"

// pairs returns the keys and values of an object, alternating, with merge keys
// ("<<") expanded, and reports keys that are written twice.
func (d *Decoder) pairs(n *yaml.Node) []*yaml.Node {
	content := n.Content
	if isFewAndDistinct(content) {
		return content
	}
	var merge *yaml.Node
	seen := make(map[string]*yaml.Node, min(len(content)/2, 64))
	for i := 0; i+1 < len(content); i += 2 {
		key := Target(content[i])
		if isMerge(key) {
			if merge != nil {
				d.errorf(content[i], "write one, with a list: <<: [*a, *b]", "<< is written twice%s, first at line %d", d.place(), d.doc.Position(merge).Line)
				continue
			}
			merge = content[i]
			continue
		}
		if first, twice := seen[key.Value]; twice && key.Kind == yaml.ScalarNode {
			hint := ""
			if len(d.way) == 0 && (key.Value == "apiVersion" || key.Value == "kind") {
				hint = "write a line --- before the next object"
			}
			d.errorf(content[i], hint, "%s is written twice%s, first at line %d", d.nameOf("", n, key, content[i+1]), d.place(), d.doc.Position(first).Line)
			continue
		}
		seen[key.Value] = content[i]
	}
	if merge == nil {
		return content
	}
	return d.merged(n, seen)
}

// isFewAndDistinct reports whether an object's keys are what they mostly are: so few
// that comparing each with each costs less than a map, and different.
func isFewAndDistinct(content []*yaml.Node) bool {
	const few = 2 * 12
	if len(content) > few {
		return false
	}
	for i := 0; i+1 < len(content); i += 2 {
		key := content[i]
		if key.Kind != yaml.ScalarNode || isMerge(key) {
			return false
		}
		for j := 0; j < i; j += 2 {
			if content[j].Value == key.Value {
				return false
			}
		}
	}
	return true
}

func isMerge(key *yaml.Node) bool {
	return key.Value == "<<" && (key.Tag == "!!merge" || key.Tag == "" || key.Tag == "tag:yaml.org,2002:merge")
}

// mergeSources are the objects that "<<" takes keys from: one, or a list.
func mergeSources(value *yaml.Node) []*yaml.Node {
	if value.Kind == yaml.SequenceNode {
		return value.Content
	}
	return []*yaml.Node{value}
}

// merged puts an object's own pairs before those of what it merges; the first
// of one key wins. To kubectl, << also wins over what stands before it, which nobody
// means: such keys are refused.
func (d *Decoder) merged(n *yaml.Node, seen map[string]*yaml.Node) []*yaml.Node {
	var own, borrowed []*yaml.Node
	before := make(map[string]*yaml.Node)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !isMerge(key) {
			own = append(own, key, value)
			if before != nil {
				before[Target(key).Value] = key
			}
			continue
		}
		from, done := d.resolve(value)
		if from == nil {
			continue
		}
		sources := mergeSources(from)
		if d.spend(value, len(sources)) {
			for _, source := range sources {
				borrowed = append(borrowed, d.borrow(source, seen, before)...)
			}
		}
		done()
		before = nil // what comes now stands behind it
	}
	return append(own, borrowed...)
}

func (d *Decoder) borrow(source *yaml.Node, seen, before map[string]*yaml.Node) []*yaml.Node {
	from, done := d.resolve(source)
	if from == nil {
		return nil
	}
	defer done()
	if from.Kind != yaml.MappingNode {
		d.errorf(source, "", "<< merges objects, not %s", d.describe(from))
		return nil
	}
	if !d.spend(source, len(from.Content)) {
		return nil
	}
	var out []*yaml.Node
	all := d.pairs(from)
	for i := 0; i+1 < len(all); i += 2 {
		name := Target(all[i]).Value
		if own := before[name]; own != nil {
			d.errorf(own, "write << first: then what follows it wins", "%q%s comes before a << that has it too, which kubectl lets win", name, d.place())
			delete(before, name)
		}
		if _, taken := seen[name]; !taken {
			seen[name] = all[i]
			out = append(out, all[i], all[i+1])
			continue
		}
		d.unread(Target(all[i+1]))
	}
	return out
}

// unread refuses a value that nothing is read from, and that kubectl cannot read either: it
// has a tag that it is not.
func (d *Decoder) unread(n *yaml.Node) {
	if n.Kind != yaml.ScalarNode || n.Style&yaml.TaggedStyle == 0 {
		return
	}
	if what, _ := meaningOf(n); what == isOther && n.ShortTag() != "!!binary" {
		d.errorf(n, "leave out the tag", "%s is not read, and is not what its tag says", d.describe(n))
	}
}

// place is " in spec.template", or nothing at the top.
func (d *Decoder) place() string {
	if len(d.way) == 0 {
		return ""
	}
	return " in " + d.field()
}

// value reads n into v; support is the table's entry for it.
func (d *Decoder) value(n *yaml.Node, v reflect.Value, support *schema.FieldSupport) {
	n, done := d.resolve(n)
	if n == nil {
		return
	}
	defer done()
	if IsNull(n) {
		return
	}
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	if read, ok := leaves[v.Type()]; ok {
		read(d, n, v)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.object(n, v, support)
	case reflect.Map:
		d.mapping(n, v, support)
	case reflect.Slice:
		d.list(n, v, support)
	default:
		d.scalar(n, v)
	}
}

// IsNull reports whether a value is none.
func IsNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" && (n.Style&yaml.TaggedStyle == 0 || isNullText(n.Value))
}

// isNullText reports whether a text may have the tag !!null.
func isNullText(text string) bool {
	switch text {
	case "", "~", "null", "Null", "NULL":
		return true
	}
	return false
}

func (d *Decoder) object(n *yaml.Node, v reflect.Value, support *schema.FieldSupport) {
	if n.Kind != yaml.MappingNode {
		d.mismatch(n, "an object", v.Type())
		return
	}
	d.types = append(d.types, v.Type())
	fields := fieldsOf(v.Type())
	all := d.pairs(n)
	for i := 0; i+1 < len(all); i += 2 {
		key, value := Target(all[i]), all[i+1]
		if !d.isText(key) {
			continue
		}
		index, known := fields.index[key.Value]
		entry := support.Field(key.Value)
		if !known && entry.Treatment != schema.ServerSet {
			d.unknown(n, key, fields.names)
			continue
		}
		d.push(stepTo{name: key.Value, at: all[i]})
		choice := entry.Treatment != schema.Supported && fields.choices[key.Value]
		if d.admit(key, value, entry, choice) {
			d.value(value, v.FieldByIndex(index), entry)
		}
		d.pop()
	}
	d.types = d.types[:len(d.types)-1]
}

// isText refuses keys that are objects or lists themselves.
func (d *Decoder) isText(key *yaml.Node) bool {
	if key.Kind == yaml.ScalarNode {
		if !utf8.ValidString(key.Value) {
			d.errorf(key, "", "a key%s is not UTF-8", d.place())
			return false
		}
		return true
	}
	hint := ""
	if key.Kind == yaml.MappingNode && key.Style&yaml.FlowStyle != 0 {
		hint = TemplateHint
	}
	d.errorf(key, hint, "a key%s must be text, not %s", d.place(), d.describe(key))
	return false
}

// isReadAsWritten refuses keys that kubectl reads as others than those that stand
// there: on is true to it.
func (d *Decoder) isReadAsWritten(key *yaml.Node) bool {
	text, ok := keyText(key)
	if ok && text == key.Value {
		return true
	}
	means := "nothing"
	if ok {
		means = text
	}
	d.errorf(key, "quote it: "+strconv.Quote(key.Value), "the key %q%s is %s to YAML 1.1, where it has no quotes", shorten(key.Value), d.place(), means)
	return false
}

// hasValue refuses a key of a map in braces without a value: {cpu: 0,5} is a 0 and
// the key 5.
func (d *Decoder) hasValue(object, key, value *yaml.Node) bool {
	if !isBare(object, value) {
		return true
	}
	hint := "a comma begins the next key; quote a value that holds one"
	if !d.hideValues && (isMeasure(key.Value) || decimals(key.Value) == len(key.Value)) {
		hint = "a comma begins the next key; a decimal number is written with a point, like 0.5"
	}
	d.errorf(key, hint, "%s%s has no value", d.nameOf("the key ", object, key, value), d.place())
	return false
}

// isBare reports whether nothing stands behind a key in braces: it may be the rest of
// the value before it.
func isBare(object, value *yaml.Node) bool {
	value = Target(value)
	return object.Style&yaml.FlowStyle != 0 && value.Kind == yaml.ScalarNode && value.Value == "" && value.ShortTag() == "!!null"
}

// nameOf is a key as it is told, behind a word for it. Of a Secret's value nothing is
// told, not what a comma in it has made a key either.
func (d *Decoder) nameOf(word string, object, key, value *yaml.Node) string {
	if d.hideValues && isBare(object, value) {
		return "a key"
	}
	return word + strconv.Quote(shorten(key.Value))
}

func (d *Decoder) unknown(object, key *yaml.Node, names []string) {
	hint, best := "", ""
	if !d.full() {
		best = schema.Nearest(key.Value, names)
		hint = d.elsewhere(key.Value)
	}
	switch {
	case hint != "":
		best = ""
		d.misplaced = append(d.misplaced, key.Value)
	case best != "":
		hint = fmt.Sprintf("did you mean %q?", best)
	default:
		hint = examples[d.types[len(d.types)-1]]
	}
	in := d.place()
	if in == "" {
		in = " in " + d.doc.Kind
	}
	d.push(stepTo{name: key.Value, at: key})
	d.errorf(key, hint, "unknown field %q%s", key.Value, in)
	d.pop()
	if best != "" && len(d.wrong) < 2*MaxDiagnostics && Child(object, best) == nil {
		d.push(stepTo{name: best, at: key}) // that it is missing follows from the misspelling
		d.wrong = append(d.wrong, d.field())
		d.pop()
	}
}

// elsewhere says of which object around or below this one a name is a field: it is
// indented too far, or not far enough. It is empty for a name that is of neither.
func (d *Decoder) elsewhere(name string) string {
	here := len(d.types) - 1
	for i := here - 1; i >= 0; i-- {
		if _, ok := fieldsOf(d.types[i]).index[name]; ok && name != "name" {
			of := d.doc.Kind + " itself"
			if steps := d.stepsTo(i); steps != "" {
				of = steps
			}
			return fmt.Sprintf("%q is a field of %s: indent it less", name, of)
		}
	}
	if at := below(d.types[here], name); at != "" {
		return fmt.Sprintf("%q is a field of %s: write it below that", name, at)
	}
	return ""
}

// stepsTo is the way to the object that is number i of those around this one.
func (d *Decoder) stepsTo(i int) string {
	if i == 0 {
		return ""
	}
	way := d.way
	defer func() { d.way = way }()
	d.way = way[:max(0, len(way)-(len(d.types)-1-i))]
	return d.field()
}

// below names the field of a type, or the two fields, below which a name is one; empty
// if there is none or more than one such place.
func below(t reflect.Type, name string) string {
	var places []string
	for _, first := range fieldsOf(t).names {
		inner := elementOf(t.FieldByIndex(fieldsOf(t).index[first]).Type)
		if _, leaf := leaves[inner]; leaf || inner.Kind() != reflect.Struct || first == "status" || first == "ephemeralContainers" || first == "initContainers" {
			continue
		}
		if _, ok := fieldsOf(inner).index[name]; ok {
			places = append(places, first)
		}
	}
	switch {
	case slices.Contains(places, "containers"): // of a pod's fields that people mean by it
		return "containers"
	case len(places) == 1:
		return places[0]
	}
	return ""
}

// elementOf is the type of what a pointer points to or a list is of.
func elementOf(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t
}

// admit applies the table of supported fields and says whether to read the
// value. The path is already at the field; a choice is made by a field that is there,
// even if it is empty.
func (d *Decoder) admit(key, value *yaml.Node, s *schema.FieldSupport, choice bool) bool {
	value = Target(value)
	if IsNull(value) {
		return false
	}
	switch s.Treatment {
	case schema.ServerSet:
		if len(value.Content) > 0 || value.Kind == yaml.ScalarNode {
			d.dropped = append(d.dropped, noted{field: d.field(), at: key})
		}
		return false
	case schema.Meaningless:
		if !isOneOf(value, s.Nothing) {
			d.meaningless = append(d.meaningless, noted{field: d.field(), note: s.Note, at: key})
		}
	case schema.Adds, schema.Restricts:
		if !isOneOf(value, s.Nothing) && (choice || !d.isEmpty(value, 0)) {
			d.refuse(key, s)
		}
		return false
	}
	return d.admitValues(key, value, s)
}

// refuse tells of a field that is not acted on.
func (d *Decoder) refuse(key *yaml.Node, s *schema.FieldSupport) {
	if s.Treatment == schema.Restricts {
		d.errorf(key, s.Note, "%s is not supported yet", d.field())
		return
	}
	if d.unsupported == "warn" {
		d.Report(schema.Warning, key, s.Note, "%s is not supported yet and left out", d.field())
		return
	}
	hint := s.Note
	if hint == "" {
		hint = `"unsupported: warn" in the Source leaves it out`
	}
	d.errorf(key, hint, "%s is not supported yet", d.field())
}

// isEmpty reports whether a value holds nothing, as left out. Aliases may write out
// far more than stands there: what is too much to look through counts as something.
func (d *Decoder) isEmpty(n *yaml.Node, depth int) bool {
	n = Target(n)
	d.looked++
	switch {
	case depth > maxEmptyDepth || d.looked > MaxAliasNodes:
		return false
	case n.Kind == yaml.ScalarNode:
		return n.Value == "" || IsNull(n)
	case n.Kind != yaml.MappingNode:
		return len(n.Content) == 0
	}
	for i := 1; i < len(n.Content); i += 2 {
		if !d.isEmpty(n.Content[i], depth+1) {
			return false
		}
	}
	return true
}

// maxEmptyDepth is how deep objects in objects are looked through for anything that is
// in them: deeper than Kubernetes' own fields nest.
const maxEmptyDepth = 8

// isOneOf reports whether a scalar is one of some values, however it is written.
func isOneOf(n *yaml.Node, values []string) bool {
	if len(values) == 0 || n.Kind != yaml.ScalarNode {
		return false
	}
	what, text := meaningOf(n)
	switch what {
	case isTrue:
		text = "true"
	case isFalse:
		text = "false"
	}
	return slices.Contains(values, text)
}

// admitValues holds a field to the values that are supported.
func (d *Decoder) admitValues(key, value *yaml.Node, s *schema.FieldSupport) bool {
	if len(s.Values) == 0 {
		return true
	}
	scalars := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		scalars = value.Content
	}
	for _, n := range scalars {
		n = Target(n)
		switch {
		case n.Kind != yaml.ScalarNode:
			d.errorf(key, "", "%s is not supported yet", d.field())
			return false
		case n.Value != "" && !isOneOf(n, s.Values):
			d.errorf(n, d.valueHint(n, s.Values), "%s: %s is not supported yet, only %s", d.field(), d.describe(n), enumerate(s.Values))
			return false
		}
	}
	return true
}

// valueHint names the supported value that was probably meant.
func (d *Decoder) valueHint(n *yaml.Node, values []string) string {
	if d.hideValues {
		return ""
	}
	for _, v := range values {
		if strings.EqualFold(v, n.Value) {
			return "write " + v
		}
	}
	return ""
}

// enumerate is "a", "a and b", "a, b and c".
func enumerate(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

func (d *Decoder) mapping(n *yaml.Node, v reflect.Value, support *schema.FieldSupport) {
	if n.Kind != yaml.MappingNode {
		d.mismatch(n, "an object", v.Type())
		return
	}
	all := d.pairs(n)
	if v.IsNil() {
		v.Set(reflect.MakeMapWithSize(v.Type(), len(all)/2))
	}
	texts, isTexts := v.Interface().(map[string]string)
	elem := v.Type().Elem()
	for i := 0; i+1 < len(all); i += 2 {
		key, value := Target(all[i]), all[i+1]
		if !d.isText(key) || !d.hasValue(n, key, value) || !d.isReadAsWritten(key) {
			continue
		}
		entry := support.Field(key.Value)
		d.push(stepTo{kind: toKey, name: key.Value, at: all[i]})
		if isTexts {
			var text string
			if d.item(key, value, reflect.ValueOf(&text).Elem(), entry) {
				texts[key.Value] = text
			}
		} else if item := reflect.New(elem).Elem(); d.item(key, value, item, entry) {
			v.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), item)
		}
		d.pop()
	}
}

// item reads one value of a map and reports whether it may stand there; unlike a
// field, a key without a value is still a key.
func (d *Decoder) item(key, value *yaml.Node, v reflect.Value, support *schema.FieldSupport) bool {
	before := len(d.wrong)
	empty := IsNull(Target(value)) && support.Treatment == schema.Supported
	if !empty && !d.admitItem(key, value, support) {
		return false
	}
	d.value(value, v, support)
	return len(d.wrong) == before
}

// admitItem is admit for a key of a map: one that is not supported is refused with any
// value, and without one.
func (d *Decoder) admitItem(key, value *yaml.Node, s *schema.FieldSupport) bool {
	if s.Treatment == schema.Restricts {
		d.refuse(key, s)
		return false
	}
	return d.admit(key, value, s, true)
}

func (d *Decoder) list(n *yaml.Node, v reflect.Value, support *schema.FieldSupport) {
	if n.Kind != yaml.SequenceNode {
		d.mismatch(n, "a list", v.Type())
		return
	}
	if len(d.via) > 0 && !d.spend(n, len(n.Content)) {
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.push(stepTo{kind: toElement, position: i, at: item})
		if IsNull(item) {
			d.errorf(item, `write "" for an empty text, or leave it out`, "%s is empty", d.field())
		} else {
			d.value(item, v.Index(i), support)
		}
		d.pop()
	}
}

// mismatch reports a value of the wrong type; t is the right one of an object or list.
func (d *Decoder) mismatch(n *yaml.Node, want string, t reflect.Type) {
	hint := ""
	switch {
	case IsUnrendered(n):
		hint = TemplateHint
	case n.Kind == yaml.ScalarNode && tagNames[n.ShortTag()] == "":
		hint = "leave out the tag"
	case want == "text":
		hint = d.textHint(n)
	case t != nil:
		hint = examples[t]
	case n.Kind == yaml.ScalarNode && n.Style&quotedStyle != 0 && !d.hideValues:
		if what, _ := readByKubectl(n.Value); what == isNumber && want == "a whole number" || (what == isTrue || what == isFalse) && want == "true or false" {
			hint = "leave out the quotes"
		}
	}
	d.errorf(d.begins(n), hint, "%s must be %s, not %s", d.field(), want, d.describe(n))
}

// textHint is for what must be text.
func (d *Decoder) textHint(n *yaml.Node) string {
	if n.Kind == yaml.MappingNode && len(d.way) > 0 && d.way[len(d.way)-1].name == "matchLabels" {
		return "the labels themselves go here, without matchLabels"
	}
	return d.quoteHint(n)
}

// examples show how objects and lists are written that are often written otherwise.
var examples = map[reflect.Type]string{
	reflect.TypeFor[[]string]():                     `write it like ["/bin/web", "--port=80"]`,
	reflect.TypeFor[[]corev1.Container]():           "a dash begins each container: - name: web",
	reflect.TypeFor[[]corev1.EnvVar]():              "write it like [{name: PORT, value: \"80\"}]",
	reflect.TypeFor[corev1.EnvVar]():                "write it like {name: PORT, value: \"80\"}",
	reflect.TypeFor[[]corev1.ContainerPort]():       "write it like [{containerPort: 80}]",
	reflect.TypeFor[corev1.ContainerPort]():         "write it like {containerPort: 80}",
	reflect.TypeFor[[]corev1.ServicePort]():         "write it like [{port: 80, targetPort: 8080}]",
	reflect.TypeFor[corev1.ServicePort]():           "write it like {port: 80, targetPort: 8080}",
	reflect.TypeFor[corev1.ExecAction]():            "write it like {command: [cat, /ready]}",
	reflect.TypeFor[corev1.HTTPGetAction]():         "write it like {path: /ready, port: 80}",
	reflect.TypeFor[corev1.ConfigMapEnvSource]():    "write it like {name: settings}",
	reflect.TypeFor[corev1.SecretEnvSource]():       "write it like {name: password}",
	reflect.TypeFor[corev1.ConfigMapVolumeSource](): "write it like {name: settings}",
	reflect.TypeFor[corev1.SecretVolumeSource]():    "write it like {secretName: password}",
	reflect.TypeFor[appsv1.DeploymentStrategy]():    "write it like {type: Recreate}",
	reflect.TypeFor[metav1.LabelSelector]():         "write it like {matchLabels: {app: web}}",
	reflect.TypeFor[corev1.ResourceRequirements]():  "write it like {requests: {cpu: 100m, memory: 64Mi}}",
}

// begins is where a person sees the value n begin: one that stands below its key,
// or elsewhere under an anchor, at the key. CUE's values stand where they were
// written last, its keys perhaps in a template.
func (d *Decoder) begins(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.ScalarNode || d.doc.Paths != nil || len(d.way) == 0 {
		return n
	}
	if key := d.way[len(d.way)-1].at; key.Line != n.Line {
		return key
	}
	return n
}

// quoteHint shows a scalar that YAML takes for something else as text.
func (d *Decoder) quoteHint(n *yaml.Node) string {
	switch {
	case n.Kind != yaml.ScalarNode || tagNames[n.ShortTag()] == "":
		return ""
	case d.hideValues:
		return "quote it"
	}
	return "quote it: " + strconv.Quote(n.Value)
}

// tagNames are the kinds of scalars that people know.
var tagNames = map[string]string{
	"!!str": "text", "!!int": "a number", "!!float": "a number", "!!bool": "true or false", "!!null": "nothing", "!!timestamp": "a date",
}

func (d *Decoder) describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		return "a list"
	}
	kind := tagNames[n.ShortTag()]
	switch {
	case kind == "":
		return "a value tagged " + n.ShortTag()
	case d.hideValues || n.ShortTag() == "!!null":
		return kind
	case kind == "text":
		return strconv.Quote(shorten(n.Value))
	}
	return shorten(n.Value)
}

// shorten keeps values readable in a message of one line.
func shorten(s string) string {
	return Cut(s, 60)
}

// MaxMessage bounds one message in bytes.
const MaxMessage = 1000

// Cut shortens a text to so many bytes.
func Cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// plainScalar is what a scalar of one of the wanted meanings says.
func (d *Decoder) plainScalar(n *yaml.Node, want string, wanted ...meaning) (string, bool) {
	what, text := isOther, ""
	if n.Kind == yaml.ScalarNode {
		what, text = meaningOf(n)
	}
	if !slices.Contains(wanted, what) {
		d.mismatch(n, want, nil)
		return "", false
	}
	if !utf8.ValidString(text) {
		d.errorf(n, "binary values go into binaryData, as base64", "%s is not UTF-8", d.field())
		return "", false
	}
	return text, true
}

func (d *Decoder) scalar(n *yaml.Node, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if text, ok := d.text(n); ok {
			v.SetString(text)
		}
	case reflect.Bool:
		what := isOther
		if n.Kind == yaml.ScalarNode {
			what, _ = meaningOf(n)
		}
		if what == isTrue || what == isFalse {
			v.SetBool(what == isTrue)
		} else {
			d.mismatch(n, "true or false", nil)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if value, ok := d.whole(n); ok {
			if v.OverflowInt(value) {
				d.errorf(n, "", "%s: %d is too large", d.field(), value)
				return
			}
			v.SetInt(value)
		}
	default:
		d.errorf(n, "", "%s cannot be written in a file", d.field())
	}
}

// text reads a string. A plain yes, no, on or off is refused: YAML 1.1, and so
// kubectl, reads a boolean there and YAML 1.2 a string.
func (d *Decoder) text(n *yaml.Node) (string, bool) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" {
		if what, _ := meaningOf(n); what != isText {
			word := n.Value
			if d.hideValues {
				word = "a word"
			}
			d.errorf(n, d.quoteHint(n), "%s must be text, and %s without quotes is true or false to YAML 1.1", d.field(), word)
			return "", false
		}
	}
	return d.plainScalar(n, "text", isText)
}

func (d *Decoder) whole(n *yaml.Node) (int64, bool) {
	const want = "a whole number"
	text, ok := d.plainScalar(n, want, isNumber)
	if !ok {
		return 0, false
	}
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		d.mismatch(n, want, nil)
		return 0, false
	}
	return value, true
}

// leaves are the types that are written as one scalar and read by their own rules.
var leaves = map[reflect.Type]func(*Decoder, *yaml.Node, reflect.Value){
	reflect.TypeFor[resource.Quantity]():  (*Decoder).quantity,
	reflect.TypeFor[intstr.IntOrString](): (*Decoder).intOrString,
	reflect.TypeFor[metav1.Time]():        (*Decoder).time,
	reflect.TypeFor[metav1.Duration]():    (*Decoder).duration,
	reflect.TypeFor[[]byte]():             (*Decoder).bytes,
	reflect.TypeFor[listItem]():           (*Decoder).listItem,
}

// maxQuantity is how long a quantity is at most: reading one takes its length
// squared.
const maxQuantity = 64

// exponent finds powers of ten that no quantity needs: reading one writes it out,
// which for 1e999999999999 never ends.
var exponent = regexp.MustCompile(`[eE][+-]?[0-9]{3,}`)

func (d *Decoder) quantity(n *yaml.Node, v reflect.Value) {
	text, ok := d.plainScalar(n, "a quantity", isText, isNumber)
	if !ok {
		return
	}
	if exponent.MatchString(n.Value) || exponent.MatchString(text) {
		d.errorf(n, quantityExample, "%s: %s has an exponent of more than two digits", d.field(), d.describe(n))
		return
	}
	q, err := resource.ParseQuantity(text[:min(len(text), maxQuantity+1)])
	if err != nil || len(text) > maxQuantity {
		d.errorf(n, quantityHint(text), "%s: %s is not a quantity", d.field(), d.describe(n))
		return
	}
	if strings.HasSuffix(text, "m") && d.way[len(d.way)-1].name == "memory" {
		number := strings.TrimSuffix(text, "m")
		d.Report(schema.Warning, n, fmt.Sprintf("write %sM, or %sMi for powers of 1024", number, number), "%s: %s is a number of bytes in thousandths", d.field(), text)
	}
	v.Set(reflect.ValueOf(q))
}

const quantityExample = "write it like 500m, 0.5 or 128Mi"

// measured is a number and a unit as people write them.
var measured = regexp.MustCompile(`^\s*([0-9]+(?:[.,][0-9]+)?)\s*([A-Za-z]*)\s*$`)

// units are Kubernetes' suffixes for the units that people write, in lower case.
var units = map[string]string{
	"": "", "b": "", "byte": "", "bytes": "", "core": "", "cores": "", "cpu": "", "cpus": "", "millicores": "m", "k": "k", "kb": "k", "ki": "Ki", "kib": "Ki",
	"m": "M", "mb": "M", "mi": "Mi", "mib": "Mi", "g": "G", "gb": "G", "gi": "Gi", "gib": "Gi", "t": "T", "tb": "T", "ti": "Ti", "tib": "Ti",
}

// quantityHint is what was probably meant.
func quantityHint(text string) string {
	parts := measured.FindStringSubmatch(text[:min(len(text), maxQuantity)])
	if parts == nil {
		return quantityExample
	}
	unit, known := units[strings.ToLower(parts[2])]
	if parts[2] == "m" {
		unit = "m" // that is a thousandth, and M a million
	}
	if !known {
		return quantityExample
	}
	number := strings.ReplaceAll(parts[1], ",", ".")
	if len(unit) == 1 && unit != "m" {
		return fmt.Sprintf("write %s%s, or %s%si for powers of 1024", number, unit, number, strings.ToUpper(unit))
	}
	return "write " + number + unit
}

func (d *Decoder) intOrString(n *yaml.Node, v reflect.Value) {
	if n.Kind == yaml.ScalarNode {
		if what, text := meaningOf(n); what == isText {
			v.Set(reflect.ValueOf(intstr.FromString(text)))
			return
		}
	}
	value, ok := d.whole(n)
	switch {
	case !ok:
	case value != int64(int32(value)):
		d.errorf(n, "", "%s: %d is too large", d.field(), value)
	default:
		v.Set(reflect.ValueOf(intstr.FromInt32(int32(value))))
	}
}

func (d *Decoder) time(n *yaml.Node, v reflect.Value) {
	text, ok := d.plainScalar(n, "a time", isText)
	if !ok {
		return
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || !schema.TimeFits(t) {
		d.errorf(n, "write it like 2006-01-02T15:04:05Z", "%s: %s is not a time", d.field(), d.describe(n))
		return
	}
	v.Set(reflect.ValueOf(metav1.NewTime(t.Local())))
}

func (d *Decoder) duration(n *yaml.Node, v reflect.Value) {
	text, ok := d.plainScalar(n, "a duration", isText)
	if !ok {
		return
	}
	value, err := time.ParseDuration(text)
	if err != nil {
		d.errorf(n, "write it like 30s, 5m or 1h30m", "%s: %s is not a duration", d.field(), d.describe(n))
		return
	}
	v.Set(reflect.ValueOf(metav1.Duration{Duration: value}))
}

func (d *Decoder) bytes(n *yaml.Node, v reflect.Value) {
	text, ok := d.plainScalar(n, "base64 text", isText, isBytes)
	if !ok {
		return
	}
	value, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		hint := ""
		if d.hideValues {
			hint = "plain text goes into stringData"
		}
		if IsEncrypted(n) {
			hint = SOPSMessage
		}
		d.errorf(n, hint, "%s is not base64", d.field())
		return
	}
	v.SetBytes(value)
}

// typeFields are the JSON fields of a Go struct, those of embedded ones among
// them.
type typeFields struct {
	index   map[string][]int
	names   []string        // sorted
	choices map[string]bool // those of which one is to be there
}

// choiceTypes are the structs of which one field is to be there, and says what the
// whole is.
var choiceTypes = map[reflect.Type]bool{
	reflect.TypeFor[corev1.VolumeSource](): true, reflect.TypeFor[corev1.VolumeProjection](): true, reflect.TypeFor[corev1.ProbeHandler](): true,
	reflect.TypeFor[corev1.LifecycleHandler](): true, reflect.TypeFor[corev1.EnvVarSource](): true,
}

var knownFields sync.Map // reflect.Type -> *typeFields

func fieldsOf(t reflect.Type) *typeFields {
	if known, ok := knownFields.Load(t); ok {
		return known.(*typeFields)
	}
	f := &typeFields{index: make(map[string][]int), choices: make(map[string]bool)}
	f.collect(t, nil)
	slices.Sort(f.names)
	known, _ := knownFields.LoadOrStore(t, f)
	return known.(*typeFields)
}

func (f *typeFields) collect(t reflect.Type, prefix []int) {
	for i := range t.NumField() {
		field := t.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		index := append(slices.Clone(prefix), i)
		switch {
		case field.Anonymous && name == "":
			f.collect(field.Type, index)
		case field.IsExported() && name != "" && name != "-":
			f.index[name] = index
			f.choices[name] = choiceTypes[t]
			f.names = append(f.names, name)
		}
	}
}
