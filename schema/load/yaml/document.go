package yaml

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

// Node is a value of a document, as the YAML library has it.
type Node = yaml.Node

// The kinds of nodes, and how one in brackets or braces is marked.
const (
	ScalarNode   = yaml.ScalarNode
	MappingNode  = yaml.MappingNode
	SequenceNode = yaml.SequenceNode
	AliasNode    = yaml.AliasNode
	FlowStyle    = yaml.FlowStyle
	LiteralStyle = yaml.LiteralStyle
	QuotedStyle  = yaml.DoubleQuotedStyle
)

// Document is one YAML or JSON document, or one object that an evaluator made.
type Document struct {
	Path  string           // of the file it stands in
	Node  *Node            // its root, never a DocumentNode
	Line  int              // to be added to the nodes' lines
	Paths map[*Node]string // nodes that stand in another file than Path; nil for YAML and JSON
	Again func() *Document // the document read anew, for Locator; nil if it is gone
	Kind  string           // of the object being decoded
}

// Position is where a node of the document stands.
func (d *Document) Position(n *Node) schema.Position {
	path, ok := d.Paths[n]
	if !ok {
		path = d.Path
	}
	return schema.Position{Path: path, Line: n.Line + d.Line, Column: n.Column}
}

// Aliases counts the values of a document that are read through aliases, each as often as
// it is read. However many objects a document holds, they have one bound together.
type Aliases struct{ values int }

// Add counts values, and reports whether they became too many by that.
func (a *Aliases) Add(values int) bool {
	before := a.TooMany()
	a.values += values
	return !before && a.TooMany()
}

// TooMany reports whether nothing more is read through aliases.
func (a *Aliases) TooMany() bool { return a.values > MaxAliasNodes }

// Values is how many were counted.
func (a *Aliases) Values() int { return a.values }

// NewDecoder makes a decoder for one object of a document, which shares aliases with its
// others. unsupported is the source's word for fields that are not acted on; hideValues
// keeps values out of diagnostics.
func NewDecoder(doc Document, aliases *Aliases, unsupported string, hideValues bool) *Decoder {
	return &Decoder{
		doc: doc, aliases: aliases, unsupported: unsupported, hideValues: hideValues,
		way: make([]stepTo, 0, usualDepth), types: make([]reflect.Type, 0, usualDepth),
	}
}

// Diagnostics are what there was to say so far.
func (d *Decoder) Diagnostics() schema.Diagnostics { return d.diagnostics }

// Refused reports whether there is an error among the diagnostics.
func (d *Decoder) Refused() bool { return d.refused }

// IsRead reports whether nothing that was told says that a field was not read.
func (d *Decoder) IsRead(field string) bool { return !d.isUnread(field) }

// Instead puts one error in the place of all diagnostics: they follow from it.
func (d *Decoder) Instead(n *Node, hint, message string) {
	d.diagnostics, d.refused = nil, false
	d.errorf(n, hint, "%s", message)
}

// Object reads an object: what is not in the table of supported fields is told, and
// what a server sets is left out.
func (d *Decoder) Object(n *Node, into schema.Object, support *schema.FieldSupport) {
	d.object(n, reflect.ValueOf(into).Elem(), support)
	d.dropAnnotations(into, n)
	d.summarise()
}

// Struct reads what is no object, but written like one.
func (d *Decoder) Struct(n *Node, into any, support *schema.FieldSupport) {
	d.object(n, reflect.ValueOf(into).Elem(), support)
}

// List reads a List but for its items, which are documents.
func (d *Decoder) List(n *Node) {
	var list manifestList
	d.object(n, reflect.ValueOf(&list).Elem(), listFields)
}

// manifestList is a List, as kubectl writes it; its items are documents.
type manifestList struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        metav1.ListMeta `json:"metadata"`
	Items           []listItem      `json:"items"`
}

// listItem is read by whoever called List.
type listItem struct{}

func (d *Decoder) listItem(*Node, reflect.Value) {}

// listFields says that whatever a List has may stand there.
var listFields = &schema.FieldSupport{Treatment: schema.Supported}

// Validate adds what is wrong with the object by itself.
func (d *Decoder) Validate(obj schema.Object, n *Node) {
	problems := schema.Validate(obj)
	if len(problems) == 0 {
		return
	}
	wrong := make(map[string]bool, len(problems))
	for _, p := range problems {
		wrong[p.Field] = true
	}
	for _, p := range problems {
		if d.full() {
			return
		}
		if p.Because != "" && wrong[p.Because] {
			continue
		}
		at, isWritten := Locate(n, p.Field)
		if !d.explained(p.Field, isWritten) && !d.isUnread(p.Because) {
			d.Report(schema.Error, at, p.Hint, "%s: %s", p.Field, p.Message)
		}
	}
}

// dropAnnotations takes out what Fairlead and kubectl write themselves; the
// latter repeats the whole object, a Secret's values with it.
func (d *Decoder) dropAnnotations(obj schema.Object, n *Node) {
	annotations := obj.GetAnnotations()
	for key := range annotations {
		if key == schema.AnnotationReplace && schema.MayBeReplaced(obj) {
			continue
		}
		if strings.HasPrefix(key, schema.Group+"/") || key == "kubectl.kubernetes.io/last-applied-configuration" || key == "deployment.kubernetes.io/revision" {
			delete(annotations, key)
			field := "metadata.annotations[" + key + "]"
			at, _ := Locate(n, field)
			d.dropped = append(d.dropped, noted{field: field, at: at})
		}
	}
}

// summarise tells in one warning each what a server sets and what has no
// meaning here.
func (d *Decoder) summarise() {
	if first, fields := d.gather(d.dropped); first != nil {
		d.Report(schema.Warning, first.at, "", "%s: set by the cluster, left out", fields)
	}
	if first, fields := d.gather(d.meaningless); first != nil {
		d.Report(schema.Warning, first.at, "", "%s: no meaning here, %s", fields, first.note)
	}
}

func (d *Decoder) gather(all []noted) (*noted, string) {
	if len(all) == 0 {
		return nil, ""
	}
	slices.SortFunc(all, func(a, b noted) int {
		return cmp.Or(d.doc.Position(a.at).Compare(d.doc.Position(b.at)), strings.Compare(a.field, b.field))
	})
	fields := make([]string, len(all))
	for i := range all {
		fields[i] = all[i].field
	}
	return &all[0], strings.Join(fields, ", ")
}
