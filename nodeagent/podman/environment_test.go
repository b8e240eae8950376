package podman

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containers/podman/v4/pkg/bindings/containers"
	"golang.org/x/sys/unix"

	"fairlead/nodeagent/pod"
	"fairlead/nodeagent/podman/handover"
)

const (
	canary   = "c4nary-in-the-mine"
	commands = time.Minute // for those that end by themselves
)

type specMaker = func(string, ...string) pod.ContainerSpec

// environments: whatever the image allows, a container and what is run in it have
// their environment to the byte, and nothing of it is written to disk.
func environments(t *testing.T, p *Podman, spec specMaker) {
	for name, value := range map[string]string{"text": canary, "bytes": canary + "\xe9\xff"} {
		t.Run(name, func(t *testing.T) {
			s := spec("env-"+name, "show", "HIDDEN", value)
			s.Shown = []string{"show", "HIDDEN", "$(HIDDEN)"}
			s.Env = []pod.EnvVar{{Name: "HIDDEN", Value: value, Secret: true}, {Name: "PATH", Value: "/x"}}
			s.Security = pod.Security{User: "1000:1000", ReadOnlyRoot: true}
			id := launch(t, p, s)
			await(t, "it has printed", func() bool { data, _ := os.ReadFile(s.LogPath); return bytes.Count(data, []byte("\n")) >= 2 })
			wantLog(t, s.LogPath, value, value)
			wantExec(t, p, id, value+"\n", "/program", "env", "HIDDEN")
			wantExec(t, p, id, "/x\n", "/program", "env", "PATH")
			killService(t, p) // another life: what runs keeps what it has
			wantExec(t, p, id, value+"\n", "/program", "env", "HIDDEN")
			wantNoCanary(t, p, id)

			if err := p.Remove(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(p.memory.Bundle(id)); !os.IsNotExist(err) {
				t.Errorf("its environment outlives it: %v", err)
			}
			wantNoCanary(t, p, "")
		})
	}
}

func wantExec(t *testing.T, p *Podman, id, want string, command ...string) {
	t.Helper()
	r, err := p.Exec(t.Context(), id, command, commands)
	if err != nil || r.Code != 0 || r.Output != want {
		t.Errorf("%q: got %+v, %v, want %q", command, r, err, want)
	}
}

// wantNoCanary looks through all that Podman wrote, and what it and its children
// were started with; own is a container that may know.
func wantNoCanary(t *testing.T, p *Podman, own string) {
	t.Helper()
	for _, file := range filesWith(t, canary, p.cfg.StorageDir, p.cfg.RunDir) {
		if !strings.HasPrefix(file, string(p.memory)+"/") || own == "" {
			t.Errorf("%s has the canary", file)
		}
	}
	for _, kind := range []string{"cmdline", "environ"} {
		all, _ := filepath.Glob("/proc/[0-9]*/" + kind)
		for _, path := range all {
			data, _ := os.ReadFile(path)
			groups, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cgroup"))
			if bytes.Contains(data, []byte(canary)) && (own == "" || !bytes.Contains(groups, []byte(own))) {
				t.Errorf("%s has the canary: %q", path, data)
			}
		}
	}
	if own == "" {
		return
	}
	c, err := p.call(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	told, err := containers.Inspect(c, own, nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := json.Marshal(told); bytes.Contains(text, []byte(canary)) {
		t.Errorf("Podman tells it: %s", text)
	}
}

// filesWith lists the files below the directories that contain text.
func filesWith(t *testing.T, text string, dirs ...string) (out []string) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return nil // gone meanwhile, or nothing to read
			}
			if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, []byte(text)) {
				out = append(out, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// secretProgram: the runtime tells the name of a program it does not find, and
// Podman writes down what it says.
func secretProgram(t *testing.T, p *Podman, spec specMaker) {
	s := spec("named")
	s.Command, s.Args, s.Shown = []string{"/no/" + canary}, nil, []string{"/no/$(NAME)"}
	id, err := p.Create(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context(), id); err != nil && strings.Contains(err.Error(), canary) {
		t.Errorf("start: %v", err)
	}
	if e, err := p.Wait(t.Context(), id); err != nil || e.Code != 127 {
		t.Errorf("got %+v, %v, want code 127", e, err)
	}
	wantNoCanary(t, p, id)
	data, err := os.ReadFile(s.LogPath)
	if err != nil || !bytes.Contains(data, []byte("executable file not found")) || bytes.Contains(data, []byte(canary)) {
		t.Errorf("log: %s, %v", data, err)
	}
	if err := p.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

// earlierVersion: a container whose environment Podman was given runs on, and
// commands run in it; when it is gone, what Podman wrote is too.
func earlierVersion(t *testing.T, p *Podman, spec specMaker) {
	asItWas(t, p)
	c, err := p.call(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	gen := p.generate(spec("earlier", "stay"))
	gen.Env = map[string]string{"HIDDEN": canary}
	made, err := containers.CreateWithSpec(c, gen, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	if err := p.writeConfig(); err != nil {
		t.Fatal(err)
	}
	killService(t, p)
	wantExec(t, p, made.ID, canary+"\n", "/program", "env", "HIDDEN")
	if len(filesWith(t, canary, p.databasePath())) == 0 {
		t.Error("Podman's database does not have it: there is nothing to wipe")
	}
	if err := p.Remove(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	await(t, "it is wiped", func() bool { return len(filesWith(t, canary, p.cfg.StorageDir, p.cfg.RunDir)) == 0 })
	if _, err := p.List(t.Context()); err != nil {
		t.Errorf("the database is no good any more: %v", err)
	}
}

// asItWas has Podman start the runtime itself, as in earlier versions.
func asItWas(t *testing.T, p *Podman) {
	t.Helper()
	conf, err := os.ReadFile(p.confPath())
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Replace(conf, []byte(strconv.Quote(p.memory.Shim())), []byte(strconv.Quote(p.runtimeName())), 1)
	if bytes.Equal(before, conf) {
		t.Fatalf("no runtime in %s", conf)
	}
	if err := os.WriteFile(p.confPath(), before, 0o600); err != nil {
		t.Fatal(err)
	}
	killService(t, p)
}

// commandsEndWhole: nothing of a command is left once Exec has returned, however
// its processes divided and whether it ended by itself.
func commandsEndWhole(t *testing.T, p *Podman, spec specMaker) {
	t.Run("and are reaped", func(t *testing.T) {
		s := spec("breeder", "stay")
		s.Commands = true
		endWhole(t, p, s, 0)
	})
	t.Run("of an earlier version", func(t *testing.T) { endWhole(t, p, spec("old-breeder", "stay"), 1<<10) })
}

func endWhole(t *testing.T, p *Podman, s pod.ContainerSpec, zombies int) {
	id := launch(t, p, s)
	h, err := p.hold(t.Context(), id)
	if err != nil || h == nil {
		t.Fatalf("hold: %v, %v", h, err)
	}
	conmons := len(pidsIn(filepath.Join(p.cgroup.watch, p.cgroup.pod(s.Pod), "conmon")))
	for name, run := range map[string]func() error{
		"it takes too long": func() error {
			r, err := p.Exec(t.Context(), id, []string{"/program", "breed", "3"}, 300*time.Millisecond)
			if !r.TimedOut {
				return fmt.Errorf("got %+v, want it timed out: %w", r, err)
			}
			return err
		},
		"it is given up": func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if r, err := p.Exec(ctx, id, []string{"/program", "breed", "3"}, commands); err == nil {
				return fmt.Errorf("got %+v, want the context's error", r)
			}
			return nil
		},
		"it leaves a child": func() error {
			r, err := p.Exec(t.Context(), id, []string{"/program", "abandon"}, commands)
			if r.Code != 0 || r.Output != "bred\n" {
				return fmt.Errorf("got %+v: %w", r, err)
			}
			return err
		},
		"it does not start": func() error {
			r, err := p.Exec(t.Context(), id, []string{"/no/program"}, commands)
			if (err == nil) != s.Commands || s.Commands && r.Code != 127 || !strings.Contains(fmt.Sprint(r.Output, err), "/no/program") {
				return fmt.Errorf("got %+v, %v, want an error that names it", r, err)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := run(); err != nil {
				t.Error(err)
			}
			for _, root := range p.cgroup.roots {
				group := filepath.Join(root, p.cgroup.pod(s.Pod), ctrPrefix+id)
				if pids := pidsIn(group); len(pids) > 1 {
					t.Errorf("%s: processes %v", group, pids)
				}
				if left, _ := filepath.Glob(filepath.Join(group, execPrefix+"*")); len(left) > 0 {
					t.Errorf("cgroups: %v", left)
				}
			}
			if dead := childrenOf(t, h.pid); len(dead) > zombies {
				t.Errorf("children of the container's first process: %q", dead)
			}
			if n := len(pidsIn(filepath.Join(p.cgroup.watch, p.cgroup.pod(s.Pod), "conmon"))); n > conmons {
				t.Errorf("%d conmons, %d before", n, conmons)
			}
			if left, _ := filepath.Glob(filepath.Join(string(p.memory), "exec-*")); len(left) > 0 {
				t.Errorf("files: %v", left)
			}
			for _, child := range childrenOf(t, os.Getpid()) {
				if strings.Contains(child, "fairlead-exec") {
					t.Errorf("process: %s", child)
				}
			}
		})
	}
	wantExec(t, p, id, "fine\n", "/program", "print", "fine")
}

// childrenOf lists a process's, dead ones that are not reaped among them, with
// their arguments.
func childrenOf(t *testing.T, pid int) (out []string) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		pids, _ := os.ReadFile(list)
		for _, pid := range strings.Fields(string(pids)) {
			name, _ := os.ReadFile(filepath.Join("/proc", pid, "comm"))
			args, _ := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
			out = append(out, string(name)+string(args))
		}
	}
	return out
}

// security: what a container may do and as whom, its first process and what is run in
// it alike; seen from outside, by the kernel's word.
func security(t *testing.T, p *Podman, spec specMaker) {
	// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, SETFCAP
	const usual, none = "00000000800405fb", "0000000000000000"
	profile := filepath.Join(t.TempDir(), "profile.json")
	if err := os.WriteFile(profile, []byte(`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		security pod.Security
		want     map[string]string
	}{
		"nothing is asked for": {pod.Security{}, map[string]string{"CapBnd": usual, "Seccomp": "2", "NoNewPrivs": "0"}},
		"NET_RAW is added":     {pod.Security{CapAdd: []string{"NET_RAW"}}, map[string]string{"CapBnd": "00000000800425fb", "CapEff": "00000000800425fb"}},
		"all are dropped":      {pod.Security{CapDrop: []string{"ALL"}}, map[string]string{"CapBnd": none, "CapEff": none}},
		"all but one":          {pod.Security{CapDrop: []string{"ALL"}, CapAdd: []string{"CHOWN"}}, map[string]string{"CapBnd": "0000000000000001"}},
		"another user":         {pod.Security{User: "1000:2000", Groups: []string{"3000"}}, map[string]string{"Uid": "1000 1000 1000 1000", "Gid": "2000 2000 2000 2000", "Groups": "2000 3000", "CapEff": none}},
		"a user alone":         {pod.Security{User: "1000"}, map[string]string{"Uid": "1000 1000 1000 1000", "Gid": "0 0 0 0"}},
		"no new privileges":    {pod.Security{NoNewPrivileges: true}, map[string]string{"NoNewPrivs": "1"}},
		"unconfined":           {pod.Security{Seccomp: pod.Unconfined}, map[string]string{"Seccomp": "0", "CapBnd": usual}},
		"a profile of its own": {pod.Security{Seccomp: profile}, map[string]string{"Seccomp": "2"}},
		"privileged":           {pod.Security{Privileged: true}, map[string]string{"Seccomp": "0", "CapBnd": statusOf(t, os.Getpid(), "CapBnd")}},
		"as little as can be": {pod.Security{User: "1000:1000", NoNewPrivileges: true, ReadOnlyRoot: true, CapDrop: []string{"ALL"}},
			map[string]string{"Uid": "1000 1000 1000 1000", "CapBnd": none, "NoNewPrivs": "1", "Seccomp": "2"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := spec("security", "stay")
			s.Security = tc.security
			id := launch(t, p, s)
			h, err := p.hold(t.Context(), id)
			if err != nil || h == nil {
				t.Fatalf("hold: %v, %v", h, err)
			}
			r, err := p.Exec(t.Context(), id, []string{"/program", "cat", "/proc/self/status"}, commands)
			if err != nil || r.Code != 0 {
				t.Fatalf("exec: %+v, %v", r, err)
			}
			for key, want := range tc.want {
				if key == "Seccomp" && !seccompWorks() {
					continue
				}
				if got := statusOf(t, h.pid, key); got != want {
					t.Errorf("%s: got %q, want %q", key, got, want)
				}
				if got := fieldOf(r.Output, key); got != want {
					t.Errorf("%s of a command in it: got %q, want %q", key, got, want)
				}
			}
		})
	}
}

func statusOf(t *testing.T, pid int, key string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	return fieldOf(string(data), key)
}

// fieldOf is a line of a process' status, its words one blank apart.
func fieldOf(status, key string) string {
	for line := range strings.Lines(status) {
		if k, v, _ := strings.Cut(line, ":"); k == key {
			return strings.Join(strings.Fields(v), " ")
		}
	}
	return ""
}

func orphanLeavesNothing(t *testing.T, p *Podman, spec specMaker) {
	s := spec("orphan", "stay")
	s.Pod = "44444444-0000-4000-8000-000000000004"
	s.Labels[pod.LabelPodUID] = string(s.Pod)
	id := launch(t, p, s)
	if h, err := p.hold(t.Context(), id); err != nil || h == nil {
		t.Fatalf("hold: %v, %v", h, err)
	}
	killConmon(t, p, s)
	if err := p.Signal(t.Context(), id, 9); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for _, root := range p.cgroup.roots {
		if dir, err := p.cgroup.container(root, id); err != nil || dir != "" {
			t.Errorf("left: %s, %v", dir, err)
		}
	}
}

// openedOn is a Podman that is configured, and not started, with its run directory on a
// tmpfs as /run is; leave prepares the directory for environments.
func openedOn(t *testing.T, leave func(oci string)) string {
	t.Helper()
	run := t.TempDir()
	if err := unix.Mount("tmpfs", run, "tmpfs", 0, "size=16m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unmountAll(run), unix.Unmount(run, unix.MNT_DETACH)); err != nil {
			t.Error(err)
		}
	})
	oci := filepath.Join(run, "oci")
	leave(oci)
	cfg := Config{
		Node: "memory", StorageDir: filepath.Join(t.TempDir(), "storage"), RunDir: run,
		CgroupParent: fmt.Sprintf("/fairlead/test-%d/memory", os.Getpid()), Helper: filepath.Join(testRoot, "fairlead-oci"),
	}
	if _, err := New(cfg); err != nil {
		t.Fatal(err)
	}
	return oci
}

func sizeOf(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks) * st.Bsize
}

// Environments have a tmpfs of their own size also where /run is one; what an earlier
// version left there, and what is mounted already, stays.
func TestEnvironmentsHaveTheirOwnMemory(t *testing.T) {
	fresh := openedOn(t, func(string) {})
	if got := sizeOf(t, fresh); got != memoryBytes {
		t.Errorf("fresh: %d bytes, want %d", got, memoryBytes)
	}
	used := openedOn(t, func(oci string) {
		if err := os.MkdirAll(filepath.Join(oci, "container"), 0o700); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := os.Stat(filepath.Join(used, "container")); err != nil || sizeOf(t, used) != 16<<20 {
		t.Errorf("what a container has is hidden: %v, %d bytes", err, sizeOf(t, used))
	}
	mounted := openedOn(t, func(oci string) {
		if err := errors.Join(os.Mkdir(oci, 0o700), unix.Mount("tmpfs", oci, "tmpfs", 0, "size=8m")); err != nil {
			t.Fatal(err)
		}
	})
	if got := sizeOf(t, mounted); got != 8<<20 {
		t.Errorf("mounted before: %d bytes", got)
	}
}

// A container that Podman does not know is made known to the runtime as gone: what it
// keeps of it has the environment.
func TestTheRuntimeForgetsWhatPodmanDoes(t *testing.T) {
	dir := t.TempDir()
	runtime := filepath.Join(dir, "crun")
	script := "#!/bin/sh\necho \"$XDG_RUNTIME_DIR $*\" >>" + dir + "/told\n[ -z \"$FAIL\" ] || { echo 'no such thing' >&2; exit 1; }\n"
	if err := os.WriteFile(runtime, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	p := &Podman{memory: handover.Dir(dir)}
	if err := os.Symlink(runtime, p.memory.Runtime()); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/0")
	id := strings.Repeat("ab", 32)
	if err := errors.Join(p.dropState(t.Context(), id), p.dropState(t.Context(), "a-name")); err != nil {
		t.Fatal(err)
	}
	if told, err := os.ReadFile(dir + "/told"); err != nil || string(told) != " delete --force "+id+"\n" {
		t.Errorf("the runtime is told %q, %v", told, err)
	}
	t.Setenv("FAIL", "yes")
	if err := p.dropState(t.Context(), id); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("a refusal: %v", err)
	}
}
