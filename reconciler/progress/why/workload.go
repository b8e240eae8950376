package why

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/health"
	"fairlead/schema"
)

// workload tells how far a workload is.
func (c *chain) workload(obj schema.Object) health.Workload {
	w := health.Of(c.r, obj, time.Time{})
	c.add(obj, Link{State: w.Progress(), OK: w.Complete})
	return w
}

// worstOf tells of the pod with the worst cause, and how many share it. Pods that
// terminate count only when there are no others.
func (c *chain) worstOf(pods []*corev1.Pod) cause {
	staying := slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
	if len(staying) == 0 {
		staying = pods
	}
	if len(staying) == 0 {
		return cause{code: health.Healthy, text: "no pod is wanted"}
	}
	var worst *corev1.Pod
	var found cause
	shared := 0
	for _, pod := range staying {
		judged, _ := c.podCause(pod)
		switch {
		case worst == nil || judged.worse(found):
			worst, found, shared = pod, judged, 1
		case judged.code == found.code:
			shared++
		}
	}
	if found.code == health.Healthy {
		c.readyLink(staying)
		return cause{code: health.Healthy, text: fmt.Sprintf("%d of %d pods are ready", len(staying), len(staying))}
	}
	found = c.pod(worst)
	if shared > 1 {
		found.text = fmt.Sprintf("%d of %d pods, the first: %s", shared, len(staying), found.text)
	}
	return found
}

// maxPodsNamed is how many pods one link names.
const maxPodsNamed = 5

func (c *chain) readyLink(pods []*corev1.Pod) {
	names := make([]string, 0, len(pods))
	for _, p := range pods {
		names = append(names, p.Name+" on "+p.Spec.NodeName)
		c.about = append(c.about, p)
	}
	if more := len(names) - maxPodsNamed; more > 0 {
		names = append(names[:maxPodsNamed], fmt.Sprintf("and %d more", more))
	}
	c.Links = append(c.Links, Link{Step: "pod", Name: fmt.Sprintf("%d of %d", len(pods), len(pods)), State: "ready: " + strings.Join(names, ", "), OK: true})
}
