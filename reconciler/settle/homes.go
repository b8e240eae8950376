package settle

import (
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// homes are the namespaces that the objects of a tree stand in: what becomes of those
// that nobody declares.
type homes struct {
	r        state.Reader
	spec     schema.SourceSpec
	mayMake  bool
	last     string                     // the namespace that was looked at last
	used     map[string]bool            // by objects of the tree
	declared map[string]bool            // by the tree itself
	missing  map[string]*schema.Desired // those that are not there, with the first object in each
}

func newHomes(r state.Reader, source schema.SourceName) homes {
	h := homes{r: r, used: map[string]bool{}, declared: map[string]bool{}, missing: map[string]*schema.Desired{}}
	if src, ok := state.Source(r, source); ok {
		h.spec, h.mayMake = src.Spec, EffectiveRights(r, source).MayMakeNamespaces()
	}
	return h
}

// see takes the desired objects one after the other. Neighbours share their namespace
// most of the time: it is looked up once for a run of them.
func (h *homes) see(key schema.Key, d *schema.Desired) {
	if row := schema.Of(key.Kind); row != nil && row.Declares.Do != nil {
		h.declared[row.Declares.Do(d.Object).Namespace] = true
	}
	name := key.Namespace
	if name == h.last {
		return
	}
	h.last = name
	if name == "" || name == metav1.NamespaceDefault || h.used[name] { // that is always there
		return
	}
	h.used[name] = true
	if h.r.Get(schema.NamespaceKey(name)) == nil {
		h.missing[name] = d
	}
}

// maxMade bounds the namespaces that nobody declares. None of them goes by itself, and a
// source could name others with each commit.
const maxMade = 1000

// made are the creations of those that the source has made. They name no source, so
// that they do not go with its trees; one that declares them later takes them over.
// What may not be made, as the source's rights were narrowed or another source took the
// declaration away meanwhile, is refused.
func (h *homes) made() (out []ObjectChange, diags schema.Diagnostics) {
	room := -1 // not counted yet
	for _, name := range slices.Sorted(maps.Keys(h.missing)) {
		if h.declared[name] || !h.spec.Makes(name) {
			continue
		}
		d := h.missing[name]
		if room < 0 {
			room = maxMade - h.undeclared()
		}
		if room--; room < 0 || !h.mayMake && !slices.Contains(schema.GivenNamespaces, name) {
			diag := schema.Diagnostic{Position: d.Position, Severity: schema.Error, Message: fmt.Sprintf("no namespace %q is declared, and this source may not make it", name)}
			if h.mayMake {
				diag.Message = fmt.Sprintf("namespace %q is not made: there are %d already that nobody declares", name, maxMade)
			}
			diag.Hint = "declare it with a Namespace object"
			diags = append(diags, diag)
			continue
		}
		ns := schema.NewNamespace(name)
		out = append(out, ObjectChange{
			Action: Create, Key: schema.KeyOf(ns), Position: d.Position, Commit: schema.OriginOf(d.Object).Commit, next: ns,
		})
	}
	return out, diags
}

// undeclared counts the namespaces that belong to no source.
func (h *homes) undeclared() (n int) {
	for ns := range h.r.List(schema.NamespaceKey("").Kind, "") {
		if schema.SourceOf(ns) == "" {
			n++
		}
	}
	return n
}

// kept has namespaces stay that the tree declares no more and that would be made for its
// objects at once: they belong to no source from then on.
func (h *homes) kept(pruned []ObjectChange) []ObjectChange {
	for i := range pruned {
		ch := &pruned[i]
		if ch.Key != schema.NamespaceKey(ch.Key.Name) || !h.used[ch.Key.Name] || !h.spec.Makes(ch.Key.Name) {
			continue
		}
		next := state.Edit(ch.live)
		schema.ClearOrigin(next)
		ch.Action, ch.next = Update, next
		ch.Fields = []schema.FieldChange{{Path: "metadata.annotations[" + schema.AnnotationSource + "]", From: string(schema.SourceOf(ch.live))}}
	}
	return pruned
}
