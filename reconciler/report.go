package reconciler

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler/control"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// report takes over what an agent said of its node and its pods, as far as it may say
// it.
func (m *Machine) report(c *control.Context, in NodeReport) {
	m.heard[in.Report.Node] = c.Now
	m.reportNode(c, in)
	m.takeEvents(c, in.Report.Node, in.Report.Events)
	refused := refusedAddresses(c.Tx, &in)
	taken := make(map[types.UID]bool, len(in.Report.Pods))
	for i := range in.Report.Pods { // after its last events: a pod that is gone has none
		r := &in.Report.Pods[i]
		if !taken[r.UID] {
			taken[r.UID] = true
			m.reportPod(c, &in, r, refused[r.UID])
		}
	}
}

// said is what a node last said of itself, and what was made of it.
type said struct {
	node  *corev1.Node
	words NodeReport // without pods, events and the like
}

// reportNode does nothing about a node that says what it said, as most do every two
// seconds.
func (m *Machine) reportNode(c *control.Context, in NodeReport) {
	in.Report.AppliedVersion, in.Report.Pods, in.Report.Events = 0, nil, nil
	r := &in.Report
	node, ok := state.Get[*corev1.Node](c.Tx, "", string(r.Node))
	if last := m.said[r.Node]; ok && last.node == node && reflect.DeepEqual(last.words, in) {
		return
	}
	var next *corev1.Node
	if ok {
		next = state.Edit(node)
	} else {
		next = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: string(r.Node), CreationTimestamp: c.Stamp()}}
	}
	refused := describeNode(next, &in)
	if trouble := ownTrouble(&in); trouble == nil {
		setNodeReady(next, corev1.ConditionTrue, schema.ReasonAgentReady, "agent reports", c.Now)
	} else {
		setNodeReady(next, corev1.ConditionFalse, trouble.Reason, trouble.Message, c.Now)
	}
	if ok && equality.Semantic.DeepEqual(node, next) {
		next = node
	} else {
		c.Tx.Put(next)
	}
	for _, text := range refused {
		m.refused(c, r.Node, next, schema.ReasonReportRefused, text)
	}
	m.said[r.Node] = said{next, in}
}

// describeNode writes what a node is into its object and tells what of its report is
// not taken.
func describeNode(next *corev1.Node, in *NodeReport) (refused []string) {
	r := &in.Report
	labels, wrongLabels := ownLabels(in)
	taints, wrongTaints := ownTaints(r.Taints)
	next.Labels = labels
	next.Spec.PodCIDR, next.Spec.PodCIDRs = in.PodCIDR, []string{in.PodCIDR}
	next.Spec.Taints = slices.Concat(taints, slices.DeleteFunc(slices.Clone(next.Spec.Taints), func(t corev1.Taint) bool { return !control.IsLifecycleTaint(t) }))
	if len(next.Spec.Taints) == 0 {
		next.Spec.Taints = nil
	}
	next.Status.NodeInfo = ownInfo(r.Info, r.BootID)
	next.Status.Capacity, next.Status.Allocatable = ownResources(r.Capacity), ownResources(r.Allocatable)
	next.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: string(r.Node)}}
	if in.Address != "" {
		next.Status.Addresses = slices.Insert(next.Status.Addresses, 0, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: in.Address})
	}
	next.Status.Images = ownImages(r.Images)
	next.Status.Conditions = slices.DeleteFunc(next.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == schema.ConditionPaused })
	return slices.Concat(wrongLabels, wrongTaints)
}

// setNodeReady changes nothing while status, reason and message stay: a heartbeat is no
// write.
func setNodeReady(node *corev1.Node, status corev1.ConditionStatus, reason, message string, now time.Time) {
	setNodeCondition(node, corev1.NodeReady, status, reason, message, now)
}

func setNodeCondition(node *corev1.Node, kind corev1.NodeConditionType, status corev1.ConditionStatus, reason, message string, now time.Time) {
	i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == kind })
	if i < 0 {
		node.Status.Conditions = append(node.Status.Conditions, corev1.NodeCondition{Type: kind})
		i = len(node.Status.Conditions) - 1
	}
	cond := &node.Status.Conditions[i]
	if cond.Status == status && cond.Reason == reason && cond.Message == message {
		return
	}
	at := metav1.NewTime(now.UTC().Truncate(time.Second))
	since := at
	if cond.Status == status {
		since = cond.LastTransitionTime
	}
	*cond = corev1.NodeCondition{Type: kind, Status: status, Reason: reason, Message: message, LastHeartbeatTime: at, LastTransitionTime: since}
}

// reportPod takes over a pod's status from the node it is bound to, or removes
// the pod when the node says it is gone. A pod that nobody knows was one of the
// node's. Nothing is taken of a pod whose address is refused.
func (m *Machine) reportPod(c *control.Context, in *NodeReport, r *wire.PodReport, refusal string) {
	node := in.Report.Node
	pod, ok := state.PodByUID(c.Tx, r.UID)
	switch {
	case !ok:
		return
	case pod.Spec.NodeName != string(node):
		if about, ok := state.Get[*corev1.Node](c.Tx, "", string(node)); ok {
			m.refused(c, node, about, schema.ReasonReportRefused, fmt.Sprintf("pod %s/%s is reported, which is not bound to this node", pod.Namespace, pod.Name))
		}
		return
	case r.Gone:
		if pod.DeletionTimestamp != nil {
			control.RemovePod(c, pod)
		}
		return
	}
	if refusal != "" {
		m.refused(c, node, pod, schema.ReasonBadAddress, refusal)
		return
	}
	next := state.Shallow(pod)
	ours := slices.DeleteFunc(slices.Clone(pod.Status.Conditions), func(c corev1.PodCondition) bool {
		return c.Type != corev1.PodScheduled && c.Type != corev1.DisruptionTarget
	})
	next.Status = podStatus(pod, in.Address, &r.Status)
	next.Status.Conditions = slices.Concat(ours, next.Status.Conditions)
	stampTransitions(c, pod.Status.Conditions, next.Status.Conditions)
	if len(r.Logs) > 0 {
		m.saw(pod.UID).takeLogs(pod, r.Logs)
	}
	if !equality.Semantic.DeepEqual(pod.Status, next.Status) {
		c.Tx.Put(next)
		m.saw(pod.UID)
	}
}

// stampTransitions dates what changed by this clock: durations are counted from
// it here, and two hosts' clocks are never compared.
func stampTransitions(c *control.Context, old, next []corev1.PodCondition) {
	for i := range next {
		next[i].LastTransitionTime = c.Stamp()
		for _, o := range old {
			if o.Type == next[i].Type && o.Status == next[i].Status {
				next[i].LastTransitionTime = o.LastTransitionTime
			}
		}
	}
}

// restartSilence counts every node's silence from now: the leader was not there
// to hear it.
func (m *Machine) restartSilence(r state.Reader, now time.Time) {
	for node := range state.All[*corev1.Node](r, "") {
		m.heard[schema.NodeName(node.Name)] = now
	}
}

// pauseReprieve is how long after a pause a node that is still silent counts as
// lost at the earliest: an agent gives a report ten seconds, then dials anew.
const pauseReprieve = 20 * time.Second

// judgeNodes does what follows from nodes' silence. It goes through all of them
// only when one may have been silent for too long: a node's last word never becomes
// older.
func (m *Machine) judgeNodes(c *control.Context) {
	if c.Now.Before(m.allHeard) {
		return
	}
	m.markStale(c)
	m.judgeSilence(c)
	oldest := c.Now
	for node := range state.All[*corev1.Node](c.Tx, "") {
		if at := m.heard[schema.NodeName(node.Name)]; at.Before(oldest) {
			oldest = at
		}
	}
	m.allHeard = oldest.Add(NodeStaleAfter)
}

// markStale says on the pods of nodes that do not keep up that their status may
// be old. The next report of a node takes the mark away.
func (m *Machine) markStale(c *control.Context) {
	for node := range state.All[*corev1.Node](c.Tx, "") {
		name := schema.NodeName(node.Name)
		silent := c.Now.Sub(m.heard[name])
		if silent <= NodeStaleAfter {
			delete(m.stale, name)
			continue
		}
		if m.stale[name] {
			continue
		}
		m.stale[name] = true
		for pod := range state.By[*corev1.Pod](c.Tx, state.PodsByNode, node.Name) {
			if slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == schema.ConditionStale }) {
				continue
			}
			next := state.Edit(pod)
			next.Status.Conditions = append(next.Status.Conditions, corev1.PodCondition{
				Type: schema.ConditionStale, Status: corev1.ConditionTrue, Reason: schema.ReasonNodeSilent, LastTransitionTime: c.Stamp(),
				Message: fmt.Sprintf("node %s has not reported for %s", node.Name, NodeStaleAfter),
			})
			c.Tx.Put(next)
		}
	}
}

// judgeSilence marks nodes NotReady that were silent too long, unless most of
// them are: then evictions are paused.
func (m *Machine) judgeSilence(c *control.Context) {
	var silent []*corev1.Node
	total, quiet := 0, 0
	for node := range state.All[*corev1.Node](c.Tx, "") {
		total++
		silence := c.Now.Sub(m.heard[schema.NodeName(node.Name)])
		if silence > NodeStaleAfter {
			quiet++
		}
		if silence > NodeSilentAfter {
			silent = append(silent, node)
		}
	}
	// Who fell silent together does not reach the limit in the same round: all
	// that do not keep up count.
	pause := 2*quiet > total && total > 1
	if m.paused && !pause {
		m.reprieve(c)
		silent = nil
	}
	m.paused = pause
	for _, node := range silent {
		next := state.Edit(node)
		if pause {
			setNodeCondition(next, schema.ConditionPaused, corev1.ConditionTrue, schema.ReasonMostNodesSilent, fmt.Sprintf("%d of %d nodes stopped reporting at once; evictions are paused, check the master's network", quiet, total), c.Now)
		} else {
			setNodeReady(next, corev1.ConditionUnknown, schema.ReasonNodeSilent, fmt.Sprintf("no report for %s", NodeSilentAfter), c.Now)
		}
		if !equality.Semantic.DeepEqual(node, next) {
			c.Tx.Put(next)
		}
	}
}

// reprieve gives nodes that are still silent when a pause ends a moment to be
// heard: whatever kept most of them from the leader may have kept these too, and
// they do not come back all at once.
func (m *Machine) reprieve(c *control.Context) {
	for node := range state.All[*corev1.Node](c.Tx, "") {
		name := schema.NodeName(node.Name)
		if latest := c.Now.Add(pauseReprieve - NodeSilentAfter); m.heard[name].Before(latest) {
			m.heard[name] = latest
		}
	}
}

func podByUID(r state.Reader, uid string) (*corev1.Pod, bool) {
	return state.PodByUID(r, types.UID(uid))
}
