package api

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

var configMapRow = row{
	kind:     schema.KindConfigMap,
	columns:  []column{nameColumn, {name: "Data", kind: "integer"}, ageColumn},
	cells:    typedCells(configMapCells),
	fields:   fieldsCell{None: onlyNames},
	narrow:   narrowCell{None: noIndex},
	shared:   sharedCell{None: notShared},
	concerns: concernsCell{Do: readers},
	maker:    makerCell{None: byCluster},
	refuse:   refuseCell{None: byOrigin},
	reach:    reachCell{None: noAddress},
	fresh:    freshCell{None: allStored},
}

func configMapCells(cm *corev1.ConfigMap, now metav1.Time) []any {
	return []any{cm.Name, int64(len(cm.Data) + len(cm.BinaryData)), age(cm.CreationTimestamp, now)}
}
