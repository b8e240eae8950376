package reconciler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/control"
	"fairlead/reconciler/health"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// accept applies a candidate, or records why it changes nothing.
func accept(c *control.Context, cand Candidate) {
	src, ok := state.Source(c.Tx, cand.Source)
	if !ok {
		return
	}
	if cand.JudgedUnder != "" && cand.JudgedUnder != settle.JudgedUnder(c.Tx, cand.Source) {
		return
	}
	if cand.RollbackOf != "" {
		goBack(c, src, cand)
		return
	}
	ref := schema.CommitRef{Commit: cand.Commit.Hash, Tree: cand.Tree}
	again := src.Status.Desired == ref
	misjudged := again && settle.JudgesAgain(c.Tx, src)
	if again && !misjudged && !waitsForOthers(c.Tx, src) && !judgedUnderOthers(c.Tx, src) {
		return
	}
	next := state.Edit(src)
	next.Status.Observed, next.Status.Desired, next.Status.JudgedUnder = ref, ref, cand.JudgedUnder
	changes, diags := settle.Difference(c.Tx, cand.Source, cand.Objects)
	diags = slices.Concat(cand.Diagnostics, diags, cand.alsoRefused(c.Tx))
	if again && staysAsJudged(c.Tx, src, len(changes), diags) {
		if next.Status.JudgedUnder != src.Status.JudgedUnder {
			c.Tx.Put(next)
		}
		return
	}
	rev := newRevision(c, cand)
	supersede(c, rev, src.Status.Applied.Commit)
	rev.Status.Diagnostics = diags.Fit()
	if bad := schema.Diagnostics(rev.Status.Diagnostics); bad.HasErrors() {
		refuse(c, next, rev, schema.PhaseInvalid, firstError(bad)+untilOthersChange(bad))
		return
	}
	planned(c, rev, cand, changes)
	if holds := settle.Guard(c.Tx, src, cand.Tree, len(cand.Objects), changes, cand.Overrides); len(holds) > 0 {
		hold(c, next, rev, holds[0].Reason, strings.Join(settle.Messages(holds), "; "))
		return
	}
	supersede(c, rev, "")
	if misjudged {
		rev.Enter(schema.PhaseRollingOut, c.Stamp(), "applied again: "+rev.Status.JudgedAgain.Reason)
	}
	rev.Enter(schema.PhaseRollingOut, c.Stamp(), "applied")
	next.Status.Applied, next.Status.SecretKiB = ref, secretKiB(cand.secrets.size())
	next.Status.Finished = settle.Finished(c.Tx, src, cand.Objects, changes, false)
	next.Status.GivenUp = settle.GivesUp(c.Tx, src, cand.Objects, changes, c.Now)
	completed(c, next, len(changes))
	tell(c, next, metav1.ConditionTrue, "Applied", "commit "+ref.Commit.Short()+" is applied")
	c.Tx.Put(next)
	c.Tx.Put(rev)
	settle.Apply(c, changes)
	forgetRevisions(c, src, ref.Commit)
}

// planned records what a valid revision changes, and its plan.
func planned(c *control.Context, rev *schema.Revision, cand Candidate, changes []settle.ObjectChange) {
	rev.Enter(schema.PhaseValid, c.Stamp(), countObjects(len(cand.Objects)))
	rev.Status.Counts = countChanges(changes)
	rev.Status.Counts.Objects = len(cand.Objects)
	if cand.Plan != nil {
		placements := cand.Plan.Placements()
		rev.Status.Placements = schema.FitPlacements(placements)
		rev.Status.Counts.Pods = len(placements)
		rev.Enter(schema.PhasePlanned, c.Stamp(), cand.Plan.Summary())
	}
}

// refuse records a revision that changes nothing; what was applied stays.
func refuse(c *control.Context, src *schema.Source, rev *schema.Revision, phase schema.Phase, reason string) {
	rev.Enter(phase, c.Stamp(), reason)
	tell(c, src, metav1.ConditionFalse, string(phase), reason)
	c.Tx.Put(src)
	c.Tx.Put(rev)
	forgetRevisions(c, src, src.Status.Applied.Commit)
}

// hold refuses a revision for a guard's reason, one of schema.ConditionHeld's.
func hold(c *control.Context, src *schema.Source, rev *schema.Revision, reason, message string) {
	setCondition(&rev.Status.Conditions, metav1.Condition{Type: schema.ConditionHeld, Status: metav1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: c.Stamp()})
	refuse(c, src, rev, schema.PhaseHeld, message)
}

// goBack applies the last healthy revision in place of one that failed. Git still
// asks for the failed one, or for a later one that was not applied; the failed tree is
// not taken again unless a commit says so.
func goBack(c *control.Context, src *schema.Source, cand Candidate) {
	failed, to := settle.GoesBackTo(c.Tx, src)
	if failed == nil || schema.RevisionName(failed.Name) != cand.RollbackOf || to.Spec.Commit != cand.Commit.Hash {
		return
	}
	if health.LacksWayBack(failed) && health.RunsWell(c.Tx, src, c.Now) {
		resume(c, src, failed)
		return
	}
	next := state.Edit(src)
	why := failure(failed)
	changes, diags := settle.DifferenceBack(c.Tx, cand.Source, cand.Objects)
	if bad := slices.Concat(cand.Diagnostics, diags); bad.HasErrors() {
		if slices.ContainsFunc(bad, func(d schema.Diagnostic) bool { return d.Severity == schema.Error && d.Elsewhere }) {
			// Kept for a way that others bar, it would only be in theirs.
			next.Status.GivenUp = nil
		}
		holdFailed(c, next, failed, fmt.Sprintf("%s; going back to %s is not possible: %s", why, to.Spec.Commit.Short(), firstError(bad)))
		return
	}
	gone := state.Edit(failed)
	gone.Release()
	gone.Status.Quarantined = true
	gone.Status.RolledBackTo = to.Spec.Commit
	gone.Enter(schema.PhaseRolledBack, c.Stamp(), "went back to "+to.Spec.Commit.Short()+": "+why)
	c.Tx.Put(gone)
	control.Event(c, gone, "Warning", string(schema.PhaseRolledBack), phaseReason(gone))
	back := state.Edit(to)
	if cand.Plan != nil {
		back.Status.Placements = schema.FitPlacements(cand.Plan.Placements())
	}
	back.Enter(schema.PhaseRollingOut, c.Stamp(), "rolling back from "+failed.Name)
	c.Tx.Put(back)
	next.Status.Finished, next.Status.GivenUp = settle.Finished(c.Tx, src, cand.Objects, changes, true), nil
	next.Status.Applied, next.Status.SecretKiB = schema.CommitRef{Commit: cand.Commit.Hash, Tree: cand.Tree}, secretKiB(cand.secrets.size())
	tell(c, next, metav1.ConditionFalse, string(schema.PhaseRolledBack), wentBack(c.Tx, src, failed, to))
	c.Tx.Put(next)
	settle.Apply(c, changes)
}

// resume judges the rollout of a failed revision again that could not be gone back from
// and runs well by now: going back from it would only do harm.
func resume(c *control.Context, src *schema.Source, failed *schema.Revision) {
	const why = "judged again: everything runs well by now"
	next := state.Edit(failed)
	next.Release()
	next.Enter(schema.PhaseRollingOut, c.Stamp(), why)
	c.Tx.Put(next)
	control.Event(c, next, "Normal", "JudgedAgain", "it is "+why)
	if src.Status.Desired.Commit != failed.Spec.Commit {
		return // the source tells of what Git asks for
	}
	told := state.Edit(src)
	tell(c, told, metav1.ConditionTrue, "Applied", "commit "+failed.Spec.Commit.Short()+" is applied")
	c.Tx.Put(told)
}

// holdFailed holds a failed revision that cannot be gone back from now. Every look tries
// again: what is in the way may go.
func holdFailed(c *control.Context, src *schema.Source, failed *schema.Revision, why string) {
	why = schema.FitText(why, schema.MaxReasonText)
	if failed.Status.Phase == schema.PhaseHeld && phaseReason(failed) == why {
		return
	}
	next := state.Edit(failed)
	next.Leave(schema.PhaseHeld)
	hold(c, src, next, schema.ReasonNoWayBack, why)
}

// failure is why a revision failed.
func failure(rev *schema.Revision) string {
	for _, p := range slices.Backward(rev.Status.Phases) {
		if p.Name == schema.PhaseFailed {
			return p.Reason
		}
	}
	return phaseReason(rev)
}

// wentBack tells which commit runs after going back, which one Git asks for, and why
// they differ.
func wentBack(r state.Reader, src *schema.Source, failed, to *schema.Revision) string {
	why := failure(failed)
	asked, ok := health.Asked(r, src)
	if !ok || asked.Name == failed.Name {
		return fmt.Sprintf("Git asks for %s, which failed (%s); %s runs", failed.Spec.Commit.Short(), why, to.Spec.Commit.Short())
	}
	return fmt.Sprintf("Git asks for %s, which is %s (%s); %s, which was applied, failed (%s); %s runs",
		asked.Spec.Commit.Short(), asked.Status.Phase, phaseReason(asked), failed.Spec.Commit.Short(), why, to.Spec.Commit.Short())
}

func phaseReason(rev *schema.Revision) string {
	if n := len(rev.Status.Phases); n > 0 {
		return rev.Status.Phases[n-1].Reason
	}
	return ""
}

// tell sets the source's condition Ready: whether it runs what Git asks for.
func tell(c *control.Context, src *schema.Source, status metav1.ConditionStatus, reason, message string) {
	setCondition(&src.Status.Conditions, metav1.Condition{Type: "Ready", Status: status, Reason: reason, Message: message, LastTransitionTime: c.Stamp()})
}

func newRevision(c *control.Context, cand Candidate) *schema.Revision {
	name := schema.RevisionOf(cand.Source, cand.Commit.Hash)
	commit := cand.Commit.Fit()
	rev := &schema.Revision{
		ObjectMeta: metav1.ObjectMeta{Name: string(name), CreationTimestamp: c.Stamp()},
		Spec: schema.RevisionSpec{
			Source: cand.Source, Commit: commit.Hash, Tree: cand.Tree,
			Author: commit.Author, Subject: commit.Subject, Time: metav1.NewTime(commit.Time), Pusher: schema.FitText(cand.Pusher, schema.MaxCommitText),
		},
	}
	if len(cand.Commit.Parents) > 0 {
		rev.Spec.Parent = cand.Commit.Parents[0]
	}
	if old, ok := state.Revision(c.Tx, name); ok {
		rev.ObjectMeta = *old.ObjectMeta.DeepCopy()
		rev.Status.ProvenAt, rev.Status.JudgedAgain = old.Status.ProvenAt, old.Status.JudgedAgain
	}
	rev.Enter(schema.PhaseSeen, c.Stamp(), "")
	rev.Status.Seen = c.Tx.Counters().ResourceVersion + 1
	return rev
}

// supersede ends what is still under way of the source's other revisions, except for
// the commit that is spared: what runs is judged until another one is applied.
func supersede(c *control.Context, by *schema.Revision, spared schema.Commit) {
	for rev := range state.Revisions(c.Tx, by.Spec.Source) {
		switch rev.Status.Phase {
		case schema.PhaseRollingOut, schema.PhaseStalled, schema.PhaseHeld:
		default:
			continue
		}
		if rev.Name == by.Name || rev.Spec.Commit == spared {
			continue
		}
		next := state.Edit(rev)
		next.Enter(schema.PhaseSuperseded, c.Stamp(), "by "+by.Name)
		next.Release()
		c.Tx.Put(next)
	}
}

// forgetRevisions drops the oldest revisions, but never the one that is applied from
// now on nor the one to go back to from it. The source is as it was until now.
func forgetRevisions(c *control.Context, src *schema.Source, applied schema.Commit) {
	revs := slices.Collect(state.Revisions(c.Tx, src.SourceName()))
	over := len(revs) - schema.KeptRevisions
	if over <= 0 {
		return
	}
	slices.SortFunc(revs, func(a, b *schema.Revision) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	healthy := health.GoBackTo(src, revs)
	for _, rev := range revs[:over] {
		if rev != healthy && rev.Spec.Commit != applied {
			c.Tx.Delete(schema.KeyOf(rev))
		}
	}
}

func countChanges(changes []settle.ObjectChange) schema.RevisionCounts {
	var n schema.RevisionCounts
	for _, ch := range changes {
		switch ch.Action {
		case settle.Create:
			n.Created++
		case settle.Update, settle.Replace:
			n.Changed++
		case settle.Prune:
			n.Pruned++
		}
	}
	return n
}

func countObjects(n int) string {
	if n == 1 {
		return "1 object"
	}
	return fmt.Sprintf("%d objects", n)
}

func firstError(ds schema.Diagnostics) string {
	for _, d := range ds {
		if d.Severity == schema.Error {
			return d.String()
		}
	}
	return ""
}

// setCondition keeps the transition time where the status did not change, and of the
// message what can be kept.
func setCondition(conditions *[]metav1.Condition, want metav1.Condition) {
	want.Message = schema.FitText(want.Message, schema.MaxReasonText)
	i := slices.IndexFunc(*conditions, func(c metav1.Condition) bool { return c.Type == want.Type })
	if i < 0 {
		*conditions = append(*conditions, want)
		return
	}
	if (*conditions)[i].Status == want.Status {
		want.LastTransitionTime = (*conditions)[i].LastTransitionTime
	}
	(*conditions)[i] = want
}
