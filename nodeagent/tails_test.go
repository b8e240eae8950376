package nodeagent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent"
	"fairlead/schema/wire"
)

// tails are the last lines that the master was told of a container, once for each
// report with them, the lines of one joined by "|".
func (r *rig) tails(uid types.UID, container string) (out []string) {
	r.master.mu.Lock()
	defer r.master.mu.Unlock()
	for _, p := range r.master.told {
		for _, l := range p.Logs {
			if p.UID == uid && l.Container == container {
				out = append(out, strings.Join(l.Lines, "|"))
			}
		}
	}
	return out
}

// wrote puts a log in place of what the container would have written.
func (r *rig) wrote(uid types.UID, container string, attempt int, lines ...string) {
	r.t.Helper()
	dir := filepath.Join(nodeagent.PodsDir(r.dir), string(uid), "logs", container)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	text := ""
	for _, l := range lines {
		text += "2026-01-02T03:04:05.000000000Z stdout F " + l + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.log", attempt)), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// What a container wrote before it failed is told with its end, and the same lines not
// again, however often it ends.
func TestTheLastLinesOfACrashAreTold(t *testing.T) {
	lied(t, func(r *rig) {
		for attempt := range 20 {
			r.wrote("uid-1", "c", attempt, "begin", "panic: no database")
		}
		r.wrote("uid-1", "c", 3, "begin", "panic: no disk")
		r.run("uid-1", `containers: [{name: c, args: [exit, "3"]}]`)
		r.await("the first crash is told", func() bool { return len(r.tails("uid-1", "c")) > 0 })
		time.Sleep(time.Hour)
		want := []string{"begin|panic: no database", "begin|panic: no disk", "begin|panic: no database"}
		if got := r.tails("uid-1", "c"); !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	})
}

// A report that tells of an end has the lines that go with it.
func TestAnEndAndItsLinesComeTogether(t *testing.T) {
	lied(t, func(r *rig) {
		r.wrote("uid-1", "setup", 0, "cannot migrate")
		r.run("uid-1", `{restartPolicy: Never, initContainers: [{name: setup, args: [exit, "1"]}], containers: [{name: c}]}`)
		r.awaitStatus("uid-1", "Failed Error PodInitializing")
		r.master.mu.Lock()
		defer r.master.mu.Unlock()
		for _, p := range r.master.told {
			ended := len(p.Status.InitContainerStatuses) == 1 && p.Status.InitContainerStatuses[0].State.Terminated != nil
			if ended {
				if len(p.Logs) != 1 || !slices.Equal(p.Logs[0].Lines, []string{"cannot migrate"}) {
					t.Errorf("the end came with %v", p.Logs)
				}
				return
			}
		}
	})
}

// Of a container that runs while its probe fails, the lines are told as they change,
// now and then.
func TestTheLastLinesOfAProbedContainerAreTold(t *testing.T) {
	lied(t, func(r *rig) {
		r.wrote("uid-1", "c", 0, "listening")
		r.run("uid-1", `containers: [{name: c, args: [stay], readinessProbe: {periodSeconds: 1, exec: {command: [/program, exit, "1"]}}}]`)
		r.await("the failed probe is told", func() bool { return len(r.tails("uid-1", "c")) > 0 })
		time.Sleep(time.Minute)
		if got := r.tails("uid-1", "c"); !slices.Equal(got, []string{"listening"}) {
			t.Errorf("told %q", got)
		}
		for i := range 60 {
			r.wrote("uid-1", "c", 0, fmt.Sprintf("asked %d", i))
			time.Sleep(time.Second)
		}
		if got := r.tails("uid-1", "c"); len(got) < 3 || len(got) > 6 {
			t.Errorf("in a minute of new lines told %q", got)
		}
	})
}

// What ends as it should, and what a pod that goes away leaves behind, is not told.
func TestWhatEndsWellIsNotTold(t *testing.T) {
	lied(t, func(r *rig) {
		r.wrote("uid-1", "setup", 0, "done")
		r.wrote("uid-1", "c", 0, "done")
		r.run("uid-1", `{restartPolicy: OnFailure, initContainers: [{name: setup, args: [exit, "0"]}], containers: [{name: c, args: [exit, "0"]}]}`)
		r.wrote("uid-2", "c", 0, "stopped")
		r.run("uid-2", `containers: [{name: c, args: [stay]}]`)
		r.awaitStatus("uid-2", "Running Ready")
		r.remove("uid-2", true)
		r.await("it is gone", func() bool { return r.report("uid-2").Gone })
		r.awaitStatus("uid-1", "Succeeded Completed Completed")
		for _, c := range []struct {
			uid  types.UID
			name string
		}{{"uid-1", "setup"}, {"uid-1", "c"}, {"uid-2", "c"}} {
			if got := r.tails(c.uid, c.name); len(got) > 0 {
				t.Errorf("told of %s of %s: %q", c.name, c.uid, got)
			}
		}
	})
}

// A restarted agent tells the lines again of what is down: its master may have heard
// nothing of it.
func TestARestartedAgentTellsTheLinesOfWhatFailed(t *testing.T) {
	r := newRig(t)
	r.wrote("uid-1", "c", 0, "panic")
	r.run("uid-1", `{restartPolicy: Never, containers: [{name: c, args: [exit, "1"]}]}`)
	r.await("the lines", func() bool { return len(r.tails("uid-1", "c")) == 1 })
	r.stop()
	r.start()
	r.await("the lines again", func() bool { return len(r.tails("uid-1", "c")) == 2 })
}

// A master that is away hears the lines when it is back, and many pods' one after the
// other.
func TestLinesWaitForTheMaster(t *testing.T) {
	lied(t, func(r *rig) {
		const pods = 40
		uid := func(i int) types.UID { return types.UID(fmt.Sprintf("uid-%d", i)) }
		for i := range pods {
			r.wrote(uid(i), "c", 0, fmt.Sprintf("line of %d", i))
		}
		r.await("the agent has begun", func() bool { r.master.mu.Lock(); defer r.master.mu.Unlock(); return r.master.report != nil })
		r.master.mu.Lock()
		r.master.away = true
		r.master.mu.Unlock()
		r.master.publish(func(w *wire.Work) {
			for i := range pods {
				w.Pods[uid(i)] = podOf(r.t, uid(i), `{restartPolicy: Never, containers: [{name: c, args: [exit, "1"]}]}`)
			}
		})
		time.Sleep(time.Minute)
		r.master.mu.Lock()
		r.master.away = false
		r.master.mu.Unlock()
		r.await("all lines", func() bool {
			for i := range pods {
				if !slices.Equal(r.tails(uid(i), "c"), []string{fmt.Sprintf("line of %d", i)}) {
					return false
				}
			}
			return true
		})
	})
}
