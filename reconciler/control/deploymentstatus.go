package control

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
)

// Reasons of a deployment's conditions, as kubectl and others know them.
const (
	reasonMinimumAvailable   = "MinimumReplicasAvailable"
	reasonMinimumUnavailable = "MinimumReplicasUnavailable"
	reasonSetCreated         = "NewReplicaSetCreated"
	reasonSetUpdated         = "ReplicaSetUpdated"
	reasonSetAvailable       = "NewReplicaSetAvailable"
)

// deploymentStatus counts the pods of f and judges availability and progress
// into d, in place, and returns when the progress deadline passes. created says
// that this visit made the current replica set.
func deploymentStatus(c *Context, d *appsv1.Deployment, f family, created bool) (wake time.Time) {
	old := d.Status
	status := appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Conditions: slices.Clone(old.Conditions)}
	var wanted int32
	for _, rs := range f.all() {
		n := countPods(c, rs)
		wanted += health.Desired(rs.Spec.Replicas)
		status.Replicas += n.active
		status.ReadyReplicas += n.ready
		status.AvailableReplicas += n.available
		if rs == f.current {
			status.UpdatedReplicas = n.active
		}
	}
	status.UnavailableReplicas = max(0, wanted-status.AvailableReplicas)
	judgeAvailable(c, d, &status)
	wake = judgeProgress(c, d, f, &old, &status, created)
	d.Status = status
	return wake
}

func judgeAvailable(c *Context, d *appsv1.Deployment, status *appsv1.DeploymentStatus) {
	if status.AvailableReplicas >= boundsOf(d).least() {
		setDeploymentCondition(c, status, appsv1.DeploymentAvailable, corev1.ConditionTrue, reasonMinimumAvailable, "Deployment has minimum availability.", false)
	} else {
		setDeploymentCondition(c, status, appsv1.DeploymentAvailable, corev1.ConditionFalse, reasonMinimumUnavailable, "Deployment does not have minimum availability.", false)
	}
}

// judgeProgress keeps the Progressing condition, whose lastUpdateTime is when the
// rollout last moved. A rollout that ended well stays so whatever its pods do,
// until the deployment changes again.
func judgeProgress(c *Context, d *appsv1.Deployment, f family, old, status *appsv1.DeploymentStatus, created bool) (wake time.Time) {
	set := func(s corev1.ConditionStatus, reason, message string, moved bool) {
		setDeploymentCondition(c, status, appsv1.DeploymentProgressing, s, reason, message, moved)
	}
	name := ""
	if f.current != nil {
		name = f.current.Name
	}
	had, ok := health.DeploymentCondition(old, appsv1.DeploymentProgressing)
	changed := old.ObservedGeneration != d.Generation
	switch {
	case health.Complete(d, status):
		set(corev1.ConditionTrue, reasonSetAvailable, fmt.Sprintf("ReplicaSet %q has successfully progressed.", name), false)
		return wake
	case created:
		set(corev1.ConditionTrue, reasonSetCreated, fmt.Sprintf("Created new replica set %q", name), true)
	case !ok || changed || had.Reason != reasonSetAvailable && progressed(old, status):
		set(corev1.ConditionTrue, reasonSetUpdated, fmt.Sprintf("ReplicaSet %q is progressing.", name), true)
	case had.Reason == reasonSetAvailable || had.Reason == health.ReasonDeadlineExceeded:
		return wake
	}
	if d.Spec.ProgressDeadlineSeconds != nil && *d.Spec.ProgressDeadlineSeconds == math.MaxInt32 {
		return wake // Kubernetes' way to say "no deadline"
	}
	cond, _ := health.DeploymentCondition(status, appsv1.DeploymentProgressing)
	due := cond.LastUpdateTime.Add(progressDeadline(c, d))
	if due.After(c.Now) {
		return due
	}
	set(corev1.ConditionFalse, health.ReasonDeadlineExceeded, fmt.Sprintf("ReplicaSet %q has timed out progressing.", name), true)
	return wake
}

func progressDeadline(c *Context, d *appsv1.Deployment) time.Duration {
	if d.Spec.ProgressDeadlineSeconds == nil {
		return orDefault(c.Config.ProgressDeadline, DefaultProgressDeadline)
	}
	return time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second
}

func progressed(old, now *appsv1.DeploymentStatus) bool {
	return now.UpdatedReplicas > old.UpdatedReplicas ||
		now.Replicas-now.UpdatedReplicas < old.Replicas-old.UpdatedReplicas ||
		now.ReadyReplicas > old.ReadyReplicas ||
		now.AvailableReplicas > old.AvailableReplicas
}

// setDeploymentCondition keeps the transition time while the status stays, and the
// update time while nothing is said anew, unless the rollout moved.
func setDeploymentCondition(c *Context, status *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType, s corev1.ConditionStatus, reason, message string, moved bool) {
	now := c.Stamp()
	next := appsv1.DeploymentCondition{Type: t, Status: s, Reason: reason, Message: message, LastUpdateTime: now, LastTransitionTime: now}
	i := slices.IndexFunc(status.Conditions, func(cond appsv1.DeploymentCondition) bool { return cond.Type == t })
	if i < 0 {
		status.Conditions = append(status.Conditions, next)
		return
	}
	had := status.Conditions[i]
	if had.Status == s {
		next.LastTransitionTime = had.LastTransitionTime
	}
	if !moved && had.Status == s && had.Reason == reason && had.Message == message {
		next.LastUpdateTime = metav1.Time{Time: had.LastUpdateTime.Time}
	}
	status.Conditions[i] = next
}
