// Package scheduler answers "which node takes this pod?", and for a refusal what
// every node has against it, with numbers. It is pure: the same cluster and pod
// give the same node, ties are broken by name. It binds nothing; the settle
// engine does, and plans ask the same code on a fork. What the best node is, filter
// and score say; that it is found without asking each of them, see README.md.
package scheduler

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

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
	// Against, for a pod that does not go to the preferred node, is what that one
	// has against it.
	Against []string
	// Lacks says a refusal in one word, one of schema.ConditionLacking's reasons.
	Lacks string
	// Message says it in one line; it names at most MaxMessageNodes nodes.
	// What all of them say, see View.Against.
	Message string
}

// MaxMessageNodes bounds how many nodes a Decision's message names.
const MaxMessageNodes = 20

// Schedule picks the node for the pod: prefer if it can take it, otherwise the
// best of those that can. In this order, better is: fewer PreferNoSchedule taints
// not tolerated, more weight of preferred node affinity, fewer pods of the same
// owner, fewer pods of the same workload, less of CPU and memory requested, fewer
// pods, the lower name.
func (v *View) Schedule(pod *corev1.Pod, prefer schema.NodeName) Decision {
	c := v.classOf(pod)
	var d Decision
	if prefer != "" {
		d.Against = v.againstPreferred(c.requirements, prefer)
		if i, ok := v.find(prefer); ok && v.nodes[i].failsStarts(c.requirements) && v.takenBesides(c.requirements, prefer) {
			d.Against = append(d.Against, "pods cannot be started there at present")
		}
		if len(d.Against) == 0 {
			return Decision{Node: prefer}
		}
	}
	if i := v.best(c); i >= 0 {
		d.Node = v.nodes[i].name
	} else {
		d.Lacks, d.Message = v.refuse(c)
	}
	return d
}

// TakenElsewhere reports whether a node on which pods are not known to fail would take
// the pod, other than the one it is on. Of a pod that tolerates such nodes nobody knows
// where it would go.
func (v *View) TakenElsewhere(pod *corev1.Pod) bool {
	return !tolerated(pod, &schema.StartsFailing) && v.takenBesides(v.classOf(pod).requirements, schema.NodeName(pod.Spec.NodeName))
}

func (v *View) takenBesides(w *requirements, node schema.NodeName) bool {
	return slices.ContainsFunc(v.nodes, func(n *NodeInfo) bool { return n.name != node && !n.failsStarts(w) && n.takes(w) })
}

// failsStarts reports whether the node has the taint of one that cannot start pods, and
// the pod does not tolerate.
func (n *NodeInfo) failsStarts(w *requirements) bool {
	has := slices.ContainsFunc(n.node.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&schema.StartsFailing) })
	return has && !tolerated(w.pod, &schema.StartsFailing)
}

// Scan is what Schedule without a preference must equal, found by asking every node:
// tests hold the two together, and benchmarks compare them. "" is a refusal.
func (v *View) Scan(pod *corev1.Pod) (best schema.NodeName) {
	w, g := newRequirements(pod), groupOf(pod)
	var least score
	for _, n := range v.nodes {
		if !n.takes(w) {
			continue
		}
		if s := n.score(w, &g); best == "" || s.less(&least) {
			best, least = n.name, s
		}
	}
	return best
}

// Against is what every node that does not take the pod has against it, in name
// order.
func (v *View) Against(pod *corev1.Pod) (out []NodeReason) {
	return v.against(newRequirements(pod), len(v.nodes))
}

// against asks nodes until so many of them have refused.
func (v *View) against(w *requirements, most int) (out []NodeReason) {
	for _, n := range v.nodes {
		if len(out) == most {
			break
		}
		if reasons := n.against(w); len(reasons) > 0 {
			out = append(out, NodeReason{n.name, reasons})
		}
	}
	return out
}

// refuse says why no node takes the class. Pods that wait are asked for again
// whenever something changes; those of one class are told the same.
func (v *View) refuse(c *class) (lacks, text string) {
	if c.refusal.message == "" || c.refusal.logged != v.logged {
		c.refusal = refusal{v.lacks(c.requirements), message(v.against(c.requirements, MaxMessageNodes), len(v.nodes)), v.logged}
	}
	return c.refusal.lacks, c.refusal.message
}

// lacks is what would have to change for a refused pod to find its node: one that
// suits has to be empty enough, or one that would suit be ready, or the pod ask
// for another.
func (v *View) lacks(w *requirements) string {
	out := schema.ReasonNoFittingNode
	if len(v.nodes) == 0 {
		return schema.ReasonNoCapacity
	}
	for _, n := range v.nodes {
		switch {
		case n.suits(w):
			return schema.ReasonNoCapacity
		case n.wouldSuit(w):
			out = schema.ReasonNoReadyNode
		}
	}
	return out
}

// LacksRoom reports whether all that node has against the pod are the pods on it.
func (v *View) LacksRoom(pod *corev1.Pod, node schema.NodeName) bool {
	i, ok := v.find(node)
	if !ok {
		return false
	}
	w := v.classOf(pod).requirements
	return v.nodes[i].suits(w) && !v.nodes[i].hasRoom(w)
}

func (v *View) againstPreferred(w *requirements, prefer schema.NodeName) []string {
	if i, ok := v.find(prefer); ok {
		return v.nodes[i].against(w)
	}
	return []string{"no such node"}
}

// message tells what the first of so many nodes have against a pod.
func message(told []NodeReason, nodes int) string {
	if nodes == 0 {
		return "0/0 nodes can take it: the cluster has no node"
	}
	parts := make([]string, len(told))
	for i, r := range told {
		parts[i] = fmt.Sprintf("%s: %s", r.Node, strings.Join(r.Reasons, ", "))
	}
	if more := nodes - len(told); more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("0/%d nodes can take it: %s", nodes, strings.Join(parts, "; "))
}

// score is lower for a better node; of two equal ones the lower name is better.
type score struct {
	avoided    int32 // PreferNoSchedule taints not tolerated
	unwanted   int32 // negated weight of preferred affinity
	ofOwner    int32
	ofWorkload int32
	requested  int64 // CPU and memory after placement, in thousandths of the node
	pods       int64
}

func (a *score) less(b *score) bool {
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
	}
	return a.pods < b.pods
}

// What a container that requests nothing counts for when nodes are compared (not
// when they are filtered), as in Kubernetes: nothing would pile up on one node.
const (
	assumedMilliCPU    = 100
	assumedMemoryBytes = 200 << 20
)

// score is what the node is to a pod with those requirements in that group.
func (n *NodeInfo) score(w *requirements, g *group) score {
	s := n.preference(w)
	n.load(w, g, &s)
	return s
}

// preference is the part of the score that the node's own object decides.
func (n *NodeInfo) preference(w *requirements) (s score) {
	s.avoided = n.avoided(w)
	if w.preferred != nil {
		s.unwanted = int32(-w.preferred.Score(n.node))
	}
	return s
}

// load fills in the part that the pods on the node decide.
func (n *NodeInfo) load(w *requirements, g *group, s *score) {
	s.ofOwner, s.ofWorkload = 0, 0
	if g.owner != "" {
		s.ofOwner = int32(n.owners[g.owner])
	}
	if g.workload != "" {
		s.ofWorkload = int32(n.workloads[g.workload])
	}
	s.requested = thousandths(n.weight.MilliCPU+w.use.weight.MilliCPU, n.allocatable.MilliCPU) +
		thousandths(n.weight.MemoryBytes+w.use.weight.MemoryBytes, n.allocatable.MemoryBytes)
	s.pods = n.used.Pods
}

// thousandths treats a node without the resource as full.
func thousandths(part, of int64) int64 {
	if of <= 0 {
		return 1000
	}
	return part * 1000 / of
}

func (n *NodeInfo) avoided(w *requirements) (count int32) {
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
