package nodeagent

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/nodeagent/pod"
	"fairlead/schema/wire"
)

// An end that a listing tells has its last lines told too, of a container that is known
// and of one that is not, and each end once.
func TestAnEndThatIsListedHasItsLinesTold(t *testing.T) {
	ended := pod.Found{
		ID: "id-1", Pod: "uid-1", State: pod.StateExited, ExitCode: 3, StartedAt: time.Unix(1, 0), FinishedAt: time.Unix(2, 0),
		Labels: map[string]string{pod.LabelContainer: "c", pod.LabelAttempt: "1"},
	}
	for name, known := range map[string]pod.Container{
		"created": {ID: "id-1", Attempt: 1, State: pod.StateCreated, Present: true},
		"unknown": {ID: "id-1", Attempt: 1, State: pod.StateUnknown, Present: true},
		"older":   {ID: "id-0", State: pod.StateExited, Present: true},
	} {
		now := time.Unix(10, 0)
		m := newMachine("n1", "192.0.2.1", "boot", nil)
		e := m.entry("uid-1", now)
		e.obs.Name = "a"
		e.wanted = &pod.Wanted{PodWork: wire.PodWork{Pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}},
		}}}
		e.obs.Containers["c"] = known
		for range 2 {
			m.sync([]pod.Found{ended}, nil, now)
		}
		if got := e.obs.Containers["c"]; got.State != pod.StateExited || got.ExitCode != 3 {
			t.Errorf("%s: it is %+v", name, got)
		}
		if tail := e.tails["c"]; tail == nil || tail.marks != 1 || tail.attempt != 1 {
			t.Errorf("%s: to be told are %+v", name, tail)
		}
	}
}
