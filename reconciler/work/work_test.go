package work

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

func ptr[T any](v T) *T { return &v }

func snapshot(objs ...schema.Object) *state.Snapshot {
	tx := state.Empty(state.Counters{ResourceVersion: 100}).Begin()
	for _, o := range objs {
		tx.Put(o)
	}
	return tx.Commit()
}

func node(name, ip, cidr string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: cidr, PodCIDRs: []string{cidr}}}
	if ip != "" {
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}}
	}
	return n
}

func pod(name, node string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name), Annotations: map[string]string{schema.AnnotationEpoch: "7"}},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", EnvFrom: []corev1.EnvFromSource{
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}}},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "keys"}}},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "missing"}}},
		}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.1.0.5"},
	}
	schema.SetOrigin(p, schema.Origin{Source: "main", Path: "a.yaml", Line: 1, Commit: "0123456789abcdef"})
	return p
}

func open(_, name string) (map[string][]byte, bool) {
	return map[string][]byte{"k": []byte("clear")}, name == "keys"
}

func TestForTellsANodeItsOwnAndNothingElse(t *testing.T) {
	mine, going, other := pod("mine", "n1"), pod("going", "n1"), pod("other", "n2")
	going.DeletionTimestamp = &metav1.Time{}
	going.Annotations[schema.AnnotationDrained] = "true"
	other.Spec.Containers[0].EnvFrom[1].SecretRef.Name = "others-keys"
	s := snapshot(
		node("n1", "10.0.0.1", "10.1.0.0/24"), node("n2", "10.0.0.2", "10.1.1.0/24"), node("n3", "", "10.1.2.0/24"), node("n4", "10.0.0.4", ""),
		mine, going, other, pod("unbound", ""),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "conf"}, Data: map[string]string{"a": "1"}, BinaryData: map[string][]byte{"b": {2}}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "unused"}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "keys"}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "others-keys"}},
	)
	got := For(s, "n1", wire.ClusterInfo{ID: "c"}, open)

	bare := func(p *corev1.Pod) *corev1.Pod {
		out := state.Edit(p)
		out.ResourceVersion, out.Status = "", corev1.PodStatus{}
		return out
	}
	want := wire.Work{
		Node: "n1", Cluster: wire.ClusterInfo{ID: "c"}, PodCIDRs: schema.List[string]{"10.1.0.0/24"},
		Peers: map[schema.NodeName]wire.Peer{"n2": {NodeIPs: schema.List[string]{"10.0.0.2"}, PodCIDRs: schema.List[string]{"10.1.1.0/24"}}},
		Pods: map[types.UID]wire.PodWork{
			"uid-mine":  {Pod: bare(mine), Epoch: 7, Revision: "main-0123456789ab"},
			"uid-going": {Pod: bare(going), Epoch: 7, Revision: "main-0123456789ab", Drained: true},
		},
		ConfigMaps: map[string]map[string][]byte{"shop/conf": {"a": []byte("1"), "b": {2}}},
		BinaryKeys: map[string][]string{"shop/conf": {"b"}},
		Secrets:    map[string]map[string][]byte{"shop/keys": {"k": []byte("clear")}},
		Services:   map[string]wire.Service{},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("work (-want +got):\n%s", diff)
	}
}

func TestOwnSaysThatASecretIsStillSealed(t *testing.T) {
	p := pod("mine", "n1")
	s := snapshot(p, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "missing"}})
	if _, opened := Own(s, "n1", wire.ClusterInfo{}, open); opened {
		t.Error("Own says every Secret was opened, one was not")
	}
}

func TestSamePodIgnoresWhatNodesSayThemselves(t *testing.T) {
	a := pod("mine", "n1")
	b := state.Edit(a)
	b.ResourceVersion, b.Status.Phase = "5", corev1.PodFailed
	if !SamePod(a, b) {
		t.Error("a new status is work")
	}
	b.Annotations[schema.AnnotationEpoch] = "8"
	if SamePod(a, b) {
		t.Error("a new epoch is no work")
	}
}

func slice(name string, port int32, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "api"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints,
		Ports: []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(port), Protocol: ptr(corev1.ProtocolTCP)}},
	}
}

func endpoint(ip, pod string, ready *bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses: []string{ip}, Conditions: discoveryv1.EndpointConditions{Ready: ready}, NodeName: ptr("n1"), Hostname: ptr("h-" + pod),
		TargetRef: &corev1.ObjectReference{Name: pod},
	}
}

func TestServiceOf(t *testing.T) {
	ports := []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080}, {Name: "admin", Port: 90, Protocol: corev1.ProtocolTCP}}
	service := func(spec corev1.ServiceSpec) *corev1.Service {
		spec.Ports = ports
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "api"}, Spec: spec}
	}
	wirePorts := []wire.ServicePort{{Name: "http", Protocol: "TCP", Port: 80, NodePort: 30080}, {Name: "admin", Protocol: "TCP", Port: 90}}
	ready := func(ip, pod string, port uint16) wire.Endpoint {
		return wire.Endpoint{IP: ip, Ports: []uint16{port, 0}, Node: "n1", Pod: pod, Hostname: "h-" + pod}
	}
	slices := []schema.Object{
		slice("api-1", 8080, endpoint("10.1.0.10", "c", nil), endpoint("10.1.0.9", "a", ptr(true)), endpoint("10.1.0.11", "b", ptr(false))),
		slice("api-2", 9090, endpoint("10.1.0.12", "d", ptr(true))),
	}
	cases := []struct {
		name string
		spec corev1.ServiceSpec
		want wire.Service
		none bool
	}{
		{
			name: "ready endpoints of all slices, in the order of addresses", spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"}},
			want: wire.Service{ClusterIPs: schema.List[string]{"10.96.0.1"}, Ports: wirePorts, Endpoints: []wire.Endpoint{
				ready("10.1.0.9", "a", 8080), ready("10.1.0.10", "c", 8080), ready("10.1.0.12", "d", 9090),
			}},
		},
		{
			name: "headless, all addresses published", spec: corev1.ServiceSpec{ClusterIP: "None", PublishNotReadyAddresses: true},
			want: wire.Service{Headless: true, Ports: wirePorts, Endpoints: []wire.Endpoint{
				ready("10.1.0.9", "a", 8080), ready("10.1.0.10", "c", 8080), ready("10.1.0.11", "b", 8080), ready("10.1.0.12", "d", 9090),
			}},
		},
		{name: "an alias is no service to program", spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName}, none: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := snapshot(append([]schema.Object{service(c.spec)}, slices...)...)
			got, ok := ServiceOf(s, "shop", "api")
			if ok == c.none {
				t.Fatalf("ok is %v", ok)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("service (-want +got):\n%s", diff)
			}
		})
	}
}
