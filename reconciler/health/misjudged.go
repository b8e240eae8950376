package health

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// misjudgedWithin is for how long after a revision failed a node may turn out to be why.
// An agent looks at its node every few minutes and at its runtime all the time: what
// comes later has other causes.
const misjudgedWithin = 10 * time.Minute

// nodesToo are the causes that look like the revision's fault and may be the node's.
var nodesToo = []Code{StartFailing, SetupFailing, CrashLoop, ProbeFailing}

// nodesOwn are the faults of a node that keep containers from running well on it. A node
// that is silent may have had nothing but a bad connection.
var nodesOwn = []Code{NodeUnfit, RuntimeUnavailable, NetworkFailing}

// Misjudged says why a revision that failed is to be judged again: all that it failed
// for was seen on nodes that were found to be at fault soon after. That is done once;
// false of one that was, that Git no longer asks for, or that did not fail.
func Misjudged(r state.Reader, src *schema.Source, rev *schema.Revision) (why string, ok bool) {
	if !MayBeMisjudged(src, rev) || len(rev.Status.Evidence) == 0 {
		return "", false
	}
	until := rev.Entered(schema.PhaseFailed).Add(misjudgedWithin)
	var faults []string
	for _, e := range rev.Status.Evidence {
		if !slices.Contains(nodesToo, Code(e.Code)) {
			return "", false
		}
		for _, node := range append([]schema.NodeName{e.Node}, e.Also...) {
			fault, at := faultOfNode(r, node)
			if fault == "" || at.After(until) {
				return "", false
			}
			if told := fmt.Sprintf("node %s, which %s", node, fault); !slices.Contains(faults, told) {
				faults = append(faults, told)
			}
		}
	}
	return "what it failed for was seen only on " + strings.Join(faults, ", and on "), true
}

// MayBeMisjudged reports whether the judgement of a revision of the source could still be
// taken back, whatever its nodes are like.
func MayBeMisjudged(src *schema.Source, rev *schema.Revision) bool {
	switch {
	case rev.Status.JudgedAgain != nil:
		return false
	case rev.Status.Phase == schema.PhaseRolledBack:
		return rev.Status.Quarantined && src.Status.Desired.Commit == rev.Spec.Commit
	}
	return (rev.Status.Phase == schema.PhaseFailed || LacksWayBack(rev)) && src.Status.Applied.Commit == rev.Spec.Commit
}

// faultOfNode is what is wrong with a node that would make containers on it fail, and
// since when; "" for nothing, and of a node that is gone. It goes on after "node n1, which".
func faultOfNode(r state.Reader, name schema.NodeName) (fault string, since time.Time) {
	node, ok := state.Get[*corev1.Node](r, "", string(name))
	if !ok {
		return "", since
	}
	if t, bad := OfNode(r, node.Name); bad && slices.Contains(nodesOwn, t.Code) {
		cond, _ := NodeCondition(node, corev1.NodeReady)
		return t.Text, cond.LastTransitionTime.Time
	}
	if cond, _ := NodeCondition(node, schema.ConditionStartsFailing); cond.Status == corev1.ConditionTrue {
		return "cannot start pods: " + cond.Message, cond.LastTransitionTime.Time
	}
	return "", since
}
