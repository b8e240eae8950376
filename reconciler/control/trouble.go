package control

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// troubleKind says whose fault it is that a pod is not available.
type troubleKind int

const (
	slow    troubleKind = iota // nothing is known to be wrong yet
	lacking                    // room, an image, or its node: not the revision's fault
	broken                     // it crashes or cannot be configured
)

// trouble is why one pod is not available.
type trouble struct {
	kind    troubleKind
	text    string // names the pod, the container and what it said
	since   time.Time
	running bool // its containers run; only its probes are missing
}

// Reasons for which a container waits.
var (
	lackingReasons = []string{schema.ReasonErrImagePull, schema.ReasonImagePullBackOff, schema.ReasonRegistryUnavailable}
	brokenReasons  = []string{schema.ReasonCrashLoop, schema.ReasonContainerConfig, schema.ReasonContainerCreate, schema.ReasonContainerRun, schema.ReasonErrImageNeverPull}
)

// scheduledAt is when the pod was bound to its node, its creation before that.
func scheduledAt(pod *corev1.Pod) time.Time {
	if cond, ok := podCondition(pod, corev1.PodScheduled); ok && cond.Status == corev1.ConditionTrue {
		return cond.LastTransitionTime.Time
	}
	return pod.CreationTimestamp.Time
}

func troubleOf(r state.Reader, pod *corev1.Pod) trouble {
	t := trouble{text: "pod " + pod.Name, since: scheduledAt(pod)}
	if pod.Spec.NodeName == "" {
		cond, told := podCondition(pod, corev1.PodScheduled)
		if !told {
			t.text += " is not bound to a node yet"
			return t
		}
		t.text += ": " + cond.Message
		if cond.Reason == corev1.PodReasonUnschedulable {
			t.kind = lacking
		}
		return t
	}
	if !nodeReady(r, pod.Spec.NodeName) {
		t.kind = lacking
		t.text += ": node " + pod.Spec.NodeName + " is not ready"
		return t
	}
	return containerTrouble(t, pod)
}

// containerTrouble is the worst container's: a broken one's, then one's that lacks
// its image, then one's that runs without being ready.
func containerTrouble(t trouble, pod *corev1.Pod) trouble {
	worst := t
	worst.text += " has not started on " + pod.Spec.NodeName
	if ready(pod) {
		worst.text = t.text + " has not been ready for long enough"
	}
	consider := func(s corev1.ContainerStatus, initial bool) {
		kind, text, running := judgeContainer(s, initial)
		if text != "" && (kind > worst.kind || kind == slow && worst.kind == slow && running && !worst.running) {
			worst = trouble{kind: kind, text: fmt.Sprintf("%s: container %s: %s", t.text, s.Name, text), since: t.since, running: running}
		}
	}
	for _, s := range pod.Status.InitContainerStatuses {
		consider(s, true)
	}
	for _, s := range pod.Status.ContainerStatuses {
		consider(s, false)
	}
	if pod.Status.Phase == corev1.PodFailed && worst.kind != broken {
		worst = trouble{kind: broken, text: t.text + " failed" + colon(pod.Status.Reason, pod.Status.Message), since: t.since}
	}
	return worst
}

// judgeContainer tells nothing of a container that is ready or has done its work.
func judgeContainer(s corev1.ContainerStatus, initial bool) (kind troubleKind, text string, running bool) {
	switch {
	case s.State.Waiting != nil:
		return judgeWaiting(s)
	case s.State.Terminated != nil:
		if s.State.Terminated.ExitCode == 0 {
			return slow, "", false
		}
		return broken, exitText(s.State.Terminated), false
	case s.State.Running == nil || s.Ready:
		return slow, "", false
	case s.RestartCount > 0:
		return broken, fmt.Sprintf("restarted %d times", s.RestartCount) + lastEnd(s), true
	case initial:
		return slow, "still runs before the others start", true
	}
	return slow, "runs but is not ready: its probe does not pass", true
}

func judgeWaiting(s corev1.ContainerStatus) (kind troubleKind, text string, running bool) {
	w := s.State.Waiting
	text = w.Reason + colon(w.Message) + lastEnd(s)
	switch {
	case slices.Contains(brokenReasons, w.Reason):
		return broken, text, false
	case slices.Contains(lackingReasons, w.Reason):
		return lacking, text, false
	}
	return slow, text, false
}

func lastEnd(s corev1.ContainerStatus) string {
	if s.LastTerminationState.Terminated == nil {
		return ""
	}
	return " (last: " + exitText(s.LastTerminationState.Terminated) + ")"
}

func exitText(t *corev1.ContainerStateTerminated) string {
	return fmt.Sprintf("exit code %d", t.ExitCode) + colon(t.Reason, t.Message)
}

// colon joins what is known behind what it explains.
func colon(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		if p = strings.TrimSpace(p); p != "" && p != "Error" {
			b.WriteString(": " + p)
		}
	}
	return b.String()
}
