package why

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

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
	var others []schema.Key
	for obj := range r.List(kind.Kind, namespace) {
		rev, isRevision := obj.(*schema.Revision)
		if obj.GetName() == name || isRevision && health.Means(rev, name) {
			others = append(others, schema.KeyOf(obj))
		}
	}
	if len(others) == 0 {
		others = Kept(r, kind.Kind, namespace, name)
	}
	switch len(others) {
	case 0:
		return key, fmt.Errorf("there is no %s", key)
	case 1:
		return others[0], nil
	}
	names := make([]string, len(others))
	for i, o := range others {
		names[i] = o.String()
	}
	return key, fmt.Errorf("%q is more than one object: %s", name, strings.Join(names, ", "))
}
