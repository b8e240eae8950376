package pod

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

// Status tells a pod's status as Kubernetes would. o.Status is the one told
// before: a condition that did not change keeps its transition time.
func Status(w *Wanted, o *Observed, hostIP string, now time.Time) corev1.PodStatus {
	pod := w.Pod
	s := corev1.PodStatus{
		HostIP: hostIP, HostIPs: []corev1.HostIP{{IP: hostIP}},
		StartTime: &metav1.Time{Time: o.StartedAt},
		QOSClass:  pod.Status.QOSClass,
	}
	s.PodIP = o.IPs.First()
	for _, ip := range o.IPs {
		s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip})
	}
	init := initialized(pod, o)
	for i := range pod.Spec.InitContainers {
		s.InitContainerStatuses = append(s.InitContainerStatuses, containerStatus(w, o, &pod.Spec.InitContainers[i], "PodInitializing"))
	}
	waiting := "ContainerCreating"
	if !init {
		waiting = "PodInitializing"
	}
	for i := range pod.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, containerStatus(w, o, &pod.Spec.Containers[i], waiting))
	}
	boundMessages(&s)
	s.Phase = phase(w, o, &s, init)
	if !o.OverdueAt.IsZero() {
		s.Reason, s.Message = schema.ReasonDeadlineExceeded, Overdue
	}
	s.Conditions = conditions(pod, o, s, init, now)
	return s
}

// stays reports whether a container is not one that comes before the others and runs to
// its end.
func stays(pod *corev1.Pod, c *corev1.Container) bool {
	return schema.IsSidecar(c) || !schema.IsInitContainer(&pod.Spec, c.Name)
}

func containerStatus(w *Wanted, o *Observed, c *corev1.Container, idle string) corev1.ContainerStatus {
	oc := o.Containers[c.Name]
	initDone := !stays(w.Pod, c) && oc.ExitCode == 0
	started := oc.State == StateRunning && oc.Started
	s := corev1.ContainerStatus{
		Name: c.Name, Image: c.Image, ImageID: oc.ImageID, ContainerID: containerID(oc.ID),
		RestartCount: int32(oc.Attempt), Started: &started,
		Ready: oc.State == StateRunning && oc.Ready && oc.Unmonitored.IsZero() && stays(w.Pod, c),
	}
	if oc.Last != nil {
		s.LastTerminationState.Terminated = oc.Last
	}
	wait := func(reason, message string) {
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: reason, Message: message}
	}
	switch {
	case awaitsHook(c, oc):
		wait(idle, schema.PostStartRuns)
	case oc.State == StateRunning:
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(oc.StartedAt)}
	case oc.State == StateUnknown:
		wait(schema.ReasonStatusUnknown, "Podman does not know this container, which is running: it is left alone")
	case oc.State == StateExited:
		_, done := Outcome(w.Pod, o)
		going := w.Pod.DeletionTimestamp != nil || done || ended(w.Pod, c, oc) || initDone
		switch {
		case going || oc.Crashes <= 1 && oc.Failure.Count == 0:
			s.State.Terminated = oc.terminated()
			s.Ready = initDone
		default:
			s.LastTerminationState.Terminated = oc.terminated()
			if oc.Failure.Count > 0 {
				wait(failureReason(oc.Failure, c.Image))
			} else {
				wait(schema.ReasonCrashLoop, fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
					doubling(backoffFirst, oc.Crashes-1), c.Name, o.Name, o.Namespace, o.UID))
			}
		}
	case oc.Failure.Count > 0:
		wait(failureReason(oc.Failure, c.Image))
	default:
		wait(idle, setupMessage(o))
	}
	return s
}

// failureReason is what a waiting container says: an image that failed more
// than once is in back-off. That nobody answers stays the reason: it is for
// somebody else to repair.
func failureReason(f Failure, image string) (reason, message string) {
	backOff := fmt.Sprintf("back-off pulling image %q: %s", image, f.Message)
	switch {
	case f.Count > 1 && f.Reason == schema.ReasonErrImagePull:
		return schema.ReasonImagePullBackOff, backOff
	case f.Count > 1 && (f.Reason == schema.ReasonRegistryUnavailable || f.Reason == schema.ReasonRegistryDenied):
		return f.Reason, backOff
	}
	return f.Reason, f.Message
}

func setupMessage(o *Observed) string {
	if o.Setup.Count == 0 {
		return ""
	}
	return o.Setup.Message
}

// sidecars are the statuses of those that a pod has.
func sidecars(pod *corev1.Pod, s *corev1.PodStatus) (out []corev1.ContainerStatus) {
	for i := range pod.Spec.InitContainers {
		if schema.IsSidecar(&pod.Spec.InitContainers[i]) {
			out = append(out, s.InitContainerStatuses[i])
		}
	}
	return out
}

// lives reports whether something keeps a pod from its end whose containers are through
// or whose time is over: a sidecar, and of an overdue pod anything. What its status prints
// does not tell: a container that lives may wait there, for its hook or for Podman.
func (o *Observed) lives(pod *corev1.Pod) bool {
	for name, c := range o.Containers {
		spec := schema.ContainerOf(&pod.Spec, name)
		if c.alive() && (!o.OverdueAt.IsZero() || spec != nil && schema.IsSidecar(spec)) {
			return true
		}
	}
	return false
}

// phase is Running, once the init containers are through, as long as a sidecar lives; how
// sidecars end does not count.
func phase(w *Wanted, o *Observed, s *corev1.PodStatus, init bool) corev1.PodPhase {
	helped := o.lives(w.Pod)
	if p, done := Outcome(w.Pod, o); done && !helped {
		return p
	}
	if !init {
		return corev1.PodPending
	}
	running, stopped, failed, pending := 0, 0, 0, 0
	if helped {
		running++
	}
	for _, c := range s.ContainerStatuses {
		switch {
		case c.State.Running != nil:
			running++
		case c.State.Terminated != nil:
			stopped++
			if c.State.Terminated.ExitCode != 0 {
				failed++
			}
		case c.LastTerminationState.Terminated != nil:
			running++ // between two runs
		default:
			pending++
		}
	}
	switch {
	case pending > 0:
		return corev1.PodPending
	case w.Pod.DeletionTimestamp == nil, running > 0, o.UnderWay && !hasEnded(o.Status.Phase):
		return corev1.PodRunning
	case failed > 0:
		return corev1.PodFailed
	default:
		return corev1.PodSucceeded
	}
}

func hasEnded(p corev1.PodPhase) bool { return p == corev1.PodSucceeded || p == corev1.PodFailed }

func conditions(pod *corev1.Pod, o *Observed, s corev1.PodStatus, init bool, now time.Time) []corev1.PodCondition {
	done := hasEnded(s.Phase)
	unready := []string{}
	for _, c := range append(sidecars(pod, &s), s.ContainerStatuses...) {
		if !c.Ready {
			unready = append(unready, c.Name)
		}
	}
	ready := len(unready) == 0 && init && !done && o.OverdueAt.IsZero()
	reason, message := "", ""
	switch {
	case ready:
	case s.Phase == corev1.PodSucceeded:
		reason = "PodCompleted"
	case s.Phase == corev1.PodFailed:
		reason = "PodFailed"
	default:
		reason, message = "ContainersNotReady", fmt.Sprintf("containers with unready status: %v", unready)
		if name, ok := unmonitored(o); ok {
			reason, message = schema.ReasonConmonDied, "the conmon of container "+name+" died: its output and its end can no longer be seen, it is replaced"
		}
	}
	initialized := condition(corev1.PodInitialized, init, "", "")
	if !init {
		initialized.Reason, initialized.Message = "ContainersNotInitialized", "init containers have not finished"
	} else if s.Phase == corev1.PodSucceeded {
		initialized.Reason = "PodCompleted"
	}
	all := []corev1.PodCondition{
		initialized,
		condition(corev1.PodReady, ready, reason, message),
		condition(corev1.ContainersReady, ready, reason, message),
		condition(corev1.PodScheduled, true, "", ""),
	}
	if o.Setup.Count > 0 && o.Setup.Reason != schema.ReasonKill {
		all = append(all, condition(corev1.PodReadyToStartContainers, false, o.Setup.Reason, o.Setup.Message))
	}
	before := o.Status.Conditions
	for i := range all {
		all[i].LastTransitionTime = metav1.NewTime(now)
		if j := slices.IndexFunc(before, func(b corev1.PodCondition) bool { return b.Type == all[i].Type && b.Status == all[i].Status }); j >= 0 {
			all[i].LastTransitionTime = before[j].LastTransitionTime
		}
	}
	return all
}

// unmonitored is the first container that runs without its conmon.
func unmonitored(o *Observed) (name string, ok bool) {
	for _, name := range slices.Sorted(maps.Keys(o.Containers)) {
		if c := o.Containers[name]; c.State == StateRunning && !c.Unmonitored.IsZero() {
			return name, true
		}
	}
	return "", false
}

func condition(t corev1.PodConditionType, ok bool, reason, message string) corev1.PodCondition {
	status := corev1.ConditionFalse
	if ok {
		status = corev1.ConditionTrue
	}
	return corev1.PodCondition{Type: t, Status: status, Reason: reason, Message: message}
}
