package schema

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// KindJob is the kind of batch's Job.
const KindJob Kind = "Job"

var jobRow = Row{
	KindInfo: KindInfo{
		Kind: KindJob, Group: "batch", Version: "v1", Resource: "jobs", Singular: "job",
		Namespaced: true, Desired: true, All: true, New: func() Object { return &batchv1.Job{} },
	},
	Name:       nameCell{Do: jobName},
	Supported:  supportedCell{Do: []string{below("spec", jobFields), below("spec.template.spec", podSpecFields)}},
	Defaults:   defaultsCell{Do: func(obj Object) { defaultJob(obj.(*batchv1.Job)) }},
	Judge:      judgeCell{Do: judgeJob},
	Update:     updateCell{Do: updateJob},
	Work:       workCell{Do: Work{Same: sameJob, Size: sizeOfJob}},
	Pods:       podsCell{Do: podsOfJob},
	References: referencesCell{Do: referencesOf(podsOfJob)},
	Data:       dataCell{None: noData},
	Backends:   backendsCell{None: noBackends},
	Claims:     claimsCell{None: claimsNone},
	Declares:   declaresCell{None: declaresNone},
	Rights:     rightsCell{None: noRights},
	Owns:       ownsCell{Do: []Kind{KindPod}},
	Carry:      carryCell{Do: carryJob},
	Memory:     memoryCell{Do: Memory{Lean: all, Brief: unfinishedJob, Ahead: podOfJob, Room: roomOfJob}},
	Whole:      wholeCell{Do: wholeJob},
}

// jobFields are those of a Job's spec, wherever it stands.
const jobFields = `
		parallelism
		completions
		completionMode
		activeDeadlineSeconds
		backoffLimit
		backoffLimitPerIndex
		maxFailedIndexes
		podFailurePolicy
		successPolicy
		podReplacementPolicy
		suspend
		ttlSecondsAfterFinished
		manualSelector = false
		selector ! leave it out: a Job's pods are selected by its identity
		managedBy = kubernetes.io/job-controller
		template.metadata.labels
		template.metadata.annotations
		template.metadata.name ~ pods are named after their Job
		template.metadata.namespace ~ pods live in their Job's namespace
		template.metadata.creationTimestamp -`

// maxJobName is that of a label's value, for its pods name it in one.
const maxJobName = validation.LabelValueMaxLength

func jobName(name string) []string { return subdomainOf(name, maxJobName) }

// subdomainOf is Kubernetes' rule for the names of most kinds, with a lower bound.
func subdomainOf(name string, most int) []string {
	wrong := validation.IsDNS1123Subdomain(name)
	if len(name) > most {
		wrong = append(wrong, validation.MaxLenError(most))
	}
	return wrong
}

// podsOfJob are as many as are to succeed, or as work at once where that is not said.
func podsOfJob(obj Object) PodTemplate {
	job := obj.(*batchv1.Job)
	return podsOfJobSpec("spec", &job.Spec, 0)
}

func podsOfJobSpec(at string, s *batchv1.JobSpec, between int64) PodTemplate {
	count, field := s.Parallelism, ".parallelism"
	if s.Completions != nil {
		count, field = s.Completions, ".completions"
	}
	return PodTemplate{
		Meta: &s.Template.ObjectMeta, MetaField: at + ".template.metadata", Spec: &s.Template.Spec, SpecField: at + ".template.spec",
		Count: countOf(count), CountField: at + field, Between: between,
	}
}

func defaultJob(job *batchv1.Job) {
	if len(job.Labels) == 0 {
		job.Labels = maps.Clone(job.Spec.Template.Labels)
	}
	defaultJobSpec(&job.Spec)
}

// defaultBackoffLimit is how many pods of a Job may fail, as in Kubernetes.
const defaultBackoffLimit = 6

func defaultJobSpec(s *batchv1.JobSpec) {
	if s.Completions == nil && s.Parallelism == nil {
		setPointer(&s.Completions, 1)
	}
	setPointer(&s.Parallelism, 1)
	if s.BackoffLimitPerIndex != nil {
		setPointer(&s.BackoffLimit, math.MaxInt32)
	}
	setPointer(&s.BackoffLimit, defaultBackoffLimit)
	setPointer(&s.CompletionMode, batchv1.NonIndexedCompletion)
	setPointer(&s.Suspend, false)
	setPointer(&s.ManualSelector, false)
	replace := batchv1.TerminatingOrFailed
	if s.PodFailurePolicy != nil {
		replace = batchv1.Failed
		for i := range s.PodFailurePolicy.Rules {
			conditions := s.PodFailurePolicy.Rules[i].OnPodConditions
			for j := range conditions {
				setDefault(&conditions[j].Status, corev1.ConditionTrue)
			}
		}
	}
	setPointer(&s.PodReplacementPolicy, replace)
}

// Kubernetes' bounds on Jobs.
const (
	maxIndexedParallelism   = 100_000 // of Indexed ones
	maxPerIndexParallelism  = 10_000  // with a limit per index, of more than maxPerIndexCompletions
	maxPerIndexCompletions  = 100_000
	maxPolicyRules          = 20
	maxPolicyExitCodes      = 255
	maxPolicyPodConditions  = 20
	maxSuccessRules         = 20
	maxSucceededIndexesText = 64 << 10
)

func judgeJob(p *problems, obj Object) {
	job := obj.(*batchv1.Job)
	p.jobSpec("spec", &job.Spec)
	if isIndexed(&job.Spec) && job.Spec.Completions != nil && *job.Spec.Completions > 0 {
		last := job.Name + "-" + strconv.Itoa(int(*job.Spec.Completions)-1)
		if wrong := validation.IsDNS1123Label(last); len(wrong) > 0 {
			p.add("metadata.name", "the pod of the last index would have the hostname %q, which is not valid: %s", last, shortRule(wrong[0]))
		}
	}
	if v, ok := job.Annotations[AnnotationReplace]; ok && v != "true" && v != "false" {
		p.hint("metadata.annotations["+AnnotationReplace+"]", `"true" or "false"`, "%q is not a known value", v)
	}
}

func isIndexed(s *batchv1.JobSpec) bool {
	return s.CompletionMode != nil && *s.CompletionMode == batchv1.IndexedCompletion
}

// jobLabels are those by which a Job knows its pods.
var jobLabels = []string{
	batchv1.JobNameLabel, batchv1.ControllerUidLabel, "job-name", "controller-uid",
}

// jobSpec judges a Job's own fields; its pods are judged with all others.
func (p *problems) jobSpec(at string, s *batchv1.JobSpec) {
	for _, n := range []struct {
		name  string
		value *int32
	}{
		{".parallelism", s.Parallelism}, {".completions", s.Completions}, {".backoffLimit", s.BackoffLimit}, {".backoffLimitPerIndex", s.BackoffLimitPerIndex},
		{".maxFailedIndexes", s.MaxFailedIndexes}, {".ttlSecondsAfterFinished", s.TTLSecondsAfterFinished},
	} {
		if n.value != nil {
			within(p, at, n.name, int64(*n.value), 0, maxInt32)
		}
	}
	if s.ActiveDeadlineSeconds != nil {
		within(p, at, ".activeDeadlineSeconds", *s.ActiveDeadlineSeconds, 0, maxInt32)
	}
	oneOf(p, at, ".completionMode", *s.CompletionMode, batchv1.NonIndexedCompletion, batchv1.IndexedCompletion)
	oneOf(p, at, ".podReplacementPolicy", *s.PodReplacementPolicy, batchv1.TerminatingOrFailed, batchv1.Failed)
	if s.PodFailurePolicy != nil && *s.PodReplacementPolicy != batchv1.Failed {
		p.add(at+".podReplacementPolicy", "must be %q where there is a podFailurePolicy: a pod is judged by it once it has ended", batchv1.Failed)
	}
	if policy := s.Template.Spec.RestartPolicy; policy != corev1.RestartPolicyNever && policy != corev1.RestartPolicyOnFailure {
		p.hint(at+".template.spec.restartPolicy", `write "OnFailure" or "Never"`, "%q: pods of a Job end", string(policy))
	}
	for _, key := range jobLabels {
		if _, ok := s.Template.Labels[key]; ok {
			p.hint(at+".template.metadata.labels["+key+"]", "leave it out", "the pods of a Job get this label from their Job")
		}
	}
	p.jobIndexes(at, s)
	p.podFailurePolicy(at+".podFailurePolicy", s)
	p.successPolicy(at+".successPolicy", s)
}

// jobIndexes judges what has a meaning for Indexed Jobs only.
func (p *problems) jobIndexes(at string, s *batchv1.JobSpec) {
	switch {
	case !isIndexed(s):
		if s.BackoffLimitPerIndex != nil {
			p.add(at+".backoffLimitPerIndex", "requires completionMode Indexed")
		}
		if s.SuccessPolicy != nil {
			p.add(at+".successPolicy", "requires completionMode Indexed")
		}
	case s.Completions == nil:
		p.add(at+".completions", "must be set with completionMode Indexed")
	case *s.Parallelism > maxIndexedParallelism:
		p.add(at+".parallelism", "%d must be at most %d with completionMode Indexed", *s.Parallelism, maxIndexedParallelism)
	case s.BackoffLimitPerIndex != nil && *s.Completions > maxPerIndexCompletions && (s.MaxFailedIndexes == nil || *s.MaxFailedIndexes > maxPerIndexParallelism || *s.Parallelism > maxPerIndexParallelism):
		p.add(at+".completions", "more than %d with backoffLimitPerIndex require parallelism and maxFailedIndexes of at most %d", maxPerIndexCompletions, maxPerIndexParallelism)
	}
	switch {
	case s.MaxFailedIndexes == nil:
	case s.BackoffLimitPerIndex == nil:
		p.add(at+".maxFailedIndexes", "requires backoffLimitPerIndex")
	case s.Completions != nil && *s.MaxFailedIndexes > *s.Completions:
		p.add(at+".maxFailedIndexes", "%d must be at most completions, which is %d", *s.MaxFailedIndexes, *s.Completions)
	}
	if s.BackoffLimitPerIndex != nil && s.Template.Spec.RestartPolicy != corev1.RestartPolicyNever {
		p.add(at+".backoffLimitPerIndex", `requires restartPolicy "Never"`)
	}
}

func (p *problems) podFailurePolicy(at string, s *batchv1.JobSpec) {
	if s.PodFailurePolicy == nil {
		return
	}
	if s.Template.Spec.RestartPolicy != corev1.RestartPolicyNever {
		p.add(at, `requires restartPolicy "Never"`)
	}
	if n := len(s.PodFailurePolicy.Rules); n == 0 || n > maxPolicyRules {
		p.add(at+".rules", "must have 1 to %d rules", maxPolicyRules)
	}
	for i := range s.PodFailurePolicy.Rules {
		p.failureRule(fmt.Sprintf("%s.rules[%d]", at, i), &s.PodFailurePolicy.Rules[i], s)
	}
}

func (p *problems) failureRule(at string, r *batchv1.PodFailurePolicyRule, s *batchv1.JobSpec) {
	oneOf(p, at, ".action", r.Action, batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionFailIndex, batchv1.PodFailurePolicyActionIgnore, batchv1.PodFailurePolicyActionCount)
	if r.Action == batchv1.PodFailurePolicyActionFailIndex && s.BackoffLimitPerIndex == nil {
		p.add(at+".action", "FailIndex requires backoffLimitPerIndex")
	}
	if (r.OnExitCodes != nil) == (len(r.OnPodConditions) > 0) {
		p.add(at, "must have exactly one of onExitCodes and onPodConditions")
	}
	if r.OnExitCodes != nil {
		p.exitCodes(at+".onExitCodes", r.OnExitCodes, &s.Template.Spec)
	}
	if len(r.OnPodConditions) > maxPolicyPodConditions {
		p.add(at+".onPodConditions", "must have at most %d conditions", maxPolicyPodConditions)
	}
	for i, c := range r.OnPodConditions {
		where := fmt.Sprintf("%s.onPodConditions[%d]", at, i)
		p.rule(where, ".type", string(c.Type), validation.IsQualifiedName)
		oneOf(p, where, ".status", c.Status, corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown)
	}
}

func (p *problems) exitCodes(at string, r *batchv1.PodFailurePolicyOnExitCodesRequirement, pod *corev1.PodSpec) {
	oneOf(p, at, ".operator", r.Operator, batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn)
	if r.ContainerName != nil && ContainerOf(pod, *r.ContainerName) == nil {
		p.add(at+".containerName", "the template has no container %q", *r.ContainerName)
	}
	if n := len(r.Values); n == 0 || n > maxPolicyExitCodes {
		p.add(at+".values", "must have 1 to %d exit codes", maxPolicyExitCodes)
	}
	for i, v := range r.Values {
		field := fmt.Sprintf("%s.values[%d]", at, i)
		switch {
		case v == 0 && r.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn:
			p.add(field, "0 is no failure")
		case slices.Contains(r.Values[:i], v):
			p.add(field, "%d is listed twice", v)
		case i > 0 && v < r.Values[i-1]:
			p.add(field, "exit codes must be in increasing order")
		}
	}
}

func (p *problems) successPolicy(at string, s *batchv1.JobSpec) {
	if s.SuccessPolicy == nil || s.Completions == nil {
		return
	}
	if n := len(s.SuccessPolicy.Rules); n == 0 || n > maxSuccessRules {
		p.add(at+".rules", "must have 1 to %d rules", maxSuccessRules)
	}
	for i, r := range s.SuccessPolicy.Rules {
		field := fmt.Sprintf("%s.rules[%d]", at, i)
		most := int(*s.Completions)
		if r.SucceededIndexes == nil && r.SucceededCount == nil {
			p.add(field, "must have at least one of succeededCount and succeededIndexes")
		}
		if r.SucceededIndexes != nil {
			n, why := countIndexes(*r.SucceededIndexes, most)
			if why != "" {
				p.add(field+".succeededIndexes", "%s", why)
				continue
			}
			most = n
		}
		if r.SucceededCount != nil {
			within(p, field, ".succeededCount", int64(*r.SucceededCount), 1, int64(most))
		}
	}
}

// countIndexes counts the indexes of "1,3-5", which must be in order and below
// completions, or says what is wrong.
func countIndexes(text string, completions int) (n int, why string) {
	if len(text) > maxSucceededIndexesText {
		return 0, fmt.Sprintf("must have at most %d bytes", maxSucceededIndexesText)
	}
	after := -1
	for part := range strings.SplitSeq(text, ",") {
		low, high, ranged := strings.Cut(part, "-")
		first, err := strconv.Atoi(low)
		last := first
		if err == nil && ranged {
			last, err = strconv.Atoi(high)
		}
		switch {
		case err != nil || first < 0:
			return 0, fmt.Sprintf("%q is no index and no range like 3-5", part)
		case first <= after || last < first:
			return 0, fmt.Sprintf("%q: indexes must be in increasing order", part)
		case last >= completions:
			return 0, fmt.Sprintf("%q: the last index is %d", part, completions-1)
		}
		n, after = n+last-first+1, last
	}
	return n, ""
}

// replaceHint is how to have a Job that cannot change replaced.
const replaceHint = `a Job's work is done once: to have it replaced, its pods with it, set the annotation ` + AnnotationReplace + `: "true"; or give it another name`

// updateJob is Kubernetes' rules: an Indexed Job may be resized as a whole, and where
// pods run may change of one that is suspended and has not started.
func updateJob(p *problems, old, new Object) {
	was, is := old.(*batchv1.Job), new.(*batchv1.Job)
	for _, c := range Diff(old, new) {
		field, ok := strings.CutPrefix(c.Path, "spec.")
		switch {
		case !ok || slices.Contains(jobFieldsInPlace, field):
		case field == "completions" && isSized(&was.Spec) && isResized(&is.Spec):
		case was.Status.StartTime == nil && was.Spec.Suspend != nil && *was.Spec.Suspend && placesPods(field):
		default:
			p.hint(c.Path, replaceHint, "cannot change once the Job exists: %s", c.words())
		}
	}
}

// jobFieldsInPlace may change of any Job.
var jobFieldsInPlace = []string{"parallelism", "suspend", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished", "maxFailedIndexes", "podReplacementPolicy"}

// sameJob leaves what no change in place could have come to: the Job would be there with
// it, and its work still done.
func sameJob(_ Object, spec map[string]any) {
	for _, field := range jobFieldsInPlace {
		delete(spec, field)
	}
}

// sizeOfJob is how many indexes an Indexed Job has.
func sizeOfJob(obj Object, spec map[string]any) (has, mayCome bool) {
	s := &obj.(*batchv1.Job).Spec
	delete(spec, "completions")
	return isSized(s), isResized(s)
}

func isSized(s *batchv1.JobSpec) bool { return isIndexed(s) && s.Completions != nil }

// isResized reports whether a Job may be what became of one with any other number of
// indexes: that may change together with parallelism.
func isResized(s *batchv1.JobSpec) bool { return isSized(s) && *s.Completions == *s.Parallelism }

// placesPods reports whether a field says where pods run, or what they are called.
func placesPods(field string) bool {
	return slices.ContainsFunc([]string{"template.metadata.labels", "template.metadata.annotations", "template.spec.nodeSelector", "template.spec.affinity", "template.spec.tolerations"},
		func(at string) bool { return strings.HasPrefix(field, at) })
}

func carryJob(live, next Object) {
	was, is := live.(*batchv1.Job), next.(*batchv1.Job)
	is.Status, is.Spec.Selector = was.Status, was.Spec.Selector
}

func jobIsOver(job *batchv1.Job) bool {
	return slices.ContainsFunc(job.Status.Conditions, func(c batchv1.JobCondition) bool {
		return (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue
	})
}

// unfinishedJob is nil for a Job that a CronJob made and that is over: the CronJob's status
// tells when it ran.
func unfinishedJob(obj Object) Object {
	job := obj.(*batchv1.Job)
	if jobIsOver(job) && metav1.GetControllerOfNoCopy(job) != nil {
		return nil
	}
	return job
}

// What the record of a Job's pod takes beyond the Job's own, which holds the template: its
// names, owner, labels and tolerations, and in each container the number of its completion.
const (
	podBeyondJob       = 1 << 10
	containerBeyondJob = 160
)

// podOfJob is room for one pod that no node has yet: a Job always comes to its end, if only
// with one pod after the other.
func podOfJob(obj Object, record int64) int64 {
	job := obj.(*batchv1.Job)
	if jobIsOver(job) {
		return 0
	}
	spec := &job.Spec.Template.Spec
	return record + podBeyondJob + containerBeyondJob*int64(len(spec.InitContainers)+len(spec.Containers))
}

// indexRoom is what one index takes in the status at most, where every other one
// succeeded: "123456,".
const indexRoom = 7

func roomOfJob(obj Object) int64 {
	spec := &obj.(*batchv1.Job).Spec
	if !isIndexed(spec) || spec.Completions == nil {
		return 0
	}
	return indexRoom * int64(*spec.Completions)
}

func wholeJob(obj Object) bool {
	spec := &obj.(*batchv1.Job).Spec
	return spec.Parallelism != nil && spec.BackoffLimit != nil && spec.Selector != nil && len(spec.Template.Spec.Containers) > 0
}
