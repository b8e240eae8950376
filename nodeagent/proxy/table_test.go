package proxy

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"fairlead/nodeagent/pod"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// exampleTable has one of everything.
func exampleTable() Table {
	return Table{
		Node: "n1", NodeIP: netip.MustParseAddr("10.9.0.1"),
		PodCIDR: netip.MustParsePrefix("10.112.0.0/22"), ClusterPodCIDR: netip.MustParsePrefix("10.112.0.0/12"),
		Services: map[string]wire.Service{
			"shop/web": {ClusterIPs: schema.List[string]{"10.96.0.20"},
				Ports: []wire.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, NodePort: 30080}},
				Endpoints: []wire.Endpoint{
					{IP: "10.112.0.5", Ports: []uint16{8080}, Node: "n1", Pod: "web-a"},
					{IP: "10.112.4.5", Ports: []uint16{8080}, Node: "n2", Pod: "web-b"},
				}},
			"shop/edge": {ClusterIPs: schema.List[string]{"10.96.0.21"},
				Ports: []wire.ServicePort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: 443, NodePort: 30443, ExternalLocal: true}},
				Endpoints: []wire.Endpoint{
					{IP: "10.112.0.6", Ports: []uint16{8443}, Node: "n1", Pod: "edge-a"},
					{IP: "10.112.4.6", Ports: []uint16{8443}, Node: "n2", Pod: "edge-b"},
				}},
			"shop/db": {Headless: true, Ports: []wire.ServicePort{{Port: 5432}},
				Endpoints: []wire.Endpoint{{IP: "10.112.0.7", Ports: []uint16{5432}, Node: "n1", Pod: "db-0"}}},
			"shop/queue": {ClusterIPs: schema.List[string]{"10.96.0.22"}, Ports: []wire.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 5672}}},
			"kube/names": {ClusterIPs: schema.List[string]{"10.96.0.23"}, Ports: []wire.ServicePort{{Protocol: corev1.ProtocolUDP, Port: 53}, {Protocol: corev1.ProtocolSCTP, Port: 54}},
				Endpoints: []wire.Endpoint{{IP: "10.112.4.7", Ports: []uint16{5353, 0}, Node: "n2", Pod: "names-0"}}},
		},
		HostPorts: []pod.HostPort{
			{HostPort: 9000, Protocol: corev1.ProtocolTCP, PodIP: "10.112.0.5", PodPort: 90},
			{HostIP: "10.9.0.1", HostPort: 9001, Protocol: corev1.ProtocolUDP, PodIP: "10.112.0.6", PodPort: 91},
		},
	}
}
