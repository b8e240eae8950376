package control

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// noteFinished remembers, on the source of an object that has done its work and is
// about to go, that it is not to be made again. It reports false where the source
// remembers as many already as it can: the object then stays.
func noteFinished(c *Context, obj schema.Object, record schema.FinishedRecord) bool {
	src, ok := state.Source(c.Tx, schema.SourceOf(obj))
	if !ok || metav1.GetControllerOfNoCopy(obj) != nil {
		return true
	}
	next := state.Edit(src)
	next.Status.Finished, ok = schema.Remember(src.Status.Finished, record)
	if ok {
		c.Tx.Put(next)
	}
	return ok
}
