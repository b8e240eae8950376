package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/objecttest"
)

func backend(name, ip string, change ...func(*corev1.Pod)) *corev1.Pod {
	serves := func(p *corev1.Pod) {
		p.Labels = map[string]string{"app": "api"}
		p.Spec.Containers = []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}}}
		p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip}
		setCondition(p, corev1.PodReady, corev1.ConditionTrue, start)
	}
	return objecttest.Pod(name, "n1", append([]func(*corev1.Pod){serves}, change...)...)
}

func slicesOfService(w *world, name string) []*discoveryv1.EndpointSlice {
	return slices.Collect(state.By[*discoveryv1.EndpointSlice](w.tx, state.EndpointSlicesByService, "shop/"+name))
}

// listed writes a service's endpoints as "ip:port,... pod node [ready serving terminating]".
func listed(w *world, name string) []string {
	var out []string
	for _, s := range slicesOfService(w, name) {
		var ports []string
		for _, p := range s.Ports {
			ports = append(ports, fmt.Sprintf("%s=%d/%s", *p.Name, *p.Port, *p.Protocol))
		}
		for _, e := range s.Endpoints {
			state := ""
			for word, on := range map[string]*bool{"r": e.Conditions.Ready, "s": e.Conditions.Serving, "t": e.Conditions.Terminating} {
				if *on {
					state += word
				}
			}
			letters := strings.Split(state, "")
			slices.Sort(letters)
			line := fmt.Sprintf("%s %s %s on %s [%s]", e.Addresses[0], strings.Join(ports, ","), e.TargetRef.Name, *e.NodeName, strings.Join(letters, ""))
			if e.Hostname != nil {
				line += " " + *e.Hostname
			}
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return out
}

func TestEndpoints(t *testing.T) {
	now := metav1.NewTime(start)
	notReady := func(p *corev1.Pod) { setCondition(p, corev1.PodReady, corev1.ConditionFalse, start) }
	terminating := func(p *corev1.Pod) { p.DeletionTimestamp = &now }
	named := func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("web") }
	tests := []struct {
		name string
		svc  *corev1.Service
		pods []*corev1.Pod
		want []string
	}{
		{"ready and not ready", service("api"), []*corev1.Pod{backend("a", "10.112.0.1"), backend("b", "10.112.0.2", notReady)},
			[]string{"10.112.0.1 http=8080/TCP a on n1 [rs]", "10.112.0.2 http=8080/TCP b on n1 []"}},
		{"a terminating pod serves while it is ready", service("api"), []*corev1.Pod{backend("a", "10.112.0.1", terminating), backend("b", "10.112.0.2", terminating, notReady)},
			[]string{"10.112.0.1 http=8080/TCP a on n1 [st]", "10.112.0.2 http=8080/TCP b on n1 [t]"}},
		{"what is published before it is ready", service("api", func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }), []*corev1.Pod{backend("a", "10.112.0.1", notReady)},
			[]string{"10.112.0.1 http=8080/TCP a on n1 [r]"}},
		{"neither without an address nor ended nor another's", service("api"), []*corev1.Pod{
			backend("a", ""), backend("b", "10.112.0.2", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }),
			backend("c", "10.112.0.3", func(p *corev1.Pod) { p.Labels["app"] = "web" }),
			backend("d", "10.112.0.4", func(p *corev1.Pod) { p.Namespace = "other" })}, nil},
		{"named ports differ from pod to pod", service("api", named), []*corev1.Pod{
			backend("a", "10.112.0.1"), backend("b", "10.112.0.2", func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].ContainerPort = 9090 }),
			backend("c", "10.112.0.3", func(p *corev1.Pod) { p.Spec.Containers[0].Ports = nil })},
			[]string{"10.112.0.1 http=8080/TCP a on n1 [rs]", "10.112.0.2 http=9090/TCP b on n1 [rs]"}},
		{"a hostname under the service", service("api"), []*corev1.Pod{backend("a", "10.112.0.1", func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "first", "api" })},
			[]string{"10.112.0.1 http=8080/TCP a on n1 [rs] first"}},
		{"headless without ports", service("api", clusterIP("None"), func(s *corev1.Service) { s.Spec.Ports = nil }), []*corev1.Pod{backend("a", "10.112.0.1")},
			[]string{"10.112.0.1  a on n1 [rs]"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := testWorld(t)
			w.put(tt.svc)
			for _, p := range tt.pods {
				w.put(p)
			}
			w.settle()
			if diff := cmp.Diff(tt.want, listed(w, "api")); diff != "" {
				t.Errorf("endpoints (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEndpointSliceItself(t *testing.T) {
	w := testWorld(t)
	svc := service("api", clusterIP("None"), func(s *corev1.Service) { s.Labels = map[string]string{"team": "shop"} })
	schema.SetOrigin(svc, schema.Origin{Source: "main", Path: "api.yaml", Line: 20, Commit: "c0ffee"})
	w.put(svc)
	w.settle()
	all := slicesOfService(w, "api")
	if len(all) != 1 || len(all[0].Endpoints) != 0 {
		t.Fatalf("a service without pods has slices %v, want an empty one", all)
	}
	s := all[0]
	want := map[string]string{"team": "shop", discoveryv1.LabelServiceName: "api", discoveryv1.LabelManagedBy: "fairlead", corev1.IsHeadlessService: ""}
	if diff := cmp.Diff(want, s.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if !metav1.IsControlledBy(s, get[*corev1.Service](w, "shop", "api")) || schema.OriginOf(s).Line != 20 || s.AddressType != discoveryv1.AddressTypeIPv4 {
		t.Errorf("slice: %+v", s.ObjectMeta)
	}
	w.put(backend("a", "10.112.0.1"))
	w.settle()
	if got := slicesOfService(w, "api"); len(got) != 1 || got[0].Name != s.Name || got[0].Generation != 2 {
		t.Errorf("the first endpoint made another slice: %v", got)
	}
	w.tx.Delete(schema.KeyOf(s))
	w.settle()
	if got := slicesOfService(w, "api"); len(got) != 1 || len(got[0].Endpoints) != 1 {
		t.Errorf("a lost slice does not come back: %v", got)
	}
	w.tx.Delete(schema.KeyOf(svc))
	w.settle()
	if got := slicesOfService(w, "api"); len(got) != 0 {
		t.Errorf("the service is gone, its slices are not: %v", got)
	}
}

func TestManyEndpointsTakeMoreSlices(t *testing.T) {
	w := newWorld(t)
	w.put(service("api"))
	for i := range MaxEndpointsPerSlice + 1 {
		w.put(backend(fmt.Sprintf("p%04d", i), fmt.Sprintf("10.112.%d.%d", i/250, i%250+1)))
	}
	w.node("n1")
	w.run(nil)
	var sizes []int
	for _, s := range slicesOfService(w, "api") {
		sizes = append(sizes, len(s.Endpoints))
	}
	slices.Sort(sizes)
	if diff := cmp.Diff([]int{1, MaxEndpointsPerSlice}, sizes); diff != "" {
		t.Errorf("sizes (-want +got):\n%s", diff)
	}
}

// A report that changes nothing a service can see visits none.
func TestAHeartbeatVisitsNoService(t *testing.T) {
	w := testWorld(t)
	w.put(service("api"), backend("a", "10.112.0.1"))
	w.settle()
	old := get[*corev1.Pod](w, "shop", "a")
	next := state.Edit(old)
	next.Status.Message = "still here"
	if keys := endpointsTriggers(w.tx, state.Change{Key: schema.KeyOf(next), Old: old, New: next}); len(keys) != 0 {
		t.Errorf("visits %v", keys)
	}
}
