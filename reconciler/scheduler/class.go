package scheduler

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	podresource "k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

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

// use is what one pod takes from a node. Pods that are alike share one; it never
// changes.
type use struct {
	requests Resources
	weight   Resources
	others   []corev1.ResourceName // keys of requests.Other that are asked for, sorted
	ports    []hostPort
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

func useOf(pod *corev1.Pod) *use {
	u := &use{requests: resourcesOf(Requests(pod)), weight: resourcesOf(podresource.PodRequests(pod, assumed)), ports: hostPorts(pod)}
	u.requests.Pods = 1
	for _, name := range slices.Sorted(maps.Keys(u.requests.Other)) {
		if u.requests.Other[name] > 0 {
			u.others = append(u.others, name)
		}
	}
	return u
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

// requirements are what a pod asks of a node, whatever it belongs to. Pods with the
// same share them, and with them what was found out for them.
type requirements struct {
	pod       *corev1.Pod // one of those that have it
	use       *use
	required  nodeaffinity.RequiredNodeAffinity
	preferred *nodeaffinity.PreferredSchedulingTerms // nil for none

	ranking *ranking // of all nodes; nil while there is none
}

func newRequirements(pod *corev1.Pod) *requirements {
	w := &requirements{pod: pod, use: useOf(pod), required: nodeaffinity.GetRequiredNodeAffinity(pod)}
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		terms := a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution
		if p, err := nodeaffinity.NewPreferredSchedulingTerms(terms); err == nil && len(terms) > 0 {
			w.preferred = p
		}
	}
	return w
}

// requirementsKey is equal for pods with the same requirements.
func requirementsKey(pod *corev1.Pod, u *use) string {
	key, err := json.Marshal([]any{
		u.requests, u.weight, portsText(u.ports),
		pod.Spec.NodeSelector, pod.Spec.Affinity, pod.Spec.Tolerations,
	})
	if err != nil {
		panic("scheduler: marshal the requirements of a pod: " + err.Error())
	}
	return string(key)
}

func portsText(ports []hostPort) []string {
	out := make([]string, len(ports))
	for i, p := range ports {
		out[i] = fmt.Sprint(p.ip, " ", p.protocol, " ", p.port)
	}
	return out
}

// class is the pods of one owner that are alike: they have the same requirements and
// spread together.
type class struct {
	sample       *corev1.Pod
	group        group
	requirements *requirements
	ranking      *ranking // that counts the group; nil while there is none
	refusal      refusal
}

// refusal is the last word that no node takes a class, true as long as nothing is
// logged.
type refusal struct {
	lacks, message string
	logged         uint64
}

// Bounds on what a view remembers of pods: when there are more it begins anew.
const (
	maxClasses      = 1 << 12
	maxRequirements = 1 << 10
)

// classOf is the pod's class. The pods that one owner makes are alike as a rule,
// so that its last class is the one; pods without an owner count as of one.
func (v *View) classOf(pod *corev1.Pod) *class {
	owner := types.UID("")
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		owner = ref.UID
	}
	if c := v.classes[owner]; c != nil && alike(c.sample, pod) {
		return c
	}
	c := &class{sample: pod, group: groupOf(pod), requirements: v.requirementsOf(pod)}
	if len(v.classes) >= maxClasses {
		v.forgetIndex()
	}
	if v.classes == nil {
		v.classes = map[types.UID]*class{}
	}
	v.classes[owner] = c
	return c
}

func (v *View) requirementsOf(pod *corev1.Pod) *requirements {
	w := newRequirements(pod)
	key := requirementsKey(pod, w.use)
	if known := v.requirements[key]; known != nil {
		return known
	}
	if len(v.requirements) >= maxRequirements {
		v.forgetIndex()
	}
	if v.requirements == nil {
		v.requirements = map[string]*requirements{}
	}
	v.requirements[key] = w
	return w
}

// countedAs is what the pod counts for on its node. One that terminates still
// takes its room, but its owner has another in its place.
func (v *View) countedAs(pod *corev1.Pod) counted {
	c := v.classOf(pod)
	if pod.DeletionTimestamp != nil {
		return counted{use: c.requirements.use}
	}
	return counted{c.requirements.use, c.group}
}

func groupOf(pod *corev1.Pod) (g group) {
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		g = group{ref.UID, workloadOf(pod, ref)}
	}
	return g
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

// alike reports whether two pods of one owner have the same group and requirements. It
// may say no to two that do; what they share in memory is compared fastest.
func alike(a, b *corev1.Pod) bool {
	x, y := &a.Spec, &b.Spec
	return a == b || a.Namespace == b.Namespace &&
		ownerKind(a) == ownerKind(b) &&
		equalMaps(a.Labels, b.Labels) &&
		equalMaps(x.NodeSelector, y.NodeSelector) &&
		x.HostNetwork == y.HostNetwork &&
		(x.Affinity == y.Affinity || equality.Semantic.DeepEqual(x.Affinity, y.Affinity)) &&
		(x.Resources == y.Resources || equality.Semantic.DeepEqual(x.Resources, y.Resources)) &&
		equalAmounts(x.Overhead, y.Overhead) &&
		slices.EqualFunc(x.Tolerations, y.Tolerations, equalTolerations) &&
		equalContainers(x.InitContainers, y.InitContainers) &&
		equalContainers(x.Containers, y.Containers)
}

func ownerKind(pod *corev1.Pod) string {
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		return ref.Kind
	}
	return ""
}

func equalMaps(a, b map[string]string) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer() || maps.Equal(a, b)
}

// equalTolerations leaves out how long a taint is tolerated: placement does not
// ask.
func equalTolerations(a, b corev1.Toleration) bool {
	return a.Key == b.Key && a.Operator == b.Operator && a.Value == b.Value && a.Effect == b.Effect
}

func equalContainers(a, b []corev1.Container) bool {
	if len(a) != len(b) {
		return false
	}
	if len(a) == 0 || &a[0] == &b[0] {
		return true
	}
	for i := range a {
		x, y := &a[i], &b[i]
		if (x.RestartPolicy == nil) != (y.RestartPolicy == nil) || x.RestartPolicy != nil && *x.RestartPolicy != *y.RestartPolicy ||
			!equalAmounts(x.Resources.Requests, y.Resources.Requests) || !equalAmounts(x.Resources.Limits, y.Resources.Limits) ||
			!slices.Equal(x.Ports, y.Ports) {
			return false
		}
	}
	return true
}

func equalAmounts(a, b corev1.ResourceList) bool {
	return maps.EqualFunc(a, b, func(x, y resource.Quantity) bool { return x.Cmp(y) == 0 })
}
