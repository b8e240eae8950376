package pod

import (
	"strings"
	"testing"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
	"fairlead/schema/wire"
)

func TestTerminationMessage(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"why\n":                 "why\n",
		"\xa9 rest of a rune":   " rest of a rune",
		"caf\xe9":               "caf\uFFFD",
		"a\x00b":                "a\x00b",
		strings.Repeat("é", 50): strings.Repeat("é", 50),
	} {
		if got := TerminationMessage([]byte(in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	long := TerminationMessage([]byte(strings.Repeat("x\xff", MessageBytes/2)))
	if len(long) > MessageBytes || len(long) < MessageBytes-utf8.UTFMax || !utf8.ValidString(long) {
		t.Errorf("%d bytes, valid: %v", len(long), utf8.ValidString(long))
	}
}

func TestMessageFromLog(t *testing.T) {
	for _, test := range []struct {
		policy corev1.TerminationMessagePolicy
		code   int32
		want   bool
	}{{"", 1, false}, {corev1.TerminationMessageReadFile, 1, false}, {corev1.TerminationMessageFallbackToLogsOnError, 1, true}, {corev1.TerminationMessageFallbackToLogsOnError, 0, false}} {
		if got := MessageFromLog(&corev1.Container{TerminationMessagePolicy: test.policy}, test.code); got != test.want {
			t.Errorf("%q, exit code %d: %v", test.policy, test.code, got)
		}
	}
}

// What a container says stands beside what is known of its end, now and after a
// restart, and all containers of a pod together say no more than a pod may.
func TestMessagesInStatus(t *testing.T) {
	says := func(text string) Container {
		c := exited("c", 3, 1)
		c.Message = text
		return c
	}
	unhealthy := says("bye")
	unhealthy.Reason, unhealthy.Unlively = schema.ReasonUnhealthy, "liveness probe failed"
	w := &Wanted{PodWork: wire.PodWork{Pod: podFrom(t, "{restartPolicy: Never, containers: [{name: c}, {name: d}, {name: e}]}")}}
	o := observed(map[string]Container{
		"c": says("why"), "d": unhealthy, "e": says("before").Next("id", 1, SpecHash(&w.Pod.Spec.Containers[2]), "i:1", "", now),
	})
	got := Status(w, o, "10.0.0.1", now).ContainerStatuses
	if m := got[0].State.Terminated.Message; m != "why" {
		t.Errorf("it said %q", m)
	}
	if m := got[1].State.Terminated.Message; m != "liveness probe failed: bye" {
		t.Errorf("of a killed one: %q", m)
	}
	if m := got[2].LastTerminationState.Terminated.Message; m != "before" {
		t.Errorf("of the run before: %q", m)
	}
	long := strings.Repeat("é", MessageBytes/2)
	for _, n := range []int{1, 3, 4, 12} {
		p := podFrom(t, "restartPolicy: Never")
		o := observed(map[string]Container{})
		for i := range n {
			name := string(rune('a' + i))
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: name, Image: "i:1"})
			c := exited(name, 3, 1)
			c.Message = long
			o.Containers[name] = c
		}
		all := 0
		for _, s := range Status(&Wanted{PodWork: wire.PodWork{Pod: p}}, o, "10.0.0.1", now).ContainerStatuses {
			all += len(s.State.Terminated.Message)
		}
		if want := min(n*len(long), 12<<10); all > want || all < want-2*n {
			t.Errorf("%d containers say %d bytes, want %d", n, all, want)
		}
		if o.Containers["a"].Message != long {
			t.Error("the record was cut")
		}
	}
}
