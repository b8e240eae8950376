package load

import (
	"cmp"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
	"fairlead/schema/load/yaml"
)

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
	// declares is the namespace that it declares, nil for most.
	declares *schema.Declared
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
	passedOver  string             // the file, if it holds a document that is no manifest
	ignored     schema.Diagnostics // of objects whose kind is not acted on, one each
	// hides says that the document could not be read as a whole: it may hold any object.
	hides   bool
	makes   []leftOut    // what objects that are not taken would make
	items   int          // of Lists, each as often as aliases repeat it
	aliases yaml.Aliases // what of the document was read through aliases
}

// fail tells that a part of the document is not read.
func (d *decoded) fail(at schema.Position, message string) {
	d.hides = true
	d.diagnostics = append(d.diagnostics, schema.Diagnostic{Position: at, Severity: schema.Error, Message: message})
}

// leftOut is a Secret that an object would make which is not supported.
type leftOut struct {
	secret schema.Key
	kind   string
	at     schema.Position
}

// decodeDocument turns one document into objects: none for kinds without
// meaning, several for a List.
func (l *loader) decodeDocument(doc yaml.Document) decoded {
	var out decoded
	l.decodeInto(&out, doc, doc.Node, place{})
	return out
}

// place is where in a document an object stands.
type place struct {
	prefix string // the way to it from the root, "items[3]."
	depth  int    // of Lists around it
	// apiVersion and kind are those of an item that does not say: a typed List tells
	// them for all of its items. Nil elsewhere.
	apiVersion, kind *yaml.Node
}

// decodeInto decodes the object at n.
func (l *loader) decodeInto(out *decoded, doc yaml.Document, n *yaml.Node, in place) {
	n = yaml.Target(n)
	if yaml.IsNull(n) {
		return
	}
	apiVersion, kind := header(n)
	if apiVersion == nil && kind == nil && in.kind != nil {
		apiVersion, kind = in.apiVersion, in.kind
	}
	if apiVersion == nil || kind == nil || yaml.IsEncrypted(apiVersion) || yaml.IsEncrypted(kind) {
		out.ofNoKind(doc, n, in.prefix != "")
		return
	}
	if isList(n, apiVersion, kind) {
		l.decodeList(out, doc, n, in)
		return
	}
	info, found := judgeKind(apiVersion.Value, kind.Value, l.spec.Unsupported)
	if found.message != "" {
		at := kind
		if found.atVersion {
			at = apiVersion
		}
		out.hides = out.hides || found.unclear
		if in.kind == kind {
			at = n // an item that does not say its kind
		}
		told := schema.Diagnostic{Position: doc.Position(at), Severity: found.severity, Message: found.message, Hint: found.hint}
		if told.Severity == schema.Warning {
			out.ignored = append(out.ignored, told)
		} else {
			out.diagnostics = append(out.diagnostics, told)
		}
		if secret := secretOf(n, kind.Value, l.spec.Namespace); secret.Name != "" {
			out.makes = append(out.makes, leftOut{secret, kind.Value, doc.Position(n)})
		}
		return
	}
	doc.Kind = kind.Value
	l.decodeObject(out, doc, n, in.prefix, info)
}

// isList reports whether a document holds others: a List, or one of a kind as clients
// print it, a ConfigMapList, say. As kubectl has it, it is the items that make it one.
func isList(n, apiVersion, kind *yaml.Node) bool {
	if kind.Value == "List" {
		return apiVersion.Value == "v1"
	}
	items := yaml.Child(n, "items")
	return strings.HasSuffix(kind.Value, "List") && items != nil && yaml.Target(items).Kind == yaml.SequenceNode
}

// itemsOf is where a List's items stand. One that names a kind tells theirs.
func itemsOf(n *yaml.Node, in place) place {
	in.depth++
	in.apiVersion, in.kind = nil, nil
	apiVersion, kind := header(n)
	if of := strings.TrimSuffix(kind.Value, "List"); of != "" {
		named := *kind
		named.Value = of
		in.apiVersion, in.kind = apiVersion, &named
	}
	return in
}

// ofNoKind tells of what does not say of which kind it is. Only as an item does it have
// to be an object.
func (d *decoded) ofNoKind(doc yaml.Document, n *yaml.Node, isItem bool) {
	apiVersion, kind := header(n)
	refuse := func(n *yaml.Node, message, hint string) {
		d.hides = true
		d.diagnostics = append(d.diagnostics, schema.Diagnostic{Position: doc.Position(n), Severity: schema.Error, Message: message, Hint: hint})
	}
	switch sops := sopsKey(n); {
	case !isItem && isNoManifest(n):
		d.passedOver = doc.Path
	case apiVersion == nil && kind == nil:
		d.hides = true
		if d.nameless == nil {
			told := notAnObject(doc.Position(n), n)
			d.nameless = &told
		}
	case sops != nil && (yaml.IsEncrypted(apiVersion) || yaml.IsEncrypted(kind)):
		refuse(sops, yaml.SOPSMessage, leaveOut)
	case kind == nil && isChart(doc.Path, n):
		refuse(apiVersion, "this describes a Helm chart, which is not rendered here", "commit what helm template prints, and exclude the chart")
	case apiVersion == nil:
		refuse(kind, "apiVersion is missing", apiVersionHint(kind.Value))
	case kind == nil:
		refuse(apiVersion, "kind is missing", "")
	default: // encrypted, though nothing notes by what
		refuse(n, yaml.SOPSMessage, leaveOut)
	}
}

// header is what says of which kind an object is, its own or merged.
func header(n *yaml.Node) (apiVersion, kind *yaml.Node) {
	return headerField(n, "apiVersion"), headerField(n, "kind")
}

func headerField(n *yaml.Node, name string) *yaml.Node {
	value := yaml.Child(n, name)
	if value == nil || value.Kind != yaml.ScalarNode || value.Value == "" {
		return nil
	}
	return value
}

func (l *loader) decodeList(out *decoded, doc yaml.Document, n *yaml.Node, in place) {
	if in.depth == maxListDepth {
		out.fail(doc.Position(n), "Lists are nested too deep")
		return
	}
	doc.Kind = "List"
	d := yaml.NewDecoder(doc, &out.aliases, l.spec.Unsupported, false)
	d.List(n)
	out.diagnostics = append(out.diagnostics, d.Diagnostics()...)
	items := yaml.Child(n, "items")
	if items == nil || items.Kind != yaml.SequenceNode {
		return
	}
	sizes := make(map[*yaml.Node]int) // of what is aliased
	each := itemsOf(n, in)
	for i, item := range items.Content {
		if out.aliases.TooMany() {
			return // which was told where they became so
		}
		if item.Kind == yaml.AliasNode {
			if _, known := sizes[item.Alias]; !known {
				sizes[item.Alias] = yaml.CountNodes(item.Alias)
			}
			if out.aliases.Add(sizes[item.Alias]) {
				out.fail(doc.Position(item), fmt.Sprintf(yaml.AliasesTooMany, yaml.MaxAliasNodes))
				return
			}
		}
		if out.items++; out.items > schema.MaxObjects {
			if out.items == schema.MaxObjects+1 {
				out.fail(doc.Position(item), fmt.Sprintf("the Lists of this document have more than %d items, at most so many objects are taken", schema.MaxObjects))
			}
			return
		}
		each.prefix = fmt.Sprintf("%sitems[%d].", in.prefix, i)
		l.decodeInto(out, doc, item, each)
	}
}

// maxListDepth bounds Lists inside Lists.
const maxListDepth = 3

func (l *loader) decodeObject(out *decoded, doc yaml.Document, n *yaml.Node, prefix string, info schema.KindInfo) {
	obj := info.New()
	d := yaml.NewDecoder(doc, &out.aliases, l.spec.Unsupported, info.Sealed)
	d.Object(n, obj, schema.SupportedFields(info.Kind))
	if info.Namespaced && obj.GetNamespace() == "" {
		obj.SetNamespace(l.spec.Namespace)
	}
	schema.SetTypeMeta(obj)
	schema.ClearBuilt(obj) // nobody writes it by hand
	schema.Default(obj)
	if sops := sopsKey(n); sops != nil {
		d.Instead(sops, leaveOut, yaml.SOPSMessage)
	} else {
		d.Validate(obj, n)
	}
	size := measure(d, obj, n)
	at := doc.Position(n)
	out.diagnostics = append(out.diagnostics, d.Diagnostics()...)
	// Where its name was not read, it may be any of its kind.
	out.hides = out.hides || obj.GetName() == "" || !d.IsRead("metadata.namespace") || !d.IsRead("metadata.name")
	if obj.GetName() == "" {
		return
	}
	known := &facts{key: schema.KeyOf(obj), flawed: d.Refused(), pods: podsOf(obj), declares: schema.DeclaredBy(obj), stored: size}
	o := &schema.Desired{Object: obj, Position: at, Locate: yaml.Locator(doc.Again, at, prefix), Facts: known}
	if known.pods != nil && l.opts.DiagnosticsOnly {
		o.Object = nil // its facts say it all
		known.disown()
	} else {
		o.Same = new(schema.Same)
		schema.SetOrigin(obj, schema.Origin{Source: l.opts.Source, Path: at.Path, Line: at.Line, Commit: l.tree.Commit.Hash, Author: l.tree.Commit.Author})
	}
	out.objects = append(out.objects, o)
}
