package why

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// called are the objects that a user may mean by a name, in one namespace or in all.
func called(r state.Reader, kind schema.Kind, namespace, name string) (out []schema.Key) {
	for obj := range r.List(kind, namespace) {
		rev, isRevision := obj.(*schema.Revision)
		if obj.GetName() == name || isRevision && health.Means(rev, name) {
			out = append(out, schema.KeyOf(obj))
		}
	}
	return out
}

// Find resolves what a user names: in the namespace given, in "default",
// or in the only one that has it; a revision also by its commit. What is gone is found
// where a revision keeps evidence of it.
func Find(r state.Reader, kind schema.KindInfo, namespace, name string) (schema.Key, error) {
	key := schema.Key{Kind: kind.Kind, Namespace: namespace, Name: name}
	if !kind.Namespaced {
		namespace, key.Namespace = "", ""
	} else if namespace == "" {
		key.Namespace = metav1.NamespaceDefault
	}
	if r.Get(key) != nil {
		return key, nil
	}
	others := called(r, kind.Kind, namespace, name)
	if len(others) == 0 {
		others = Kept(r, kind.Kind, namespace, name)
	}
	switch len(others) {
	case 0:
		return key, fmt.Errorf("there is no %s", key)
	case 1:
		return others[0], nil
	}
	return key, severalError(name, others)
}

func severalError(name string, found []schema.Key) error {
	names := make([]string, len(found))
	for i, key := range found {
		names[i] = key.String()
	}
	return fmt.Errorf("%q is more than one object: %s", name, strings.Join(names, ", "))
}
