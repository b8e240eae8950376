package control

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

var revisionRow = Row{
	Kind:       schema.KindRevision,
	Controller: controllerCell{Do: Controller{"revision", revisionTriggers, reconcileRevision}},
	Created:    createdCell{None: asWritten},
	Remove:     removeCell{None: justDeleted},
	Dependents: dependentsCell{None: nothingNeeds},
	Collect:    collectCell{None: needsNothing},
	Done:       doneCell{None: neverDone},
	Configured: configuredCell{None: notInGit},
	StandIn:    standInCell{None: noStandIn},
}

// revisionTriggers visits the revision that is applied of whatever source a changed
// object comes from; of every source when a node becomes ready or stops being so, or is
// found to be at fault.
func revisionTriggers(r state.Reader, c state.Change) []schema.Key {
	switch c.Key.Kind {
	case schema.KindRevision:
		return []schema.Key{c.Key}
	case schema.KindSource:
		return revisionsNamed(c)
	case schema.KindNode:
		if sides := changedSides[*corev1.Node](c); len(sides) == 2 && nodeStanding(sides[0]) == nodeStanding(sides[1]) {
			return nil
		}
		var keys []schema.Key
		for src := range state.All[*schema.Source](r, "") {
			keys = append(keys, revisionConcerned(r, src.SourceName(), false)...)
			keys = append(keys, revisionsMisjudged(r, src)...)
		}
		return keys
	}
	var source schema.SourceName
	own := false
	for _, side := range changedSides[schema.Object](c) {
		source, own = cmp.Or(schema.SourceOf(side), source), metav1.GetControllerOfNoCopy(side) == nil
	}
	if c.New != nil && !health.Counts(c.Key.Kind) {
		return nil
	}
	return revisionConcerned(r, source, own)
}

// nodeStanding is what of a node matters to revisions: whether it is ready, why not, and
// whether it can start pods.
func nodeStanding(node *corev1.Node) [3]string {
	ready, _ := health.NodeCondition(node, corev1.NodeReady)
	return [3]string{string(ready.Status), ready.Reason, string(nodeCondition(node, schema.ConditionStartsFailing))}
}

// revisionsMisjudged are the source's failed revisions of which a node may yet turn out
// to be why they failed.
func revisionsMisjudged(r state.Reader, src *schema.Source) (keys []schema.Key) {
	for _, of := range []func(state.Reader, *schema.Source) (*schema.Revision, bool){health.Applied, health.Asked} {
		if rev, ok := of(r, src); ok && health.MayBeMisjudged(src, rev) {
			keys = append(keys, schema.KeyOf(rev))
		}
	}
	return keys
}

// revisionsNamed are the revisions that a source named before and names now.
func revisionsNamed(c state.Change) (keys []schema.Key) {
	for _, src := range changedSides[*schema.Source](c) {
		for _, commit := range []schema.Commit{src.Status.Applied.Commit, src.Status.Desired.Commit} {
			if key := (schema.Key{Kind: schema.KindRevision, Name: string(schema.RevisionOf(src.SourceName(), commit))}); commit != "" && !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// revisionConcerned is the source's applied revision if a change may matter to it. To
// one that is healthy only the source's own objects do: what they own tells by them.
func revisionConcerned(r state.Reader, source schema.SourceName, own bool) []schema.Key {
	src, ok := state.Source(r, source)
	if !ok {
		return nil
	}
	rev, ok := health.Applied(r, src)
	if !ok || rev.Status.Phase == schema.PhaseFailed || !underWay(rev) && !own && isWell(rev) {
		return nil
	}
	return []schema.Key{schema.KeyOf(rev)}
}

func isWell(rev *schema.Revision) bool {
	return rev.Status.Health != nil && rev.Status.Health.Word == schema.Healthy
}

func underWay(rev *schema.Revision) bool {
	return rev.Status.Phase == schema.PhaseRollingOut || rev.Status.Phase == schema.PhaseStalled
}

// reconcileRevision judges the rollout of the applied revision, and says of any how it
// stands.
func reconcileRevision(c *Context, key schema.Key) (wake time.Time) {
	rev, ok := state.Revision(c.Tx, schema.RevisionName(key.Name))
	if !ok {
		return wake
	}
	src, ok := state.Source(c.Tx, rev.Spec.Source)
	if !ok {
		return wake
	}
	switch {
	case underWay(rev) && src.Status.Applied.Commit == rev.Spec.Commit:
		wake = judgeRollout(c, src, rev)
	case health.MayBeMisjudged(src, rev):
		wake = judgeAgain(c, src, rev)
	}
	rev, _ = state.Revision(c.Tx, schema.RevisionName(key.Name))
	wake = earliest(wake, stand(c, src, rev))
	rev, _ = state.Revision(c.Tx, schema.RevisionName(key.Name))
	return earliest(wake, releaseGivenUp(c, src, rev))
}

// judgeRollout judges a revision by the workloads of its source: Healthy when all are
// up to date and available, Failed when one of the revision's own cannot get there in
// time, Stalled while all that is missing is room or images.
func judgeRollout(c *Context, src *schema.Source, rev *schema.Revision) (wake time.Time) {
	var open []judgement
	workloads := 0
	for v := range judgements(c, src, rev) {
		workloads++
		if v.outcome != done {
			open = append(open, v)
		}
	}
	failed := slices.IndexFunc(open, func(v judgement) bool { return v.outcome == failing })
	moving := slices.IndexFunc(open, func(v judgement) bool { return v.outcome != stalling })
	switch {
	case len(open) == 0 && unproven(c, src, rev).After(c.Now):
		return unproven(c, src, rev)
	case len(open) == 0:
		enter(c, rev, schema.PhaseHealthy, corev1.EventTypeNormal, fmt.Sprintf("workloads up to date and available: %d", workloads))
	case failed >= 0:
		enter(c, rev, schema.PhaseFailed, corev1.EventTypeWarning, open[failed].reason+noWayBack(c, src, rev))
	case moving < 0:
		enter(c, rev, schema.PhaseStalled, corev1.EventTypeWarning, open[0].reason)
	default:
		if rev.Status.Phase == schema.PhaseStalled {
			enter(c, rev, schema.PhaseRollingOut, corev1.EventTypeNormal, "resumed: "+open[moving].reason)
			return wake // the next visit counts its time from here
		}
		for _, v := range open {
			wake = earliest(wake, v.wake)
		}
	}
	return wake
}

// evidenceClosed is when after a revision failed all is known that it failed for: at the
// end of the round.
const evidenceClosed = time.Second

// judgeAgain takes the judgement of a failed revision back where its nodes were why, once.
// One that was gone back from is applied again by who follows the source.
func judgeAgain(c *Context, src *schema.Source, rev *schema.Revision) (wake time.Time) {
	if due := rev.Entered(schema.PhaseFailed).Add(evidenceClosed); due.After(c.Now) {
		return due
	}
	why, ok := health.Misjudged(c.Tx, src, rev)
	if !ok {
		return wake
	}
	next := state.Edit(rev)
	next.Status.Quarantined = false
	next.Status.JudgedAgain = &schema.JudgedAgain{At: c.Stamp(), Reason: schema.FitText(why, schema.MaxReasonText)}
	if rev.Status.Phase != schema.PhaseRolledBack {
		next.Release()
		next.Enter(schema.PhaseRollingOut, c.Stamp(), "judged again: "+why)
	}
	c.Tx.Put(next)
	Event(c, next, corev1.EventTypeNormal, "JudgedAgain", "it is judged again: "+why)
	return wake
}

// unproven is until when a pod of the revision's own templates that no readiness
// probe vouches for has merely not crashed yet: it counts as ready from its first
// instant. Zero when there is none.
func unproven(c *Context, src *schema.Source, rev *schema.Revision) time.Time {
	var until time.Time
	for obj := range c.Tx.BySource(schema.KindPod, src.SourceName()) {
		pod := obj.(*corev1.Pod)
		if !active(pod) || !isOwn(c.Tx, rev, pod) || !slices.ContainsFunc(pod.Spec.Containers, func(ctr corev1.Container) bool { return ctr.ReadinessProbe == nil }) {
			continue
		}
		if at := health.ReadySince(pod).Add(orDefault(c.Config.ProofOfLife, DefaultProofOfLife)); at.After(until) {
			until = at
		}
	}
	return until
}

func enter(c *Context, rev *schema.Revision, phase schema.Phase, eventType, reason string) {
	next := state.Edit(rev)
	if !next.Enter(phase, c.Stamp(), reason) {
		return
	}
	c.Tx.Put(next)
	Event(c, next, eventType, string(phase), reason)
}

// noWayBack says why a source stays with a revision that failed; "" when it goes back
// from it, or is told to stay.
func noWayBack(c *Context, src *schema.Source, rev *schema.Revision) string {
	if src.Spec.OnFailure == "hold" || health.GoBackTo(src, revisionsBut(c.Tx, src, rev)) != nil {
		return ""
	}
	return fmt.Sprintf("; not rolled back, because no revision before it has run well for %s", health.HealthyFor(src))
}

// stand writes how a revision stands now, where a word changed or the health's reason
// is of another kind, and returns when it may change by itself.
func stand(c *Context, src *schema.Source, rev *schema.Revision) (wake time.Time) {
	now := health.Stand(c.Tx, src, rev, c.Now)
	now.HealthReason, now.SyncReason = schema.FitText(now.HealthReason, schema.MaxReasonText), schema.FitText(now.SyncReason, schema.MaxReasonText)
	sync, well := standing(rev.Status.Sync, now.Sync, now.SyncReason, c.Stamp()), standing(rev.Status.Health, now.Health, now.HealthReason, c.Stamp())
	if rev.Status.Health == nil && well != nil && well.Word != schema.Degraded && !entered(rev).After(c.Now) {
		well.Since = metav1.NewTime(entered(rev)) // an earlier version did not say
	}
	if equality.Semantic.DeepEqual(rev.Status.Sync, sync) && equality.Semantic.DeepEqual(rev.Status.Health, well) {
		return now.Again
	}
	next := state.Edit(rev)
	prove(c, src, next, sync, well)
	next.Status.Sync, next.Status.Health = sync, well
	if isWell(next) && !isWell(rev) {
		next.Status.Evidence = nil // of what is over
	}
	tellStanding(next, schema.ConditionSynced, sync, schema.Synced, now.Sync)
	tellStanding(next, schema.ConditionHealthy, well, schema.Healthy, string(now.Code))
	c.Tx.Put(next)
	if had := rev.Status.Health; had != nil && well != nil && had.Word != well.Word {
		tellChange(c, next, had.Word, well)
	}
	return now.Again
}

// standing is had where nothing changed.
func standing(had *schema.Standing, word, reason string, at metav1.Time) *schema.Standing {
	switch {
	case word == "":
		return nil
	case had != nil && had.Word == word:
		at = had.Since
	}
	return &schema.Standing{Word: word, Reason: reason, Since: at}
}

// prove notes, before a revision stops being well or is replaced, that it was well for
// as long as its source asks. Until then its health says so by itself, and nothing is
// written while nothing happens.
func prove(c *Context, src *schema.Source, rev *schema.Revision, sync, well *schema.Standing) {
	if rev.Status.ProvenAt != nil || !isWell(rev) || sync != nil && well.Word == schema.Healthy {
		return
	}
	if at := health.ProvenAt(src, rev); !at.After(c.Now) {
		proven := metav1.NewTime(at)
		rev.Status.ProvenAt = &proven
	}
}

// tellStanding says in a condition what a standing says, in place. The last word of a
// revision's health stays when it is replaced; whether it matches Git is then no
// question any more.
func tellStanding(rev *schema.Revision, condition string, now *schema.Standing, good, reason string) {
	at := slices.IndexFunc(rev.Status.Conditions, func(cond metav1.Condition) bool { return cond.Type == condition })
	if now == nil {
		if at >= 0 {
			rev.Status.Conditions = slices.Delete(rev.Status.Conditions, at, at+1)
		}
		return
	}
	cond := metav1.Condition{Type: condition, Status: metav1.ConditionFalse, Reason: reason, Message: now.Reason, LastTransitionTime: now.Since}
	if now.Word == good {
		cond.Status = metav1.ConditionTrue
	}
	if at < 0 {
		rev.Status.Conditions = append(rev.Status.Conditions, cond)
		return
	}
	if rev.Status.Conditions[at].Status == cond.Status {
		cond.LastTransitionTime = rev.Status.Conditions[at].LastTransitionTime
	}
	rev.Status.Conditions[at] = cond
}

// tellChange tells in an event that a revision works no longer, or again: of its
// rollout its phases have told.
func tellChange(c *Context, rev *schema.Revision, had string, now *schema.Standing) {
	switch {
	case now.Word == schema.Degraded:
		Event(c, rev, corev1.EventTypeWarning, schema.Degraded, now.Reason)
	case had == schema.Degraded && now.Word == schema.Healthy:
		Event(c, rev, corev1.EventTypeNormal, "HealthyAgain", now.Reason)
	}
}

// entered is when the revision came into the phase it is in.
func entered(rev *schema.Revision) time.Time {
	if n := len(rev.Status.Phases); n > 0 {
		return rev.Status.Phases[n-1].At.Time
	}
	return rev.CreationTimestamp.Time
}

// outcome is where one workload stands.
type outcome int

const (
	done     outcome = iota
	waiting          // under way, in time
	stalling         // nothing is missing but room or images, or another revision's pods hold it up
	failing          // the revision's own pods cannot get there
)

// judgement is a workload's outcome, its reason, and when it may change by itself.
type judgement struct {
	outcome outcome
	reason  string
	wake    time.Time
}

// judgements judges every workload of the source.
func judgements(c *Context, src *schema.Source, rev *schema.Revision) iter.Seq[judgement] {
	return func(yield func(judgement) bool) {
		for obj := range health.In(c.Tx, src.SourceName()) {
			if !yield(judgeWorkload(c, src, rev, health.Of(c.Tx, obj, c.Now))) {
				return
			}
		}
	}
}

func judgeWorkload(c *Context, src *schema.Source, rev *schema.Revision, of health.Workload) judgement {
	w := workload{Workload: of, name: of.Name(), own: isOwn(c.Tx, rev, of.Object)}
	switch {
	case w.Complete:
		return judgement{outcome: done}
	case w.Unseen, w.Leaving:
		return judgement{outcome: waiting, reason: w.name + ": " + w.Progress()}
	case w.Failed != nil && w.own:
		return judgement{outcome: failing, reason: w.name + ": " + health.Tell(c.Tx, *w.Failed).Text}
	case w.Deadline == 0 && src.Spec.ProgressDeadline != nil:
		w.Deadline = src.Spec.ProgressDeadline.Duration
	case w.Deadline == 0:
		w.Deadline = orDefault(c.Config.ProgressDeadline, DefaultProgressDeadline)
	}
	return w.judge(c, rev)
}

// isOwn reports whether the object's template came with this revision, or with an
// earlier one that never was healthy.
func isOwn(r state.Reader, rev *schema.Revision, obj schema.Object) bool {
	origin := schema.OriginOf(obj)
	if origin.Commit == rev.Spec.Commit {
		return true
	}
	from, ok := state.Revision(r, origin.Revision())
	return ok && !slices.ContainsFunc(from.Status.Phases, func(p schema.PhaseRecord) bool { return p.Name == schema.PhaseHealthy })
}

// workload is one that is not complete, as a revision sees it.
type workload struct {
	health.Workload
	name string
	own  bool // its template is on trial; see isOwn
}

// lacking reports whether a trouble is no fault of the revision.
func lacking(t health.Trouble) bool { return t.Fault == health.Cluster || t.Fault == health.Registry }

// judge weighs the troubles of a workload that is not there yet. Time counts from
// its last progress, or from when the revision went on after a stall. A pod that
// has merely not become ready counts against the revision only after it had the
// whole deadline for itself. Whatever holds up a workload that is not the
// revision's own is no fault of the revision.
func (w workload) judge(c *Context, rev *schema.Revision) judgement {
	if !w.own {
		w.name += ", which this revision did not change"
		w.Troubles = excused(w.Troubles)
	}
	v := judgement{outcome: waiting, reason: w.name + ": " + w.Progress()}
	since := w.Moved
	if at := entered(rev); rev.Status.Phase == schema.PhaseRollingOut && at.After(since) {
		since = at
	}
	if w.stalled(rev) {
		v.reason = w.name + ": " + health.Tell(c.Tx, w.firstLacking()).Text
		due := since.Add(orDefault(c.Config.StallAfter, DefaultStallAfter))
		if rev.Status.Phase == schema.PhaseStalled || !due.After(c.Now) {
			v.outcome = stalling
			return v
		}
		v.wake = due
		return v
	}
	if rev.Status.Phase == schema.PhaseStalled {
		return v
	}
	if due := since.Add(w.Deadline); due.After(c.Now) {
		v.wake = due
		return v
	}
	for t := range w.Troubles {
		if due := t.Since.Add(w.Deadline); t.Fault == health.NoFault && due.After(c.Now) {
			v.wake = earliest(v.wake, due)
			continue
		}
		if !lacking(t) {
			return judgement{outcome: failing, reason: fmt.Sprintf("%s: no progress for %s: %s", w.name, w.Deadline, health.Tell(c.Tx, t).Text)}
		}
	}
	return v
}

// excused are the troubles as those of somebody else.
func excused(troubles iter.Seq[health.Trouble]) iter.Seq[health.Trouble] {
	return func(yield func(health.Trouble) bool) {
		for t := range troubles {
			t.Fault = health.Cluster
			if !yield(t) {
				return
			}
		}
	}
}

// firstLacking is the first trouble that is not the revision's fault; where there is
// none, any trouble.
func (w workload) firstLacking() (first health.Trouble) {
	for first = range w.Troubles {
		if lacking(first) {
			return first
		}
	}
	return first
}

// stalled reports whether room or images are all that is missing. A revision that
// is Stalled already stays so while the same pods try again: only a pod that runs
// or was bound since then is a move.
func (w workload) stalled(rev *schema.Revision) bool {
	some := false
	for t := range w.Troubles {
		some = true
		again := rev.Status.Phase == schema.PhaseStalled && t.Fault == health.NoFault && !t.Running && !t.Since.After(entered(rev))
		if !lacking(t) && !again {
			return false
		}
	}
	return some
}
