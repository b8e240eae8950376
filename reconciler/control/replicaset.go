package control

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

var replicaSetRow = Row{
	Kind:       schema.KindReplicaSet,
	Controller: controllerCell{Do: Controller{"replicaset", replicaSetTriggers, reconcileReplicaSet}},
	Created:    createdCell{None: asWritten},
	Remove:     removeCell{None: justDeleted},
	Dependents: dependentsCell{Do: podsOwnedBy},
	Collect:    collectCell{Do: collectReplicaSet},
	Done:       doneCell{None: neverDone},
	Configured: configuredCell{None: notInGit},
	StandIn:    standInCell{None: noStandIn},
}

const (
	// MaxPodsPerVisit bounds the pods one visit creates or lets go; the replica
	// set's own change brings the next visit.
	MaxPodsPerVisit = 1000
	// MaxPodEvents bounds the events one visit writes for single pods; the rest
	// is told in one.
	MaxPodEvents = 10
	// MinEndedPods is how many ended pods may stand at least before a replica set
	// stops replacing them until the oldest is cleaned up: a pod that ends at once
	// must not be made again without end.
	MinEndedPods = 5
	// maxPodNameBase leaves room for the suffix in a name that is also a hostname.
	maxPodNameBase = 58
)

func replicaSetTriggers(_ state.Reader, c state.Change) []schema.Key {
	if c.Key.Kind == schema.KindReplicaSet {
		return []schema.Key{c.Key}
	}
	var keys []schema.Key
	for _, pod := range changedSides[*corev1.Pod](c) {
		if key, ok := ownerKey(pod, schema.KindReplicaSet); ok && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// reconcileReplicaSet makes or lets go pods until as many are active as the
// replica set wants, cleans up those that ended, and writes its status.
func reconcileReplicaSet(c *Context, key schema.Key) (wake time.Time) {
	rs, ok := state.Get[*appsv1.ReplicaSet](c.Tx, key.Namespace, key.Name)
	if !ok {
		return wake
	}
	next := rs
	wake = cleanUpEnded(c, rs)
	var running []*corev1.Pod
	endedCount := 0
	for pod := range state.By[*corev1.Pod](c.Tx, state.PodsByOwner, string(rs.UID)) {
		switch {
		case active(pod):
			running = append(running, pod)
		case health.Ended(pod) && pod.DeletionTimestamp == nil:
			endedCount++
		}
	}
	want := int(health.Desired(rs.Spec.Replicas))
	switch missing := want - len(running); {
	case missing > 0 && endedCount < max(MinEndedPods, want):
		next = editSet(rs)
		createPods(c, next, min(missing, MaxPodsPerVisit))
	case missing < 0:
		deletePods(c, rs, running, min(-missing, MaxPodsPerVisit))
	}
	status, at := replicaSetStatus(c, rs)
	if next == rs && !equality.Semantic.DeepEqual(&rs.Status, &status) {
		next = editSet(rs)
	}
	if next != rs {
		next.Status = status
		c.Tx.Put(next)
	}
	return earliest(wake, at)
}

// editSet is a copy whose annotations, status and plain fields may change; what
// lies deeper is shared with the frozen rs.
func editSet(rs *appsv1.ReplicaSet) *appsv1.ReplicaSet {
	next := *rs
	next.Annotations = maps.Clone(rs.Annotations)
	return &next
}

// cleanUpEnded lets ended pods go that stood long enough, all of them when the
// replica set wants no pods, and returns when the next one is due. The time counts
// from the pod's creation or last readiness, whichever is later.
func cleanUpEnded(c *Context, rs *appsv1.ReplicaSet) (wake time.Time) {
	kept := orDefault(c.Config.EndedPodKept, DefaultEndedPodKept)
	for pod := range state.By[*corev1.Pod](c.Tx, state.PodsByOwner, string(rs.UID)) {
		if !health.Ended(pod) || pod.DeletionTimestamp != nil {
			continue
		}
		since := health.ReadySince(pod)
		if since.Before(pod.CreationTimestamp.Time) {
			since = pod.CreationTimestamp.Time
		}
		due := since.Add(kept)
		if health.Desired(rs.Spec.Replicas) > 0 && due.After(c.Now) {
			wake = earliest(wake, due)
			continue
		}
		DeletePod(c, pod, "it ended ("+string(pod.Status.Phase)+") and was replaced")
	}
	return wake
}

// createPods makes n pods and counts them in rs, which it changes in place.
func createPods(c *Context, rs *appsv1.ReplicaSet, n int) {
	sequence, _ := strconv.Atoi(rs.Annotations[schema.AnnotationSequence])
	for made := 0; made < n; made++ {
		pod := podOf(c, rs, &sequence)
		PreparePod(c, pod)
		if made < MaxPodEvents {
			Event(c, rs, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: "+pod.Name)
		}
		c.putPod(pod)
	}
	if n > MaxPodEvents {
		Event(c, rs, corev1.EventTypeNormal, "SuccessfulCreate", fmt.Sprintf("Created %d more pods", n-MaxPodEvents))
	}
	setAnnotation(rs, schema.AnnotationSequence, strconv.Itoa(sequence))
}

// podOf is the replica set's next pod; sequence moves past the numbers it used.
// Labels and spec are shared with the template, which is frozen as the pod will be.
func podOf(c *Context, rs *appsv1.ReplicaSet, sequence *int) *corev1.Pod {
	base := rs.Name + "-"
	key := schema.Key{Kind: schema.KindPod, Namespace: rs.Namespace}
	for {
		key.Name = base[:min(len(base), maxPodNameBase)] + schema.NameSuffix(rs.UID, *sequence)
		*sequence++
		if c.Tx.Get(key) == nil {
			break
		}
	}
	template := &rs.Spec.Template
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: key.Name, GenerateName: base, Namespace: rs.Namespace,
			Labels: template.Labels, Annotations: maps.Clone(template.Annotations),
			OwnerReferences: []metav1.OwnerReference{ownerRef(rs)}, UID: schema.OwnedUID(key, rs.UID, *sequence),
		},
		Spec: template.Spec,
	}
	schema.InheritOrigin(pod, rs)
	return pod
}

func deletePods(c *Context, rs *appsv1.ReplicaSet, pods []*corev1.Pod, n int) {
	sortForDeletion(c, rs, pods)
	for i, pod := range pods[:n] {
		if i < MaxPodEvents {
			Event(c, rs, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+pod.Name)
		}
		DeletePod(c, pod, fmt.Sprintf("%s wants %d pods", rs.Name, health.Desired(rs.Spec.Replicas)))
	}
	if n > MaxPodEvents {
		Event(c, rs, corev1.EventTypeNormal, "SuccessfulDelete", fmt.Sprintf("Deleted %d more pods", n-MaxPodEvents))
	}
}

// sortForDeletion puts first what is missed least, in Kubernetes' order: not
// bound, pending, not ready, of lower deletion cost, on a node that holds more of
// the same workload, ready for a shorter time, restarted more often, newer. Names
// break ties. Unlike in Kubernetes a pod that is not available yet goes before any
// that is: a rollout counts on it when it sizes old replica sets.
func sortForDeletion(c *Context, rs *appsv1.ReplicaSet, pods []*corev1.Pod) {
	together := podsPerNode(c.Tx, rs)
	isAvailable := func(p *corev1.Pod) bool {
		ok, _ := health.Available(p, rs.Spec.MinReadySeconds, c.Now)
		return ok
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		if c := cmp.Or(
			compareBool(b.Spec.NodeName == "", a.Spec.NodeName == ""),
			cmp.Compare(phaseRank(a), phaseRank(b)),
			compareBool(health.Ready(a), health.Ready(b)),
			compareBool(isAvailable(a), isAvailable(b)),
			cmp.Compare(deletionCost(a), deletionCost(b)),
			cmp.Compare(together[b.Spec.NodeName], together[a.Spec.NodeName]),
		); c != 0 {
			return c
		}
		if health.Ready(a) && health.Ready(b) {
			if c := health.ReadySince(b).Compare(health.ReadySince(a)); c != 0 {
				return c
			}
		}
		return cmp.Or(
			cmp.Compare(restarts(b), restarts(a)),
			b.CreationTimestamp.Compare(a.CreationTimestamp.Time),
			cmp.Compare(a.Name, b.Name),
		)
	})
}

// podsPerNode counts the active pods of rs and its siblings on each node.
func podsPerNode(r state.Reader, rs *appsv1.ReplicaSet) map[string]int {
	siblings := []schema.Object{rs}
	if ref := metav1.GetControllerOf(rs); ref != nil {
		siblings = slices.Collect(r.By(state.ReplicaSetsByOwner, string(ref.UID)))
	}
	count := map[string]int{}
	for _, sibling := range siblings {
		for pod := range state.By[*corev1.Pod](r, state.PodsByOwner, string(sibling.GetUID())) {
			if active(pod) {
				count[pod.Spec.NodeName]++
			}
		}
	}
	return count
}

// compareBool orders false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func phaseRank(pod *corev1.Pod) int {
	switch pod.Status.Phase {
	case corev1.PodRunning:
		return 2
	case corev1.PodUnknown:
		return 1
	}
	return 0
}

// deletionCost is what the user's annotation says; what is not a number is 0.
func deletionCost(pod *corev1.Pod) int {
	n, _ := strconv.ParseInt(pod.Annotations[corev1.PodDeletionCost], 10, 32)
	return int(n)
}

func restarts(pod *corev1.Pod) (most int32) {
	for _, s := range health.Staying(pod) {
		most = max(most, s.RestartCount)
	}
	return most
}

// replicaSetStatus counts the pods as they are now, and returns when a ready one
// becomes available.
func replicaSetStatus(c *Context, rs *appsv1.ReplicaSet) (status appsv1.ReplicaSetStatus, wake time.Time) {
	n := countPods(c, rs)
	return appsv1.ReplicaSetStatus{
		Replicas: n.active, FullyLabeledReplicas: n.active, ReadyReplicas: n.ready, AvailableReplicas: n.available,
		ObservedGeneration: rs.Generation, Conditions: rs.Status.Conditions,
	}, n.wake
}

// podCounts is how many of a replica set's pods are active, ready and available.
type podCounts struct {
	active, ready, available int32
	standing                 int32     // active or terminating, not ended
	all                      int32     // ended ones included
	wake                     time.Time // when the next ready pod becomes available
}

func countPods(c *Context, rs *appsv1.ReplicaSet) (n podCounts) {
	for pod := range state.By[*corev1.Pod](c.Tx, state.PodsByOwner, string(rs.UID)) {
		n.all++
		if !health.Ended(pod) {
			n.standing++
		}
		if !active(pod) {
			continue
		}
		n.active++
		if health.Ready(pod) {
			n.ready++
		}
		ok, at := health.Available(pod, rs.Spec.MinReadySeconds, c.Now)
		if ok {
			n.available++
		}
		n.wake = earliest(n.wake, at)
	}
	return n
}

func podsOwnedBy(r state.Reader, owner schema.Object) iter.Seq[schema.Object] {
	return r.By(state.PodsByOwner, string(owner.GetUID()))
}

func collectReplicaSet(c *Context, rs schema.Object) {
	if _, gone := ownerGone(c.Tx, rs); gone {
		c.Tx.Delete(schema.KeyOf(rs))
	}
}
