package health

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

var podRow = row{
	kind:    schema.KindPod,
	of:      schema.Cell[judgement]{Do: pod},
	in:      schema.Cell[workloads]{Do: barePods},
	current: schema.Cell[owning]{None: "it owns nothing"},
}

// pod judges one that nothing else made.
func pod(r state.Reader, obj schema.Object, _ time.Time) Workload {
	p := obj.(*corev1.Pod)
	w := Workload{
		Complete: p.DeletionTimestamp == nil && (p.Status.Phase == corev1.PodSucceeded || Ready(p)),
		Leaving:  p.DeletionTimestamp != nil,
		progress: func() string { return podProgress(p) }, Moved: ScheduledAt(p), Troubles: none[Trouble], Pods: just(p),
	}
	if w.Complete {
		return w
	}
	found := OfPod(r, p)
	if p.Status.Phase == corev1.PodFailed {
		w.Failed = &found
	}
	w.Troubles = just(found)
	return w
}

func podProgress(p *corev1.Pod) string {
	if p.DeletionTimestamp != nil {
		return "terminates"
	}
	return string(p.Status.Phase)
}

// Condition is the pod's condition of that type, false when nobody wrote it.
func Condition(pod *corev1.Pod, t corev1.PodConditionType) (corev1.PodCondition, bool) {
	for _, cond := range pod.Status.Conditions {
		if cond.Type == t {
			return cond, true
		}
	}
	return corev1.PodCondition{}, false
}

func isTrue(pod *corev1.Pod, t corev1.PodConditionType) bool {
	cond, ok := Condition(pod, t)
	return ok && cond.Status == corev1.ConditionTrue
}

// Ready reports whether the pod is said to be ready.
func Ready(pod *corev1.Pod) bool { return isTrue(pod, corev1.PodReady) }

// ReadySince is when the pod became ready or stopped being so; its creation when
// nobody said.
func ReadySince(pod *corev1.Pod) time.Time {
	if cond, ok := Condition(pod, corev1.PodReady); ok && !cond.LastTransitionTime.IsZero() {
		return cond.LastTransitionTime.Time
	}
	return pod.CreationTimestamp.Time
}

// ScheduledAt is when the pod was bound to its node, its creation before that.
func ScheduledAt(pod *corev1.Pod) time.Time {
	if cond, ok := Condition(pod, corev1.PodScheduled); ok && cond.Status == corev1.ConditionTrue {
		return cond.LastTransitionTime.Time
	}
	return pod.CreationTimestamp.Time
}

// Ended reports whether the pod's containers are through and will not run again.
func Ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// Available reports whether the pod has been ready for minReadySeconds, and if it is
// ready but not for long enough, when it will have been.
func Available(pod *corev1.Pod, minReadySeconds int32, now time.Time) (ok bool, at time.Time) {
	if !Ready(pod) {
		return false, time.Time{}
	}
	at = ReadySince(pod).Add(time.Duration(minReadySeconds) * time.Second)
	if minReadySeconds == 0 || !at.After(now) {
		return true, time.Time{}
	}
	return false, at
}

// OfPod is what keeps a pod from being ready. It reads the pod and its node alone;
// Tell adds what events say.
func OfPod(r state.Reader, pod *corev1.Pod) Trouble {
	t := podTrouble(r, pod)
	t.Since, t.Pod = ScheduledAt(pod), schema.KeyOf(pod)
	return t
}

func podTrouble(r state.Reader, pod *corev1.Pod) Trouble {
	switch {
	case pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil:
		return unbound(pod)
	case pod.Spec.NodeName != "":
		if bad, ok := OfNode(r, pod.Spec.NodeName); ok {
			bad.Text = fmt.Sprintf("pod %s is on node %s, which %s", pod.Name, pod.Spec.NodeName, bad.Text)
			return bad
		}
	}
	if cond, ok := Condition(pod, schema.ConditionStale); ok && cond.Status == corev1.ConditionTrue {
		return newTrouble(NodeSilent, "what is known of pod "+pod.Name+" is old: "+cond.Message)
	}
	if pod.DeletionTimestamp != nil {
		return leaving(pod)
	}
	if pod.Status.Reason == schema.ReasonDeadlineExceeded {
		return overdue(pod)
	}
	found := wholePod(pod)
	for _, s := range counting(pod) {
		if judged, ok := containerTrouble(pod, s); ok && found.yields(judged) {
			found = judged
		}
	}
	return compared(r, pod, found)
}

// overdue tells of a pod that was active for longer than it may: however its containers
// end, that is why.
func overdue(pod *corev1.Pod) Trouble {
	does := " is being ended"
	if Ended(pod) {
		does = " failed"
	}
	return newTrouble(Failed, "pod "+pod.Name+does+colon(pod.Status.Reason, pod.Status.Message))
}

// counting are the statuses of the containers that say how a pod fares. Once its own
// containers are through, how its sidecars end does not count.
func counting(pod *corev1.Pod) []corev1.ContainerStatus {
	first := pod.Status.InitContainerStatuses
	if through(pod) {
		first = slices.DeleteFunc(slices.Clone(first), func(s corev1.ContainerStatus) bool { return !runsToItsEnd(pod, s.Name) })
	}
	return slices.Concat(first, pod.Status.ContainerStatuses)
}

// through reports whether a pod's containers have ended and will not run again, though
// sidecars of it may still run.
func through(pod *corev1.Pod) bool {
	if Ended(pod) {
		return true
	}
	all := pod.Status.ContainerStatuses
	return len(all) > 0 && !slices.ContainsFunc(all, func(s corev1.ContainerStatus) bool {
		end := s.State.Terminated
		switch {
		case end == nil:
			return true
		case pod.Spec.RestartPolicy == corev1.RestartPolicyNever:
			return false
		}
		return pod.Spec.RestartPolicy != corev1.RestartPolicyOnFailure || end.ExitCode != 0
	})
}

// yields reports whether of two troubles of one pod the other is told: what is the
// revision's fault stays so whatever else is missing. Of equals the one of a
// container tells more.
func (t Trouble) yields(other Trouble) bool {
	if blamed := other.Fault == Revision; blamed != (t.Fault == Revision) {
		return blamed
	}
	return !t.Worse(other)
}

func wholePod(pod *corev1.Pod) Trouble {
	switch {
	case pod.Status.Phase == corev1.PodSucceeded:
		return newTrouble(Completed, "pod "+pod.Name+" has done its work")
	case Ready(pod):
		return newTrouble(Healthy, "pod "+pod.Name+" is ready on "+pod.Spec.NodeName+restarts(pod))
	case pod.Status.Phase == corev1.PodFailed:
		return newTrouble(Failed, "pod "+pod.Name+" failed"+colon(pod.Status.Reason, pod.Status.Message))
	}
	if cond, ok := Condition(pod, corev1.PodReadyToStartContainers); ok && cond.Status == corev1.ConditionFalse {
		if code, ok := setupCodes[cond.Reason]; ok {
			return newTrouble(orReference(code, cond.Message), "pod "+pod.Name+" cannot be set up: "+cond.Message)
		}
	}
	if cond, ok := Condition(pod, corev1.PodReady); ok && cond.Reason == schema.ReasonConmonDied {
		return newTrouble(ConmonDied, "the state of pod "+pod.Name+" is uncertain: "+cond.Message)
	}
	if through(pod) {
		return newTrouble(RollingOut, "the containers of pod "+pod.Name+" have ended, and its sidecars are ending")
	}
	return newTrouble(RollingOut, "pod "+pod.Name+" has not started on "+pod.Spec.NodeName+" yet")
}

// setupCodes are the reasons for which no container of a pod had its turn.
var setupCodes = map[string]Code{
	schema.ReasonSandbox:         NetworkFailing,
	schema.ReasonMount:           SetupFailing,
	schema.ReasonContainerConfig: ConfigMissing,
	schema.ReasonNodeError:       NodeFailing,
}

// orReference tells a ConfigMap or Secret that is not there from what else can be wrong
// with it. A tree is not taken that names what nobody declares, unless its source says to
// wait for it: it is not the revision's fault that it is not there.
func orReference(code Code, message string) Code {
	if code == ConfigMissing && strings.HasSuffix(message, schema.NotFound) {
		return ReferenceMissing
	}
	return code
}

// lackingCodes are the reasons for which no node takes a pod.
var lackingCodes = map[string]Code{
	schema.ReasonNoCapacity:    NoCapacity,
	schema.ReasonNoReadyNode:   NoReadyNode,
	schema.ReasonNoFittingNode: NoFittingNode,
}

func unbound(pod *corev1.Pod) Trouble {
	cond, _ := Condition(pod, corev1.PodScheduled)
	lacking, _ := Condition(pod, schema.ConditionLacking)
	code, known := lackingCodes[lacking.Reason]
	if !known && cond.Reason == corev1.PodReasonUnschedulable {
		code, known = NoCapacity, true
	}
	if !known {
		return newTrouble(RollingOut, "pod "+pod.Name+" waits for its node"+colon(cond.Message))
	}
	return newTrouble(code, "no node takes pod "+pod.Name+colon(cond.Message))
}

// waitingCodes are the reasons for which a container waits.
var waitingCodes = map[string]Code{
	schema.ReasonCrashLoop:           CrashLoop,
	schema.ReasonErrImagePull:        ImagePull,
	schema.ReasonImagePullBackOff:    ImagePull,
	schema.ReasonErrImageNeverPull:   ImageNotOnNode,
	schema.ReasonRegistryUnavailable: RegistryUnavailable,
	schema.ReasonRegistryDenied:      RegistryDenied,
	schema.ReasonNodeError:           NodeFailing,
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
	schema.ReasonPostStart:     HookFailing,
	schema.ReasonConmonDied:    ConmonDied,
	schema.ReasonNodeRebooted:  NodeRebooted,
	schema.ReasonStatusUnknown: EndUnseen,
}

// containerTrouble is what is wrong with a container; false when nothing is.
func containerTrouble(pod *corev1.Pod, s corev1.ContainerStatus) (t Trouble, ok bool) {
	comesFirst := runsToItsEnd(pod, s.Name)
	name := fmt.Sprintf("container %s of pod %s", s.Name, pod.Name)
	if comesFirst {
		name = "init " + name
	}
	end, last := s.State.Terminated, s.LastTerminationState.Terminated
	switch {
	case s.State.Waiting != nil:
		t, ok = waiting(s, name)
	case end != nil:
		ok = end.ExitCode != 0 || end.Reason == schema.ReasonUnhealthy || end.Reason == schema.ReasonPostStart
		t = newTrouble(exitCode(end), name+" ended with "+Exit(end))
	case s.State.Running == nil || s.Ready:
	case comesFirst:
		t, ok = newTrouble(RollingOut, name+" runs, and what comes after it waits for its end"), true
		t.Running = true
	case s.RestartCount > 0 && last != nil:
		t, ok = newTrouble(exitCode(last), fmt.Sprintf("%s was restarted %s, last after %s", name, Times(s.RestartCount, "time"), Exit(last))), true
		t.Previous, t.Running = true, true
	case s.RestartCount > 0:
		t, ok = newTrouble(CrashLoop, fmt.Sprintf("%s was restarted %s", name, Times(s.RestartCount, "time"))), true
		t.Running = true
	default:
		t, ok = newTrouble(RollingOut, name+" runs and is not ready yet"), true
		t.Running = true
	}
	t.Container = s.Name
	return t, ok
}

// runsToItsEnd tells an init container that is no sidecar.
func runsToItsEnd(pod *corev1.Pod, container string) bool {
	c := schema.ContainerOf(&pod.Spec, container)
	return c != nil && !schema.IsSidecar(c) && schema.IsInitContainer(&pod.Spec, container)
}

func waiting(s corev1.ContainerStatus, name string) (Trouble, bool) {
	w, last := s.State.Waiting, s.LastTerminationState.Terminated
	code, known := waitingCodes[w.Reason]
	code = orReference(code, w.Message)
	switch {
	case !known && w.Message == schema.PostStartRuns:
		return newTrouble(RollingOut, name+" waits: "+w.Message), true
	case !known:
		return Trouble{}, false
	case code != CrashLoop || last == nil:
		return newTrouble(code, name+" waits"+colon(w.Reason, w.Message)), true
	case exitCode(last) == ProbeFailing, exitCode(last) == HookFailing:
		return newTrouble(exitCode(last), fmt.Sprintf("%s is stopped, %s so far: %s", name, Times(s.RestartCount, "restart"), brief(last.Message))), true
	}
	return newTrouble(exitCode(last), fmt.Sprintf("%s ends with %s, %s", name, Exit(last), Times(s.RestartCount, "restart"))), true
}

func exitCode(t *corev1.ContainerStateTerminated) Code {
	return cmp.Or(endCodes[t.Reason], CrashLoop)
}

// leaving tells of a pod on its way out whose node reports.
func leaving(pod *corev1.Pod) Trouble {
	if pod.Annotations[schema.AnnotationDrained] != "true" {
		return newTrouble(Draining, "pod "+pod.Name+" keeps serving until every node has removed it from its tables")
	}
	text := "pod " + pod.Name + " terminates"
	if grace := pod.DeletionGracePeriodSeconds; grace != nil {
		text += fmt.Sprintf(", within %ds of the stop signal", *grace)
	}
	return newTrouble(Terminating, text)
}

// Tell is the trouble with what the events of its pod say of it (the answer that a
// probe got, how the end of a pod goes) and with the last line of the log. It may walk
// all events of the namespace, so it is for a trouble that is told to somebody.
func Tell(r state.Reader, t Trouble) Trouble {
	pod, ok := state.Get[*corev1.Pod](r, t.Pod.Namespace, t.Pod.Name)
	if !ok {
		return t
	}
	told := quote(r, pod, tell(r, pod, t))
	told.Since, told.Pod, told.Container = t.Since, t.Pod, t.Container
	return told
}

func tell(r state.Reader, pod *corev1.Pod, t Trouble) Trouble {
	switch {
	case pod.DeletionTimestamp != nil:
		terminating := LastEvent(r, pod, schema.ReasonTerminating, "")
		if t.Code == Draining || t.Code == Terminating {
			return told(r, pod, t, terminating)
		}
		if terminating != nil {
			t.Text += "; it is to go: " + terminating.Message
		}
	case t.Running:
		if e := LastEvent(r, pod, schema.ReasonUnhealthy, t.Container); e != nil {
			said := newTrouble(ProbeFailing, fmt.Sprintf("container %s of pod %s%s%s", t.Container, pod.Name, runsBut, e.Message))
			said.Running, said.Fault = true, t.Fault // a probe that fails at first is how most containers start
			return said
		}
	case t.Code == RollingOut && t.Container == "" && pod.Status.PodIP == "":
		if e := LastEvent(r, pod, schema.ReasonBadAddress, ""); e != nil {
			return newTrouble(BadAddress, "the report about pod "+pod.Name+" was rejected: "+e.Message)
		}
	}
	return t
}

// runsBut stands before what a probe was answered.
const runsBut = " runs, but: "

// told is how the end of a pod goes, in its events' words.
func told(r state.Reader, pod *corev1.Pod, t Trouble, because *corev1.Event) Trouble {
	if e := sinceDeleted(r, pod, schema.ReasonKill); e != nil {
		return newTrouble(StopFailing, "pod "+pod.Name+" cannot be ended: "+e.Message)
	}
	if e := sinceDeleted(r, pod, schema.ReasonExceededGracePeriod); e != nil {
		return newTrouble(StopIgnored, "pod "+pod.Name+" did not end when asked to: "+e.Message)
	}
	if because != nil {
		t.Text += ": " + because.Message
	}
	return t
}

// sinceDeleted is the last event with that reason since the pod was told to go: what
// went wrong when a probe stopped it is over. Both times are the master's.
func sinceDeleted(r state.Reader, pod *corev1.Pod, reason string) *corev1.Event {
	e := LastEvent(r, pod, reason, "")
	grace := time.Duration(0)
	if pod.DeletionGracePeriodSeconds != nil {
		grace = time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second
	}
	if e == nil || e.LastTimestamp.Time.Before(pod.DeletionTimestamp.Add(-grace)) {
		return nil
	}
	return e
}

// LastEvent is the newest event of a pod with that reason, nil when there is none.
// An event that names another of the pod's containers does not count.
func LastEvent(r state.Reader, pod *corev1.Pod, reason, container string) *corev1.Event {
	var last *corev1.Event
	for e := range state.All[*corev1.Event](r, pod.Namespace) {
		if field := e.InvolvedObject.FieldPath; e.InvolvedObject.UID != pod.UID || e.Reason != reason || container != "" && field != "" && field != schema.ContainerField(pod, container) {
			continue
		}
		if last == nil || last.LastTimestamp.Before(&e.LastTimestamp) {
			last = e
		}
	}
	return last
}

// Staying are the statuses of the containers and sidecars of a pod: of its init
// containers that run to their end nothing is left to say once it runs.
func Staying(pod *corev1.Pod) []corev1.ContainerStatus {
	return slices.DeleteFunc(slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses), func(s corev1.ContainerStatus) bool { return runsToItsEnd(pod, s.Name) })
}

func restarts(pod *corev1.Pod) string {
	for _, s := range Staying(pod) {
		if last := s.LastTerminationState.Terminated; s.RestartCount > 0 && last != nil {
			return fmt.Sprintf(", after %s of container %s (last: %s)", Times(s.RestartCount, "restart"), s.Name, Exit(last))
		}
	}
	return ""
}

// Exit is how a container ended: "exit code 1", with what else is known.
func Exit(t *corev1.ContainerStateTerminated) string {
	s := fmt.Sprintf("exit code %d", t.ExitCode)
	if name := signal(t); name != "" {
		s += " (" + name + ")"
	}
	if t.Reason != "" && t.Reason != "Error" && t.Reason != "Completed" {
		s += ", " + t.Reason
	}
	return s + colon(brief(t.Message))
}

// briefBytes bounds what is told of a message in a sentence; all of it is in the pod.
const briefBytes = 300

// brief is a message as part of a sentence: on one line, and of a long one the end,
// which tells more than the beginning.
func brief(message string) string {
	lines := strings.FieldsFunc(message, func(r rune) bool { return r == '\n' || r == '\r' })
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	s := strings.Join(slices.DeleteFunc(lines, func(l string) bool { return l == "" }), " | ")
	if len(s) <= briefBytes {
		return s
	}
	s = s[len(s)-briefBytes:]
	for len(s) > 0 && !utf8.RuneStart(s[0]) {
		s = s[1:]
	}
	return "..." + s
}

// signals are those that end a program that does not expect them (signal(7)), by
// number: a runtime tells them as 128 and the number.
var signals = map[int32]string{
	1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL",
	10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 24: "SIGXCPU", 25: "SIGXFSZ", 31: "SIGSYS",
}

// signal is the name of the signal that ended a container by itself, "" for none. Where
// it was ended by others, or nobody saw how, the code says nothing of the program.
func signal(t *corev1.ContainerStateTerminated) string {
	if t.Reason != "" && t.Reason != "Error" {
		return ""
	}
	return signals[t.ExitCode-128]
}

// Times is a number of things, "1 restart" or "3 restarts".
func Times(n int32, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// colon joins what is known behind what it explains.
func colon(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		if p = strings.TrimSpace(p); p != "" {
			b.WriteString(": " + p)
		}
	}
	return b.String()
}
