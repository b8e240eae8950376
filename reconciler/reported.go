package reconciler

import (
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/control"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// A node is judged by what the registry and the bindings say of it. What is taken
// from its report stands here, field by field; the rest is left out, and what it may
// not say is told of.

// Bounds of what is taken from a report. An agent keeps well within them.
const (
	maxReportedLabels    = 64
	maxReportedTaints    = 32
	maxReportedResources = 32
	maxReportedImages    = 50 // as many as Kubernetes' nodes report
	maxImageNames        = 16
	maxReportedEvents    = 200 // as many as an agent sends at a time
	maxReportedName      = 512 // of an image, a container's identity, a version
	maxReportedReason    = 128
	maxReportedMessage   = 4096      // a termination message in Kubernetes
	maxReportedRestarts  = 1_000_000 // one each 5 minutes for ten years
	maxReportedQuantity  = 1 << 50   // of a resource: a PiB, sums of which are far from overflowing
)

// refusalsTold is for how many things a node may not say an event is written before
// the oldest may be told again, and refusalEvery how often the same one is.
const (
	refusalsTold = 64
	refusalEvery = 10 * time.Minute
)

// refused tells, now and then, what a node said and may not say.
func (m *Machine) refused(c *control.Context, node schema.NodeName, about schema.Object, reason, message string) {
	told := m.refusals[node]
	if told == nil {
		told = map[string]time.Time{}
		m.refusals[node] = told
	}
	text := schema.KeyOf(about).String() + " " + reason + " " + message
	maps.DeleteFunc(told, func(_ string, at time.Time) bool { return c.Now.Sub(at) >= refusalEvery })
	if _, known := told[text]; known || len(told) >= refusalsTold {
		return
	}
	told[text] = c.Now
	control.Event(c, about, corev1.EventTypeWarning, reason, message)
}

// ownLabels are the labels of a node: what it is, what it says of itself as far as it
// may, and above both what the registry says.
func ownLabels(in *NodeReport) (labels map[string]string, refused []string) {
	node := in.Report.Node
	labels = map[string]string{corev1.LabelHostname: string(node), corev1.LabelOSStable: "linux"}
	if arch := in.Report.Info.Architecture; schema.WrongLabel(corev1.LabelArchStable, arch) == "" {
		labels[corev1.LabelArchStable] = arch
	}
	keys := slices.Sorted(maps.Keys(in.Report.Labels))
	if over := len(keys) - maxReportedLabels; over > 0 {
		keys = keys[:maxReportedLabels]
		refused = append(refused, fmt.Sprintf("%d labels more than the %d that a node may have", over, maxReportedLabels))
	}
	for _, key := range keys {
		value := in.Report.Labels[key]
		if wrong := schema.WrongOwnLabel(node, key, value); wrong != "" {
			refused = append(refused, fmt.Sprintf("label %s=%s is not taken: %s", cut(key, maxReportedReason), cut(value, maxReportedReason), cut(wrong, maxReportedName)))
			continue
		}
		labels[key] = value
	}
	maps.Copy(labels, in.Labels)
	return labels, refused
}

// ownTaints are those the node's configuration gives it; what state it is in the
// master says.
func ownTaints(taints []corev1.Taint) (own []corev1.Taint, refused []string) {
	for _, t := range taints {
		switch {
		case len(own) == maxReportedTaints:
			return own, append(refused, fmt.Sprintf("more than %d taints", maxReportedTaints))
		case control.IsLifecycleTaint(t), schema.WrongLabel(t.Key, t.Value) != "",
			!slices.Contains([]corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}, t.Effect):
			refused = append(refused, "taint "+cut(t.ToString(), maxReportedName)+" is not taken: it is not valid, or only the master sets it")
		default:
			own = append(own, corev1.Taint{Key: t.Key, Value: t.Value, Effect: t.Effect})
		}
	}
	return own, refused
}

// ownResources are those of a plausible amount.
func ownResources(list corev1.ResourceList) corev1.ResourceList {
	out := make(corev1.ResourceList, min(len(list), maxReportedResources))
	most := resource.NewQuantity(maxReportedQuantity, resource.BinarySI)
	for _, name := range slices.Sorted(maps.Keys(list)) {
		q := list[name]
		if len(out) < maxReportedResources && len(name) <= maxReportedReason && q.Sign() >= 0 && q.Cmp(*most) <= 0 {
			out[name] = q
		}
	}
	return out
}

func ownImages(images []corev1.ContainerImage) []corev1.ContainerImage {
	var out []corev1.ContainerImage
	for _, i := range images[:min(len(images), maxReportedImages)] {
		taken := corev1.ContainerImage{SizeBytes: max(i.SizeBytes, 0)}
		for _, name := range i.Names[:min(len(i.Names), maxImageNames)] {
			if len(name) <= maxReportedName {
				taken.Names = append(taken.Names, name)
			}
		}
		out = append(out, taken)
	}
	return out
}

func ownInfo(i corev1.NodeSystemInfo, bootID string) corev1.NodeSystemInfo {
	i.BootID = bootID
	for _, s := range []*string{&i.MachineID, &i.SystemUUID, &i.BootID, &i.KernelVersion, &i.OSImage, &i.ContainerRuntimeVersion, &i.KubeletVersion, &i.KubeProxyVersion, &i.OperatingSystem, &i.Architecture} { //nolint:staticcheck // KubeProxyVersion is a field that a node can fill
		*s = cut(*s, maxReportedName)
	}
	i.Swap = nil
	return i
}

// ownTrouble is why the node cannot work: what it says, or that it says an address
// that is not its own.
func ownTrouble(in *NodeReport) *wire.NodeProblem {
	reported := cut(in.Report.NodeIPs.First(), maxReportedReason)
	switch r := &in.Report; {
	case in.NoAddress != "":
		return &wire.NodeProblem{Reason: schema.ReasonBadAddress, Message: cut(in.NoAddress, maxReportedName)}
	case len(r.NodeIPs) != 1 || r.NodeIPs[0] != in.Address:
		return &wire.NodeProblem{Reason: schema.ReasonBadAddress, Message: fmt.Sprintf("the node reports address %s and is registered with %s, which stays in force; give it that one as nodeIP, or change it: make a token with `fairlead token --node %s`, remove pki in the agent's directory, restart the agent", reported, in.Address, r.Node)}
	case r.Problem != nil:
		return &wire.NodeProblem{Reason: cut(r.Problem.Reason, maxReportedReason), Message: cut(r.Problem.Message, maxReportedMessage)}
	}
	return nil
}

// reportedConditions are the conditions of a pod that are its node's to say.
var reportedConditions = []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady}

// podStatus is what is taken of the status that a node reports of a pod bound to it.
func podStatus(pod *corev1.Pod, host string, s *corev1.PodStatus) corev1.PodStatus {
	out := corev1.PodStatus{
		Phase: phaseSaid(pod, s), QOSClass: pod.Status.QOSClass,
		Reason: cut(s.Reason, maxReportedReason), Message: cut(s.Message, maxReportedMessage),
		HostIP: host, PodIP: s.PodIP, StartTime: reportedTimePointer(s.StartTime),
		InitContainerStatuses: containerStatuses(pod.Spec.InitContainers, s.InitContainerStatuses),
		ContainerStatuses:     containerStatuses(pod.Spec.Containers, s.ContainerStatuses),
	}
	if host != "" {
		out.HostIPs = []corev1.HostIP{{IP: host}}
	}
	if s.PodIP != "" {
		out.PodIPs = []corev1.PodIP{{IP: s.PodIP}}
	}
	for _, cond := range s.Conditions {
		taken := slices.ContainsFunc(out.Conditions, func(o corev1.PodCondition) bool { return o.Type == cond.Type })
		if taken || !slices.Contains(reportedConditions, cond.Type) || !isStatus(cond.Status) {
			continue
		}
		out.Conditions = append(out.Conditions, corev1.PodCondition{
			Type: cond.Type, Status: cond.Status, Reason: cut(cond.Reason, maxReportedReason), Message: cut(cond.Message, maxReportedMessage),
			LastTransitionTime: reportedTime(cond.LastTransitionTime),
		})
	}
	return out
}

// phaseSaid is the phase that the node says, or the one before where there is none such.
func phaseSaid(pod *corev1.Pod, s *corev1.PodStatus) corev1.PodPhase {
	switch s.Phase {
	case corev1.PodPending, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown:
		return s.Phase
	}
	return pod.Status.Phase
}

func isStatus(s corev1.ConditionStatus) bool {
	return s == corev1.ConditionTrue || s == corev1.ConditionFalse || s == corev1.ConditionUnknown
}

// containerStatuses are those of the pod's containers, one each.
func containerStatuses(containers []corev1.Container, all []corev1.ContainerStatus) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range all {
		s := &all[i]
		known := slices.ContainsFunc(containers, func(c corev1.Container) bool { return c.Name == s.Name })
		taken := slices.ContainsFunc(out, func(o corev1.ContainerStatus) bool { return o.Name == s.Name })
		if !known || taken {
			continue
		}
		out = append(out, corev1.ContainerStatus{
			Name: s.Name, Image: cut(s.Image, maxReportedName), ImageID: cut(s.ImageID, maxReportedName), ContainerID: cut(s.ContainerID, maxReportedName),
			Ready: s.Ready, Started: s.Started, RestartCount: min(max(s.RestartCount, 0), maxReportedRestarts),
			State: containerState(s.State), LastTerminationState: containerState(s.LastTerminationState),
		})
	}
	return out
}

// containerState is a copy of at most one of the three.
func containerState(s corev1.ContainerState) corev1.ContainerState {
	switch {
	case s.Terminated != nil:
		t := s.Terminated
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: t.ExitCode, Signal: t.Signal, Reason: cut(t.Reason, maxReportedReason), Message: cut(t.Message, maxReportedMessage),
			StartedAt: reportedTime(t.StartedAt), FinishedAt: reportedTime(t.FinishedAt), ContainerID: cut(t.ContainerID, maxReportedName),
		}}
	case s.Running != nil:
		return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: reportedTime(s.Running.StartedAt)}}
	case s.Waiting != nil:
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: cut(s.Waiting.Reason, maxReportedReason), Message: cut(s.Waiting.Message, maxReportedMessage)}}
	}
	return corev1.ContainerState{}
}

// reportedTime is a time that can be written and read back in RFC 3339, else none.
func reportedTime(t metav1.Time) metav1.Time {
	if year := t.UTC().Year(); year < 1970 || year > 9999 {
		return metav1.Time{}
	}
	return t
}

func reportedTimePointer(t *metav1.Time) *metav1.Time {
	if t == nil {
		return nil
	}
	taken := reportedTime(*t)
	return &taken
}

// takeEvents writes down the events of pods that are bound to the node.
func (m *Machine) takeEvents(c *control.Context, node schema.NodeName, events []wire.Event) {
	for _, e := range events[:min(len(events), maxReportedEvents)] {
		pod, ok := state.PodByUID(c.Tx, e.Pod)
		if !ok || pod.Spec.NodeName != string(node) || e.Container != "" && !hasContainer(pod, e.Container) {
			continue
		}
		kind := corev1.EventTypeNormal
		if e.Type == corev1.EventTypeWarning {
			kind = corev1.EventTypeWarning
		}
		control.ContainerEvent(c, pod, e.Container, kind, cut(e.Reason, maxReportedReason), e.Message)
		if e.Reason == schema.ReasonUnhealthy {
			m.saw(pod.UID).answered = true
		}
	}
}

func hasContainer(pod *corev1.Pod, name string) bool {
	is := func(c corev1.Container) bool { return c.Name == name }
	return slices.ContainsFunc(pod.Spec.Containers, is) || slices.ContainsFunc(pod.Spec.InitContainers, is)
}

// cut is s in at most n bytes, at a rune's boundary.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
