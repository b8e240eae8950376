package reconciler_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/objecttest"
	"fairlead/schema/wire"
)

// crashes makes the pods of the tags end with exit code 3 again and again; each time
// they say something else.
func (c *cluster) crashes(tags ...string) {
	c.broken = func(p *corev1.Pod) bool {
		return slices.ContainsFunc(tags, func(tag string) bool { return ofTag(tag)(p) })
	}
	c.ended = func(*corev1.Pod) *corev1.ContainerStateTerminated {
		return &corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error"}
	}
	c.output = func(p *corev1.Pod) []string {
		if !c.broken(p) {
			return nil
		}
		return []string{"begin", "panic at " + c.now.Format("15:04:05")}
	}
}

// told is the evidence of a commit's revision, "workload: how it ended: last line".
func (c *cluster) evidence(commit schema.Commit) (out []string) {
	c.t.Helper()
	for _, e := range c.revision(commit).Status.Evidence {
		last := ""
		if n := len(e.Log); n > 0 {
			last = e.Log[n-1]
		}
		if e.Node == "" || e.At.IsZero() || e.PodName() == "" || e.Exit == nil {
			c.t.Errorf("evidence lacks something: %+v", e)
			continue
		}
		out = append(out, fmt.Sprintf("%s: %s, exit code %d: %s", e.Workload, e.Code, e.Exit.Code, last))
	}
	return out
}

func TestAFailedRevisionKeepsItsEvidence(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	c.pass(61 * time.Second)
	c.crashes("v2")
	c.step(shop(t, objecttest.Commit(2), "v2", nil))
	writes, last := 0, ""
	for range 1000 {
		rev := c.revision(objecttest.Commit(2))
		if rev.ResourceVersion != last {
			writes, last = writes+1, rev.ResourceVersion
		}
		if rev.Status.Phase == schema.PhaseFailed {
			break
		}
		c.step()
	}
	failed := c.now
	if writes > 8 {
		t.Errorf("until it failed the revision was written %d times", writes)
	}
	var want []string
	for _, name := range []string{"api", "store", "web"} {
		want = append(want, fmt.Sprintf("Deployment shop/%s: CrashLoop, exit code 3: panic at %s", name, failed.Format("15:04:05")))
	}
	got := c.evidence(objecttest.Commit(2))
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("evidence (-want +got):\n%s", diff)
	}
	if reason := c.revision(objecttest.Commit(2)).Status.Health.Reason; !strings.Contains(reason, "exit code 3") || !strings.Contains(reason, "; last log line: panic at ") {
		t.Errorf("it failed because: %s", reason)
	}
	kept := c.revision(objecttest.Commit(2)).Status.Evidence
	c.goBack(shop(t, objecttest.Commit(1), "v1", nil))
	for _, e := range kept {
		if _, ok := state.Get[*corev1.Pod](c.machine.Snapshot(), e.Namespace(), e.PodName()); ok {
			t.Errorf("pod %s is still there", e.Pod)
		}
	}
	c.push(shop(t, objecttest.Commit(3), "v3", nil))
	c.restart()
	c.rest()
	if diff := cmp.Diff(kept, c.revision(objecttest.Commit(2)).Status.Evidence); diff != "" {
		t.Errorf("after a rollback, another commit and a restart (-want +got):\n%s", diff)
	}
	c.hear(c.wipe(), c.nodes...)
	c.rest()
	if diff := cmp.Diff(kept, c.revision(objecttest.Commit(2)).Status.Evidence); diff != "" {
		t.Errorf("after the store was lost (-want +got):\n%s", diff)
	}
}

// What a revision got over is no evidence against it.
func TestAHealthyRevisionHasNoEvidence(t *testing.T) {
	c := newCluster(t, 3)
	c.crashes("v1")
	c.step(shop(t, objecttest.Commit(1), "v1", nil))
	c.pass(5 * time.Second)
	if len(c.evidence(objecttest.Commit(1))) == 0 {
		t.Error("while it crashes there is no evidence")
	}
	c.broken = func(*corev1.Pod) bool { return false }
	c.pass(10 * time.Second)
	c.expect(objecttest.Commit(1), "Synced Healthy")
	if got := c.evidence(objecttest.Commit(1)); len(got) > 0 {
		t.Errorf("it is healthy, with evidence %q", got)
	}
}

// What got well before its revision failed is no evidence.
func TestEvidenceIsOfWhatFailed(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	c.pass(61 * time.Second)
	c.crashes("v2")
	began := c.now
	c.broken = func(p *corev1.Pod) bool {
		return ofTag("v2")(p) && (p.Labels["app"] != "web" || c.now.Sub(began) < 30*time.Second)
	}
	c.step(shop(t, objecttest.Commit(2), "v2", nil))
	c.pass(10 * time.Second)
	if got := c.evidence(objecttest.Commit(2)); len(got) != 3 {
		t.Errorf("while all crash: %q", got)
	}
	c.untilPhase(objecttest.Commit(2), schema.PhaseFailed)
	if got := c.evidence(objecttest.Commit(2)); len(got) != 2 || strings.Contains(strings.Join(got, " "), "shop/web") {
		t.Errorf("once it failed: %q", got)
	}
}

// One that was healthy and crashes later has evidence too, kept when another takes its
// place, and the crash loop writes nothing.
func TestADegradedRevisionHasEvidence(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	c.crashes("v1")
	c.pass(2 * time.Second)
	c.expect(objecttest.Commit(1), "Synced Degraded")
	if got := c.evidence(objecttest.Commit(1)); len(got) != 3 {
		t.Errorf("evidence is %q", got)
	}
	kept := c.revision(objecttest.Commit(1))
	c.pass(5 * time.Minute)
	if c.revision(objecttest.Commit(1)) != kept {
		t.Error("a crash loop rewrote the revision")
	}
	if !strings.Contains(kept.Status.Health.Reason, "last log line: panic at ") {
		t.Errorf("it is degraded because: %s", kept.Status.Health.Reason)
	}
	c.push(shop(t, objecttest.Commit(2), "v2", nil))
	c.expect(objecttest.Commit(2), "Synced Healthy")
	if diff := cmp.Diff(kept.Status.Evidence, c.revision(objecttest.Commit(1)).Status.Evidence); diff != "" {
		t.Errorf("once it was replaced (-want +got):\n%s", diff)
	}
}

// The revision that a source went back to may fail as well.
func TestARollbackThatFailsHasItsOwnEvidence(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	c.pass(61 * time.Second)
	c.crashes("v2", "v1")
	c.step(shop(t, objecttest.Commit(2), "v2", nil))
	c.untilPhase(objecttest.Commit(2), schema.PhaseFailed)
	c.step(func() reconciler.Candidate {
		back := shop(t, objecttest.Commit(1), "v1", nil)
		back.RollbackOf = schema.RevisionOf("main", objecttest.Commit(2))
		return back
	}())
	c.pass(10 * time.Second)
	if got := c.evidence(objecttest.Commit(1)); len(got) != 3 {
		t.Errorf("evidence of what was gone back to: %q", got)
	}
	if got := c.evidence(objecttest.Commit(2)); len(got) == 0 {
		t.Errorf("evidence of what failed: %q", got)
	}
}

// Whatever a node says that a container wrote, what is kept of it is bounded and can be
// stored, and is of a container of a pod that is the node's.
func TestANodesWordOfLogsIsHeldToItsBounds(t *testing.T) {
	c := newCluster(t, 3)
	c.crashes("v1")
	c.output = func(*corev1.Pod) []string {
		return append(slices.Repeat([]string{strings.Repeat("\xff\x1b\u202e", 1<<16)}, 200), "\x00")
	}
	c.step(shop(t, objecttest.Commit(1), "v1", nil))
	c.pass(3 * time.Second)
	rev := c.revision(objecttest.Commit(1))
	if err := wire.CheckStorable(rev); err != nil || len(rev.Status.Evidence) == 0 {
		t.Fatalf("%d pieces: %v", len(rev.Status.Evidence), err)
	}
	size := 0
	for _, e := range rev.Status.Evidence {
		for _, line := range e.Log {
			size += len(line)
			if schema.Printable(line) != line {
				t.Errorf("kept: %q", line)
			}
		}
	}
	if size > schema.MaxEvidenceBytes {
		t.Errorf("%d bytes of logs", size)
	}
	liar := c.report(0, "n1")
	for i := range liar.Report.Pods {
		liar.Report.Pods[i].Logs = []wire.LogTail{{Container: "other", Lines: []string{"a lie"}}}
		liar.Report.Pods[i].UID = c.podOn("n2").UID
	}
	c.machine.Step(c.now, []reconciler.Input{liar})
	if got := c.revision(objecttest.Commit(1)); got != rev {
		t.Errorf("a node told of another's pod: %+v", got.Status.Evidence)
	}
}

func (c *cluster) podOn(node string) *corev1.Pod {
	for p := range state.By[*corev1.Pod](c.machine.Snapshot(), state.PodsByNode, node) {
		return p
	}
	c.t.Fatalf("no pod on %s", node)
	return nil
}
