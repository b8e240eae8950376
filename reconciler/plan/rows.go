package plan

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

// row is what a plan foresees and tells of one kind that makes pods.
type row struct {
	kind schema.Kind
	// count is how many pods an object asks for.
	count countCell
	// current reports whether what the object made is what it would make now.
	current currentCell
	// report is what an agent reports of a pod that such an object made, or that is one
	// itself, once everything went well.
	report reportCell
}

type (
	countCell   = schema.Cell[func(obj schema.Object) int32]
	currentCell = schema.Cell[func(obj, made schema.Object) bool]
	reportCell  = schema.Cell[func(pod *corev1.Pod, now time.Time) *corev1.Pod]
)

var rows = schema.RowsOf(func(r *row) schema.Kind { return r.kind },
	deploymentRow, replicaSetRow, jobRow, cronJobRow, podRow,
	makesNoPods(schema.KindNamespace), makesNoPods(schema.KindNode), makesNoPods(schema.KindService), makesNoPods(schema.KindEndpointSlice),
	makesNoPods(schema.KindConfigMap), makesNoPods(schema.KindSecret), makesNoPods(schema.KindEvent),
	makesNoPods(schema.KindSource), makesNoPods(schema.KindRevision),
)

func makesNoPods(kind schema.Kind) row {
	const reason = "no pod is made from it"
	return row{kind: kind, count: countCell{None: reason}, current: currentCell{None: reason}, report: reportCell{None: reason}}
}

// count is zero for what is not there, or asks for no number.
func (f *fork) count(obj schema.Object) int32 {
	if obj == nil {
		return 0
	}
	row := f.rows.Of(schema.KindOf(obj))
	if row == nil || row.count.Do == nil {
		return 0
	}
	return row.count.Do(obj)
}

// isCurrent holds for what nobody knows to be out of date.
func (f *fork) isCurrent(owner, made schema.Object) bool {
	if made == nil {
		return false
	}
	row := f.rows.Of(schema.KindOf(owner))
	return row == nil || row.current.Do == nil || row.current.Do(owner, made)
}

// reported is the pod as its agent reports it once everything went well; false when
// nobody knows, or it waits for what is not there, which the plan then tells.
func (f *fork) reported(pod *corev1.Pod) (*corev1.Pod, bool) {
	kind, name := schema.KindPod, "Pod "+pod.Name
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		kind, name = schema.Kind(ref.Kind), ref.Kind+" "+ref.Name
	}
	row := f.rows.Of(kind)
	if row == nil || row.report.Do == nil {
		f.unforeseen[name] = true
		return nil, false
	}
	if missing, ok := f.waitsFor(pod); ok {
		f.awaited[missing] = append(f.awaited[missing], f.maker(pod))
		return nil, false
	}
	return row.report.Do(pod, f.now), true
}
