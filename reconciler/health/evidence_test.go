package health

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"fairlead/schema"
	"fairlead/schema/chance"
)

func named(name string, s corev1.ContainerStatus) corev1.ContainerStatus {
	s.Name = name
	return s
}

func loops(last *corev1.ContainerStateTerminated) corev1.ContainerStatus {
	s := waits("c", schema.ReasonCrashLoop, "back-off 40s")
	s.RestartCount, s.LastTerminationState.Terminated = 2, last
	return s
}

func unhealthy(container, message string) *corev1.Event {
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "e-" + container}, InvolvedObject: corev1.ObjectReference{UID: "u", FieldPath: "spec.containers{" + container + "}"},
		Reason: schema.ReasonUnhealthy, Message: message,
	}
}

// What each fault of a pod leaves as evidence.
func TestWhatAPodShows(t *testing.T) {
	killed := loops(&corev1.ContainerStateTerminated{ExitCode: 137, Reason: schema.ReasonUnhealthy, Message: "liveness probe failed 3 times: HTTP probe failed with statuscode: 503 no database"})
	for name, tt := range map[string]struct {
		pod      func(*corev1.Pod)
		events   []schema.Object
		answered bool
		late     bool
		want     []string // "container code: exit; probe: answer"
	}{
		"a crash":           {pod: status(loops(ended(1, "Error"))), want: []string{"c CrashLoop: 1"}},
		"a signal":          {pod: status(loops(ended(139, "Error"))), want: []string{"c CrashLoop: 139 SIGSEGV"}},
		"out of memory":     {pod: status(loops(ended(137, schema.ReasonOOMKilled))), want: []string{"c OOMKilled: 137"}},
		"a crash at first":  {pod: status(corev1.ContainerStatus{Name: "c", State: corev1.ContainerState{Terminated: ended(2, "Error")}}), want: []string{"c CrashLoop: 2"}},
		"up between two":    {pod: status(runs(3, ended(1, "Error"))), want: []string{"c CrashLoop: 1"}},
		"a liveness probe":  {pod: status(killed), want: []string{"c ProbeFailing: 137; liveness: HTTP probe failed with statuscode: 503 no database"}},
		"no configuration":  {pod: status(waits("c", schema.ReasonContainerConfig, "no Secret x")), want: []string{"c ConfigMissing"}},
		"it cannot be made": {pod: status(waits("c", schema.ReasonContainerCreate, "no such device")), want: []string{"c StartFailing"}},
		"several containers": {
			pod:  status(named("a", loops(ended(1, "Error"))), named("b", waits("b", schema.ReasonContainerConfig, "no key")), corev1.ContainerStatus{Name: "d", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}),
			want: []string{"a CrashLoop: 1", "b ConfigMissing"},
		},
		"an init container": {
			pod: func(p *corev1.Pod) {
				p.Status.InitContainerStatuses = []corev1.ContainerStatus{named("init", loops(ended(1, "Error")))}
				p.Status.ContainerStatuses = []corev1.ContainerStatus{waits("c", "PodInitializing", "")}
			},
			want: []string{"init CrashLoop: 1"},
		},
		"volumes that cannot be made": {pod: condition(corev1.PodReadyToStartContainers, corev1.ConditionFalse, schema.ReasonMount, "no directory /x"), want: []string{" SetupFailing"}},
		"a readiness probe": {
			pod: status(runs(0, nil)), events: []schema.Object{unhealthy("c", "Readiness probe failed: connection refused")}, answered: true,
			want: []string{"c ProbeFailing; readiness: connection refused"},
		},
		"a crash and a probe": {
			pod: status(runs(1, ended(1, "Error"))), events: []schema.Object{unhealthy("c", "Startup probe failed: command exited with code 1: not yet")}, answered: true,
			want: []string{"c CrashLoop: 1", "c ProbeFailing; startup: command exited with code 1: not yet"},
		},
		"nothing yet":             {pod: status(runs(0, nil)), want: nil},
		"nothing, and it is late": {pod: status(runs(0, nil)), late: true, want: []string{"c RollingOut"}},
		"its end": {pod: func(p *corev1.Pod) {
			status(loops(ended(1, "Error")))(p)
			p.DeletionTimestamp = &metav1.Time{Time: now}
		}, want: nil},
		"a pod without a node": {pod: unboundPod, want: nil},
	} {
		t.Run(name, func(t *testing.T) {
			pod := podWith(tt.pod, func(p *corev1.Pod) {
				p.UID = "u"
				p.Spec.Containers = []corev1.Container{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}}
			})
			r := cluster(append(tt.events, pod, readyNode)...)
			seen := Show(r, pod, tt.answered, metav1.NewTime(now))
			if tt.late {
				seen = ShowLate(r, pod, metav1.NewTime(now))
			}
			var got []string
			for _, e := range seen {
				line := e.Container + " " + e.Code
				if e.Exit != nil {
					line += ": " + strings.TrimSpace(fmt.Sprint(e.Exit.Code, " ", e.Exit.Signal))
				}
				if e.Probe != nil {
					line += "; " + e.Probe.Kind + ": " + e.Probe.Answer
				}
				got = append(got, line)
				if e.Pod != "shop/job" || e.Workload != "Pod shop/job" || e.Node != "n1" || e.Reason == "" || e.At.IsZero() {
					t.Errorf("it lacks something: %+v", e)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	broken := nodeWith(corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse})
	pod := podWith(status(loops(ended(1, "Error"))))
	if got := Show(cluster(pod, broken), pod, true, metav1.NewTime(now)); len(got) > 0 {
		t.Errorf("on a broken node: %+v", got)
	}
}

// Pods of an earlier template are no evidence against the present one.
func TestWorkloadOf(t *testing.T) {
	yes := true
	owner := func(kind, name string) []metav1.OwnerReference {
		return []metav1.OwnerReference{{Kind: kind, Name: name, Controller: &yes, UID: "d"}}
	}
	template := func(image string) corev1.PodTemplateSpec {
		return corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}}
	}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "api", UID: "d"}, Spec: appsv1.DeploymentSpec{Template: template("v2")}}
	set := func(name, image string) *appsv1.ReplicaSet {
		return &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, OwnerReferences: owner("Deployment", "api")}, Spec: appsv1.ReplicaSetSpec{Template: template(image)}}
	}
	of := func(kind, name string) *corev1.Pod {
		return podWith(func(p *corev1.Pod) { p.OwnerReferences = owner(kind, name) })
	}
	r := cluster(d, set("api-1", "v1"), set("api-2", "v2"))
	for name, tt := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"a bare pod":         {podWith(), "Pod shop/job"},
		"the present one":    {of("ReplicaSet", "api-2"), "Deployment shop/api"},
		"an earlier one":     {of("ReplicaSet", "api-1"), ""},
		"of what is gone":    {of("ReplicaSet", "api-3"), ""},
		"of a foreign thing": {of("Fleet", "x"), ""},
	} {
		got := ""
		if obj, ok := WorkloadOf(r, tt.pod); ok {
			got = schema.KeyOf(obj).String()
		}
		if got != tt.want {
			t.Errorf("%s: of %q, want %q", name, got, tt.want)
		}
	}
}

func seenOf(workload, container string, exit int32, pod string) schema.Evidence {
	return schema.Evidence{Workload: workload, Container: container, Code: string(CrashLoop), Exit: &schema.EvidenceExit{Code: exit}, Pod: pod}
}

func pods(all []schema.Evidence) (out []string) {
	for _, e := range all {
		out = append(out, e.Pod)
	}
	return out
}

// Of pods of one template that show the same the first is kept, every template has its
// first cause before any has its second, and the rest is left out.
func TestWhichEvidenceIsKept(t *testing.T) {
	var seen []schema.Evidence
	for i := range 30 {
		seen = append(seen, seenOf("Deployment a/loud", "c", int32(i), fmt.Sprintf("a/loud-%d", i)), seenOf("Deployment a/loud", "c", int32(i), fmt.Sprintf("a/again-%d", i)))
	}
	kept := Keep(nil, seen)
	if got := pods(kept); len(got) != schema.MaxEvidence || got[0] != "a/loud-0" || got[9] != "a/loud-9" {
		t.Errorf("of one that fails in thirty ways: %q", got)
	}
	kept = Keep(kept, []schema.Evidence{seenOf("Deployment a/quiet", "c", 1, "a/quiet-1"), seenOf("Deployment a/loud", "side", 1, "a/side-1"), seenOf("Deployment a/quiet", "c", 1, "a/quiet-2"), seenOf("Deployment a/quiet", "c", 2, "a/quiet-3")})
	if got := pods(kept); len(got) != schema.MaxEvidence || !slices.Contains(got, "a/quiet-1") || !slices.Contains(got, "a/side-1") || !slices.Contains(got, "a/quiet-3") || slices.Contains(got, "a/quiet-2") || got[0] != "a/loud-0" {
		t.Errorf("with others: %q", got)
	}
	late := seenOf("Deployment a/quiet", "c", 1, "a/quiet-1")
	late.Log = []string{"a line"}
	if got := Keep(kept, []schema.Evidence{late}); len(got[slices.Index(pods(got), "a/quiet-1")].Log) != 1 {
		t.Error("lines that came later are not added")
	}
}

// However much is seen, what is kept changes a bounded number of times: a pod that
// fails in ever new ways writes nothing in the end.
func TestEvidenceComesToRest(t *testing.T) {
	chance.Check(t, func(rt *rapid.T) {
		var kept []schema.Evidence
		writes := 0
		for range 100 {
			seen := seenOf(fmt.Sprint("Deployment a/", rapid.IntRange(0, 3).Draw(rt, "workload")), "c", rapid.Int32Range(0, 200).Draw(rt, "exit"), "a/x")
			next := Keep(kept, []schema.Evidence{seen})
			if !reflect.DeepEqual(next, kept) {
				writes++
			}
			if !reflect.DeepEqual(Keep(next, []schema.Evidence{seen}), next) {
				rt.Fatalf("the same again changes what is kept")
			}
			kept = next
		}
		if most := 4 * schema.MaxEvidence; writes > most {
			rt.Fatalf("%d writes", writes)
		}
	})
}

func TestRenewTakesWhatIsKnownNow(t *testing.T) {
	first := seenOf("Deployment a/x", "c", 1, "a/x-1")
	first.Reason, first.Log, first.At = "ended", []string{"old"}, metav1.NewTime(now)
	other := seenOf("Deployment a/x", "c", 2, "a/x-2")
	fresh := seenOf("Deployment a/x", "c", 1, "a/x-1")
	fresh.Reason, fresh.Log = "ends, 3 restarts", []string{"new"}
	elsewhere := seenOf("Deployment a/x", "c", 2, "a/x-3")
	got := Renew([]schema.Evidence{first, other}, []schema.Evidence{elsewhere, fresh})
	want := fresh
	want.At = first.At
	if diff := cmp.Diff([]schema.Evidence{want, other}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	fresh.Log = nil // the master started anew meanwhile
	want.Log = first.Log
	if diff := cmp.Diff([]schema.Evidence{want, other}, Renew([]schema.Evidence{first, other}, []schema.Evidence{fresh})); diff != "" {
		t.Errorf("without lines (-want +got):\n%s", diff)
	}
}

// A crash is told with the last line of its log: its own pod's, or that of the pod
// that showed the same first; not where the container left a message.
func TestACrashIsToldWithItsLastLine(t *testing.T) {
	src := &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}}
	src.Status.Applied.Commit = "c1"
	for name, tt := range map[string]struct {
		last *corev1.ContainerStateTerminated
		kept schema.Evidence
		want string
	}{
		"its own":          {ended(1, "Error"), schema.Evidence{Pod: "shop/job", Log: []string{"begin", "panic", ""}}, "; last log line: panic"},
		"another's":        {ended(1, "Error"), schema.Evidence{Pod: "shop/other", Log: []string{"panic"}}, "; last log line: panic"},
		"of memory":        {ended(137, schema.ReasonOOMKilled), schema.Evidence{Pod: "shop/job", Code: string(OOMKilled), Log: []string{"loading"}}, "; last log line: loading"},
		"a long line":      {ended(1, "Error"), schema.Evidence{Pod: "shop/job", Log: []string{strings.Repeat("x", 300)}}, "; last log line: " + strings.Repeat("x", maxQuoted-len("…")) + "…"},
		"of a message":     {&corev1.ContainerStateTerminated{ExitCode: 1, Message: "no database"}, schema.Evidence{Pod: "shop/job", Log: []string{"panic"}}, ": no database, 2 restarts"},
		"of nothing":       {ended(1, "Error"), schema.Evidence{Pod: "shop/job"}, ", 2 restarts"},
		"of another cause": {ended(1, "Error"), schema.Evidence{Pod: "shop/job", Code: string(ConfigMissing), Log: []string{"panic"}}, ", 2 restarts"},
	} {
		pod := podWith(status(loops(tt.last)))
		schema.SetOrigin(pod, schema.Origin{Source: "main", Path: "x.yaml", Line: 1, Commit: "c1"})
		tt.kept.Workload, tt.kept.Container = "Pod shop/job", "c"
		if tt.kept.Code == "" {
			tt.kept.Code = string(CrashLoop)
		}
		rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-c1"}, Spec: schema.RevisionSpec{Source: "main", Commit: "c1"}}
		rev.Status.Evidence = []schema.Evidence{tt.kept}
		r := cluster(src, rev, pod, readyNode)
		if got := Tell(r, OfPod(r, pod)).Text; !strings.HasSuffix(got, tt.want) {
			t.Errorf("%s: %q, want it to end with %q", name, got, tt.want)
		}
	}
}
