package reconciler_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler"
	"fairlead/schema"
	"fairlead/schema/objecttest"
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
	m := newProven(t, "", on, own("main", spec))
	m.push("main", 2, strings.ReplaceAll(pairOf, "VERSION", "v2"))
	m.until(2, schema.PhaseFailed)
	return m
}

// newProven has a first commit that ran well, with more beside its pods, and fails the
// pods of a second one on the nodes named. A source "other" has brought aConfig before.
func newProven(t *testing.T, beside string, on []string, configured ...schema.Source) *misjudged {
	t.Helper()
	f := newFollowed(t, configured...)
	m := &misjudged{followed: f, trouble: map[schema.NodeName]*wire.NodeProblem{}}
	m.nodes = &cluster{t: t, machine: f.machine, now: f.now, nodes: []schema.NodeName{"n1", "n2"}, started: map[types.UID]bool{}, tried: func(*corev1.Pod) bool { return false }}
	m.nodes.broken = func(p *corev1.Pod) bool {
		return strings.HasSuffix(p.Spec.Containers[0].Image, ":v2") && slices.Contains(on, p.Spec.NodeName)
	}
	m.pass(3 * time.Second)
	for _, src := range configured {
		if src.Name == "other" {
			m.push("other", 100, aConfig+more)
		}
	}
	m.push("main", 1, strings.ReplaceAll(pairOf, "VERSION", "v1")+beside)
	m.until(1, schema.PhaseHealthy)
	m.pass(61 * time.Second)
	return m
}

// newHeld is a failed revision whose way back takes a ConfigMap that another source took
// away meanwhile.
func newHeld(t *testing.T, on ...string) *misjudged {
	t.Helper()
	m := newProven(t, "---\n"+needsConfig, on, own("other", schema.SourceSpec{}), own("main", schema.SourceSpec{}))
	m.push("main", 2, strings.ReplaceAll(pairOf, "VERSION", "v2"))
	m.push("other", 3, more)
	m.until(2, schema.PhaseFailed)
	m.stay()
	return m
}

// needsConfig is a workload without pods that needs aConfig.
const needsConfig = `apiVersion: apps/v1
kind: Deployment
metadata: {name: needs}
spec:
  replicas: 0
  selector: {matchLabels: {app: needs}}
  template:
    metadata: {labels: {app: needs}}
    spec: {containers: [{name: c, image: "localhost/web:v1", envFrom: [{configMapRef: {name: shared}}]}]}
`

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
	return m.nodes.revision(objecttest.Commit(commit)).Status
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
	if src := m.source("main"); src.Status.Applied.Commit != objecttest.Commit(2) {
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

const (
	aConfig = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\ndata: {a: b}\n"
	more    = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\ndata: {a: b}\n"
)

// What was refused for what another source has, or lacks, is judged again without a
// commit once that has changed; while nothing has, nothing is written.
func TestWhatWaitsForAnotherSourceIsJudgedAgain(t *testing.T) {
	const restricted = "apiVersion: v1\nkind: Namespace\nmetadata: {name: lab, labels: {pod-security.kubernetes.io/enforce: baseline}}\n"
	hostPort := strings.Replace(aHostPort, "{name: p}", "{name: p, namespace: lab}", 1)
	const other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\ndata: {a: b}\n"
	for name, tt := range map[string]struct{ first, second, freed, says string }{
		"a cluster address": {servicePort("a", "}], clusterIP: 10.96.0.50}"), servicePort("b", "}], clusterIP: 10.96.0.50}"), other, "is taken by Service default/a of source first"},
		"a node port":       {servicePort("a", ", nodePort: 30001}], type: NodePort}"), servicePort("b", ", nodePort: 30001}], type: NodePort}"), other, "is taken by Service default/a of source first"},
		"an object":         {aConfig, aConfig, other, "belongs to source first"},
		"a namespace":       {other, strings.Replace(aConfig, "{name: shared}", "{name: shared, namespace: lab}", 1), aNamespace, `no namespace "lab" is declared`},
		"pod security":      {restricted, hostPort, aNamespace, `namespace "lab" enforces baseline`},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFollowed(t, own("first", schema.SourceSpec{}), own("second", schema.SourceSpec{}))
			f.push("first", 1, tt.first+more)
			f.push("second", 1, tt.second)
			phase, said := f.phase("second", 1)
			if phase != schema.PhaseInvalid || !strings.Contains(said, tt.says) {
				t.Fatalf("%s: %s", phase, said)
			}
			version := f.machine.Snapshot().Counters().ResourceVersion
			f.look("second")
			if now := f.machine.Snapshot().Counters().ResourceVersion; now != version {
				t.Errorf("judged again with nothing new, it was written")
			}
			f.push("first", 2, tt.freed+more)
			f.look("second")
			if phase, said := f.phase("second", 1); phase != schema.PhaseRollingOut && phase != schema.PhaseHealthy {
				t.Errorf("after it is free: %s: %s", phase, said)
			}
		})
	}
}

// What is refused for a total of all sources is written once, also when the others' part
// of the total moves.
func TestWhatWaitsForRoomIsWrittenOnce(t *testing.T) {
	sources := []schema.Source{own("second", schema.SourceSpec{})}
	for i := range 8 {
		sources = append(sources, own(fmt.Sprintf("first-%d", i), schema.SourceSpec{}))
	}
	f := newFollowed(t, sources...)
	pair := func(name string, kib int) string {
		return secretOf(name, strings.Repeat("x", 1000<<10)) + "---\n" + secretOf(name+"-b", strings.Repeat("x", kib<<10))
	}
	for _, src := range sources[1:] {
		f.push(src.SourceName(), 1, pair(src.Name, 1000))
		if phase, said := f.phase(src.SourceName(), 1); phase == schema.PhaseInvalid {
			t.Fatal(said)
		}
	}
	f.push("second", 1, pair("second", 1000))
	phase, said := f.phase("second", 1)
	if phase != schema.PhaseInvalid || strings.Count(said, "the values of all Secrets would take ") != 1 {
		t.Fatalf("%s: %s", phase, said)
	}
	unwritten := func(when string) {
		t.Helper()
		version := f.machine.Snapshot().Counters().ResourceVersion
		f.look("second")
		if now := f.machine.Snapshot().Counters().ResourceVersion; now != version {
			_, said := f.phase("second", 1)
			t.Errorf("judged again %s, it was written: %s", when, said)
		}
	}
	unwritten("with nothing new")
	f.push("first-0", 2, pair("first-0", 700))
	unwritten("with a smaller total")
}

// What is wrong with the tree itself waits for a commit.
func TestWhatIsWrongByItselfIsNotJudgedAgain(t *testing.T) {
	f := newFollowed(t, own("first", schema.SourceSpec{}), own("second", schema.SourceSpec{}))
	f.push("first", 1, aConfig)
	f.push("second", 1, aConfig+"---\nkind: Nonsense\n")
	judged := 0
	read := f.Load
	f.Load = func(ctx context.Context, source schema.SourceName, tree schema.Tree, spec schema.SourceSpec, rights schema.Rights, namespaces []string) ([]*schema.Desired, schema.Diagnostics) {
		judged++
		return read(ctx, source, tree, spec, rights, namespaces)
	}
	f.look("second")
	if phase, said := f.phase("second", 1); phase != schema.PhaseInvalid || judged > 0 {
		t.Errorf("%s, judged %d times: %s", phase, judged, said)
	}
}

// A commit that waits for another source keeps nobody from going back: the revision before
// it failed and makes way at once.
func TestWhatWaitsForAnotherSourceDoesNotHoldUpGoingBack(t *testing.T) {
	const port = "apiVersion: v1\nkind: Service\nmetadata: {name: NAME}\nspec: {selector: {a: b}, ports: [{port: 80, nodePort: 30001}], type: NodePort}\n"
	m := newProven(t, "", []string{"n1", "n2"}, own("main", schema.SourceSpec{}), own("other", schema.SourceSpec{}))
	m.push("other", 9, strings.ReplaceAll(port, "NAME", "first")+more)
	web := strings.ReplaceAll(pairOf, "VERSION", "v2")
	m.push("main", 2, web)
	m.push("main", 3, web+"---\n"+strings.ReplaceAll(port, "NAME", "second"))
	if phase, said := m.phase("main", 3); phase != schema.PhaseInvalid || !strings.Contains(said, "of source other") {
		t.Fatalf("%s: %s", phase, said)
	}
	m.until(2, schema.PhaseFailed)
	if !m.due() {
		t.Fatal("a failed revision is not due to make way")
	}
	m.stay()
	if got := m.revision(2); got.Phase != schema.PhaseRolledBack || m.due() {
		t.Fatalf("%s, due %v", got.Phase, m.due())
	}
	m.until(1, schema.PhaseHealthy)
	m.push("other", 10, more)
	m.look("main")
	if phase, said := m.phase("main", 3); phase == schema.PhaseInvalid {
		t.Errorf("with the port free it is %s: %s", phase, said)
	}
}

// A failed revision that could not be gone back from is, as soon as what was in the way
// has gone; until then nothing is written.
func TestAFailedRevisionGoesBackOnceThereIsAWay(t *testing.T) {
	m := newHeld(t, "n1", "n2")
	held := m.revision(2)
	if why := held.Phases[len(held.Phases)-1].Reason; held.Phase != schema.PhaseHeld || m.due() || !strings.Contains(why, "going back to 100000000000 is not possible") || !strings.Contains(why, "no ConfigMap default/shared is declared") {
		t.Fatalf("%s, due %v: %s", held.Phase, m.due(), why)
	}
	version := m.machine.Snapshot().Counters().ResourceVersion
	m.look("main")
	if now := m.machine.Snapshot().Counters().ResourceVersion; now != version {
		t.Errorf("tried again with nothing new, it was written: %+v", m.revision(2))
	}
	m.push("other", 4, aConfig+more)
	m.look("main")
	back := m.revision(2)
	if back.Phase != schema.PhaseRolledBack || len(back.Conditions) == 0 || slices.ContainsFunc(back.Conditions, func(c metav1.Condition) bool { return c.Type == schema.ConditionHeld }) {
		t.Fatalf("with the way free it is %s, %+v", back.Phase, back.Conditions)
	}
	if why := back.Phases[len(back.Phases)-1].Reason; !strings.HasPrefix(why, "went back to 100000000000: Deployment default/web") || strings.Contains(why, "not possible") {
		t.Errorf("it says: %s", why)
	}
	m.until(1, schema.PhaseHealthy)
}

// One that is held for want of a way back is judged again too where its nodes were at
// fault.
func TestAMisjudgedRevisionWithoutAWayBackResumes(t *testing.T) {
	m := newHeld(t, "n1")
	if got := m.revision(2); got.Phase != schema.PhaseHeld {
		t.Fatalf("it is %s", got.Phase)
	}
	m.trouble["n1"] = unfit
	m.pass(2 * time.Second)
	if got := m.revision(2); got.Phase != schema.PhaseRollingOut && got.Phase != schema.PhaseStalled && got.Phase != schema.PhaseHealthy || got.JudgedAgain == nil {
		t.Fatalf("%s, judged again %+v", got.Phase, got.JudgedAgain)
	}
}

// One that is held for want of a way back and runs well by now is not gone back from when
// there is a way: it is judged again, and is healthy.
func TestAHeldRevisionThatRunsWellResumes(t *testing.T) {
	m := newHeld(t, "n1", "n2")
	m.nodes.broken = func(*corev1.Pod) bool { return false }
	m.pass(5 * time.Minute)
	if got := m.revision(2); got.Phase != schema.PhaseHeld {
		t.Fatalf("it is %s", got.Phase)
	}
	m.push("other", 4, aConfig+more)
	m.look("main")
	m.until(2, schema.PhaseHealthy)
	src := m.source("main")
	if src.Status.Applied.Commit != objecttest.Commit(2) || m.due() {
		t.Errorf("applied %s, due %v", src.Status.Applied.Commit, m.due())
	}
	if ready := src.Status.Conditions[slices.IndexFunc(src.Status.Conditions, func(c metav1.Condition) bool { return c.Type == "Ready" })]; ready.Status != metav1.ConditionTrue || ready.Reason != "Applied" {
		t.Errorf("the source is ready: %s, %s: %s", ready.Status, ready.Reason, ready.Message)
	}
	if got := m.revision(2); got.Quarantined || slices.ContainsFunc(got.Conditions, func(c metav1.Condition) bool { return c.Type == schema.ConditionHeld }) {
		t.Errorf("it is quarantined %v: %+v", got.Quarantined, got.Conditions)
	}
}

// While a revision that failed cannot be gone back from, a newer commit that waits for
// another source is judged again all the same.
func TestACommitThatWaitsIsJudgedAgainWhileThereIsNoWayBack(t *testing.T) {
	const port = "---\napiVersion: v1\nkind: Service\nmetadata: {name: NAME}\nspec: {selector: {a: b}, ports: [{port: 80, nodePort: 30001}], type: NodePort}\n"
	m := newProven(t, "---\n"+needsConfig, []string{"n1", "n2"}, own("other", schema.SourceSpec{}), own("main", schema.SourceSpec{}), own("third", schema.SourceSpec{}))
	m.push("third", 9, strings.ReplaceAll(more, "kept", "a")+strings.ReplaceAll(port, "NAME", "first")+strings.ReplaceAll(more, "kept", "b"))
	m.push("main", 2, strings.ReplaceAll(pairOf, "VERSION", "v2"))
	m.push("other", 3, more)
	m.until(2, schema.PhaseFailed)
	m.stay()
	m.push("main", 5, strings.ReplaceAll(pairOf, "VERSION", "v5")+strings.ReplaceAll(port, "NAME", "second"))
	if phase, said := m.phase("main", 5); phase != schema.PhaseInvalid || !strings.Contains(said, "of source third") || m.revision(2).Phase != schema.PhaseHeld {
		t.Fatalf("%s: %s; the one before is %s", phase, said, m.revision(2).Phase)
	}
	version := m.machine.Snapshot().Counters().ResourceVersion
	m.look("main")
	if now := m.machine.Snapshot().Counters().ResourceVersion; now != version {
		t.Errorf("looked again with nothing new, it was written")
	}
	m.push("third", 10, strings.ReplaceAll(more, "kept", "a")+strings.ReplaceAll(more, "kept", "b"))
	m.look("main")
	m.until(5, schema.PhaseHealthy)
	if got := m.revision(2).Phase; got != schema.PhaseSuperseded {
		t.Errorf("the one before is %s", got)
	}
}
