package control

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

var cronJobRow = Row{
	Kind:       schema.KindCronJob,
	Controller: controllerCell{Do: Controller{"cronjob", cronJobTriggers, reconcileCronJob}},
	Created:    createdCell{None: asWritten},
	Remove:     removeCell{None: justDeleted},
	Dependents: dependentsCell{Do: jobsOwnedBy},
	Collect:    collectCell{None: needsNothing},
	Done:       doneCell{None: neverDone},
	Configured: configuredCell{None: takenOver},
	StandIn:    standInCell{None: noStandIn},
}

func jobsOwnedBy(r state.Reader, owner schema.Object) iter.Seq[schema.Object] {
	return r.By(state.JobsByOwner, string(owner.GetUID()))
}

func cronJobTriggers(_ state.Reader, c state.Change) []schema.Key {
	if c.Key.Kind == schema.KindCronJob {
		return []schema.Key{c.Key}
	}
	var keys []schema.Key
	for _, job := range changedSides[*batchv1.Job](c) {
		if key, ok := ownerKey(job, schema.KindCronJob); ok && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// reconcileCronJob looks at the Jobs that were made, makes the next one if its time has
// come, and removes those that the history has no room for.
func reconcileCronJob(c *Context, key schema.Key) (wake time.Time) {
	cj, ok := state.Get[*batchv1.CronJob](c.Tx, key.Namespace, key.Name)
	if !ok {
		return wake
	}
	v := &cronVisit{Context: c, cj: cj, next: state.Shallow(cj)}
	v.next.Status.Active = slices.Clone(cj.Status.Active)
	v.look()
	v.trim()
	if !c.Config.Foreseen && (cj.Spec.Suspend == nil || !*cj.Spec.Suspend) {
		wake = v.run()
	}
	if !equality.Semantic.DeepEqual(cj.Status, v.next.Status) {
		c.Tx.Put(v.next)
	}
	return wake
}

// cronVisit is one visit of a CronJob.
type cronVisit struct {
	*Context
	cj   *batchv1.CronJob // frozen
	next *batchv1.CronJob // its status may change
}

func (v *cronVisit) tell(eventType, reason, format string, args ...any) {
	Event(v.Context, v.cj, eventType, reason, fmt.Sprintf(format, args...))
}

// warn tells what stays true until the CronJob changes or the next run is due, once.
func (v *cronVisit) warn(since time.Time, reason, format string, args ...any) {
	eventOnce(v.Context, since, v.cj, corev1.EventTypeWarning, reason, fmt.Sprintf(format, args...))
}

func (v *cronVisit) isActive(uid types.UID) bool {
	return slices.ContainsFunc(v.next.Status.Active, func(ref corev1.ObjectReference) bool { return ref.UID == uid })
}

func (v *cronVisit) drop(uid types.UID) {
	v.next.Status.Active = slices.DeleteFunc(v.next.Status.Active, func(ref corev1.ObjectReference) bool { return ref.UID == uid })
}

// look takes over how the Jobs are.
func (v *cronVisit) look() {
	there := map[types.UID]bool{}
	for obj := range jobsOwnedBy(v.Tx, v.cj) {
		job := obj.(*batchv1.Job)
		there[job.UID] = true
		finished, listed := health.JobFinished(job), v.isActive(job.UID)
		switch {
		case !listed && !finished:
			v.next.Status.Active = append(v.next.Status.Active, referenceTo(job))
			v.tell(corev1.EventTypeWarning, "UnexpectedJob", "Saw a job that the controller did not create or forgot: %s", job.Name)
		case listed && finished:
			v.drop(job.UID)
			v.tell(corev1.EventTypeNormal, "SawCompletedJob", "Saw completed job: %s, condition: %s", job.Name, finalCondition(job))
		}
		if done, last := job.Status.CompletionTime, v.next.Status.LastSuccessfulTime; done != nil && (last == nil || done.After(last.Time)) {
			v.next.Status.LastSuccessfulTime = done
		}
	}
	for _, ref := range v.cj.Status.Active {
		if !there[ref.UID] {
			v.drop(ref.UID)
			v.tell(corev1.EventTypeNormal, "MissingJob", "Active job went missing: %s", ref.Name)
		}
	}
}

func finalCondition(job *batchv1.Job) batchv1.JobConditionType {
	if _, ok := health.JobCondition(job, batchv1.JobComplete); ok {
		return batchv1.JobComplete
	}
	return batchv1.JobFailed
}

func referenceTo(job *batchv1.Job) corev1.ObjectReference {
	info := schema.Info(schema.KindJob)
	return corev1.ObjectReference{APIVersion: info.APIVersion(), Kind: string(info.Kind), Namespace: job.Namespace, Name: job.Name, UID: job.UID}
}

// trim removes the oldest of the finished Jobs beyond the history's limits.
func (v *cronVisit) trim() {
	limits := map[batchv1.JobConditionType]*int32{batchv1.JobComplete: v.cj.Spec.SuccessfulJobsHistoryLimit, batchv1.JobFailed: v.cj.Spec.FailedJobsHistoryLimit}
	kept := map[batchv1.JobConditionType][]*batchv1.Job{}
	for obj := range jobsOwnedBy(v.Tx, v.cj) {
		if job := obj.(*batchv1.Job); health.JobFinished(job) {
			kept[finalCondition(job)] = append(kept[finalCondition(job)], job)
		}
	}
	for _, how := range slices.Sorted(maps.Keys(kept)) {
		jobs := kept[how]
		slices.SortFunc(jobs, func(a, b *batchv1.Job) int {
			return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
		for _, job := range jobs[:max(0, len(jobs)-limit(limits[how]))] {
			v.remove(job)
		}
	}
}

func (v *cronVisit) remove(job *batchv1.Job) {
	v.drop(job.UID)
	v.tell(corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job %s", job.Name)
	v.Tx.Delete(schema.KeyOf(job))
}

// run makes the Job whose time has come, and returns when the next one's does.
func (v *cronVisit) run() (wake time.Time) {
	schedule, err := schema.ParseSchedule(v.cj.Spec.Schedule, v.cj.Spec.TimeZone)
	if err != nil {
		v.warn(lastRun(v.cj), "UnparseableSchedule", "unparseable schedule: %q : %v", v.cj.Spec.Schedule, err)
		return wake
	}
	due, many, err := lastDue(v.cj, v.Now, schedule, true)
	switch {
	case err != nil:
		v.warn(lastRun(v.cj), "InvalidSchedule", "invalid schedule: %s : %v", v.cj.Spec.Schedule, err)
		return wake
	case due.IsZero():
		return nextRun(v.cj, v.Now, schedule)
	case many:
		v.warn(due, "TooManyMissedTimes", "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
	}
	wake = v.start(due)
	return earliest(wake, nextRun(v.next, v.Now, schedule))
}

// start makes the Job of a time, unless something speaks against it; it returns when to
// try again what may have passed by then, before another run is due.
func (v *cronVisit) start(due time.Time) (wake time.Time) {
	spec, status := &v.cj.Spec, &v.next.Status
	switch {
	case spec.StartingDeadlineSeconds != nil && due.Add(time.Duration(*spec.StartingDeadlineSeconds)*time.Second).Before(v.Now):
		v.warn(due, "MissSchedule", "Missed scheduled time to start a job: %s", due.UTC().Format(time.RFC1123Z))
		return wake
	case status.LastScheduleTime != nil && !due.After(status.LastScheduleTime.Time):
		return wake
	case spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(status.Active) > 0:
		eventOnce(v.Context, due, v.cj, corev1.EventTypeNormal, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
		return wake
	}
	at := metav1.NewTime(due.UTC())
	name := v.cj.Name + "-" + strconv.FormatInt(due.Unix()/60, 10)
	replaced := v.replaced()
	if have, ok := state.Get[*batchv1.Job](v.Tx, v.cj.Namespace, name); ok && !slices.Contains(replaced, have) {
		status.LastScheduleTime = &at
		if !metav1.IsControlledBy(have, v.cj) {
			v.tell(corev1.EventTypeWarning, "FailedCreate", "Error creating job: there is another job %s", name)
		}
		return wake
	}
	job := v.jobOf(name, due)
	if !v.hasRoom(job, replaced) {
		v.warn(due, "NoRoom", "Not starting job %s: the Jobs of source %s, or of all sources, take as much as the nodes can keep for the master; let Jobs end before others start, or remove some", name, schema.SourceOf(v.cj))
		return v.Now.Add(roomRetry)
	}
	for _, old := range replaced {
		v.remove(old)
	}
	status.LastScheduleTime = &at
	v.Tx.Put(job)
	status.Active = append(status.Active, referenceTo(job))
	v.tell(corev1.EventTypeNormal, "SuccessfulCreate", "Created job %s", name)
	return wake
}

// active are the Jobs that run.
func (v *cronVisit) active() (jobs []*batchv1.Job) {
	for _, ref := range v.next.Status.Active {
		if job, ok := state.Get[*batchv1.Job](v.Tx, ref.Namespace, ref.Name); ok && job.UID == ref.UID {
			jobs = append(jobs, job)
		}
	}
	return jobs
}

// replaced are the Jobs that end for another one to start.
func (v *cronVisit) replaced() []*batchv1.Job {
	if v.cj.Spec.ConcurrencyPolicy != batchv1.ReplaceConcurrent {
		return nil
	}
	return v.active()
}

// hasRoom reports whether the nodes can keep one Job more, in place of those that are
// replaced. Beside one that waits for a node it has less room: others would wait as well.
func (v *cronVisit) hasRoom(job *batchv1.Job, replaced []*batchv1.Job) bool {
	need := wire.TakesOf(job).Kept
	for _, old := range replaced {
		need -= wire.TakesOf(old).Kept
	}
	if need <= 0 || need <= aheadRoom(v.Tx, v.cj, need) {
		return true
	}
	waits := len(replaced) == 0 && slices.ContainsFunc(v.active(), func(job *batchv1.Job) bool { return waitsForNode(v.Tx, job) })
	return !waits && need <= keptRoom(v.Tx, v.cj, need)
}

// waitsForNode reports whether a pod of the Job has no node.
func waitsForNode(r state.Reader, job *batchv1.Job) bool {
	for pod := range state.By[*corev1.Pod](r, state.PodsByOwner, string(job.UID)) {
		if pod.Spec.NodeName == "" && active(pod) {
			return true
		}
	}
	return false
}

func (v *cronVisit) jobOf(name string, due time.Time) *batchv1.Job {
	template := v.cj.Spec.JobTemplate.DeepCopy()
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: v.cj.Namespace, Labels: template.Labels, Annotations: template.Annotations,
			OwnerReferences: []metav1.OwnerReference{ownerRef(v.cj)}, CreationTimestamp: v.Stamp(), Generation: 1,
		},
		Spec: template.Spec,
	}
	// Its name tells the minute, in which another of that name may have run.
	job.UID = schema.OwnedUID(schema.KeyOf(job), v.cj.UID, int(due.Unix()))
	maps.DeleteFunc(job.Annotations, func(key, _ string) bool { return strings.HasPrefix(key, schema.Group+"/") })
	setAnnotation(job, batchv1.CronJobScheduledTimestampAnnotation, due.Format(time.RFC3339))
	schema.InheritOrigin(job, v.cj)
	schema.Default(job)
	prepareJob(v.Context, job)
	return job
}

// manyMissed is from how many missed runs on Kubernetes warns.
const manyMissed = 100

// lastDue is the last time at or before now at which a CronJob was to run and has not,
// zero for none, and whether many were missed; with the CronJob's starting deadline
// only what can still be made up for is looked at. Missed runs are estimated from the
// first two, as in Kubernetes.
func lastDue(cj *batchv1.CronJob, now time.Time, schedule schema.Schedule, deadline bool) (last time.Time, many bool, err error) {
	since := lastRun(cj)
	if seconds := cj.Spec.StartingDeadlineSeconds; deadline && seconds != nil {
		if from := now.Add(-time.Duration(*seconds) * time.Second); from.After(since) {
			since = from
		}
	}
	first := schedule.Next(since)
	second := schedule.Next(first)
	switch {
	case now.Before(first):
		return last, false, nil
	case now.Before(second):
		return first, false, nil
	}
	between := second.Sub(first).Round(time.Second)
	if between < time.Second {
		return last, false, fmt.Errorf("time difference between two schedules is less than 1 second")
	}
	missed := int64(now.Sub(first)/between) + 1
	// Where the schedule pauses, as over a weekend, there is none near the estimate: it is
	// looked for ever further back, which ends at the second at the latest.
	for before := int64(2); last.IsZero(); before *= 2 {
		from := first.Add(time.Duration(max(0, missed-before)) * between)
		for t := schedule.Next(from); !t.After(now) && !t.IsZero(); t = schedule.Next(t) {
			last = t
		}
	}
	return last, missed > manyMissed, nil
}

// lastRun is the time from which runs are counted.
func lastRun(cj *batchv1.CronJob) time.Time {
	if cj.Status.LastScheduleTime != nil {
		return cj.Status.LastScheduleTime.UTC()
	}
	return cj.CreationTimestamp.UTC()
}

// nextRun is when a CronJob is to run after now; zero for never.
func nextRun(cj *batchv1.CronJob, now time.Time, schedule schema.Schedule) time.Time {
	since := lastRun(cj)
	if now.After(since) {
		since = now
	}
	return schedule.Next(since.UTC())
}
