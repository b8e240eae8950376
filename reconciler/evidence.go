package reconciler

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler/control"
	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// A revision keeps what its pods showed of why they do not work. It is taken when it
// is seen for the first time, and once more when the revision has failed: then the
// pods are about to go. In between nothing is written, however often a pod crashes;
// the lines that came since are remembered.

const (
	// maxTails bounds the pods of which newer lines are remembered: more than the
	// evidence of a hundred sources has. Without them, what was taken first stays.
	maxTails = 1000
	// maxLate bounds the pods that are looked at when a revision has failed. They are
	// of few templates, and what the first show tells enough.
	maxLate = 50
)

// sighting is what a report of this round had of a pod.
type sighting struct {
	answered bool                // a probe of it was told to have failed
	logs     map[string][]string // last lines, by container
}

// saw notes that a report had something of a pod bound to the node that gave it.
func (m *Machine) saw(uid types.UID) *sighting {
	s := m.sightings[uid]
	if s == nil {
		s = &sighting{}
		m.sightings[uid] = s
	}
	return s
}

// takeLogs takes the last lines of containers of a pod, as far as evidence has them.
func (s *sighting) takeLogs(pod *corev1.Pod, logs []wire.LogTail) {
	for _, l := range logs {
		if !hasContainer(pod, l.Container) {
			continue
		}
		if s.logs == nil {
			s.logs = map[string][]string{}
		}
		s.logs[l.Container] = schema.FitLog(l.Lines, schema.MaxEvidenceLog)
	}
}

// takeEvidence gives the revisions that run what their pods were seen to show. It
// comes before they are judged, so that the judgement can quote it. It writes for a
// cause that is new, and for the first lines of one that had none.
func (m *Machine) takeEvidence(c *control.Context) {
	for _, uid := range slices.Sorted(maps.Keys(m.sightings)) {
		saw := m.sightings[uid]
		pod, ok := state.PodByUID(c.Tx, uid)
		if !ok {
			continue
		}
		rev, ok := onTrial(c.Tx, schema.SourceOf(pod))
		if !ok {
			continue
		}
		seen := withLogs(health.Show(c.Tx, pod, saw.answered, c.Stamp()), saw.logs)
		if len(seen) == 0 && len(saw.logs) == 0 {
			continue // as of most pods that are on their way
		}
		m.remember(pod, putEvidence(c, rev, health.Keep(rev.Status.Evidence, seen)), saw.logs)
	}
	clear(m.sightings)
}

// onTrial is the revision that a source runs, unless it is judged already.
func onTrial(r state.Reader, source schema.SourceName) (*schema.Revision, bool) {
	src, ok := state.Source(r, source)
	if !ok {
		return nil, false
	}
	rev, ok := health.Applied(r, src)
	return rev, ok && rev.Status.Phase != schema.PhaseFailed
}

func withLogs(seen []schema.Evidence, logs map[string][]string) []schema.Evidence {
	for i := range seen {
		seen[i].Log = logs[seen[i].Container]
	}
	return seen
}

// putEvidence returns what the revision has from now on; the same again writes nothing.
func putEvidence(c *control.Context, rev *schema.Revision, evidence []schema.Evidence) []schema.Evidence {
	evidence = schema.FitEvidence(evidence)
	if equality.Semantic.DeepEqual(rev.Status.Evidence, evidence) {
		return rev.Status.Evidence
	}
	next := state.Edit(rev)
	next.Status.Evidence = evidence
	c.Tx.Put(next)
	return evidence
}

// remember keeps the newest lines of the containers that there is evidence of.
func (m *Machine) remember(pod *corev1.Pod, evidence []schema.Evidence, logs map[string][]string) {
	for _, e := range evidence {
		lines := logs[e.Container]
		if e.Pod != pod.Namespace+"/"+pod.Name || len(lines) == 0 {
			continue
		}
		if m.tails[pod.UID] == nil {
			if len(m.tails) >= maxTails {
				clear(m.tails)
			}
			m.tails[pod.UID] = map[string][]string{}
		}
		m.tails[pod.UID][e.Container] = lines
	}
}

// closeEvidence brings the evidence of the revisions that failed in this round up to
// date: what got well since is none, and all that kept them from being healthy is
// looked at.
func (m *Machine) closeEvidence(c *control.Context) {
	for _, ch := range c.Tx.Changes() {
		rev, ok := ch.New.(*schema.Revision)
		if !ok || rev.Status.Phase != schema.PhaseFailed {
			continue
		}
		if old, ok := ch.Old.(*schema.Revision); ok && old.Status.Phase == schema.PhaseFailed {
			continue
		}
		seen, looked := m.late(c, rev)
		have := slices.DeleteFunc(slices.Clone(rev.Status.Evidence), func(e schema.Evidence) bool {
			return looked[e.Pod] && !slices.ContainsFunc(seen, func(s schema.Evidence) bool { return s.Workload == e.Workload && s.Container == e.Container })
		})
		putEvidence(c, rev, health.Spread(health.Keep(health.Renew(have, seen), seen), seen))
	}
}

// late is what the pods show that a failed revision has evidence of, and those that it
// waited for; looked has them by "namespace/name".
func (m *Machine) late(c *control.Context, rev *schema.Revision) (seen []schema.Evidence, looked map[string]bool) {
	looked = map[string]bool{}
	look := func(namespace, name string) {
		pod, ok := state.Get[*corev1.Pod](c.Tx, namespace, name)
		key := namespace + "/" + name
		if !ok || looked[key] || len(looked) >= maxLate {
			return
		}
		looked[key] = true
		seen = append(seen, withLogs(health.ShowLate(c.Tx, pod, c.Stamp()), m.tails[pod.UID])...)
	}
	for _, e := range rev.Status.Evidence {
		look(e.Namespace(), e.PodName())
	}
	for obj := range health.In(c.Tx, rev.Spec.Source) {
		for t := range health.Of(c.Tx, obj, c.Now).Troubles {
			if look(t.Pod.Namespace, t.Pod.Name); len(looked) >= maxLate {
				return seen, looked
			}
		}
	}
	return seen, looked
}

// forgetTails drops the lines of pods that are gone.
func (m *Machine) forgetTails(changes []state.Change) {
	for _, ch := range changes {
		if pod, ok := ch.Old.(*corev1.Pod); ok && ch.New == nil {
			delete(m.tails, pod.UID)
		}
	}
}
