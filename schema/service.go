package schema

import (
	"fmt"
	"net/netip"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

// KindService is the kind of Kubernetes' Service.
const KindService Kind = "Service"

var serviceRow = Row{
	KindInfo: KindInfo{
		Kind: KindService, Version: "v1", Resource: "services", Singular: "service", Short: []string{"svc"},
		Namespaced: true, Desired: true, All: true, New: func() Object { return &corev1.Service{} },
	},
	Name:       nameCell{Do: validation.IsDNS1035Label},
	Supported:  supportedCell{Do: []string{serviceFields}},
	Defaults:   defaultsCell{Do: func(obj Object) { defaultService(&obj.(*corev1.Service).Spec) }},
	Judge:      judgeCell{Do: func(p *problems, obj Object) { p.service(&obj.(*corev1.Service).Spec) }},
	Update:     updateCell{Do: updateService},
	Work:       workCell{None: neverDone},
	Pods:       podsCell{None: noPods},
	References: referencesCell{None: "it finds pods by their labels, and names none"},
	Data:       dataCell{None: noData},
	Backends:   backendsCell{Do: backendsOfService},
	Claims:     claimsCell{Do: claimsOfService},
	Declares:   declaresCell{None: declaresNone},
	Rights:     rightsCell{None: noRights},
	Owns:       ownsCell{Do: []Kind{KindEndpointSlice}},
	Carry:      carryCell{Do: carryService},
	Memory:     memoryCell{Do: Memory{Lean: unversioned, Told: toldOfService}},
	Whole:      wholeCell{None: anyIsWhole},
}

const serviceFields = `
		spec.type = ClusterIP | NodePort
		spec.selector
		spec.ports.name
		spec.ports.protocol = TCP | UDP
		spec.ports.port
		spec.ports.targetPort
		spec.ports.nodePort
		spec.ports.appProtocol ~ connections are forwarded as they are
		spec.clusterIP
		spec.clusterIPs
		spec.publishNotReadyAddresses
		spec.sessionAffinity = None
		spec.externalTrafficPolicy
		spec.internalTrafficPolicy = Cluster
		spec.ipFamilies = IPv4
		spec.ipFamilyPolicy = SingleStack
		spec.trafficDistribution +
		spec.loadBalancerClass +
		spec.healthCheckNodePort ? 0
		spec.allocateLoadBalancerNodePorts +
		spec.allocateLoadBalancerNodePorts ? true`

func defaultService(s *corev1.ServiceSpec) {
	setDefault(&s.Type, corev1.ServiceTypeClusterIP)
	setDefault(&s.SessionAffinity, corev1.ServiceAffinityNone)
	setPointer(&s.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	if s.Type == corev1.ServiceTypeNodePort {
		setDefault(&s.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	if s.ClusterIP == "" && len(s.ClusterIPs) > 0 {
		s.ClusterIP = s.ClusterIPs[0]
	}
	for i := range s.Ports {
		port := &s.Ports[i]
		setDefault(&port.Protocol, corev1.ProtocolTCP)
		if port.TargetPort == (intstr.IntOrString{}) || port.TargetPort == intstr.FromString("") {
			port.TargetPort = intstr.FromInt32(port.Port)
		}
	}
}

func (p *problems) service(s *corev1.ServiceSpec) {
	oneOf(p, "", "spec.type", s.Type, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort)
	p.labels("spec.selector", s.Selector)
	p.clusterIP(s)
	nodePort := s.Type == corev1.ServiceTypeNodePort
	switch {
	case nodePort:
		oneOf(p, "", "spec.externalTrafficPolicy", s.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)
	case s.ExternalTrafficPolicy != "":
		p.add("spec.externalTrafficPolicy", "has no meaning with type %s", s.Type)
		p.because("spec.type")
	}
	if len(s.Ports) == 0 && s.ClusterIP != corev1.ClusterIPNone {
		p.hint("spec.ports", "only a headless service (clusterIP: None) may go without", "must be set")
		p.because("spec.clusterIP")
	}
	p.servicePorts(s.Ports, nodePort)
}

func (p *problems) clusterIP(s *corev1.ServiceSpec) {
	if len(s.ClusterIPs) > 1 || len(s.ClusterIPs) == 1 && s.ClusterIPs[0] != s.ClusterIP {
		p.hint("spec.clusterIPs", "leave it out", "must be clusterIP alone")
	}
	switch addr, err := netip.ParseAddr(s.ClusterIP); {
	case s.ClusterIP == "":
	case s.ClusterIP == corev1.ClusterIPNone:
		if s.Type == corev1.ServiceTypeNodePort {
			p.add("spec.clusterIP", "a headless service cannot be of type NodePort")
			p.because("spec.type")
		}
	case err != nil || !addr.Is4():
		p.hint("spec.clusterIP", "leave it out to have one given", "%q is not an IPv4 address", s.ClusterIP)
	}
}

// maxServicePorts bounds the ports of a service: every node programs each of them for
// every endpoint.
const maxServicePorts = 1000

func (p *problems) servicePorts(ports []corev1.ServicePort, nodePort bool) {
	if len(ports) > maxServicePorts {
		p.hint("spec.ports", "split the service", "%d ports, at most %d are taken", len(ports), maxServicePorts)
		return
	}
	type portID struct {
		protocol corev1.Protocol
		number   int32
	}
	names := make(map[string]int, len(ports))
	numbers := make(map[portID]int, len(ports))
	for i := range ports {
		port := &ports[i]
		at := fmt.Sprintf("spec.ports[%d]", i)
		p.portName(at, port.Name, len(ports) > 1)
		if first, twice := names[port.Name]; twice && port.Name != "" {
			p.add(at+".name", "%q is the name of ports[%d] too", port.Name, first)
		}
		names[port.Name] = i
		id := portID{port.Protocol, port.Port}
		if first, twice := numbers[id]; twice {
			p.add(at+".port", "%d/%s is ports[%d] too", port.Port, port.Protocol, first)
		}
		numbers[id] = i
		oneOf(p, at, ".protocol", port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP)
		p.portNumber(at, ".port", port.Port)
		if port.TargetPort != intstr.FromInt32(port.Port) {
			p.targetPort(at+".targetPort", port.TargetPort)
		}
		switch {
		case port.NodePort == 0:
		case nodePort:
			p.portNumber(at, ".nodePort", port.NodePort)
		default:
			p.hint(at+".nodePort", "write type: NodePort", "has no meaning with type ClusterIP")
			p.because("spec.type")
		}
	}
}

func (p *problems) portName(at, name string, required bool) {
	if name == "" {
		if required {
			p.add(at+".name", "must be set when a service has several ports")
		}
		return
	}
	p.rule(at, ".name", name, validation.IsDNS1123Label)
}

func (p *problems) targetPort(field string, target intstr.IntOrString) {
	if target.Type == intstr.Int {
		p.portNumber(field, "", target.IntVal)
		return
	}
	if _, err := strconv.ParseUint(target.StrVal, 10, 16); err == nil {
		p.hint(field, "leave out the quotes", "%q is text, and no port is named so", target.StrVal)
		return
	}
	p.namedPort(field, "", target.StrVal)
}

func (p *problems) portNumber(at, name string, port int32) {
	if port < 1 || port > 65535 {
		p.add(at+name, "%d must be between 1 and 65535", port)
	}
}

func (p *problems) namedPort(at, field, name string) {
	if len(name) <= maxPortName && isSimpleName(name) {
		return
	}
	if wrong := validation.IsValidPortName(name); len(wrong) > 0 {
		p.add(at+field, "%q is not a valid port name: %s", name, shortRule(wrong[0]))
	}
}

// maxPortName is how long a port's name is at most (RFC 6335).
const maxPortName = 15

// updateService keeps a Service's own address.
func updateService(p *problems, old, new Object) {
	was, is := old.(*corev1.Service).Spec.ClusterIP, new.(*corev1.Service).Spec.ClusterIP
	headless := was == corev1.ClusterIPNone || is == corev1.ClusterIPNone
	if was == is || was == "" || is == "" && !headless {
		return
	}
	if is == "" {
		is = "one that is given"
	}
	p.hint("spec.clusterIP", "give the Service another name", "cannot change once the Service exists: from %s to %s", was, is)
}

// backendsOfService are the pods that it selects.
func backendsOfService(obj Object) Backends {
	spec := &obj.(*corev1.Service).Spec
	out := Backends{Selector: spec.Selector, SelectorField: "spec.selector"}
	for i, port := range spec.Ports {
		if port.TargetPort.Type == intstr.String {
			out.Ports = append(out.Ports, BackendPort{fmt.Sprintf("spec.ports[%d].targetPort", i), port.TargetPort.StrVal, port.Protocol})
		}
	}
	return out
}

// claimsOfService are its node ports and its address.
func claimsOfService(obj Object) (out []Claim) {
	spec := &obj.(*corev1.Service).Spec
	for i, port := range spec.Ports {
		if port.NodePort >= 1 && port.NodePort <= 65535 {
			out = append(out, Claim{Field: fmt.Sprintf("spec.ports[%d].nodePort", i), NodePort: port.NodePort, Protocol: port.Protocol})
		}
	}
	if addr, err := netip.ParseAddr(spec.ClusterIP); err == nil && addr.Is4() {
		out = append(out, Claim{Field: "spec.clusterIP", Address: addr})
	}
	return out
}

// carryService keeps the addresses and ports the service was given where the
// manifest leaves them open.
func carryService(before, after Object) {
	live, next := before.(*corev1.Service), after.(*corev1.Service)
	next.Status = live.Status
	if next.Spec.ClusterIP == "" && live.Spec.ClusterIP != corev1.ClusterIPNone {
		next.Spec.ClusterIP = live.Spec.ClusterIP
	}
	if next.Spec.ClusterIP == live.Spec.ClusterIP {
		next.Spec.ClusterIPs = live.Spec.ClusterIPs
		next.Spec.IPFamilies = live.Spec.IPFamilies
		next.Spec.IPFamilyPolicy = live.Spec.IPFamilyPolicy
	}
	if next.Spec.Type == corev1.ServiceTypeClusterIP {
		return
	}
	for i := range next.Spec.Ports {
		p := &next.Spec.Ports[i]
		for _, old := range live.Spec.Ports {
			if p.NodePort == 0 && old.Port == p.Port && old.Protocol == p.Protocol {
				p.NodePort = old.NodePort
			}
		}
	}
}

// toldOfService is the JSON of a service as nodes get it, without its endpoints.
func toldOfService(obj Object) int64 {
	const (
		frame = len(`"services//":{"clusterIP":["255.255.255.255"],"headless":false,"ports":[],"endpoints":[]},`)
		port  = len(`{"name":"","protocol":"SCTP","port":65535,"nodePort":65535,"externalLocal":true},`)
	)
	svc := obj.(*corev1.Service)
	told := frame + len(svc.Namespace) + len(svc.Name)
	for i := range svc.Spec.Ports {
		told += port + len(svc.Spec.Ports[i].Name)
	}
	return int64(told)
}
