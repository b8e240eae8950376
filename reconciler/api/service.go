package api

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

var serviceRow = row{
	kind: schema.KindService,
	columns: []column{
		nameColumn, {name: "Type"}, {name: "Cluster-IP"}, {name: "External-IP"}, {name: "Port(s)"}, ageColumn, {name: "Selector", wide: true},
	},
	cells:    typedCells(serviceCells),
	fields:   fieldsCell{Do: typedFields(serviceFields)},
	narrow:   narrowCell{None: noIndex},
	shared:   sharedCell{Do: itemOfService},
	concerns: concernsCell{None: notOwn},
	maker:    makerCell{None: byCluster},
	refuse:   refuseCell{None: byOrigin},
	reach:    reachCell{Do: reachService},
	fresh:    freshCell{None: allStored},
}

func serviceCells(svc *corev1.Service, now metav1.Time) []any {
	var ports []string
	for _, p := range svc.Spec.Ports {
		text := fmt.Sprint(p.Port)
		if p.NodePort != 0 {
			text += fmt.Sprintf(":%d", p.NodePort)
		}
		ports = append(ports, text+"/"+string(p.Protocol))
	}
	return []any{
		svc.Name, string(svc.Spec.Type), orNone(svc.Spec.ClusterIP), externalAddress(svc), orNone(strings.Join(ports, ",")),
		age(svc.CreationTimestamp, now), orNone(labelText(svc.Spec.Selector)),
	}
}

func externalAddress(svc *corev1.Service) string {
	switch svc.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return svc.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var out []string
		for _, in := range svc.Status.LoadBalancer.Ingress {
			out = append(out, in.IP+in.Hostname)
		}
		if out = append(out, svc.Spec.ExternalIPs...); len(out) == 0 {
			return "<pending>"
		}
		return strings.Join(out, ",")
	}
	return orNone(strings.Join(svc.Spec.ExternalIPs, ","))
}

func labelText(labels map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, k+"="+labels[k])
	}
	return strings.Join(out, ",")
}

func serviceFields(set fields.Set, o *corev1.Service) {
	set["spec.clusterIP"] = o.Spec.ClusterIP
	set["spec.type"] = string(o.Spec.Type)
}

func itemOfService(c state.Change) []string {
	return []string{"services/" + c.Key.Namespace + "/" + c.Key.Name}
}

func reachService(obj schema.Object) string {
	if ip := obj.(*corev1.Service).Spec.ClusterIP; ip != corev1.ClusterIPNone {
		return reachAt(ip)
	}
	return reachAt("")
}
