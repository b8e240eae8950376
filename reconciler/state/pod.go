package state

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/schema"
)

var (
	// PodsByNode: spec.nodeName; "" holds the pods not bound yet.
	PodsByNode = Index{schema.KindPod, 0, func(o schema.Object) []string { return []string{o.(*corev1.Pod).Spec.NodeName} }}
	// PodsByOwner: UID of the controlling owner; "" holds pods without one.
	PodsByOwner = Index{schema.KindPod, 1, controllerUID}
	// PodsByUID: metadata.uid.
	PodsByUID = Index{schema.KindPod, 2, func(o schema.Object) []string { return []string{string(o.GetUID())} }}
	// PodsByLabel: LabelValue of each label.
	PodsByLabel = Index{schema.KindPod, 3, func(o schema.Object) []string { return labelValues(o.GetNamespace(), o.GetLabels()) }}

	podIndexes = []Index{PodsByNode, PodsByOwner, PodsByUID, PodsByLabel}
)

// PodByUID finds a pod by its UID.
func PodByUID(r Reader, uid types.UID) (*corev1.Pod, bool) {
	for p := range By[*corev1.Pod](r, PodsByUID, string(uid)) {
		return p, true
	}
	return nil, false
}
