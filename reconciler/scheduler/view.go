package scheduler

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	podresource "k8s.io/component-helpers/resource"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// View is the cluster as placement sees it: nodes with what is used on them. It is
// made once and kept up to date with Assume and Update, or made again. Not for
// concurrent use.
type View struct {
	nodes  []*NodeInfo // by name
	byName map[schema.NodeName]*NodeInfo
}

// NodeInfo is one node and the sums over the pods bound to it that still run.
type NodeInfo struct {
	name        schema.NodeName
	node        *corev1.Node
	ready       bool
	allocatable Resources
	used        Resources // requests
	weight      Resources // requests, with something assumed for containers without
	pods        map[string]use
	owners      map[types.UID]int // pods that do not terminate, by controlling owner
	workloads   map[string]int    // likewise by workload
}

// Resources is an amount of each resource.
type Resources struct {
	MilliCPU    int64
	MemoryBytes int64
	Pods        int64
	Other       map[corev1.ResourceName]int64 // in the resource's own unit
}

func (r *Resources) add(o *Resources, sign int64) {
	r.MilliCPU += sign * o.MilliCPU
	r.MemoryBytes += sign * o.MemoryBytes
	r.Pods += sign * o.Pods
	for name, n := range o.Other {
		if r.Other == nil {
			r.Other = map[corev1.ResourceName]int64{}
		}
		r.Other[name] += sign * n
	}
}

// use is what one pod takes from a node.
type use struct {
	requests Resources
	weight   Resources
	others   []corev1.ResourceName // keys of requests.Other that are asked for, sorted
	ports    []hostPort
	owner    types.UID // "" for a pod that no controller owns or that terminates
	workload string    // the same for all replica sets of a deployment; likewise
}

type hostPort struct {
	ip       string // "" is every address
	protocol corev1.Protocol
	port     int32
}

func (p hostPort) clashes(o hostPort) bool {
	return p.port == o.port && p.protocol == o.protocol && (p.ip == "" || o.ip == "" || p.ip == o.ip)
}

// Requests is what the pod asks of a node: the larger of all its containers
// together and any init container with the sidecars before it.
func Requests(pod *corev1.Pod) corev1.ResourceList {
	return podresource.PodRequests(pod, podresource.PodResourcesOptions{})
}

// assumed stands in for what a container does not request when nodes are compared.
var assumed = podresource.PodResourcesOptions{NonMissingContainerRequests: corev1.ResourceList{
	corev1.ResourceCPU:    *resource.NewMilliQuantity(assumedMilliCPU, resource.DecimalSI),
	corev1.ResourceMemory: *resource.NewQuantity(assumedMemoryBytes, resource.BinarySI),
}}

// NewView sums up what r holds.
func NewView(r state.Reader) *View {
	v := &View{byName: map[schema.NodeName]*NodeInfo{}}
	for node := range state.All[*corev1.Node](r, "") {
		n := newNodeInfo(r, node)
		v.nodes = append(v.nodes, n)
		v.byName[n.name] = n
	}
	return v
}

func newNodeInfo(r state.Reader, node *corev1.Node) *NodeInfo {
	n := &NodeInfo{
		name: schema.NodeName(node.Name), pods: map[string]use{},
		owners: map[types.UID]int{}, workloads: map[string]int{},
	}
	n.describe(node)
	for pod := range state.By[*corev1.Pod](r, state.PodsByNode, node.Name) {
		n.add(pod)
	}
	return n
}

func (n *NodeInfo) describe(node *corev1.Node) {
	n.node = node
	n.ready = slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
	n.allocatable = resourcesOf(node.Status.Allocatable)
}

func resourcesOf(list corev1.ResourceList) (r Resources) {
	for name, q := range list {
		switch name {
		case corev1.ResourceCPU:
			r.MilliCPU = q.MilliValue()
		case corev1.ResourceMemory:
			r.MemoryBytes = q.Value()
		case corev1.ResourcePods:
			r.Pods = q.Value()
		default:
			if r.Other == nil {
				r.Other = map[corev1.ResourceName]int64{}
			}
			r.Other[name] = q.Value()
		}
	}
	return r
}

// Assume counts the pod on the node as if it were bound there. Counting it again,
// or updating with the change that binds it, alters nothing.
func (v *View) Assume(pod *corev1.Pod, node schema.NodeName) {
	if n := v.byName[node]; n != nil {
		n.add(pod)
	}
}

// Update takes over one change of the cluster. After every change since the view
// was made, in order, it equals a new one; r is the cluster after them.
func (v *View) Update(r state.Reader, c state.Change) {
	switch c.Key.Kind {
	case schema.KindNode:
		v.updateNode(r, schema.NodeName(c.Key.Name), c.New)
	case schema.KindPod:
		if old, ok := c.Old.(*corev1.Pod); ok {
			if n := v.byName[schema.NodeName(old.Spec.NodeName)]; n != nil {
				n.remove(old)
			}
		}
		if pod, ok := c.New.(*corev1.Pod); ok {
			if n := v.byName[schema.NodeName(pod.Spec.NodeName)]; n != nil {
				n.add(pod)
			}
		}
	}
}

func (v *View) updateNode(r state.Reader, name schema.NodeName, obj schema.Object) {
	i, found := slices.BinarySearchFunc(v.nodes, name, func(n *NodeInfo, name schema.NodeName) int { return cmp.Compare(n.name, name) })
	node, ok := obj.(*corev1.Node)
	switch {
	case !ok && found:
		v.nodes = slices.Delete(v.nodes, i, i+1)
		delete(v.byName, name)
	case ok && found:
		v.nodes[i].describe(node)
	case ok:
		n := newNodeInfo(r, node)
		v.nodes = slices.Insert(v.nodes, i, n)
		v.byName[name] = n
	}
}

// add counts the pod, in place of what was counted under its name. Pods that ended
// take nothing.
func (n *NodeInfo) add(pod *corev1.Pod) {
	n.remove(pod)
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return
	}
	u := useOf(pod)
	n.pods[podKey(pod)] = u
	n.count(&u, 1)
}

func (n *NodeInfo) remove(pod *corev1.Pod) {
	if u, ok := n.pods[podKey(pod)]; ok {
		n.count(&u, -1)
		delete(n.pods, podKey(pod))
	}
}

func podKey(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }

func (n *NodeInfo) count(u *use, sign int) {
	n.used.add(&u.requests, int64(sign))
	n.weight.add(&u.weight, int64(sign))
	countIn(n.owners, u.owner, sign)
	countIn(n.workloads, u.workload, sign)
}

func countIn[K ~string](m map[K]int, key K, sign int) {
	if key == "" {
		return
	}
	if m[key] += sign; m[key] == 0 {
		delete(m, key)
	}
}

// portHolder is the pod that has the port already, the first by name; "" if none.
func (n *NodeInfo) portHolder(want hostPort) string {
	holder := ""
	for name, u := range n.pods {
		if (holder == "" || name < holder) && slices.ContainsFunc(u.ports, want.clashes) {
			holder = name
		}
	}
	return holder
}

func useOf(pod *corev1.Pod) use {
	u := use{requests: resourcesOf(Requests(pod)), weight: resourcesOf(podresource.PodRequests(pod, assumed)), ports: hostPorts(pod)}
	u.requests.Pods = 1
	for _, name := range slices.Sorted(maps.Keys(u.requests.Other)) {
		if u.requests.Other[name] > 0 {
			u.others = append(u.others, name)
		}
	}
	if ref := metav1.GetControllerOf(pod); ref != nil && pod.DeletionTimestamp == nil {
		u.owner = ref.UID
		u.workload = workloadOf(pod, ref)
	}
	return u
}

// workloadOf names what a pod belongs to beyond its replica set: the replica sets
// of a deployment differ in the hash label alone.
func workloadOf(pod *corev1.Pod, ref *metav1.OwnerReference) string {
	var b strings.Builder
	b.WriteString(pod.Namespace + "/" + ref.Kind)
	for _, key := range slices.Sorted(maps.Keys(pod.Labels)) {
		if key != appsv1.DefaultDeploymentUniqueLabelKey {
			b.WriteString("\x00" + key + "=" + pod.Labels[key])
		}
	}
	return b.String()
}

// hostPorts are the ports that the pod takes from its node's address.
func hostPorts(pod *corev1.Pod) (out []hostPort) {
	for _, ctr := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, p := range ctr.Ports {
			number := p.HostPort
			if number == 0 && pod.Spec.HostNetwork {
				number = p.ContainerPort
			}
			if number == 0 {
				continue
			}
			ip := p.HostIP
			if ip == "0.0.0.0" {
				ip = ""
			}
			out = append(out, hostPort{ip: ip, protocol: cmp.Or(p.Protocol, corev1.ProtocolTCP), port: number})
		}
	}
	return out
}
