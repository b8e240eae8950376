package control

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/chance"
)

func service(name string, change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, Selector: map[string]string{"app": "api"},
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	for _, f := range change {
		f(s)
	}
	return s
}

func clusterIP(ip string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.ClusterIP = ip }
}

func nodePort(port int32) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeNodePort
		s.Spec.Ports[0].NodePort = port
	}
}

func allocated(w *world, name string) string {
	cond, _ := allocatedCondition(get[*corev1.Service](w, "shop", name))
	return fmt.Sprintf("%s %s: %s", cond.Status, cond.Reason, cond.Message)
}

func TestServiceIsGivenWhatItLeavesOpen(t *testing.T) {
	w := newWorld(t)
	w.put(service("api"), service("web", nodePort(0)), service("db", clusterIP(corev1.ClusterIPNone)), service("out", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }))
	w.settle()
	api, web, db, out := get[*corev1.Service](w, "shop", "api"), get[*corev1.Service](w, "shop", "web"), get[*corev1.Service](w, "shop", "db"), get[*corev1.Service](w, "shop", "out")
	if api.Spec.ClusterIP == "" || len(api.Spec.ClusterIPs) != 1 || api.Spec.ClusterIPs[0] != api.Spec.ClusterIP || api.Spec.IPFamilies[0] != corev1.IPv4Protocol || *api.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack {
		t.Errorf("api: %+v", api.Spec)
	}
	if p := web.Spec.Ports[0].NodePort; p < 30000 || p > 30009 || web.Spec.ClusterIP == api.Spec.ClusterIP {
		t.Errorf("web: %+v", web.Spec)
	}
	if db.Spec.ClusterIP != "None" || db.Spec.ClusterIPs[0] != "None" {
		t.Errorf("db: %+v", db.Spec)
	}
	if out.Spec.ClusterIP != "" || len(out.Status.Conditions) != 0 {
		t.Errorf("an alias was given something: %+v", out.Spec)
	}
	// Deleted and made again, it gets the same: nothing is in the way.
	w.tx.Delete(schema.KeyOf(web))
	w.settle()
	w.put(service("web", nodePort(0)))
	w.settle()
	again := get[*corev1.Service](w, "shop", "web")
	if again.Spec.ClusterIP != web.Spec.ClusterIP || again.Spec.Ports[0].NodePort != web.Spec.Ports[0].NodePort {
		t.Errorf("got %s and %d, before it was %s and %d", again.Spec.ClusterIP, again.Spec.Ports[0].NodePort, web.Spec.ClusterIP, web.Spec.Ports[0].NodePort)
	}
}

func TestServiceConflicts(t *testing.T) {
	tests := []struct {
		name string
		have []*corev1.Service
		ask  *corev1.Service
		want string
	}{
		{"an address in use", []*corev1.Service{service("api", clusterIP("10.96.0.7"))}, service("web", clusterIP("10.96.0.7")), "False ClusterIPInUse: cluster address 10.96.0.7 belongs to service shop/api"},
		{"a port in use", []*corev1.Service{service("api", nodePort(30001))}, service("web", nodePort(30001)), "False NodePortInUse: node port 30001/TCP belongs to service shop/api"},
		{"a port twice", nil, service("web", nodePort(30001), func(s *corev1.Service) {
			s.Spec.Ports = append(s.Spec.Ports, s.Spec.Ports[0])
		}), "False NodePortInUse: node port 30001/TCP is used twice in this service"},
		{"a port out of range", nil, service("web", nodePort(80)), "False NodePortOutOfRange: node port 80/TCP is outside 30000-30009"},
		{"an address out of range", nil, service("web", clusterIP("10.97.0.7")), "False ClusterIPOutOfRange: cluster address 10.97.0.7 is not one of 10.96.0.0/24, or reserved there"},
		{"the DNS server's address", nil, service("web", clusterIP("10.96.0.10")), "False ClusterIPOutOfRange: cluster address 10.96.0.10 is not one of 10.96.0.0/24, or reserved there"},
		{"the broadcast address", nil, service("web", clusterIP("10.96.0.255")), "False ClusterIPOutOfRange: cluster address 10.96.0.255 is not one of 10.96.0.0/24, or reserved there"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			for _, s := range tt.have {
				w.put(s)
			}
			w.settle()
			w.put(tt.ask)
			w.settle()
			if diff := cmp.Diff(tt.want, allocated(w, "web")); diff != "" {
				t.Errorf("condition (-want +got):\n%s", diff)
			}
			if !Refused(get[*corev1.Service](w, "shop", "web")) {
				t.Errorf("the service is not refused")
			}
			if got := len(events(w)); got != 1 {
				t.Errorf("got %d events, want 1: %v", got, events(w))
			}
			for _, s := range tt.have {
				w.tx.Delete(schema.KeyOf(s))
				w.settle()
				if got := allocated(w, "web"); got[:4] != "True" {
					t.Errorf("once it is free: %s", got)
				}
			}
		})
	}
}

// Whoever comes, asks, changes and goes: no address or port belongs to two
// services that are not refused, and none is reserved.
func TestNothingIsAllocatedTwice(t *testing.T) {
	chance.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.cfg.ServiceCIDR = w.cfg.ServiceCIDR.Masked()
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			name := fmt.Sprintf("s%d", rapid.IntRange(0, 12).Draw(rt, "name"))
			key := schema.Key{Kind: schema.KindService, Namespace: "shop", Name: name}
			if rapid.IntRange(0, 3).Draw(rt, "delete") == 0 {
				w.tx.Delete(key)
				w.settle()
				continue
			}
			s := service(name)
			if old, ok := state.Get[*corev1.Service](w.tx, "shop", name); ok {
				s = state.Edit(old)
			}
			if rapid.Bool().Draw(rt, "explicit") {
				s.Spec.ClusterIP = fmt.Sprintf("10.96.0.%d", rapid.IntRange(8, 12).Draw(rt, "ip"))
			}
			if rapid.Bool().Draw(rt, "nodePort") {
				s.Spec.Type = corev1.ServiceTypeNodePort
				s.Spec.Ports[0].NodePort = int32(rapid.SampledFrom([]int{0, 30000, 30001, 30002}).Draw(rt, "port"))
			}
			w.put(s)
			w.settle()
		}
		seen := map[string]string{}
		for s := range state.All[*corev1.Service](w.tx, "") {
			if Refused(s) {
				continue
			}
			a := claims(s)
			for _, value := range append(a.ports, a.ip) {
				if other := seen[value]; other != "" || value == "" || value == "10.96.0.10" {
					rt.Fatalf("%q belongs to %s and %s", value, other, s.Name)
				}
				seen[value] = s.Name
			}
		}
	})
}

func TestNodePortsRunOut(t *testing.T) {
	w := newWorld(t)
	for i := range 11 {
		w.put(service(fmt.Sprintf("s%02d", i), nodePort(0)))
		w.settle()
	}
	if got, want := allocated(w, "s10"), "False NodePortNotAllocated: no node port of 30000-30009 is free"; got != want {
		t.Errorf("got %s", got)
	}
	w.tx.Delete(schema.Key{Kind: schema.KindService, Namespace: "shop", Name: "s03"})
	w.run(nil)
	w.pass(RetryAllocation)
	if got := allocated(w, "s10"); got[:4] != "True" {
		t.Errorf("once one is free: %s", got)
	}
}
