package health

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// NodeCondition is the condition of that type, false when nobody wrote it.
func NodeCondition(node *corev1.Node, t corev1.NodeConditionType) (corev1.NodeCondition, bool) {
	for _, cond := range node.Status.Conditions {
		if cond.Type == t {
			return cond, true
		}
	}
	return corev1.NodeCondition{}, false
}

// NodeReady reports whether there is such a node and it is ready.
func NodeReady(r state.Reader, name string) bool {
	node, ok := state.Get[*corev1.Node](r, "", name)
	if !ok {
		return false
	}
	cond, _ := NodeCondition(node, corev1.NodeReady)
	return cond.Status == corev1.ConditionTrue
}

// nodeCodes are the reasons for which a node says that it cannot work.
var nodeCodes = map[string]Code{
	schema.ReasonNodeUnfit:          NodeUnfit,
	schema.ReasonRuntimeUnavailable: RuntimeUnavailable,
	schema.ReasonNetworkUnavailable: NetworkFailing,
	schema.ReasonBadAddress:         BadAddress,
}

// NobodyKnows is what may be the matter with a silent node. The master sees the
// silence and nothing else.
const NobodyKnows = "; it may be down, cut off, or without its agent"

// OfNode is what is wrong with a node; false when it is ready. The text goes on after
// "node n1, which ...".
func OfNode(r state.Reader, name string) (Trouble, bool) {
	node, ok := state.Get[*corev1.Node](r, "", name)
	if !ok {
		return newTrouble(NodeSilent, "the cluster does not have"), true
	}
	if cond, ok := NodeCondition(node, schema.ConditionPaused); ok && cond.Status == corev1.ConditionTrue {
		return newTrouble(MostNodesSilent, "does not report: "+cond.Message), true
	}
	cond, ok := NodeCondition(node, corev1.NodeReady)
	switch {
	case !ok || cond.Status == corev1.ConditionUnknown:
		return newTrouble(NodeSilent, "does not report"+since(cond)+NobodyKnows), true
	case cond.Status == corev1.ConditionFalse:
		code, known := nodeCodes[cond.Reason]
		if !known {
			code = NodeNotReady
		}
		return newTrouble(code, "is not ready: "+cond.Message), true
	}
	return Trouble{}, false
}

func since(cond corev1.NodeCondition) string {
	if cond.LastTransitionTime.IsZero() {
		return ""
	}
	return " since " + cond.LastTransitionTime.UTC().Format(time.RFC3339)
}
