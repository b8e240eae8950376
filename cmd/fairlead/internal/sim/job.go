package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/pod"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// A Job promises to count each of its pods once, as its processes ended; never more
// active pods than it may have, none while it is suspended; and that work which is done
// is not done again, whatever is lost: no pod for an index that succeeded, none once the
// Job is over, and no other Job in the place of one that succeeded and that Git asks for
// still. Once faults stop it is over.
var jobRow = row{
	kind: schema.KindJob,
	asks: schema.Cell[asking]{Do: asking{
		begin: firstJobs, change: changeJobs, last: lastJob, text: jobText,
		flawless: func(a workload) bool { return a.tag != "crash" },
	}},
	holds:    schema.Cell[func(*truth, *state.Snapshot, schema.Object)]{Do: (*truth).works},
	leaves:   schema.Cell[func(t *truth, was, is *state.Snapshot, p *corev1.Pod)]{None: "a Job may let go of any pod: what it counts is looked at"},
	missing:  schema.Cell[func(*truth, schema.Key) bool]{Do: func(t *truth, key schema.Key) bool { return t.work.over[key] }},
	outlives: schema.Cell[func(schema.Object) bool]{Do: func(obj schema.Object) bool { return jobIs(obj.(*batchv1.Job), batchv1.JobComplete) }},
	rests:    schema.Cell[func(*truth, schema.Object, podSet) string]{Do: (*truth).jobRests},
}

// jobAsk is what is asked for of a Job, a CronJob's as well. Its completions are the
// workload's replicas.
type jobAsk struct {
	parallelism int
	backoff     int
	indexed     bool
	inPlace     bool // containers that failed are started again in their pod
	onlyEnded   bool // a pod is replaced once it has ended
	suspended   bool
	ttl         int // in seconds; 0: it stays
	policy      batchv1.ConcurrencyPolicy
}

// jobsAskedFor is how many seeds there are to one that asks for Jobs, and to one that
// asks for CronJobs.
const jobsAskedFor = 4

func firstJobs(t *team) (out []workload) {
	if t.jobs.IntN(jobsAskedFor) != 0 {
		return nil
	}
	for i := range 1 + t.jobs.IntN(2) {
		out = append(out, workload{kind: schema.KindJob, name: fmt.Sprint("job", i), tag: "done", replicas: 1 + t.jobs.IntN(3), job: drawJob(t.jobs)})
	}
	return out
}

// patience is how many pods of a Job without a flaw may be lost to faults.
const patience = 6

func drawJob(chance *rand.Rand) jobAsk {
	j := jobAsk{
		parallelism: 1 + chance.IntN(3), backoff: patience, indexed: chance.IntN(2) == 0, inPlace: chance.IntN(3) == 0,
		onlyEnded: chance.IntN(3) == 0, suspended: chance.IntN(6) == 0,
	}
	if chance.IntN(3) == 0 {
		j.ttl = 10
	}
	return j
}

// changeJobs suspends, resumes and resizes, asks for other work, under another name or
// in place of what there is, takes one out for a while, or brings a flaw.
func changeJobs(t *team, next []workload) ([]workload, string) {
	if len(next) == 0 || t.jobs.IntN(2) == 0 {
		return next, ""
	}
	i := t.jobs.IntN(len(next))
	a := &next[i]
	switch t.jobs.IntN(6) {
	case 0:
		a.job.suspended = !a.job.suspended
		return next, fmt.Sprintf(" %s suspended: %v", a.name, a.job.suspended)
	case 1:
		a.job.parallelism = 1 + t.jobs.IntN(3)
		return next, fmt.Sprintf(" %s by %d", a.name, a.job.parallelism)
	case 2:
		a.config++
		return next, fmt.Sprintf(" %s does other work", a.name)
	case 3:
		*a = anewPod(*a)
		a.tag, a.job.backoff, a.job.suspended = "crash", 0, false
		return next, fmt.Sprintf(" %s fails", a.name)
	case 4:
		if len(next) > 1 {
			what := " without " + a.name
			return append(next[:i], next[i+1:]...), what
		}
	}
	was := a.name
	*a = anewPod(*a)
	return next, fmt.Sprintf(" %s in place of %s", a.name, was)
}

func lastJob(a workload) workload {
	a = anewPod(a)
	a.job.suspended = false
	return a
}

func jobText(a workload) string {
	return fmt.Sprintf(`apiVersion: batch/v1
kind: Job
metadata: {name: %s, namespace: shop, annotations: {fairlead/replace: "true"}}
spec:
%s`, a.name, jobSpec(a))
}

func jobSpec(a workload) string {
	j, mode, restart, replace, ttl := a.job, batchv1.NonIndexedCompletion, corev1.RestartPolicyNever, batchv1.TerminatingOrFailed, ""
	if j.indexed {
		mode = batchv1.IndexedCompletion
	}
	if j.inPlace {
		restart = corev1.RestartPolicyOnFailure
	}
	if j.onlyEnded {
		replace = batchv1.Failed
	}
	if j.ttl > 0 {
		ttl = fmt.Sprintf("\n  ttlSecondsAfterFinished: %d", j.ttl)
	}
	return fmt.Sprintf(`  completions: %d
  parallelism: %d
  completionMode: %s
  backoffLimit: %d
  suspend: %v
  podReplacementPolicy: %s%s
  template:
    spec:
      restartPolicy: %s
      terminationGracePeriodSeconds: %d
      tolerations:
        - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
        - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
      containers:
        - {name: app, image: "localhost/app:%s", env: [{name: TURN, value: "%d"}], resources: {requests: {cpu: 20m, memory: 16Mi}}}
`, a.replicas, j.parallelism, mode, j.backoff, j.suspended, replace, ttl, restart, graceSeconds, a.tag, a.config)
}

// workTruth is what is known of Jobs that no process remembers.
type workTruth struct {
	ended     map[types.UID]bool                 // pods with a process that ended well
	made      map[types.UID]map[types.UID]int    // by Job: its pods, and on which completion each worked
	finished  map[types.UID]bool                 // Jobs
	over      map[schema.Key]bool                // names of Jobs that were over
	succeeded map[schema.Key]success             // and Git asks for them since
	runs      map[types.UID]map[string]types.UID // by CronJob and scheduled time: the Job
	asked     map[types.UID]string               // what a Job was asked for when it was made
}

// success is which Job did which work.
type success struct {
	job  types.UID
	spec string
}

func newWorkTruth() *workTruth {
	return &workTruth{
		ended: map[types.UID]bool{}, made: map[types.UID]map[types.UID]int{}, finished: map[types.UID]bool{}, over: map[schema.Key]bool{},
		succeeded: map[schema.Key]success{}, runs: map[types.UID]map[string]types.UID{}, asked: map[types.UID]string{},
	}
}

// forget lets work be done again that a commit which is well no longer asks for.
func (w *workTruth) forget(asked []schema.Key) {
	still := map[schema.Key]bool{}
	for _, key := range asked {
		still[key] = true
	}
	for key := range w.succeeded {
		if !still[key] {
			delete(w.succeeded, key)
		}
	}
}

// exited is told how a process of a pod ended.
func (t *truth) exited(uid types.UID, e pod.Exit) {
	if e.Code == 0 && !e.Unknown {
		t.work.ended[uid] = true
	}
}

func jobIs(job *batchv1.Job, want batchv1.JobConditionType) bool {
	for _, c := range job.Status.Conditions {
		if c.Type == want {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func jobIsOver(job *batchv1.Job) bool {
	return jobIs(job, batchv1.JobComplete) || jobIs(job, batchv1.JobFailed)
}

func isOf(p *corev1.Pod, job *batchv1.Job) bool { return metav1.IsControlledBy(p, job) }

// works holds a Job to all that it promises at every instant.
func (t *truth) works(s *state.Snapshot, obj schema.Object) {
	job := obj.(*batchv1.Job)
	if t.work.asked[job.UID] == "" {
		t.work.asked[job.UID] = jobWork(job)
	}
	active := 0
	for p := range state.All[*corev1.Pod](s, job.Namespace) {
		if !isOf(p, job) {
			continue
		}
		if t.work.made[job.UID][p.UID] == 0 {
			t.makes(job, p)
		}
		if p.DeletionTimestamp == nil && !ended(p) {
			active++
		}
	}
	switch most := int(*job.Spec.Parallelism); {
	case *job.Spec.Suspend && active > 0:
		t.w.broken("S2", "job %s is suspended and has %d active pods", job.Name, active)
	case active > most:
		t.w.broken("S2", "job %s has %d active pods, it may have %d", job.Name, active, most)
	}
	t.counts(job)
	key := schema.KeyOf(job)
	if jobIsOver(job) {
		t.work.finished[job.UID], t.work.over[key] = true, true
	}
	if jobIs(job, batchv1.JobComplete) && metav1.GetControllerOf(job) == nil {
		t.work.succeeded[key] = success{job.UID, jobWork(job)}
	}
}

// jobWork is what a Job is asked for: another spec asks for other work.
func jobWork(job *batchv1.Job) string {
	spec := job.Spec
	spec.Selector = nil
	return schema.Hash(spec)
}

// makes holds a new pod to what its Job has done before.
func (t *truth) makes(job *batchv1.Job, p *corev1.Pod) {
	index := p.Annotations[batchv1.JobCompletionIndexAnnotation]
	if t.work.made[job.UID] == nil {
		t.work.made[job.UID] = map[types.UID]int{}
	}
	completion := 1
	_, _ = fmt.Sscan(index, &completion)
	t.work.made[job.UID][p.UID] = completion + 1
	if t.work.finished[job.UID] {
		t.w.broken("S2", "job %s is over and makes %s", job.Name, p.Name)
	}
	if did, ok := t.work.succeeded[schema.KeyOf(job)]; ok && did.job != job.UID && did.spec == t.work.asked[job.UID] {
		t.w.broken("S2", "job %s succeeded and is done again: %s", job.Name, p.Name)
	}
}

// counts: a pod is counted once, and as succeeded only where its process ended well.
func (t *truth) counts(job *batchv1.Job) {
	well, indexes := 0, map[int]bool{}
	for uid, completion := range t.work.made[job.UID] {
		if t.work.ended[uid] {
			well++
			indexes[completion] = true
		}
	}
	if *job.Spec.CompletionMode == batchv1.IndexedCompletion {
		well = len(indexes)
	}
	made, succeeded, failed := len(t.work.made[job.UID]), int(job.Status.Succeeded), int(job.Status.Failed)
	if succeeded+failed > made {
		t.w.broken("S18", "job %s counts %d pods that succeeded and %d that failed, it made %d", job.Name, succeeded, failed, made)
	}
	if succeeded > well {
		t.w.broken("S18", "job %s counts %d as succeeded, of which %d ended well", job.Name, succeeded, well)
	}
	if jobIs(job, batchv1.JobComplete) && well < int(*job.Spec.Completions) {
		t.w.broken("S18", "job %s is complete, %d of %d ended well", job.Name, well, *job.Spec.Completions)
	}
	if jobIs(job, batchv1.JobFailed) && failed <= int(*job.Spec.BackoffLimit) && !strings.HasSuffix(job.Spec.Template.Spec.Containers[0].Image, ":crash") && job.Spec.Template.Spec.RestartPolicy == corev1.RestartPolicyNever {
		t.w.broken("S18", "job %s has failed with %d failed pods of %d that may", job.Name, failed, *job.Spec.BackoffLimit)
	}
}

func (t *truth) jobRests(obj schema.Object, pods podSet) string {
	job := obj.(*batchv1.Job)
	for p := range state.All[*corev1.Pod](t.latest, job.Namespace) {
		if isOf(p, job) {
			if p.DeletionTimestamp != nil {
				return p.Name + " has not gone"
			}
			pods[p.UID] = p
		}
	}
	switch {
	case !jobIsOver(job) && !*job.Spec.Suspend:
		return fmt.Sprintf("job %s is not over", job.Name)
	case jobIsOver(job) && job.Spec.TTLSecondsAfterFinished != nil:
		return fmt.Sprintf("job %s has not gone", job.Name)
	}
	return ""
}
