package podman

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/pod"
	"fairlead/nodeagent/runtimetest"
)

func specs(t *testing.T, node string, uid types.UID) func(string, ...string) pod.ContainerSpec {
	dir := t.TempDir()
	return func(name string, args ...string) pod.ContainerSpec {
		s := runtimetest.Spec(node, testImage, uid, name, 0, args...)
		s.LogPath = filepath.Join(dir, name+".log")
		return s
	}
}

func TestPodman(t *testing.T) {
	p := service(t, "one", nil)
	importImage(t, p)
	spec := specs(t, "one", "11111111-0000-4000-8000-000000000001")
	t.Run("contract", func(t *testing.T) {
		runtimetest.Contract(t, runtimetest.Subject{Runtime: p, Image: testImage, Node: "one", Spec: spec})
	})
	t.Run("out of memory", func(t *testing.T) { outOfMemory(t, p, spec) })
	t.Run("limits, mounts, environment and log", func(t *testing.T) { everything(t, p, spec) })
	t.Run("a killed service takes no container with it", func(t *testing.T) { killedService(t, p, spec) })
	t.Run("a killed conmon", func(t *testing.T) { killedConmon(t, p, spec) })
	t.Run("release removes cgroups", func(t *testing.T) { release(t, p, spec) })
	t.Run("an additional store", func(t *testing.T) { additionalStore(t, p) })
}

func launch(t *testing.T, p *Podman, s pod.ContainerSpec) string {
	t.Helper()
	id, err := p.Create(t.Context(), s)
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	t.Cleanup(func() {
		if err := p.Remove(context.Background(), id); err != nil {
			t.Errorf("remove: %v", err)
		}
	})
	if err := p.Start(t.Context(), id); err != nil {
		t.Fatalf("start: %v", err)
	}
	return id
}

func outOfMemory(t *testing.T, p *Podman, spec func(string, ...string) pod.ContainerSpec) {
	s := spec("eat", "eat")
	s.Resources.MemoryBytes = 16 << 20
	id := launch(t, p, s)
	e, err := p.Wait(t.Context(), id)
	if err != nil || !e.OOMKilled || e.Code != 137 {
		t.Errorf("got %+v, %v, want killed for memory", e, err)
	}
}

func everything(t *testing.T, p *Podman, spec func(string, ...string) pod.ContainerSpec) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte("10.0.0.1 me\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := spec("all", "cat", "/etc/hosts", "/data/greeting")
	if err := os.WriteFile(filepath.Join(dir, "greeting"), []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.Mounts = []pod.Mount{
		{Source: filepath.Join(dir, "hosts"), Target: "/etc/hosts"},
		{Source: dir, Target: "/data", ReadOnly: true},
	}
	id := launch(t, p, s)
	if e, err := p.Wait(t.Context(), id); err != nil || e.Code != 0 {
		t.Errorf("got %+v, %v", e, err)
	}
	wantLog(t, s.LogPath, "10.0.0.1 me", "hello")

	s = spec("env", "env", "GREETING")
	s.Env = []pod.EnvVar{{Name: "GREETING", Value: "good morning"}}
	id = launch(t, p, s)
	if e, err := p.Wait(t.Context(), id); err != nil || e.Code != 0 {
		t.Errorf("got %+v, %v", e, err)
	}
	wantLog(t, s.LogPath, "good morning")

	s = spec("limits", "stay")
	s.Resources = pod.Resources{CPUShares: 256, CPUQuota: 50_000, CPUPeriod: 100_000, MemoryBytes: 64 << 20, PodCPUShares: 512}
	id = launch(t, p, s)
	group := filepath.Join(p.cgroup.pod(s.Pod), "libpod-"+id)
	if !p.cgroup.v2 {
		wantFile(t, filepath.Join(p.cgroup.cpu, group, "cpu.shares"), "256")
		wantFile(t, filepath.Join(p.cgroup.cpu, group, "cpu.cfs_quota_us"), "50000")
		wantFile(t, filepath.Join(p.cgroup.memory, group, "memory.limit_in_bytes"), "67108864")
		wantFile(t, filepath.Join(p.cgroup.cpu, p.cgroup.pod(s.Pod), "cpu.shares"), "512")
	} else {
		wantFile(t, filepath.Join(p.cgroup.cpu, group, "cpu.max"), "50000 100000")
		wantFile(t, filepath.Join(p.cgroup.memory, group, "memory.max"), "67108864")
	}
}

func wantLog(t *testing.T, path string, lines ...string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if len(f) == 4 && f[2] == "F" {
			got = append(got, f[3])
		}
	}
	if strings.Join(got, "|") != strings.Join(lines, "|") {
		t.Errorf("log: got %q, want %q", got, lines)
	}
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil || strings.TrimSpace(string(data)) != want {
		t.Errorf("%s: got %q, %v, want %s", path, data, err, want)
	}
}

func killedService(t *testing.T, p *Podman, spec func(string, ...string) pod.ContainerSpec) {
	id := launch(t, p, spec("survivor", "stay"))
	h, err := p.hold(t.Context(), id)
	if err != nil || h == nil {
		t.Fatalf("hold: %v, %v", h, err)
	}
	waited := make(chan pod.Exit, 1)
	go func() {
		e, _ := p.Wait(context.Background(), id)
		waited <- e
	}()
	pid := servicePID(t, p)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "another service answers", func() bool {
		_, err := p.List(t.Context())
		return err == nil && servicePID(t, p) != pid
	})
	list, err := p.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := pod.Found{}
	for _, f := range list {
		if f.ID == id {
			found = f
		}
	}
	if found.State != pod.StateRunning || !alive(h.pid, id) {
		t.Errorf("got %+v, process alive: %v; want it running on", found, alive(h.pid, id))
	}
	if err := p.Signal(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	if e := <-waited; e.Code != 0 || e.Unknown {
		t.Errorf("got %+v, want code 0", e)
	}
}

func servicePID(t *testing.T, p *Podman) int {
	t.Helper()
	data, err := os.ReadFile(p.pidPath())
	if err != nil {
		t.Fatal(err)
	}
	pid := 0
	for _, c := range strings.TrimSpace(string(data)) {
		pid = pid*10 + int(c-'0')
	}
	return pid
}

func killedConmon(t *testing.T, p *Podman, spec func(string, ...string) pod.ContainerSpec) {
	s := spec("orphan", "stay")
	id := launch(t, p, s)
	h, err := p.hold(t.Context(), id)
	if err != nil || h == nil {
		t.Fatalf("hold: %v, %v", h, err)
	}
	for _, conmon := range pidsIn(filepath.Join(p.cgroup.watch, p.cgroup.pod(s.Pod), "conmon")) {
		if err := syscall.Kill(conmon, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Signal(t.Context(), id, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	e, err := p.Wait(t.Context(), id)
	if err != nil || !e.Unknown || time.Since(began) > exitWait+time.Second {
		t.Errorf("got %+v, %v after %s, want an unknown end soon", e, err, time.Since(began))
	}
	list, err := p.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if f.ID == id && f.State != pod.StateExited {
			t.Errorf("listed as %+v, want exited", f)
		}
	}
}

func release(t *testing.T, p *Podman, spec func(string, ...string) pod.ContainerSpec) {
	s := spec("last", "stay")
	s.Pod = "22222222-0000-4000-8000-000000000002"
	s.Labels[pod.LabelPodUID] = string(s.Pod)
	id := launch(t, p, s)
	if err := p.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := p.ReleasePod(t.Context(), s.Pod); err != nil {
		t.Fatal(err)
	}
	for _, root := range p.cgroup.roots {
		if _, err := os.Stat(filepath.Join(root, p.cgroup.pod(s.Pod))); !os.IsNotExist(err) {
			t.Errorf("%s: still has the pod's group: %v", root, err)
		}
	}
}

// additionalStore: a second node sees the first one's images without a pull,
// and can run them.
func additionalStore(t *testing.T, first *Podman) {
	p := service(t, "two", func(c *Config) { c.AdditionalStores = []string{first.cfg.StorageDir} })
	if _, err := p.Image(t.Context(), testImage); err != nil {
		t.Fatalf("image: %v", err)
	}
	id := launch(t, p, specs(t, "two", "33333333-0000-4000-8000-000000000003")("borrowed", "exit", "5"))
	if e, err := p.Wait(t.Context(), id); err != nil || e.Code != 5 {
		t.Errorf("got %+v, %v, want code 5", e, err)
	}
}
