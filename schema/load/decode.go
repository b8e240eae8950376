package load

import (
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead/schema"
)

// Bounds on one document, so that no input makes the decoder slow or long-winded.
const (
	maxDepth       = 100     // nesting of objects and lists; Kubernetes' own need about 20
	maxAliasNodes  = 100_000 // values read through YAML aliases
	maxDiagnostics = 200     // per document
)

// decoder fills one Go object from one document's nodes, walking both and the
// table of supported fields side by side.
type decoder struct {
	doc         document
	unsupported string // of the source spec
	hideValues  bool   // a Secret: diagnostics tell no values
	diagnostics schema.Diagnostics

	way         []stepTo // from the object to here
	refused     bool     // there is an error among the diagnostics
	wrong       []string // fields that have a diagnostic already
	dropped     []noted  // set by a server
	meaningless []noted
	via         []*yaml.Node // alias targets being read
	aliasNodes  int
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

func (d *decoder) push(step stepTo) { d.way = append(d.way, step) }

func (d *decoder) pop() { d.way = d.way[:len(d.way)-1] }

// field is the path to here, as in "spec.containers[0].image" or "data[key]".
func (d *decoder) field() string {
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

func (d *decoder) report(severity schema.Severity, n *yaml.Node, hint, format string, args ...any) {
	if len(d.diagnostics) == maxDiagnostics {
		if severity != schema.Error || d.refused {
			return
		}
		d.diagnostics = d.diagnostics[:maxDiagnostics-1] // no number of warnings hides that there is an error
	}
	d.refused = d.refused || severity == schema.Error
	d.diagnostics = append(d.diagnostics, schema.Diagnostic{
		Position: d.doc.position(n), Severity: severity, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// full reports whether nothing more will be told.
func (d *decoder) full() bool { return d.refused && len(d.diagnostics) == maxDiagnostics }

func (d *decoder) errorf(n *yaml.Node, hint, format string, args ...any) {
	if d.full() {
		return
	}
	d.wrong = append(d.wrong, d.field())
	d.report(schema.Error, n, hint, format, args...)
}

// explained reports whether a problem with field follows from a diagnostic that
// is there already: on its way, or, if it is not written down, beside it.
func (d *decoder) explained(field string, isWritten bool) bool {
	return slices.ContainsFunc(d.wrong, func(w string) bool {
		return strings.HasPrefix(field, w) || strings.HasPrefix(w, field) || !isWritten && parent(field) == parent(w)
	})
}

func parent(field string) string {
	return field[:max(0, strings.LastIndexAny(field, ".["))]
}

// resolve follows an alias and returns what must be called when its value has
// been read; nil when it must not be read.
func (d *decoder) resolve(n *yaml.Node) (*yaml.Node, func()) {
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
func (d *decoder) spend(n *yaml.Node, count int) bool {
	before := d.aliasNodes
	d.aliasNodes += count
	if before <= maxAliasNodes && d.aliasNodes > maxAliasNodes {
		d.errorf(n, "", "aliases expand to more than %d values", maxAliasNodes)
	}
	return d.aliasNodes <= maxAliasNodes
}

// pairs returns the keys and values of an object, alternating, with merge keys
// ("<<") expanded, and reports keys that are written twice.
func (d *decoder) pairs(n *yaml.Node) []*yaml.Node {
	content := n.Content
	if isFewAndDistinct(content) {
		return content
	}
	merges := false
	seen := make(map[string]*yaml.Node, min(len(content)/2, 64))
	for i := 0; i+1 < len(content); i += 2 {
		key := target(content[i])
		if isMerge(key) {
			merges = true
			continue
		}
		if first, twice := seen[key.Value]; twice && key.Kind == yaml.ScalarNode {
			d.errorf(content[i], "", "%q is written twice%s, first at line %d", key.Value, d.place(), d.doc.position(first).Line)
			continue
		}
		seen[key.Value] = content[i]
	}
	if !merges {
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
// of one key wins.
func (d *decoder) merged(n *yaml.Node, seen map[string]*yaml.Node) []*yaml.Node {
	var own, borrowed []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !isMerge(key) {
			own = append(own, key, value)
			continue
		}
		from, done := d.resolve(value)
		if from == nil {
			continue
		}
		sources := mergeSources(from)
		if d.spend(value, len(sources)) {
			for _, source := range sources {
				borrowed = append(borrowed, d.borrow(source, seen)...)
			}
		}
		done()
	}
	return append(own, borrowed...)
}

func (d *decoder) borrow(source *yaml.Node, seen map[string]*yaml.Node) []*yaml.Node {
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
		if _, taken := seen[all[i].Value]; !taken {
			seen[all[i].Value] = all[i]
			out = append(out, all[i], all[i+1])
		}
	}
	return out
}

// place is " in spec.template", or nothing at the top.
func (d *decoder) place() string {
	if len(d.way) == 0 {
		return ""
	}
	return " in " + d.field()
}

// value reads n into v; support is the table's entry for it.
func (d *decoder) value(n *yaml.Node, v reflect.Value, support *schema.FieldSupport) {
	n, done := d.resolve(n)
	if n == nil {
		return
	}
	defer done()
	if isNull(n) {
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

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func (d *decoder) object(n *yaml.Node, v reflect.Value, support *schema.FieldSupport) {
	if n.Kind != yaml.MappingNode {
		d.mismatch(n, "an object")
		return
	}
	fields := fieldsOf(v.Type())
	all := d.pairs(n)
	for i := 0; i+1 < len(all); i += 2 {
		key, value := target(all[i]), all[i+1]
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
		if d.admit(key, value, entry) {
			d.value(value, v.FieldByIndex(index), entry)
		}
		d.pop()
	}
}

// isText refuses keys that are objects or lists themselves.
func (d *decoder) isText(key *yaml.Node) bool {
	if key.Kind == yaml.ScalarNode {
		if !utf8.ValidString(key.Value) {
			d.errorf(key, "", "a key%s is not UTF-8", d.place())
			return false
		}
		return true
	}
	d.errorf(key, "", "a key%s must be text, not %s", d.place(), d.describe(key))
	return false
}

func (d *decoder) unknown(object, key *yaml.Node, names []string) {
	hint, best := "", ""
	if !d.full() {
		best = schema.Nearest(key.Value, names)
	}
	if best != "" {
		hint = fmt.Sprintf("did you mean %q?", best)
	}
	in := d.place()
	if in == "" {
		in = " in " + d.doc.kind
	}
	d.push(stepTo{name: key.Value, at: key})
	d.errorf(key, hint, "unknown field %q%s", key.Value, in)
	d.pop()
	if best != "" && len(d.wrong) < 2*maxDiagnostics && child(object, best) == nil {
		d.push(stepTo{name: best, at: key}) // that it is missing follows from the misspelling
		d.wrong = append(d.wrong, d.field())
		d.pop()
	}
}

// admit applies the table of supported fields and says whether to read the
// value. The path is already at the field.
func (d *decoder) admit(key, value *yaml.Node, s *schema.FieldSupport) bool {
	value = target(value)
	if isNull(value) {
		return false
	}
	switch s.Treatment {
	case schema.ServerSet:
		if len(value.Content) > 0 || value.Kind == yaml.ScalarNode {
			d.dropped = append(d.dropped, noted{field: d.field(), at: key})
		}
		return false
	case schema.Meaningless:
		d.meaningless = append(d.meaningless, noted{field: d.field(), note: s.Note, at: key})
	case schema.Adds:
		d.adds(key, s)
		return false
	case schema.Restricts:
		d.errorf(key, s.Note, "%s is not supported yet", d.field())
		return false
	}
	return d.admitValues(key, value, s)
}

func (d *decoder) adds(key *yaml.Node, s *schema.FieldSupport) {
	if d.unsupported == "warn" {
		d.report(schema.Warning, key, s.Note, "%s is not supported yet and left out", d.field())
		return
	}
	hint := s.Note
	if hint == "" {
		hint = `"unsupported: warn" in the Source leaves it out`
	}
	d.errorf(key, hint, "%s is not supported yet", d.field())
}

// admitValues holds a field to the values that are supported.
func (d *decoder) admitValues(key, value *yaml.Node, s *schema.FieldSupport) bool {
	if len(s.Values) == 0 {
		return true
	}
	scalars := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		scalars = value.Content
	}
	for _, n := range scalars {
		switch {
		case n.Kind == yaml.ScalarNode && (n.Value == "" || slices.Contains(s.Values, n.Value)):
		case n.Kind == yaml.MappingNode && len(n.Content) == 0 && s.Values[0] == "{}":
			return false // says nothing
		case n.Kind == yaml.ScalarNode:
			d.errorf(n, "", "%s: %s is not supported yet, only %s", d.field(), d.describe(n), enumerate(s.Values))
			return false
		default:
			d.errorf(key, "", "%s is not supported yet", d.field())
			return false
		}
	}
	return true
}

// enumerate is "a", "a and b", "a, b and c".
func enumerate(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, support *schema.FieldSupport) {
	if n.Kind != yaml.MappingNode {
		d.mismatch(n, "an object")
		return
	}
	all := d.pairs(n)
	if v.IsNil() {
		v.Set(reflect.MakeMapWithSize(v.Type(), len(all)/2))
	}
	texts, isTexts := v.Interface().(map[string]string)
	elem := v.Type().Elem()
	for i := 0; i+1 < len(all); i += 2 {
		key, value := target(all[i]), all[i+1]
		if !d.isText(key) {
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
func (d *decoder) item(key, value *yaml.Node, v reflect.Value, support *schema.FieldSupport) bool {
	before := len(d.wrong)
	empty := isNull(target(value)) && support.Treatment == schema.Supported
	if !empty && !d.admit(key, value, support) {
		return false
	}
	d.value(value, v, support)
	return len(d.wrong) == before
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, support *schema.FieldSupport) {
	if n.Kind != yaml.SequenceNode {
		d.mismatch(n, "a list")
		return
	}
	if len(d.via) > 0 && !d.spend(n, len(n.Content)) {
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.push(stepTo{kind: toElement, position: i, at: item})
		if isNull(item) {
			d.errorf(item, "", "%s is empty", d.field())
		} else {
			d.value(item, v.Index(i), support)
		}
		d.pop()
	}
}

// mismatch reports a value of the wrong type.
func (d *decoder) mismatch(n *yaml.Node, want string) {
	hint := ""
	if want == "text" {
		hint = d.quoteHint(n)
	}
	d.errorf(d.begins(n), hint, "%s must be %s, not %s", d.field(), want, d.describe(n))
}

// begins is where a person sees the value n begin: one that stands below its key,
// or elsewhere under an anchor, at the key. CUE's values stand where they were
// written last, its keys perhaps in a template.
func (d *decoder) begins(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.ScalarNode || d.doc.paths != nil || len(d.way) == 0 {
		return n
	}
	if key := d.way[len(d.way)-1].at; key.Line != n.Line {
		return key
	}
	return n
}

// quoteHint shows a scalar that YAML takes for something else as text.
func (d *decoder) quoteHint(n *yaml.Node) string {
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

func (d *decoder) describe(n *yaml.Node) string {
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
	return cut(s, 60)
}

// maxMessage bounds one message in bytes.
const maxMessage = 1000

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// plainScalar is the text of a scalar of one of the given tags.
func (d *decoder) plainScalar(n *yaml.Node, want string, tags ...string) (string, bool) {
	if n.Kind != yaml.ScalarNode || !slices.Contains(tags, n.ShortTag()) {
		d.mismatch(n, want)
		return "", false
	}
	if !utf8.ValidString(n.Value) {
		d.errorf(n, "binary values go into binaryData, as base64", "%s is not UTF-8", d.field())
		return "", false
	}
	return n.Value, true
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if text, ok := d.text(n); ok {
			v.SetString(text)
		}
	case reflect.Bool:
		if value, ok := boolean(n); ok {
			v.SetBool(value)
		} else {
			d.mismatch(n, "true or false")
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
func (d *decoder) text(n *yaml.Node) (string, bool) {
	text, ok := d.plainScalar(n, "text", "!!str")
	if !ok {
		return "", false
	}
	if _, ambiguous := boolean(n); ambiguous && n.Style&yaml.TaggedStyle == 0 {
		word := n.Value
		if d.hideValues {
			word = "a word"
		}
		d.errorf(n, d.quoteHint(n), "%s must be text, and %s without quotes is true or false to YAML 1.1", d.field(), word)
		return "", false
	}
	return text, true
}

// boolean reads true and false, and YAML 1.1's other words for them.
func boolean(n *yaml.Node) (value, ok bool) {
	if n.Kind != yaml.ScalarNode || len(n.Value) > 5 || n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return false, false
	}
	switch strings.ToLower(n.Value) {
	case "true", "yes", "on":
		return true, true
	case "false", "no", "off":
		return false, true
	}
	return false, false
}

func (d *decoder) whole(n *yaml.Node) (int64, bool) {
	const want = "a whole number"
	text, ok := d.plainScalar(n, want, "!!int", "!!float")
	if !ok {
		return 0, false
	}
	if value, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 0, 64); err == nil {
		return value, true
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || value != math.Trunc(value) || math.Abs(value) > 1<<53 {
		d.mismatch(n, want)
		return 0, false
	}
	return int64(value), true
}

// leaves are the types that are written as one scalar and read by their own rules.
var leaves = map[reflect.Type]func(*decoder, *yaml.Node, reflect.Value){
	reflect.TypeFor[resource.Quantity]():  (*decoder).quantity,
	reflect.TypeFor[intstr.IntOrString](): (*decoder).intOrString,
	reflect.TypeFor[metav1.Time]():        (*decoder).time,
	reflect.TypeFor[metav1.Duration]():    (*decoder).duration,
	reflect.TypeFor[[]byte]():             (*decoder).bytes,
	reflect.TypeFor[listItem]():           (*decoder).listItem,
}

// maxQuantity is how long a quantity is at most: reading one takes its length
// squared.
const maxQuantity = 64

// exponent finds powers of ten that no quantity needs: reading one writes it out,
// which for 1e999999999999 never ends.
var exponent = regexp.MustCompile(`[eE][+-]?[0-9]{3,}`)

func (d *decoder) quantity(n *yaml.Node, v reflect.Value) {
	text, ok := d.plainScalar(n, "a quantity", "!!str", "!!int", "!!float")
	if !ok {
		return
	}
	if exponent.MatchString(text) {
		d.errorf(n, "write it like 500m, 0.5 or 128Mi", "%s: %s has an exponent of more than two digits", d.field(), d.describe(n))
		return
	}
	q, err := resource.ParseQuantity(text[:min(len(text), maxQuantity+1)])
	if err != nil || len(text) > maxQuantity {
		d.errorf(n, "write it like 500m, 0.5 or 128Mi", "%s: %s is not a quantity", d.field(), d.describe(n))
		return
	}
	v.Set(reflect.ValueOf(q))
}

func (d *decoder) intOrString(n *yaml.Node, v reflect.Value) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" {
		v.Set(reflect.ValueOf(intstr.FromString(n.Value)))
		return
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

func (d *decoder) time(n *yaml.Node, v reflect.Value) {
	text, ok := d.plainScalar(n, "a time", "!!str", "!!timestamp")
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

func (d *decoder) duration(n *yaml.Node, v reflect.Value) {
	text, ok := d.plainScalar(n, "a duration", "!!str")
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

func (d *decoder) bytes(n *yaml.Node, v reflect.Value) {
	text, ok := d.plainScalar(n, "base64 text", "!!str", "!!binary")
	if !ok {
		return
	}
	value, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		hint := ""
		if d.doc.kind == string(schema.KindSecret) {
			hint = "plain text goes into stringData"
		}
		d.errorf(n, hint, "%s is not base64", d.field())
		return
	}
	v.SetBytes(value)
}

// typeFields are the JSON fields of a Go struct, those of embedded ones among
// them.
type typeFields struct {
	index map[string][]int
	names []string // sorted
}

var knownFields sync.Map // reflect.Type -> *typeFields

func fieldsOf(t reflect.Type) *typeFields {
	if known, ok := knownFields.Load(t); ok {
		return known.(*typeFields)
	}
	f := &typeFields{index: make(map[string][]int)}
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
			f.names = append(f.names, name)
		}
	}
}
