package control

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

var endpointSliceRow = Row{
	Kind:       schema.KindEndpointSlice,
	Controller: controllerCell{Do: Controller{"endpoints", endpointsTriggers, reconcileEndpoints}},
	Created:    createdCell{None: asWritten},
	Remove:     removeCell{None: justDeleted},
	Dependents: dependentsCell{None: nothingNeeds},
	Collect:    collectCell{None: "its controller removes it with its service"},
	Done:       doneCell{None: neverDone},
	Configured: configuredCell{None: notInGit},
	StandIn:    standInCell{None: noStandIn},
}

// MaxEndpointsPerSlice is where a service's endpoints go on in another slice:
// the most Kubernetes allows in one.
const MaxEndpointsPerSlice = 1000

// endpointsTriggers visits the service of a changed slice and the services of a
// changed pod's namespace that select it now or did.
func endpointsTriggers(r state.Reader, c state.Change) []schema.Key {
	switch c.Key.Kind {
	case schema.KindService:
		return []schema.Key{c.Key}
	case schema.KindEndpointSlice:
		var keys []schema.Key
		for _, slice := range changedSides[*discoveryv1.EndpointSlice](c) {
			key := schema.Key{Kind: schema.KindService, Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
			if !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
		return keys
	case schema.KindPod:
		return servicesOfPod(r, c)
	}
	return nil
}

func servicesOfPod(r state.Reader, c state.Change) []schema.Key {
	sides := changedSides[*corev1.Pod](c)
	if len(sides) == 2 && sameBackend(sides[0], sides[1]) {
		return nil
	}
	sides = slices.DeleteFunc(sides, func(p *corev1.Pod) bool { return !isBackend(p) })
	if len(sides) == 0 {
		return nil
	}
	var keys []schema.Key
	for _, pod := range sides {
		for label, value := range pod.Labels {
			for svc := range state.By[*corev1.Service](r, state.ServicesBySelector, state.LabelValue(pod.Namespace, label, value)) {
				if selects(svc, pod) {
					keys = append(keys, schema.KeyOf(svc))
				}
			}
		}
	}
	slices.SortFunc(keys, schema.Key.Compare)
	return slices.Compact(keys)
}

// sameBackend reports whether no service can tell the two apart.
func sameBackend(a, b *corev1.Pod) bool {
	return a.UID == b.UID && a.Status.PodIP == b.Status.PodIP && health.Ended(a) == health.Ended(b) && health.Ready(a) == health.Ready(b) &&
		(a.DeletionTimestamp == nil) == (b.DeletionTimestamp == nil) &&
		a.Spec.NodeName == b.Spec.NodeName && maps.Equal(a.Labels, b.Labels)
}

// isBackend reports whether a service may list the pod at all.
func isBackend(pod *corev1.Pod) bool {
	addr, err := netip.ParseAddr(pod.Status.PodIP)
	return err == nil && addr.Is4() && !health.Ended(pod)
}

func selects(svc *corev1.Service, pod *corev1.Pod) bool {
	if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return false
	}
	for k, want := range svc.Spec.Selector {
		if have, ok := pod.Labels[k]; !ok || have != want {
			return false
		}
	}
	return true
}

// reconcileEndpoints keeps a service's EndpointSlices: its pods with an address,
// grouped by the port numbers their containers give the service's ports.
func reconcileEndpoints(c *Context, key schema.Key) (wake time.Time) {
	have := map[string]*discoveryv1.EndpointSlice{}
	for slice := range state.By[*discoveryv1.EndpointSlice](c.Tx, state.EndpointSlicesByService, key.Namespace+"/"+key.Name) {
		have[slice.Name] = slice
	}
	if svc, ok := state.Get[*corev1.Service](c.Tx, key.Namespace, key.Name); ok {
		var wanted []*discoveryv1.EndpointSlice
		wanted, wake = fitEndpoints(c, svc, have, slicesOf(c, svc))
		for _, want := range wanted {
			putSlice(c, have[want.Name], want)
			delete(have, want.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		c.Tx.Delete(schema.KeyOf(have[name]))
	}
	return wake
}

// fitEndpoints leaves out endpoints for which every node would be told more than its
// bound, and tells so: those that take no traffic before those that do, and what is new
// before what is listed. As many as there are now always have room.
func fitEndpoints(c *Context, svc *corev1.Service, have map[string]*discoveryv1.EndpointSlice, want []*discoveryv1.EndpointSlice) (fit []*discoveryv1.EndpointSlice, wake time.Time) {
	had, wants := toldOf(maps.Values(have)), toldOf(slices.Values(want))
	if wants <= had {
		return want, wake
	}
	left := had + max(0, toldRoom(c.Tx, svc, wants-had))
	if wants <= left {
		return want, wake
	}
	fit, out := leaveOut(want, listedIn(have), left)
	eventOnce(c, c.Now.Add(-roomTold), svc, corev1.EventTypeWarning, "EndpointsLeftOut", fmt.Sprintf(
		"%s are left out: the Services of source %s, or of all sources, take as much as every node can be told; let Services select fewer pods, or remove some",
		out, schema.SourceOf(svc)))
	return fit, c.Now.Add(roomRetry)
}

// toldOf is what nodes are told of endpoints.
func toldOf(all iter.Seq[*discoveryv1.EndpointSlice]) (told int64) {
	for slice := range all {
		told += wire.TakesOf(slice).Told
	}
	return told
}

// listedIn are the pods of endpoints.
func listedIn(have map[string]*discoveryv1.EndpointSlice) map[types.UID]bool {
	out := map[types.UID]bool{}
	for _, slice := range have {
		for i := range slice.Endpoints {
			out[podOfEndpoint(&slice.Endpoints[i])] = true
		}
	}
	return out
}

func podOfEndpoint(ep *discoveryv1.Endpoint) types.UID {
	if ep.TargetRef == nil {
		return ""
	}
	return ep.TargetRef.UID
}

// leftOut counts what is left out.
type leftOut struct{ out, all, ready int }

func (l leftOut) String() string {
	if l.ready == 0 {
		return fmt.Sprintf("%d of %d endpoints, none of them ready,", l.out, l.all)
	}
	return fmt.Sprintf("%d of %d endpoints, %d of them ready,", l.out, l.all, l.ready)
}

// leaveOut is the slices, which it changes in place, with as many of their endpoints as
// take the bytes: those that are missed most.
func leaveOut(want []*discoveryv1.EndpointSlice, listed map[types.UID]bool, bytes int64) (fit []*discoveryv1.EndpointSlice, out leftOut) {
	var all []*discoveryv1.Endpoint
	ports := map[*discoveryv1.Endpoint][]discoveryv1.EndpointPort{}
	for _, slice := range want {
		for i := range slice.Endpoints {
			ep := &slice.Endpoints[i]
			all, ports[ep] = append(all, ep), slice.Ports
		}
	}
	out.all = len(all)
	slices.SortStableFunc(all, func(a, b *discoveryv1.Endpoint) int {
		return cmp.Or(
			compareBool(*b.Conditions.Ready, *a.Conditions.Ready), compareBool(*b.Conditions.Serving, *a.Conditions.Serving),
			compareBool(listed[podOfEndpoint(b)], listed[podOfEndpoint(a)]),
		)
	})
	gone := map[types.UID]bool{}
	for _, ep := range all {
		one := &discoveryv1.EndpointSlice{Ports: ports[ep], Endpoints: []discoveryv1.Endpoint{*ep}}
		if bytes -= wire.TakesOf(one).Told; bytes >= 0 {
			continue
		}
		gone[podOfEndpoint(ep)] = true
		if out.out++; *ep.Conditions.Ready {
			out.ready++
		}
	}
	for i, slice := range want {
		slice.Endpoints = slices.DeleteFunc(slice.Endpoints, func(ep discoveryv1.Endpoint) bool { return gone[podOfEndpoint(&ep)] })
		if len(slice.Endpoints) > 0 || i == 0 {
			fit = append(fit, slice)
		}
	}
	return fit, out
}

func putSlice(c *Context, have, want *discoveryv1.EndpointSlice) {
	if have == nil {
		want.CreationTimestamp = c.Stamp()
		want.Generation = 1
		c.Tx.Put(want)
		return
	}
	next := state.Edit(have)
	next.Labels, next.Annotations, next.OwnerReferences = want.Labels, want.Annotations, want.OwnerReferences
	next.AddressType, next.Endpoints, next.Ports = want.AddressType, want.Endpoints, want.Ports
	if equality.Semantic.DeepEqual(have, next) {
		return
	}
	next.Generation++
	c.Tx.Put(next)
}

// portGroup is the pods of a service that serve its ports under the same numbers.
type portGroup struct {
	ports []discoveryv1.EndpointPort
	key   string
	pods  []*corev1.Pod
}

// slicesOf is every slice the service wants, one without endpoints when no pod is
// there; none for a service that selects nothing.
func slicesOf(c *Context, svc *corev1.Service) []*discoveryv1.EndpointSlice {
	if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	groups := groupByPorts(c.Tx, svc)
	if len(groups) == 0 {
		groups = []portGroup{{}}
	}
	var out []*discoveryv1.EndpointSlice
	for _, g := range groups {
		pods := g.pods
		for first := true; first || len(pods) > 0; first = false {
			n := min(len(pods), MaxEndpointsPerSlice)
			out = append(out, newSlice(svc, len(out), g.ports, pods[:n]))
			pods = pods[n:]
		}
	}
	return out
}

// groupByPorts sorts groups by their ports; within one, pods stand in name order.
func groupByPorts(r state.Reader, svc *corev1.Service) []portGroup {
	var groups []portGroup
	for pod := range state.By[*corev1.Pod](r, state.PodsByLabel, state.SelectorLabel(svc)) {
		if !isBackend(pod) || !selects(svc, pod) {
			continue
		}
		ports := resolvePorts(svc, pod)
		if len(ports) == 0 && len(svc.Spec.Ports) > 0 {
			continue
		}
		key := portsKey(ports)
		i := slices.IndexFunc(groups, func(g portGroup) bool { return g.key == key })
		if i < 0 {
			i = len(groups)
			groups = append(groups, portGroup{ports: ports, key: key})
		}
		groups[i].pods = append(groups[i].pods, pod)
	}
	slices.SortFunc(groups, func(a, b portGroup) int { return cmp.Compare(a.key, b.key) })
	return groups
}

func portsKey(ports []discoveryv1.EndpointPort) (key string) {
	for _, p := range ports {
		key += fmt.Sprintf("%s %05d %s;", *p.Name, *p.Port, *p.Protocol)
	}
	return key
}

// resolvePorts leaves out a port whose name no container of the pod has.
func resolvePorts(svc *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	var out []discoveryv1.EndpointPort
	for _, p := range svc.Spec.Ports {
		number, ok := targetPort(p, pod)
		if !ok {
			continue
		}
		name, protocol := p.Name, p.Protocol
		out = append(out, discoveryv1.EndpointPort{Name: &name, Protocol: &protocol, Port: &number, AppProtocol: p.AppProtocol})
	}
	return out
}

func targetPort(p corev1.ServicePort, pod *corev1.Pod) (int32, bool) {
	if p.TargetPort.Type == intstr.Int {
		return cmp.Or(p.TargetPort.IntVal, p.Port), true
	}
	for ctr := range schema.StayingContainers(&pod.Spec) {
		for _, cp := range ctr.Ports {
			if cp.Name == p.TargetPort.StrVal && cp.Protocol == p.Protocol {
				return cp.ContainerPort, true
			}
		}
	}
	return 0, false
}

func newSlice(svc *corev1.Service, n int, ports []discoveryv1.EndpointPort, pods []*corev1.Pod) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: svc.Name + "-" + schema.NameSuffix(svc.UID, n), GenerateName: svc.Name + "-", Namespace: svc.Namespace,
			Labels:          maps.Clone(svc.Labels),
			OwnerReferences: []metav1.OwnerReference{ownerRef(svc)},
		},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: ports,
	}
	slice.Labels = withLabel(slice.Labels, discoveryv1.LabelServiceName, svc.Name)
	slice.Labels[discoveryv1.LabelManagedBy] = eventSource
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		slice.Labels[corev1.IsHeadlessService] = ""
	}
	schema.InheritOrigin(slice, svc)
	for _, pod := range pods {
		slice.Endpoints = append(slice.Endpoints, endpointOf(svc, pod))
	}
	return slice
}

// endpointOf judges as Kubernetes does: a terminating pod is not ready, but goes
// on serving while its probes pass.
func endpointOf(svc *corev1.Service, pod *corev1.Pod) discoveryv1.Endpoint {
	serving, terminating := health.Ready(pod), pod.DeletionTimestamp != nil
	isReady := svc.Spec.PublishNotReadyAddresses || serving && !terminating
	ep := discoveryv1.Endpoint{
		Addresses:  []string{pod.Status.PodIP},
		Conditions: discoveryv1.EndpointConditions{Ready: &isReady, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: string(schema.KindPod), Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if node := pod.Spec.NodeName; node != "" {
		ep.NodeName = &node
	}
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == svc.Name {
		hostname := pod.Spec.Hostname
		ep.Hostname = &hostname
	}
	return ep
}
