package scheduler

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// View is the cluster as placement sees it: nodes with what is used on them, and
// the rankings that find the best of them. It is made once and follows the cluster
// by Update. Not for concurrent use; Clone makes one for somebody else.
type View struct {
	nodes []*NodeInfo // by name
	token *token      // marks the nodes that this view alone holds and may change
	owns  bool        // any

	// log lists places in nodes whose NodeInfo changed, in order; logged counts
	// all that ever were. Rankings read on from where they stopped.
	log    []int32
	logged uint64

	index
}

// token is an identity: it must not have size zero, or all are the same.
type token struct{ _ byte }

// NodeInfo is one node and the sums over the pods bound to it that still run.
type NodeInfo struct {
	name        schema.NodeName
	node        *corev1.Node
	ready       bool
	allocatable Resources
	used        Resources // requests
	weight      Resources // requests, with something assumed for containers without
	pods        map[podKey]counted
	withPorts   int               // of pods, those that hold host ports
	owners      map[types.UID]int // pods that do not terminate, by controlling owner
	workloads   map[string]int    // likewise by workload
	token       *token
}

type podKey struct{ namespace, name string }

func (k podKey) String() string { return k.namespace + "/" + k.name }

// counted is what was added to a node's sums for one pod.
type counted struct {
	use   *use
	group group
}

// group is what spreads: pods of one owner, and of one workload, stay apart where
// they can. The zero group is of a pod that no controller owns or that terminates.
type group struct {
	owner    types.UID
	workload string // the same for all replica sets of a deployment
}

// NewView sums up what r holds.
func NewView(r state.Reader) *View {
	v := &View{token: new(token)}
	for node := range state.All[*corev1.Node](r, "") {
		v.nodes = append(v.nodes, v.newNodeInfo(r, node))
	}
	return v
}

func (v *View) newNodeInfo(r state.Reader, node *corev1.Node) *NodeInfo {
	v.owns = true
	n := &NodeInfo{
		name: schema.NodeName(node.Name), token: v.token, pods: map[podKey]counted{},
		owners: map[types.UID]int{}, workloads: map[string]int{},
	}
	n.describe(node)
	for pod := range state.By[*corev1.Pod](r, state.PodsByNode, node.Name) {
		if !ended(pod) {
			n.add(keyOf(pod), v.countedAs(pod))
		}
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

// Clone is a view that goes its own way from here. The two share every node until
// one of them changes it; the clone makes rankings of its own. A clone that was not
// changed may be cloned by several at once.
func (v *View) Clone() *View {
	if v.owns {
		v.token, v.owns = new(token), false
	}
	return &View{nodes: slices.Clone(v.nodes), token: new(token)}
}

// find is the node's place, or where it would be.
func (v *View) find(name schema.NodeName) (int, bool) {
	return slices.BinarySearchFunc(v.nodes, name, func(n *NodeInfo, name schema.NodeName) int { return cmp.Compare(n.name, name) })
}

// own is the node at a place, to be changed.
func (v *View) own(i int) *NodeInfo {
	n := v.nodes[i]
	if n.token != v.token {
		n = n.copy()
		n.token, v.owns = v.token, true
		v.nodes[i] = n
	}
	v.log = append(v.log, int32(i))
	v.logged++
	// A ranking that is further behind than this is made anew.
	if most := 2*len(v.nodes) + minLog; len(v.log) > most {
		v.log = append(v.log[:0], v.log[len(v.log)-most/2:]...)
	}
	return n
}

// minLog keeps the log of a small cluster from being cut all the time.
const minLog = 256

func (n *NodeInfo) copy() *NodeInfo {
	next := *n
	next.used.Other, next.weight.Other = maps.Clone(n.used.Other), maps.Clone(n.weight.Other)
	next.pods, next.owners, next.workloads = maps.Clone(n.pods), maps.Clone(n.owners), maps.Clone(n.workloads)
	return &next
}

// Assume counts the pod on the node as if it were bound there. Counting it again,
// or updating with the change that binds it, alters nothing.
func (v *View) Assume(pod *corev1.Pod, node schema.NodeName) {
	if !ended(pod) {
		v.count(pod, node)
	}
}

// Update takes over one change of the cluster. After every change since the view
// was made, in order, it equals a new one; r is the cluster after them.
func (v *View) Update(r state.Reader, c state.Change) {
	switch c.Key.Kind {
	case schema.KindNode:
		v.updateNode(r, schema.NodeName(c.Key.Name), c.New)
	case schema.KindPod:
		old, _ := c.Old.(*corev1.Pod)
		pod, _ := c.New.(*corev1.Pod)
		v.updatePod(old, pod)
	}
}

func (v *View) updateNode(r state.Reader, name schema.NodeName, obj schema.Object) {
	i, found := v.find(name)
	node, ok := obj.(*corev1.Node)
	switch {
	case !ok && found:
		v.nodes = slices.Delete(v.nodes, i, i+1)
		v.renumbered()
	case ok && found:
		v.own(i).describe(node)
	case ok:
		v.nodes = slices.Insert(v.nodes, i, v.newNodeInfo(r, node))
		v.renumbered()
	}
}

// updatePod takes nil for a pod that is not there.
func (v *View) updatePod(old, pod *corev1.Pod) {
	if old != nil && (pod == nil || ended(pod) || old.Spec.NodeName != pod.Spec.NodeName) {
		if i, ok := v.find(schema.NodeName(old.Spec.NodeName)); ok {
			v.forget(i, keyOf(old))
		}
	}
	if pod != nil && !ended(pod) {
		v.count(pod, schema.NodeName(pod.Spec.NodeName))
	}
}

// count adds the pod to its node, in place of what was counted under its name.
// Most changes of a pod are news of its containers, which alter nothing here.
func (v *View) count(pod *corev1.Pod, node schema.NodeName) {
	if node == "" {
		return
	}
	i, ok := v.find(node)
	if !ok {
		return
	}
	key, as := keyOf(pod), v.countedAs(pod)
	if v.nodes[i].pods[key] == as {
		return
	}
	v.forget(i, key)
	v.own(i).add(key, as)
}

func (v *View) forget(i int, key podKey) {
	if _, ok := v.nodes[i].pods[key]; ok {
		v.own(i).remove(key)
	}
}

func (n *NodeInfo) add(key podKey, as counted) {
	n.pods[key] = as
	n.sum(as, 1)
}

func (n *NodeInfo) remove(key podKey) {
	as := n.pods[key]
	delete(n.pods, key)
	n.sum(as, -1)
}

func (n *NodeInfo) sum(as counted, sign int) {
	n.used.add(&as.use.requests, int64(sign))
	n.weight.add(&as.use.weight, int64(sign))
	if len(as.use.ports) > 0 {
		n.withPorts += sign
	}
	countIn(n.owners, as.group.owner, sign)
	countIn(n.workloads, as.group.workload, sign)
}

func countIn[K ~string](m map[K]int, key K, sign int) {
	if key == "" {
		return
	}
	if m[key] += sign; m[key] == 0 {
		delete(m, key)
	}
}

func keyOf(pod *corev1.Pod) podKey { return podKey{pod.Namespace, pod.Name} }

// ended pods take nothing.
func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// portHolder is the pod that has the port already, the first by name; "" if none.
func (n *NodeInfo) portHolder(want hostPort) string {
	if n.withPorts == 0 {
		return ""
	}
	holder := ""
	for key, as := range n.pods {
		if slices.ContainsFunc(as.use.ports, want.clashes) {
			if name := key.String(); holder == "" || name < holder {
				holder = name
			}
		}
	}
	return holder
}
