package api

import (
	"fmt"
	"iter"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/duration"

	"fairlead/reconciler/state"
	"fairlead/reconciler/work"
	"fairlead/schema"
)

var podRow = row{
	kind: schema.KindPod,
	columns: []column{
		nameColumn, {name: "Ready"}, {name: "Status"}, {name: "Restarts"}, ageColumn,
		{name: "IP", wide: true}, {name: "Node", wide: true}, {name: "Nominated Node", wide: true}, {name: "Readiness Gates", wide: true},
	},
	cells:    typedCells(podCells),
	fields:   fieldsCell{Do: typedFields(podFields)},
	narrow:   narrowCell{Do: podsOfNode},
	shared:   sharedCell{None: notShared},
	concerns: concernsCell{Do: nodesOfPod},
	maker:    makerCell{None: byCluster},
	refuse:   refuseCell{None: byOrigin},
	reach:    reachCell{Do: func(obj schema.Object) string { return reachAt(obj.(*corev1.Pod).Status.PodIP) }},
	fresh:    freshCell{None: allStored},
}

func podsOfNode(r state.Reader, sel selection) (iter.Seq[schema.Object], bool) {
	node, ok := sel.fields.RequiresExactMatch("spec.nodeName")
	if !ok {
		return nil, false
	}
	return r.By(state.PodsByNode, node), true
}

// podSummary is a pod in the few words of its row.
type podSummary struct {
	ready, total int
	status       string
	restarts     int32
	lastRestart  metav1.Time
}

func podCells(pod *corev1.Pod, now metav1.Time) []any {
	s := summarize(pod)
	restarts := strconv.Itoa(int(s.restarts))
	if s.restarts > 0 && !s.lastRestart.IsZero() {
		restarts += " (" + duration.HumanDuration(now.Sub(s.lastRestart.Time)) + " ago)"
	}
	ip := pod.Status.PodIP
	if len(pod.Status.PodIPs) > 0 {
		ip = pod.Status.PodIPs[0].IP
	}
	return []any{
		pod.Name, fmt.Sprintf("%d/%d", s.ready, s.total), s.status, restarts, age(pod.CreationTimestamp, now),
		orNone(ip), orNone(pod.Spec.NodeName), orNone(pod.Status.NominatedNodeName), readinessGates(pod),
	}
}

// summarize finds the one word for a pod's state: what its containers say, the
// first init container that is not done before all others, and above both that
// the pod is going.
func summarize(pod *corev1.Pod) podSummary {
	s := podSummary{total: len(pod.Spec.Containers), status: string(pod.Status.Phase)}
	if pod.Status.Reason != "" {
		s.status = pod.Status.Reason
	}
	if c := condition(pod, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonSchedulingGated {
		s.status = c.Reason
	}
	sidecars := map[string]bool{}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; schema.IsSidecar(c) {
			sidecars[c.Name] = true
			s.total++
		}
	}
	kept, initializing := s.initializing(pod, sidecars)
	if c := condition(pod, corev1.PodInitialized); !initializing || c != nil && c.Status == corev1.ConditionTrue {
		s.restarts, s.lastRestart = kept.restarts, kept.lastRestart
		s.running(pod)
	}
	if pod.DeletionTimestamp != nil {
		switch {
		case pod.Status.Reason == "NodeLost":
			s.status = "Unknown"
		case pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed:
			s.status = "Terminating"
		}
	}
	return s
}

// initializing looks at the init containers and reports whether one of them is
// still to finish; sidecars only have to start. The restarts of sidecars, which are kept,
// count on after initialization.
func (s *podSummary) initializing(pod *corev1.Pod, sidecars map[string]bool) (kept podSummary, initializing bool) {
	for i, c := range pod.Status.InitContainerStatuses {
		s.addRestarts(c)
		if sidecars[c.Name] {
			kept.addRestarts(c)
			if c.Ready {
				s.ready++
			}
		}
		done := c.State.Terminated != nil && c.State.Terminated.ExitCode == 0
		started := sidecars[c.Name] && c.Started != nil && *c.Started
		if done || started {
			continue
		}
		switch {
		case c.State.Terminated != nil:
			s.status = "Init:" + terminatedReason(c.State.Terminated)
		case c.State.Waiting != nil && c.State.Waiting.Reason != "" && c.State.Waiting.Reason != "PodInitializing":
			s.status = "Init:" + c.State.Waiting.Reason
		default:
			s.status = fmt.Sprintf("Init:%d/%d", i, len(pod.Spec.InitContainers))
		}
		return kept, true
	}
	return kept, false
}

// running looks at the containers; the first one with something to say is heard.
func (s *podSummary) running(pod *corev1.Pod) {
	anyRunning := false
	for i := len(pod.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := pod.Status.ContainerStatuses[i]
		s.addRestarts(c)
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			s.status = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			s.status = terminatedReason(c.State.Terminated)
		case c.Ready && c.State.Running != nil:
			anyRunning = true
			s.ready++
		}
	}
	if s.status == "Completed" && anyRunning {
		s.status = "NotReady"
		if c := condition(pod, corev1.PodReady); c != nil && c.Status == corev1.ConditionTrue {
			s.status = "Running"
		}
	}
}

func (s *podSummary) addRestarts(c corev1.ContainerStatus) {
	s.restarts += c.RestartCount
	if t := c.LastTerminationState.Terminated; t != nil && s.lastRestart.Before(&t.FinishedAt) {
		s.lastRestart = t.FinishedAt
	}
}

func terminatedReason(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

func readinessGates(pod *corev1.Pod) string {
	if len(pod.Spec.ReadinessGates) == 0 {
		return none
	}
	met := 0
	for _, g := range pod.Spec.ReadinessGates {
		if c := condition(pod, g.ConditionType); c != nil && c.Status == corev1.ConditionTrue {
			met++
		}
	}
	return fmt.Sprintf("%d/%d", met, len(pod.Spec.ReadinessGates))
}

func podFields(set fields.Set, o *corev1.Pod) {
	set["spec.nodeName"] = o.Spec.NodeName
	set["spec.restartPolicy"] = string(o.Spec.RestartPolicy)
	set["spec.schedulerName"] = o.Spec.SchedulerName
	set["spec.serviceAccountName"] = o.Spec.ServiceAccountName
	set["spec.hostNetwork"] = strconv.FormatBool(o.Spec.HostNetwork)
	set["status.phase"] = string(o.Status.Phase)
	set["status.podIP"] = o.Status.PodIP
	set["status.nominatedNodeName"] = o.Status.NominatedNodeName
}

// nodesOfPod marks the nodes that a changed pod was and is bound to, unless they cannot
// tell the two apart.
func nodesOfPod(_ *Door, c state.Change, dirty map[schema.NodeName]bool) {
	was, _ := c.Old.(*corev1.Pod)
	is, _ := c.New.(*corev1.Pod)
	if was != nil && is != nil && work.SamePod(was, is) {
		return
	}
	for _, pod := range []*corev1.Pod{was, is} {
		if pod != nil {
			dirty[schema.NodeName(pod.Spec.NodeName)] = true
		}
	}
}
