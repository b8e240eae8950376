package api

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// derivation makes a collection that is not stored out of kinds that are.
type derivation struct {
	get  func(r state.Reader, namespace, name string) schema.Object
	list func(r state.Reader, namespace string) iter.Seq[schema.Object]
	// change tells what a change of a stored object does to the collection at r's
	// instant, or nil for nothing.
	change func(r state.Reader, c state.Change) *objectChange
}

// objectChange is a state.Change of one collection: old nil is a creation, now
// nil a deletion.
type objectChange struct {
	old, now schema.Object
	rv       uint64
}

// endpointsResource serves core Endpoints, which older clients read instead of
// EndpointSlices: one for each service.
var endpointsResource = &resource{
	KindInfo: schema.KindInfo{
		Kind: "Endpoints", Version: "v1", Resource: "endpoints", Singular: "endpoints", Short: []string{"ep"}, Namespaced: true,
	},
	derive:  &derivation{get: getEndpoints, list: listEndpoints, change: changeEndpoints},
	columns: []column{nameColumn, {name: "Endpoints"}, ageColumn},
	cells: func(obj schema.Object, now metav1.Time) []any {
		ep := obj.(*corev1.Endpoints) //nolint:staticcheck // deprecated for clients to write, not to read
		return []any{ep.Name, endpointAddresses(ep.Subsets), age(ep.CreationTimestamp, now)}
	},
}

func getEndpoints(r state.Reader, namespace, name string) schema.Object {
	svc, ok := state.Get[*corev1.Service](r, namespace, name)
	if !ok || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	return deriveEndpoints(r, svc)
}

func listEndpoints(r state.Reader, namespace string) iter.Seq[schema.Object] {
	return func(yield func(schema.Object) bool) {
		for svc := range state.All[*corev1.Service](r, namespace) {
			if svc.Spec.Type != corev1.ServiceTypeExternalName && !yield(deriveEndpoints(r, svc)) {
				return
			}
		}
	}
}

//nolint:staticcheck // see endpointsResource
func deriveEndpoints(r state.Reader, svc *corev1.Service) schema.Object {
	ep := &corev1.Endpoints{
		TypeMeta: metav1.TypeMeta{Kind: "Endpoints", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{
			Name: svc.Name, Namespace: svc.Namespace, UID: svc.UID, Labels: svc.Labels, CreationTimestamp: svc.CreationTimestamp,
			ResourceVersion: svc.ResourceVersion,
		},
	}
	schema.InheritOrigin(ep, svc)
	for slice := range state.By[*discoveryv1.EndpointSlice](r, state.EndpointSlicesByService, svc.Namespace+"/"+svc.Name) {
		ep.ResourceVersion = laterVersion(ep.ResourceVersion, slice.ResourceVersion)
		if subset := subsetOf(slice); len(subset.Addresses)+len(subset.NotReadyAddresses) > 0 {
			ep.Subsets = append(ep.Subsets, subset)
		}
	}
	return ep
}

//nolint:staticcheck // see endpointsResource
func subsetOf(slice *discoveryv1.EndpointSlice) corev1.EndpointSubset {
	var s corev1.EndpointSubset
	for _, p := range slice.Ports {
		if p.Port == nil {
			continue
		}
		port := corev1.EndpointPort{Port: *p.Port, Protocol: corev1.ProtocolTCP, AppProtocol: p.AppProtocol}
		if p.Name != nil {
			port.Name = *p.Name
		}
		if p.Protocol != nil {
			port.Protocol = *p.Protocol
		}
		s.Ports = append(s.Ports, port)
	}
	for _, e := range slice.Endpoints {
		if len(e.Addresses) == 0 {
			continue
		}
		addr := corev1.EndpointAddress{IP: e.Addresses[0], NodeName: e.NodeName, TargetRef: e.TargetRef}
		if e.Hostname != nil {
			addr.Hostname = *e.Hostname
		}
		if e.Conditions.Ready == nil || *e.Conditions.Ready {
			s.Addresses = append(s.Addresses, addr)
		} else {
			s.NotReadyAddresses = append(s.NotReadyAddresses, addr)
		}
	}
	byIP := func(a, b corev1.EndpointAddress) int { return cmp.Compare(a.IP, b.IP) }
	slices.SortFunc(s.Addresses, byIP)
	slices.SortFunc(s.NotReadyAddresses, byIP)
	return s
}

func laterVersion(a, b string) string {
	x, _ := strconv.ParseUint(a, 10, 64)
	y, _ := strconv.ParseUint(b, 10, 64)
	if y > x {
		return b
	}
	return a
}

func changeEndpoints(r state.Reader, c state.Change) *objectChange {
	var name string
	switch c.Key.Kind {
	case schema.KindService:
		name = c.Key.Name
	case schema.KindEndpointSlice:
		obj := c.New
		if obj == nil {
			obj = c.Old
		}
		name = obj.GetLabels()[discoveryv1.LabelServiceName]
	default:
		return nil
	}
	if svc, ok := c.Old.(*corev1.Service); ok && c.New == nil {
		return &objectChange{old: deriveEndpoints(r, svc), rv: c.RV}
	}
	now := getEndpoints(r, c.Key.Namespace, name)
	if now == nil {
		return nil
	}
	now.SetResourceVersion(strconv.FormatUint(c.RV, 10))
	if c.Key.Kind == schema.KindService && c.Old == nil {
		return &objectChange{now: now, rv: c.RV}
	}
	return &objectChange{old: now, now: now, rv: c.RV}
}

//nolint:staticcheck // see endpointsResource
func endpointAddresses(subsets []corev1.EndpointSubset) string {
	var out []string
	for _, s := range subsets {
		for _, a := range s.Addresses {
			if len(s.Ports) == 0 {
				out = append(out, a.IP)
			}
			for _, p := range s.Ports {
				out = append(out, fmt.Sprintf("%s:%d", a.IP, p.Port))
			}
		}
	}
	return joinMost(out, none)
}
