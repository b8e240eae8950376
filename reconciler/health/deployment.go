package health

import (
	"fmt"
	"iter"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// ReasonDeadlineExceeded is the reason of a deployment's condition Progressing when
// its rollout has not moved for as long as it may.
const ReasonDeadlineExceeded = "ProgressDeadlineExceeded"

var deploymentRow = row{
	kind:    schema.KindDeployment,
	of:      schema.Cell[judgement]{Do: deployment},
	in:      schema.Cell[workloads]{Do: bySource(schema.KindDeployment)},
	current: schema.Cell[owning]{Do: isCurrentSet},
}

func deployment(r state.Reader, obj schema.Object, now time.Time) Workload {
	d := obj.(*appsv1.Deployment)
	w := Workload{
		Complete: Complete(d, &d.Status), Unseen: d.Status.ObservedGeneration < d.Generation,
		progress: func() string { return deploymentProgress(d) }, Troubles: none[Trouble], Pods: currentPods(r, d),
	}
	if d.Spec.ProgressDeadlineSeconds != nil {
		w.Deadline = time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second
	}
	if cond, ok := DeploymentCondition(&d.Status, appsv1.DeploymentProgressing); ok && cond.Reason != ReasonDeadlineExceeded {
		w.Moved = cond.LastUpdateTime.Time
	}
	if !w.Complete {
		w.Troubles = deploymentTroubles(r, d, now)
	}
	return w
}

// Desired is how many pods a deployment or replica set wants.
func Desired(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}

// Complete reports whether every pod of a deployment with that status is of the
// current template, available, and as many as asked for. The generation must have
// been observed.
func Complete(d *appsv1.Deployment, status *appsv1.DeploymentStatus) bool {
	n := Desired(d.Spec.Replicas)
	return status.ObservedGeneration >= d.Generation && status.UpdatedReplicas == n && status.Replicas == n && status.AvailableReplicas == n
}

// DeploymentCondition is the condition of that type, false when there is none.
func DeploymentCondition(status *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) (appsv1.DeploymentCondition, bool) {
	for _, cond := range status.Conditions {
		if cond.Type == t {
			return cond, true
		}
	}
	return appsv1.DeploymentCondition{}, false
}

func deploymentProgress(d *appsv1.Deployment) string {
	want, s := Desired(d.Spec.Replicas), d.Status
	switch {
	case s.ObservedGeneration < d.Generation:
		return "not looked at yet"
	case s.UpdatedReplicas < want:
		return fmt.Sprintf("%d of %d updated, %d available", s.UpdatedReplicas, want, s.AvailableReplicas)
	case s.Replicas > s.UpdatedReplicas:
		return fmt.Sprintf("%d old to stop, %d of %d available", s.Replicas-s.UpdatedReplicas, s.AvailableReplicas, want)
	case s.AvailableReplicas < want:
		return fmt.Sprintf("%d of %d available", s.AvailableReplicas, want)
	}
	return fmt.Sprintf("%d of %d available, done", s.AvailableReplicas, want)
}

// CurrentSet is the replica set of a deployment's template, the oldest where there
// are several; nil before it is made.
func CurrentSet(r state.Reader, d *appsv1.Deployment) *appsv1.ReplicaSet {
	var current *appsv1.ReplicaSet
	for rs := range state.By[*appsv1.ReplicaSet](r, state.ReplicaSetsByOwner, string(d.UID)) {
		if schema.HasTemplateOf(rs, d) && (current == nil || rs.CreationTimestamp.Before(&current.CreationTimestamp)) {
			current = rs
		}
	}
	return current
}

func isCurrentSet(r state.Reader, owner, owned schema.Object) bool {
	current := CurrentSet(r, owner.(*appsv1.Deployment))
	return current != nil && current.Name == owned.GetName()
}

func currentPods(r state.Reader, d *appsv1.Deployment) iter.Seq[*corev1.Pod] {
	return func(yield func(*corev1.Pod) bool) {
		if current := CurrentSet(r, d); current != nil {
			ownedPods(r, current)(yield)
		}
	}
}

func ownedPods(r state.Reader, owner schema.Object) iter.Seq[*corev1.Pod] {
	return state.By[*corev1.Pod](r, state.PodsByOwner, string(owner.GetUID()))
}

// deploymentTroubles looks at the pods of the current template that are not
// available and, where old pods must end first, at those that cannot.
func deploymentTroubles(r state.Reader, d *appsv1.Deployment, now time.Time) iter.Seq[Trouble] {
	return func(yield func(Trouble) bool) {
		current := CurrentSet(r, d)
		if current != nil && !podTroubles(r, current, d.Spec.MinReadySeconds, now, yield) {
			return
		}
		if d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
			return
		}
		for rs := range state.By[*appsv1.ReplicaSet](r, state.ReplicaSetsByOwner, string(d.UID)) {
			if rs != current && !unendable(r, rs, yield) {
				return
			}
		}
	}
}

// podTroubles yields what keeps an owner's pods from being available; false when it
// was told to stop.
func podTroubles(r state.Reader, owner schema.Object, minReadySeconds int32, now time.Time, yield func(Trouble) bool) bool {
	for pod := range ownedPods(r, owner) {
		if ok, _ := Available(pod, minReadySeconds, now); ok || pod.DeletionTimestamp != nil {
			continue
		}
		t := OfPod(r, pod)
		if t.Code == Healthy {
			t.Code, t.Text = RollingOut, fmt.Sprintf("pod %s is ready, but not for %ds yet", pod.Name, minReadySeconds)
		}
		if !yield(t) {
			return false
		}
	}
	return true
}

// unendable yields the pods that must end before others are made and whose node
// cannot say that they have.
func unendable(r state.Reader, rs *appsv1.ReplicaSet, yield func(Trouble) bool) bool {
	for pod := range ownedPods(r, rs) {
		bad, ok := OfNode(r, pod.Spec.NodeName)
		if Ended(pod) || !ok {
			continue
		}
		bad.Pod, bad.Text = schema.KeyOf(pod), fmt.Sprintf("pod %s must end first and is on node %s, which %s", pod.Name, pod.Spec.NodeName, bad.Text)
		if !yield(bad) {
			return false
		}
	}
	return true
}
