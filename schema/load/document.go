package load

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

// document is one YAML or JSON document, or one object that CUE evaluates to.
type document struct {
	path  string                // of the file it stands in
	node  *yaml.Node            // its root, never a DocumentNode
	line  int                   // to be added to the nodes' lines
	paths map[*yaml.Node]string // nodes that stand in another file than path; nil for YAML and JSON
	again func() *document      // the document read anew, for Locate; nil if it is gone
	kind  string                // of the object being decoded
}

func (d *document) position(n *yaml.Node) schema.Position {
	path, ok := d.paths[n]
	if !ok {
		path = d.path
	}
	return schema.Position{Path: path, Line: n.Line + d.line, Column: n.Column}
}

// object is one decoded object with what judging the whole tree needs. Lists are of
// the desired object alone, which has its facts with it: so one list is enough to
// judge a tree and to hand it out.
type object struct {
	*schema.Desired
	*facts
}

func objectOf(d *schema.Desired) object { return object{d, d.Facts.(*facts)} }

// exists is false for the zero object, which stands for none.
func (o object) exists() bool { return o.Desired != nil }

// byKey finds an object in a sorted list; compare is how that is sorted.
func byKey(d *schema.Desired, key schema.Key) int { return objectOf(d).key.Compare(key) }

// compare orders objects by key and, for one key, by position.
func compare(a, b *schema.Desired) int {
	return cmp.Or(byKey(a, objectOf(b).key), a.Position.Compare(b.Position))
}

// facts are what is known of an object besides itself. They do not change once
// its file is decoded.
type facts struct {
	key    schema.Key
	file   *rememberedFile // nil for what CUE evaluates to
	flawed bool            // its document has errors: it exists, but its content says little
	stored stored
	// pods are those that it makes, nil for an object that makes none.
	pods *podFacts
}

// podFacts are what the pods of an object are known for, and what they need.
type podFacts struct {
	field      string // the way to their spec
	labels     map[string]string
	ports      []namedPort
	references []schema.Reference // what they cannot do without
}

type namedPort struct {
	name     string
	protocol corev1.Protocol
}

// disown makes copies of what would keep the text it stands in.
func (f *facts) disown() {
	f.key.Namespace, f.key.Name = strings.Clone(f.key.Namespace), strings.Clone(f.key.Name)
	labels := make(map[string]string, len(f.pods.labels))
	for key, value := range f.pods.labels {
		labels[strings.Clone(key)] = strings.Clone(value)
	}
	f.pods.labels = labels
	for i := range f.pods.ports {
		p := &f.pods.ports[i]
		p.name = strings.Clone(p.name)
		p.protocol = corev1.Protocol(strings.Clone(string(p.protocol)))
	}
	for i := range f.pods.references {
		r := &f.pods.references[i]
		r.Name, r.Key = strings.Clone(r.Name), strings.Clone(r.Key)
	}
}

// decoded is what one document holds.
type decoded struct {
	objects     []*schema.Desired
	diagnostics schema.Diagnostics
	nameless    *schema.Diagnostic // of the first document without apiVersion and kind
	makes       []leftOut          // what objects that are not taken would make
	items       int                // of Lists, each as often as aliases repeat it
	aliased     int                // values of those that are aliases
}

// leftOut is a Secret that an object would make which is not supported.
type leftOut struct {
	secret schema.Key
	kind   string
	at     schema.Position
}

// decodeDocument turns one document into objects: none for kinds without
// meaning, several for a List.
func (l *loader) decodeDocument(doc document) decoded {
	var out decoded
	l.decodeInto(&out, doc, doc.node, "", 0)
	return out
}

// decodeInto decodes the object at n; prefix is the way to it from the
// document's root ("items[3]").
func (l *loader) decodeInto(out *decoded, doc document, n *yaml.Node, prefix string, depth int) {
	n = target(n)
	if isNull(n) {
		return
	}
	apiVersion, kind := header(n)
	at := doc.position(n)
	report := func(n *yaml.Node, severity schema.Severity, message, hint string) {
		out.diagnostics = append(out.diagnostics, schema.Diagnostic{Position: doc.position(n), Severity: severity, Message: message, Hint: hint})
	}
	sops := sopsKey(n)
	switch {
	case apiVersion == nil && kind == nil:
		if out.nameless == nil {
			told := notAnObject(at, n)
			out.nameless = &told
		}
		return
	case sops != nil && (isEncrypted(apiVersion) || isEncrypted(kind)):
		report(sops, schema.Error, sopsMessage, leaveOut)
		return
	case kind == nil && isChart(doc.path, n):
		report(apiVersion, schema.Error, "this describes a Helm chart, which is not rendered here", "commit what helm template prints, and exclude the chart")
		return
	case apiVersion == nil:
		report(kind, schema.Error, "apiVersion is missing", apiVersionHint(kind.Value))
		return
	case kind == nil:
		report(apiVersion, schema.Error, "kind is missing", "")
		return
	}
	if apiVersion.Value == "v1" && kind.Value == "List" {
		l.decodeList(out, doc, n, prefix, depth)
		return
	}
	info, verdict := judgeKind(apiVersion.Value, kind.Value, l.spec.Unsupported)
	if verdict.message != "" {
		at := kind
		if verdict.atVersion {
			at = apiVersion
		}
		report(at, verdict.severity, verdict.message, verdict.hint)
		if secret := secretOf(n, kind.Value, l.spec.Namespace); secret.Name != "" {
			out.makes = append(out.makes, leftOut{secret, kind.Value, doc.position(n)})
		}
		return
	}
	doc.kind = kind.Value
	l.decodeObject(out, doc, n, prefix, info)
}

// header is what says of which kind an object is, its own or merged.
func header(n *yaml.Node) (apiVersion, kind *yaml.Node) {
	return headerField(n, "apiVersion"), headerField(n, "kind")
}

func headerField(n *yaml.Node, name string) *yaml.Node {
	value := child(n, name)
	if value == nil || value.Kind != yaml.ScalarNode || value.Value == "" {
		return nil
	}
	return value
}

func (l *loader) decodeList(out *decoded, doc document, n *yaml.Node, prefix string, depth int) {
	if depth == maxListDepth {
		out.diagnostics = append(out.diagnostics, schema.Diagnostic{Position: doc.position(n), Severity: schema.Error, Message: "Lists are nested too deep"})
		return
	}
	doc.kind = "List"
	d := decoder{doc: doc, unsupported: l.spec.Unsupported}
	var list manifestList
	d.object(n, reflect.ValueOf(&list).Elem(), listFields)
	out.diagnostics = append(out.diagnostics, d.diagnostics...)
	items := child(n, "items")
	if items == nil || items.Kind != yaml.SequenceNode {
		return
	}
	sizes := make(map[*yaml.Node]int) // of what is aliased
	for i, item := range items.Content {
		if item.Kind == yaml.AliasNode {
			if out.aliased > maxAliasNodes {
				return
			}
			if _, known := sizes[item.Alias]; !known {
				sizes[item.Alias] = countNodes(item.Alias)
			}
			if out.aliased += sizes[item.Alias]; out.aliased > maxAliasNodes {
				d.diagnostics = nil
				d.errorf(item, "", aliasesTooMany, maxAliasNodes)
				out.diagnostics = append(out.diagnostics, d.diagnostics...)
				return
			}
		}
		if out.items++; out.items > schema.MaxObjects {
			if out.items == schema.MaxObjects+1 {
				d.diagnostics = nil
				d.errorf(item, "", "the Lists of this document have more than %d items, at most so many objects are taken", schema.MaxObjects)
				out.diagnostics = append(out.diagnostics, d.diagnostics...)
			}
			return
		}
		l.decodeInto(out, doc, item, fmt.Sprintf("%sitems[%d].", prefix, i), depth+1)
	}
}

// countNodes is how many values stand below a node, without what its own aliases name:
// the decoder of the object counts those.
func countNodes(n *yaml.Node) int {
	count := 1
	for _, c := range n.Content {
		count += countNodes(c)
	}
	return count
}

// manifestList is a List, as kubectl writes it; its items are documents.
type manifestList struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        metav1.ListMeta `json:"metadata"`
	Items           []listItem      `json:"items"`
}

// listItem is what decodeInto reads, not the list's decoder.
type listItem struct{}

func (d *decoder) listItem(*yaml.Node, reflect.Value) {}

// listFields says that whatever a List has may stand there.
var listFields = &schema.FieldSupport{Treatment: schema.Supported}

// maxListDepth bounds Lists inside Lists.
const maxListDepth = 3

func (l *loader) decodeObject(out *decoded, doc document, n *yaml.Node, prefix string, info schema.KindInfo) {
	obj := info.New()
	d := decoder{doc: doc, unsupported: l.spec.Unsupported, hideValues: info.Kind == schema.KindSecret, way: make([]stepTo, 0, usualDepth), types: make([]reflect.Type, 0, usualDepth)}
	d.object(n, reflect.ValueOf(obj).Elem(), schema.SupportedFields(info.Kind))
	d.dropAnnotations(obj, n)
	d.summarise()
	if info.Namespaced && obj.GetNamespace() == "" {
		obj.SetNamespace(l.spec.Namespace)
	}
	schema.SetTypeMeta(obj)
	schema.Default(obj)
	if sops := sopsKey(n); sops != nil {
		d.diagnostics, d.refused = nil, false // what else is wrong follows from it
		d.errorf(sops, leaveOut, "%s", sopsMessage)
	} else {
		l.validate(&d, obj, n)
	}
	size := d.measure(obj, n)
	at := doc.position(n)
	out.diagnostics = append(out.diagnostics, d.diagnostics...)
	if obj.GetName() == "" {
		return
	}
	known := &facts{key: schema.KeyOf(obj), flawed: d.diagnostics.HasErrors(), pods: podsOf(obj), stored: size}
	o := &schema.Desired{Object: obj, Position: at, Locate: locator(doc.again, at, prefix), Facts: known}
	if known.pods != nil && l.opts.VerdictOnly {
		o.Object = nil // its facts say it all
		known.disown()
	} else {
		o.Same = new(schema.Same)
		schema.SetOrigin(obj, schema.Origin{Source: l.opts.Source, Path: at.Path, Line: at.Line, Commit: l.tree.Commit.Hash, Author: l.tree.Commit.Author})
	}
	out.objects = append(out.objects, o)
}

// validate adds what is wrong with the object by itself.
func (l *loader) validate(d *decoder, obj schema.Object, n *yaml.Node) {
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
		at, isWritten := locate(n, p.Field)
		if !d.explained(p.Field, isWritten) && !d.isUnread(p.Because) {
			d.report(schema.Error, at, p.Hint, "%s: %s", p.Field, p.Message)
		}
	}
}

// dropAnnotations takes out what Fairlead and kubectl write themselves; the
// latter repeats the whole object, a Secret's values with it.
func (d *decoder) dropAnnotations(obj metav1.Object, n *yaml.Node) {
	annotations := obj.GetAnnotations()
	for key := range annotations {
		if strings.HasPrefix(key, schema.Group+"/") || key == "kubectl.kubernetes.io/last-applied-configuration" || key == "deployment.kubernetes.io/revision" {
			delete(annotations, key)
			field := "metadata.annotations[" + key + "]"
			at, _ := locate(n, field)
			d.dropped = append(d.dropped, noted{field: field, at: at})
		}
	}
}

// summarise tells in one warning each what a server sets and what has no
// meaning here.
func (d *decoder) summarise() {
	if first, fields := d.gather(d.dropped); first != nil {
		d.report(schema.Warning, first.at, "", "%s: set by the cluster, left out", fields)
	}
	if first, fields := d.gather(d.meaningless); first != nil {
		d.report(schema.Warning, first.at, "", "%s: no meaning here, %s", fields, first.note)
	}
}

func (d *decoder) gather(all []noted) (*noted, string) {
	if len(all) == 0 {
		return nil, ""
	}
	slices.SortFunc(all, func(a, b noted) int {
		return cmp.Or(d.doc.position(a.at).Compare(d.doc.position(b.at)), strings.Compare(a.field, b.field))
	})
	fields := make([]string, len(all))
	for i := range all {
		fields[i] = all[i].field
	}
	return &all[0], strings.Join(fields, ", ")
}
