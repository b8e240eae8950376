package health

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// failedRevision is one that failed at `at`, was gone back from, and is asked for by Git.
func failedRevision(at time.Time, evidence ...schema.Evidence) (*schema.Source, *schema.Revision) {
	src := &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}}
	src.Status.Desired.Commit, src.Status.Applied.Commit = "two", "one"
	rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-two"}, Spec: schema.RevisionSpec{Source: "main", Commit: "two"}}
	rev.Enter(schema.PhaseFailed, metav1.NewTime(at), "it crashes")
	rev.Enter(schema.PhaseRolledBack, metav1.NewTime(at), "went back")
	rev.Status.Quarantined, rev.Status.Evidence = true, evidence
	return src, rev
}

func seenOn(node schema.NodeName, code Code) schema.Evidence {
	return schema.Evidence{Pod: "shop/web", Workload: "Deployment shop/web", Node: node, Code: string(code), Reason: "it crashes"}
}

func TestMisjudged(t *testing.T) {
	failed := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	not := func(name, reason string, after time.Duration) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: reason, Message: "no runc", LastTransitionTime: metav1.NewTime(failed.Add(after))}}
		return n
	}
	well := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
	silent := not("n1", schema.ReasonNodeSilent, time.Minute)
	silent.Status.Conditions[0].Status = corev1.ConditionUnknown
	starts := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
		{Type: corev1.NodeReady, Status: corev1.ConditionTrue},
		{Type: schema.ConditionStartsFailing, Status: corev1.ConditionTrue, Message: "no space left", LastTransitionTime: metav1.NewTime(failed)},
	}}}
	tests := []struct {
		name  string
		nodes []*corev1.Node
		on    []schema.Evidence
		edit  func(*schema.Source, *schema.Revision)
		want  string // "" for not
	}{
		{name: "its node is unfit", nodes: []*corev1.Node{not("n1", schema.ReasonNodeUnfit, 10*time.Minute)}, on: []schema.Evidence{seenOn("n1", CrashLoop)},
			want: "what it failed for was seen only on node n1, which is not ready: no runc"},
		{name: "its nodes' runtime and network fail", nodes: []*corev1.Node{not("n1", schema.ReasonRuntimeUnavailable, 0), not("n2", schema.ReasonNetworkUnavailable, -time.Minute)},
			on:   []schema.Evidence{seenOn("n1", StartFailing), seenOn("n2", ProbeFailing), seenOn("n1", SetupFailing)},
			want: "seen only on node n1, which is not ready: no runc, and on node n2, which is not ready: no runc"},
		{name: "its node cannot start pods", nodes: []*corev1.Node{starts}, on: []schema.Evidence{seenOn("n1", CrashLoop)}, want: "node n1, which cannot start pods: no space left"},
		{name: "it was seen on another node too", nodes: []*corev1.Node{not("n1", schema.ReasonNodeUnfit, time.Minute), well}, on: []schema.Evidence{seenOn("n1", CrashLoop), seenOn("n2", CrashLoop)}},
		{name: "another node showed the same", nodes: []*corev1.Node{not("n1", schema.ReasonNodeUnfit, time.Minute), well},
			on: Spread([]schema.Evidence{seenOn("n1", CrashLoop)}, []schema.Evidence{seenOn("n1", CrashLoop), seenOn("n2", CrashLoop)})},
		{name: "the node fell ill too late", nodes: []*corev1.Node{not("n1", schema.ReasonNodeUnfit, 10*time.Minute+time.Second)}, on: []schema.Evidence{seenOn("n1", CrashLoop)}},
		{name: "the node is silent", nodes: []*corev1.Node{silent}, on: []schema.Evidence{seenOn("n1", CrashLoop)}},
		{name: "the node is gone", on: []schema.Evidence{seenOn("n1", CrashLoop)}},
		{name: "what it failed for is no node's doing", nodes: []*corev1.Node{not("n1", schema.ReasonNodeUnfit, time.Minute)}, on: []schema.Evidence{seenOn("n1", CrashLoop), seenOn("n1", OOMKilled)}},
		{name: "nothing was seen", nodes: []*corev1.Node{not("n1", schema.ReasonNodeUnfit, time.Minute)}},
		{name: "Git asks for another", nodes: []*corev1.Node{not("n1", schema.ReasonNodeUnfit, time.Minute)}, on: []schema.Evidence{seenOn("n1", CrashLoop)},
			edit: func(src *schema.Source, _ *schema.Revision) { src.Status.Desired.Commit = "three" }},
		{name: "it was judged again already", nodes: []*corev1.Node{not("n1", schema.ReasonNodeUnfit, time.Minute)}, on: []schema.Evidence{seenOn("n1", CrashLoop)},
			edit: func(_ *schema.Source, rev *schema.Revision) { rev.Status.JudgedAgain = &schema.JudgedAgain{} }},
		{name: "it failed and still runs", nodes: []*corev1.Node{not("n1", schema.ReasonNodeUnfit, time.Minute)}, on: []schema.Evidence{seenOn("n1", CrashLoop)},
			edit: func(src *schema.Source, rev *schema.Revision) {
				src.Status.Applied.Commit, rev.Status.Phase, rev.Status.Quarantined = "two", schema.PhaseFailed, false
			}, want: "node n1"},
		{name: "it runs and is well", nodes: []*corev1.Node{not("n1", schema.ReasonNodeUnfit, time.Minute)}, on: []schema.Evidence{seenOn("n1", CrashLoop)},
			edit: func(src *schema.Source, rev *schema.Revision) {
				src.Status.Applied.Commit, rev.Status.Phase = "two", schema.PhaseHealthy
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src, rev := failedRevision(failed, tt.on...)
			if tt.edit != nil {
				tt.edit(src, rev)
			}
			tx := state.Empty(state.Counters{}).Begin()
			for _, n := range tt.nodes {
				tx.Put(n)
			}
			why, ok := Misjudged(tx, src, rev)
			if ok != (tt.want != "") || !strings.Contains(why, tt.want) {
				t.Errorf("%q, %v, want %q", why, ok, tt.want)
			}
		})
	}
}
