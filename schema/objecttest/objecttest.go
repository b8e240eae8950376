// Package objecttest makes the objects that tests of every floor start from: small
// ones with what a controller, scheduler or reader looks at first. What a test is about
// it says itself, by a change.
package objecttest

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

// Commit is the n-th commit of a test: n and zeros, of a hash's length up to nine.
func Commit(n int) schema.Commit { return schema.Commit(fmt.Sprintf("%d%039d", n, 0)) }

// Node is a node that is ready and takes 110 pods.
func Node(name, cpu, memory string, change ...func(*corev1.Node)) *corev1.Node {
	return changed(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory), corev1.ResourcePods: resource.MustParse("110")},
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}, change)
}

// Pod is a pod of namespace shop that is bound to a node and that nothing is known of
// yet; it has no containers.
func Pod(name, node string, change ...func(*corev1.Pod)) *corev1.Pod {
	return changed(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: corev1.PodPending},
	}, change)
}

// Deployment is one of namespace default with one container, without defaults.
func Deployment(name string, replicas int32, change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return changed(&appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "localhost/c:v1"}}},
		}},
	}, change)
}

// Job is one of namespace default with one container that is not started again, without
// defaults.
func Job(name string, change ...func(*batchv1.Job)) *batchv1.Job {
	return changed(&batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "localhost/c:v1"}},
		}}},
	}, change)
}

// Source is one that follows a path of a repository, of the embedded one where url is
// empty.
func Source(name, url, path string) *schema.Source {
	return &schema.Source{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: schema.DefaultSourceSpec(schema.SourceSpec{URL: url, Embedded: url == "", Path: path}),
	}
}

func changed[T any](object T, changes []func(T)) T {
	for _, change := range changes {
		change(object)
	}
	return object
}
