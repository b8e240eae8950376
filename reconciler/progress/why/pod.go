package why

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

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
	l := Link{State: string(pod.Status.Phase) + " " + where, OK: found.code == Healthy || found.code == Completed}
	if cond, ok := condition(pod, corev1.PodReady); ok && pod.Status.Phase == corev1.PodRunning {
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
	switch {
	case pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil:
		return unbound(pod), ""
	case pod.Spec.NodeName != "":
		if bad, ok := c.nodeCause(pod.Spec.NodeName); ok {
			bad.text = fmt.Sprintf("pod %s is on node %s, which %s", pod.Name, pod.Spec.NodeName, bad.text)
			if e := c.lastEvent(pod, schema.ReasonTerminating, ""); e != nil && pod.DeletionTimestamp != nil {
				bad.text += "; it is to go: " + e.Message
			}
			return bad, ""
		}
	}
	if cond, ok := condition(pod, schema.ConditionStale); ok && cond.Status == corev1.ConditionTrue {
		return cause{code: NodeSilent, text: "what is known of pod " + pod.Name + " is old: " + cond.Message}, ""
	}
	if pod.DeletionTimestamp != nil {
		return c.leaving(pod), ""
	}
	found = cause{code: RollingOut, text: "pod " + pod.Name + " starts on " + pod.Spec.NodeName}
	switch {
	case pod.Status.Phase == corev1.PodSucceeded:
		return cause{code: Completed, text: "pod " + pod.Name + " has done its work"}, ""
	case isReady(pod):
		found = cause{code: Healthy, text: "pod " + pod.Name + " is ready on " + pod.Spec.NodeName + restarts(pod)}
	default:
		if judged, ok := c.unready(pod); ok {
			found = judged
		}
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if judged, ok := c.containerCause(pod, s); ok && !found.worse(judged) {
			found, container = judged, s.Name
		}
	}
	return found, container
}

// setupCodes are the reasons for which no container of a pod had its turn.
var setupCodes = map[string]Code{
	schema.ReasonSandbox:         NetworkFailing,
	schema.ReasonMount:           SetupFailing,
	schema.ReasonContainerConfig: ConfigMissing,
}

// unready is what is wrong with a pod as a whole that is not ready; false when it
// is at most one of its containers.
func (c *chain) unready(pod *corev1.Pod) (cause, bool) {
	if cond, ok := condition(pod, corev1.PodReadyToStartContainers); ok && cond.Status == corev1.ConditionFalse {
		if code, ok := setupCodes[cond.Reason]; ok {
			return cause{code: code, text: "pod " + pod.Name + " cannot be set up: " + cond.Message}, true
		}
	}
	if cond, ok := condition(pod, corev1.PodReady); ok && cond.Reason == schema.ReasonConmonDied {
		return cause{code: ConmonDied, text: "pod " + pod.Name + " is not trusted: " + cond.Message}, true
	}
	if e := c.lastEvent(pod, schema.ReasonBadAddress, ""); e != nil && pod.Status.PodIP == "" {
		return cause{code: BadAddress, text: "what is said of pod " + pod.Name + " is not believed: " + e.Message}, true
	}
	return cause{}, false
}

// leaving tells how the end of a pod goes whose node reports.
func (c *chain) leaving(pod *corev1.Pod) cause {
	if e := c.sinceDeleted(pod, schema.ReasonKill); e != nil {
		return cause{code: StopFailing, text: "pod " + pod.Name + " cannot be ended: " + e.Message}
	}
	if e := c.sinceDeleted(pod, schema.ReasonExceededGracePeriod); e != nil {
		return cause{code: StopIgnored, text: "pod " + pod.Name + " did not end when asked to: " + e.Message}
	}
	because := ""
	if e := c.lastEvent(pod, schema.ReasonTerminating, ""); e != nil {
		because = ": " + e.Message
	}
	if pod.Annotations[schema.AnnotationDrained] != "true" {
		return cause{code: Draining, text: "pod " + pod.Name + " goes on serving until every node has taken it out of its tables" + because}
	}
	text := "pod " + pod.Name + " terminates"
	if grace := pod.DeletionGracePeriodSeconds; grace != nil {
		text += fmt.Sprintf(", within %ds of the stop signal", *grace)
	}
	return cause{code: Terminating, text: text + because}
}

// sinceDeleted is the last event with that reason since the pod was told to go:
// what went wrong when a probe stopped it is over. Both times are the master's.
func (c *chain) sinceDeleted(pod *corev1.Pod, reason string) *corev1.Event {
	e := c.lastEvent(pod, reason, "")
	grace := time.Duration(0)
	if pod.DeletionGracePeriodSeconds != nil {
		grace = time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second
	}
	if e == nil || e.LastTimestamp.Time.Before(pod.DeletionTimestamp.Add(-grace)) {
		return nil
	}
	return e
}

func restarts(pod *corev1.Pod) string {
	for _, s := range pod.Status.ContainerStatuses {
		if last := s.LastTerminationState.Terminated; s.RestartCount > 0 && last != nil {
			return fmt.Sprintf(", after %s of container %s (last: %s)", times(s.RestartCount, "restart"), s.Name, exit(last))
		}
	}
	return ""
}

// lackingCodes are the reasons for which no node takes a pod.
var lackingCodes = map[string]Code{
	schema.ReasonNoCapacity:    NoCapacity,
	schema.ReasonNoReadyNode:   NoReadyNode,
	schema.ReasonNoFittingNode: NoFittingNode,
}

func unbound(pod *corev1.Pod) cause {
	cond, _ := condition(pod, corev1.PodScheduled)
	lacking, ok := condition(pod, schema.ConditionLacking)
	code, known := lackingCodes[lacking.Reason]
	if !ok || !known {
		text := "pod " + pod.Name + " waits for its node"
		if cond.Message != "" {
			text += ": " + cond.Message
		}
		return cause{code: RollingOut, text: text}
	}
	return cause{code: code, text: "no node takes pod " + pod.Name + ": " + cond.Message}
}

// waitingCodes are the reasons for which a container waits.
var waitingCodes = map[string]Code{
	schema.ReasonCrashLoop:           CrashLoop,
	schema.ReasonErrImagePull:        ImagePull,
	schema.ReasonImagePullBackOff:    ImagePull,
	schema.ReasonErrImageNeverPull:   ImageNotOnNode,
	schema.ReasonRegistryUnavailable: RegistryUnavailable,
	schema.ReasonContainerConfig:     ConfigMissing,
	schema.ReasonContainerCreate:     StartFailing,
	schema.ReasonContainerRun:        StartFailing,
	schema.ReasonStatusUnknown:       Unknown,
}

// endCodes are the reasons with which a container ended that are no crash of its
// own.
var endCodes = map[string]Code{
	schema.ReasonOOMKilled:     OOMKilled,
	schema.ReasonUnhealthy:     ProbeFailing,
	schema.ReasonConmonDied:    ConmonDied,
	schema.ReasonNodeRebooted:  NodeRebooted,
	schema.ReasonStatusUnknown: EndUnseen,
}

// containerCause is what is wrong with a container; false when nothing is.
func (c *chain) containerCause(pod *corev1.Pod, s corev1.ContainerStatus) (cause, bool) {
	name := fmt.Sprintf("container %s of pod %s", s.Name, pod.Name)
	switch {
	case s.State.Waiting != nil:
		return c.waitingCause(pod, s, name)
	case s.State.Terminated != nil:
		if s.State.Terminated.ExitCode == 0 && s.State.Terminated.Reason != schema.ReasonUnhealthy {
			return cause{}, false
		}
		return cause{code: exitCode(s.State.Terminated), text: name + " ended with " + exit(s.State.Terminated), log: logOf(pod, s, false)}, true
	case s.State.Running == nil || s.Ready:
		return cause{}, false
	}
	if probe := c.probeSaid(pod, s.Name); probe != "" {
		return cause{code: ProbeFailing, text: name + " runs, but: " + probe, log: logOf(pod, s, false)}, true
	}
	if last := s.LastTerminationState.Terminated; s.RestartCount > 0 && last != nil {
		return cause{code: exitCode(last), text: fmt.Sprintf("%s was restarted %s, last after %s", name, times(s.RestartCount, "time"), exit(last)), log: logOf(pod, s, true)}, true
	}
	return cause{code: RollingOut, text: name + " runs and is not ready yet"}, true
}

func (c *chain) waitingCause(pod *corev1.Pod, s corev1.ContainerStatus, name string) (cause, bool) {
	w, last := s.State.Waiting, s.LastTerminationState.Terminated
	code, known := waitingCodes[w.Reason]
	if !known {
		return cause{}, false
	}
	found := cause{code: code, text: name + " waits: " + strings.TrimSuffix(w.Reason+": "+w.Message, ": ")}
	if code == CrashLoop && last != nil {
		found.code, found.log = exitCode(last), logOf(pod, s, false)
		found.text = fmt.Sprintf("%s ends with %s, %s", name, exit(last), times(s.RestartCount, "restart"))
		if found.code == ProbeFailing {
			found.text = fmt.Sprintf("%s is stopped, %s so far: %s", name, times(s.RestartCount, "restart"), last.Message)
		}
	}
	return found, true
}

func exitCode(t *corev1.ContainerStateTerminated) Code {
	if code, ok := endCodes[t.Reason]; ok {
		return code
	}
	return CrashLoop
}

// exit is how a container ended: "exit code 1", with what else is known.
func exit(t *corev1.ContainerStateTerminated) string {
	s := fmt.Sprintf("exit code %d", t.ExitCode)
	if t.Reason != "" && t.Reason != "Error" && t.Reason != "Completed" {
		s += ", " + t.Reason
	}
	if t.Message != "" {
		s += ": " + t.Message
	}
	return s
}

// probeSaid is what a probe of the container said last when it failed.
func (c *chain) probeSaid(pod *corev1.Pod, container string) string {
	if e := c.lastEvent(pod, schema.ReasonUnhealthy, container); e != nil {
		return e.Message
	}
	return ""
}

// lastEvent is the newest event of a pod with that reason. An event that names
// another of the pod's containers does not count.
func (c *chain) lastEvent(pod *corev1.Pod, reason, container string) *corev1.Event {
	var last *corev1.Event
	for e := range state.All[*corev1.Event](c.r, pod.Namespace) {
		if field := e.InvolvedObject.FieldPath; e.InvolvedObject.UID != pod.UID || e.Reason != reason || container != "" && field != "" && field != schema.ContainerField(pod, container) {
			continue
		}
		if last == nil || last.LastTimestamp.Before(&e.LastTimestamp) {
			last = e
		}
	}
	return last
}

func logOf(pod *corev1.Pod, s corev1.ContainerStatus, previous bool) *Log {
	return &Log{Namespace: pod.Namespace, Pod: pod.Name, Container: s.Name, Previous: previous}
}

// containerLinks tell of a container's image, its run and its probes.
func (c *chain) containerLinks(pod *corev1.Pod, name string, found cause) {
	i := slices.IndexFunc(pod.Spec.Containers, func(ctr corev1.Container) bool { return ctr.Name == name })
	if i < 0 {
		c.Links = append(c.Links, Link{Step: "container", Name: name, State: "runs before the others"})
		return
	}
	ctr := &pod.Spec.Containers[i]
	status := corev1.ContainerStatus{}
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name == name {
			status = s
		}
	}
	image := Link{Step: "image", Name: ctr.Image, State: "there", OK: true}
	if found.code == ImagePull || found.code == ImageNotOnNode || found.code == RegistryUnavailable {
		image.OK, image.State = false, status.State.Waiting.Reason
	}
	c.Links = append(c.Links, image)
	if !image.OK {
		return
	}
	c.Links = append(c.Links, containerLink(ctr, status))
	if found.code == ProbeFailing {
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
		l.State, l.At = exit(s.State.Terminated), &s.State.Terminated.FinishedAt
	}
	if last := s.LastTerminationState.Terminated; last != nil {
		l.State += ", last ended with " + exit(last)
		if l.At == nil {
			l.At = &last.FinishedAt
		}
	}
	if s.RestartCount > 0 {
		l.State += ", " + times(s.RestartCount, "restart")
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

func condition(pod *corev1.Pod, t corev1.PodConditionType) (corev1.PodCondition, bool) {
	for _, cond := range pod.Status.Conditions {
		if cond.Type == t {
			return cond, true
		}
	}
	return corev1.PodCondition{}, false
}

func isReady(pod *corev1.Pod) bool {
	cond, ok := condition(pod, corev1.PodReady)
	return ok && cond.Status == corev1.ConditionTrue
}

func times(n int32, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// notReadyCodes are the reasons for which a node says that it cannot work.
var notReadyCodes = map[string]Code{
	schema.ReasonRuntimeUnavailable: RuntimeUnavailable,
	schema.ReasonNetworkUnavailable: NetworkFailing,
	schema.ReasonBadAddress:         BadAddress,
}

// nobodyKnows is what may be the matter with a silent node. The master sees the
// silence and nothing else.
const nobodyKnows = "; down, cut off, or without its agent: nobody here can tell"

// nodeCause is what is wrong with a node, said of "node n1, which ..."; false when
// it is ready.
func (c *chain) nodeCause(name string) (cause, bool) {
	node, ok := state.Get[*corev1.Node](c.r, "", name)
	if !ok {
		return cause{code: NodeSilent, text: "the cluster does not have"}, true
	}
	if cond, ok := nodeCondition(node, schema.ConditionDoubted); ok && cond.Status == corev1.ConditionTrue {
		return cause{code: MostNodesSilent, text: "does not report: " + cond.Message}, true
	}
	cond, ok := nodeCondition(node, corev1.NodeReady)
	switch {
	case !ok || cond.Status == corev1.ConditionUnknown:
		return cause{code: NodeSilent, text: "does not report" + since(cond) + nobodyKnows}, true
	case cond.Status == corev1.ConditionFalse:
		code, known := notReadyCodes[cond.Reason]
		if !known {
			code = NodeNotReady
		}
		return cause{code: code, text: "is not ready: " + cond.Message}, true
	}
	return cause{}, false
}

func since(cond corev1.NodeCondition) string {
	if cond.LastTransitionTime.IsZero() {
		return ""
	}
	return " since " + cond.LastTransitionTime.UTC().Format(time.RFC3339)
}

func nodeCondition(node *corev1.Node, kind corev1.NodeConditionType) (corev1.NodeCondition, bool) {
	for _, cond := range node.Status.Conditions {
		if cond.Type == kind {
			return cond, true
		}
	}
	return corev1.NodeCondition{}, false
}

func (c *chain) nodeLink(name string) {
	node, ok := state.Get[*corev1.Node](c.r, "", name)
	if !ok {
		c.Links = append(c.Links, Link{Step: "node", Name: name, State: "gone"})
		return
	}
	l := Link{State: "Ready", OK: true}
	if found, bad := c.nodeCause(name); bad {
		l.State, l.OK = found.text, false
	}
	if cond, ok := nodeCondition(node, corev1.NodeReady); ok && !cond.LastTransitionTime.IsZero() {
		l.At = &cond.LastTransitionTime
	}
	c.add(node, l)
}

// node tells of a node and of how many pods depend on it.
func (c *chain) node(name string) cause {
	c.nodeLink(name)
	var pods, ready int
	stale := ""
	for pod := range state.By[*corev1.Pod](c.r, state.PodsByNode, name) {
		if cond, ok := condition(pod, schema.ConditionStale); ok && cond.Status == corev1.ConditionTrue {
			stale = cond.Message
		}
		pods++
		if isReady(pod) {
			ready++
		}
	}
	c.Links = append(c.Links, Link{Step: "pod", Name: fmt.Sprintf("%d on it", pods), State: fmt.Sprintf("%d ready", ready), OK: ready == pods})
	if found, bad := c.nodeCause(name); bad {
		found.text = "node " + name + " " + found.text
		return found
	}
	if stale != "" {
		return cause{code: NodeSilent, text: stale + nobodyKnows}
	}
	if node, ok := state.Get[*corev1.Node](c.r, "", name); ok && node.Spec.Unschedulable {
		return cause{code: Unschedulable, text: "node " + name + " takes no new pods"}
	}
	return cause{code: Healthy, text: fmt.Sprintf("node %s is ready, %d of its %d pods are", name, ready, pods)}
}

// podsOf are the pods of a controlling owner, in name order.
func (c *chain) podsOf(owner schema.Object) []*corev1.Pod {
	return slices.Collect(state.By[*corev1.Pod](c.r, state.PodsByOwner, string(owner.GetUID())))
}
