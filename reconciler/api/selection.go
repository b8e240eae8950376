package api

import (
	"fmt"
	"iter"
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"fairlead/schema"
)

// selection is what a list or watch asked to see.
type selection struct {
	namespace string // "" is all
	labels    labels.Selector
	fields    fields.Selector
}

func selectionOf(q url.Values, t target) (selection, error) {
	sel := selection{namespace: t.namespace}
	var err error
	if sel.labels, err = labels.Parse(q.Get("labelSelector")); err != nil {
		return sel, fmt.Errorf("labelSelector: %w", err)
	}
	if sel.fields, err = fields.ParseSelector(q.Get("fieldSelector")); err != nil {
		return sel, fmt.Errorf("fieldSelector: %w", err)
	}
	if t.res.stored {
		known := fieldSet(t.res.New())
		for _, req := range sel.fields.Requirements() {
			if _, ok := known[req.Field]; !ok {
				return sel, fmt.Errorf("field label %q is not supported for %s", req.Field, t.res.Resource)
			}
		}
	}
	if t.name != "" {
		sel.fields = fields.AndSelectors(sel.fields, fields.OneTermEqualSelector("metadata.name", t.name))
	}
	return sel, nil
}

func (sel selection) matches(obj schema.Object) bool {
	return obj != nil &&
		(sel.namespace == "" || obj.GetNamespace() == sel.namespace) &&
		sel.labels.Matches(labels.Set(obj.GetLabels())) &&
		(sel.fields.Empty() || sel.fields.Matches(fieldSet(obj)))
}

func (sel selection) collect(objs iter.Seq[schema.Object]) []schema.Object {
	var out []schema.Object
	for obj := range objs {
		if sel.matches(obj) {
			out = append(out, obj)
		}
	}
	return out
}

// fieldSet are the fields of obj that a fieldSelector may name: those
// Kubernetes has for its kinds.
func fieldSet(obj schema.Object) fields.Set {
	set := fields.Set{"metadata.name": obj.GetName(), "metadata.namespace": obj.GetNamespace()}
	switch o := obj.(type) {
	case *corev1.Pod:
		set["spec.nodeName"] = o.Spec.NodeName
		set["spec.restartPolicy"] = string(o.Spec.RestartPolicy)
		set["spec.schedulerName"] = o.Spec.SchedulerName
		set["spec.serviceAccountName"] = o.Spec.ServiceAccountName
		set["spec.hostNetwork"] = strconv.FormatBool(o.Spec.HostNetwork)
		set["status.phase"] = string(o.Status.Phase)
		set["status.podIP"] = o.Status.PodIP
		set["status.nominatedNodeName"] = o.Status.NominatedNodeName
	case *corev1.Node:
		set["spec.unschedulable"] = strconv.FormatBool(o.Spec.Unschedulable)
	case *corev1.Namespace:
		set["status.phase"] = string(o.Status.Phase)
	case *corev1.Secret:
		set["type"] = string(o.Type)
	case *corev1.Service:
		set["spec.clusterIP"] = o.Spec.ClusterIP
		set["spec.type"] = string(o.Spec.Type)
	case *corev1.Event:
		eventFields(set, o)
	case *schema.Revision:
		set["spec.source"] = o.Spec.Source
		set["status.phase"] = string(o.Status.Phase)
	}
	return set
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
