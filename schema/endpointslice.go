package schema

import discoveryv1 "k8s.io/api/discovery/v1"

// KindEndpointSlice is the kind of discovery' EndpointSlice.
const KindEndpointSlice Kind = "EndpointSlice"

var endpointSliceRow = Row{
	KindInfo: KindInfo{
		Kind: KindEndpointSlice, Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices", Singular: "endpointslice",
		Namespaced: true, Instead: "write a Service", New: func() Object { return &discoveryv1.EndpointSlice{} },
	},
	Name:       subdomain,
	Supported:  supportedCell{None: notInGit},
	Defaults:   defaultsCell{None: notInGit},
	Judge:      judgeCell{None: notInGit},
	Update:     updateCell{None: notInGit},
	Work:       workCell{None: neverDone},
	Pods:       podsCell{None: noPods},
	References: referencesCell{None: namesNothing},
	Data:       dataCell{None: noData},
	Backends:   backendsCell{None: noBackends},
	Claims:     claimsCell{None: claimsNone},
	Declares:   declaresCell{None: declaresNone},
	Rights:     rightsCell{None: notInGit},
	Owns:       ownsCell{None: ownsNothing},
	Carry:      carryCell{None: notInGit},
	Memory:     memoryCell{Do: Memory{Told: toldOfSlice}}, // it follows from the pods that are kept
	Whole:      wholeCell{None: anyIsWhole},
}

// toldOfSlice is the JSON of the slice's endpoints, as nodes get them: each with its own
// list of port numbers.
func toldOfSlice(obj Object) int64 {
	const frame, port = len(`{"ip":"","ports":[],"node":"","pod":"","hostname":""},`), len("65535,")
	slice := obj.(*discoveryv1.EndpointSlice)
	told := 0
	for i := range slice.Endpoints {
		ep := &slice.Endpoints[i]
		told += frame + port*len(slice.Ports)
		for _, address := range ep.Addresses {
			told += len(address)
		}
		if ep.NodeName != nil {
			told += len(*ep.NodeName)
		}
		if ep.TargetRef != nil {
			told += len(ep.TargetRef.Name)
		}
		if ep.Hostname != nil {
			told += len(*ep.Hostname)
		}
	}
	return int64(told)
}
