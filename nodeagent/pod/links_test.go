package pod

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
	"fairlead/schema/wire"
)

func TestServiceLinks(t *testing.T) {
	tcp := func(port uint16, name string) wire.ServicePort {
		return wire.ServicePort{Name: name, Port: port, Protocol: corev1.ProtocolTCP}
	}
	data := Data{
		ConfigMaps: map[string]map[string][]byte{"shop/conf": {"REDIS_PORT": []byte("of envFrom")}},
		Services: map[string]wire.Service{
			"shop/redis":         {ClusterIPs: schema.List[string]{"10.96.0.11"}, Ports: []wire.ServicePort{tcp(6379, "")}},
			"shop/my-api":        {ClusterIPs: schema.List[string]{"10.96.0.12"}, Ports: []wire.ServicePort{tcp(80, "http"), {Name: "quic-alt", Port: 443, Protocol: corev1.ProtocolUDP}}},
			"shop/peers":         {Headless: true, Ports: []wire.ServicePort{tcp(1, "")}},
			"shop/waits":         {Ports: []wire.ServicePort{tcp(1, "")}}, // for its address
			"other/db":           {ClusterIPs: schema.List[string]{"10.96.0.13"}, Ports: []wire.ServicePort{tcp(5432, "")}},
			"default/kubernetes": {ClusterIPs: schema.List[string]{"10.96.0.1"}, Ports: []wire.ServicePort{tcp(443, "https")}},
		},
	}
	kubernetes := []string{
		"KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_SERVICE_PORT=443", "KUBERNETES_SERVICE_PORT_HTTPS=443", "KUBERNETES_PORT=tcp://10.96.0.1:443",
		"KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443", "KUBERNETES_PORT_443_TCP_PROTO=tcp", "KUBERNETES_PORT_443_TCP_PORT=443", "KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1",
	}
	api := []string{
		"MY_API_SERVICE_HOST=10.96.0.12", "MY_API_SERVICE_PORT=80", "MY_API_SERVICE_PORT_HTTP=80", "MY_API_SERVICE_PORT_QUIC_ALT=443", "MY_API_PORT=tcp://10.96.0.12:80",
		"MY_API_PORT_80_TCP=tcp://10.96.0.12:80", "MY_API_PORT_80_TCP_PROTO=tcp", "MY_API_PORT_80_TCP_PORT=80", "MY_API_PORT_80_TCP_ADDR=10.96.0.12",
		"MY_API_PORT_443_UDP=udp://10.96.0.12:443", "MY_API_PORT_443_UDP_PROTO=udp", "MY_API_PORT_443_UDP_PORT=443", "MY_API_PORT_443_UDP_ADDR=10.96.0.12",
	}
	redis := []string{
		"REDIS_SERVICE_HOST=10.96.0.11", "REDIS_SERVICE_PORT=6379", "REDIS_PORT=tcp://10.96.0.11:6379",
		"REDIS_PORT_6379_TCP=tcp://10.96.0.11:6379", "REDIS_PORT_6379_TCP_PROTO=tcp", "REDIS_PORT_6379_TCP_PORT=6379", "REDIS_PORT_6379_TCP_ADDR=10.96.0.11",
	}
	all := append(append(append([]string{}, kubernetes...), api...), redis...)
	tests := []struct {
		name, spec string
		want       []string
	}{
		{"by default", "containers: [{name: c}]", all},
		{"asked for", "{enableServiceLinks: true, containers: [{name: c}]}", all},
		{"not asked for", "{enableServiceLinks: false, containers: [{name: c}]}", kubernetes},
		{"a value refers to them", `{enableServiceLinks: false, containers: [{name: c, env: [{name: A, value: "https://$(KUBERNETES_SERVICE_HOST) $(REDIS_SERVICE_HOST)"}]}]}`,
			append([]string{"A=https://10.96.0.1 $(REDIS_SERVICE_HOST)"}, kubernetes...)},
		{"what the container sets wins", `containers: [{name: c, envFrom: [{configMapRef: {name: conf}}], env: [{name: OLD, value: "$(REDIS_SERVICE_PORT)"}, {name: REDIS_SERVICE_PORT, value: "1"}]}]`,
			append(append(append([]string{"REDIS_PORT=of envFrom", "OLD=6379", "REDIS_SERVICE_PORT=1"}, kubernetes...), api...), redis[0], redis[3], redis[4], redis[5], redis[6])},
	}
	for _, test := range tests {
		p := podFrom(t, test.spec)
		env, err := Env(p, &p.Spec.Containers[0], data, Place{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range env {
			got = append(got, e.Name+"="+e.Value)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
		if why := LinksLeftOut(p, data.Services); why != "" {
			t.Errorf("%s: %s", test.name, why)
		}
	}
}

// A namespace with more services than a program can be told of keeps no container from
// its start.
func TestTooManyServiceLinks(t *testing.T) {
	services := map[string]wire.Service{"default/kubernetes": {ClusterIPs: schema.List[string]{"10.96.0.1"}, Ports: []wire.ServicePort{{Port: 443, Protocol: "TCP"}}}}
	for i := range 5000 {
		services[fmt.Sprintf("shop/service-%d", i)] = wire.Service{ClusterIPs: schema.List[string]{"10.97.0.1"}, Ports: []wire.ServicePort{{Port: 80, Protocol: "TCP"}}}
	}
	p := podFrom(t, "containers: [{name: c}]")
	env, err := Env(p, &p.Spec.Containers[0], Data{Services: services}, Place{})
	if err != nil || len(env) != 7 || !strings.HasPrefix(env[0].Name, "KUBERNETES_") {
		t.Errorf("got %d variables, %v; want those of default/kubernetes", len(env), err)
	}
	if got := LinksLeftOut(p, services); !strings.Contains(got, "5001 services of namespace shop") {
		t.Errorf("told %q", got)
	}
	off := false
	p.Spec.EnableServiceLinks = &off
	if got := LinksLeftOut(p, services); got != "" {
		t.Errorf("nobody asked for them, and told %q", got)
	}
}
