package reconciler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/control"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// SourceTrouble is how looking at a source's repository went. It changes what
// the Source says of itself and nothing else: what was applied stays.
type SourceTrouble struct {
	Source  string
	Reason  string // of schema.ConditionFetched, "" when all is well
	Message string // for a person, the same for the same trouble
	// Observed is the commit the repository is at, "" when that is not known.
	Observed string
}

func (SourceTrouble) input() {}

// trouble records how a source's repository was found. The same word again
// writes nothing.
func trouble(c *control.Context, in SourceTrouble) {
	src, ok := state.Get[*schema.Source](c.Tx, "", in.Source)
	if !ok {
		return
	}
	in.Message = schema.FitText(in.Message, schema.MaxReasonText)
	want := metav1.Condition{Type: schema.ConditionFetched, Status: metav1.ConditionTrue, Reason: schema.ReasonFetched, Message: in.Message, LastTransitionTime: c.Stamp()}
	if in.Reason != "" {
		want.Status, want.Reason = metav1.ConditionFalse, in.Reason
	}
	at := slices.IndexFunc(src.Status.Conditions, func(have metav1.Condition) bool { return have.Type == want.Type })
	var have metav1.Condition
	if at >= 0 {
		have = src.Status.Conditions[at]
	}
	observed := src.Status.Observed
	switch in.Observed {
	case "", observed.Commit:
	case src.Status.Desired.Commit:
		observed = src.Status.Desired
	default:
		observed = schema.CommitRef{Commit: in.Observed}
	}
	if have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message && observed == src.Status.Observed {
		return
	}
	next := state.Edit(src)
	next.Status.Observed = observed
	setCondition(&next.Status.Conditions, want)
	c.Tx.Put(next)
	switch {
	case in.Reason != "" && in.Reason != have.Reason:
		control.Event(c, next, corev1.EventTypeWarning, in.Reason, in.Message)
	case in.Reason == "" && have.Status == metav1.ConditionFalse:
		control.Event(c, next, corev1.EventTypeNormal, schema.ReasonFetched, in.Message)
	}
}
