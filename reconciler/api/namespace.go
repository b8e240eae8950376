package api

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"fairlead/schema"
)

var namespaceRow = row{
	kind:     schema.KindNamespace,
	columns:  []column{nameColumn, {name: "Status"}, ageColumn},
	cells:    typedCells(namespaceCells),
	fields:   fieldsCell{Do: typedFields(namespaceFields)},
	narrow:   narrowCell{None: noIndex},
	shared:   sharedCell{None: notShared},
	concerns: concernsCell{None: notOwn},
	maker:    makerCell{None: byCluster},
	refuse:   refuseCell{None: byOrigin},
	reach:    reachCell{None: noAddress},
	fresh:    freshCell{None: allStored},
}

func namespaceCells(ns *corev1.Namespace, now metav1.Time) []any {
	return []any{ns.Name, string(ns.Status.Phase), age(ns.CreationTimestamp, now)}
}

func namespaceFields(set fields.Set, o *corev1.Namespace) {
	set["status.phase"] = string(o.Status.Phase)
}
