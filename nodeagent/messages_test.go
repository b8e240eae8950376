package nodeagent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"fairlead/nodeagent"
	"fairlead/nodeagent/pod"
)

const saying = "terminationMessagePath: /dev/termination-log"

// ended is how the first container of a pod ended, nil while it has not.
func (r *rig) ended() *corev1.ContainerStateTerminated {
	for _, s := range r.report("uid-1").Status.ContainerStatuses {
		return s.State.Terminated
	}
	return nil
}

func (r *rig) awaitEnd() *corev1.ContainerStateTerminated {
	r.t.Helper()
	r.await("the end", func() bool { return r.ended() != nil })
	return r.ended()
}

func TestATerminationMessageIsTold(t *testing.T) {
	logged := func(lines ...string) func(*rig) {
		return func(r *rig) {
			dir := filepath.Join(nodeagent.PodsDir(r.dir), "uid-1", "logs", "c")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			text := ""
			for _, l := range lines {
				text += "2026-01-02T03:04:05.000000000Z stderr F " + l + "\n"
			}
			if err := os.WriteFile(filepath.Join(dir, "0.log"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	const fallback = saying + ", terminationMessagePolicy: FallbackToLogsOnError"
	var many []string
	for range 100 {
		many = append(many, strings.Repeat("x", 9))
	}
	for _, test := range []struct {
		name, container string
		before          func(*rig)
		want            string
	}{
		{"written", saying + ", args: [say, \"3\", why]", nil, "why"},
		{"with success too", saying + ", args: [say, \"0\", done]", nil, "done"},
		{"the last of much", saying + ", args: [say, \"3\", " + strings.Repeat("a", 5000) + "end]", nil, strings.Repeat("a", pod.MessageBytes-3) + "end"},
		{"not written", saying + ", args: [exit, \"3\"]", logged("panic"), ""},
		{"the log instead", fallback + ", args: [exit, \"3\"]", logged("begin", "panic: no disk"), "begin\npanic: no disk\n"},
		{"the last lines of a long log", fallback + ", args: [exit, \"3\"]", logged(many...), strings.Repeat("xxxxxxxxx\n", pod.MessageLogLines)},
		{"the last bytes of long lines", fallback + ", args: [exit, \"3\"]", logged(strings.Repeat("y", 3000)), strings.Repeat("y", pod.MessageLogBytes-1) + "\n"},
		{"the log is not asked for a success", fallback + ", args: [exit, \"0\"]", logged("all is well"), ""},
		{"nor where something is written", fallback + ", args: [say, \"3\", why]", logged("panic"), "why"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			if test.before != nil {
				test.before(r)
			}
			r.run("uid-1", "{restartPolicy: Never, containers: [{name: c, "+test.container+"}]}")
			if got := r.awaitEnd().Message; got != test.want {
				t.Errorf("told %q, want %q", got, test.want)
			}
		})
	}
}

// Each attempt has a message of its own; what a restarted agent finds ended has its
// message too, and nobody reads what is not a file of the container's.
func TestTerminationMessagesOfRestarts(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "{restartPolicy: Never, containers: [{name: c, args: [stay], "+saying+"}]}")
	r.awaitStatus("uid-1", "Running Ready")
	spec, _ := r.runtime.Spec("fl-uid1-c-0")
	file := sourceOf(spec, "/dev/termination-log")
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o666 || info.Size() != 0 {
		t.Fatalf("made %v, %v", info, err)
	}
	r.stop()
	if err := os.WriteFile(file, []byte("the disk is full"), 0); err != nil {
		t.Fatal(err)
	}
	r.runtime.Die("fl-uid1-c-0", pod.Exit{Code: 3})
	r.start()
	if got := r.awaitEnd().Message; got != "the disk is full" {
		t.Errorf("after a restart of the agent: %q", got)
	}
	r.run("uid-1", "{containers: [{name: c, args: [exit, \"0\"], "+saying+"}]}")
	r.await("a second attempt's end", func() bool {
		s := r.report("uid-1").Status.ContainerStatuses
		return len(s) > 0 && s[0].RestartCount == 1 && (s[0].State.Terminated != nil || s[0].LastTerminationState.Terminated != nil && s[0].State.Waiting != nil)
	})
	s := r.report("uid-1").Status.ContainerStatuses[0]
	for _, end := range []*corev1.ContainerStateTerminated{s.State.Terminated, s.LastTerminationState.Terminated} {
		if end != nil && end.ExitCode == 0 && end.Message != "" {
			t.Errorf("the second attempt said %q", end.Message)
		}
	}
}

func TestATerminationMessageIsNoLink(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "{restartPolicy: Never, containers: [{name: c, args: [stay], "+saying+"}]}")
	r.awaitStatus("uid-1", "Running Ready")
	spec, _ := r.runtime.Spec("fl-uid1-c-0")
	file := sourceOf(spec, "/dev/termination-log")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, file); err != nil {
		t.Fatal(err)
	}
	r.runtime.Die("fl-uid1-c-0", pod.Exit{Code: 3})
	if got := r.awaitEnd().Message; strings.Contains(got, "canary") || !strings.Contains(got, "cannot be read") {
		t.Errorf("told %q", got)
	}
}
