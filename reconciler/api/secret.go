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
}

func secretCells(s *corev1.Secret, now metav1.Time) []any {
	return []any{s.Name, string(s.Type), int64(len(s.Data)), age(s.CreationTimestamp, now)}
}

func secretFields(set fields.Set, o *corev1.Secret) {
	set["type"] = string(o.Type)
}
