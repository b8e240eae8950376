package why

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// deployment tells of the current replica set's pods; while old ones are left, of
// those when nothing is wrong with the new.
func (c *chain) deployment(d *appsv1.Deployment) cause {
	w := c.workload(d)
	if w.Unseen {
		return cause{code: health.RollingOut, text: "its latest change is not processed yet"}
	}
	current := health.CurrentSet(c.r, d)
	if current == nil {
		return cause{code: health.RollingOut, text: "no pod of its template was made yet"}
	}
	c.workload(current)
	found := c.worstOf(c.podsOf(current))
	if found.code == health.Healthy && !w.Complete {
		return cause{code: health.RollingOut, text: d.Namespace + "/" + d.Name + ": " + w.Progress()}
	}
	return found
}

// workload tells how far a workload is.
func (c *chain) workload(obj schema.Object) health.Workload {
	w := health.Of(c.r, obj, time.Time{})
	c.add(obj, Link{State: w.Progress(), OK: w.Complete})
	return w
}

func (c *chain) replicaSet(rs *appsv1.ReplicaSet) cause {
	c.workload(rs)
	return c.worstOf(c.podsOf(rs))
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

// service tells of the endpoints, and of the worst pod where some are missing.
func (c *chain) service(svc *corev1.Service) cause {
	ready, all := c.endpoints(svc)
	c.add(svc, Link{State: fmt.Sprintf("%d of %d endpoints ready", ready, all), OK: ready > 0 && ready == all})
	if refused, ok := notAllocated(svc); ok {
		return refused
	}
	if len(svc.Spec.Selector) == 0 {
		return cause{code: health.Healthy, text: "it selects no pods, by intent"}
	}
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	var pods []*corev1.Pod
	for pod := range state.All[*corev1.Pod](c.r, svc.Namespace) {
		if selector.Matches(labels.Set(pod.Labels)) {
			pods = append(pods, pod)
		}
	}
	if len(pods) == 0 {
		return cause{code: health.NoMatchingPods, text: "no pod in namespace " + svc.Namespace + " has the labels " + selector.String()}
	}
	found := c.worstOf(pods)
	switch {
	case found.code == health.Healthy && ready == 0:
		return cause{code: health.RollingOut, text: "its pods are ready and become its endpoints"}
	case found.code == health.Healthy:
		found.text = fmt.Sprintf("%d of %d endpoints are ready", ready, all)
	case ready > 0:
		found.text = fmt.Sprintf("it serves with %d of %d endpoints; %s", ready, all, found.text)
	default:
		found.text = "it serves nothing; " + found.text
	}
	return found
}

// allocationCodes are the reasons for which a service has no address or port.
var allocationCodes = map[string]health.Code{
	schema.ReasonClusterIPInUse:      health.AddressRefused,
	schema.ReasonClusterIPOutOfRange: health.AddressRefused,
	schema.ReasonNodePortInUse:       health.AddressRefused,
	schema.ReasonNodePortOutOfRange:  health.AddressRefused,
	schema.ReasonClusterIPsExhausted: health.AddressesExhausted,
	schema.ReasonNodePortsExhausted:  health.AddressesExhausted,
}

func notAllocated(svc *corev1.Service) (cause, bool) {
	for _, cond := range svc.Status.Conditions {
		if code, ok := allocationCodes[cond.Reason]; ok && cond.Type == schema.ConditionAllocated && cond.Status == metav1.ConditionFalse {
			return cause{code: code, text: "it serves nothing: " + cond.Message}, true
		}
	}
	return cause{}, false
}

func (c *chain) endpoints(svc *corev1.Service) (ready, all int) {
	for slice := range state.By[*discoveryv1.EndpointSlice](c.r, state.EndpointSlicesByService, svc.Namespace+"/"+svc.Name) {
		for _, e := range slice.Endpoints {
			all++
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				ready++
			}
		}
	}
	return ready, all
}
