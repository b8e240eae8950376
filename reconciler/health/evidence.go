package health

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Show is what a pod shows of why it does not work, a piece for each container that is
// in trouble. What is the cluster's fault is not shown, nor what may just be on its
// way; a probe's failure only where answered says that one was told of just now, for
// it takes a walk over the pod's events. The caller adds the lines of the logs.
func Show(r state.Reader, pod *corev1.Pod, answered bool, now metav1.Time) []schema.Evidence {
	var out []schema.Evidence
	show(r, pod, now, answered, func(t Trouble) bool { return t.Fault != Cluster && t.Code != RollingOut }, &out)
	return out
}

// ShowLate is Show of a pod whose revision just failed for it: where nothing else is
// known, that the pod has not got further than this.
func ShowLate(r state.Reader, pod *corev1.Pod, now metav1.Time) []schema.Evidence {
	out := Show(r, pod, true, now)
	if len(out) == 0 {
		show(r, pod, now, false, func(t Trouble) bool { return t.Fault != Cluster }, &out)
	}
	return out
}

func show(r state.Reader, pod *corev1.Pod, now metav1.Time, answered bool, shown func(Trouble) bool, out *[]schema.Evidence) {
	if pod.DeletionTimestamp != nil || pod.Spec.NodeName == "" {
		return
	}
	add := func(t Trouble, s corev1.ContainerStatus) {
		if t.Well() || !shown(t) {
			return
		}
		// Last, for most pods show nothing and this takes a walk.
		_, bad := OfNode(r, pod.Spec.NodeName)
		if of, ok := WorkloadOf(r, pod); ok && !bad {
			*out = append(*out, piece(of, pod, t, s, now))
		}
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		t, ok := containerTrouble(pod, s)
		if ok {
			add(t, s)
		}
		if answered && t.Running {
			if told := tell(r, pod, t); told.Code == ProbeFailing && told.Text != t.Text {
				add(told, corev1.ContainerStatus{Name: s.Name})
			}
		}
	}
	if len(*out) == 0 {
		add(wholePod(pod), corev1.ContainerStatus{})
	}
}

func piece(of schema.Object, pod *corev1.Pod, t Trouble, s corev1.ContainerStatus, now metav1.Time) schema.Evidence {
	e := schema.Evidence{
		Pod: pod.Namespace + "/" + pod.Name, Workload: schema.KeyOf(of).String(), Node: schema.NodeName(pod.Spec.NodeName),
		Container: s.Name, Code: string(t.Code), Reason: t.Text, At: now,
	}
	said := t.Text
	if end := lastEnd(s); end != nil && isEnd(t.Code) {
		e.Exit = &schema.EvidenceExit{Code: end.ExitCode, Signal: signal(end), Reason: end.Reason, Message: end.Message}
		said = end.Message
	} else if _, answer, ok := strings.Cut(said, runsBut); ok {
		said = answer
	}
	if kind, answer, ok := schema.ReadProbeFailure(said); ok && t.Code == ProbeFailing {
		e.Probe = &schema.EvidenceProbe{Kind: kind, Answer: answer}
	}
	return e
}

// isEnd reports whether a cause is one of a container's end.
func isEnd(code Code) bool {
	return code == CrashLoop || code == ProbeFailing || slices.Contains([]Code{OOMKilled, HookFailing, ConmonDied, NodeRebooted, EndUnseen}, code)
}

// lastEnd is how the container ended at last, nil when it never did.
func lastEnd(s corev1.ContainerStatus) *corev1.ContainerStateTerminated {
	return cmp.Or(s.State.Terminated, s.LastTerminationState.Terminated)
}

// cause tells apart what is worth keeping side by side. Of pods of one template that
// show the same, one tells enough.
func cause(e schema.Evidence) string {
	what := ""
	switch {
	case e.Probe != nil:
		what = e.Probe.Kind
	case e.Exit != nil:
		what = fmt.Sprint(e.Exit.Code)
	}
	return template(e) + "\x00" + e.Code + "\x00" + what
}

func template(e schema.Evidence) string { return e.Workload + "\x00" + e.Container }

// Keep is the evidence that a revision has with what was seen now. It has a piece for
// each cause, the first that showed it. Where there are more than are kept, every
// container of every template has its first cause before any has its second, each in
// the order in which they were seen; so what is kept is soon the same whatever comes.
func Keep(have, seen []schema.Evidence) []schema.Evidence {
	all := slices.Clone(have)
	for _, e := range seen {
		switch at := slices.IndexFunc(all, func(a schema.Evidence) bool { return cause(a) == cause(e) }); {
		case at < 0:
			all = append(all, e)
		case all[at].Pod == e.Pod && len(all[at].Log) == 0:
			all[at].Log = e.Log
		}
	}
	rank := make([]int, len(all)) // of a cause among those of its template
	of := map[string]int{}
	for i, e := range all {
		rank[i] = of[template(e)]
		of[template(e)]++
	}
	var out []schema.Evidence
	for turn := 0; len(out) < min(len(all), schema.MaxEvidence); turn++ {
		for i, e := range all {
			if rank[i] == turn && len(out) < schema.MaxEvidence {
				out = append(out, e)
			}
		}
	}
	return out
}

// Renew is the evidence with what the same pods show now in the place of what they
// showed first. What nobody knows any more stays: how a container ended that runs
// again, and its lines after the master started anew.
func Renew(have, seen []schema.Evidence) []schema.Evidence {
	out := slices.Clone(have)
	for i, e := range out {
		at := slices.IndexFunc(seen, func(s schema.Evidence) bool { return cause(s) == cause(e) && s.Pod == e.Pod })
		if at < 0 {
			continue
		}
		fresh := seen[at]
		fresh.At = e.At
		if fresh.Exit == nil {
			fresh.Exit = e.Exit
		}
		if len(fresh.Log) == 0 {
			fresh.Log = e.Log
		}
		out[i] = fresh
	}
	return out
}

// Spread notes on each piece of evidence which other nodes showed the same: of pods of
// one template only the first has a piece.
func Spread(evidence, seen []schema.Evidence) []schema.Evidence {
	out := slices.Clone(evidence)
	for i, e := range out {
		nodes := slices.Clone(e.Also)
		for _, s := range seen {
			if cause(s) == cause(e) && s.Node != e.Node && !slices.Contains(nodes, s.Node) && len(nodes) < schema.MaxEvidenceNodes {
				nodes = append(nodes, s.Node)
			}
		}
		out[i].Also = nodes
	}
	return out
}

// maxQuoted bounds the line of a log that a reason quotes, in bytes.
const maxQuoted = 200

// quote is the trouble with the last line of the log, where the container ended by
// itself and left no word of its own. The revision that runs has the lines: of this
// pod, or of the one that showed the same first.
func quote(r state.Reader, pod *corev1.Pod, t Trouble) Trouble {
	if t.Container == "" || t.Code != CrashLoop && t.Code != OOMKilled {
		return t
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if end := lastEnd(s); s.Name == t.Container && end != nil && end.Message != "" {
			return t
		}
	}
	e, ok := shownBy(r, pod, t)
	if !ok {
		return t
	}
	for _, line := range slices.Backward(e.Log) {
		if line == "" {
			continue
		}
		t.Text += "; last log line: " + schema.FitText(line, maxQuoted)
		return t
	}
	return t
}

// shownBy is the piece of evidence for a trouble of a pod.
func shownBy(r state.Reader, pod *corev1.Pod, t Trouble) (found schema.Evidence, ok bool) {
	src, ok := state.Source(r, schema.SourceOf(pod))
	if !ok {
		return found, false
	}
	rev, ok := Applied(r, src)
	if !ok || len(rev.Status.Evidence) == 0 {
		return found, false
	}
	of, ok := WorkloadOf(r, pod)
	if !ok {
		return found, false
	}
	for _, e := range rev.Status.Evidence {
		if e.Workload != schema.KeyOf(of).String() || e.Container != t.Container || e.Code != string(t.Code) || len(e.Log) == 0 {
			continue
		}
		if e.Pod == pod.Namespace+"/"+pod.Name {
			return e, true
		}
		if found.Pod == "" {
			found = e
		}
	}
	return found, found.Pod != ""
}
