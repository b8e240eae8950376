package why

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

var podRow = row{
	kind: schema.KindPod, fromGit: true, needed: true,
	tell: tell(func(c *chain, pod *corev1.Pod) cause {
		c.owners(pod)
		return c.pod(pod)
	}),
}

// pod tells of one pod, its node and the container that is to blame.
func (c *chain) pod(pod *corev1.Pod) cause {
	found, container := c.podCause(pod)
	c.add(pod, podLink(pod, found))
	if pod.Spec.NodeName != "" {
		c.nodeLink(pod.Spec.NodeName)
	}
	if container != "" {
		c.containerLinks(pod, container, found)
	}
	return found
}

func podLink(pod *corev1.Pod, found cause) Link {
	where := "on no node yet"
	if pod.Spec.NodeName != "" {
		where = "on " + pod.Spec.NodeName
	}
	l := Link{State: string(pod.Status.Phase) + " " + where, OK: found.code == health.Healthy || found.code == health.Completed}
	if cond, ok := health.Condition(pod, corev1.PodReady); ok && pod.Status.Phase == corev1.PodRunning {
		if cond.Status == corev1.ConditionTrue {
			l.State += ", ready"
		} else {
			l.State += ", not ready"
		}
		l.At = &cond.LastTransitionTime
	}
	return l
}

// podCause says what keeps a pod from being ready, and which container; "" when it
// is none of them.
func (c *chain) podCause(pod *corev1.Pod) (found cause, container string) {
	t := health.Tell(c.r, health.OfPod(c.r, pod))
	if again, ok := c.upAgain(pod); ok && t.Code == health.Healthy {
		t = again
	}
	found = cause{code: t.Code, text: t.Text}
	if t.Container != "" && showsInLog(t.Code) {
		found.log = &Log{Namespace: pod.Namespace, Pod: pod.Name, Container: t.Container, Previous: t.Previous}
	}
	return found, t.Container
}

// upAgain tells of a pod that is ready between two ends of a container: its revision is
// degraded by it until it has been ready for long enough, and so is the pod.
func (c *chain) upAgain(pod *corev1.Pod) (health.Trouble, bool) {
	src, ok := state.Source(c.r, schema.SourceOf(pod))
	if !ok {
		return health.Trouble{}, false
	}
	rev, ok := health.Applied(c.r, src)
	if !ok || rev.Status.Health == nil || rev.Status.Health.Word != schema.Degraded {
		return health.Trouble{}, false
	}
	for _, s := range pod.Status.ContainerStatuses {
		last := s.LastTerminationState.Terminated
		kept := slices.IndexFunc(rev.Status.Evidence, func(e schema.Evidence) bool { return podKey(e) == schema.KeyOf(pod) && e.Container == s.Name })
		if last == nil || s.RestartCount == 0 || kept < 0 {
			continue
		}
		return health.Trouble{
			Code: health.Code(rev.Status.Evidence[kept].Code), Container: s.Name, Previous: true,
			Text: fmt.Sprintf("container %s of pod %s was started again after %s, %s, and is ready; it is well once it has been ready for %s",
				s.Name, pod.Name, health.Exit(last), health.Times(s.RestartCount, "restart"), health.HealthyFor(src)),
		}, true
	}
	return health.Trouble{}, false
}

// showsInLog reports whether a container with that code has run and may have said
// why.
func showsInLog(code health.Code) bool {
	return slices.Contains([]health.Code{
		health.CrashLoop, health.OOMKilled, health.HookFailing, health.ProbeFailing, health.EndUnseen, health.ConmonDied, health.NodeRebooted,
	}, code)
}

// containerLinks tell of a container's image, its run and its probes.
func (c *chain) containerLinks(pod *corev1.Pod, name string, found cause) {
	ctr := schema.ContainerOf(&pod.Spec, name)
	if ctr == nil {
		return
	}
	status := corev1.ContainerStatus{}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if s.Name == name {
			status = s
		}
	}
	image := Link{Step: "image", Name: ctr.Image, State: "there", OK: true}
	if slices.Contains([]health.Code{health.ImagePull, health.ImageNotOnNode, health.RegistryDenied, health.RegistryUnavailable}, found.code) {
		image.OK, image.State = false, status.State.Waiting.Reason
	}
	c.Links = append(c.Links, image)
	if !image.OK {
		return
	}
	run := containerLink(ctr, status)
	if schema.IsInitContainer(&pod.Spec, name) {
		run.Step = "init container"
	}
	c.Links = append(c.Links, run)
	if found.code == health.ProbeFailing {
		c.Links = append(c.Links, probeLinks(ctr, found)...)
	}
}

func containerLink(ctr *corev1.Container, s corev1.ContainerStatus) Link {
	l := Link{Step: "container", Name: ctr.Name}
	switch {
	case s.State.Running != nil:
		l.State, l.OK, l.At = "runs", true, &s.State.Running.StartedAt
	case s.State.Waiting != nil:
		l.State = s.State.Waiting.Reason
	case s.State.Terminated != nil:
		l.State, l.At = health.Exit(s.State.Terminated), &s.State.Terminated.FinishedAt
	}
	if last := s.LastTerminationState.Terminated; last != nil {
		l.State += ", last ended with " + health.Exit(last)
		if l.At == nil {
			l.At = &last.FinishedAt
		}
	}
	if s.RestartCount > 0 {
		l.State += ", " + health.Times(s.RestartCount, "restart")
	}
	return l
}

// probeLinks are the probes of which the cause speaks, all where it names none.
func probeLinks(ctr *corev1.Container, found cause) (out []Link) {
	probes := []struct {
		kind  string
		probe *corev1.Probe
	}{{"startup", ctr.StartupProbe}, {"liveness", ctr.LivenessProbe}, {"readiness", ctr.ReadinessProbe}}
	said := strings.ToLower(found.text)
	named := slices.ContainsFunc([]string{"startup probe", "liveness probe", "readiness probe"}, func(s string) bool { return strings.Contains(said, s) })
	for _, p := range probes {
		if p.probe != nil && (!named || strings.Contains(said, p.kind+" probe")) {
			out = append(out, Link{Step: "probe", Name: p.kind, State: probeText(p.probe)})
		}
	}
	return out
}

func probeText(p *corev1.Probe) string {
	every := fmt.Sprintf(" every %ds", max(1, p.PeriodSeconds))
	switch {
	case p.HTTPGet != nil:
		return fmt.Sprintf("GET %s on port %s", p.HTTPGet.Path, p.HTTPGet.Port.String()) + every
	case p.TCPSocket != nil:
		return "connect to port " + p.TCPSocket.Port.String() + every
	case p.Exec != nil:
		return "run " + strings.Join(p.Exec.Command, " ") + every
	case p.GRPC != nil:
		return fmt.Sprintf("gRPC health on port %d", p.GRPC.Port) + every
	}
	return "check" + every
}

func (c *chain) nodeLink(name string) {
	node, ok := state.Get[*corev1.Node](c.r, "", name)
	if !ok {
		c.Links = append(c.Links, Link{Step: "node", Name: name, State: "gone"})
		return
	}
	l := Link{State: "Ready", OK: true}
	if found, bad := health.OfNode(c.r, name); bad {
		l.State, l.OK = found.Text, false
	}
	if cond, ok := health.NodeCondition(node, corev1.NodeReady); ok && !cond.LastTransitionTime.IsZero() {
		l.At = &cond.LastTransitionTime
	}
	c.add(node, l)
}

// node tells of a node and of how many pods depend on it.
func (c *chain) node(name string) cause {
	c.nodeLink(name)
	pods, ready, stale := c.podsOn(name)
	c.Links = append(c.Links, Link{Step: "pod", Name: fmt.Sprintf("%d on it", pods), State: fmt.Sprintf("%d ready", ready), OK: ready == pods})
	if found, bad := health.OfNode(c.r, name); bad {
		return cause{code: found.Code, text: "node " + name + " " + found.Text}
	}
	if stale != "" {
		return cause{code: health.NodeSilent, text: stale + health.NobodyKnows}
	}
	if node, ok := state.Get[*corev1.Node](c.r, "", name); ok {
		if cond, ok := health.NodeCondition(node, schema.ConditionStartsFailing); ok && cond.Status == corev1.ConditionTrue {
			return cause{code: health.NodeFailing, text: "node " + name + " is ready, and pods cannot be started there: " + cond.Message}
		}
		if node.Spec.Unschedulable {
			return cause{code: health.Unschedulable, text: "node " + name + " takes no new pods"}
		}
	}
	return cause{code: health.Healthy, text: fmt.Sprintf("node %s is ready, %d of its %d pods are", name, ready, pods)}
}

// podsOn counts a node's pods; stale is why nothing newer is known of them, "" where it is.
func (c *chain) podsOn(node string) (pods, ready int, stale string) {
	for pod := range state.By[*corev1.Pod](c.r, state.PodsByNode, node) {
		if cond, ok := health.Condition(pod, schema.ConditionStale); ok && cond.Status == corev1.ConditionTrue {
			stale = cond.Message
		}
		pods++
		if health.Ready(pod) {
			ready++
		}
	}
	return pods, ready, stale
}

// podsOf are the pods of a controlling owner, in name order.
func (c *chain) podsOf(owner schema.Object) []*corev1.Pod {
	return slices.Collect(state.By[*corev1.Pod](c.r, state.PodsByOwner, string(owner.GetUID())))
}

// podKey is the key of the pod that evidence is of.
func podKey(e schema.Evidence) schema.Key {
	return schema.Key{Kind: schema.KindPod, Namespace: e.Namespace(), Name: e.PodName()}
}
