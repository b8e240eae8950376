package reconciler_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

func TestSourceTroubleIsAConditionAndNothingElse(t *testing.T) {
	c := newCluster(t, 1)
	c.rest(shop(t, "c1", "v1", nil))
	source := func() *schema.Source {
		src, _ := state.Source(c.machine.Snapshot(), "main")
		return src
	}
	fetched := func() metav1.Condition {
		for _, cond := range source().Status.Conditions {
			if cond.Type == schema.ConditionFetched {
				return cond
			}
		}
		return metav1.Condition{}
	}
	applied := source().Status.Applied
	pods := len(podNames(c))
	down := reconciler.SourceReport{Source: "main", Reason: "Unreachable", Message: "nobody answers"}
	if c.step(down) == 0 || fetched().Reason != "Unreachable" || fetched().Status != metav1.ConditionFalse || fetched().Message != "nobody answers" {
		t.Errorf("told %+v", fetched())
	}
	since := fetched().LastTransitionTime
	if n := c.step(down); n != 0 {
		t.Errorf("the same trouble again wrote %d objects", n)
	}
	c.step(reconciler.SourceReport{Source: "main", Reason: "Rewound", Message: "elsewhere", Observed: "c9"})
	if fetched().Reason != "Rewound" || fetched().LastTransitionTime != since || source().Status.Observed != (schema.CommitRef{Commit: "c9"}) {
		t.Errorf("told %+v, observed %+v", fetched(), source().Status.Observed)
	}
	well := reconciler.SourceReport{Source: "main", Message: "branch main", Observed: "c1"}
	c.step(well)
	if fetched().Status != metav1.ConditionTrue || fetched().Reason != schema.ReasonFetched || source().Status.Observed != source().Status.Desired {
		t.Errorf("told %+v, observed %+v", fetched(), source().Status.Observed)
	}
	if n := c.step(well); n != 0 {
		t.Errorf("being well again wrote %d objects", n)
	}
	if c.step(reconciler.SourceReport{Source: "none", Reason: "Unreachable"}) != 0 {
		t.Error("a source that is not there was written")
	}
	if source().Status.Applied != applied || len(podNames(c)) != pods {
		t.Errorf("applied %+v with %d pods, was %+v with %d", source().Status.Applied, len(podNames(c)), applied, pods)
	}
	var told []string
	for e := range state.All[*corev1.Event](c.machine.Snapshot(), "default") {
		if e.InvolvedObject.Kind == string(schema.KindSource) && strings.Contains("Unreachable Rewound Fetched", e.Reason) {
			told = append(told, e.Type+" "+e.Reason)
		}
	}
	if len(told) != 3 {
		t.Errorf("events %v", told)
	}
}

func podNames(c *cluster) []string {
	var out []string
	for pod := range state.All[*corev1.Pod](c.machine.Snapshot(), "") {
		out = append(out, pod.Name)
	}
	return out
}
