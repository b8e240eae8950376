package control

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

func namespaceTriggers(_ state.Reader, c state.Change) []schema.Key {
	return ownKey(schema.KindNamespace, c)
}

// reconcileNamespace writes the one phase a namespace has here.
func reconcileNamespace(c *Context, key schema.Key) (wake time.Time) {
	ns, ok := state.Get[*corev1.Namespace](c.Tx, "", key.Name)
	if !ok || ns.Status.Phase == corev1.NamespaceActive {
		return wake
	}
	next := state.Edit(ns)
	next.Status.Phase = corev1.NamespaceActive
	c.Tx.Put(next)
	return wake
}
