package volume

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead/nodeagent/pod"
)

// outside is a directory of the host that no volume shows. Nothing in it may be
// bound, made, read, changed or removed.
type outside struct {
	dir    string
	before string
}

const canary = "the host's own"

func newOutside(t *testing.T) outside {
	t.Helper()
	o := outside{dir: filepath.Join(t.TempDir(), "outside")}
	must(t, os.MkdirAll(filepath.Join(o.dir, "sub"), 0o700))
	for _, name := range []string{"file", "sub/file", "a.conf", "token", "greeting"} {
		must(t, os.WriteFile(filepath.Join(o.dir, name), []byte(canary), 0o600))
	}
	o.before = o.state(t)
	return o
}

// state is everything in the directory that a change would change.
func (o outside) state(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(o.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var content []byte
		if info.Mode().IsRegular() {
			content, err = os.ReadFile(path)
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%s %v inode %d of %d:%d, changed %v: %q\n", strings.TrimPrefix(path, o.dir), info.Mode(), st.Ino, st.Uid, st.Gid, st.Ctim, content)
		return err
	}))
	return b.String()
}

func (o outside) untouched(t *testing.T) {
	t.Helper()
	if now := o.state(t); now != o.before {
		t.Errorf("the host's own is now\n%swas\n%s", now, o.before)
	}
}

// unseen wants that a source shows nothing of the host.
func (o outside) unseen(t *testing.T, source string) {
	t.Helper()
	_ = filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if content, _ := os.ReadFile(path); string(content) == canary {
				t.Errorf("%s shows the host's own", path)
			}
		}
		return nil
	})
}

// swap puts a link to the host in the place of what is at path, as
// renameat2(RENAME_EXCHANGE) does, or of nothing.
func (o outside) swap(t *testing.T, path, target string) {
	t.Helper()
	if _, err := os.Lstat(filepath.Dir(path)); err != nil {
		return // what is to be swapped is not made yet
	}
	link := filepath.Join(filepath.Dir(path), ".swap")
	must(t, os.Symlink(filepath.Join(o.dir, target), link))
	if _, err := os.Lstat(path); err != nil {
		must(t, os.Rename(link, path))
		return
	}
	must(t, unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE))
}

// steps runs do once for each step of a kind, until there is no such step, and
// swaps before that one.
func steps(t *testing.T, kind string, do func(t *testing.T, v *Volumes, swap func(func()))) {
	for at, seen := 0, true; seen; at++ {
		t.Run(fmt.Sprint(kind, " ", at), func(t *testing.T) {
			v := volumes(t)
			seen = false
			do(t, v, func(change func()) {
				left := at
				v.between = func(next string) {
					if next != kind {
						return
					}
					if left == 0 {
						seen = true
						change()
					}
					left--
				}
			})
		})
	}
}

// A container of the pod swaps what a subPath leads to, or through, for a link to
// the host after it was looked at.
func TestASubPathIsSwapped(t *testing.T) {
	tests := []struct{ medium, sub, swapped, target string }{
		{"", "x", "x", ""},
		{"Memory", "x", "x", ""},
		{"", "x/sub", "x", ""},
		{"", "x/sub", "x/sub", "sub"},
		{"", "x/file", "x/file", "file"},
		{"", "link", "link", ""},
		{"", "link/sub", "x", ""},
		{"", "new", "new", ""},
		{"", "new/with/parents", "new", ""},
		{"", "new/with/parents", "new/with", "sub"},
		{"", "x/new/parents", "x", ""},
		{"", "x/new/parents", "x/new", "no-such"},
	}
	for _, test := range tests {
		for _, kind := range []string{"make subPath", "bind"} {
			t.Run(strings.Join([]string{test.medium, test.sub, test.swapped}, " "), func(t *testing.T) {
				o := newOutside(t)
				steps(t, kind, func(t *testing.T, v *Volumes, swap func(func())) {
					spec := "volumes: [{name: d, emptyDir: {medium: '" + test.medium + "'}}]\ncontainers: [{name: c, volumeMounts: [{name: d, mountPath: /x, subPath: " + test.sub + "}]}]"
					p := prepared(t, v, spec)
					dir := v.path("uid-1", "d")
					must(t, os.MkdirAll(filepath.Join(dir, "x/sub"), 0o755))
					must(t, os.WriteFile(filepath.Join(dir, "x/file"), nil, 0o644))
					must(t, os.Symlink("x", filepath.Join(dir, "link")))
					swap(func() { o.swap(t, filepath.Join(dir, test.swapped), test.target) })
					if sources, err := v.Bind(p, &p.Spec.Containers[0]); err == nil {
						o.unseen(t, sources[0])
					}
					o.untouched(t)
				})
			})
		}
	}
}

// Whoever has a mount above a hostPath swaps it after its type was checked.
func TestAHostPathIsSwapped(t *testing.T) {
	for _, kind := range []string{"", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket", "CharDevice", "BlockDevice"} {
		t.Run(kind, func(t *testing.T) {
			o := newOutside(t)
			dir := t.TempDir()
			path := filepath.Join(dir, "x")
			target := "file"
			switch kind {
			case "", "Directory", "DirectoryOrCreate":
				must(t, os.Mkdir(path, 0o755))
				target = ""
			case "File", "FileOrCreate":
				must(t, os.WriteFile(path, nil, 0o644))
			case "Socket":
				socket, err := net.Listen("unix", path)
				must(t, err)
				defer socket.Close()
			case "CharDevice":
				must(t, unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
			case "BlockDevice":
				must(t, unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 999))))
			}
			checked, err := os.Stat(path)
			must(t, err)
			v := volumes(t)
			p := podWith(t, "volumes: [{name: h, hostPath: {path: "+path+", type: '"+kind+"'}}]\ncontainers: [{name: c, volumeMounts: [{name: h, mountPath: /h}]}]")
			v.between = func(next string) {
				if next == "bind" {
					o.swap(t, path, target)
				}
			}
			bound, err := os.Stat(bind(t, v, p)[0])
			must(t, err)
			if !os.SameFile(checked, bound) {
				t.Error("what was bound is not what was checked")
			}
			o.untouched(t)
		})
	}
}

// While the parts of a hostPath are made, whoever has a mount above them swaps one.
func TestAHostPathIsSwappedAsItIsMade(t *testing.T) {
	for _, test := range []struct{ kind, path, swapped, target string }{
		{"", "a/b/c", "a", ""},
		{"", "a/b/c", "a/b", "sub"},
		{"", "a/b/c", "a/b/c", "no-such"},
		{"DirectoryOrCreate", "a/b", "a", ""},
		{"DirectoryOrCreate", "a/b", "a/b", "sub"},
		{"FileOrCreate", "x/new", "x/new", "new"},
		{"FileOrCreate", "x/new", "x", ""},
	} {
		t.Run(strings.Join([]string{test.kind, test.path, test.swapped}, " "), func(t *testing.T) {
			o := newOutside(t)
			steps(t, "make hostPath", func(t *testing.T, v *Volumes, swap func(func())) {
				dir := t.TempDir()
				must(t, os.Mkdir(filepath.Join(dir, "x"), 0o755))
				p := podWith(t, "volumes: [{name: h, hostPath: {path: "+filepath.Join(dir, test.path)+", type: '"+test.kind+"'}}]")
				swap(func() { o.swap(t, filepath.Join(dir, test.swapped), test.target) })
				if f, err := v.hostPath(p.Spec.Volumes[0].HostPath); err == nil {
					o.unseen(t, fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
					f.Close()
				}
				o.untouched(t)
			})
		})
	}
}

// A container that may remount its volume swaps parts of it while a new version
// is written, shown and the old one removed.
func TestADataVolumeIsSwapped(t *testing.T) {
	changed := pod.Data{
		ConfigMaps: map[string]map[string][]byte{"shop/conf": {"a.conf": []byte("new"), "c.conf": []byte("C")}},
		Secrets:    map[string]map[string][]byte{"shop/key": {"token": []byte("new"), "more": []byte("M")}},
	}
	tests := []struct {
		name, source string
		swapped      []string
	}{
		{"configMap", "configMap: {name: conf, items: [{key: a.conf, path: sub/file}]}", []string{"..data", "..data_new", "version", "version/sub", "sub"}},
		{"secret", "secret: {secretName: key}", []string{"..data", "version", "token"}},
		{"projected", "projected: {sources: [{configMap: {name: conf}}, {secret: {name: key}}]}", []string{"version", "b.conf"}},
		{"downwardAPI", "downwardAPI: {items: [{path: sub/file, fieldRef: {fieldPath: \"metadata.labels['app']\"}}]}", []string{"version", "version/sub"}},
	}
	for _, test := range tests {
		for _, kind := range []string{"write file", "link files", "remove old versions"} {
			for _, swapped := range test.swapped {
				t.Run(strings.Join([]string{test.name, kind, swapped}, " "), func(t *testing.T) {
					o := newOutside(t)
					steps(t, kind, func(t *testing.T, v *Volumes, swap func(func())) {
						p := prepared(t, v, "securityContext: {fsGroup: 3000}\nvolumes: [{name: v, "+test.source+"}]")
						old := versions(t, v.path("uid-1", "v"))
						p.Labels = map[string]string{"app": "other"}
						swap(func() {
							dir := v.path("uid-1", "v")
							for _, path := range paths(t, dir, swapped, old) {
								o.swap(t, path, "")
							}
						})
						_ = v.Prepare(p, changed, pod.Place{}) // it may fail, and comes again
						o.untouched(t)
						v.between = nil
						_ = v.Prepare(p, changed, pod.Place{})
						o.untouched(t)
						must(t, v.Remove("uid-1"))
						o.untouched(t)
					})
				})
			}
		}
	}
}

// versions lists the directories of a data volume that hold content.
func versions(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), "..") {
			out = append(out, e.Name())
		}
	}
	return out
}

// paths are those of a data volume to swap; "version" stands for the newest.
func paths(t *testing.T, dir, swapped string, old []string) (out []string) {
	t.Helper()
	first, rest, _ := strings.Cut(swapped, "/")
	if first != "version" {
		return []string{filepath.Join(dir, swapped)}
	}
	for _, version := range versions(t, dir) {
		if !slices.Contains(old, version) {
			out = append(out, filepath.Join(dir, version, rest))
		}
	}
	return out
}

// In the place of a volume itself nothing is followed either.
func TestAVolumeThatIsALink(t *testing.T) {
	for _, source := range []string{"emptyDir: {}", "emptyDir: {medium: Memory}", "configMap: {name: conf}", "secret: {secretName: key}"} {
		t.Run(source, func(t *testing.T) {
			o := newOutside(t)
			v := volumes(t)
			p := podWith(t, "securityContext: {fsGroup: 3000}\nvolumes: [{name: v, "+source+"}]\ncontainers: [{name: c, volumeMounts: [{name: v, mountPath: /x, subPath: sub}]}]")
			must(t, os.MkdirAll(v.dir("uid-1"), 0o755))
			must(t, os.Symlink(o.dir, v.path("uid-1", "v")))
			if err := v.Prepare(p, data, pod.Place{}); err == nil {
				t.Error("a link was taken for a volume")
			}
			if sources, err := v.Bind(p, &p.Spec.Containers[0]); err == nil {
				o.unseen(t, sources[0])
				t.Error("a link was bound for a volume")
			}
			must(t, v.Remove("uid-1"))
			o.untouched(t)
		})
	}
}

// What containers leave in an emptyDir goes, and nothing that it leads to.
func TestRemoveLeavesTheHostAlone(t *testing.T) {
	o := newOutside(t)
	v := volumes(t)
	prepared(t, v, "volumes: [{name: d, emptyDir: {}}, {name: m, emptyDir: {medium: Memory}}]")
	for _, name := range []string{"d", "m"} {
		dir := v.path("uid-1", name)
		must(t, os.MkdirAll(filepath.Join(dir, "deep/er"), 0o755))
		must(t, os.Symlink(o.dir, filepath.Join(dir, "link")))
		must(t, os.Symlink(o.dir, filepath.Join(dir, "deep/er/link")))
		// A privileged container with mountPropagation Bidirectional mounts here.
		for _, at := range []string{"mount", "deep/er/mount"} {
			must(t, os.Mkdir(filepath.Join(dir, at), 0o755))
			must(t, unix.Mount(o.dir, filepath.Join(dir, at), "", unix.MS_BIND, ""))
		}
		must(t, os.WriteFile(filepath.Join(dir, "mounted"), nil, 0o644))
		must(t, unix.Mount(filepath.Join(o.dir, "file"), filepath.Join(dir, "mounted"), "", unix.MS_BIND, ""))
	}
	must(t, v.Remove("uid-1"))
	if _, err := os.Stat(v.dir("uid-1")); !os.IsNotExist(err) {
		t.Errorf("after remove: %v", err)
	}
	if left := mountsBelow(t, v.podsDir); len(left) > 0 {
		t.Errorf("still mounted: %v", left)
	}
	o.untouched(t)
}
