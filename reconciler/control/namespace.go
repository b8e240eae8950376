package control

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

var namespaceRow = Row{
	Kind:       schema.KindNamespace,
	Controller: controllerCell{Do: Controller{"namespace", namespaceTriggers, reconcileNamespace}},
	Created:    createdCell{None: asWritten},
	Remove:     removeCell{None: justDeleted},
	Dependents: dependentsCell{None: nothingNeeds},
	Collect:    collectCell{None: needsNothing},
	Done:       doneCell{None: neverDone},
	Configured: configuredCell{None: takenOver},
	StandIn:    standInCell{Do: standInNamespace},
}

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

// standInNamespace stands for a namespace until its source is read.
func standInNamespace(_ *Context, about metav1.ObjectMeta) schema.Object {
	about.Labels = map[string]string{corev1.LabelMetadataName: about.Name}
	return &corev1.Namespace{ObjectMeta: about}
}

// KeepDefaultNamespace makes the one namespace that stands in no repository, if it is
// not there.
func KeepDefaultNamespace(c *Context) {
	if _, ok := state.Get[*corev1.Namespace](c.Tx, "", metav1.NamespaceDefault); !ok {
		c.Tx.Put(standInNamespace(c, metav1.ObjectMeta{Name: metav1.NamespaceDefault, CreationTimestamp: c.Stamp()}))
	}
}
