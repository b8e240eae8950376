package reconciler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/control"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// SourceReport is how looking at a source's repository went. It changes what
// the Source says of itself and nothing else: what was applied stays.
type SourceReport struct {
	Source  schema.SourceName
	Reason  string // of schema.ConditionFetched, "" when all is well
	Message string // for a person, the same for the same problem
	// Observed is the commit the repository is at, "" when that is not known.
	Observed schema.Commit
}

func (SourceReport) input() {}

// reportSource records how a source's repository was found. The same report again
// writes nothing.
func reportSource(c *control.Context, in SourceReport) {
	src, ok := state.Source(c.Tx, in.Source)
	if !ok || in.saidBy(src) {
		return
	}
	want, observed := in.says(src)
	want.LastTransitionTime = c.Stamp()
	have := fetched(src)
	next := state.Edit(src)
	next.Status.Observed = observed
	setCondition(&next.Status.Conditions, want)
	c.Tx.Put(next)
	switch {
	case in.Reason != "" && in.Reason != have.Reason:
		control.Event(c, next, corev1.EventTypeWarning, in.Reason, want.Message)
	case in.Reason == "" && have.Status == metav1.ConditionFalse:
		control.Event(c, next, corev1.EventTypeNormal, schema.ReasonFetched, want.Message)
	}
}

// says is the condition that a Source has of its repository, and the commit that it is at.
func (in SourceReport) says(src *schema.Source) (metav1.Condition, schema.CommitRef) {
	want := metav1.Condition{Type: schema.ConditionFetched, Status: metav1.ConditionTrue, Reason: schema.ReasonFetched}
	want.Message = schema.FitText(in.Message, schema.MaxReasonText)
	if in.Reason != "" {
		want.Status, want.Reason = metav1.ConditionFalse, in.Reason
	}
	switch in.Observed {
	case "", src.Status.Observed.Commit:
		return want, src.Status.Observed
	case src.Status.Desired.Commit:
		return want, src.Status.Desired
	}
	return want, schema.CommitRef{Commit: in.Observed}
}

// saidBy reports whether the Source says so already.
func (in SourceReport) saidBy(src *schema.Source) bool {
	want, observed := in.says(src)
	have := fetched(src)
	return have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message && observed == src.Status.Observed
}

// fetched is what a Source says of its repository, the zero Condition at first.
func fetched(src *schema.Source) metav1.Condition {
	if have := meta.FindStatusCondition(src.Status.Conditions, schema.ConditionFetched); have != nil {
		return *have
	}
	return metav1.Condition{}
}
