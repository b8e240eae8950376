package why

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

var now = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

const commit = "4d7b5c7aefe8000000000000000000000000cafe"

// world is a small cluster: deployment shop/api of one pod on n1, its service, its
// source and its revision, all well. Tests break it.
type world struct {
	source     *schema.Source
	revision   *schema.Revision
	deployment *appsv1.Deployment
	set        *appsv1.ReplicaSet
	pod        *corev1.Pod
	node       *corev1.Node
	service    *corev1.Service
	endpoints  *discoveryv1.EndpointSlice
	more       []schema.Object
}

func newWorld() *world {
	one, yes := int32(1), true
	labels := map[string]string{"app": "api"}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "api", Image: "registry.example/api:v1",
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}}, PeriodSeconds: 2},
			LivenessProbe:  &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}, PeriodSeconds: 5},
		}}},
	}
	w := &world{
		source: &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: schema.SourceSpec{Branch: "main"}},
		revision: &schema.Revision{
			ObjectMeta: metav1.ObjectMeta{Name: "main-4d7b5c7aefe8"},
			Spec:       schema.RevisionSpec{Source: "main", Commit: commit, Subject: "shop: v1", Author: "Ada <ada@example.org>", Time: ago(time.Hour)},
		},
		deployment: &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "api", Namespace: "shop", UID: "d", Generation: 1},
			Spec:       appsv1.DeploymentSpec{Replicas: &one, Template: template},
			Status:     appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1},
		},
		set: &appsv1.ReplicaSet{
			ObjectMeta: metav1.ObjectMeta{
				Name: "api-1", Namespace: "shop", UID: "r",
				OwnerReferences: []metav1.OwnerReference{{Kind: "Deployment", Name: "api", UID: "d", Controller: &yes}},
			},
			Spec:   appsv1.ReplicaSetSpec{Replicas: &one, Template: template},
			Status: appsv1.ReplicaSetStatus{ReadyReplicas: 1},
		},
		pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: "api-1-x", Namespace: "shop", UID: "p", Labels: labels,
				OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "api-1", UID: "r", Controller: &yes}},
			},
			Spec: template.Spec,
		},
		node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: ago(time.Hour)},
		}}},
		service: &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "api", Namespace: "shop"}, Spec: corev1.ServiceSpec{Selector: labels}},
		endpoints: &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Name: "api-1", Namespace: "shop", Labels: map[string]string{discoveryv1.LabelServiceName: "api"}},
			Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{"10.112.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}}},
		},
	}
	w.pod.Spec.NodeName = "n1"
	w.source.Status.Applied, w.source.Status.Desired = schema.CommitRef{Commit: commit}, schema.CommitRef{Commit: commit}
	w.revision.Enter(schema.PhaseHealthy, ago(time.Hour), "workloads up to date and available: 1")
	for _, o := range []schema.Object{w.deployment, w.set, w.pod, w.service} {
		schema.SetOrigin(o, schema.Origin{Source: "main", Path: "api.yaml", Line: 2, Commit: commit, Author: "Ada <ada@example.org>"})
	}
	w.status(corev1.ContainerStatus{Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: ago(time.Hour)}}})
	return w
}

// status gives the pod's container a status; readiness follows.
func (w *world) status(s corev1.ContainerStatus) {
	s.Name, s.Image = "api", "registry.example/api:v1"
	ready := corev1.ConditionFalse
	if s.Ready {
		ready = corev1.ConditionTrue
	}
	w.pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{s},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready, LastTransitionTime: ago(time.Minute)}},
	}
	if !s.Ready {
		w.deployment.Status.AvailableReplicas, w.deployment.Status.ReadyReplicas, w.set.Status.ReadyReplicas = 0, 0, 0
		no := false
		w.endpoints.Endpoints[0].Conditions.Ready = &no
	}
}

func (w *world) crashed(reason string, exitCode int32) {
	w.status(corev1.ContainerStatus{
		RestartCount:         3,
		State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 20s"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: reason, ExitCode: exitCode, FinishedAt: ago(10 * time.Second)}},
	})
}

func (w *world) event(reason, message string, count int32) {
	w.more = append(w.more, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: strings.ToLower(reason), Namespace: "shop"},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "api-1-x", UID: types.UID("p")},
		Type:           "Warning", Reason: reason, Message: message, LastTimestamp: ago(time.Duration(len(w.more)+1) * time.Second), Count: count,
	})
}

func (w *world) cluster() state.Reader {
	tx := state.Empty(state.Counters{}).Begin()
	for _, o := range append([]schema.Object{w.source, w.revision, w.deployment, w.set, w.pod, w.node, w.service, w.endpoints}, w.more...) {
		tx.Restore(o)
	}
	return tx.Commit()
}

var (
	theDeployment = schema.Key{Kind: schema.KindDeployment, Namespace: "shop", Name: "api"}
	theService    = schema.Key{Kind: schema.KindService, Namespace: "shop", Name: "api"}
)

func TestNobodyExplainsWhatIsNotThere(t *testing.T) {
	_, err := Explain(newWorld().cluster(), schema.Key{Kind: schema.KindPod, Namespace: "shop", Name: "nope"})
	if err == nil || err.Error() != "there is no Pod shop/nope" {
		t.Errorf("got %v", err)
	}
}

func TestOneOfSeveralPods(t *testing.T) {
	w := newWorld()
	two := state.Edit(w.pod)
	two.Name, two.UID = "api-1-y", "p2"
	w.crashed("Error", 1)
	w.endpoints.Endpoints = append(w.endpoints.Endpoints, discoveryv1.Endpoint{Addresses: []string{"10.112.0.2"}})
	w.more = append(w.more, two)
	c, err := Explain(w.cluster(), theService)
	if err != nil {
		t.Fatal(err)
	}
	if c.Code != health.CrashLoop || !strings.HasPrefix(c.Reason, "it serves with 1 of 2 endpoints; container api of pod api-1-x ends with exit code 1") {
		t.Errorf("%s: %s", c.Code, c.Reason)
	}
}

func TestText(t *testing.T) {
	w := newWorld()
	w.crashed("Error", 2)
	w.event("BackOff", "back-off restarting failed container api, next start in 20s", 4)
	c, err := Explain(w.cluster(), theDeployment)
	if err != nil {
		t.Fatal(err)
	}
	c.Log.Lines = []string{"starting", "fatal: \x1b[31mno token"}
	var got bytes.Buffer
	c.WriteText(&got, now)
	want := `Deployment shop/api: CrashLoop
  container api of pod api-1-x ends with exit code 2, 3 restarts

  ok  commit      4d7b5c7aefe8             "shop: v1" by Ada <ada@example.org>, revision main-4d7b5c7aefe8 is Healthy (60m ago)
  ok  file        api.yaml:2               of source main
  !!  deployment  shop/api                 0 of 1 available
  !!  replicaset  shop/api-1               0 of 1 ready
  !!  pod         shop/api-1-x             Running on n1, not ready (60s ago)
  ok  node        n1                       Ready (60m ago)
  ok  image       registry.example/api:v1  there
  !!  container   api                      CrashLoopBackOff, last ended with exit code 2, 3 restarts (10s ago)

Events, newest first:
  1s ago (x4)  Pod shop/api-1-x  BackOff  back-off restarting failed container api, next start in 20s

Last lines of container api of pod shop/api-1-x:
  | starting
  | fatal: \x1b[31mno token

Who must act: developer (Ada <ada@example.org> changed it last, at api.yaml:2).
To do: read the log, fix the program or its configuration and commit.
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Error(diff)
	}
}

// What is built by a kustomization names it, and what sets which fields, also where a pod
// of it is asked about.
func TestWhatBuiltAnObjectIsTold(t *testing.T) {
	w := newWorld()
	built := schema.Built{By: "overlays/prod"}
	built.Add("spec.replicas", "a patch of overlays/prod", schema.Position{Path: "overlays/prod/patch.yaml", Line: 5, Column: 13})
	built.Add("spec.template.spec.containers[0].image", "images of overlays/prod", schema.Position{Path: "overlays/prod/kustomization.yaml", Line: 2})
	for i := range 10 {
		built.Add("metadata.labels.l"+string(rune('0'+i)), "labels of base", schema.Position{Path: "base/kustomization.yaml", Line: 2})
	}
	schema.SetBuilt(w.deployment, built)
	for _, key := range []schema.Key{theDeployment, schema.KeyOf(w.pod)} {
		c, err := Explain(w.cluster(), key)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range c.Links {
			if l.Step == "file" || l.Step == "set by" {
				got = append(got, l.Name+" "+l.State)
			}
		}
		want := []string{
			"api.yaml:2 of source main, built by the kustomization in overlays/prod",
			"overlays/prod/patch.yaml:5 a patch of overlays/prod: spec.replicas",
			"overlays/prod/kustomization.yaml:2 images of overlays/prod: spec.template.spec.containers[0].image",
			"base/kustomization.yaml:2 labels of base: metadata.labels.l0, metadata.labels.l1, metadata.labels.l2, metadata.labels.l3, metadata.labels.l4, metadata.labels.l5, metadata.labels.l6, metadata.labels.l7 and 2 more",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", key, diff)
		}
	}
}
