// Package progress answers "how far is it?": a revision and the workloads of its
// source, told in lines. A push that waits and `fairlead status` read the same
// lines. It only words what package health found. Pure.
package progress

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Ended reports whether the revision's story is over. A held one waits for another
// commit: nothing more happens to it by itself.
func Ended(rev *schema.Revision) bool {
	switch rev.Status.Phase {
	case schema.PhaseHealthy, schema.PhaseInvalid, schema.PhaseHeld, schema.PhaseFailed, schema.PhaseRolledBack, schema.PhaseSuperseded:
		return true
	}
	return false
}

// Outcome is what came of a revision so far.
type Outcome int

// The outcomes.
const (
	UnderWay Outcome = iota
	Works            // it is in place and works now
	Not              // it is not in place, or does not work
)

// OutcomeOf is what came of a revision of the source.
func OutcomeOf(src *schema.Source, rev *schema.Revision) Outcome {
	switch {
	case !Ended(rev):
		return UnderWay
	case src.Status.Applied.Commit != rev.Spec.Commit:
		return Not
	}
	switch word := healthOf(rev); word {
	case schema.Healthy:
		return Works
	case schema.Progressing:
		return UnderWay
	}
	return Not
}

// healthOf is the revision's word; of one that an earlier version left it follows from
// the phase.
func healthOf(rev *schema.Revision) string {
	switch {
	case rev.Status.Health != nil:
		return rev.Status.Health.Word
	case rev.Status.Phase == schema.PhaseHealthy:
		return schema.Healthy
	}
	return ""
}

// Reason is why the revision is in its phase.
func Reason(rev *schema.Revision) string {
	if n := len(rev.Status.Phases); n > 0 {
		return rev.Status.Phases[n-1].Reason
	}
	return ""
}

// Line is one workload's state: "deployment shop/api: 1 of 3 updated, 2 available".
func Line(w health.Workload) string { return line("%s: %s", name(w), w.Progress()) }

func name(w health.Workload) string {
	key := schema.KeyOf(w.Object)
	return fmt.Sprintf("%s %s/%s", schema.Info(key.Kind).Singular, key.Namespace, key.Name)
}

// Lines tell how far every workload of a source is, sorted by name.
func Lines(r state.Reader, source schema.SourceName, now time.Time) []string {
	var out []string
	for obj := range health.In(r, source) {
		out = append(out, Line(health.Of(r, obj, now)))
	}
	slices.Sort(out)
	return out
}

// MaxTroubles is how many troubles of one workload are told: of a thousand pods that
// fail for one reason a few tell enough.
const MaxTroubles = 5

// Troubles tells what keeps a source's workloads from being complete, a line each, by
// workload. What has merely not come up yet is none.
func Troubles(r state.Reader, source schema.SourceName, now time.Time) []string {
	var out []string
	for _, t := range troubles(r, source, now) {
		out = append(out, t.line)
	}
	return out
}

// toldLine is a line, and what makes it the same though a counter, a time or an address
// in it is another: a probe may be answered something new every second.
type toldLine struct{ line, same string }

func troubles(r state.Reader, source schema.SourceName, now time.Time) (out []toldLine) {
	for obj := range health.In(r, source) {
		w := health.Of(r, obj, now)
		told := 0
		for t := range w.Troubles {
			if t = tellable(r, t); t.Fault == health.NoFault && t.Code == health.RollingOut {
				continue
			}
			if told++; told > MaxTroubles {
				more := line("%s: and more pods like these", name(w))
				out = append(out, toldLine{more, more})
				break
			}
			same := fmt.Sprint(name(w), "\x00", t.Pod, t.Container, "\x00", t.Code, "\x00", strings.Map(notDigit, t.Text))
			out = append(out, toldLine{line("%s: %s", name(w), t.Text), same})
		}
	}
	return out
}

func notDigit(r rune) rune {
	if '0' <= r && r <= '9' {
		return -1
	}
	return r
}

// tellable is the trouble with what events and logs say of it. Of a pod that is merely
// on its way they say nothing that is worth the walk.
func tellable(r state.Reader, t health.Trouble) health.Trouble {
	if !t.Running && t.Code == health.RollingOut {
		return t
	}
	return health.Tell(r, t)
}

// Nodes tells which nodes are not what they should be, a line each, in the order
// given.
func Nodes(nodes []*corev1.Node) []string {
	var out []string
	for _, n := range nodes {
		for _, c := range n.Status.Conditions {
			if (c.Type == corev1.NodeReady) != (c.Status == corev1.ConditionTrue) {
				out = append(out, line("node %s: %s: %s", n.Name, c.Reason, c.Message))
			}
		}
	}
	return out
}

// line is one line, whatever nodes and registries said.
func line(format string, args ...any) string {
	return schema.Printable(fmt.Sprintf(format, args...))
}
