package volume

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"fairlead/nodeagent/pod"
)

// prepared makes the volumes of a pod and returns the pod.
func prepared(t *testing.T, v *Volumes, spec string) *corev1.Pod {
	t.Helper()
	p := podWith(t, spec)
	if err := v.Prepare(p, data, pod.Place{}); err != nil {
		t.Fatal(err)
	}
	return p
}

// bind binds the mounts of the pod's first container.
func bind(t *testing.T, v *Volumes, p *corev1.Pod) []string {
	t.Helper()
	sources, err := v.Bind(p, &p.Spec.Containers[0])
	if err != nil {
		t.Fatal(err)
	}
	return sources
}

// mounting is a pod whose container mounts part of an emptyDir.
func mounting(sub string) string {
	return "volumes: [{name: d, emptyDir: {}}]\ncontainers: [{name: c, volumeMounts: [{name: d, mountPath: /x, subPath: \"" + sub + "\"}]}]"
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, a, b string) bool {
	t.Helper()
	one, err := os.Stat(a)
	must(t, err)
	other, err := os.Stat(b)
	must(t, err)
	return os.SameFile(one, other)
}

// mountsBelow lists what is mounted below a directory.
func mountsBelow(t *testing.T, dir string) (out []string) {
	t.Helper()
	all, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for line := range strings.Lines(string(all)) {
		if at := strings.Fields(line)[4]; strings.HasPrefix(at, dir+"/") {
			out = append(out, at)
		}
	}
	return out
}

func TestSubPathNames(t *testing.T) {
	tests := []struct{ sub, want string }{ // want is below the volume
		{"", "."},
		{".", "."},
		{"x", "x"},
		{"x/", "x"},
		{"./x//sub/.", "x/sub"},
		{"..hidden", "..hidden"},
		{"..data", "..data"},
		{"a..b", "a..b"},
		{"...", "..."},
		{"new/with/parents", "new/with/parents"},
		{"file", "file"},
		{"file/", "file"},
		{"socket", "socket"},
		{"link", "x"},
		{"link/new", "x/new"},
		{"x/back", "file"},
	}
	for _, test := range tests {
		t.Run(test.sub, func(t *testing.T) {
			v := volumes(t)
			p := prepared(t, v, mounting(test.sub))
			furnish(t, v.path("uid-1", "d"))
			source := bind(t, v, p)[0]
			if !same(t, source, filepath.Join(v.path("uid-1", "d"), test.want)) {
				t.Errorf("shows something else than %s", test.want)
			}
			must(t, v.Unbind("uid-1"))
			if left := mountsBelow(t, v.podsDir); len(left) > 0 {
				t.Errorf("still mounted: %v", left)
			}
		})
	}
}

// furnish puts into a volume what a container may have left there.
func furnish(t *testing.T, dir string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, "x/sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	socket, err := net.Listen("unix", filepath.Join(dir, "socket"))
	must(t, err)
	t.Cleanup(func() { socket.Close() })
	for name, target := range map[string]string{
		"link": "x", "x/back": "../file", "absolute": "/etc", "out": "../../../../etc", "nowhere": "gone", "x/out": "../../..",
		"inside": filepath.Join(dir, "x"), "process": "/proc/self/root", "loop": "loop",
	} {
		must(t, os.Symlink(target, filepath.Join(dir, name)))
	}
}

func TestSubPathsThatLeadOut(t *testing.T) {
	tests := []struct{ sub, want string }{
		{"..", `must not contain ".."`},
		{"x/..", `must not contain ".."`},
		{"../d/x", `must not contain ".."`},
		{"/x", "must be a relative path"},
		{"absolute", "leads out"},
		{"absolute/ssh", "leads out"},
		{"out/ssh", "leads out"},
		{"out/no-such/ssh", "leads out"},
		{"x/out", "leads out"},
		{"inside", "leads out"}, // a container would find something else there
		{"process", "leads out"},
		{"nowhere", "link"},
		{"nowhere/new", "link"},
		{"loop", "link"},
		{"file/new", "not a directory"},
	}
	for _, test := range tests {
		t.Run(test.sub, func(t *testing.T) {
			v := volumes(t)
			p := prepared(t, v, mounting(test.sub))
			furnish(t, v.path("uid-1", "d"))
			_, err := v.Bind(p, &p.Spec.Containers[0])
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "volumeMount d: subPath") {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if left := mountsBelow(t, v.podsDir); len(left) > 0 {
				t.Errorf("still mounted: %v", left)
			}
		})
	}
}

// What a start makes is as open to the container's user as the volume is, the
// umask aside.
func TestMissingDirectoriesTakeTheVolumesPermissions(t *testing.T) {
	v := volumes(t)
	p := prepared(t, v, "securityContext: {fsGroup: 3000}\n"+mounting("a/b"))
	bind(t, v, p)
	for _, dir := range []string{"a", "a/b"} {
		info, err := os.Stat(filepath.Join(v.path("uid-1", "d"), dir))
		must(t, err)
		if got, want := info.Mode(), os.ModeDir|os.ModeSetgid|0o777; got != want {
			t.Errorf("%s is %v, want %v", dir, got, want)
		}
		if gid := info.Sys().(*syscall.Stat_t).Gid; gid != 3000 {
			t.Errorf("%s is group %d's", dir, gid)
		}
	}
}

// A whole volume of the agent's own needs no bind; each other mount has its own.
func TestBind(t *testing.T) {
	v := volumes(t)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "greeting"), []byte("hello"), 0o600))
	p := prepared(t, v, `
volumes: [{name: conf, configMap: {name: conf}}, {name: key, secret: {secretName: key}}, {name: m, emptyDir: {medium: Memory}}, {name: h, hostPath: {path: `+dir+`, type: Directory}}]
containers:
- name: c
  volumeMounts:
  - {name: conf, mountPath: /conf}
  - {name: conf, mountPath: /a, subPath: a.conf}
  - {name: key, mountPath: /token, subPath: token}
  - {name: m, mountPath: /m, subPath: new}
  - {name: h, mountPath: /h}
  - {name: h, mountPath: /hf, subPath: greeting}`)
	var sources []string
	for range 2 { // what the first start left goes with the second, and its paths with it
		before := sources
		sources = bind(t, v, p)
		if before != nil && slices.ContainsFunc(before[1:], func(s string) bool { return slices.Contains(sources, s) }) {
			t.Errorf("a path of the start before leads to another's mount: %v, then %v", before, sources)
		}
		if sources[0] != v.path("uid-1", "conf") {
			t.Errorf("a whole volume is bound from %s", sources[0])
		}
		for i, want := range map[int]string{
			1: filepath.Join(v.path("uid-1", "conf"), "a.conf"), 2: filepath.Join(v.path("uid-1", "key"), "token"),
			3: filepath.Join(v.path("uid-1", "m"), "new"), 4: dir, 5: filepath.Join(dir, "greeting"),
		} {
			if !strings.HasPrefix(sources[i], v.binds("uid-1")) || !same(t, sources[i], want) {
				t.Errorf("mount %d is bound from %s, which does not show %s", i, sources[i], want)
			}
		}
	}
	// A ConfigMap that changes does not change the file that was bound.
	changed := pod.Data{ConfigMaps: map[string]map[string][]byte{"shop/conf": {"a.conf": []byte("new")}}, Secrets: data.Secrets}
	must(t, v.Prepare(p, changed, pod.Place{}))
	if got, err := os.ReadFile(sources[1]); err != nil || string(got) != "A" {
		t.Errorf("got %q, %v", got, err)
	}
	must(t, v.Remove("uid-1"))
	if left := mountsBelow(t, v.podsDir); len(left) > 0 {
		t.Errorf("still mounted: %v", left)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "greeting")); err != nil || string(got) != "hello" {
		t.Errorf("the host's file: %q, %v", got, err)
	}
}

// A key that a ConfigMap gets later replaces the directory that a start made for
// the subPath, as Kubernetes' users know it.
func TestSubPathOfAMissingKey(t *testing.T) {
	v := volumes(t)
	p := prepared(t, v, "volumes: [{name: v, configMap: {name: conf}}]\ncontainers: [{name: c, volumeMounts: [{name: v, mountPath: /x, subPath: later}]}]")
	if info, err := os.Stat(bind(t, v, p)[0]); err != nil || !info.IsDir() {
		t.Errorf("got %v, %v", info, err)
	}
	with := pod.Data{ConfigMaps: map[string]map[string][]byte{"shop/conf": {"later": []byte("now")}}}
	must(t, v.Prepare(p, with, pod.Place{}))
	if got, err := os.ReadFile(bind(t, v, p)[0]); err != nil || string(got) != "now" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestHostPathTypes(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "dir"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	must(t, os.Symlink("dir", filepath.Join(dir, "link")))
	must(t, os.Symlink("gone", filepath.Join(dir, "nowhere")))
	must(t, unix.Mknod(filepath.Join(dir, "block"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 999))))
	socket, err := net.Listen("unix", filepath.Join(dir, "socket"))
	must(t, err)
	defer socket.Close()
	tests := []struct{ path, kind, want string }{ // want is the error
		{dir + "/dir", "", ""}, {dir + "/file", "", ""}, {dir + "/socket", "", ""}, {"/dev/null", "", ""}, {dir + "/new/er", "", ""},
		{dir + "/dir", "Directory", ""}, {dir + "/link", "Directory", ""}, {dir + "/link/../dir", "Directory", ""},
		{dir + "/file", "Directory", "not a Directory"}, {dir + "/gone", "Directory", "does not exist"},
		{dir + "/file", "File", ""}, {dir + "/dir", "File", "not a File"}, {dir + "/gone", "File", "does not exist"}, {"/dev/null", "File", "not a File"},
		{dir + "/socket", "Socket", ""}, {dir + "/file", "Socket", "not a Socket"},
		{"/dev/null", "CharDevice", ""}, {dir + "/file", "CharDevice", "not a CharDevice"}, {dir + "/block", "CharDevice", "not a CharDevice"},
		{dir + "/block", "BlockDevice", ""}, {"/dev/null", "BlockDevice", "not a BlockDevice"},
		{dir + "/made/too", "DirectoryOrCreate", ""}, {dir + "/file", "DirectoryOrCreate", "not a Directory"}, {dir + "/nowhere", "DirectoryOrCreate", "link"},
		{dir + "/made/file", "FileOrCreate", ""}, {dir + "/dir", "FileOrCreate", "not a File"}, {dir + "/no/parent", "FileOrCreate", "no such file"},
		{dir + "/nowhere", "FileOrCreate", "no such file"}, {dir + "/file/below", "", "not a directory"}, {"/proc/self/root", "Directory", "link"},
		{dir + "/dir", "Pipe", "not supported"},
	}
	for _, test := range tests {
		v := volumes(t)
		p := podWith(t, "volumes: [{name: h, hostPath: {path: "+test.path+", type: '"+test.kind+"'}}]\ncontainers: [{name: c, volumeMounts: [{name: h, mountPath: /h}]}]")
		err := v.Prepare(p, data, pod.Place{})
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s as %q: got %v, want %q", test.path, test.kind, err, test.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s as %q: %v", test.path, test.kind, err)
			continue
		}
		if source := bind(t, v, p)[0]; !same(t, source, test.path) {
			t.Errorf("%s as %q: %s shows something else", test.path, test.kind, source)
		}
		must(t, v.Unbind("uid-1"))
	}
}

// A start that was killed on any line leaves what the next one or the pod's end
// takes away, and never what the volume shows.
func TestWhatAKilledStartLeftGoes(t *testing.T) {
	for name, killed := range map[string]func(t *testing.T, v *Volumes, dir string){
		"nothing bound": func(t *testing.T, v *Volumes, _ string) { must(t, os.MkdirAll(v.binds("uid-1"), 0o700)) },
		"mounted over": func(t *testing.T, v *Volumes, _ string) {
			must(t, v.makeBinds("uid-1"))
			mountOver(t, v.binds("uid-1"))
		},
		"bound": func(t *testing.T, v *Volumes, dir string) { bindAll(t, v, dir) },
	} {
		t.Run(name, func(t *testing.T) {
			v := volumes(t)
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("host's"), 0o644))
			killed(t, v, dir)
			bindAll(t, v, dir)
			must(t, v.Remove("uid-1"))
			if left := mountsBelow(t, v.podsDir); len(left) > 0 {
				t.Errorf("still mounted: %v", left)
			}
			if _, err := os.Stat(v.binds("uid-1")); !os.IsNotExist(err) {
				t.Errorf("after remove: %v", err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(got) != "host's" {
				t.Errorf("the host's file: %q, %v", got, err)
			}
		})
	}
}

// On most hosts mounts are shared: what is unmounted in one place goes from all.
func TestUnbindLeavesTheHostsMounts(t *testing.T) {
	v := volumes(t)
	dir := t.TempDir()
	mountOver(t, dir)
	must(t, unix.Mount("", dir, "", unix.MS_SHARED, ""))
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	mountOver(t, filepath.Join(dir, "sub"))
	bindAll(t, v, dir)
	if got := mountsBelow(t, v.binds("uid-1")); len(got) != 2 {
		t.Errorf("bound: %v, want the directory and what is mounted in it", got)
	}
	must(t, v.Unbind("uid-1"))
	if got := mountsBelow(t, dir); len(got) != 1 {
		t.Errorf("the host has %v mounted, want what was there before", got)
	}
}

func mountOver(t *testing.T, dir string) {
	t.Helper()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4k"))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // gone with the test's subject mostly
}

func bindAll(t *testing.T, v *Volumes, dir string) {
	t.Helper()
	bind(t, v, podWith(t, "volumes: [{name: h, hostPath: {path: "+dir+"}}]\ncontainers: [{name: c, volumeMounts: [{name: h, mountPath: /h}]}]"))
}

// What is mounted below a read-only volume finds what it is mounted on in the volume,
// a file for a file, and keeps it whatever the volume comes to show.
func TestMountsBelowDataVolumes(t *testing.T) {
	const spec = `
volumes: [{name: v, configMap: {name: conf, items: [{key: a.conf, path: a.conf}, {key: b.conf, path: sub/b.conf}]}}, {name: d, emptyDir: {}}]
containers:
- name: c
  terminationMessagePath: /x/why
  volumeMounts:
  - {name: d, mountPath: /x/sub/run/deep, subPath: deep}
  - {name: d, mountPath: /x/run}
  - {name: d, mountPath: /x/one, subPath: file}
  - {name: v, mountPath: /x}
- name: part
  volumeMounts: [{name: v, mountPath: /y, subPath: sub}]`
	v := volumes(t)
	p := prepared(t, v, spec)
	root := v.path("uid-1", "v")
	must(t, os.WriteFile(filepath.Join(v.path("uid-1", "d"), "file"), nil, 0o644))
	bind(t, v, p)
	before := map[string]os.FileInfo{}
	for name, mode := range map[string]os.FileMode{"sub/run/deep": os.ModeDir | 0o755, "run": os.ModeDir | 0o755, "one": 0o644, "why": 0o644} {
		info, err := os.Lstat(filepath.Join(root, name))
		must(t, err)
		if info.Mode() != mode {
			t.Errorf("%s: %v, want %v", name, info.Mode(), mode)
		}
		before[name] = info
	}
	part, err := v.Bind(p, &p.Spec.Containers[1])
	must(t, err)
	if got, err := os.ReadFile(filepath.Join(part[0], "b.conf")); err != nil || string(got) != "B" {
		t.Errorf("a part of the volume shows %q, %v", got, err)
	}
	for range 2 { // the second time, nothing is new
		with := pod.Data{ConfigMaps: map[string]map[string][]byte{"shop/conf": {"a.conf": []byte("2"), "b.conf": []byte("3")}}}
		must(t, v.Prepare(p, with, pod.Place{}))
		for name, want := range map[string]string{"a.conf": "2", "sub/b.conf": "3"} {
			if got, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(got) != want {
				t.Errorf("%s: got %q, %v", name, got, err)
			}
		}
		for name, was := range before {
			if info, err := os.Lstat(filepath.Join(root, name)); err != nil || !os.SameFile(was, info) {
				t.Errorf("%s is another one now, %v", name, err)
			}
		}
	}
}

// A volume that an earlier version published has links where directories are needed.
func TestALinkMakesWayForAMount(t *testing.T) {
	v := volumes(t)
	const volume = "volumes: [{name: v, configMap: {name: conf, items: [{key: a.conf, path: sub/a}]}}, {name: d, emptyDir: {}}]\n"
	prepared(t, v, volume+"containers: [{name: c}]")
	p := prepared(t, v, volume+"containers: [{name: c, volumeMounts: [{name: v, mountPath: /x}, {name: d, mountPath: /x/sub/d}]}]")
	bind(t, v, p)
	for _, name := range []string{"sub/a", "sub/d"} {
		if _, err := os.Stat(filepath.Join(v.path("uid-1", "v"), name)); err != nil {
			t.Error(err)
		}
	}
	p = prepared(t, v, volume+"containers: [{name: c}]")
	if got := tree(t, v.path("uid-1", "v")); len(got) != 1 {
		t.Errorf("left: %v", got)
	}
}

// In an emptyDir that is read-only here, another container changes things meanwhile.
func TestMountsBelowReadOnlyEmptyDirs(t *testing.T) {
	v := volumes(t)
	outside := t.TempDir()
	p := prepared(t, v, "volumes: [{name: d, emptyDir: {}}, {name: e, emptyDir: {}}]\ncontainers: [{name: c, volumeMounts: [{name: d, mountPath: /d, readOnly: true}, {name: e, mountPath: /d/sub/e}]}]")
	bind(t, v, p)
	if info, err := os.Stat(filepath.Join(v.path("uid-1", "d"), "sub/e")); err != nil || !info.IsDir() {
		t.Errorf("got %v, %v", info, err)
	}
	must(t, os.RemoveAll(filepath.Join(v.path("uid-1", "d"), "sub")))
	must(t, os.Symlink(outside, filepath.Join(v.path("uid-1", "d"), "sub")))
	if _, err := v.Bind(p, &p.Spec.Containers[0]); err == nil || !strings.Contains(err.Error(), "leads out of its directory") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("made outside: %v, %v", left, err)
	}
}
