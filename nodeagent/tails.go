package nodeagent

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/pod"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// The last lines of a container that failed go to the master within a report, for when
// its pod and its log are gone.
const (
	// tailsSent bounds the containers whose lines are in one report: with the longest
	// lines it is still one that waits for no other at the master's door.
	tailsSent = 16
	// tailAgain is the least time between two of a container that runs and whose probe
	// goes on failing. One that ended again waits for its back-off anyway.
	tailAgain = 15 * time.Second
	// tailRead bounds what is read of a log: its last lines, as long as Podman's log
	// driver writes them in one piece.
	tailRead = 1 << 20
)

// outputTail is what the master was told of one container's output.
type outputTail struct {
	attempt int
	ended   bool      // it is told with the status that tells of the attempt's end
	marks   int       // counts what asked for it to be told
	heard   int       // of them, what the master knows of
	at      time.Time // of the last mark
	lines   []string  // as the master heard them last
}

// markTail has the last lines of a container told with the next report.
func (e *entry) markTail(name string, attempt int, ended bool, now time.Time) {
	if e.tails == nil {
		e.tails = map[string]*outputTail{}
	}
	t := e.tails[name]
	if t == nil {
		t = &outputTail{}
		e.tails[name] = t
	}
	t.attempt, t.ended, t.at = attempt, ended, now
	t.marks++
}

// markExit has the output of a container told that ended otherwise than it should.
func (e *entry) markExit(name string, c pod.Container, now time.Time) {
	spec := containerSpec(e.wanted, name)
	if spec == nil || e.wanted.Pod.DeletionTimestamp != nil || c.State != pod.StateExited {
		return
	}
	mayEnd := e.wanted.Pod.Spec.RestartPolicy != corev1.RestartPolicyAlways || schema.IsInitContainer(&e.wanted.Pod.Spec, name)
	if c.ExitCode == 0 && mayEnd && !schema.IsSidecar(spec) {
		return
	}
	e.markTail(name, c.Attempt, true, now)
}

// markProbe has the output of a container told whose probe failed, now and then.
func (e *entry) markProbe(name string, c pod.Container, now time.Time) {
	if t := e.tails[name]; t != nil && t.attempt == c.Attempt && now.Sub(t.at) < tailAgain {
		return
	}
	e.markTail(name, c.Attempt, false, now)
}

// tellsEnd reports whether a status is of after the end of a container's attempt: the
// master takes lines with the end that they explain.
func tellsEnd(s *corev1.PodStatus, name string, attempt int) bool {
	for _, c := range slices.Concat(s.InitContainerStatuses, s.ContainerStatuses) {
		if c.Name == name {
			ended := c.State.Terminated != nil || c.LastTerminationState.Terminated != nil
			return int(c.RestartCount) > attempt || c.State.Running == nil && ended
		}
	}
	return false
}

// told is one container's lines on their way to the master.
type told struct {
	tail  *outputTail
	marks int
	lines []string
}

// addTails puts the lines that are due into the reports, the same lines once; read gives
// the last lines of an attempt.
func (m *machine) addTails(reports []wire.PodReport, read func(uid types.UID, container string, attempt int) []string) {
	m.telling = nil
	for i := range reports {
		r := &reports[i]
		e := m.pods[r.UID]
		for _, name := range slices.Sorted(maps.Keys(e.tails)) {
			t := e.tails[name]
			if t.marks == t.heard || t.ended && !tellsEnd(&r.Status, name, t.attempt) {
				continue
			}
			lines := read(r.UID, name, t.attempt)
			if slices.Equal(lines, t.lines) {
				t.heard = t.marks
				continue
			}
			if len(m.telling) == tailsSent {
				return
			}
			m.telling = append(m.telling, told{t, t.marks, lines})
			r.Logs = append(r.Logs, wire.LogTail{Container: name, Lines: lines})
		}
	}
}

// tailsHeard notes that the master has the lines of the last report.
func (m *machine) tailsHeard() (more bool) {
	for _, t := range m.telling {
		t.tail.heard, t.tail.lines = t.marks, t.lines
	}
	more = len(m.telling) == tailsSent
	m.telling = nil
	return more
}
