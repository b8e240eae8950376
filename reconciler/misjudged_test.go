package reconciler_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// misjudged is a source that is followed and whose second commit failed, on nodes of
// which some make it fail.
type misjudged struct {
	*followed
	nodes   *cluster
	trouble map[schema.NodeName]*wire.NodeProblem
}

const pairOf = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  strategy: {rollingUpdate: {maxSurge: 2}}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: c
          image: localhost/web:VERSION
          readinessProbe: {tcpSocket: {port: 80}}
`

// newMisjudged has the second commit fail for its pods on the nodes named.
func newMisjudged(t *testing.T, spec schema.SourceSpec, on ...string) *misjudged {
	t.Helper()
	f := newFollowed(t, own("main", spec))
	m := &misjudged{followed: f, trouble: map[schema.NodeName]*wire.NodeProblem{}}
	m.nodes = &cluster{t: t, machine: f.machine, now: f.now, nodes: []schema.NodeName{"n1", "n2"}, started: map[types.UID]bool{}, tried: func(*corev1.Pod) bool { return false }}
	m.nodes.broken = func(p *corev1.Pod) bool {
		return strings.HasSuffix(p.Spec.Containers[0].Image, ":v2") && slices.Contains(on, p.Spec.NodeName)
	}
	m.pass(3 * time.Second)
	m.push("main", 1, strings.ReplaceAll(pairOf, "VERSION", "v1"))
	m.until(1, schema.PhaseHealthy)
	m.pass(61 * time.Second)
	m.push("main", 2, strings.ReplaceAll(pairOf, "VERSION", "v2"))
	m.until(2, schema.PhaseFailed)
	return m
}

// pass lets the nodes report once a second.
func (m *misjudged) pass(d time.Duration) {
	for range d / time.Second {
		var in []reconciler.Input
		for i, node := range m.nodes.nodes {
			r := m.nodes.report(i, node)
			r.Report.Problem = m.trouble[node]
			in = append(in, r, reconciler.Acknowledgement{Node: node, Version: m.machine.Snapshot().Counters().ResourceVersion})
		}
		m.round(in...)
	}
}

func (m *misjudged) until(commit int, phase schema.Phase) {
	m.t.Helper()
	for range 1000 {
		if m.revision(commit).Phase == phase {
			return
		}
		m.pass(time.Second)
	}
	m.t.Fatalf("commit %d is not %s: %+v", commit, phase, m.revision(commit).Phases)
}

func (m *misjudged) revision(commit int) schema.RevisionStatus {
	m.nodes.t.Helper()
	return m.nodes.revision(commitHash(commit)).Status
}

// stay does what is due, as the shell does when it is told to.
func (m *misjudged) stay() {
	m.t.Helper()
	if err := m.Stay(m.t.Context(), "main", m.repos["main"]); err != nil {
		m.t.Fatal(err)
	}
	m.pass(time.Second)
}

func (m *misjudged) due() bool { return reconciler.Due(m.machine.Snapshot(), m.source("main")) }

var unfit = &wire.NodeProblem{Reason: schema.ReasonNodeUnfit, Message: "the node cannot run containers: no cgroups"}

// What failed only on a node that is found to be at fault is tried once more, on the
// others.
func TestAMisjudgedRevisionIsJudgedAgain(t *testing.T) {
	m := newMisjudged(t, schema.SourceSpec{}, "n1")
	m.stay()
	if got := m.revision(2); got.Phase != schema.PhaseRolledBack || !got.Quarantined || m.due() {
		t.Fatalf("%s, quarantined %v, due %v", got.Phase, got.Quarantined, m.due())
	}
	m.trouble["n1"] = unfit
	m.pass(2 * time.Second)
	if got := m.revision(2); got.Quarantined || got.JudgedAgain == nil || !strings.Contains(got.JudgedAgain.Reason, "no cgroups") || !m.due() {
		t.Fatalf("quarantined %v, judged again %+v, due %v", got.Quarantined, got.JudgedAgain, m.due())
	}
	m.stay()
	if m.due() {
		t.Error("judged again, it is due once more")
	}
	m.until(2, schema.PhaseHealthy)
	for _, p := range m.revision(2).Phases {
		if p.Name == schema.PhaseRollingOut && !strings.HasPrefix(p.Reason, "applied again: what it failed for was seen only on node n1, which is not ready") {
			t.Errorf("rolling out: %s", p.Reason)
		}
	}
	if src := m.source("main"); src.Status.Applied.Commit != commitHash(2) {
		t.Errorf("applied %s", src.Status.Applied.Commit)
	}
}

// It is judged again once: what fails then stays failed, whatever its node is like.
func TestARevisionIsJudgedAgainOnce(t *testing.T) {
	m := newMisjudged(t, schema.SourceSpec{}, "n1")
	m.stay()
	m.trouble["n1"] = unfit
	m.pass(2 * time.Second)
	m.nodes.broken = ofTag("v2")
	m.stay()
	m.until(2, schema.PhaseFailed)
	m.stay()
	m.trouble["n2"] = unfit
	m.pass(time.Minute)
	if got := m.revision(2); got.Phase != schema.PhaseRolledBack || !got.Quarantined || got.JudgedAgain == nil || m.due() {
		t.Errorf("%s, quarantined %v, judged again %+v, due %v", got.Phase, got.Quarantined, got.JudgedAgain, m.due())
	}
	m.look("main")
	if got := m.revision(2); got.Phase != schema.PhaseRolledBack {
		t.Errorf("a look made it %s", got.Phase)
	}
}

// What failed on a node that is well stays failed.
func TestARevisionThatFailedElsewhereTooStaysFailed(t *testing.T) {
	m := newMisjudged(t, schema.SourceSpec{}, "n1", "n2")
	m.stay()
	m.trouble["n1"] = unfit
	m.pass(time.Minute)
	m.look("main")
	if got := m.revision(2); got.Phase != schema.PhaseRolledBack || !got.Quarantined || got.JudgedAgain != nil {
		t.Errorf("%s, quarantined %v, judged again %+v", got.Phase, got.Quarantined, got.JudgedAgain)
	}
}

// Where a failed revision stays applied, its rollout resumes.
func TestAMisjudgedRevisionThatRunsResumes(t *testing.T) {
	m := newMisjudged(t, schema.SourceSpec{OnFailure: "hold"}, "n1")
	m.trouble["n1"] = unfit
	m.pass(2 * time.Second)
	if got := m.revision(2); got.Phase == schema.PhaseFailed || got.JudgedAgain == nil {
		t.Fatalf("%s: %+v", got.Phase, got.Phases)
	}
	m.until(2, schema.PhaseStalled)
	m.trouble["n1"], m.nodes.broken = nil, func(*corev1.Pod) bool { return false }
	m.until(2, schema.PhaseHealthy)
}
