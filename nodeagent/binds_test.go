package nodeagent_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"fairlead/nodeagent"
	"fairlead/nodeagent/pod"
	"fairlead/nodeagent/runtimetest"
	"fairlead/schema/wire"
)

// mountWatcher notes, as each container starts, what its mounts show then.
type mountWatcher struct {
	*runtimetest.Fake
	mu    sync.Mutex
	specs map[string]pod.ContainerSpec // by container id
	shown []map[string]string          // of each start: target to content
}

func (w *mountWatcher) Create(ctx context.Context, s pod.ContainerSpec) (string, error) {
	id, err := w.Fake.Create(ctx, s)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.specs[id] = s
	return id, err
}

func (w *mountWatcher) Start(ctx context.Context, id string) error {
	w.mu.Lock()
	shown := map[string]string{}
	for _, m := range w.specs[id].Mounts {
		if strings.HasPrefix(m.Target, "/v") {
			content, err := os.ReadFile(m.Source)
			if err != nil {
				content = []byte(err.Error())
			}
			shown[m.Target] = string(content)
		}
	}
	w.shown = append(w.shown, shown)
	w.mu.Unlock()
	return w.Fake.Start(ctx, id)
}

func (w *mountWatcher) starts() []map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.shown
}

// What parts of volumes show is bound for each start, as it is then, and nothing
// of it stays mounted: not when the container runs, not when the agent was killed
// amid the start, not when the pod is gone.
func TestPartsOfVolumesAreBoundForAStart(t *testing.T) {
	r := newRig(t)
	r.stop()
	w := &mountWatcher{Fake: r.runtime, specs: map[string]pod.ContainerSpec{}}
	r.watch = func(nodeagent.Runtime) nodeagent.Runtime { return w }
	host := t.TempDir()
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(host, "file"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	r.start()
	r.master.publish(func(work *wire.Work) {
		work.ConfigMaps["shop/conf"] = map[string][]byte{"a.conf": []byte("A")}
	})
	r.run("uid-1", `
volumes: [{name: h, hostPath: {path: `+host+`}}, {name: conf, configMap: {name: conf}}]
containers: [{name: c, args: [stay], volumeMounts: [{name: h, mountPath: /v1, subPath: file}, {name: conf, mountPath: /v2, subPath: a.conf}]}]`)
	r.awaitStatus("uid-1", "Running Ready")
	binds := filepath.Join(r.dir, "pods/uid-1/binds")
	gone := func() bool { _, err := os.Stat(binds); return os.IsNotExist(err) }
	r.await("nothing stays bound", gone)

	// Killed amid a start: its binds are still there.
	r.stop()
	if err := os.Mkdir(binds, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(host, binds, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	r.start()
	write("two")
	r.runtime.Die("fl-uid1-c-0", pod.Exit{Code: 1, FinishedAt: time.Now()})
	r.await("it starts again", func() bool { return len(w.starts()) == 2 })
	want := []map[string]string{{"/v1": "one", "/v2": "A"}, {"/v1": "two", "/v2": "A"}}
	if diff := cmp.Diff(want, w.starts()); diff != "" {
		t.Errorf("shown at each start (-want +got):\n%s", diff)
	}
	r.await("nothing stays bound", gone)
	r.remove("uid-1", true)
	r.await("gone", func() bool { return r.report("uid-1").Gone })
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), r.dir) {
		t.Errorf("still mounted: %v\n%s", err, mounts)
	}
}

// A part that leads out costs the container its start, with the reason, and no
// other.
func TestAPartThatLeadsOut(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", `
volumes: [{name: d, emptyDir: {}}]
containers: [{name: good, args: [stay]}, {name: out, args: [stay], volumeMounts: [{name: d, mountPath: /v, subPath: a/../../..}]}]`)
	r.await("told", func() bool {
		for _, c := range r.report("uid-1").Status.ContainerStatuses {
			if c.Name == "out" && c.State.Waiting != nil && c.State.Waiting.Reason == "CreateContainerError" {
				return strings.Contains(c.State.Waiting.Message, `volumeMount d: subPath "a/../../.." must not contain ".."`)
			}
		}
		return false
	})
	if diff := cmp.Diff([]string{"fl-uid1-good-0"}, r.runtime.Running()); diff != "" {
		t.Errorf("running (-want +got):\n%s", diff)
	}
}

// The pod's own files are bound writable: what a container made of one is put
// right by the next life of the agent, whatever its size.
func TestAPodsFilesArePutRight(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "containers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-1", "Running Ready")
	hosts := filepath.Join(r.dir, "pods/uid-1/etc/hosts")
	want, err := os.ReadFile(hosts)
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	if err := os.Truncate(hosts, 1<<42); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.await("right again", func() bool {
		info, err := os.Stat(hosts)
		if err != nil || info.Size() > 1<<20 {
			return false
		}
		got, err := os.ReadFile(hosts)
		return err == nil && string(got) == string(want)
	})
}
