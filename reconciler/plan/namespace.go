package plan

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/layout"
)

// tellLeftBehind tells of Namespaces that go while objects stay in them.
func (p *Plan) tellLeftBehind(f *fork) {
	for i := range p.Objects {
		o := &p.Objects[i]
		if o.Action != settle.Prune || o.Kind != schema.KindNamespace {
			continue
		}
		if n := objectsIn(f.tx, o.Name); n > 0 {
			p.note("Namespace %s goes, and %s stay in it", o.Name, layout.Count(n, "object"))
		}
	}
}

// objectsIn counts what sources have put into a namespace.
func objectsIn(r state.Reader, namespace string) (n int) {
	for _, info := range schema.Kinds() {
		if !info.Desired || !info.Namespaced {
			continue
		}
		for obj := range r.List(info.Kind, namespace) {
			if metav1.GetControllerOfNoCopy(obj) == nil && schema.SourceOf(obj) != "" && obj.GetDeletionTimestamp() == nil {
				n++
			}
		}
	}
	return n
}
