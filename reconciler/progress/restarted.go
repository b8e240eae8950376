package progress

import (
	"time"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Restarted tells what does not serve in a cluster whose nodes were started again at a
// time, a line for each workload, by source. Awaited is what will come back by itself as
// far as one can know: it was ready before. Lacking is the rest: what was not ready
// before the start either, and what cannot start for the fault of a revision that was
// not well before. A source none of whose pods is missing and which is not well is told
// by its revision's word, unless all its workloads are complete: then the word follows.
func Restarted(r state.Reader, at, now time.Time) (awaited, lacking []string) {
	at = at.Truncate(time.Second) // as conditions are dated
	for src := range state.All[*schema.Source](r, "") {
		rev, ok := health.Applied(r, src)
		if !ok {
			continue
		}
		was := rev.Status.Health
		start := restart{r: r, at: at, unwell: was != nil && was.Word != schema.Healthy && was.Since.Time.Before(at)}
		before, complete := len(awaited)+len(lacking), true
		for obj := range health.In(r, src.SourceName()) {
			w := health.Of(r, obj, now)
			complete = complete && (w.Complete || w.Leaving)
			told, back := start.lacks(w)
			awaited, lacking = file(awaited, lacking, told, back)
		}
		bad := was != nil && (was.Word == schema.Degraded || was.Word == schema.Failed)
		if bad && !complete && len(awaited)+len(lacking) == before {
			told := line("source %s is %s: %s", src.Name, was.Word, was.Reason)
			awaited, lacking = file(awaited, lacking, told, !start.unwell)
		}
	}
	return awaited, lacking
}

// file puts a line, "" for none, where it belongs.
func file(awaited, lacking []string, told string, back bool) (a, l []string) {
	switch {
	case told == "":
		return awaited, lacking
	case back:
		return append(awaited, told), lacking
	}
	return awaited, append(lacking, told)
}

// restart is a start of the nodes, as the workloads of one source came through it.
type restart struct {
	r      state.Reader
	at     time.Time
	unwell bool // the source's revision was not well before
}

// lacks tells what of a workload does not serve, "" for nothing, and whether it can be
// awaited: then the first pod that can be is told.
func (s restart) lacks(w health.Workload) (told string, back bool) {
	if w.Leaving {
		return "", false
	}
	if w.Unseen {
		return Line(w), true
	}
	for pod := range w.Pods {
		t := health.OfPod(s.r, pod)
		if t.Well() || pod.DeletionTimestamp != nil || health.Ended(pod) {
			continue
		}
		blamed := t.Fault != health.NoFault && s.unwell
		back = !blamed && !health.ReadySince(pod).Before(s.at)
		if told == "" || back {
			told = line("%s; %s", Line(w), tellable(s.r, t).Text)
		}
		if back {
			return told, true
		}
	}
	return told, false
}
