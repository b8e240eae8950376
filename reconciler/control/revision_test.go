package control

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/objecttest"
)

// rollingOut is a world in which commit c2 of source main was just applied.
func rollingOut(t *testing.T) *world {
	w := testWorld(t)
	src := &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: schema.SourceSpec{ProgressDeadline: &metav1.Duration{Duration: 90 * time.Second}}}
	src.Status.Applied.Commit = "c2"
	healthy := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-c1"}, Spec: schema.RevisionSpec{Source: "main", Commit: "c1"}}
	healthy.Enter(schema.PhaseHealthy, metav1.NewTime(start), "")
	rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-c2"}, Spec: schema.RevisionSpec{Source: "main", Commit: "c2"}}
	rev.Enter(schema.PhaseRollingOut, metav1.NewTime(start), "applied")
	w.put(src, healthy, rev)
	return w
}

func from[T schema.Object](obj T, commit schema.Commit) T {
	schema.SetOrigin(obj, schema.Origin{Source: "main", Path: "x.yaml", Line: 1, Commit: commit})
	return obj
}

func revision(w *world) string {
	rev := get[*schema.Revision](w, "", "main-c2")
	return fmt.Sprintf("%s: %s", rev.Status.Phase, rev.Status.Phases[len(rev.Status.Phases)-1].Reason)
}

func barePod(change ...func(*corev1.Pod)) *corev1.Pod {
	made := func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(start) }
	return from(objecttest.Pod("job", "n1", append([]func(*corev1.Pod){made}, change...)...), "c2")
}

func containers(statuses ...corev1.ContainerStatus) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.ContainerStatuses = statuses }
}

func waitingFor(reason, message string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "main", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}
}

func TestRevisionWithABarePod(t *testing.T) {
	exit3 := &corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error", Message: "no such table"}
	tests := []struct {
		name string
		pod  *corev1.Pod
		pass time.Duration
		want string
	}{
		{"is done", barePod(func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), 0, "Healthy: workloads up to date and available: 1"},
		{"is ready", barePod(func(p *corev1.Pod) { running(p, start) }), 0, "Healthy: workloads up to date and available: 1"},
		{"terminates", barePod(func(p *corev1.Pod) { running(p, start); now := metav1.NewTime(start); p.DeletionTimestamp = &now }), time.Hour, "RollingOut: applied"},
		{"ended badly", barePod(func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodFailed
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Terminated: exit3}}}
		}), 0, "Failed: Pod shop/job: container main of pod job ended with exit code 3: no such table"},
		{"was refused by its node", barePod(func(p *corev1.Pod) {
			p.Status.Phase, p.Status.Reason, p.Status.Message = corev1.PodFailed, "Evicted", "disk is full"
		}), 0,
			"Failed: Pod shop/job: pod job failed: Evicted: disk is full"},
		{"starts, in time", barePod(), 89 * time.Second, "RollingOut: applied"},
		{"does not start in the source's time", barePod(), 90 * time.Second, "Failed: Pod shop/job: no progress for 1m30s: pod job has not started on n1 yet"},
		{"cannot be configured, in time", barePod(containers(waitingFor("CreateContainerConfigError", "no ConfigMap app"))), 89 * time.Second, "RollingOut: applied"},
		{"cannot be configured", barePod(containers(waitingFor("CreateContainerConfigError", "no ConfigMap app"))), 90 * time.Second,
			"Failed: Pod shop/job: no progress for 1m30s: container main of pod job waits: CreateContainerConfigError: no ConfigMap app"},
		{"waits for a ConfigMap that is nowhere", barePod(containers(waitingFor("CreateContainerConfigError", "configmap app not found"))), time.Hour,
			"Stalled: Pod shop/job: container main of pod job waits: CreateContainerConfigError: configmap app not found"},
		{"goes on restarting", barePod(containers(corev1.ContainerStatus{Name: "main", RestartCount: 4, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}, LastTerminationState: corev1.ContainerState{Terminated: exit3}})), 90 * time.Second,
			"Failed: Pod shop/job: no progress for 1m30s: container main of pod job was restarted 4 times, last after exit code 3: no such table"},
		{"fails in an init container", barePod(func(p *corev1.Pod) {
			s := waitingFor("CrashLoopBackOff", "")
			s.Name = "migrate"
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{s}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{waitingFor("PodInitializing", "")}
		}), 90 * time.Second, "Failed: Pod shop/job: no progress for 1m30s: container migrate of pod job waits: CrashLoopBackOff"},
		{"finds no image", barePod(containers(waitingFor("ErrImagePull", "manifest unknown"))), time.Hour,
			"Failed: Pod shop/job: no progress for 1m30s: container main of pod job waits: ErrImagePull: manifest unknown"},
		{"has no registry to ask", barePod(containers(waitingFor("RegistryUnavailable", "connection refused"))), time.Hour,
			"Stalled: Pod shop/job: container main of pod job waits: RegistryUnavailable: connection refused"},
		{"may not have its image", barePod(containers(waitingFor("RegistryDenied", "unauthorized"))), time.Hour,
			"Stalled: Pod shop/job: container main of pod job waits: RegistryDenied: unauthorized"},
		{"cannot be started by its node", barePod(containers(waitingFor("NodeError", "no conmon"))), time.Hour,
			"Stalled: Pod shop/job: container main of pod job waits: NodeError: no conmon"},
		{"was changed by nobody", from(barePod(containers(waitingFor("CrashLoopBackOff", ""))), "c1"), time.Hour,
			"Stalled: Pod shop/job, which this revision did not change: container main of pod job waits: CrashLoopBackOff"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := rollingOut(t)
			w.put(tt.pod)
			w.settle()
			w.pass(tt.pass)
			if diff := cmp.Diff(tt.want, revision(w)); diff != "" {
				t.Errorf("revision (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRevisionIsNotHealthyBeforeTheGenerationIsObserved(t *testing.T) {
	w := rollingOut(t)
	d := from(deployment(), "c2")
	d.Generation = 2
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 3, UpdatedReplicas: 3, ReadyReplicas: 3, AvailableReplicas: 3}
	w.put(d)
	reconcileRevision(w.context(), schema.Key{Kind: schema.KindRevision, Name: "main-c2"})
	if got := revision(w); got != "RollingOut: applied" {
		t.Errorf("got %s", got)
	}
	w.live("n1")
	if got := revision(w); got != "Healthy: workloads up to date and available: 1" {
		t.Errorf("once it runs: %s", got)
	}
}

// One workload without room does not hide another that still moves, nor one that
// is broken.
func TestRevisionWeighsAllWorkloads(t *testing.T) {
	w := rollingOut(t)
	noRoom := barePod(func(p *corev1.Pod) {
		p.Spec.NodeName = ""
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "0/3 nodes can take it: n1: cpu"}}
	})
	noRoom.Name = "big"
	w.put(noRoom, barePod())
	w.settle()
	w.pass(60 * time.Second)
	if got := revision(w); got != "RollingOut: applied" {
		t.Errorf("while another moves: %s", got)
	}
	w.edit(get[*corev1.Pod](w, "shop", "job"), func(p *corev1.Pod) { running(p, w.now) })
	w.settle()
	if got, want := revision(w), "Stalled: Pod shop/big: no node takes pod big: 0/3 nodes can take it: n1: cpu"; got != want {
		t.Errorf("when it is all that is missing: got %s, want %s", got, want)
	}
}

// A pod that found its node late has its whole time, though its workload's is over.
func TestALatePodHasItsTime(t *testing.T) {
	w := rollingOut(t)
	hour := int32(3600)
	slowly := from(deployment(replicas(1), func(d *appsv1.Deployment) { d.Name, d.Spec.ProgressDeadlineSeconds = "slow", &hour }), "c2")
	w.put(from(deployment(replicas(1)), "c2"))
	w.settle()
	w.put(slowly)
	late := w.pods("shop")[0]
	w.edit(late, func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable}}
	})
	w.settle()
	w.pass(700 * time.Second)
	w.bind("n1")
	w.settle()
	w.pass(599 * time.Second)
	if got := revision(w); got != "RollingOut: applied" {
		t.Errorf("in its time: %s", got)
	}
	w.pass(time.Second)
	if got, want := revision(w), "Failed: Deployment shop/api: no progress for 10m0s: pod "+late.Name+" has not started on n1 yet"; got != want {
		t.Errorf("after it: got %s, want %s", got, want)
	}
}

func TestRevisionOfAnotherCommitIsLeftAlone(t *testing.T) {
	w := rollingOut(t)
	src := state.Edit(get[*schema.Source](w, "", "main"))
	src.Status.Applied.Commit = "c3"
	w.put(src)
	w.settle()
	if got := revision(w); got != "RollingOut: applied" {
		t.Errorf("got %s", got)
	}
}

func TestPhasesAreBounded(t *testing.T) {
	w := rollingOut(t)
	for range schema.MaxPhaseRecords {
		enter(w.context(), get[*schema.Revision](w, "", "main-c2"), schema.PhaseStalled, corev1.EventTypeWarning, "no room")
		enter(w.context(), get[*schema.Revision](w, "", "main-c2"), schema.PhaseRollingOut, corev1.EventTypeNormal, "room")
	}
	phases := get[*schema.Revision](w, "", "main-c2").Status.Phases
	if len(phases) != schema.MaxPhaseRecords || phases[0].Reason != "applied" || phases[len(phases)-1].Reason != "room" {
		t.Errorf("%d phases, from %s to %s", len(phases), phases[0].Reason, phases[len(phases)-1].Reason)
	}
}
