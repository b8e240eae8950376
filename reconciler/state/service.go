package state

import (
	"fmt"
	"iter"

	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
)

var (
	// ServicesByClusterIP: spec.clusterIP where one is set.
	ServicesByClusterIP = Index{schema.KindService, 0, func(o schema.Object) []string {
		if ip := o.(*corev1.Service).Spec.ClusterIP; ip != "" && ip != corev1.ClusterIPNone {
			return []string{ip}
		}
		return nil
	}}
	// ServicesByNodePort: "30080/TCP" for each node port.
	ServicesByNodePort = Index{schema.KindService, 1, func(o schema.Object) []string {
		var out []string
		for _, p := range o.(*corev1.Service).Spec.Ports {
			if p.NodePort != 0 {
				out = append(out, fmt.Sprintf("%d/%s", p.NodePort, p.Protocol))
			}
		}
		return out
	}}
	// ServicesBySelector: LabelValue of one of its selector's labels, SelectorLabel;
	// none for a service that selects nothing.
	ServicesBySelector = Index{schema.KindService, 2, func(o schema.Object) []string {
		if value := SelectorLabel(o.(*corev1.Service)); value != "" {
			return []string{value}
		}
		return nil
	}}

	serviceIndexes = []Index{ServicesByClusterIP, ServicesByNodePort, ServicesBySelector}
)

// Claimants are the services that name a cluster address, "10.96.0.50", or a node port,
// "30080/TCP".
func Claimants(r Reader, claim string) iter.Seq[schema.Object] {
	return func(yield func(schema.Object) bool) {
		for _, index := range []Index{ServicesByClusterIP, ServicesByNodePort} {
			for obj := range r.By(index, claim) {
				if !yield(obj) {
					return
				}
			}
		}
	}
}

// SelectorLabel is the label of the selector to look for the service's pods under:
// the first by key, "" if it has none. Every pod it selects has it.
func SelectorLabel(svc *corev1.Service) string {
	first := ""
	for key := range svc.Spec.Selector {
		if first == "" || key < first {
			first = key
		}
	}
	if len(svc.Spec.Selector) == 0 {
		return ""
	}
	return LabelValue(svc.Namespace, first, svc.Spec.Selector[first])
}
