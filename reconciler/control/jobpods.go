package control

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// completionIndexEnv is where a container of an Indexed Job finds its index.
const completionIndexEnv = "JOB_COMPLETION_INDEX"

// podNumber is the how-manieth pod of its Job a pod is.
func podNumber(pod *corev1.Pod) (n int, ok bool) {
	n, err := strconv.Atoi(pod.Annotations[schema.AnnotationSequence])
	return n, err == nil && n >= 0
}

// podIndex is the completion that a pod works on; false for one without.
func podIndex(pod *corev1.Pod) (index int, ok bool) {
	index, err := strconv.Atoi(pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	return index, err == nil && index >= 0
}

// maxEndedPods bounds the pods of a Job that ended and stay, for their logs: each is a
// container on its node's disk, and every visit of the Job goes through them.
const maxEndedPods = 1000

// count goes through the pods: what ended since the last visit is counted, once; what
// is there no more and was never counted has failed. It takes what is there, not what
// the Job has made.
func (v *jobVisit) count() {
	var present spans
	var ended []*corev1.Pod
	for _, p := range v.numbered() {
		present, v.ledger.Made = present.add(p.number), max(v.ledger.Made, p.number+1)
		v.countPod(p.Pod, p.number)
		if health.Ended(p.Pod) && p.DeletionTimestamp == nil {
			ended = append(ended, p.Pod)
		}
	}
	for n := free(0, v.counted, present); n < v.ledger.Made; n = free(n+1, v.counted, present) {
		v.noteFailure(n)
	}
	if isIndexed(v.job) {
		v.next.Status.Succeeded = int32(v.done.count())
	}
	v.trim(ended)
}

type numberedPod struct {
	*corev1.Pod
	number int
}

// numbered are the pods of the Job in their order.
func (v *jobVisit) numbered() (out []numberedPod) {
	for pod := range state.By[*corev1.Pod](v.Tx, state.PodsByOwner, string(v.job.UID)) {
		if n, ok := podNumber(pod); ok {
			out = append(out, numberedPod{pod, n})
		}
	}
	slices.SortFunc(out, func(a, b numberedPod) int { return cmp.Compare(a.number, b.number) })
	return out
}

// trim lets those of the pods go, which have ended and are in their order, that are more
// than may stay: the oldest, of those that failed only when no other is left.
func (v *jobVisit) trim(ended []*corev1.Pod) {
	excess := min(len(ended)-maxEndedPods, MaxPodsPerVisit)
	for _, phase := range []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed} {
		for _, pod := range ended {
			if excess <= 0 {
				return
			}
			if pod.Status.Phase == phase {
				letPodGo(v.Context, pod)
				excess--
			}
		}
	}
}

func (v *jobVisit) countPod(pod *corev1.Pod, n int) {
	leaving := pod.DeletionTimestamp != nil && !health.Ended(pod)
	if leaving {
		v.terminating++
	}
	switch {
	case v.counted.has(n):
	case wasMoved(pod):
		v.counted = v.counted.add(n)
	case pod.Status.Phase == corev1.PodSucceeded:
		v.noteSuccess(pod, n)
	case pod.Status.Phase == corev1.PodFailed:
		v.countFailed(pod, n)
	case leaving && !onlyEnded(v.job):
		v.countFailed(pod, n)
	case !leaving:
		v.active = append(v.active, pod)
	}
	if isReleased(pod) {
		v.Tx.Delete(schema.KeyOf(pod))
	}
}

// wasMoved reports whether a pod never started because of its node, and another takes
// its place elsewhere.
func wasMoved(pod *corev1.Pod) bool {
	cond, ok := health.Condition(pod, corev1.DisruptionTarget)
	return ok && cond.Status == corev1.ConditionTrue && cond.Reason == reasonMoved
}

func (v *jobVisit) noteSuccess(pod *corev1.Pod, n int) {
	v.counted, v.ledger.Failures, v.ledger.FailedAt = v.counted.add(n), 0, 0
	if !isIndexed(v.job) {
		v.next.Status.Succeeded++
	} else if index, ok := podIndex(pod); ok && index < limit(v.job.Spec.Completions) {
		v.done = v.done.add(index)
		delete(v.ledger.Indexes, index)
	}
}

// countFailed does with a pod that failed what the pod failure policy says.
func (v *jobVisit) countFailed(pod *corev1.Pod, n int) {
	said := rule(v.job, pod)
	if said.action == batchv1.PodFailurePolicyActionIgnore {
		v.counted = v.counted.add(n)
		v.ledger.Ignored++
		return
	}
	v.noteFailure(n)
	if said.action == batchv1.PodFailurePolicyActionFailJob && v.ruled == "" {
		v.ruled = said.message
	}
	if index, ok := podIndex(pod); ok && v.job.Spec.BackoffLimitPerIndex != nil && index < limit(v.job.Spec.Completions) {
		v.failIndex(index, said.action == batchv1.PodFailurePolicyActionFailIndex)
	}
}

func (v *jobVisit) noteFailure(n int) {
	v.counted = v.counted.add(n)
	v.next.Status.Failed++
	v.ledger.Failures++
	v.ledger.FailedAt = v.Now.Unix()
}

// failIndex counts a failure of an index, which has failed for good if it was told so
// or has no retry left.
func (v *jobVisit) failIndex(index int, forGood bool) {
	failures := v.ledger.Indexes[index].Failures + 1
	if forGood || failures > limit(v.job.Spec.BackoffLimitPerIndex) {
		delete(v.ledger.Indexes, index)
		if !v.done.has(index) {
			v.failed = v.failed.add(index)
		}
		return
	}
	if v.ledger.Indexes == nil {
		v.ledger.Indexes = map[int]indexFailures{}
	}
	v.ledger.Indexes[index] = indexFailures{failures, v.Now.Unix()}
}

// manage makes pods, or lets some go, but never both in one visit.
func (v *jobVisit) manage() {
	want := v.wantActive()
	if surplus := v.surplus(want); len(surplus) > 0 {
		v.endSurplus(surplus[:min(len(surplus), MaxPodsPerVisit)], want)
		return
	}
	missing := want - len(v.active)
	if onlyEnded(v.job) {
		missing -= v.terminating
	}
	if missing <= 0 || v.predecessor() {
		return
	}
	if v.job.Spec.BackoffLimitPerIndex == nil {
		if at := retryAt(v.ledger.Failures, v.ledger.FailedAt); at.After(v.Now) {
			v.wake = earliest(v.wake, at)
			return
		}
	}
	v.create(min(missing, MaxPodsPerVisit))
}

// aheadPods is how many pods of so many may be made and left without a node: there is room
// for one from the Job's start, and for others where nothing else needs it.
func (v *jobVisit) aheadPods(pods int) int {
	each := wire.AheadOf(v.job)
	fit := int(max(0, aheadRoom(v.Tx, v.job, int64(pods)*each)) / each)
	for _, pod := range v.active {
		if pod.Spec.NodeName == "" {
			return fit
		}
	}
	return max(1, fit)
}

// tellNoRoom says that more pods are to be made as soon as nodes take those that wait.
func (v *jobVisit) tellNoRoom() {
	eventOnce(v.Context, v.Now.Add(-roomTold), v.job, corev1.EventTypeWarning, "NoRoom", fmt.Sprintf(
		"not all pods are made yet: the objects of source %s, or of all sources, and pods that wait for a node take as much as the nodes can keep for the master; the others are made one after the other, as nodes take them",
		schema.SourceOf(v.job)))
	v.wake = earliest(v.wake, v.Now.Add(roomRetry))
}

func (v *jobVisit) endSurplus(surplus []*corev1.Pod, want int) {
	going := map[*corev1.Pod]bool{}
	for i, pod := range surplus {
		if i < MaxPodEvents {
			Event(v.Context, v.job, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+pod.Name)
		}
		v.end(pod, fmt.Sprintf("Job %s wants %d pods", v.job.Name, want))
		going[pod] = true
	}
	v.active = slices.DeleteFunc(v.active, func(p *corev1.Pod) bool { return going[p] })
}

// wantActive is how many pods are to be active: no more than there are completions
// left. Without a number of completions the first success ends the making of pods.
func (v *jobVisit) wantActive() int {
	n, ok := wanted(v.job)
	switch {
	case isSuspended(v.job):
		return 0
	case !ok && v.next.Status.Succeeded > 0:
		return len(v.active)
	case !ok:
		return limit(v.job.Spec.Parallelism)
	}
	return max(0, min(limit(v.job.Spec.Parallelism), n-int(v.next.Status.Succeeded)-v.failed.count()))
}

// surplus are the pods to let go: of an Indexed Job those that work on an index twice,
// or on one that is not wanted, and then what is missed least.
func (v *jobVisit) surplus(want int) (out []*corev1.Pod) {
	if !isIndexed(v.job) && len(v.active) <= want {
		return nil
	}
	pods := slices.Clone(v.active)
	slices.Reverse(pods) // of equals the newest goes first
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(
			compareBool(b.Spec.NodeName == "", a.Spec.NodeName == ""), cmp.Compare(phaseRank(a), phaseRank(b)),
			compareBool(health.Ready(a), health.Ready(b)),
		)
	})
	if !isIndexed(v.job) {
		return pods[:max(0, len(pods)-want)]
	}
	var worked spans
	var keep []*corev1.Pod
	for _, pod := range slices.Backward(pods) {
		index, ok := podIndex(pod)
		if !ok || index >= limit(v.job.Spec.Completions) || v.done.has(index) || v.failed.has(index) || worked.has(index) {
			out = append(out, pod)
			continue
		}
		worked = worked.add(index)
		keep = append(keep, pod)
	}
	for _, pod := range slices.Backward(keep) {
		if len(pods)-len(out) <= want {
			break
		}
		out = append(out, pod)
	}
	return out
}

// predecessor reports whether a pod is left of a Job that had this name before: two
// Jobs of one name never work side by side.
func (v *jobVisit) predecessor() bool {
	for pod := range state.By[*corev1.Pod](v.Tx, state.PodsByLabel, state.LabelValue(v.job.Namespace, batchv1.JobNameLabel, v.job.Name)) {
		key, ok := ownerKey(pod, schema.KindJob)
		if ok && key.Name == v.job.Name && metav1.GetControllerOfNoCopy(pod).UID != v.job.UID && !health.Ended(pod) {
			return true
		}
	}
	return false
}

// create makes n pods: of an Indexed Job for the first indexes that none works on and
// that are not in back-off. Where there is no room for pods that wait, it ends with the
// first that no node takes at once.
func (v *jobVisit) create(n int) {
	indexes := make([]int, n)
	if isIndexed(v.job) {
		indexes = v.pending(n)
	}
	ahead := v.aheadPods(len(indexes))
	for _, index := range indexes {
		if ahead <= 0 {
			v.tellNoRoom()
			break
		}
		pod := v.podOf(index)
		PreparePod(v.Context, pod)
		if v.made++; v.made <= MaxPodEvents {
			Event(v.Context, v.job, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: "+pod.Name)
		}
		v.putPod(pod)
		if stored, ok := state.Get[*corev1.Pod](v.Tx, pod.Namespace, pod.Name); ok && stored.Spec.NodeName == "" {
			ahead--
		}
	}
	if v.made > MaxPodEvents {
		Event(v.Context, v.job, corev1.EventTypeNormal, "SuccessfulCreate", fmt.Sprintf("Created %d more pods", v.made-MaxPodEvents))
	}
}

// pending are the first n indexes that are open, without those that wait for their
// back-off.
func (v *jobVisit) pending(n int) (out []int) {
	var worked []int
	for _, pod := range v.active {
		if index, ok := podIndex(pod); ok {
			worked = append(worked, index)
		}
	}
	taken := spansOf(worked)
	open := func(from int) int { return free(from, v.done, v.failed, taken) }
	for index := open(0); index < limit(v.job.Spec.Completions) && n > 0; index = open(index + 1) {
		n--
		failures := v.ledger.Indexes[index]
		if at := retryAt(failures.Failures, failures.FailedAt); v.job.Spec.BackoffLimitPerIndex != nil && at.After(v.Now) {
			v.wake = earliest(v.wake, at)
			continue
		}
		out = append(out, index)
	}
	return out
}

// podOf is the Job's next pod. What it does not add to is shared with the template.
func (v *jobVisit) podOf(index int) *corev1.Pod {
	base := v.job.Name + "-"
	if isIndexed(v.job) {
		base += strconv.Itoa(index) + "-"
	}
	key := schema.Key{Kind: schema.KindPod, Namespace: v.job.Namespace}
	number := v.ledger.Made
	for ; ; number++ {
		key.Name = base[:min(len(base), maxPodNameBase)] + schema.NameSuffix(v.job.UID, number)
		if v.Tx.Get(key) == nil {
			break
		}
		v.counted = v.counted.add(number) // the name is another's: there is no such pod
	}
	v.ledger.Made = number + 1
	template := &v.job.Spec.Template
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: key.Name, GenerateName: base, Namespace: key.Namespace, UID: schema.OwnedUID(key, v.job.UID, number),
			Labels: maps.Clone(template.Labels), Annotations: maps.Clone(template.Annotations),
			OwnerReferences: []metav1.OwnerReference{ownerRef(v.job)}, Finalizers: []string{batchv1.JobTrackingFinalizer},
		},
		Spec: template.Spec,
	}
	v.label(pod)
	setAnnotation(pod, schema.AnnotationSequence, strconv.Itoa(number))
	if isIndexed(v.job) {
		v.giveIndex(pod, index)
	}
	schema.InheritOrigin(pod, v.job)
	return pod
}

// label gives a pod the labels by which Kubernetes finds a Job's pods, the older names
// included.
func (v *jobVisit) label(pod *corev1.Pod) {
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	for _, prefix := range []string{"", "batch.kubernetes.io/"} {
		pod.Labels[prefix+"controller-uid"], pod.Labels[prefix+"job-name"] = string(v.job.UID), v.job.Name
	}
}

// giveIndex tells a pod and its containers which completion they work on.
func (v *jobVisit) giveIndex(pod *corev1.Pod, index int) {
	text := strconv.Itoa(index)
	setAnnotation(pod, batchv1.JobCompletionIndexAnnotation, text)
	pod.Labels[batchv1.JobCompletionIndexAnnotation] = text
	if failures := v.ledger.Indexes[index].Failures; v.job.Spec.BackoffLimitPerIndex != nil {
		setAnnotation(pod, batchv1.JobIndexFailureCountAnnotation, strconv.Itoa(failures))
	}
	pod.Spec.Hostname = v.job.Name + "-" + text
	pod.Spec.InitContainers, pod.Spec.Containers = withIndex(pod.Spec.InitContainers), withIndex(pod.Spec.Containers)
}

func withIndex(containers []corev1.Container) []corev1.Container {
	out := slices.Clone(containers)
	for i := range out {
		if slices.ContainsFunc(out[i].Env, func(e corev1.EnvVar) bool { return e.Name == completionIndexEnv }) {
			continue
		}
		out[i].Env = append(slices.Clip(out[i].Env), corev1.EnvVar{Name: completionIndexEnv, ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.labels['" + batchv1.JobCompletionIndexAnnotation + "']"},
		}})
	}
	return out
}
