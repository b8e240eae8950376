package kustomize

import (
	"bytes"
	"fmt"
	"path"
	"reflect"
	"regexp"
	"strings"
	"sync"

	"sigs.k8s.io/kustomize/api/types"

	"fairlead/schema"
	"fairlead/schema/load/yaml"
)

// kustomization is one as it is written.
type kustomization struct {
	dir         string
	file        string
	text        []byte
	root        *yaml.Node // nil where it could not be read
	says        types.Kustomization
	foreign     bool        // of another group, and no kustomization at all
	uses        []reference // of other files and kustomizations, in the order of the fields
	values      int         // in it, each as often as aliases read it
	diagnostics schema.Diagnostics
}

// expected is what a reference may name.
type expected int

const (
	file      expected = 1 << iota
	directory          // with a kustomization
	inline             // or the text itself stands there
)

// reference is one place where a kustomization names something else.
type reference struct {
	field string // "resources[2]"
	to    string // as it is written
	kind  expected
}

func (k *kustomization) isComponent() bool { return k.says.Kind == types.ComponentKind }

// at is where a field stands.
func (k *kustomization) at(field string) schema.Position {
	if k.root == nil {
		return schema.Position{Path: k.file, Line: 1, Column: 1}
	}
	n, _ := yaml.Locate(k.root, field)
	return schema.Position{Path: k.file, Line: n.Line, Column: n.Column}
}

func (k *kustomization) fail(field, hint, format string, args ...any) {
	k.diagnostics = append(k.diagnostics, schema.Diagnostic{Position: k.at(field), Severity: schema.Error, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// supported lets every field of a kustomization through: the library acts on each.
var supported = &schema.FieldSupport{Treatment: schema.Supported}

// read reads a kustomization's file and what it refers to.
func read(file schema.File) (k *kustomization) {
	k = &kustomization{dir: path.Dir(file.Path), file: file.Path}
	defer k.recovered(file.Path)
	text, err := contentOf(file)
	if err != nil {
		k.fail("", "", "%v", err)
		return k
	}
	k.text = text
	k.parse()
	return k
}

// recovered is deferred where a file is parsed. It comes from anyone who can push: should
// one make the parser panic, what uses it is refused and nobody else's.
func (k *kustomization) recovered(name string) {
	if r := recover(); r != nil {
		k.fail("", "", "%s cannot be read, which is a bug of Fairlead's: %v", name, r)
	}
}

// contentOf reads a file that is not too large.
func contentOf(f schema.File) ([]byte, error) {
	if f.Size > schema.MaxFileSize {
		return nil, errTooLarge
	}
	text, err := f.Open()
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot be read: %w", err)
	case len(text) > schema.MaxFileSize:
		return nil, errTooLarge
	}
	return text, nil
}

var errTooLarge = fmt.Errorf("more than the %d bytes that are read", schema.MaxFileSize)

// forget drops what is not needed any more once its references are followed: there may be
// many kustomizations, and each is parsed.
func (k *kustomization) forget() {
	k.text, k.root, k.uses = nil, nil, nil
	k.says = types.Kustomization{TypeMeta: k.says.TypeMeta}
}

func (k *kustomization) parse() {
	roots, problem := yaml.ParseYAML(bytes.TrimPrefix(k.text, []byte("\xef\xbb\xbf")), new(yaml.Arena))
	switch {
	case problem != nil:
		k.diagnostics = append(k.diagnostics, problem.Diagnostic(k.file, 0))
		return
	case len(roots) == 0 || yaml.IsNull(roots[0]):
		k.fail("", "list what it builds under resources", "this kustomization is empty")
		return
	}
	group, _, isGrouped := strings.Cut(yaml.TextAt(roots[0], "apiVersion"), "/")
	if k.foreign = isGrouped && group != Group; k.foreign {
		return
	}
	if over := k.count(roots[0], maxValues); over != nil {
		k.diagnostics = append(k.diagnostics, schema.Diagnostic{
			Position: schema.Position{Path: k.file, Line: over.Line, Column: over.Column}, Severity: schema.Error,
			Message: fmt.Sprintf("this kustomization has more than the %d values that are read of one", maxValues), Hint: "split it, and list its parts under resources or components of another one",
		})
		return
	}
	k.root = roots[0]
	fold(k.root, reflect.TypeFor[types.Kustomization](), 0)
	aliases := new(yaml.Aliases)
	d := yaml.NewDecoder(yaml.Document{Path: k.file, Node: k.root, Kind: "kustomization"}, aliases, "error", k.hidesValues())
	d.Struct(k.root, &k.says, supported)
	k.values += aliases.Values()
	if k.diagnostics = d.Diagnostics(); k.diagnostics.HasErrors() {
		return
	}
	if len(roots) > 1 {
		k.diagnostics = append(k.diagnostics, schema.Diagnostic{
			Position: schema.Position{Path: k.file, Line: roots[1].Line, Column: roots[1].Column}, Severity: schema.Error,
			Message: "a kustomization is one document, and this is a second one", Hint: "put it into a file of its own, and list that under resources",
		})
	}
	if k.says.CheckEmpty() != nil {
		k.fail("", "list what it builds under resources", "this kustomization is empty")
	}
	k.header()
	k.refuseRunning()
	k.collect()
}

// maxValues bounds the values that stand in a kustomization, as entries of its lists: one
// may list each file of the largest tree, and some bytes of text make hundreds of memory.
const maxValues = 2 * schema.MaxFiles

// count counts the values from a node on, and is the one that is beyond most; nil if none is.
func (k *kustomization) count(n *yaml.Node, most int) (over *yaml.Node) {
	if k.values++; k.values > most {
		return n
	}
	for i, c := range n.Content {
		isKey := n.Kind == yaml.MappingNode && i%2 == 0
		if isKey {
			continue
		}
		if over := k.count(c, most); over != nil {
			return over
		}
	}
	return nil
}

// hidesValues reports whether there may be a Secret's values in it, which are not told.
func (k *kustomization) hidesValues() bool {
	return k.root.Kind == yaml.MappingNode && yaml.Child(k.root, secretGenerator) != nil || namesSecret(k.root)
}

// fold writes the names of fields as the library has them: it reads fieldpath as
// fieldPath, and documents have both. What an alias stands for is folded where it is
// written: following aliases of aliases would take forever.
func fold(n *yaml.Node, t reflect.Type, depth int) {
	isList := false
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		isList = isList || t.Kind() == reflect.Slice
		t = t.Elem()
	}
	if depth > yaml.MaxDepth || t.Kind() != reflect.Struct {
		return
	}
	if n.Kind == yaml.SequenceNode && isList {
		for _, c := range n.Content {
			fold(c, t, depth+1)
		}
		return
	}
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		field, ok := fieldsOf(t)[strings.ToLower(key.Value)]
		if !ok {
			continue
		}
		key.Value = field.name
		fold(value, field.of, depth+1)
	}
}

// namedField is a field of a type as it is written.
type namedField struct {
	name string
	of   reflect.Type
}

var knownFields sync.Map // reflect.Type -> map[string]namedField

// fieldsOf are the fields of a type by their names in small letters.
func fieldsOf(t reflect.Type) map[string]namedField {
	if known, ok := knownFields.Load(t); ok {
		return known.(map[string]namedField)
	}
	out := make(map[string]namedField)
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); f.IsExported() && name != "" && name != "-" {
			out[strings.ToLower(name)] = namedField{name, f.Type}
		}
	}
	knownFields.Store(t, out)
	return out
}

// Group is kustomize's own API group.
const Group = "kustomize.config.k8s.io"

// header holds apiVersion and kind to what there is.
func (k *kustomization) header() {
	version := types.KustomizationVersion
	switch k.says.Kind {
	case "", types.KustomizationKind:
	case types.ComponentKind:
		version = types.ComponentVersion
	default:
		k.fail("kind", "write kind: Kustomization, or Component for a part that overlays share", "a kustomization is of no kind %q", k.says.Kind)
		return
	}
	if k.says.APIVersion != "" && k.says.APIVersion != version {
		k.fail("apiVersion", "write apiVersion: "+version, "a kustomization has no version %q", k.says.APIVersion)
	}
}

// refuseRunning refuses what would run another program.
func (k *kustomization) refuseRunning() {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"helmCharts", len(k.says.HelmCharts) > 0},
		{"helmChartInflationGenerator", len(k.says.HelmChartInflationGenerator) > 0},
		{"helmGlobals", k.says.HelmGlobals != nil},
	} {
		if f.set {
			k.fail(f.name, "commit what helm template prints, and list that file under resources", "%s: Helm charts are not rendered here", f.name)
			return
		}
	}
}

// collect lists what the kustomization names.
func (k *kustomization) collect() {
	s := &k.says
	k.list("resources", s.Resources, file|directory)
	k.list("bases", s.Bases, file|directory)
	k.list("components", s.Components, directory)
	k.list("crds", s.Crds, file)
	k.list("configurations", s.Configurations, file)
	k.list("generators", s.Generators, file|directory|inline)
	k.list("transformers", s.Transformers, file|directory|inline)
	k.list("validators", s.Validators, file|directory|inline)
	for i, p := range s.PatchesStrategicMerge {
		k.name(fmt.Sprintf("patchesStrategicMerge[%d]", i), string(p), file|inline)
	}
	for i, p := range s.Patches {
		k.name(fmt.Sprintf("patches[%d].path", i), p.Path, file)
	}
	for i, p := range s.PatchesJson6902 {
		k.name(fmt.Sprintf("patchesJson6902[%d].path", i), p.Path, file)
	}
	for i, r := range s.Replacements {
		k.name(fmt.Sprintf("replacements[%d].path", i), r.Path, file)
	}
	for i, g := range s.ConfigMapGenerator {
		k.sources(fmt.Sprintf("configMapGenerator[%d].", i), g.KvPairSources)
	}
	for i, g := range s.SecretGenerator {
		k.sources(fmt.Sprintf("secretGenerator[%d].", i), g.KvPairSources)
	}
	k.name("openapi[path]", s.OpenAPI["path"], file)
}

func (k *kustomization) list(field string, names []string, kind expected) {
	for i, name := range names {
		k.name(fmt.Sprintf("%s[%d]", field, i), name, kind)
	}
}

func (k *kustomization) sources(field string, from types.KvPairSources) {
	for i, f := range from.FileSources {
		if _, name, named := strings.Cut(f, "="); named {
			f = name
		}
		k.name(fmt.Sprintf("%sfiles[%d]", field, i), f, file)
	}
	k.list(field+"envs", from.EnvSources, file)
	k.name(field+"env", from.EnvSource, file)
}

// name notes a reference; one that is not written is none.
func (k *kustomization) name(field, to string, kind expected) {
	if to != "" {
		k.uses = append(k.uses, reference{field, to, kind})
	}
}

// isText reports whether what stands in place of a file's name is the text itself.
func (r reference) isText() bool {
	if r.kind&inline == 0 {
		return false
	}
	text := strings.TrimSpace(r.to)
	return strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[") || strings.Contains(text, "\n") || strings.Contains(text, ": ") || strings.Contains(text, ":\t")
}

// configures reports whether what is named configures a generator or transformer, which
// may name files itself; a patch names none.
func (r reference) configures() bool { return r.kind == file|directory|inline }

// secretGenerator is the field whose values are a Secret's.
const secretGenerator = "secretGenerator"

// isPrivate reports whether what is named may be the value of a Secret that was written
// in the wrong place: it is not repeated.
func (r reference) isPrivate() bool {
	return strings.HasPrefix(r.field, secretGenerator) || r.kind&inline != 0 && strings.ContainsAny(r.to, "{:=")
}

// called is what a message says of what is named.
func (r reference) called(name string) string {
	if r.isPrivate() {
		return "what " + r.field + " names"
	}
	return name
}

// quoted is what is named as it is written, unless it is private.
func (r reference) quoted() string { return r.called(fmt.Sprintf("%q", r.to)) }

// isFetched reports whether the library would ask a server for what is named, whatever
// is named so here.
func isFetched(name string) bool {
	scheme, _, ok := strings.Cut(strings.ToLower(strings.TrimSpace(name)), ":")
	return ok && (scheme == "http" || scheme == "https")
}

// elsewhere refuses what would have to be fetched.
func (k *kustomization) elsewhere(field, what string) {
	k.fail(field, "copy what it holds into this repository", "%s is elsewhere, and nothing is fetched while a tree is read", what)
}

// userAt begins what is fetched as a user of another machine.
var userAt = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]*@`)

// isRemote reports whether a reference leads to another repository or to a server: the
// forms that kustomize fetches.
func (r reference) isRemote() bool {
	for _, scheme := range []string{"ssh://", "git://", "file://", "git::", "git@", "github.com/", "github.com:", "gh:"} {
		if strings.HasPrefix(strings.ToLower(r.to), scheme) {
			return true
		}
	}
	return r.kind&directory != 0 && (userAt.MatchString(r.to) || strings.Contains(r.to, "?ref=") || strings.Contains(r.to, ".git/") || strings.HasSuffix(r.to, ".git") || strings.Contains(r.to, "_git/"))
}
