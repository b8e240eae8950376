package plan

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// tellNotes tells what a reader of the objects' and pods' lists would not see.
func (p *Plan) tellNotes(f *fork) {
	p.tellUnfollowed(f)
	p.tellLeftBehind(f)
	p.tellNextRuns(f)
	p.tellReadAtStart(f)
	p.tellAvoided(f)
	p.tellAwaited(f)
	gaps := p.tellGaps(f)
	p.tellRenames(f, gaps)
	slices.Sort(p.Notes)
}

// maxAvoided bounds the nodes that are named as avoided.
const maxAvoided = 5

// tellAvoided tells which nodes new pods avoid because they cannot start pods, where the
// plan starts any.
func (p *Plan) tellAvoided(f *fork) {
	if !slices.ContainsFunc(p.Pods, func(pod Pod) bool { return pod.Action == "start" }) {
		return
	}
	var nodes []string
	for node := range state.All[*corev1.Node](f.tx, "") {
		if slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&schema.StartsFailing) }) {
			nodes = append(nodes, node.Name)
		}
	}
	if more := len(nodes) - maxAvoided; more > 0 {
		nodes = append(nodes[:maxAvoided], fmt.Sprintf("%d more", more))
	}
	if len(nodes) > 0 {
		p.note("pods could not be started on %s lately: new ones are placed there only where no other node takes them", strings.Join(nodes, ", "))
	}
}

func (p *Plan) note(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

func (o *Object) key() schema.Key {
	return schema.Key{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}
}

// name is the kind and the qualified name, "Deployment shop/api".
func (o *Object) name() string { return string(o.Kind) + " " + o.qualified() }

// maxCompared bounds how many pairs of objects are looked at for renames: a commit
// that renames more than this has no reader who would want each of them told.
const maxCompared = 2_000

// tellRenames tells which objects go and come back under another name; those whose
// gap is told already are left out.
func (p *Plan) tellRenames(f *fork, told []string) {
	var gone, fresh []*Object
	for i := range p.Objects {
		switch o := &p.Objects[i]; o.Action {
		case settle.Prune:
			gone = append(gone, o)
		case settle.Create:
			fresh = append(fresh, o)
		}
	}
	if len(gone)*len(fresh) > maxCompared {
		return
	}
	for _, old := range gone {
		alike := slices.DeleteFunc(slices.Clone(fresh), func(o *Object) bool { return !f.alike(old.key(), o.key()) })
		if len(alike) != 1 || slices.Contains(told, string(old.Kind)+" "+old.Name) {
			continue
		}
		p.note("%s has what %s had: the cluster does not rename, it deletes the old one and creates the new one at the same time", alike[0].name(), old.name())
	}
}

// alike reports whether an object that comes has the content of one that goes, but for
// names, labels and what the cluster gave it.
func (f *fork) alike(goes, comes schema.Key) bool {
	was, is := f.base.Get(goes), f.tx.Get(comes)
	if goes.Kind != comes.Kind || was == nil || is == nil {
		return false
	}
	// Two that are no more than their names are no renaming.
	return differInContent(schema.Info(goes.Kind).New(), was) && !differInContent(was, is)
}

func differInContent(a, b schema.Object) bool {
	return slices.ContainsFunc(schema.Diff(a, b), func(c schema.FieldChange) bool {
		return !strings.HasPrefix(c.Path, "metadata.") && !strings.Contains(c.Path, "abels") && !strings.HasPrefix(c.Path, "spec.selector") &&
			!strings.HasSuffix(c.Path, "clusterIP") && !strings.HasSuffix(c.Path, "nodePort")
	})
}
