package reconciler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler"
	"fairlead/reconciler/control"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/objecttest"
)

// standing is a revision's two words.
func (c *cluster) standing(commit schema.Commit) string {
	c.t.Helper()
	rev, word := c.revision(commit), func(s *schema.Standing) string {
		if s == nil {
			return "-"
		}
		return s.Word
	}
	return word(rev.Status.Sync) + " " + word(rev.Status.Health)
}

func (c *cluster) pass(d time.Duration) {
	for range d / time.Second {
		c.step()
	}
}

func (c *cluster) expect(commit schema.Commit, want string) {
	c.t.Helper()
	if got := c.standing(commit); got != want {
		rev := c.revision(commit)
		c.t.Fatalf("revision of %.3s is %q, want %q: %+v, %+v, %v", commit, got, want, rev.Status.Sync, rev.Status.Health, rev.Status.Phases)
	}
}

func ofTag(tag string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return strings.HasSuffix(p.Spec.Containers[0].Image, ":"+tag) }
}

// loops makes the pods of a tag crash: up for six seconds of each sixteen.
func (c *cluster) loops(tag string) {
	since := c.now
	c.broken = func(p *corev1.Pod) bool { return ofTag(tag)(p) && c.now.Sub(since)%(16*time.Second) < 10*time.Second }
	c.tried = ofTag(tag)
}

func TestALateCrashIsDegradedAndNotGoneBackTo(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	c.expect(objecttest.Commit(1), "Synced Healthy")
	c.pass(61 * time.Second)
	c.push(shop(t, objecttest.Commit(2), "v2", nil))
	c.expect(objecttest.Commit(2), "Synced Healthy")
	c.expect(objecttest.Commit(1), "- Healthy")
	if c.revision(objecttest.Commit(1)).Status.ProvenAt == nil {
		t.Error("v1 ran well for a minute, and it is not noted")
	}

	c.loops("v2")
	c.pass(2 * time.Second)
	c.expect(objecttest.Commit(2), "Synced Degraded")
	rev := c.revision(objecttest.Commit(2))
	if rev.Status.Phase != schema.PhaseHealthy || !strings.Contains(rev.Status.Health.Reason, "CrashLoopBackOff") {
		t.Errorf("phase %s, %+v", rev.Status.Phase, rev.Status.Health)
	}
	version := rev.ResourceVersion
	c.pass(5 * time.Minute)
	if got := c.revision(objecttest.Commit(2)); got.ResourceVersion != version {
		t.Errorf("a crash loop rewrote the revision: %+v", got.Status.Health)
	}

	c.broken = func(p *corev1.Pod) bool { return ofTag("v2")(p) || ofTag("v3")(p) }
	c.step(shop(t, objecttest.Commit(3), "v3", nil))
	c.untilPhase(objecttest.Commit(3), schema.PhaseFailed)
	c.expect(objecttest.Commit(3), "Synced Failed")
	c.goBack(shop(t, objecttest.Commit(1), "v1", nil))
	c.expect(objecttest.Commit(3), "Held Failed")
	c.expect(objecttest.Commit(1), "Held Healthy")
	if reason := c.revision(objecttest.Commit(1)).Status.Sync.Reason; !strings.Contains(reason, "main-300000000000") {
		t.Errorf("v1 is held: %s", reason)
	}
}

func TestNothingProvenToGoBackTo(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	c.loops("v1")
	c.pass(30 * time.Second)
	c.expect(objecttest.Commit(1), "Synced Degraded")
	c.broken = func(*corev1.Pod) bool { return true }
	c.step(shop(t, objecttest.Commit(2), "v2", nil))
	c.untilPhase(objecttest.Commit(2), schema.PhaseFailed)
	c.pass(3 * time.Second)
	if failed, to := settle.GoesBackTo(c.machine.Snapshot(), c.source()); failed != nil {
		t.Errorf("goes back to %s, which crashes", to.Name)
	}
	if reason := c.revision(objecttest.Commit(2)).Status.Health.Reason; !strings.Contains(reason, "not rolled back, because no revision before it has run well for 1m0s") {
		t.Errorf("it says: %s", reason)
	}
}

// What was restarted is well again once it has run for the source's healthyFor.
func TestARestartedPodMustRunForAWhile(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	c.broken, c.tried = ofTag("v1"), ofTag("v1")
	c.pass(5 * time.Second)
	c.expect(objecttest.Commit(1), "Synced Degraded")
	c.broken = func(*corev1.Pod) bool { return false }
	c.pass(58 * time.Second)
	c.expect(objecttest.Commit(1), "Synced Degraded")
	c.pass(4 * time.Second)
	c.expect(objecttest.Commit(1), "Synced Healthy")
	if since := c.revision(objecttest.Commit(1)).Status.Health.Since; c.now.Sub(since.Time) > 5*time.Second {
		t.Errorf("healthy since %s, now is %s", since, c.now)
	}
}

// What a booted node started again did not end by itself: it is well as soon as it is
// ready. A crash loop that the boot interrupted is not over by that.
func TestAfterABootPodsAreWellAtOnce(t *testing.T) {
	for _, crashed := range []bool{false, true} {
		c := newCluster(t, 3)
		c.push(shop(t, objecttest.Commit(1), "v1", nil))
		c.broken, c.tried = ofTag("v1"), ofTag("v1")
		if crashed {
			c.pass(5 * time.Second)
		}
		c.ended = func(*corev1.Pod) *corev1.ContainerStateTerminated {
			return &corev1.ContainerStateTerminated{ExitCode: 137, Reason: schema.ReasonNodeRebooted}
		}
		c.pass(5 * time.Second)
		c.expect(objecttest.Commit(1), "Synced Degraded")
		c.broken = func(*corev1.Pod) bool { return false }
		c.pass(3 * time.Second)
		if crashed {
			c.expect(objecttest.Commit(1), "Synced Degraded")
			c.pass(60 * time.Second)
		}
		c.expect(objecttest.Commit(1), "Synced Healthy")
	}
}

// A crash loop that a node's silence hid before the node booted is not over by that
// either.
func TestACrashLoopBehindASilenceIsNotOverWithABoot(t *testing.T) {
	for _, crashed := range []bool{false, true} {
		c := newCluster(t, 3)
		c.push(shop(t, objecttest.Commit(1), "v1", nil))
		onN3 := func(p *corev1.Pod) bool { return ofTag("v1")(p) && p.Spec.NodeName == "n3" }
		if crashed {
			c.broken, c.tried = onN3, onN3
			c.pass(5 * time.Second)
			c.expect(objecttest.Commit(1), "Synced Degraded")
		}
		all := c.nodes
		c.nodes = all[:2]
		c.pass(50 * time.Second)
		if reason := c.revision(objecttest.Commit(1)).Status.Health.Reason; !strings.Contains(reason, "node n3") {
			t.Fatalf("it says: %s", reason)
		}
		c.nodes, c.broken, c.tried = all, onN3, onN3
		c.ended = func(*corev1.Pod) *corev1.ContainerStateTerminated {
			return &corev1.ContainerStateTerminated{ExitCode: 137, Reason: schema.ReasonNodeRebooted}
		}
		c.pass(2 * time.Second)
		c.broken = func(*corev1.Pod) bool { return false }
		c.pass(5 * time.Second)
		if crashed {
			c.expect(objecttest.Commit(1), "Synced Degraded")
			c.pass(60 * time.Second)
		}
		c.expect(objecttest.Commit(1), "Synced Healthy")
	}
}

func TestALostNodeDegrades(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	all := c.nodes
	c.nodes = all[:2]
	c.pass(50 * time.Second)
	c.expect(objecttest.Commit(1), "Synced Degraded")
	if reason := c.revision(objecttest.Commit(1)).Status.Health.Reason; !strings.Contains(reason, "node n3") {
		t.Errorf("it says: %s", reason)
	}
	c.nodes = all
	c.pass(5 * time.Second)
	c.expect(objecttest.Commit(1), "Synced Healthy")
}

func TestARefusedRevisionLeavesTheOneThatRuns(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	bad := shop(t, objecttest.Commit(2), "v2", nil)
	bad.Diagnostics = schema.Diagnostics{{Position: schema.Position{Path: "api.yaml", Line: 3, Column: 1}, Severity: schema.Error, Message: "bad"}}
	c.push(bad)
	c.expect(objecttest.Commit(2), "Invalid -")
	c.expect(objecttest.Commit(1), "Held Healthy")
	c.push(shop(t, objecttest.Commit(3), "v1", func([]*schema.Desired) []*schema.Desired { return nil }))
	c.expect(objecttest.Commit(3), "Held -")
	c.expect(objecttest.Commit(2), "- -")
	c.loops("v1")
	c.pass(2 * time.Second)
	c.expect(objecttest.Commit(1), "Held Degraded")
	for _, cond := range c.revision(objecttest.Commit(1)).Status.Conditions {
		if cond.Status != metav1.ConditionFalse || cond.Message == "" || cond.Reason == "" {
			t.Errorf("condition %+v", cond)
		}
	}
}

// A pod that nothing makes again is gone with its node.
func TestDrift(t *testing.T) {
	c := newCluster(t, 2)
	bare := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "job"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "localhost/job:v1", ReadinessProbe: &corev1.Probe{}}}}}
	schema.SetOrigin(bare, schema.Origin{Source: "main", Path: "job.yaml", Line: 1, Commit: objecttest.Commit(1)})
	d := &schema.Desired{Object: bare, Position: schema.Position{Path: "job.yaml", Line: 1}, Locate: func(string) schema.Position { return schema.Position{} }}
	c.push(reconciler.Candidate{Source: "main", Commit: schema.CommitObject{Hash: objecttest.Commit(1)}, Tree: "t", Objects: []*schema.Desired{d}})
	c.expect(objecttest.Commit(1), "Synced Healthy")
	live, _ := state.Get[*corev1.Pod](c.machine.Snapshot(), "default", "job")
	all := c.nodes
	for i, name := range all {
		if string(name) == live.Spec.NodeName {
			c.nodes = append(append([]schema.NodeName{}, all[:i]...), all[i+1:]...)
		}
	}
	c.nodes = append(c.nodes, "n3", "n4")
	c.pass(control.DefaultEvictionAfter + 60*time.Second)
	c.expect(objecttest.Commit(1), "Synced Degraded")
	c.nodes = append(c.nodes, schema.NodeName(live.Spec.NodeName))
	c.pass(10 * time.Second)
	c.expect(objecttest.Commit(1), "Drifted Healthy")
	if reason := c.revision(objecttest.Commit(1)).Status.Sync.Reason; reason != "0 of the 1 objects that it asks for are there" {
		t.Errorf("it says: %s", reason)
	}
}

// What ran well is kept to go back to, however many commits were refused since.
func TestWhatRanWellIsKept(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	c.pass(61 * time.Second)
	bad := shop(t, objecttest.Commit(2), "v2", nil)
	bad.Diagnostics = schema.Diagnostics{{Position: schema.Position{Path: "api.yaml", Line: 3, Column: 1}, Severity: schema.Error, Message: "bad"}}
	for i := range schema.KeptRevisions + 5 {
		bad.Commit.Hash = schema.Commit(fmt.Sprintf("2%011d%028d", i, 0))
		c.step(bad)
	}
	c.broken = ofTag("v3")
	c.step(shop(t, objecttest.Commit(3), "v3", nil))
	c.untilPhase(objecttest.Commit(3), schema.PhaseFailed)
	if failed, to := settle.GoesBackTo(c.machine.Snapshot(), c.source()); failed == nil || to.Spec.Commit != objecttest.Commit(1) {
		t.Errorf("goes back from %v to %v", failed, to)
	}
}

// A restart of the master, and the upgrade from one that did not say how a revision
// stands, keep what is known.
func TestStandingSurvivesARestart(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	before := fmt.Sprintf("%+v", c.revision(objecttest.Commit(1)).Status.Health)
	c.pass(30 * time.Second)
	c.writes = 0
	c.restart()
	c.rest()
	if got := fmt.Sprintf("%+v", c.revision(objecttest.Commit(1)).Status.Health); got != before || c.writes != 0 {
		t.Errorf("%d writes, health %s, was %s", c.writes, got, before)
	}
}

// refused are the commits that change nothing, and the phase that each comes to.
func refused(t *testing.T) map[schema.Phase]reconciler.Candidate {
	invalid := shop(t, objecttest.Commit(3), "v3", nil)
	invalid.Diagnostics = schema.Diagnostics{{Position: schema.Position{Path: "api.yaml", Line: 3, Column: 1}, Severity: schema.Error, Message: "bad"}}
	return map[schema.Phase]reconciler.Candidate{
		schema.PhaseInvalid: invalid,
		schema.PhaseHeld:    shop(t, objecttest.Commit(3), "v3", func([]*schema.Desired) []*schema.Desired { return nil }),
	}
}

// A commit that changes nothing leaves the rollout of the one that is applied to be
// judged: it becomes healthy, or fails and is gone back from.
func TestARefusedRevisionLeavesTheRolloutUnderWay(t *testing.T) {
	for phase, cand := range refused(t) {
		for _, broken := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, crashing %v", phase, broken), func(t *testing.T) {
				c := newCluster(t, 3)
				c.push(shop(t, objecttest.Commit(1), "v1", nil))
				c.pass(61 * time.Second)
				c.broken = ofTag("v2")
				c.step(shop(t, objecttest.Commit(2), "v2", nil))
				c.pass(5 * time.Second)
				c.step(cand)
				c.expect(objecttest.Commit(2), "Held Progressing")
				if got := c.revision(objecttest.Commit(3)).Status.Phase; got != phase {
					t.Fatalf("the refused commit is %s", got)
				}
				if !broken {
					c.broken = func(*corev1.Pod) bool { return false }
					c.untilPhase(objecttest.Commit(2), schema.PhaseHealthy)
					return
				}
				c.untilPhase(objecttest.Commit(2), schema.PhaseFailed)
				c.goBack(shop(t, objecttest.Commit(1), "v1", nil))
				c.expect(objecttest.Commit(1), "Held Healthy")
				if got := c.revision(objecttest.Commit(2)).Status; got.Phase != schema.PhaseRolledBack || !got.Quarantined {
					t.Errorf("the failed revision is %s, quarantined %v", got.Phase, got.Quarantined)
				}
				if got := c.revision(objecttest.Commit(3)).Status.Phase; got != phase {
					t.Errorf("after going back the refused commit is %s", got)
				}
				said := c.source().Status.Conditions[0].Message
				want := fmt.Sprintf("Git asks for %.12s, which is %s (", objecttest.Commit(3), phase)
				if !strings.HasPrefix(said, want) || !strings.Contains(said, fmt.Sprintf("%.12s, which was applied, failed (", objecttest.Commit(2))) || !strings.HasSuffix(said, fmt.Sprintf("; %.12s runs", objecttest.Commit(1))) {
					t.Errorf("the source says %q", said)
				}
			})
		}
	}
}

// A commit that takes the place of what runs ends all that was under way before it,
// held ones too; one that is refused ends only those that Git no longer asks for.
func TestOnlyWhatIsReplacedIsSuperseded(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	c.broken = ofTag("v2")
	c.step(shop(t, objecttest.Commit(2), "v2", nil))
	c.step(refused(t)[schema.PhaseHeld])
	second := refused(t)[schema.PhaseInvalid]
	second.Commit.Hash = objecttest.Commit(4)
	c.step(second)
	phases := func(want ...schema.Phase) {
		t.Helper()
		for i, w := range want {
			if got := c.revision(objecttest.Commit(i + 2)).Status.Phase; got != w {
				t.Errorf("commit %d is %s, want %s", i+2, got, w)
			}
		}
	}
	phases(schema.PhaseRollingOut, schema.PhaseSuperseded, schema.PhaseInvalid)
	c.push(shop(t, objecttest.Commit(5), "v5", nil))
	phases(schema.PhaseSuperseded, schema.PhaseSuperseded, schema.PhaseInvalid, schema.PhaseHealthy)
}
