package api

import (
	"fmt"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

var endpointSliceRow = row{
	kind: schema.KindEndpointSlice,
	columns: []column{
		nameColumn, {name: "AddressType"}, {name: "Ports"}, {name: "Endpoints"}, ageColumn,
	},
	cells:    typedCells(endpointSliceCells),
	fields:   fieldsCell{None: onlyNames},
	narrow:   narrowCell{None: noIndex},
	shared:   sharedCell{Do: serviceOfSlice},
	concerns: concernsCell{None: notOwn},
	maker:    makerCell{Do: "is made by the cluster from a Service and its pods"},
	refuse:   refuseCell{None: byOrigin},
	reach:    reachCell{None: noAddress},
	fresh:    freshCell{None: allStored},
}

func endpointSliceCells(s *discoveryv1.EndpointSlice, now metav1.Time) []any {
	var ports, addresses []string
	for _, p := range s.Ports {
		switch {
		case p.Port != nil:
			ports = append(ports, fmt.Sprint(*p.Port))
		case p.Name != nil:
			ports = append(ports, *p.Name)
		}
	}
	for _, e := range s.Endpoints {
		addresses = append(addresses, e.Addresses...)
	}
	return []any{s.Name, string(s.AddressType), joinMost(ports, unset), joinMost(addresses, unset), age(s.CreationTimestamp, now)}
}

func serviceOfSlice(c state.Change) (items []string) {
	for _, obj := range []schema.Object{c.Old, c.New} {
		if obj != nil {
			items = append(items, "services/"+c.Key.Namespace+"/"+obj.GetLabels()[discoveryv1.LabelServiceName])
		}
	}
	return items
}
