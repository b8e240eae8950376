package reconciler_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/objecttest"
)

const migrateJob = `
apiVersion: batch/v1
kind: Job
metadata: {name: migrate, namespace: shop}
spec:
  backoffLimit: 0
  template: {spec: {restartPolicy: Never, containers: [{name: c, image: "localhost/migrate:v1"}]}}`

const tickCronJob = `
apiVersion: batch/v1
kind: CronJob
metadata: {name: tick, namespace: shop}
spec:
  schedule: "*/5 * * * *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: "localhost/tick:v1"}]}}}}`

// with adds objects to a tree.
func with(t *testing.T, manifests ...string) func([]*schema.Desired) []*schema.Desired {
	t.Helper()
	return func(objects []*schema.Desired) []*schema.Desired {
		for _, text := range manifests {
			obj := parseObject(t, text)
			schema.Default(obj)
			schema.SetOrigin(obj, schema.OriginOf(objects[0].Object))
			objects = append(objects, asDesired(obj))
		}
		slices.SortFunc(objects, func(a, b *schema.Desired) int { return schema.KeyOf(a.Object).Compare(schema.KeyOf(b.Object)) })
		return objects
	}
}

func parseObject(t *testing.T, text string) schema.Object {
	t.Helper()
	var about struct{ Kind schema.Kind }
	if err := yaml.Unmarshal([]byte(text), &about); err != nil {
		t.Fatal(err)
	}
	obj := schema.Info(about.Kind).New()
	if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
		t.Fatal(err)
	}
	return obj
}

func asDesired(obj schema.Object) *schema.Desired {
	at := schema.Position{Path: "all.yaml", Line: 1}
	return &schema.Desired{Object: obj, Position: at, Locate: func(string) schema.Position { return at }}
}

// workers end after a few seconds, each once, those of the images with that exit code.
func (c *cluster) workers(codes map[string]int32) {
	since := map[types.UID]time.Time{}
	c.works = func(p *corev1.Pod) *corev1.ContainerStateTerminated {
		code, ok := codes[p.Spec.Containers[0].Image]
		if !ok {
			return nil
		}
		if since[p.UID].IsZero() {
			since[p.UID] = c.now
		}
		end := since[p.UID].Add(3 * time.Second)
		if c.now.Before(end) {
			return nil
		}
		return &corev1.ContainerStateTerminated{ExitCode: code, Reason: "Ended", FinishedAt: metav1.NewTime(end)}
	}
}

func (c *cluster) job(name string) *batchv1.Job {
	c.t.Helper()
	job, ok := state.Get[*batchv1.Job](c.machine.Snapshot(), "shop", name)
	if !ok {
		c.t.Fatalf("there is no Job %s", name)
	}
	return job
}

// jobs tells every Job, "name (identity): how it stands".
func jobs(s *state.Snapshot) (out []string) {
	for job := range state.All[*batchv1.Job](s, "shop") {
		out = append(out, fmt.Sprintf("%s (%s): %d succeeded, completed at %s", job.Name, job.UID, job.Status.Succeeded, job.Status.CompletionTime))
	}
	return out
}

// A master that lost its store runs no Job again that is done, also one that went by
// its time to live, and no tick of a CronJob: what its nodes kept says so.
func TestWipedStoreRunsNoJobTwice(t *testing.T) {
	c := newCluster(t, 3)
	c.workers(map[string]int32{"localhost/migrate:v1": 0, "localhost/tick:v1": 0})
	tree := with(t, migrateJob, tickCronJob, strings.NewReplacer("migrate,", "seed,", "backoffLimit: 0", "ttlSecondsAfterFinished: 60").Replace(migrateJob))
	cand := shop(t, objecttest.Commit(1), "v1", tree)
	c.step(cand)
	c.untilPhase(objecttest.Commit(1), schema.PhaseHealthy)
	c.pass(7 * time.Minute) // a tick at 03:05 and one at 03:10
	before := jobs(c.machine.Snapshot())
	if len(before) != 3 || len(c.source().Status.Finished) != 1 {
		t.Fatalf("want migrate and two ticks, seed remembered: %q, %v", before, c.source().Status.Finished)
	}
	made := map[types.UID]bool{}
	for pod := range state.All[*corev1.Pod](c.machine.Snapshot(), "shop") {
		made[pod.UID] = true
	}
	c.hear(c.wipe(), c.nodes...)
	c.rest()
	cand.Again = true
	c.rest(cand)
	c.pass(time.Minute)
	if got := jobs(c.machine.Snapshot()); !slices.Equal(got, before) {
		t.Errorf("the Jobs are\n%s\nwere\n%s", strings.Join(got, "\n"), strings.Join(before, "\n"))
	}
	for pod := range state.All[*corev1.Pod](c.machine.Snapshot(), "shop") {
		if !made[pod.UID] {
			t.Errorf("pod %s was made after the store was lost", pod.Name)
		}
	}
	c.pass(3 * time.Minute) // the tick at 03:15
	if got := jobs(c.machine.Snapshot()); len(got) != len(before)+1 {
		t.Errorf("at its next tick there is\n%s", strings.Join(got, "\n"))
	}
}

// A Job that fails takes its revision back, which keeps what its pod showed.
func TestARevisionFailedByAJobKeepsItsEvidence(t *testing.T) {
	c := newCluster(t, 3)
	c.push(shop(t, objecttest.Commit(1), "v1", nil))
	c.pass(61 * time.Second)
	c.workers(map[string]int32{"localhost/migrate:v1": 3})
	c.output = func(p *corev1.Pod) []string {
		if p.Spec.Containers[0].Image != "localhost/migrate:v1" {
			return nil
		}
		return []string{"begin", "no such table: orders"}
	}
	c.step(shop(t, objecttest.Commit(2), "v1", with(t, migrateJob)))
	c.untilPhase(objecttest.Commit(2), schema.PhaseFailed)
	if got, want := c.evidence(objecttest.Commit(2)), []string{"Job shop/migrate: CrashLoop, exit code 3: no such table: orders"}; !slices.Equal(got, want) {
		t.Errorf("evidence: %q, want %q", got, want)
	}
	if reason := c.revision(objecttest.Commit(2)).Status.Health.Reason; !strings.Contains(reason, "job migrate failed: BackoffLimitExceeded") || !strings.Contains(reason, "exit code 3") {
		t.Errorf("it failed because: %s", reason)
	}
	c.goBack(shop(t, objecttest.Commit(1), "v1", nil))
	if rev := c.revision(objecttest.Commit(2)); rev.Status.Phase != schema.PhaseRolledBack || len(rev.Status.Evidence) != 1 {
		t.Errorf("gone back: %s with evidence %v", rev.Status.Phase, rev.Status.Evidence)
	}
}

// A suspended Job keeps nothing from being well, and one that is resumed counts until
// it has succeeded.
func TestASuspendedJobIsHealthy(t *testing.T) {
	c := newCluster(t, 3)
	c.workers(map[string]int32{"localhost/migrate:v1": 0})
	suspended := strings.Replace(migrateJob, "backoffLimit: 0", "suspend: true", 1)
	c.step(shop(t, objecttest.Commit(1), "v1", with(t, suspended)))
	c.untilPhase(objecttest.Commit(1), schema.PhaseHealthy)
	c.expect(objecttest.Commit(1), "Synced Healthy")
	if job := c.job("migrate"); job.Status.StartTime != nil {
		t.Errorf("it ran: %+v", job.Status)
	}
	c.step(shop(t, objecttest.Commit(2), "v1", with(t, strings.Replace(suspended, "true", "false", 1))))
	c.step()
	c.expect(objecttest.Commit(2), "Synced Progressing")
	c.untilPhase(objecttest.Commit(2), schema.PhaseHealthy)
	if job := c.job("migrate"); job.Status.Succeeded != 1 {
		t.Errorf("healthy before it succeeded: %+v", job.Status)
	}
}
