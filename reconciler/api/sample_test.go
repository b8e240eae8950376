package api

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// sampleNow is when tests look at the sample cluster, made five minutes before.
var (
	sampleNow  = time.Date(2026, 1, 2, 3, 9, 5, 0, time.UTC)
	sampleMade = metav1.NewTime(sampleNow.Add(-5 * time.Minute))
)

const sampleRV = 1 << 40

const sampleCommit = "0123456789abcdef0123456789abcdef01234567"

// sampleCluster is a small shop on two nodes, in every state the printers know.
func sampleCluster() *state.Snapshot {
	tx := state.Empty(state.Counters{ResourceVersion: sampleRV}).Begin()
	for _, obj := range sampleObjects() {
		tx.Put(obj)
	}
	return tx.Commit()
}

func meta(namespace, name string, labels map[string]string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels, CreationTimestamp: sampleMade}
	if namespace != "" {
		schema.SetOrigin(&m, schema.Origin{Source: "main", Path: "shop/" + namespace + ".yaml", Line: 3, Commit: sampleCommit, Author: "Ada <ada@example.org>"})
	}
	return m
}

func sampleObjects() []schema.Object {
	api := map[string]string{"app": "api"}
	deploymentMeta, replicaSetMeta := meta("shop", "api", api), meta("shop", "api-5d9c7b", api)
	deploymentMeta.UID = "uid-api"
	deploymentMeta.Annotations["deployment.kubernetes.io/revision"] = "1"
	replicaSetMeta.Annotations["deployment.kubernetes.io/revision"] = "1"
	replicaSetMeta.Annotations["kubernetes.io/change-cause"] = "0123456 open the shop"
	replicaSetMeta.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: "api", UID: "uid-api", Controller: ptr(true)}}
	return []schema.Object{
		&corev1.Namespace{ObjectMeta: meta("", "default", nil), Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive}},
		&corev1.Namespace{ObjectMeta: meta("", "shop", nil), Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive}},
		sampleNode("n1", "10.0.0.1", "10.112.0.0/22", corev1.ConditionTrue),
		sampleNode("n2", "10.0.0.2", "10.112.4.0/22", corev1.ConditionFalse),
		&corev1.ConfigMap{ObjectMeta: meta("shop", "api-config", nil), Data: map[string]string{"greeting": "hello"}},
		&corev1.Secret{ObjectMeta: meta("shop", "api-secret", nil), Type: corev1.SecretTypeOpaque, Data: map[string][]byte{"password": []byte("hunter2")}},
		&appsv1.Deployment{
			ObjectMeta: deploymentMeta,
			Spec:       appsv1.DeploymentSpec{Replicas: ptr(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: api}, Template: podTemplate(api)},
			Status:     appsv1.DeploymentStatus{ReadyReplicas: 1, UpdatedReplicas: 2, AvailableReplicas: 1, Replicas: 2},
		},
		&appsv1.ReplicaSet{
			ObjectMeta: replicaSetMeta,
			Spec:       appsv1.ReplicaSetSpec{Replicas: ptr(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: api}, Template: podTemplate(api)},
			Status:     appsv1.ReplicaSetStatus{Replicas: 2, ReadyReplicas: 1},
		},
		samplePod("api-5d9c7b-aaaaa", "n1", "10.112.0.5", api, true),
		samplePod("api-5d9c7b-bbbbb", "n2", "10.112.4.9", api, false),
		&corev1.Service{
			ObjectMeta: meta("shop", "api", api),
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.20", Selector: api,
				Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)}},
			},
		},
		sampleSlice("api", "api-x7x7x"),
		sampleJob(),
		&batchv1.CronJob{
			ObjectMeta: meta("batch", "report", nil),
			Spec:       batchv1.CronJobSpec{Schedule: "30 3 * * *", TimeZone: ptr("Europe/Vienna"), Suspend: ptr(false), JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: podTemplate(nil)}}},
			Status:     batchv1.CronJobStatus{LastScheduleTime: &sampleMade},
		},
		&corev1.Event{
			ObjectMeta:     meta("shop", "api-5d9c7b-bbbbb.1", nil),
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: "shop", Name: "api-5d9c7b-bbbbb", UID: "uid-api-5d9c7b-bbbbb"},
			Type:           corev1.EventTypeWarning, Reason: "BackOff", Message: "back-off 10s restarting container api", Count: 3,
			FirstTimestamp: sampleMade, LastTimestamp: metav1.NewTime(sampleNow.Add(-time.Minute)), Source: corev1.EventSource{Component: "agent", Host: "n2"},
		},
		&schema.Source{
			ObjectMeta: meta("", "main", nil), Spec: schema.SourceSpec{Embedded: true, Branch: "main", Path: "."},
			Status: schema.SourceStatus{
				Applied: schema.CommitRef{Commit: sampleCommit}, Desired: schema.CommitRef{Commit: sampleCommit},
				Conditions: []metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue}},
			},
		},
		&schema.Revision{
			ObjectMeta: meta("", string(schema.RevisionOf("main", sampleCommit)), nil),
			Spec:       schema.RevisionSpec{Source: "main", Commit: sampleCommit, Author: "Ada <ada@example.org>", Subject: "open the shop"},
			Status: schema.RevisionStatus{
				Phase: schema.PhaseHealthy, Sync: &schema.Standing{Word: schema.Synced, Since: sampleMade},
				Health: &schema.Standing{Word: schema.Degraded, Reason: "Deployment shop/api: 1 of 2 available", Since: sampleMade},
			},
		},
	}
}

// sampleJob has done its work in a minute.
func sampleJob() *batchv1.Job {
	done := metav1.NewTime(sampleMade.Add(time.Minute))
	return &batchv1.Job{
		ObjectMeta: meta("batch", "migrate", nil),
		Spec:       batchv1.JobSpec{Completions: ptr(int32(1)), Parallelism: ptr(int32(1)), Template: podTemplate(nil)},
		Status: batchv1.JobStatus{
			Succeeded: 1, StartTime: &sampleMade, CompletionTime: &done,
			Conditions: []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: done}},
		},
	}
}

func sampleNode(name, ip, cidr string, ready corev1.ConditionStatus) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: meta("", name, map[string]string{"kubernetes.io/hostname": name}), Spec: corev1.NodeSpec{PodCIDR: cidr},
		Status: corev1.NodeStatus{
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, LastTransitionTime: sampleMade}},
			NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v0.1.0", OSImage: "Debian 12", KernelVersion: "6.1", ContainerRuntimeVersion: "podman://4.3.1"},
			Capacity:   corev1.ResourceList{corev1.ResourceCPU: quantity.MustParse("2"), corev1.ResourceMemory: quantity.MustParse("4Gi")},
			Allocatable: corev1.ResourceList{
				corev1.ResourceCPU: quantity.MustParse("2"), corev1.ResourceMemory: quantity.MustParse("4Gi"),
			},
		},
	}
}

func podTemplate(labels map[string]string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec("")}
}

func podSpec(node string) corev1.PodSpec {
	return corev1.PodSpec{
		NodeName: node,
		Containers: []corev1.Container{{
			Name: "api", Image: "localhost/shop/api:v1",
			EnvFrom: []corev1.EnvFromSource{
				{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "api-config"}}},
				{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "api-secret"}}},
			},
		}},
	}
}

func samplePod(name, node, ip string, labels map[string]string, ready bool) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: meta("shop", name, labels), Spec: podSpec(node)}
	pod.UID = types.UID("uid-" + name)
	pod.Annotations[schema.AnnotationEpoch] = "1"
	status := corev1.ContainerStatus{Name: "api", Ready: ready, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: sampleMade}}}
	if !ready {
		status.RestartCount = 3
		status.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
		status.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", FinishedAt: metav1.NewTime(sampleNow.Add(-time.Minute))}
	}
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, ContainerStatuses: []corev1.ContainerStatus{status},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: conditionStatus(ready)}},
	}
	return pod
}

func conditionStatus(b bool) corev1.ConditionStatus {
	if b {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}

func sampleSlice(service, name string) *discoveryv1.EndpointSlice {
	endpoint := func(pod, ip, node string, ready bool) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{
			Addresses: []string{ip}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, NodeName: &node,
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: pod},
		}
	}
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  meta("shop", name, map[string]string{discoveryv1.LabelServiceName: service}),
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(8080)), Protocol: ptr(corev1.ProtocolTCP)}},
		Endpoints: []discoveryv1.Endpoint{
			endpoint("api-5d9c7b-aaaaa", "10.112.0.5", "n1", true), endpoint("api-5d9c7b-bbbbb", "10.112.4.9", "n2", false),
		},
	}
}

func ptr[T any](v T) *T { return &v }

// configMap is something for tests to put.
func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: meta("shop", name, map[string]string{"tier": value}), Data: map[string]string{"value": fmt.Sprint(value)}}
}
