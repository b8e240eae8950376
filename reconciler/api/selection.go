package api

import (
	"fmt"
	"iter"
	"net/url"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"fairlead/schema"
)

// selection is what a list or watch asked to see.
type selection struct {
	namespace string // "" is all
	labels    labels.Selector
	fields    fields.Selector
	more      fieldsFunc // adds the kind's own fields; nil where it has none
}

func selectionOf(q url.Values, t target) (selection, error) {
	sel := selection{namespace: t.namespace, more: t.res.fields}
	var err error
	if sel.labels, err = labels.Parse(q.Get("labelSelector")); err != nil {
		return sel, fmt.Errorf("labelSelector: %w", err)
	}
	if sel.fields, err = fields.ParseSelector(q.Get("fieldSelector")); err != nil {
		return sel, fmt.Errorf("fieldSelector: %w", err)
	}
	if t.res.stored {
		known := sel.fieldSet(t.res.New())
		for _, req := range sel.fields.Requirements() {
			if _, ok := known[req.Field]; !ok {
				return sel, fmt.Errorf("field label %q is not supported for %s", req.Field, t.res.Resource)
			}
		}
	}
	if t.name != "" {
		sel.fields = fields.AndSelectors(sel.fields, fields.OneTermEqualSelector("metadata.name", t.name))
	}
	return sel, nil
}

func (sel selection) matches(obj schema.Object) bool {
	return obj != nil &&
		(sel.namespace == "" || obj.GetNamespace() == sel.namespace) &&
		sel.labels.Matches(labels.Set(obj.GetLabels())) &&
		(sel.fields.Empty() || sel.fields.Matches(sel.fieldSet(obj)))
}

func (sel selection) collect(objs iter.Seq[schema.Object]) []schema.Object {
	var out []schema.Object
	for obj := range objs {
		if sel.matches(obj) {
			out = append(out, obj)
		}
	}
	return out
}

// fieldSet are the fields of obj that a fieldSelector may name.
func (sel selection) fieldSet(obj schema.Object) fields.Set {
	set := fields.Set{"metadata.name": obj.GetName(), "metadata.namespace": obj.GetNamespace()}
	if sel.more != nil {
		sel.more(set, obj)
	}
	return set
}
