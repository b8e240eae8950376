// Package work answers what one node must be told: from a snapshot of the
// cluster it makes the whole value a node's agent runs from. It is pure; the
// agents' door decides when to send it and how little of it.
package work

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler/control"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// SecretOpener returns a Secret's values in the clear; false means that they
// cannot be opened now and the node must do without.
type SecretOpener func(namespace, name string) (map[string][]byte, bool)

// For is everything node must know at r's instant. cluster is the same for all
// nodes. The result shares memory with r's frozen objects: read only.
func For(r state.Reader, node schema.NodeName, cluster wire.ClusterInfo, open SecretOpener) wire.Work {
	w, _ := Own(r, node, cluster, open)
	w.Peers = map[schema.NodeName]wire.Peer{}
	for n := range state.All[*corev1.Node](r, "") {
		if peer, ok := PeerOf(n); ok && schema.NodeName(n.Name) != node {
			w.Peers[schema.NodeName(n.Name)] = peer
		}
	}
	w.Services = map[string]wire.Service{}
	for s := range state.All[*corev1.Service](r, "") {
		if svc, ok := ServiceOf(r, s.Namespace, s.Name); ok {
			w.Services[s.Namespace+"/"+s.Name] = svc
		}
	}
	return w
}

// Own is the part of For that concerns this node alone: its range, its pods and
// what they reference. opened is false when a referenced Secret exists but could
// not be opened.
func Own(r state.Reader, node schema.NodeName, cluster wire.ClusterInfo, open SecretOpener) (w wire.Work, opened bool) {
	w = wire.Work{
		Node: node, Cluster: cluster, Pods: map[types.UID]wire.PodWork{},
		ConfigMaps: map[string]map[string][]byte{}, Secrets: map[string]map[string][]byte{},
	}
	if n, ok := state.Get[*corev1.Node](r, "", string(node)); ok {
		w.PodCIDRs = n.Spec.PodCIDRs
	}
	opened = true
	for pod := range state.By[*corev1.Pod](r, state.PodsByNode, string(node)) {
		w.Pods[pod.UID] = podWork(pod)
		refs := wire.PodRefs(pod)
		for _, key := range refs[schema.KindConfigMap] {
			if cm, ok := state.Get[*corev1.ConfigMap](r, pod.Namespace, key[len(pod.Namespace)+1:]); ok {
				w.ConfigMaps[key] = configMapData(cm)
				if len(cm.BinaryData) > 0 {
					if w.BinaryKeys == nil {
						w.BinaryKeys = map[string][]string{}
					}
					w.BinaryKeys[key] = slices.Sorted(maps.Keys(cm.BinaryData))
				}
			}
		}
		for _, key := range refs[schema.KindSecret] {
			name := key[len(pod.Namespace)+1:]
			if _, ok := state.Get[*corev1.Secret](r, pod.Namespace, name); !ok {
				continue
			}
			if data, ok := open(pod.Namespace, name); ok {
				w.Secrets[key] = data
			} else {
				opened = false
			}
		}
	}
	return w, opened
}

// SamePod reports whether a node cannot tell the two apart: a new status or
// resourceVersion is not work.
func SamePod(a, b *corev1.Pod) bool { return reflect.DeepEqual(podWork(a), podWork(b)) }

func podWork(pod *corev1.Pod) wire.PodWork {
	p := *pod
	p.ResourceVersion = ""
	p.ManagedFields = nil
	p.Status = corev1.PodStatus{}
	w := wire.PodWork{Pod: &p, Epoch: Epoch(pod)}
	if o := schema.OriginOf(pod); o.Source != "" {
		w.Revision = o.Revision()
	}
	w.Drained = pod.DeletionTimestamp != nil && pod.Annotations[schema.AnnotationDrained] == "true"
	return w
}

// Epoch is that of the pod's binding, 0 for one that is not bound.
func Epoch(pod *corev1.Pod) int64 {
	epoch, _ := strconv.ParseInt(pod.Annotations[schema.AnnotationEpoch], 10, 64)
	return epoch
}

func configMapData(cm *corev1.ConfigMap) map[string][]byte {
	out := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, v := range cm.Data {
		out[k] = []byte(v)
	}
	for k, v := range cm.BinaryData {
		out[k] = v
	}
	return out
}

// PeerOf is how other nodes reach n's pods; false while n has no range or
// address.
func PeerOf(n *corev1.Node) (wire.Peer, bool) {
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP && n.Spec.PodCIDR != "" {
			return wire.Peer{NodeIPs: schema.List[string]{a.Address}, PodCIDRs: n.Spec.PodCIDRs}, true
		}
	}
	return wire.Peer{}, false
}

// ServiceOf is the service as nodes program and resolve it, with its ready
// endpoints; false when it is not there, only an alias (ExternalName), or was
// refused the address or port it asks for.
func ServiceOf(r state.Reader, namespace, name string) (wire.Service, bool) {
	svc, ok := state.Get[*corev1.Service](r, namespace, name)
	if !ok || svc.Spec.Type == corev1.ServiceTypeExternalName || control.Refused(svc) {
		return wire.Service{}, false
	}
	out := wire.Service{Ports: make([]wire.ServicePort, len(svc.Spec.Ports))}
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		out.Headless = true
	} else {
		out.ClusterIPs = svc.Spec.ClusterIPs
	}
	for i, p := range svc.Spec.Ports {
		out.Ports[i] = wire.ServicePort{
			Name: p.Name, Protocol: cmp.Or(p.Protocol, corev1.ProtocolTCP), Port: uint16(p.Port), NodePort: uint16(p.NodePort),
			ExternalLocal: svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		}
	}
	out.Endpoints = endpoints(r, svc, out.Ports)
	return out, true
}

// endpoints merges the service's slices: an address that stands in two (its
// pods name different numbers for one port) is one endpoint.
func endpoints(r state.Reader, svc *corev1.Service, ports []wire.ServicePort) []wire.Endpoint {
	byIP := map[string]*wire.Endpoint{}
	for slice := range state.By[*discoveryv1.EndpointSlice](r, state.EndpointSlicesByService, svc.Namespace+"/"+svc.Name) {
		if slice.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		for _, ep := range slice.Endpoints {
			ready := ep.Conditions.Ready == nil || *ep.Conditions.Ready
			if len(ep.Addresses) == 0 || !ready && !svc.Spec.PublishNotReadyAddresses {
				continue
			}
			e := byIP[ep.Addresses[0]]
			if e == nil {
				e = &wire.Endpoint{IP: ep.Addresses[0], Ports: make([]uint16, len(ports))}
				byIP[e.IP] = e
			}
			describe(e, ep)
			fillPorts(e, ports, slice.Ports)
		}
	}
	var out []wire.Endpoint
	for _, e := range byIP {
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b wire.Endpoint) int { return compareIP(a.IP, b.IP) })
	return out
}

func describe(e *wire.Endpoint, ep discoveryv1.Endpoint) {
	if ep.NodeName != nil {
		e.Node = schema.NodeName(*ep.NodeName)
	}
	if ep.TargetRef != nil {
		e.Pod = ep.TargetRef.Name
	}
	if ep.Hostname != nil {
		e.Hostname = *ep.Hostname
	}
}

func fillPorts(e *wire.Endpoint, want []wire.ServicePort, have []discoveryv1.EndpointPort) {
	for i, p := range want {
		for _, h := range have {
			if h.Port == nil || deref(h.Name) != p.Name || h.Protocol != nil && *h.Protocol != p.Protocol {
				continue
			}
			e.Ports[i] = uint16(*h.Port)
		}
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func compareIP(a, b string) int {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	if errX != nil || errY != nil {
		return cmp.Compare(a, b)
	}
	return x.Compare(y)
}
