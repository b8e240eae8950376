package why

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

var (
	revisionRow = row{
		kind: schema.KindRevision, needed: true,
		tell: tell(func(c *chain, rev *schema.Revision) cause { return c.revision(rev) }),
	}
	sourceRow = row{
		kind: schema.KindSource, needed: true,
		tell: tell(func(c *chain, src *schema.Source) cause { return c.source(src) }),
	}
)

// revision tells where a revision stands, and of the workload that keeps it there.
func (c *chain) revision(rev *schema.Revision) cause {
	c.commitLink(rev)
	c.Evidence = rev.Status.Evidence
	reason, at := lastPhase(rev)
	c.add(rev, Link{Step: "revision", State: string(rev.Status.Phase), OK: rev.Status.Phase == schema.PhaseHealthy || rev.Status.Phase == schema.PhaseSuperseded, At: at})
	switch rev.Status.Phase {
	case schema.PhaseHealthy:
		if src, ok := state.Source(c.r, rev.Spec.Source); !ok || src.Status.Applied.Commit != rev.Spec.Commit {
			return cause{code: health.Healthy, text: reason}
		}
	case schema.PhaseSuperseded:
		return cause{code: health.Superseded, text: reason}
	case schema.PhaseHeld:
		return cause{code: health.HeldCode(rev), text: reason}
	case schema.PhaseRolledBack:
		return cause{code: health.Quarantined, text: "it failed and the cluster " + reason}
	case schema.PhaseInvalid:
		for _, d := range rev.Status.Diagnostics {
			c.Links = append(c.Links, Link{Step: "file", Name: d.Position.String(), State: d.Message, OK: d.Severity != schema.Error})
		}
		return cause{code: health.Invalid, text: reason}
	}
	return c.underWay(rev, reason)
}

func (c *chain) commitLink(rev *schema.Revision) {
	commit := Link{Step: "commit", Name: rev.Spec.Commit.Short(), State: fmt.Sprintf("%q by %s", rev.Spec.Subject, rev.Spec.Author), OK: true}
	if !rev.Spec.Time.IsZero() {
		commit.At = &rev.Spec.Time
	}
	c.Links = append(c.Links, commit)
}

func lastPhase(rev *schema.Revision) (reason string, at *metav1.Time) {
	if n := len(rev.Status.Phases); n > 0 {
		return rev.Status.Phases[n-1].Reason, &rev.Status.Phases[n-1].At
	}
	return "", nil
}

// underWay tells of the worst workload of the revision's source, also when the
// revision was healthy and something went wrong since.
func (c *chain) underWay(rev *schema.Revision, reason string) cause {
	best := cause{code: health.RollingOut, text: reason}
	switch rev.Status.Phase {
	case schema.PhaseHealthy:
		best = cause{code: health.Healthy, text: reason}
	case schema.PhaseFailed:
		best = c.failed(rev, reason)
	case schema.PhaseStalled:
		best = cause{code: health.Stalled, text: reason}
	}
	var of *chain
	for w := range health.In(c.r, rev.Spec.Source) {
		sub := &chain{r: c.r, rows: c.rows}
		found := sub.tellOf(c.rows.Of(schema.KindOf(w)), w)
		if found.worse(best) {
			best, of = found, sub
		}
	}
	if of != nil {
		c.Links = append(c.Links, of.Links...)
		c.about = append(c.about, of.about...)
		if rev.Status.Phase == schema.PhaseHealthy {
			best.text = "the revision was healthy, but now " + best.text
		}
	}
	return best
}

// failed tells what follows from a failure: the source goes back, or stays for
// want of what to go back to, or because it is told to.
func (c *chain) failed(rev *schema.Revision, reason string) cause {
	src, ok := state.Source(c.r, rev.Spec.Source)
	if !ok || src.Spec.OnFailure == "hold" {
		return cause{code: health.Failed, text: reason}
	}
	if health.GoBackTo(src, slices.Collect(state.Revisions(c.r, rev.Spec.Source))) != nil {
		return cause{code: health.RollingOut, text: "the cluster goes back to the last healthy revision: " + reason}
	}
	return cause{code: health.NothingToGoBackTo, text: reason}
}

// source tells what a source runs, what Git asks for, and why they differ.
func (c *chain) source(src *schema.Source) cause {
	applied, desired := src.Status.Applied.Commit, src.Status.Desired.Commit
	l := Link{State: "runs nothing yet", OK: applied == desired && applied != ""}
	switch {
	case applied != "" && applied == desired:
		l.State = "runs " + applied.Short() + ", as Git asks"
	case applied != "":
		l.State = "runs " + applied.Short() + ", Git asks for " + desired.Short()
	}
	c.add(src, l)
	rev, ok := health.Asked(c.r, src)
	trouble, bad := fetchTrouble(src)
	switch {
	case bad && (!ok || rev.Status.Phase == schema.PhaseHealthy):
		return trouble
	case desired == "":
		return cause{code: health.Healthy, text: "branch " + src.Spec.Branch + " has no commit yet"}
	case !ok:
		return cause{code: health.RollingOut, text: "commit " + desired.Short() + " is being looked at"}
	}
	return c.revision(rev)
}

// fetchTrouble is why the source's repository cannot be followed; the reason of the
// condition is a code of ours.
func fetchTrouble(src *schema.Source) (cause, bool) {
	for _, cond := range src.Status.Conditions {
		if cond.Type != schema.ConditionFetched || cond.Status != metav1.ConditionFalse {
			continue
		}
		found := cause{code: health.SourceTrouble, text: cond.Message}
		if code := health.Code(cond.Reason); code.OfSource() {
			found.code = code
		}
		return found, true
	}
	return cause{}, false
}

// unlessGitWantsOther keeps what was found unless the object is well and Git asks
// for a commit that did not succeed: then that is why the object is as it is.
func (c *chain) unlessGitWantsOther(obj schema.Object, found cause) cause {
	src, ok := state.Source(c.r, schema.SourceOf(obj))
	if !ok || found.code != health.Healthy || src.Status.Desired.Commit == src.Status.Applied.Commit {
		return found
	}
	rev, ok := health.Asked(c.r, src)
	if !ok {
		return found
	}
	reason, at := lastPhase(rev)
	var code health.Code
	switch rev.Status.Phase {
	case schema.PhaseInvalid:
		code = health.Invalid
	case schema.PhaseHeld:
		code = health.HeldCode(rev)
	case schema.PhaseRolledBack:
		code = health.Quarantined
	default:
		return found
	}
	c.add(rev, Link{Step: "revision", State: string(rev.Status.Phase) + ", while Git asks for it", At: at})
	c.Evidence = c.evidenceAbout(obj, rev)
	return cause{code: code, text: fmt.Sprintf("%s, from commit %s; commit %s, which Git asks for, did not succeed: %s", found.text, src.Status.Applied.Commit.Short(), rev.Spec.Commit.Short(), reason)}
}

// evidenceAbout is what a revision keeps of the pods of a workload, and of the workload
// that a pod or a replica set is of.
func (c *chain) evidenceAbout(obj schema.Object, rev *schema.Revision) []schema.Evidence {
	for {
		if found := evidenceOf(rev, schema.KeyOf(obj)); len(found) > 0 {
			return found
		}
		ref := metav1.GetControllerOfNoCopy(obj)
		if ref == nil {
			return nil
		}
		info, ok := schema.Lookup(schema.Kind(ref.Kind))
		if !ok {
			return nil
		}
		if obj = c.r.Get(schema.Key{Kind: info.Kind, Namespace: obj.GetNamespace(), Name: ref.Name}); obj == nil {
			return nil
		}
	}
}
