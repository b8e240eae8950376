package api

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"fairlead/schema"
)

var secretRow = row{
	kind:     schema.KindSecret,
	columns:  []column{nameColumn, {name: "Type"}, {name: "Data", kind: "integer"}, ageColumn},
	cells:    typedCells(secretCells),
	fields:   fieldsCell{Do: typedFields(secretFields)},
	narrow:   narrowCell{None: noIndex},
	shared:   sharedCell{None: notShared},
	concerns: concernsCell{Do: readers},
	maker:    makerCell{None: byCluster},
	refuse:   refuseCell{None: byOrigin},
	reach:    reachCell{None: noAddress},
	fresh:    freshCell{None: allStored},
}

func secretCells(s *corev1.Secret, now metav1.Time) []any {
	return []any{s.Name, string(s.Type), int64(len(s.Data)), age(s.CreationTimestamp, now)}
}

func secretFields(set fields.Set, o *corev1.Secret) {
	set["type"] = string(o.Type)
}

// redactedValue stands where a Secret's value was.
var redactedValue = []byte("redacted")

// present is obj as it may leave the server: a Secret without its values.
func present(obj schema.Object) schema.Object {
	secret, ok := obj.(*corev1.Secret)
	if !ok {
		return obj
	}
	out := *secret
	out.ObjectMeta = *secret.ObjectMeta.DeepCopy()
	out.StringData = nil
	out.Data = make(map[string][]byte, len(secret.Data)+len(secret.StringData))
	for k := range secret.Data {
		out.Data[k] = redactedValue
	}
	for k := range secret.StringData {
		out.Data[k] = redactedValue
	}
	delete(out.Annotations, corev1.LastAppliedConfigAnnotation) // holds the values once more
	if out.Annotations == nil {
		out.Annotations = map[string]string{}
	}
	out.Annotations[schema.AnnotationRedacted] = "true"
	return &out
}
