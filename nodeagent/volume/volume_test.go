package volume

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"fairlead/nodeagent/mounttest"
	"fairlead/nodeagent/pod"
)

func TestMain(m *testing.M) {
	mounttest.Own()
	goleak.VerifyTestMain(m)
}

func podWith(t *testing.T, volumes string) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", UID: "uid-1", Labels: map[string]string{"app": "web"}}}
	if err := yaml.UnmarshalStrict([]byte(volumes), &p.Spec); err != nil {
		t.Fatal(err)
	}
	return p
}

var data = pod.Data{
	ConfigMaps: map[string]map[string][]byte{"shop/conf": {"a.conf": []byte("A"), "b.conf": []byte("B")}},
	Secrets:    map[string]map[string][]byte{"shop/key": {"token": []byte("s3cret")}},
}

func volumes(t *testing.T) *Volumes {
	v := New(t.TempDir())
	t.Cleanup(func() {
		if err := v.Remove("uid-1"); err != nil {
			t.Errorf("remove: %v", err)
		}
	})
	return v
}

// tree reads what a container would see.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			for k, v := range tree(t, path) {
				out[e.Name()+"/"+k] = v
			}
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(content) + " " + info.Mode().String()
	}
	return out
}

func TestDataVolumes(t *testing.T) {
	tests := []struct {
		name, volume string
		want         map[string]string
	}{
		{"whole ConfigMap", `configMap: {name: conf}`, map[string]string{"a.conf": "A -rw-r--r--", "b.conf": "B -rw-r--r--"}},
		{"items with modes", `configMap: {name: conf, defaultMode: 256, items: [{key: a.conf, path: x/y, mode: 288}, {key: b.conf, path: z}]}`,
			map[string]string{"x/y": "A -r--r-----", "z": "B -r--------"}},
		{"Secret", `secret: {secretName: key, defaultMode: 256}`, map[string]string{"token": "s3cret -r--------"}},
		{"optional and missing", `configMap: {name: nothing, optional: true}`, map[string]string{}},
		{"projected", `projected: {sources: [{configMap: {name: conf, items: [{key: a.conf, path: a}]}}, {secret: {name: key}}, {downwardAPI: {items: [{path: me, fieldRef: {fieldPath: "metadata.labels['app']"}}]}}]}`,
			map[string]string{"a": "A -rw-r--r--", "token": "s3cret -rw-r--r--", "me": "web -rw-r--r--"}},
		{"downward API", `downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}`, map[string]string{"name": "web-1 -rw-r--r--"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := volumes(t)
			if err := v.Prepare(podWith(t, "volumes: [{name: v, "+test.volume+"}]"), data, pod.Place{}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, tree(t, v.path("uid-1", "v"))); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	tests := []struct{ volume, want string }{
		{`configMap: {name: nothing}`, "configmap shop/nothing not found"},
		{`secret: {secretName: key, items: [{key: gone, path: p}]}`, "secret shop/key has no key gone"},
		{`configMap: {name: conf, items: [{key: a.conf, path: ../p}]}`, "leaves the volume"},
		{`hostPath: {path: ` + dir + `/not, type: Directory}`, "does not exist"},
		{`hostPath: {path: ` + dir + `, type: File}`, "is not a File"},
		{`nfs: {server: s, path: /}`, "not supported"},
		{`emptyDir: {medium: HugePages}`, "not supported"},
	}
	for _, test := range tests {
		v := volumes(t)
		err := v.Prepare(podWith(t, "volumes: [{name: v, "+test.volume+"}]"), data, pod.Place{})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.volume, err, test.want)
		}
	}
}

func TestSecretsAndMemoryAreOnTmpfs(t *testing.T) {
	v := volumes(t)
	p := podWith(t, `volumes: [{name: s, secret: {secretName: key}}, {name: m, emptyDir: {medium: Memory, sizeLimit: 1Mi}}, {name: d, emptyDir: {}}]`)
	for range 2 { // the second time nothing is mounted again
		if err := v.Prepare(p, data, pod.Place{}); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]bool{"s": true, "m": true, "d": false} {
			if got := onTmpfs(t, v.path("uid-1", name)); got != want {
				t.Errorf("%s on a tmpfs: %v, want %v", name, got, want)
			}
		}
	}
	if err := v.Remove("uid-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(v.dir("uid-1")); !os.IsNotExist(err) {
		t.Errorf("after remove: %v", err)
	}
}

func onTmpfs(t *testing.T, path string) bool {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		t.Fatal(err)
	}
	dir, err := openDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	mounted, err := isMount(dir)
	if err != nil {
		t.Fatal(err)
	}
	return st.Type == unix.TMPFS_MAGIC && mounted
}

// A reader that opens the version once sees one version, however often it changes.
func TestAMountShowsOneVersion(t *testing.T) {
	v := volumes(t)
	p := podWith(t, `volumes: [{name: v, configMap: {name: conf}}]`)
	version := func(c byte) pod.Data {
		return pod.Data{ConfigMaps: map[string]map[string][]byte{"shop/conf": {"a": {c}, "b": {c}}}}
	}
	if err := v.Prepare(p, version('0'), pod.Place{}); err != nil {
		t.Fatal(err)
	}
	dir := v.path("uid-1", "v")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			shown, err := os.Readlink(filepath.Join(dir, dataLink))
			if err != nil {
				t.Errorf("no version is shown: %v", err)
				return
			}
			a, err1 := os.ReadFile(filepath.Join(dir, shown, "a"))
			b, err2 := os.ReadFile(filepath.Join(dir, shown, "b"))
			if err1 == nil && err2 == nil && string(a) != string(b) {
				t.Errorf("mixed: %s and %s", a, b)
			}
		}
	})
	for i := range 200 {
		if err := v.Prepare(p, version('0'+byte(i%10)), pod.Place{}); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	before, _ := os.Stat(filepath.Join(dir, dataLink, "a"))
	if err := v.Prepare(p, version('9'), pod.Place{}); err != nil {
		t.Fatal(err)
	}
	after, _ := os.Stat(filepath.Join(dir, dataLink, "a"))
	if !os.SameFile(before, after) {
		t.Error("content that is shown already was written again")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 4 { // a, b, ..data and one version
		t.Errorf("old versions are left: %v", entries)
	}
}

func TestHostPathIsMade(t *testing.T) {
	dir := t.TempDir()
	v := volumes(t)
	p := podWith(t, `volumes: [{name: a, hostPath: {path: `+dir+`/a, type: DirectoryOrCreate}}, {name: b, hostPath: {path: `+dir+`/b, type: FileOrCreate}}]`)
	for range 2 {
		if err := v.Prepare(p, data, pod.Place{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Remove("uid-1"); err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, dir), 1; len(got) != want { // the empty directory shows no file
		t.Errorf("got %v", got)
	}
}
