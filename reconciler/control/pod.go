package control

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

var podRow = Row{
	Kind:       schema.KindPod,
	Controller: controllerCell{None: "the scheduler gives it a node, which runs it and reports"},
	Created:    createdCell{Do: func(c *Context, obj schema.Object) { PreparePod(c, obj.(*corev1.Pod)) }},
	Remove:     removeCell{Do: func(c *Context, obj schema.Object, why string) { DeletePod(c, obj.(*corev1.Pod), why) }},
	Dependents: dependentsCell{None: nothingNeeds},
	Collect:    collectCell{Do: collectPod},
	Done:       doneCell{None: neverDone},
	Configured: configuredCell{None: takenOver},
	StandIn:    standInCell{None: noStandIn},
}

// PreparePod makes a pod that is about to be created complete: creation time,
// phase, QoS class and the tolerations every pod has. It changes pod in place and
// does nothing to one that is complete.
func PreparePod(c *Context, pod *corev1.Pod) {
	if pod.CreationTimestamp.IsZero() {
		pod.CreationTimestamp = c.Stamp()
	}
	if pod.Status.Phase == "" {
		pod.Status.Phase = corev1.PodPending
	}
	pod.Status.QOSClass = qosClass(&pod.Spec)
	seconds := int64(orDefault(c.Config.EvictionAfter, DefaultEvictionAfter) / time.Second)
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		tolerateForAWhile(&pod.Spec, key, seconds)
	}
}

// tolerateForAWhile adds a NoExecute toleration of the taint key unless the pod
// speaks of it already.
func tolerateForAWhile(spec *corev1.PodSpec, key string, seconds int64) {
	for _, t := range spec.Tolerations {
		if (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return
		}
	}
	// The slice may be the template's: grow a copy.
	spec.Tolerations = append(slices.Clip(spec.Tolerations), corev1.Toleration{
		Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
	})
}

// qosClass follows Kubernetes: Guaranteed when every container's CPU and memory
// limits are set and equal its requests, BestEffort when none asks for anything.
func qosClass(spec *corev1.PodSpec) corev1.PodQOSClass {
	guaranteed, bestEffort := true, true
	for _, ctr := range slices.Concat(spec.InitContainers, spec.Containers) {
		for _, res := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			limit, request := ctr.Resources.Limits[res], ctr.Resources.Requests[res]
			if !limit.IsZero() || !request.IsZero() {
				bestEffort = false
			}
			if limit.IsZero() || !request.IsZero() && limit.Cmp(request) != 0 {
				guaranteed = false
			}
		}
	}
	switch {
	case bestEffort:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

// DeletePod lets a pod go, and says why in an event. A pod that no node has is
// deleted at once; a bound one is marked as terminating, and the object goes when
// its node says that the containers are gone. A pod that terminates already stays
// as it is.
func DeletePod(c *Context, pod *corev1.Pod, why string) {
	if pod.DeletionTimestamp != nil {
		return
	}
	if !onKnownNode(c.Tx, pod) {
		Event(c, pod, corev1.EventTypeNormal, "Deleted", why)
		RemovePod(c, pod)
		return
	}
	Event(c, letPodGo(c, pod), corev1.EventTypeNormal, schema.ReasonTerminating, why)
}

// letPodGo asks the node of a pod to end it and to remove what is left of it; where no
// node can, that is done.
func letPodGo(c *Context, pod *corev1.Pod) *corev1.Pod {
	if !onKnownNode(c.Tx, pod) {
		RemovePod(c, pod)
		return pod
	}
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if pod.Spec.TerminationGracePeriodSeconds != nil {
		grace = *pod.Spec.TerminationGracePeriodSeconds
	}
	next := *pod // shares what does not change with the frozen one
	at := metav1.NewTime(c.Stamp().Add(time.Duration(grace) * time.Second))
	next.DeletionTimestamp = &at
	next.DeletionGracePeriodSeconds = &grace
	c.Tx.Put(&next)
	return &next
}

// RemovePod deletes a pod of which nothing is left on any node. One with a finalizer
// stays, as ended, for its owner to count; the owner then deletes it.
func RemovePod(c *Context, pod *corev1.Pod) {
	if _, gone := ownerGone(c.Tx, pod); gone || len(pod.Finalizers) == 0 {
		c.Tx.Delete(schema.KeyOf(pod))
		return
	}
	if isReleased(pod) {
		return
	}
	next := *pod // shares what does not change with the frozen one
	at, grace := c.Stamp(), int64(0)
	if next.DeletionTimestamp == nil {
		next.DeletionTimestamp = &at
	}
	next.DeletionGracePeriodSeconds = &grace
	if !health.Ended(pod) {
		next.Status.Phase = corev1.PodFailed
	}
	c.Tx.Put(&next)
}

// isReleased reports whether nothing is left of a pod on any node.
func isReleased(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil && health.Ended(pod) && pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds == 0
}

// disrupted is the pod with the condition that it is ended for a reason that is not
// its own, as pod failure policies ask for.
func disrupted(c *Context, pod *corev1.Pod, reason, message string) *corev1.Pod {
	next := *pod // shares what does not change with the frozen one
	next.Status.Conditions = append(slices.DeleteFunc(slices.Clone(pod.Status.Conditions), func(c corev1.PodCondition) bool { return c.Type == corev1.DisruptionTarget }),
		corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: c.Stamp()})
	return &next
}

// onKnownNode reports whether there is a node that can say what became of the pod.
func onKnownNode(r state.Reader, pod *corev1.Pod) bool {
	return pod.Spec.NodeName != "" && r.Get(schema.Key{Kind: schema.KindNode, Name: pod.Spec.NodeName}) != nil
}

// active reports whether the pod counts as one of its owner's.
func active(pod *corev1.Pod) bool { return !health.Ended(pod) && pod.DeletionTimestamp == nil }

// ownerRef is a reference to the controlling owner.
func ownerRef(owner schema.Object) metav1.OwnerReference {
	info := schema.Info(schema.KindOf(owner))
	yes := true
	return metav1.OwnerReference{
		APIVersion: info.APIVersion(), Kind: string(info.Kind), Name: owner.GetName(), UID: owner.GetUID(),
		Controller: &yes, BlockOwnerDeletion: &yes,
	}
}

// ownerKey is the key of an object's controlling owner of that kind.
func ownerKey(obj schema.Object, kind schema.Kind) (schema.Key, bool) {
	ref := metav1.GetControllerOf(obj)
	if ref == nil || ref.Kind != string(kind) {
		return schema.Key{}, false
	}
	return schema.Key{Kind: kind, Namespace: obj.GetNamespace(), Name: ref.Name}, true
}

// collectPod removes a pod whose node is gone at once, for nobody is left who could
// report its end, and lets one go whose owner is gone.
func collectPod(c *Context, obj schema.Object) {
	pod := obj.(*corev1.Pod)
	_, ownerless := ownerGone(c.Tx, pod)
	switch {
	case isReleased(pod) && ownerless:
		c.Tx.Delete(schema.KeyOf(pod))
		return
	case isReleased(pod):
		return // its owner deletes it
	}
	if pod.Spec.NodeName != "" && !onKnownNode(c.Tx, pod) {
		why := "node " + pod.Spec.NodeName + " is gone"
		Event(c, pod, corev1.EventTypeNormal, "Deleted", why)
		RemovePod(c, disrupted(c, pod, "DeletionByPodGC", why))
		return
	}
	if owner, gone := ownerGone(c.Tx, pod); gone {
		DeletePod(c, pod, owner+" is gone")
	}
}
