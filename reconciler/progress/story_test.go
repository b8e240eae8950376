package progress

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
	"fairlead/schema/objecttest"
)

// running is a source whose commit c1 is applied and in a phase.
func running(phase schema.Phase, reason string) (*schema.Source, *schema.Revision) {
	src := &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: schema.SourceSpec{ProgressDeadline: &metav1.Duration{Duration: 2 * time.Minute}}}
	src.Status.Applied.Commit = "c1"
	rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-1"}, Spec: schema.RevisionSpec{Source: "main", Commit: "c1"}}
	rev.Enter(phase, metav1.NewTime(now), reason)
	return src, rev
}

func TestAStoryTellsEachLineOnce(t *testing.T) {
	src, rev := running(schema.PhaseRollingOut, "")
	var story Story
	half := deployment("a", appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 2})
	lines, ended := story.Next(cluster(half, node(corev1.ConditionFalse)), src, rev, now)
	if want := []string{"deployment shop/a: 2 of 3 available", "node n1: RuntimeUnavailable: Podman does not answer"}; !slices.Equal(lines, want) || ended {
		t.Errorf("got %q (ended %v), want %q", lines, ended, want)
	}
	rev.Enter(schema.PhaseHealthy, metav1.Time{}, "")
	if lines, ended = story.Next(cluster(half, node(corev1.ConditionFalse)), src, rev, now); len(lines) != 0 || !ended {
		t.Errorf("again: %q, ended %v", lines, ended)
	}
}

// A probe that is answered something new each time is told of once; then it is what is
// waited for.
func TestAStoryIsNotLongForWhatChangesInDigits(t *testing.T) {
	src, rev := running(schema.PhaseRollingOut, "")
	var story Story
	told := 0
	for i := range 60 {
		probed := objecttest.Pod("c", "n1", func(p *corev1.Pod) {
			p.UID = "u"
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
		})
		answer := &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "e"}, InvolvedObject: corev1.ObjectReference{UID: "u", FieldPath: schema.ContainerField(probed, "app")},
			Reason: schema.ReasonUnhealthy, Message: fmt.Sprintf("Readiness probe failed: command exited with code 1: 12:00:%02d no", i),
		}
		lines, _ := story.Next(cluster(probed, answer, node(corev1.ConditionTrue)), src, rev, now.Add(time.Duration(i)*time.Second))
		told += len(lines)
	}
	if told != 7 { // how far, why, and five times what is waited for
		t.Errorf("%d lines in a minute", told)
	}
}

// Nobody who looks every five seconds sees nothing for fifteen; what is waited for is
// told, and a stalled rollout is not called one that rolls out.
func TestAStorySaysWhatItWaitsFor(t *testing.T) {
	half := deployment("a", appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 2})
	probed := objecttest.Pod("c", "n1", func(p *corev1.Pod) {
		p.UID = "u"
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	})
	answer := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "e"}, InvolvedObject: corev1.ObjectReference{UID: "u", FieldPath: schema.ContainerField(probed, "app")},
		Reason: schema.ReasonUnhealthy, Message: "Readiness probe failed: HTTP probe failed with statuscode: 404 no \x1b[31msuch\npage",
	}
	for _, tt := range []struct {
		phase schema.Phase
		with  []schema.Object
		want  string
	}{
		{schema.PhaseSeen, nil, "still waiting after 1m0s: it is not applied yet"},
		{schema.PhaseRollingOut, nil, "still rolling out after 1m0s: every workload is available; the revision is about to be Healthy"},
		{schema.PhaseRollingOut, []schema.Object{half, probed}, "still rolling out after 1m0s: deployment shop/a: 2 of 3 available (and 1 workload more)"},
		{schema.PhaseRollingOut, []schema.Object{probed, answer}, `still rolling out after 1m0s: pod shop/c: Pending; container app of pod c runs, but: Readiness probe failed: HTTP probe failed with statuscode: 404 no \x1b[31msuch\npage`},
		{schema.PhaseStalled, []schema.Object{half}, "still stalled after 1m0s: no room"},
	} {
		src, rev := running(tt.phase, "no room")
		r := cluster(append(tt.with, node(corev1.ConditionTrue))...)
		var story Story
		story.Next(r, src, rev, now)
		silent, last := time.Duration(0), ""
		for at := 5 * time.Second; at <= time.Minute; at += 5 * time.Second {
			silent += 5 * time.Second
			if lines, _ := story.Next(r, src, rev, now.Add(at)); len(lines) > 0 {
				silent, last = 0, lines[0]
			}
			if silent >= 15*time.Second {
				t.Errorf("%s: nothing was said for %s", tt.phase, silent)
			}
		}
		if last != tt.want {
			t.Errorf("%s: got %q, want %q", tt.phase, last, tt.want)
		}
	}
}

// The end is waited for longer than any deadline that it may come from.
func TestPatienceOutlastsEveryDeadline(t *testing.T) {
	half := func(change func(*appsv1.Deployment)) *appsv1.Deployment {
		d := deployment("a", appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 2})
		change(d)
		return d
	}
	seconds := func(n int32) func(*appsv1.Deployment) {
		return func(d *appsv1.Deployment) { d.Spec.ProgressDeadlineSeconds = &n }
	}
	late := objecttest.Pod("late", "n1", func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(time.Hour))}}
	})
	for name, tt := range map[string]struct {
		with []schema.Object
		due  time.Duration
	}{
		"nothing to wait for":     {nil, 2 * time.Minute},
		"the source's own":        {[]schema.Object{objecttest.Pod("x", "n1", func(*corev1.Pod) {})}, 2 * time.Minute},
		"a longer one":            {[]schema.Object{half(seconds(3000))}, 50 * time.Minute},
		"a shorter one":           {[]schema.Object{half(seconds(30))}, 2 * time.Minute},
		"none at all":             {[]schema.Object{half(seconds(math.MaxInt32))}, 2 * time.Minute},
		"one of what is complete": {[]schema.Object{deployment("a", appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3})}, 2 * time.Minute},
		"since the last progress": {[]schema.Object{half(func(d *appsv1.Deployment) {
			seconds(600)(d)
			d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, LastUpdateTime: metav1.NewTime(now.Add(time.Hour))}}
		})}, 70 * time.Minute},
		"since a pod has its node": {[]schema.Object{late}, 62 * time.Minute},
	} {
		src, rev := running(schema.PhaseRollingOut, "")
		got := Patience(cluster(append(tt.with, node(corev1.ConditionTrue))...), src, rev, now)
		if want := now.Add(tt.due + endMargin); !got.Equal(want) {
			t.Errorf("%s: until %s, want %s", name, got, want)
		}
	}
}

func TestVerdictAndOutcome(t *testing.T) {
	standing := func(word string) *schema.Standing { return &schema.Standing{Word: word, Reason: "now"} }
	tests := []struct {
		phase   schema.Phase
		applied bool
		health  *schema.Standing
		last    string
		outcome Outcome
	}{
		{schema.PhaseSeen, false, nil, "ROLLING OUT main-1: why", UnderWay},
		{schema.PhaseRollingOut, true, standing(schema.Progressing), "ROLLING OUT main-1: why", UnderWay},
		{schema.PhaseStalled, true, standing(schema.Progressing), "STALLED main-1: why", UnderWay},
		{schema.PhaseHealthy, true, standing(schema.Healthy), "HEALTHY main-1: why", Works},
		{schema.PhaseHealthy, true, nil, "HEALTHY main-1: why", Works},
		{schema.PhaseHealthy, true, standing(schema.Degraded), "DEGRADED main-1: now", Not},
		{schema.PhaseHealthy, false, standing(schema.Healthy), "SUPERSEDED main-1: it was healthy, and is no longer what runs", Not},
		{schema.PhaseInvalid, false, nil, "INVALID main-1: why", Not},
		{schema.PhaseHeld, false, nil, "HELD main-1: why; to release it: commit a fix, or remove what the reason names: it then goes back by itself", Not},
		{schema.PhaseFailed, true, standing(schema.Failed), "FAILED main-1: why", Not},
		{schema.PhaseRolledBack, false, standing(schema.Failed), "FAILED main-1: why", Not},
		{schema.PhaseSuperseded, false, standing(schema.Progressing), "SUPERSEDED main-1: why", Not},
		{schema.PhaseSuperseded, true, standing(schema.Progressing), "ROLLING OUT main-1: why", UnderWay},
		{schema.PhaseSuperseded, true, standing(schema.Healthy), "HEALTHY main-1: why", Works},
	}
	for _, tt := range tests {
		rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-1"}, Spec: schema.RevisionSpec{Commit: "c1"}}
		rev.Enter(tt.phase, metav1.Time{}, "why")
		rev.Status.Health = tt.health
		rev.Status.Conditions = []metav1.Condition{{Type: schema.ConditionHeld, Reason: schema.ReasonNoWayBack}}
		src := &schema.Source{}
		if tt.applied {
			src.Status.Applied.Commit = "c1"
		}
		if got := LastLine(src, rev); got != tt.last || OutcomeOf(src, rev) != tt.outcome {
			t.Errorf("%s, applied %v, %+v: %q (%d), want %q (%d)", tt.phase, tt.applied, tt.health, got, OutcomeOf(src, rev), tt.last, tt.outcome)
		}
	}
	trailer := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-1"}}
	trailer.Enter(schema.PhaseHeld, metav1.Time{}, `6 of 9 objects would go: commit with the trailer "Fairlead-Allow-Prune: 6"`)
	if got := LastLine(&schema.Source{}, trailer); !strings.HasSuffix(got, `"Fairlead-Allow-Prune: 6"`) {
		t.Errorf("a hold that names its trailer: %q", got)
	}
}

func TestEvidenceInLines(t *testing.T) {
	rev := &schema.Revision{}
	rev.Status.Evidence = []schema.Evidence{
		{Pod: "shop/api-1", Node: "n2", Reason: "container api of pod api-1 ends with exit code 1, 3 restarts", Exit: &schema.EvidenceExit{Code: 1}, Log: []string{"one", "two", `\x1b[31mthree`, "four"}},
		{Pod: "shop/web-1", Node: "n1", Also: []schema.NodeName{"n2", "n3"}, Reason: "container web of pod web-1 ended with exit code 139 (SIGSEGV)", Exit: &schema.EvidenceExit{Code: 139}},
		{Pod: "shop/db-1", Reason: "pod db-1 cannot be set up: no ConfigMap x"},
	}
	want := []string{
		"seen in namespace shop on n2: container api of pod api-1 ends with exit code 1, 3 restarts",
		`  | \x1b[31mthree`,
		"  | four",
		"seen in namespace shop on n1 (pods on n2, n3 showed the same): container web of pod web-1 ended with exit code 139 (SIGSEGV); no lines of its log are known",
		"seen in namespace shop: pod db-1 cannot be set up: no ConfigMap x",
	}
	if diff := cmp.Diff(want, Evidence(rev.Status.Evidence, 2)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
