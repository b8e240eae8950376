package api

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"fairlead/schema"
)

var eventRow = row{
	kind: schema.KindEvent,
	columns: []column{
		{name: "Last Seen"}, {name: "Type"}, {name: "Reason"}, {name: "Object"}, {name: "Subobject", wide: true}, {name: "Source", wide: true},
		{name: "Message"}, {name: "First Seen", wide: true}, {name: "Count", kind: "integer", wide: true}, {name: "Name", format: "name", wide: true},
	},
	cells:    typedCells(eventCells),
	fields:   fieldsCell{Do: typedFields(eventFields)},
	narrow:   narrowCell{None: noIndex},
	shared:   sharedCell{None: notShared},
	concerns: concernsCell{None: notOwn},
	maker:    makerCell{Do: "tells what happened and is kept for an hour"},
	refuse:   refuseCell{None: byOrigin},
	reach:    reachCell{None: noAddress},
	fresh:    freshCell{None: allStored},
}

func eventCells(e *corev1.Event, now metav1.Time) []any {
	first, last, count := e.FirstTimestamp, e.LastTimestamp, int64(e.Count)
	if first.IsZero() {
		first = metav1.Time(e.EventTime)
	}
	if e.Series != nil {
		last, count = metav1.Time(e.Series.LastObservedTime), int64(e.Series.Count)
	}
	if last.IsZero() {
		last = first
	}
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	if e.Source.Host != "" {
		source += ", " + e.Source.Host
	}
	object := strings.ToLower(e.InvolvedObject.Kind) + "/" + e.InvolvedObject.Name
	return []any{
		age(last, now), e.Type, e.Reason, object, e.InvolvedObject.FieldPath, source,
		strings.TrimSpace(e.Message), age(first, now), max(count, 1), e.Name,
	}
}

func eventFields(set fields.Set, e *corev1.Event) {
	set["involvedObject.kind"] = e.InvolvedObject.Kind
	set["involvedObject.namespace"] = e.InvolvedObject.Namespace
	set["involvedObject.name"] = e.InvolvedObject.Name
	set["involvedObject.uid"] = string(e.InvolvedObject.UID)
	set["involvedObject.apiVersion"] = e.InvolvedObject.APIVersion
	set["involvedObject.resourceVersion"] = e.InvolvedObject.ResourceVersion
	set["involvedObject.fieldPath"] = e.InvolvedObject.FieldPath
	set["reason"] = e.Reason
	set["reportingComponent"] = e.ReportingController
	set["source"] = e.Source.Component
	set["type"] = e.Type
}
