package why

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// revision tells where a revision stands, and of the workload that keeps it there.
func (c *chain) revision(rev *schema.Revision) cause {
	commit := Link{Step: "commit", Name: short(rev.Spec.Commit), State: fmt.Sprintf("%q by %s", rev.Spec.Subject, rev.Spec.Author), OK: true}
	if !rev.Spec.Time.IsZero() {
		commit.At = &rev.Spec.Time
	}
	c.Links = append(c.Links, commit)
	reason, at := lastPhase(rev)
	c.add(rev, Link{Step: "revision", State: string(rev.Status.Phase), OK: rev.Status.Phase == schema.PhaseHealthy || rev.Status.Phase == schema.PhaseSuperseded, At: at})
	switch rev.Status.Phase {
	case schema.PhaseHealthy:
		if src, ok := state.Get[*schema.Source](c.r, "", rev.Spec.Source); !ok || src.Status.Applied.Commit != rev.Spec.Commit {
			return cause{code: Healthy, text: reason}
		}
	case schema.PhaseSuperseded:
		return cause{code: Superseded, text: reason}
	case schema.PhaseHeld:
		return cause{code: heldCode(rev), text: reason}
	case schema.PhaseRolledBack:
		return cause{code: Quarantined, text: "it failed and the cluster went back " + reason}
	case schema.PhaseInvalid:
		for _, d := range rev.Status.Diagnostics {
			c.Links = append(c.Links, Link{Step: "file", Name: d.Position.String(), State: d.Message, OK: d.Severity != schema.Error})
		}
		return cause{code: Invalid, text: reason}
	}
	return c.underWay(rev, reason)
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
	best := cause{code: RollingOut, text: reason}
	switch rev.Status.Phase {
	case schema.PhaseHealthy:
		best = cause{code: Healthy, text: reason}
	case schema.PhaseFailed:
		best = c.failed(rev, reason)
	case schema.PhaseStalled:
		best = cause{code: Stalled, text: reason}
	}
	var of *chain
	for _, w := range c.workloads(rev.Spec.Source) {
		sub := &chain{r: c.r}
		var found cause
		switch w := w.(type) {
		case *appsv1.Deployment:
			found = sub.deployment(w)
		case *corev1.Pod:
			found = sub.pod(w)
		}
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

// heldCodes are the reasons for which a guard holds a revision.
var heldCodes = map[string]Code{
	schema.ReasonPruneGuard:  PruneGuard,
	schema.ReasonTreeEmpty:   TreeEmpty,
	schema.ReasonQuarantined: Quarantined,
	schema.ReasonNoWayBack:   NoWayBack,
}

func heldCode(rev *schema.Revision) Code {
	for _, cond := range rev.Status.Conditions {
		if code, ok := heldCodes[cond.Reason]; ok && cond.Type == schema.ConditionHeld {
			return code
		}
	}
	return Held
}

// failed tells what follows from a failure: the source goes back, or stays for
// want of what to go back to, or because it is told to.
func (c *chain) failed(rev *schema.Revision, reason string) cause {
	src, ok := state.Get[*schema.Source](c.r, "", rev.Spec.Source)
	if !ok || src.Spec.OnFailure == "hold" {
		return cause{code: Failed, text: reason}
	}
	for other := range state.By[*schema.Revision](c.r, state.RevisionsBySource, rev.Spec.Source) {
		if other.Name != rev.Name && other.GoodToGoBackTo() {
			return cause{code: RollingOut, text: "the cluster goes back to the last healthy revision: " + reason}
		}
	}
	return cause{code: NothingToGoBackTo, text: reason}
}

// workloads are the source's deployments and bare pods, in key order.
func (c *chain) workloads(source string) (out []schema.Object) {
	for d := range c.r.BySource(schema.KindDeployment, source) {
		out = append(out, d)
	}
	for pod := range state.By[*corev1.Pod](c.r, state.PodsByOwner, "") {
		if schema.OriginOf(pod).Source == source {
			out = append(out, pod)
		}
	}
	return out
}

// source tells what a source runs, what Git asks for, and why they differ.
func (c *chain) source(src *schema.Source) cause {
	applied, desired := src.Status.Applied.Commit, src.Status.Desired.Commit
	l := Link{State: "runs nothing yet", OK: applied == desired && applied != ""}
	switch {
	case applied != "" && applied == desired:
		l.State = "runs " + short(applied) + ", as Git asks"
	case applied != "":
		l.State = "runs " + short(applied) + ", Git asks for " + short(desired)
	}
	c.add(src, l)
	rev, ok := state.Get[*schema.Revision](c.r, "", schema.RevisionName(src.Name, desired))
	trouble, bad := fetchTrouble(src)
	switch {
	case bad && (!ok || rev.Status.Phase == schema.PhaseHealthy):
		return trouble
	case desired == "":
		return cause{code: Healthy, text: "branch " + src.Spec.Branch + " has no commit yet"}
	case !ok:
		return cause{code: RollingOut, text: "commit " + short(desired) + " is being looked at"}
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
		found := cause{code: SourceTrouble, text: cond.Message}
		if slices.ContainsFunc(sourceRules, func(r rule) bool { return r.code == Code(cond.Reason) }) {
			found.code = Code(cond.Reason)
		}
		return found, true
	}
	return cause{}, false
}

// unlessGitWantsOther keeps what was found unless the object is well and Git asks
// for a commit that did not come through: then that is why the object is as it is.
func (c *chain) unlessGitWantsOther(obj schema.Object, found cause) cause {
	src, ok := state.Get[*schema.Source](c.r, "", schema.OriginOf(obj).Source)
	if !ok || found.code != Healthy || src.Status.Desired.Commit == src.Status.Applied.Commit {
		return found
	}
	rev, ok := state.Get[*schema.Revision](c.r, "", schema.RevisionName(src.Name, src.Status.Desired.Commit))
	if !ok {
		return found
	}
	reason, at := lastPhase(rev)
	var code Code
	switch rev.Status.Phase {
	case schema.PhaseInvalid:
		code = Invalid
	case schema.PhaseHeld:
		code = heldCode(rev)
	case schema.PhaseRolledBack:
		code = Quarantined
	default:
		return found
	}
	c.add(rev, Link{Step: "revision", State: string(rev.Status.Phase) + ", while Git asks for it", At: at})
	return cause{code: code, text: fmt.Sprintf("%s, from commit %s; commit %s, which Git asks for, did not come through: %s", found.text, short(src.Status.Applied.Commit), short(rev.Spec.Commit), reason)}
}
