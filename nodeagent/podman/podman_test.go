package podman

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
		runtimetest.Contract(t, runtimetest.Subject{
			Runtime: p, Image: testImage, Node: "one", Spec: spec,
			KillConmon:  func(t *testing.T, s pod.ContainerSpec, _ string) { killConmon(t, p, s) },
			KillService: func(t *testing.T) { killService(t, p) },
			Haunt:       func(t *testing.T, uid types.UID, id string) { haunt(t, p, uid, id) },
		})
	})
	t.Run("limits, mounts, environment and log", func(t *testing.T) { everything(t, p, spec) })
	t.Run("directories", func(t *testing.T) { directories(t, p, spec) })
	t.Run("environments", func(t *testing.T) { environments(t, p, spec) })
	t.Run("a program named by a secret", func(t *testing.T) { secretProgram(t, p, spec) })
	t.Run("an earlier version's containers", func(t *testing.T) { earlierVersion(t, p, spec) })
	t.Run("commands end whole", func(t *testing.T) { commandsEndWhole(t, p, spec) })
	t.Run("what a container may do, and as whom", func(t *testing.T) { security(t, p, spec) })
	t.Run("nothing is left of a container whose conmon died", func(t *testing.T) { orphanLeavesNothing(t, p, spec) })
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

// What a mount or the working directory needs and the image does not have is made by
// the runtime, as root, a directory with mode 0755 for a directory and a file for a
// file. Mounts may be listed in any order.
func directories(t *testing.T, p *Podman, spec func(string, ...string) pod.ContainerSpec) {
	dir := t.TempDir()
	for _, d := range []string{"outer/inner", "inner", "deep"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"file", "inner/there"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(f), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	s := spec("directories", "stay")
	s.WorkingDir, s.Security.User = "/work/here", "7"
	s.Mounts = []pod.Mount{
		{Source: filepath.Join(dir, "deep"), Target: "/outer/inner/deep"},
		{Source: filepath.Join(dir, "inner"), Target: "/outer/inner"},
		{Source: filepath.Join(dir, "outer"), Target: "/outer", ReadOnly: true},
		{Source: filepath.Join(dir, "file"), Target: "/etc/app/conf"},
	}
	id := launch(t, p, s)
	r, err := p.Exec(t.Context(), id, []string{"/program", "stat", "/work", "/work/here", "/etc/app", "/etc/app/conf"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	want := "/work drwxr-xr-x 0 4096\n/work/here drwxr-xr-x 0 4096\n/etc/app drwxr-xr-x 0 4096\n/etc/app/conf -rw-r----- 0 4\n"
	if r.Output != want {
		t.Errorf("got\n%swant\n%s", r.Output, want)
	}
	for _, made := range []string{"inner/there", "inner/deep"} {
		if _, err := os.Stat(filepath.Join(dir, made)); err != nil {
			t.Error(err)
		}
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

func killService(t *testing.T, p *Podman) {
	t.Helper()
	pid := servicePID(t, p)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "another service answers", func() bool {
		_, err := p.List(t.Context())
		return err == nil && servicePID(t, p) != pid
	})
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

// killConmon kills the conmons of the pod, of whose containers one runs.
func killConmon(t *testing.T, p *Podman, s pod.ContainerSpec) {
	t.Helper()
	conmons := pidsIn(filepath.Join(p.cgroup.watch, p.cgroup.pod(s.Pod), "conmon"))
	if len(conmons) == 0 {
		t.Fatal("no conmon found")
	}
	for _, pid := range conmons {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}

// haunt runs the program in the cgroup of a container.
func haunt(t *testing.T, p *Podman, uid types.UID, id string) {
	t.Helper()
	cmd := exec.Command(testProgram, "wait", "3600000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	group := filepath.Join(p.cgroup.watch, p.cgroup.pod(uid), ctrPrefix+id)
	if err := os.MkdirAll(group, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
		t.Fatal(err)
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

// A profile that somebody wrote is never left out, also where the kernel has no seccomp.
func TestSeccompPath(t *testing.T) {
	for _, tc := range []struct {
		asked string
		works bool
		want  string
	}{
		{"", true, ""}, {"", false, pod.Unconfined},
		{pod.RuntimeDefault, true, ""}, {pod.RuntimeDefault, false, ""},
		{pod.Unconfined, true, pod.Unconfined}, {"/p/x.json", false, "/p/x.json"},
	} {
		if got := seccompPath(tc.asked, tc.works); got != tc.want {
			t.Errorf("%q, %t: got %q, want %q", tc.asked, tc.works, got, tc.want)
		}
	}
}
