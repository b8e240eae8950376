// Package scheduler answers "which node takes this pod?", and for a refusal what
// every node has against it, with numbers. It is pure: the same cluster and pod
// give the same node, ties are broken by name. It binds nothing; the settle
// engine does, and plans ask the same code on a fork.
package scheduler

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// NodeReason is what one node has against a pod.
type NodeReason struct {
	Node    schema.NodeName `json:"node"`
	Reasons []string        `json:"reasons"`
}

// Decision is where a pod goes.
type Decision struct {
	// Node is empty for a refusal.
	Node schema.NodeName
	// Reasons names every node in name order for a refusal. For a pod that goes to
	// another node than the preferred one, it is what that one had against it.
	Reasons []NodeReason
	// Message says a refusal in one line; it names at most MaxMessageNodes nodes.
	Message string
}

// MaxMessageNodes bounds how many nodes a Decision's message names.
const MaxMessageNodes = 20

// Schedule decides for one pod on what r holds. For several in a row use a View.
func Schedule(r state.Reader, pod *corev1.Pod, prefer schema.NodeName) Decision {
	return NewView(r).Schedule(pod, prefer)
}

// Schedule picks the node for the pod: prefer if it can take it, otherwise the
// best of those that can. In this order, better is: fewer PreferNoSchedule taints
// not tolerated, more weight of preferred node affinity, fewer pods of the same
// owner, fewer pods of the same workload, less of CPU and memory requested, fewer
// pods, the lower name.
func (v *View) Schedule(pod *corev1.Pod, prefer schema.NodeName) Decision {
	w := newWish(pod)
	var d Decision
	if prefer != "" {
		against := v.againstPreferred(w, prefer)
		if len(against) == 0 {
			return Decision{Node: prefer}
		}
		d.Reasons = []NodeReason{{prefer, against}}
	}
	var best score
	for _, n := range v.nodes {
		if !n.takes(w) {
			continue
		}
		if s := n.score(w); d.Node == "" || s.less(best) {
			d.Node, best = n.name, s
		}
	}
	if d.Node == "" {
		d.Reasons = v.reasons(w)
		d.Message = message(d.Reasons)
	}
	return d
}

func (v *View) againstPreferred(w *wish, prefer schema.NodeName) []string {
	if n := v.byName[prefer]; n != nil {
		return n.against(w)
	}
	return []string{"no such node"}
}

func (v *View) reasons(w *wish) []NodeReason {
	out := make([]NodeReason, len(v.nodes))
	for i, n := range v.nodes {
		out[i] = NodeReason{n.name, n.against(w)}
	}
	return out
}

func message(reasons []NodeReason) string {
	if len(reasons) == 0 {
		return "0/0 nodes can take it: the cluster has no node"
	}
	told := reasons[:min(len(reasons), MaxMessageNodes)]
	parts := make([]string, len(told))
	for i, r := range told {
		parts[i] = fmt.Sprintf("%s: %s", r.Node, strings.Join(r.Reasons, ", "))
	}
	if more := len(reasons) - len(told); more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("0/%d nodes can take it: %s", len(reasons), strings.Join(parts, "; "))
}

// wish is what a pod asks of a node, worked out once for all of them.
type wish struct {
	pod       *corev1.Pod
	use       use
	required  nodeaffinity.RequiredNodeAffinity
	preferred *nodeaffinity.PreferredSchedulingTerms // nil for none
}

func newWish(pod *corev1.Pod) *wish {
	w := &wish{pod: pod, use: useOf(pod), required: nodeaffinity.GetRequiredNodeAffinity(pod)}
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		terms := a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution
		if p, err := nodeaffinity.NewPreferredSchedulingTerms(terms); err == nil && len(terms) > 0 {
			w.preferred = p
		}
	}
	return w
}

// score is lower for a better node.
type score struct {
	avoided    int   // PreferNoSchedule taints not tolerated
	unwanted   int64 // negated weight of preferred affinity
	ofOwner    int
	ofWorkload int
	requested  int64 // CPU and memory after placement, in thousandths of the node
	pods       int
	name       schema.NodeName
}

func (a score) less(b score) bool {
	switch {
	case a.avoided != b.avoided:
		return a.avoided < b.avoided
	case a.unwanted != b.unwanted:
		return a.unwanted < b.unwanted
	case a.ofOwner != b.ofOwner:
		return a.ofOwner < b.ofOwner
	case a.ofWorkload != b.ofWorkload:
		return a.ofWorkload < b.ofWorkload
	case a.requested != b.requested:
		return a.requested < b.requested
	case a.pods != b.pods:
		return a.pods < b.pods
	}
	return a.name < b.name
}

// What a container that requests nothing counts for when nodes are compared (not
// when they are filtered), as in Kubernetes: nothing would pile up on one node.
const (
	assumedMilliCPU    = 100
	assumedMemoryBytes = 200 << 20
)

func (n *NodeInfo) score(w *wish) score {
	s := score{
		avoided: n.avoided(w), ofOwner: n.owners[w.use.owner], ofWorkload: n.workloads[w.use.workload],
		pods: len(n.pods), name: n.name,
	}
	if w.use.owner == "" {
		s.ofOwner = 0
	}
	if w.use.workload == "" {
		s.ofWorkload = 0
	}
	if w.preferred != nil {
		s.unwanted = -w.preferred.Score(n.node)
	}
	s.requested = thousandths(n.weight.MilliCPU+w.use.weight.MilliCPU, n.allocatable.MilliCPU) +
		thousandths(n.weight.MemoryBytes+w.use.weight.MemoryBytes, n.allocatable.MemoryBytes)
	return s
}

// thousandths treats a node without the resource as full.
func thousandths(part, of int64) int64 {
	if of <= 0 {
		return 1000
	}
	return part * 1000 / of
}

func (n *NodeInfo) avoided(w *wish) (count int) {
	for i := range n.node.Spec.Taints {
		t := &n.node.Spec.Taints[i]
		if t.Effect == corev1.TaintEffectPreferNoSchedule && !tolerated(w.pod, t) {
			count++
		}
	}
	return count
}

func tolerated(pod *corev1.Pod, taint *corev1.Taint) bool {
	return slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
		return t.ToleratesTaint(noLog, taint, false)
	})
}
