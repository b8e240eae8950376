package proxy

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/nodeagent/pod"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// answers asks n times and counts who answered and what they saw.
func answers(t *testing.T, n int, ask func() (string, error)) map[string]int {
	t.Helper()
	out := map[string]int{}
	for range n {
		a, err := ask()
		if err != nil {
			t.Fatal(err)
		}
		out[a]++
	}
	return out
}

// wantAll checks that exactly the given answers came.
func wantAll(t *testing.T, what string, got map[string]int, want ...string) {
	t.Helper()
	for _, w := range want {
		if got[w] == 0 {
			t.Errorf("%s: %q never answered: %v", what, w, got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: got %v, want only %q", what, got, want)
	}
}

const enough = 40 // asks, so that each of two endpoints answers but once in 10^12

func TestPackets(t *testing.T) {
	for _, bridgeNetfilter := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+bridgeNetfilter, func(t *testing.T) { testPackets(t, newCluster(t, bridgeNetfilter), bridgeNetfilter) })
	}
}

func testPackets(t *testing.T, c *cluster, bridgeNetfilter string) {
	n1, n2 := c.nodes[0], c.nodes[1]
	a, b, client := c.pod(n1, "a", 5), c.pod(n2, "b", 5), c.pod(n1, "client", 6)
	ports := []wire.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, NodePort: 30080}, {Name: "u", Port: 53, Protocol: corev1.ProtocolUDP}}
	services := map[string]wire.Service{
		"default/web":   {ClusterIPs: schema.List[string]{"10.96.1.1"}, Ports: ports, Endpoints: []wire.Endpoint{a.endpoint(8080, 8080), b.endpoint(8080, 8080)}},
		"default/self":  {ClusterIPs: schema.List[string]{"10.96.1.2"}, Ports: ports[:1:1], Endpoints: []wire.Endpoint{a.endpoint(8080)}},
		"default/empty": {ClusterIPs: schema.List[string]{"10.96.1.3"}, Ports: []wire.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}},
		"default/local": {ClusterIPs: schema.List[string]{"10.96.1.4"}, Ports: []wire.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP, NodePort: 30090, ExternalLocal: true}},
			Endpoints: []wire.Endpoint{b.endpoint(8080)}},
	}
	self := services["default/self"]
	self.Ports = []wire.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP, NodePort: 30081}}
	services["default/self"] = self
	c.set(services)
	if _, err := n1.proxy.Set(withHostPort(n1.table(services), pod.HostPort{HostPort: 9999, Protocol: corev1.ProtocolTCP, PodIP: a.ip.String(), PodPort: 8080})); err != nil {
		t.Fatal(err)
	}

	if bridgeNetfilter == "1" { // everything strict at once
		for _, n := range c.nodes {
			n.run(t, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.eth0.rp_filter=1")
		}
	}
	n1.serve(t, "names", 5300)

	get := func(s space, addr string) func() (string, error) {
		return func() (string, error) { return s.get(addr) }
	}
	for _, p := range []struct {
		what string
		ask  func() (string, error)
		want []string
	}{
		{"pod to pod on one node", get(client.space, "10.112.0.5:8080"), []string{"a saw 10.112.0.6"}},
		{"pod to pod across nodes", get(client.space, "10.112.4.5:8080"), []string{"b saw 10.112.0.6"}},
		{"pod to service", get(client.space, "10.96.1.1:80"), []string{"a saw 10.112.0.6", "b saw 10.112.0.6"}},
		{"pod to service, UDP", func() (string, error) { return client.ask("udp4", "10.96.1.1:53", "") }, []string{"a saw 10.112.0.6", "b saw 10.112.0.6"}},
		{"pod to itself through a service", get(a.space, "10.96.1.2:80"), []string{"a saw 10.9.0.1"}},
		{"pod to itself through a node port", get(a.space, "10.9.0.1:30081"), []string{"a saw 10.9.0.1"}},
		{"pod to itself through its host port", get(a.space, "10.9.0.1:9999"), []string{"a saw 10.9.0.1"}},
		{"node to service", get(n1.space, "10.96.1.1:80"), []string{"a saw 10.9.0.1", "b saw 10.9.0.1"}},
		{"node to its own node port", get(n1.space, "10.9.0.1:30080"), []string{"a saw 10.9.0.1", "b saw 10.9.0.1"}},
		{"outside to a node port", get(c.outside, "10.9.0.1:30080"), []string{"a saw 10.9.0.1", "b saw 10.9.0.1"}},
		{"pod to its node's node port", get(client.space, "10.9.0.1:30080"), []string{"a saw 10.112.0.6", "b saw 10.112.0.6"}},
		{"pod to another node's node port", get(client.space, "10.9.0.2:30080"), []string{"a saw 10.9.0.2", "b saw 10.9.0.2"}},
		{"outside to a node port of local policy", get(c.outside, "10.9.0.2:30090"), []string{"b saw " + outsideIP}},
		{"outside to a host port", get(c.outside, "10.9.0.1:9999"), []string{"a saw " + outsideIP}},
		{"pod to the cluster's DNS address", get(client.space, "10.96.0.10:5300"), []string{"names saw 10.112.0.6"}},
		{"node to its host port", get(n1.space, "10.9.0.1:9999"), []string{"a saw 10.9.0.1"}},
	} {
		wantAll(t, p.what, answers(t, enough, p.ask), p.want...)
	}

	c.outside.serve(t, "outsider", 7000)
	wantAll(t, "pod to outside", answers(t, 1, get(client.space, outsideIP+":7000")), "outsider saw 10.9.0.1")

	for _, r := range []struct {
		what string
		ask  func() (string, error)
	}{
		{"pod to a service without endpoints", get(client.space, "10.96.1.3:80")},
		{"node to a service without endpoints", get(n1.space, "10.96.1.3:80")},
		{"pod to a port no service has", get(client.space, "10.96.1.1:81")},
		{"node to an address no service has", get(n1.space, "10.96.200.200:80")},
		{"outside to local policy where no endpoint is", get(c.outside, "10.9.0.1:30090")},
	} {
		late := 0
		for range 10 { // ICMP would be rate limited, and most come when the SYN is sent again
			start := time.Now()
			if _, err := r.ask(); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Fatalf("%s: %v", r.what, err)
			}
			if time.Since(start) > 900*time.Millisecond {
				late++
			}
		}
		if late > 3 {
			t.Fatalf("%s: %d of 10 refusals are late", r.what, late)
		}
	}
	if _, err := client.ask("udp4", "10.96.1.1:54", ""); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("UDP to a port no service has: %v", err)
	}
}

func withHostPort(t Table, p pod.HostPort) Table {
	t.HostPorts = append(t.HostPorts, p)
	return t
}

func TestEndpointGoes(t *testing.T) {
	c := newCluster(t, "0")
	n1 := c.nodes[0]
	a, b, client := c.pod(n1, "a", 5), c.pod(c.nodes[1], "b", 5), c.pod(n1, "client", 6)
	service := wire.Service{ClusterIPs: schema.List[string]{"10.96.1.1"},
		Ports:     []wire.ServicePort{{Name: "t", Port: 80, Protocol: corev1.ProtocolTCP}, {Name: "u", Port: 53, Protocol: corev1.ProtocolUDP}},
		Endpoints: []wire.Endpoint{b.endpoint(8080, 8080)}}
	set := func(endpoints ...wire.Endpoint) {
		service.Endpoints = endpoints
		c.set(map[string]wire.Service{"default/web": service})
	}
	set(b.endpoint(8080, 8080))

	// Given an open connection and a UDP flow to b
	var open net.Conn
	client.do(t, func() (err error) { open, err = net.Dial("tcp4", "10.96.1.1:80"); return err })
	defer open.Close()
	say := func() string {
		open.SetDeadline(time.Now().Add(2 * time.Second))
		fmt.Fprint(open, "who")
		buf := make([]byte, 100)
		n, err := open.Read(buf)
		return fmt.Sprint(string(buf[:n]), " ", err)
	}
	if got := say(); !strings.HasPrefix(got, "b saw") {
		t.Fatal(got)
	}
	udp := func() (string, error) { return client.ask("udp4", "10.96.1.1:53", "10.112.0.6:5353") }
	if got, err := udp(); !strings.HasPrefix(got, "b saw") {
		t.Fatal(got, err)
	}

	// when a takes over,
	set(a.endpoint(8080, 8080))

	// new connections and the old UDP flow go to a, the old connection drains
	wantAll(t, "new connections", answers(t, enough, func() (string, error) { return client.get("10.96.1.1:80") }), "a saw 10.112.0.6")
	if got, err := udp(); !strings.HasPrefix(got, "a saw") {
		t.Errorf("UDP flow of a gone endpoint: %q %v", got, err)
	}
	if got := say(); !strings.HasPrefix(got, "b saw") {
		t.Errorf("open connection: %s", got)
	}

	// and once b is gone for good, it is told.
	must(t, n1.proxy.Forget(b.ip))
	if got := say(); strings.HasPrefix(got, "b saw") {
		t.Errorf("connection to a forgotten pod: %s", got)
	}

	// A UDP flow that came before any endpoint finds the first one.
	set()
	if _, err := udp(); err == nil {
		t.Error("an answer from nowhere")
	}
	set(b.endpoint(8080, 8080))
	if got, err := udp(); !strings.HasPrefix(got, "b saw") {
		t.Errorf("UDP flow after the first endpoint came: %q %v", got, err)
	}
}

// No connection fails while the endpoints of its service change all the time.
func TestNoConnectionIsLost(t *testing.T) {
	c := newCluster(t, "0")
	n1 := c.nodes[0]
	var pods []wire.Endpoint
	for i := range byte(4) {
		pods = append(pods, c.pod(n1, fmt.Sprintf("s%d", i), 10+i).endpoint(8080))
	}
	client := c.pod(n1, "client", 6)
	set := func(k int) {
		c.set(map[string]wire.Service{"default/web": {ClusterIPs: schema.List[string]{"10.96.1.1"}, Ports: []wire.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}, Endpoints: pods[:k]}})
	}
	set(4)
	stop, lost := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(lost)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := client.get("10.96.1.1:80"); err != nil {
				lost <- err
				return
			}
		}
	}()
	for i := range 200 {
		set(1 + i%4)
	}
	close(stop)
	if err := <-lost; err != nil {
		t.Error(err)
	}
}
