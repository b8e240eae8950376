package state

import (
	discoveryv1 "k8s.io/api/discovery/v1"

	"fairlead/schema"
)

// EndpointSlicesByService: "namespace/service".
var EndpointSlicesByService = Index{schema.KindEndpointSlice, 0, func(o schema.Object) []string {
	return []string{o.GetNamespace() + "/" + o.GetLabels()[discoveryv1.LabelServiceName]}
}}

var endpointSliceIndexes = []Index{EndpointSlicesByService}
