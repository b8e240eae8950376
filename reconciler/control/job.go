package control

import (
	"cmp"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

var jobRow = Row{
	Kind:       schema.KindJob,
	Controller: controllerCell{Do: Controller{"job", jobTriggers, reconcileJob}},
	Created:    createdCell{Do: prepareJob},
	Remove:     removeCell{None: justDeleted},
	Dependents: dependentsCell{Do: podsOwnedBy},
	Collect:    collectCell{Do: collectJob},
	Done:       doneCell{Do: jobSucceeded},
	Configured: configuredCell{None: takenOver},
	StandIn:    standInCell{None: noStandIn},
}

// prepareJob gives a Job that is about to be created the selector of its pods, by the
// identity that it is going to have.
func prepareJob(c *Context, obj schema.Object) {
	job := obj.(*batchv1.Job)
	if job.UID == "" {
		job.UID = schema.UID(schema.KeyOf(job), c.Tx.Counters().Creations+1)
	}
	delete(job.Annotations, schema.AnnotationLedger) // nobody else writes it
	job.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{batchv1.ControllerUidLabel: string(job.UID)}}
}

// collectJob removes a Job whose CronJob is gone.
func collectJob(c *Context, job schema.Object) {
	if _, gone := ownerGone(c.Tx, job); gone {
		c.Tx.Delete(schema.KeyOf(job))
	}
}

func jobSucceeded(obj schema.Object) bool {
	_, ok := health.JobCondition(obj.(*batchv1.Job), batchv1.JobComplete)
	return ok
}

func jobTriggers(_ state.Reader, c state.Change) []schema.Key {
	if c.Key.Kind == schema.KindJob {
		return []schema.Key{c.Key}
	}
	var keys []schema.Key
	for _, pod := range changedSides[*corev1.Pod](c) {
		if key, ok := ownerKey(pod, schema.KindJob); ok && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// reconcileJob counts the pods that ended, decides whether the Job is over, and makes
// or ends pods until as many are active as it wants.
func reconcileJob(c *Context, key schema.Key) (wake time.Time) {
	job, ok := state.Get[*batchv1.Job](c.Tx, key.Namespace, key.Name)
	if !ok {
		return wake
	}
	v := visitJob(c, job)
	v.count()
	if health.JobFinished(job) {
		return expireJob(c, job)
	}
	v.startClock()
	if target := v.target(); target != nil {
		v.endAll(*target)
	} else {
		v.manage()
		v.tellSuspended()
		if v.completed() {
			v.enter(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods")
		}
	}
	v.finish()
	v.store()
	return v.wake
}

// jobVisit is one visit of a Job.
type jobVisit struct {
	*Context
	job     *batchv1.Job // frozen
	next    *batchv1.Job // annotations and status may change
	ledger  jobLedger
	counted spans // pods that are through, by number
	done    spans // indexes that succeeded
	failed  spans // indexes that failed for good

	active      []*corev1.Pod
	made        int // pods made in this visit
	terminating int
	ruled       string // why the pod failure policy fails the Job
	wake        time.Time
}

func visitJob(c *Context, job *batchv1.Job) *jobVisit {
	next := *job
	next.Annotations = maps.Clone(job.Annotations)
	next.Status.Conditions = slices.Clone(job.Status.Conditions)
	v := &jobVisit{Context: c, job: job, next: &next, ledger: ledgerOf(job), done: parseSpans(job.Status.CompletedIndexes)}
	v.counted = parseSpans(v.ledger.Counted)
	if job.Status.FailedIndexes != nil {
		v.failed = parseSpans(*job.Status.FailedIndexes)
	}
	if n, ok := wanted(job); ok && isIndexed(job) {
		v.done, v.failed = v.done.below(n), v.failed.below(n)
	}
	return v
}

// startClock counts the Job's time from now when it begins, and anew when it is
// resumed.
func (v *jobVisit) startClock() {
	_, was := health.JobCondition(v.job, batchv1.JobSuspended)
	if isSuspended(v.job) || !was && v.job.Status.StartTime != nil {
		return
	}
	now := v.Stamp()
	v.next.Status.StartTime = &now
	if was {
		v.set(batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed")
		Event(v.Context, v.job, corev1.EventTypeNormal, "Resumed", "Job resumed")
	}
}

// target is the condition that ends the Job, nil while nothing does. One that was
// reached stays.
func (v *jobVisit) target() *batchv1.JobCondition {
	for _, t := range []batchv1.JobConditionType{batchv1.JobSuccessCriteriaMet, batchv1.JobFailureTarget} {
		if cond, ok := health.JobCondition(v.job, t); ok {
			return &cond
		}
	}
	spec, s := &v.job.Spec, &v.next.Status
	fail := func(reason, message string) *batchv1.JobCondition {
		return &batchv1.JobCondition{Type: batchv1.JobFailureTarget, Reason: reason, Message: message}
	}
	n, _ := wanted(v.job)
	message, met := succeedsEarly(v.job, v.done)
	switch {
	case v.ruled != "":
		return fail(batchv1.JobReasonPodFailurePolicy, v.ruled)
	case int(s.Failed) > limit(spec.BackoffLimit) || v.restartedTooOften():
		return fail(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	case v.pastDeadline():
		return fail(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
	case v.failed.count() > limit(spec.MaxFailedIndexes):
		return fail(batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
	case len(v.failed) > 0 && v.failed.count()+v.done.count() >= n:
		return fail(batchv1.JobReasonFailedIndexes, "Job has failed indexes")
	case met:
		return &batchv1.JobCondition{Type: batchv1.JobSuccessCriteriaMet, Reason: batchv1.JobReasonSuccessPolicy, Message: message}
	}
	return nil
}

// restartedTooOften holds where the containers of a pod are started again in place.
func (v *jobVisit) restartedTooOften() bool {
	if v.job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	var sum int32
	for _, pod := range v.active {
		for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			sum += s.RestartCount
		}
	}
	return sum > 0 && int(sum) >= limit(v.job.Spec.BackoffLimit)
}

func (v *jobVisit) pastDeadline() bool {
	seconds, start := v.job.Spec.ActiveDeadlineSeconds, v.next.Status.StartTime
	if seconds == nil || start == nil || isSuspended(v.job) || v.Config.Foreseen {
		return false
	}
	due := start.Add(time.Duration(*seconds) * time.Second)
	if due.After(v.Now) {
		v.wake = earliest(v.wake, due)
		return false
	}
	return true
}

// endAll lets every active pod of a Job go that is over. They count as failed, unless
// it succeeded without them.
func (v *jobVisit) endAll(target batchv1.JobCondition) {
	v.enter(target.Type, target.Reason, target.Message)
	for _, pod := range v.active {
		if target.Type == batchv1.JobFailureTarget {
			v.next.Status.Failed++
		}
		v.end(pod, "Job "+v.job.Name+" is over: "+cmp.Or(target.Message, target.Reason))
	}
	v.active = nil
}

// end lets a pod go of which nothing more is counted.
func (v *jobVisit) end(pod *corev1.Pod, why string) {
	number, _ := podNumber(pod)
	v.counted = v.counted.add(number)
	if onKnownNode(v.Tx, pod) {
		v.terminating++
	}
	DeletePod(v.Context, pod, why)
}

// completed reports whether the work is done. A Job without a number of completions
// is, once one of its pods succeeded and the others have ended.
func (v *jobVisit) completed() bool {
	succeeded, active := int(v.next.Status.Succeeded), len(v.active)+v.made
	n, ok := wanted(v.job)
	return active == 0 && (ok && succeeded >= n || !ok && succeeded > 0)
}

func (v *jobVisit) tellSuspended() {
	if _, was := health.JobCondition(v.job, batchv1.JobSuspended); was || !isSuspended(v.job) {
		return
	}
	v.set(batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended")
	Event(v.Context, v.job, corev1.EventTypeNormal, "Suspended", "Job suspended")
}

// finish says that the Job is over, once none of its pods is left that could still
// work.
func (v *jobVisit) finish() {
	target := func(t batchv1.JobConditionType) (batchv1.JobCondition, bool) { return health.JobCondition(v.next, t) }
	if len(v.active)+v.made+v.terminating > 0 {
		return
	}
	if cond, ok := target(batchv1.JobFailureTarget); ok {
		v.enter(batchv1.JobFailed, cond.Reason, cond.Message)
		Event(v.Context, v.job, corev1.EventTypeWarning, cond.Reason, cond.Message)
	} else if cond, ok := target(batchv1.JobSuccessCriteriaMet); ok {
		v.enter(batchv1.JobComplete, cond.Reason, cond.Message)
		now := v.Stamp()
		v.next.Status.CompletionTime = &now
		Event(v.Context, v.job, corev1.EventTypeNormal, "Completed", "Job completed")
	}
}

func (v *jobVisit) enter(t batchv1.JobConditionType, reason, message string) {
	v.set(t, corev1.ConditionTrue, reason, message)
}

// set keeps a condition that is there with the same status.
func (v *jobVisit) set(t batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string) {
	s, now := &v.next.Status, v.Stamp()
	cond := batchv1.JobCondition{Type: t, Status: status, Reason: reason, Message: message, LastProbeTime: now, LastTransitionTime: now}
	i := slices.IndexFunc(s.Conditions, func(c batchv1.JobCondition) bool { return c.Type == t })
	switch {
	case i < 0:
		s.Conditions = append(s.Conditions, cond)
	case s.Conditions[i].Status != status:
		s.Conditions[i] = cond
	}
}

// store writes what the visit found, if it is anything new.
func (v *jobVisit) store() {
	s, ready := &v.next.Status, int32(0)
	for _, pod := range v.active {
		if health.Ready(pod) {
			ready++
		}
	}
	terminating := int32(v.terminating)
	s.Active, s.Ready, s.Terminating = int32(len(v.active)+v.made), &ready, &terminating
	if isIndexed(v.job) {
		s.CompletedIndexes = v.done.String()
	}
	if v.job.Spec.BackoffLimitPerIndex != nil {
		failed := v.failed.String()
		s.FailedIndexes = &failed
	}
	v.ledger.Counted = v.counted.String()
	setAnnotation(v.next, schema.AnnotationLedger, v.ledger.String())
	if !maps.Equal(v.job.Annotations, v.next.Annotations) || !equality.Semantic.DeepEqual(v.job.Status, v.next.Status) {
		v.Tx.Put(v.next)
	}
}

// expireJob removes a Job that is over when its time to live is, and says on its source
// that it is not to be made again.
func expireJob(c *Context, job *batchv1.Job) (wake time.Time) {
	seconds := job.Spec.TTLSecondsAfterFinished
	if seconds == nil || c.Config.Foreseen {
		return wake
	}
	over := health.JobFinishedAt(job)
	if due := over.Add(time.Duration(*seconds) * time.Second); due.After(c.Now) {
		return due
	}
	record := schema.FailedRecordOf(job)
	if jobSucceeded(job) {
		record = schema.FinishedRecordOf(job)
	}
	if noteFinished(c, job, record) {
		Event(c, job, corev1.EventTypeNormal, "Deleted", "its ttlSecondsAfterFinished is over")
		c.Tx.Delete(schema.KeyOf(job))
	}
	return wake
}
