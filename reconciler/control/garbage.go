package control

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// garbageTriggers visits what may have lost its owner or its node: the object
// itself when it appears, and the dependents of whatever went.
func garbageTriggers(r state.Reader, c state.Change) []schema.Key {
	var keys []schema.Key
	if c.Old == nil && (c.Key.Kind == schema.KindReplicaSet || c.Key.Kind == schema.KindPod) {
		keys = append(keys, c.Key)
	}
	if c.Old == nil || c.New != nil && c.New.GetUID() == c.Old.GetUID() {
		return keys
	}
	switch c.Key.Kind {
	case schema.KindDeployment:
		for rs := range r.By(state.ReplicaSetsByOwner, string(c.Old.GetUID())) {
			keys = append(keys, schema.KeyOf(rs))
		}
	case schema.KindReplicaSet:
		for pod := range r.By(state.PodsByOwner, string(c.Old.GetUID())) {
			keys = append(keys, schema.KeyOf(pod))
		}
	case schema.KindNode:
		for pod := range r.By(state.PodsByNode, c.Key.Name) {
			keys = append(keys, schema.KeyOf(pod))
		}
	}
	return keys
}

// reconcileGarbage removes an object whose owner is gone or another one by now,
// and a pod whose node is gone: nobody is left who could report its end.
func reconcileGarbage(c *Context, key schema.Key) (wake time.Time) {
	obj := c.Tx.Get(key)
	if obj == nil {
		return wake
	}
	pod, isPod := obj.(*corev1.Pod)
	if isPod && pod.Spec.NodeName != "" && !onKnownNode(c.Tx, pod) {
		Event(c, pod, corev1.EventTypeNormal, "Deleted", "node "+pod.Spec.NodeName+" is gone")
		c.Tx.Delete(key)
		return wake
	}
	ref := metav1.GetControllerOf(obj)
	if ref == nil || ownerLives(c.Tx, key.Namespace, ref) {
		return wake
	}
	if isPod {
		DeletePod(c, pod, fmt.Sprintf("%s %s is gone", ref.Kind, ref.Name))
	} else {
		c.Tx.Delete(key)
	}
	return wake
}

// ownerLives treats owners of kinds it does not know as living.
func ownerLives(r state.Reader, namespace string, ref *metav1.OwnerReference) bool {
	info, ok := schema.Lookup(schema.Kind(ref.Kind))
	if !ok {
		return true
	}
	if !info.Namespaced {
		namespace = ""
	}
	owner := r.Get(schema.Key{Kind: info.Kind, Namespace: namespace, Name: ref.Name})
	return owner != nil && owner.GetUID() == ref.UID
}
