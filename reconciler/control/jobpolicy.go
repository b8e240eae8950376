package control

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// ruling is what a Job's pod failure policy says of a pod that failed: count it where
// no rule matches.
type ruling struct {
	action  batchv1.PodFailurePolicyAction
	message string
}

// rule is the ruling of the first rule that matches.
func rule(job *batchv1.Job, pod *corev1.Pod) ruling {
	count := ruling{action: batchv1.PodFailurePolicyActionCount}
	if job.Spec.PodFailurePolicy == nil || pod.Status.Phase != corev1.PodFailed {
		return count
	}
	for i := range job.Spec.PodFailurePolicy.Rules {
		r := &job.Spec.PodFailurePolicy.Rules[i]
		if what, ok := matches(r, pod); ok {
			return ruling{r.Action, fmt.Sprintf("%s matching %s rule at index %d", what, r.Action, i)}
		}
	}
	return count
}

func matches(r *batchv1.PodFailurePolicyRule, pod *corev1.Pod) (what string, ok bool) {
	if r.OnExitCodes != nil {
		return matchesExit(r.OnExitCodes, pod)
	}
	for _, want := range r.OnPodConditions {
		if slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == want.Type && c.Status == want.Status }) {
			return fmt.Sprintf("Pod %s/%s has condition %s", pod.Namespace, pod.Name, want.Type), true
		}
	}
	return "", false
}

// matchesExit looks at the containers that failed: an exit code of 0 matches no rule.
func matchesExit(want *batchv1.PodFailurePolicyOnExitCodesRequirement, pod *corev1.Pod) (what string, ok bool) {
	for _, s := range slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses) {
		end := s.State.Terminated
		if end == nil || end.ExitCode == 0 || want.ContainerName != nil && *want.ContainerName != s.Name {
			continue
		}
		if in := want.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn; slices.Contains(want.Values, end.ExitCode) == in {
			return fmt.Sprintf("Container %s for pod %s/%s failed with exit code %d", s.Name, pod.Namespace, pod.Name, end.ExitCode), true
		}
	}
	return "", false
}

// succeedsEarly reports whether the indexes that are done are enough for a rule of the
// Job's success policy, and which.
func succeedsEarly(job *batchv1.Job, done spans) (message string, ok bool) {
	if job.Spec.SuccessPolicy == nil {
		return "", false
	}
	for i, r := range job.Spec.SuccessPolicy.Rules {
		among, have := spans(nil), done.count()
		if r.SucceededIndexes != nil {
			among = parseSpans(*r.SucceededIndexes)
			have = done.common(among)
		}
		need := among.count()
		if r.SucceededCount != nil {
			need = int(*r.SucceededCount)
		}
		if have >= need {
			return fmt.Sprintf("Matched rules at index %d", i), true
		}
	}
	return "", false
}
