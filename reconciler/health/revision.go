package health

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Applied is the revision that the cluster's objects of a source come from; false
// before there is one.
func Applied(r state.Reader, src *schema.Source) (*schema.Revision, bool) {
	return revisionOf(r, src.SourceName(), src.Status.Applied.Commit)
}

// Asked is the revision that Git asks for; false before there is one.
func Asked(r state.Reader, src *schema.Source) (*schema.Revision, bool) {
	return revisionOf(r, src.SourceName(), src.Status.Desired.Commit)
}

func revisionOf(r state.Reader, source schema.SourceName, commit schema.Commit) (*schema.Revision, bool) {
	if commit == "" {
		return nil, false
	}
	return state.Revision(r, schema.RevisionOf(source, commit))
}

// Means reports whether a user who says want may mean the revision: by its name, or
// by how its commit begins.
func Means(rev *schema.Revision, want string) bool {
	return want != "" && (rev.Name == want || strings.HasPrefix(string(rev.Spec.Commit), want))
}

// commitDigits is how many digits a commit has, shortDigits how many of them stand in
// a revision's name.
const commitDigits, shortDigits = 40, 12

// MayMean reports whether a revision that is yet to come could be what a user means:
// want is the name of one of the source's, or how a commit begins.
func MayMean(source schema.SourceName, want string) bool {
	commit, named := source.CommitIn(want)
	of := len(commit)
	return 0 < of && of <= commitDigits && (!named || of == shortDigits) && strings.Trim(string(commit), "0123456789abcdef") == ""
}

// FindRevisions are those of the revisions that a user may mean, by name.
func FindRevisions(revs []*schema.Revision, want string) []*schema.Revision {
	var found []*schema.Revision
	for _, rev := range revs {
		if Means(rev, want) {
			found = append(found, rev)
		}
	}
	slices.SortFunc(found, func(a, b *schema.Revision) int { return cmp.Compare(a.Name, b.Name) })
	return found
}

// SeveralRevisions refuses a name that may mean several revisions.
func SeveralRevisions(want string, found []*schema.Revision) error {
	names := make([]string, len(found))
	for i, rev := range found {
		names[i] = rev.Name
	}
	return fmt.Errorf("%q is more than one revision: %s", want, strings.Join(names, ", "))
}

// GoBackTo is the one of a source's revisions that takes the place of a failed one:
// the one that was healthy last of those that have run well for the source's
// healthyFor. Where there is none it is the last one that was well until another took
// its place, or was not for a reason of the cluster's: what nobody had the time to
// prove is better than what failed. Nil if there is none of those either.
func GoBackTo(src *schema.Source, revs []*schema.Revision) *schema.Revision {
	var proven, unproven *schema.Revision
	for _, rev := range revs {
		switch {
		case rev.Status.Quarantined, rev.Status.Phase == schema.PhaseFailed, LacksWayBack(rev), rev.Entered(schema.PhaseHealthy).IsZero():
		case ranWell(src, rev):
			proven = later(proven, rev)
		case wasWell(rev):
			unproven = later(unproven, rev)
		}
	}
	return cmp.Or(proven, unproven)
}

// ranWell reports whether a revision has run well for long enough. One that runs and
// is well does as well as it can be known; one of before this was watched counts as
// it did then.
func ranWell(src *schema.Source, rev *schema.Revision) bool {
	now := rev.Status.Health
	return rev.Status.ProvenAt != nil || now == nil || now.Word == schema.Healthy && src.Status.Applied.Commit == rev.Spec.Commit
}

// wasWell reports whether nothing was known against a revision when it was replaced.
func wasWell(rev *schema.Revision) bool {
	switch rev.Status.Health.Word {
	case schema.Healthy:
		return true
	case schema.Degraded:
		_, rule := RuleOf(codeOf(rev))
		return rule.Fault == Cluster || rule.Fault == Registry
	}
	return false
}

func later(a, b *schema.Revision) *schema.Revision {
	if a == nil || cmp.Or(a.Entered(schema.PhaseHealthy).Compare(b.Entered(schema.PhaseHealthy)), cmp.Compare(a.ResourceVersion, b.ResourceVersion)) < 0 {
		return b
	}
	return a
}

// codeOf is the code of why the revision is as healthy as it is.
func codeOf(rev *schema.Revision) Code {
	for _, cond := range rev.Status.Conditions {
		if cond.Type != schema.ConditionHealthy {
			continue
		}
		if code := Code(cond.Reason); slices.ContainsFunc(rules, func(r Rule) bool { return r.Code == code }) {
			return code
		}
	}
	return Unknown
}

// heldCodes are the reasons for which a guard holds a revision.
var heldCodes = map[string]Code{
	schema.ReasonPruneGuard:  PruneGuard,
	schema.ReasonTreeEmpty:   TreeEmpty,
	schema.ReasonQuarantined: Quarantined,
	schema.ReasonNoWayBack:   NoWayBack,
}

// HeldCode is why a guard holds a revision.
func HeldCode(rev *schema.Revision) Code {
	for _, cond := range rev.Status.Conditions {
		if code, ok := heldCodes[cond.Reason]; ok && cond.Type == schema.ConditionHeld {
			return code
		}
	}
	return Held
}

// LacksWayBack reports whether a revision failed and is held because what was healthy
// before it could not be applied.
func LacksWayBack(rev *schema.Revision) bool {
	return rev.Status.Phase == schema.PhaseHeld && HeldCode(rev) == NoWayBack
}

// Standing is how a revision stands now. An empty word is none: it neither runs nor
// does Git ask for it, or it was never applied.
type Standing struct {
	Sync, SyncReason     string
	Health, HealthReason string
	Code                 Code
	Again                time.Time // when it may change by itself; zero for never
}

// Stand is how a revision of the source stands at now. Only of the one that is
// applied does its health change: any other keeps what it had.
func Stand(r state.Reader, src *schema.Source, rev *schema.Revision, now time.Time) Standing {
	s := Standing{Code: codeOf(rev)}
	if had := rev.Status.Health; had != nil {
		s.Health, s.HealthReason = had.Word, had.Reason
	}
	if src.Status.Applied.Commit == rev.Spec.Commit {
		s.judgeHealth(r, src, rev, now)
	}
	s.judgeSync(r, src, rev)
	return s
}

func (s *Standing) judgeHealth(r state.Reader, src *schema.Source, rev *schema.Revision, now time.Time) {
	switch rev.Status.Phase {
	case schema.PhaseRollingOut:
		s.Health, s.Code, s.HealthReason = schema.Progressing, RollingOut, lastReason(rev)
	case schema.PhaseStalled:
		s.Health, s.Code, s.HealthReason = schema.Progressing, Stalled, lastReason(rev)
	case schema.PhaseFailed, schema.PhaseHeld:
		s.Health, s.Code, s.HealthReason = schema.Failed, Failed, lastReason(rev)
	default: // it was healthy, or a newer one came that was not applied
		s.judgeWorkloads(r, src, rev, now)
	}
}

// judgeWorkloads is the health of a revision whose rollout is over. A pod that
// ends again and again is up now and then: one that was restarted makes its revision
// well again only once it has been ready for the source's healthyFor.
func (s *Standing) judgeWorkloads(r state.Reader, src *schema.Source, rev *schema.Revision, now time.Time) {
	worst, of := worstIn(r, src.SourceName(), now)
	switch {
	case of != nil && of.Unseen:
		// What its controller has not looked at says nothing, as after a lost store.
	case of != nil && rev.Entered(schema.PhaseHealthy).IsZero():
		s.Health, s.Code, s.HealthReason = schema.Progressing, RollingOut, lastReason(rev)
	case of == nil && s.Health == schema.Degraded:
		if s.Again = restless(r, src, s.blamesRevision() || showsFault(rev), now); s.Again.After(now) {
			return
		}
		fallthrough
	case of == nil:
		s.Again = time.Time{}
		s.Health, s.Code, s.HealthReason = schema.Healthy, Healthy, lastReason(rev)
	case s.Health == schema.Degraded && (worst.Code == s.Code || worst.Fault == NoFault && s.blamesRevision()):
		// The same again, or a moment in which it tries once more.
	default:
		s.Health, s.Code = schema.Degraded, worst.Code
		s.HealthReason = fmt.Sprintf("%s: %s: %s", of.Name(), of.Progress(), Tell(r, worst).Text)
	}
}

func (s *Standing) blamesRevision() bool {
	_, rule := RuleOf(s.Code)
	return rule.Fault == Revision
}

// showsFault reports whether a revision's pods showed, since it was well, that it is to
// blame. What is told now may be another cause: a node that fell silent hides a crash loop
// on it.
func showsFault(rev *schema.Revision) bool {
	return slices.ContainsFunc(rev.Status.Evidence, func(e schema.Evidence) bool {
		return slices.ContainsFunc(rules, func(r Rule) bool { return r.Code == Code(e.Code) && r.Fault == Revision })
	})
}

// mostLookedAt is how many troubles of a source are weighed against each other: where
// there are thousands, the first ones tell enough.
const mostLookedAt = 20

// worstIn is the worst trouble of a source's workloads, and whose it is; nil when all
// are complete, and one that no controller has looked at while there is one.
func worstIn(r state.Reader, source schema.SourceName, now time.Time) (worst Trouble, of *Workload) {
	looked := 0
	for obj := range In(r, source) {
		w := Of(r, obj, now)
		switch {
		case w.Complete:
			continue
		case w.Unseen:
			return Trouble{}, &w
		}
		found := newTrouble(RollingOut, "not all of its pods are there")
		for t := range w.Troubles {
			if looked++; looked > mostLookedAt {
				break
			}
			if found.yields(t) {
				found = t
			}
		}
		if of == nil || found.Worse(worst) {
			worst, of = found, &w
		}
		if looked > mostLookedAt {
			break
		}
	}
	return worst, of
}

// RunsWell reports whether all workloads of a source are complete, and have been for long
// enough where their pods were restarted.
func RunsWell(r state.Reader, src *schema.Source, now time.Time) bool {
	_, of := worstIn(r, src.SourceName(), now)
	return of == nil && !restless(r, src, true, now).After(now)
}

// restless is until when a pod of the source that was restarted has not been ready for
// the source's healthyFor; zero when there is none. What was started again because its
// node booted did not end by itself; it counts only where the pods were to blame before,
// for then the boot interrupted a crash loop and did not end it.
func restless(r state.Reader, src *schema.Source, blamed bool, now time.Time) (until time.Time) {
	restarted := func(s corev1.ContainerStatus) bool {
		last := s.LastTerminationState.Terminated
		return s.RestartCount > 0 && (blamed || last == nil || last.Reason != schema.ReasonNodeRebooted)
	}
	for obj := range In(r, src.SourceName()) {
		for pod := range Of(r, obj, now).Pods {
			if at := ReadySince(pod).Add(HealthyFor(src)); slices.ContainsFunc(Staying(pod), restarted) && at.After(until) {
				until = at
			}
		}
	}
	return until
}

// HealthyFor is how long a revision of the source must run well to be gone back to.
func HealthyFor(src *schema.Source) time.Duration {
	if src.Spec.HealthyFor == nil {
		return schema.DefaultHealthyFor
	}
	return src.Spec.HealthyFor.Duration
}

// ProvenAt is when a revision that is well has run well for long enough.
func ProvenAt(src *schema.Source, rev *schema.Revision) time.Time {
	return rev.Status.Health.Since.Add(HealthyFor(src)).Truncate(time.Second)
}

// IsProven reports whether a revision has run well for long enough. Of one that is well it
// is written only when it stops being so or is replaced.
func IsProven(src *schema.Source, rev *schema.Revision, now time.Time) bool {
	well := rev.Status.Health
	return rev.Status.ProvenAt != nil || well != nil && well.Word == schema.Healthy && !ProvenAt(src, rev).After(now)
}

func (s *Standing) judgeSync(r state.Reader, src *schema.Source, rev *schema.Revision) {
	applied, asked := src.Status.Applied.Commit == rev.Spec.Commit, src.Status.Desired.Commit == rev.Spec.Commit
	switch {
	case applied && asked:
		s.Sync, s.SyncReason = schema.Synced, "its objects are applied"
		if there, of := objectsThere(r, src.SourceName(), rev); there < of {
			s.Sync, s.SyncReason = schema.Drifted, fmt.Sprintf("%d of the %d objects that it asks for are there", there, of)
		}
	case applied:
		s.Sync, s.SyncReason = schema.Held, "it runs instead of "+askedFor(r, src)
	case asked && rev.Status.Phase == schema.PhaseInvalid:
		s.Sync, s.SyncReason = schema.Invalid, lastReason(rev)
	case asked:
		s.Sync, s.SyncReason = schema.Held, lastReason(rev)
	}
}

func askedFor(r state.Reader, src *schema.Source) string {
	rev, ok := Asked(r, src)
	if !ok {
		return "commit " + string(src.Status.Desired.Commit) + ", which Git asks for"
	}
	return fmt.Sprintf("%s, which Git asks for and which is %s", rev.Name, rev.Status.Phase)
}

// objectsThere counts a source's objects, once the rollout of its revision is over. An
// object that goes by itself, as a bare pod does with its node, is not made again
// before the next commit.
func objectsThere(r state.Reader, source schema.SourceName, rev *schema.Revision) (there, of int) {
	of = rev.Status.Counts.Objects
	if of == 0 || rev.Status.Phase != schema.PhaseHealthy {
		return 0, 0
	}
	there = CountObjects(r, source)
	if src, ok := state.Source(r, source); ok {
		for _, did := range src.Status.Finished {
			if !did.Left {
				there++ // what did its work is not missing
			}
		}
	}
	return there, of
}

// CountObjects counts the objects that a source has put itself.
func CountObjects(r state.Reader, source schema.SourceName) (n int) {
	for _, info := range schema.Kinds() {
		if !info.Desired {
			continue
		}
		objects := r.BySource(info.Kind, source)
		if row := rows.Of(info.Kind); row != nil && row.in.Do != nil {
			objects = row.in.Do(r, source) // most of a source's pods are made by others
		}
		for obj := range objects {
			if metav1.GetControllerOfNoCopy(obj) == nil {
				n++
			}
		}
	}
	return n
}

func lastReason(rev *schema.Revision) string {
	if n := len(rev.Status.Phases); n > 0 {
		return rev.Status.Phases[n-1].Reason
	}
	return ""
}
