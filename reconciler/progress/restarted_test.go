package progress

import (
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
	"fairlead/schema/objecttest"
)

// What ran before a start of the nodes is awaited; what did not, or cannot start for the
// fault of a revision that was not well before, is only told.
func TestRestarted(t *testing.T) {
	before, after := now.Add(-time.Minute), now.Add(time.Second)
	pod := func(name string, unreadySince time.Time, s corev1.ContainerStatus) *corev1.Pod {
		return objecttest.Pod(name, "n1", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(unreadySince)}}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{s}
		})
	}
	rebooted := corev1.ContainerStatus{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: schema.ReasonNodeRebooted}}}
	crashes := corev1.ContainerStatus{Name: "c", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: schema.ReasonCrashLoop}}}
	ready := objecttest.Pod("a", "n1", func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	})
	unseen := deployment("d", appsv1.DeploymentStatus{})
	unseen.Generation = 2
	short := deployment("d", appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1})
	const comes, crashed = "pod shop/a: Pending; container c of pod a ended with exit code 137, NodeRebooted", "pod shop/a: Pending; container c of pod a waits: CrashLoopBackOff"
	for _, tt := range []struct {
		name             string
		word             string
		since            time.Time
		object           schema.Object
		awaited, lacking string
	}{
		{"serves", schema.Healthy, before, ready, "", ""},
		{"was ready and comes", schema.Healthy, before, pod("a", after, rebooted), comes, ""},
		{"was ready, in the second of the start", schema.Healthy, before, pod("a", now, rebooted), comes, ""},
		{"was ready in a source that was not well", schema.Degraded, before, pod("a", after, rebooted), comes, ""},
		{"was ready in a rollout", schema.Progressing, before, pod("a", after, rebooted), comes, ""},
		{"was ready and crashes since", schema.Degraded, after, pod("a", after, crashes), crashed, ""},
		{"was ready and crashes, in a source that was not well", schema.Degraded, before, pod("a", after, crashes), "", crashed},
		{"was not ready", schema.Degraded, before, pod("a", before, rebooted), "", comes},
		{"was not ready in a rollout", schema.Progressing, before, pod("a", before, crashes), "", crashed},
		{"after a lost store", schema.Healthy, before, unseen, "deployment shop/d: not looked at yet", ""},
		{"all serves, and one was started again not long ago", schema.Degraded, after, ready, "", ""},
		{"all serves of what failed before", schema.Failed, before, ready, "", ""},
		{"not all is there and no pod is missing", schema.Degraded, after, short, "source main is Degraded: why", ""},
		{"not all was there before and no pod is missing", schema.Failed, before, short, "", "source main is Failed: why"},
		{"rolls out", schema.Progressing, before, ready, "", ""},
		{"on its way out", schema.Healthy, before, objecttest.Pod("a", "n1", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: before} }), "", ""},
		{"has done its work", schema.Healthy, before, objecttest.Pod("a", "n1", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), "", ""},
	} {
		src, rev := running(schema.PhaseHealthy, "")
		rev.Name = string(schema.RevisionOf("main", "c1"))
		rev.Status.Health = &schema.Standing{Word: tt.word, Reason: "why", Since: metav1.NewTime(tt.since)}
		awaited, lacking := Restarted(cluster(src, rev, node(corev1.ConditionTrue), tt.object), now.Add(300*time.Millisecond), after)
		if !slices.Equal(awaited, some(tt.awaited)) || !slices.Equal(lacking, some(tt.lacking)) {
			t.Errorf("%s: awaited %q, lacking %q; want %q, %q", tt.name, awaited, lacking, tt.awaited, tt.lacking)
		}
	}
}

// some is the line, and nothing for none.
func some(line string) []string {
	if line == "" {
		return nil
	}
	return []string{line}
}

// Of a workload's pods the one that can be awaited is told; of a source that was not
// applied nothing is.
func TestRestartedTellsWhatCanBeAwaited(t *testing.T) {
	src, rev := running(schema.PhaseHealthy, "")
	if awaited, lacking := Restarted(cluster(src, objecttest.Pod("a", "n1")), now, now); len(awaited)+len(lacking) > 0 {
		t.Errorf("of a source without a revision: %q, %q", awaited, lacking)
	}
	rev.Name = string(schema.RevisionOf("main", "c1"))
	early := objecttest.Pod("a", "n1", func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now.Add(-time.Hour)) })
	late := objecttest.Pod("b", "n1", func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now) })
	awaited, lacking := Restarted(cluster(src, rev, node(corev1.ConditionTrue), early, late), now, now)
	if want := []string{"pod shop/b: Pending; pod b has not started on n1 yet"}; !slices.Equal(awaited, want) || len(lacking) != 1 {
		t.Errorf("awaited %q, want %q; lacking %q", awaited, want, lacking)
	}
}
