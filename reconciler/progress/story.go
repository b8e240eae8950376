package progress

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

const (
	// WaitingEvery is after how long without a line a story says what it waits for.
	// Whoever follows looks more often than every five seconds, so nobody sees nothing
	// for longer than fifteen.
	WaitingEvery = 10 * time.Second
	// endMargin is how long after the last deadline the end may be waited for.
	endMargin = time.Minute
	// maxLooked bounds the pods of a workload that a deadline is counted from.
	maxLooked = 20
)

// Story tells of a rollout as it goes, each line once, and now and then what it waits
// for. The zero Story has told nothing.
type Story struct {
	told         map[string]bool
	began, spoke time.Time
}

// Next are the lines that are new since the last time, and whether there is no more to
// come: the revision has come to its end, or will not by itself.
func (s *Story) Next(r state.Reader, src *schema.Source, rev *schema.Revision, now time.Time) (lines []string, ended bool) {
	s.begin(now)
	tell := func(line, same string) { lines = s.once(lines, line, same) }
	for _, l := range Lines(r, rev.Spec.Source, now) {
		tell(l, l)
	}
	for _, t := range troubles(r, rev.Spec.Source, now) {
		tell(t.line, t.same)
	}
	for _, l := range Nodes(slices.Collect(state.All[*corev1.Node](r, ""))) {
		tell(l, l)
	}
	ended = OutcomeOf(src, rev) != UnderWay
	if len(lines) == 0 && !ended && now.Sub(s.spoke) >= WaitingEvery {
		lines = []string{line("still %s after %s: %s", doing(rev), now.Sub(s.began).Round(time.Second), awaited(r, rev, now))}
	}
	if len(lines) > 0 {
		s.spoke = now
	}
	return lines, ended
}

func (s *Story) begin(now time.Time) {
	if s.told == nil {
		s.told, s.began, s.spoke = map[string]bool{}, now, now
	}
}

// once appends a line unless the same was told.
func (s *Story) once(lines []string, line, same string) []string {
	if s.told[same] {
		return lines
	}
	s.told[same] = true
	return append(lines, line)
}

// Waited is how long the story has gone on.
func (s *Story) Waited(now time.Time) time.Duration { return now.Sub(s.began) }

func doing(rev *schema.Revision) string {
	switch rev.Status.Phase {
	case schema.PhaseStalled:
		return "stalled"
	case schema.PhaseRollingOut:
		return "rolling out"
	}
	return "waiting"
}

// awaited is what a rollout waits for: its first workload that is not there, and why.
func awaited(r state.Reader, rev *schema.Revision, now time.Time) string {
	switch rev.Status.Phase {
	case schema.PhaseStalled:
		return Reason(rev)
	case schema.PhaseSeen, schema.PhaseVerified, schema.PhaseValid, schema.PhasePlanned:
		return "it is not applied yet"
	}
	first, more := "", 0
	for obj := range health.In(r, rev.Spec.Source) {
		w := health.Of(r, obj, now)
		switch {
		case w.Complete:
		case first != "":
			more++
		default:
			first = Line(w) + firstTrouble(r, w)
		}
	}
	switch {
	case first == "":
		return "every workload is available; the revision is about to be Healthy"
	case more > 0:
		first += fmt.Sprintf(" (and %s more)", health.Times(int32(min(more, math.MaxInt32)), "workload"))
	}
	return first
}

func firstTrouble(r state.Reader, w health.Workload) (told string) {
	w.Troubles(func(t health.Trouble) bool {
		told = "; " + tellable(r, t).Text
		return false
	})
	return told
}

// Patience is until when a revision must have been judged if nothing moves
// any more: a moment after the last deadline of its source's workloads.
func Patience(r state.Reader, src *schema.Source, rev *schema.Revision, now time.Time) time.Time {
	since := rev.CreationTimestamp.Time
	if n := len(rev.Status.Phases); n > 0 {
		since = rev.Status.Phases[n-1].At.Time
	}
	of := schema.DefaultProgressDeadline
	if src.Spec.ProgressDeadline != nil {
		of = src.Spec.ProgressDeadline.Duration
	}
	until := since.Add(of)
	for obj := range health.In(r, src.SourceName()) {
		w := health.Of(r, obj, now)
		if w.Complete || w.Deadline == noDeadline {
			continue
		}
		if w.Deadline == 0 {
			w.Deadline = of
		}
		until = latest(until, since.Add(w.Deadline), w.Moved.Add(w.Deadline))
		looked := 0
		for t := range w.Troubles {
			if looked++; looked > maxLooked {
				break
			}
			until = latest(until, t.Since.Add(w.Deadline))
		}
	}
	return until.Add(endMargin)
}

// noDeadline is what Kubernetes takes for "no deadline" of a Deployment.
const noDeadline = math.MaxInt32 * time.Second

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }

// LastLine is the last one of a story: "HEALTHY main-4f2a1c0d9b3e: ..." or "FAILED
// ...". A story that goes on is "ROLLING OUT" or "STALLED"; a revision that a guard
// holds, with what releases it, "HELD"; one whose tree has errors "INVALID"; one that
// was healthy and no longer works "DEGRADED"; one that another took the place of
// "SUPERSEDED".
func LastLine(src *schema.Source, rev *schema.Revision) string {
	word, reason := "FAILED", Reason(rev)
	switch outcome, phase := OutcomeOf(src, rev), rev.Status.Phase; {
	case phase == schema.PhaseStalled:
		word = "STALLED"
	case outcome == UnderWay:
		word = "ROLLING OUT"
	case outcome == Works:
		word = "HEALTHY"
	case phase == schema.PhaseSuperseded:
		word = "SUPERSEDED"
	case phase == schema.PhaseHealthy && src.Status.Applied.Commit != rev.Spec.Commit:
		word, reason = "SUPERSEDED", "it was healthy, and is no longer what runs"
	case phase == schema.PhaseHealthy:
		word, reason = "DEGRADED", rev.Status.Health.Reason
	case phase == schema.PhaseInvalid:
		word = "INVALID"
	case phase == schema.PhaseHeld:
		word, reason = "HELD", reason+release(rev)
	}
	return strings.TrimSuffix(line("%s %s: %s", word, rev.Name, reason), ": ")
}

// release is how a held revision is released, where its reason does not name the
// trailer.
func release(rev *schema.Revision) string {
	if strings.Contains(Reason(rev), schema.TrailerPrefix) {
		return ""
	}
	_, rule := health.RuleOf(health.HeldCode(rev))
	return "; to release it: " + rule.Todo
}

// LogMark stands before a line of a log.
const LogMark = "  | "

// Evidence tells what pods showed, each with the last lines of its log, as many as
// asked for.
func Evidence(evidence []schema.Evidence, lines int) []string {
	var out []string
	for _, e := range evidence {
		where := ""
		if e.Node != "" {
			where = " on " + Where(e)
		}
		silent := ""
		if e.Exit != nil && len(e.Log) == 0 {
			silent = "; no lines of its log are known"
		}
		out = append(out, line("seen in namespace %s%s: %s%s", e.Namespace(), where, e.Reason, silent))
		for _, l := range e.Log[max(0, len(e.Log)-lines):] {
			out = append(out, line("%s%s", LogMark, l))
		}
	}
	return out
}

// Where is the node on which a piece of evidence was seen, with the others that showed
// the same: what shows on one node alone may be the node's fault.
func Where(e schema.Evidence) string {
	if len(e.Also) == 0 {
		return string(e.Node)
	}
	var others []string
	for _, node := range e.Also {
		others = append(others, string(node))
	}
	return fmt.Sprintf("%s (pods on %s showed the same)", e.Node, strings.Join(others, ", "))
}
