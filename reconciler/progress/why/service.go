package why

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

var serviceRow = row{
	kind: schema.KindService, fromGit: true, needed: true,
	tell: tell(func(c *chain, svc *corev1.Service) cause { return c.service(svc) }),
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
	pods := c.selected(svc)
	if len(pods) == 0 {
		return cause{code: health.NoMatchingPods, text: "no pod in namespace " + svc.Namespace + " has the labels " + labels.SelectorFromSet(svc.Spec.Selector).String()}
	}
	found := c.worstOf(pods)
	absent, isAbsent := absentPort(svc, pods)
	switch {
	case found.code == health.Healthy && isAbsent:
		return cause{code: health.NoMatchingPort, text: absent}
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

// selected are the pods that a service leads to, ready or not.
func (c *chain) selected(svc *corev1.Service) (pods []*corev1.Pod) {
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	for pod := range state.All[*corev1.Pod](c.r, svc.Namespace) {
		if selector.Matches(labels.Set(pod.Labels)) {
			pods = append(pods, pod)
		}
	}
	return pods
}

// absentPort tells of the first port that a service asks its pods for by a name which none
// of them has: connections to it reach nobody.
func absentPort(svc *corev1.Service, pods []*corev1.Pod) (text string, ok bool) {
	has := map[corev1.Protocol][]string{}
	for _, pod := range pods {
		for ctr := range schema.StayingContainers(&pod.Spec) {
			for _, p := range ctr.Ports {
				if p.Name != "" && !slices.Contains(has[p.Protocol], p.Name) {
					has[p.Protocol] = append(has[p.Protocol], p.Name)
				}
			}
		}
	}
	for _, asked := range schema.Of(schema.KindService).Backends.Do(svc).Ports {
		names := slices.Sorted(slices.Values(has[asked.Protocol]))
		if slices.Contains(names, asked.Name) {
			continue
		}
		text = fmt.Sprintf("%s: no pod that it selects has a %s port named %q", asked.Field, asked.Protocol, asked.Name)
		if len(names) > 0 {
			text += ", only " + strings.Join(names, ", ")
		}
		return text, true
	}
	return "", false
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
