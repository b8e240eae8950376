package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/klog/v2"
)

// noLog swallows what apimachinery would log about a malformed toleration.
var noLog klog.Logger

// rejection gathers the reasons for which a node rejects a pod; unless it is to be told, the
// first one is enough.
type rejection struct {
	tell bool
	any  bool
	told []string
}

// raise notes an reason and reports whether it is to be put in words.
func (o *rejection) raise() bool {
	o.any = true
	return o.tell
}

func (o *rejection) say(format string, args ...any) {
	o.told = append(o.told, fmt.Sprintf(format, args...))
}

// decided reports whether nothing more needs to be known.
func (o *rejection) decided() bool { return o.any && !o.tell }

// takes reports whether the node can run the pod.
func (n *NodeInfo) takes(w *requirements) bool {
	var o rejection
	n.filter(w, &o)
	return !o.any
}

// against is every reason why the node cannot, nil if it can.
func (n *NodeInfo) against(w *requirements) []string {
	o := rejection{tell: true}
	n.filter(w, &o)
	return o.told
}

// suits reports whether the node would take the pod if it were empty enough: what
// the node's own object decides.
func (n *NodeInfo) suits(w *requirements) bool {
	var o rejection
	n.filterSelf(w, &o)
	return !o.any
}

// wouldSuit reports whether the node would suit if it were ready and took pods.
func (n *NodeInfo) wouldSuit(w *requirements) bool {
	var o rejection
	if n.filterTaints(w, &o); !o.decided() {
		n.filterAffinity(w, &o)
	}
	return !o.any
}

// hasRoom reports whether the pods on the node leave room for the pod.
func (n *NodeInfo) hasRoom(w *requirements) bool {
	var o rejection
	n.filterRoom(w, &o)
	return !o.any
}

// filter asks in the order in which reasons are told.
func (n *NodeInfo) filter(w *requirements, o *rejection) {
	if n.filterSelf(w, o); !o.decided() {
		n.filterRoom(w, o)
	}
}

func (n *NodeInfo) filterSelf(w *requirements, o *rejection) {
	if n.filterState(w, o); o.decided() {
		return
	}
	if n.filterTaints(w, o); o.decided() {
		return
	}
	n.filterAffinity(w, o)
}

func (n *NodeInfo) filterRoom(w *requirements, o *rejection) {
	if n.filterResources(w, o); !o.decided() {
		n.filterPorts(w, o)
	}
}

func (n *NodeInfo) filterState(w *requirements, o *rejection) {
	if !n.ready && o.raise() {
		o.say("%s", n.notReady())
	}
	if n.node.Spec.Unschedulable && !tolerated(w.pod, &cordon) && o.raise() {
		o.say("unschedulable")
	}
}

// cordon is the taint that stands for spec.unschedulable.
var cordon = corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}

func (n *NodeInfo) notReady() string {
	for _, cond := range n.node.Status.Conditions {
		if cond.Type == corev1.NodeReady && cond.Message != "" {
			return "not ready (" + cond.Message + ")"
		}
	}
	return "not ready"
}

// filterTaints leaves out the taints that only repeat what filterState says.
func (n *NodeInfo) filterTaints(w *requirements, o *rejection) {
	for i := range n.node.Spec.Taints {
		t := &n.node.Spec.Taints[i]
		switch {
		case t.Effect != corev1.TaintEffectNoSchedule && t.Effect != corev1.TaintEffectNoExecute, tolerated(w.pod, t):
			continue
		case !n.ready && (t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable):
			continue
		case n.node.Spec.Unschedulable && t.Key == corev1.TaintNodeUnschedulable:
			continue
		}
		if o.raise() {
			o.say("taint %s not tolerated", t.ToString())
		}
	}
}

func (n *NodeInfo) filterAffinity(w *requirements, o *rejection) {
	ok, err := w.required.Match(n.node)
	if (err != nil || !ok) && o.raise() {
		if err != nil {
			o.say("node affinity: %v", err)
		} else {
			o.say("%s", w.affinityReason(n.node))
		}
	}
}

// affinityReason names the nodeSelector labels that differ, else the affinity.
func (w *requirements) affinityReason(node *corev1.Node) string {
	var differ []string
	for _, key := range slices.Sorted(maps.Keys(w.pod.Spec.NodeSelector)) {
		if have, ok := node.Labels[key]; !ok || have != w.pod.Spec.NodeSelector[key] {
			differ = append(differ, key+"="+w.pod.Spec.NodeSelector[key])
		}
	}
	if len(differ) > 0 {
		return "node selector: not " + strings.Join(differ, ", ")
	}
	return "required node affinity does not match"
}

// filterResources lets a pod that asks for nothing of a resource onto a node that
// has none left of it.
func (n *NodeInfo) filterResources(w *requirements, o *rejection) {
	want, used, all := &w.use.requests, &n.used, &n.allocatable
	if want.MilliCPU > 0 && used.MilliCPU+want.MilliCPU > all.MilliCPU && o.raise() {
		o.say("cpu: wanted %s, used %s of %s", milli(want.MilliCPU), milli(used.MilliCPU), milli(all.MilliCPU))
	}
	if want.MemoryBytes > 0 && used.MemoryBytes+want.MemoryBytes > all.MemoryBytes && o.raise() {
		o.say("memory: wanted %s, used %s of %s", plain(want.MemoryBytes), plain(used.MemoryBytes), plain(all.MemoryBytes))
	}
	if used.Pods+want.Pods > all.Pods && o.raise() {
		o.say("pods: used %d of %d", used.Pods, all.Pods)
	}
	for _, name := range w.use.others {
		if used.Other[name]+want.Other[name] > all.Other[name] && o.raise() {
			o.say("%s: wanted %s, used %s of %s", name, plain(want.Other[name]), plain(used.Other[name]), plain(all.Other[name]))
		}
	}
}

func milli(n int64) string { return resource.NewMilliQuantity(n, resource.DecimalSI).String() }

// plain speaks in Ki, Mi, Gi where the number is a whole number of them.
func plain(n int64) string {
	if n%1024 == 0 {
		return resource.NewQuantity(n, resource.BinarySI).String()
	}
	return resource.NewQuantity(n, resource.DecimalSI).String()
}

func (n *NodeInfo) filterPorts(w *requirements, o *rejection) {
	for _, want := range w.use.ports {
		if holder := n.portHolder(want); holder != "" && o.raise() {
			o.say("host port %d/%s is used by %s", want.port, want.protocol, holder)
		}
	}
}
