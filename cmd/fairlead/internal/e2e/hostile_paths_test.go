package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	// plunderers is how many containers of an attacking pod mount what is swapped.
	// What ends is started again without a pause first. About every second start
	// meets the link and is refused, to be tried again after 10 s.
	plunderers = 8
	// plunderTimeout is for the starts of one attacking pod on a busy machine.
	plunderTimeout = 90 * time.Second
)

// A container swaps what others mount by subPath for a link to the root, all the
// time; they look for the host's root where they mounted it.
func testHostileSubPath(t *testing.T) {
	c, w := shared, shared.clone(t)
	seen := t.TempDir()
	canary := fmt.Sprintf("fairlead-canary-%d", os.Getpid())
	t.Cleanup(func() { _ = os.Remove("/" + canary) }) // there only if the test failed
	key := filepath.Join(c.dir, "pki/ca.pem")
	if _, err := os.Stat(key); err != nil {
		t.Fatal(err)
	}
	turns := 0
	for began := time.Now(); turns == 0 || time.Since(began) < *attackFor; turns++ {
		w.write(t, map[string]string{
			"hostile/namespace.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: hostile}\n",
			"hostile/plunder.yaml":   plunderPod(turns, seen, canary, key),
		})
		if out, err := w.push(t, fmt.Sprintf("plunder %d\n\nFairlead-Allow-Prune: 100", turns), "-o", "e2e"); err != nil {
			t.Fatalf("push: %v\n%s", err, out)
		}
		eventually(t, plunderTimeout, "attackers start", func() (bool, string) {
			got := notes(t, seen, fmt.Sprint("plunder-", turns))
			return len(got["swapping"]) == 1 && len(got["start"]) >= plunderers/2, fmt.Sprint(got)
		})
	}
	all := notes(t, seen, "plunder-")
	t.Logf("%d pods, %d starts of attackers met a directory", turns, len(all["start"]))
	if read := all["read"]; len(read) > 0 {
		t.Errorf("%d containers read the key of the cluster's authority", len(read))
	}
	if _, err := os.Lstat("/" + canary); err == nil {
		t.Error("a container wrote on the host's root")
	}
	w.write(t, map[string]string{"hostile/plunder.yaml": ""})
	w.pushHealthy(t, "plunder no more\n\nFairlead-Allow-Prune: 100")
	c.awaitRest(t)
	c.awaitNoBinds(t)
}

// plunderPod is a pod whose first container swaps and whose others plunder. The
// swapping one is first to start.
func plunderPod(turn int, seen, canary, key string) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	container := func(name, args, mounts string) {
		p("  - name: %s\n    image: %s\n    imagePullPolicy: Never\n    args: [%s]", name, witnessImage, args)
		p("    env: [{name: WITNESS_DIR, value: /diaries}]")
		p("    volumeMounts: [{name: diaries, mountPath: /diaries}, %s]", mounts)
	}
	p("apiVersion: v1\nkind: Pod\nmetadata: {name: plunder-%d, namespace: hostile}\nspec:", turn)
	p("  terminationGracePeriodSeconds: 0\n  volumes: [{name: diaries, hostPath: {path: %q, type: Directory}}, {name: d, emptyDir: {}}]\n  containers:", seen)
	container("swap", "swap, /d/x", "{name: d, mountPath: /d}")
	for i := range plunderers {
		container(fmt.Sprint("plunder", i), fmt.Sprintf("plunder, /x, %s, %s", canary, key), "{name: d, mountPath: /x, subPath: x}")
	}
	return b.String()
}

// notes are what witnesses of the pods whose name begins with prefix wrote down:
// the details of each event, sorted.
func notes(t *testing.T, dir, prefix string) map[string][]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, prefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string][]string)
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			event, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			_, detail, _ := strings.Cut(rest, " ")
			out[event] = append(out[event], detail)
		}
	}
	for _, details := range out {
		slices.Sort(details)
	}
	return out
}

// awaitNoBinds waits until no bind of a start is mounted on any node: a container
// runs a moment before its start has ended.
func (c *cluster) awaitNoBinds(t *testing.T) {
	t.Helper()
	eventually(t, plunderTimeout, "no bind of a start is mounted", func() (bool, string) {
		for _, node := range c.names() {
			for line := range strings.Lines(c.onNode(t, node, "", "cat", "/proc/self/mountinfo")) {
				if at := strings.Fields(line)[4]; strings.HasPrefix(at, c.dir) && strings.Contains(at, "/binds") {
					return false, node + ": " + at
				}
			}
		}
		return true, ""
	})
}

// Parts of volumes are shown as Kubernetes shows them.
func testSubPath(t *testing.T) {
	c, w := shared, shared.clone(t)
	seen, host := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "greeting"), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.write(t, map[string]string{
		"hostile/namespace.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: hostile}\n",
		"hostile/parts.yaml":     fmt.Sprintf(partsManifest, witnessImage, seen, host),
	})
	if out, err := w.push(t, "parts of volumes", "-o", "e2e"); err != nil {
		t.Fatalf("push: %v\n%s", err, out)
	}
	want := []string{
		"/all a directory", "/all/left here", "/conf A", "/dots a directory", "/greeting hello", "/hidden a directory", "/host a directory",
		"/linked here", "/memory a directory", "/nested a directory", "/part here", "/token s3cret",
	}
	eventually(t, plunderTimeout, "the witness has seen all", func() (bool, string) {
		got := notes(t, seen, "parts")
		return len(got["end"]) > 0 && slices.Equal(got["saw"], want), strings.Join(got["saw"], "\n")
	})
	if _, err := os.Stat(filepath.Join(host, "new/sub/witness")); err != nil {
		t.Errorf("what the witness wrote into the host's directory: %v", err)
	}
	c.awaitNoBinds(t)
	w.write(t, map[string]string{"hostile/parts.yaml": ""})
	w.pushHealthy(t, "no parts of volumes\n\nFairlead-Allow-Prune: 100")
	c.awaitRest(t)
}

// partsManifest takes an image and two directories of the host.
const partsManifest = `apiVersion: v1
kind: ConfigMap
metadata: {name: conf, namespace: hostile}
data: {app.conf: A}
---
apiVersion: v1
kind: Secret
metadata: {name: key, namespace: hostile}
stringData: {token: s3cret}
---
apiVersion: v1
kind: Pod
metadata: {name: parts, namespace: hostile}
spec:
  restartPolicy: Never
  volumes:
  - {name: diaries, hostPath: {path: %[2]q, type: Directory}}
  - {name: host, hostPath: {path: %[3]q, type: Directory}}
  - {name: conf, configMap: {name: conf}}
  - {name: key, secret: {secretName: key}}
  - {name: d, emptyDir: {}}
  - {name: m, emptyDir: {medium: Memory}}
  initContainers:
  - name: leave
    image: %[1]s
    imagePullPolicy: Never
    args: [leave, /d/left, here]
    volumeMounts: [{name: d, mountPath: /d}]
  containers:
  - name: look
    image: %[1]s
    imagePullPolicy: Never
    args: [look, /all, /all/left, /conf, /dots, /greeting, /hidden, /host, /linked, /memory, /nested, /part, /token]
    env: [{name: WITNESS_DIR, value: /diaries}]
    volumeMounts:
    - {name: diaries, mountPath: /diaries}
    - {name: d, mountPath: /all, subPath: .}
    - {name: d, mountPath: /dots, subPath: a..b}
    - {name: d, mountPath: /hidden, subPath: ..hidden/}
    - {name: d, mountPath: /nested, subPath: x/y/z}
    - {name: d, mountPath: /part, subPath: left}
    - {name: d, mountPath: /linked, subPath: left.link}
    - {name: m, mountPath: /memory, subPath: new}
    - {name: conf, mountPath: /conf, subPath: app.conf}
    - {name: key, mountPath: /token, subPath: token}
    - {name: host, mountPath: /greeting, subPath: greeting}
    - {name: host, mountPath: /host, subPath: new/sub}
`
