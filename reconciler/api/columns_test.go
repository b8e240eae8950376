package api

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func waiting(reason string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
}

func terminated(code, signal int32, reason string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Signal: signal, Reason: reason}}
}

func TestPodRow(t *testing.T) {
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	status := func(name string, ready bool, s corev1.ContainerState) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, Ready: ready, State: s}
	}
	spec := corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}, {Name: "b"}}}
	withInit := corev1.PodSpec{Containers: spec.Containers, InitContainers: []corev1.Container{{Name: "i"}, {Name: "j"}}}
	sidecar := corev1.PodSpec{Containers: spec.Containers[:1], InitContainers: []corev1.Container{{Name: "s", RestartPolicy: ptr(corev1.ContainerRestartPolicyAlways)}}}
	cases := []struct {
		name string
		pod  corev1.Pod
		want string // ready status restarts
	}{
		{"new", corev1.Pod{Spec: spec, Status: corev1.PodStatus{Phase: corev1.PodPending}}, "0/2 Pending 0"},
		{"evicted", corev1.Pod{Spec: spec, Status: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted"}}, "0/2 Evicted 0"},
		{"creating", corev1.Pod{Spec: spec, Status: corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{
			status("a", false, waiting("ContainerCreating")), status("b", false, waiting("ContainerCreating")),
		}}}, "0/2 ContainerCreating 0"},
		{"the first with something to say", corev1.Pod{Spec: spec, Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			status("a", false, waiting("ImagePullBackOff")), status("b", true, running),
		}}}, "1/2 ImagePullBackOff 0"},
		{"exit code", corev1.Pod{Spec: spec, Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			status("a", false, terminated(3, 0, "")),
		}}}, "0/2 ExitCode:3 0"},
		{"signal", corev1.Pod{Spec: spec, Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			status("a", false, terminated(137, 9, "")),
		}}}, "0/2 Signal:9 0"},
		{"one of two has completed", corev1.Pod{Spec: spec, Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			status("a", false, terminated(0, 0, "Completed")), status("b", true, running),
		}}}, "1/2 NotReady 0"},
		{"completed and ready", corev1.Pod{Spec: spec, Status: corev1.PodStatus{
			Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{status("a", false, terminated(0, 0, "Completed")), status("b", true, running)},
		}}, "1/2 Running 0"},
		{"first of two init containers", corev1.Pod{Spec: withInit, Status: corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{
			status("i", false, running), status("j", false, waiting("PodInitializing")),
		}}}, "0/2 Init:0/2 0"},
		{"second init container fails", corev1.Pod{Spec: withInit, Status: corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{
			status("i", false, terminated(0, 0, "Completed")), {Name: "j", RestartCount: 2, State: waiting("CrashLoopBackOff")},
		}}}, "0/2 Init:CrashLoopBackOff 2"},
		{"init container's exit", corev1.Pod{Spec: withInit, Status: corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{
			status("i", false, terminated(1, 0, "Error")),
		}}}, "0/2 Init:Error 0"},
		{"init containers are done: their restarts are forgotten", corev1.Pod{Spec: withInit, Status: corev1.PodStatus{
			Phase: corev1.PodRunning, InitContainerStatuses: []corev1.ContainerStatus{
				{Name: "i", RestartCount: 4, State: terminated(0, 0, "Completed")}, status("j", true, terminated(0, 0, "Completed")),
			},
			ContainerStatuses: []corev1.ContainerStatus{status("a", true, running), status("b", true, running)},
		}}, "2/2 Running 0"},
		{"sidecar counts", corev1.Pod{Spec: sidecar, Status: corev1.PodStatus{
			Phase:                 corev1.PodRunning,
			InitContainerStatuses: []corev1.ContainerStatus{{Name: "s", RestartCount: 1, Ready: true, Started: ptr(true), State: running}},
			ContainerStatuses:     []corev1.ContainerStatus{status("a", true, running)},
		}}, "2/2 Running 1"},
		{"a sidecar crashes beside what runs", corev1.Pod{Spec: sidecar, Status: corev1.PodStatus{
			Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}},
			InitContainerStatuses: []corev1.ContainerStatus{{Name: "s", RestartCount: 3, State: waiting("CrashLoopBackOff")}},
			ContainerStatuses:     []corev1.ContainerStatus{status("a", true, running)},
		}}, "1/2 Init:CrashLoopBackOff 3"},
		{"going", corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &sampleMade}, Spec: spec, Status: corev1.PodStatus{Phase: corev1.PodRunning}}, "0/2 Terminating 0"},
		{"going with its node", corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &sampleMade}, Spec: spec, Status: corev1.PodStatus{Phase: corev1.PodRunning, Reason: "NodeLost"}}, "0/2 Unknown 0"},
		{"restarted", corev1.Pod{Spec: spec, Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			{Name: "a", Ready: true, RestartCount: 2, State: running, LastTerminationState: corev1.ContainerState{
				Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(sampleNow.Add(-3 * time.Hour))},
			}}, status("b", true, running),
		}}}, "2/2 Running 2 (3h ago)"},
	}
	for _, c := range cases {
		cells := podCells(&c.pod, metav1.NewTime(sampleNow))
		if got := fmt.Sprintf("%s %s %s", cells[1], cells[2], cells[3]); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestJoinMost(t *testing.T) {
	for _, c := range []struct {
		items []string
		want  string
	}{
		{nil, "<none>"},
		{[]string{"a", "b", "c"}, "a,b,c"},
		{[]string{"a", "b", "c", "d", "e"}, "a,b,c + 2 more..."},
	} {
		if got := joinMost(c.items, none); got != c.want {
			t.Errorf("%q: %s, want %s", c.items, got, c.want)
		}
	}
}
