package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// kustomizeTimeout is for a rollout of two pods, and for going back from one that fails,
// on a busy machine.
const kustomizeTimeout = 2 * time.Minute

// Values of a generated Secret and ConfigMap.
const (
	kustomizeCanary    = "fairlead-canary-in-a-generator"
	kustomizedGreeting = "fairlead-greeting-in-a-generator"
)

// A source points at an overlay, and its base stands outside of the source's path: it is
// pushed, changed, broken, and taken back, and all that is told names the file and line
// where a field was written.
func testKustomize(t *testing.T) {
	c, w := shared, shared.clone(t)
	w.write(t, map[string]string{"kustomized.yaml": `apiVersion: fairlead/v1
kind: Source
metadata: {name: kustomized}
spec: {embedded: true, path: overlays/prod, namespace: kustomized, createNamespaces: true, clusterKinds: [Namespace], healthyFor: 1s, progressDeadline: 2s}
`})
	w.pushHealthy(t, "a source that is an overlay")
	k := kustomized{c, c.cloneOf(t, "kustomized")}
	k.firstPush(t)
	k.secondPatch(t)
	k.brokenOverlay(t)
	k.failsAndGoesBack(t)
}

type kustomized struct {
	*cluster
	w worktree
}

// push pushes to the source, which must say that all is well.
func (k kustomized) push(t *testing.T, subject string) {
	t.Helper()
	if out, err := k.w.push(t, subject); err != nil || !strings.Contains(out, "remote: HEALTHY kustomized-") {
		t.Fatalf("push %q: %v\n%s", subject, err, out)
	}
}

// says asks for something about the clone, and wants what is answered to match.
func (k kustomized) says(t *testing.T, want []string, args ...string) {
	t.Helper()
	if args[0] != "render" { // it asks no cluster
		args = append(args, "--kubeconfig", k.Kubeconfig)
	}
	out, _ := k.fairlead(t, args...)
	for _, pattern := range want {
		if !regexp.MustCompile("(?m)" + pattern).MatchString(out) {
			t.Errorf("fairlead %s does not say %s but\n%s", strings.Join(args, " "), pattern, out)
		}
	}
	if args[0] == "render" {
		return // it prints Secrets, as kubectl takes them
	}
	if strings.Contains(out, kustomizeCanary) || strings.Contains(out, base64.StdEncoding.EncodeToString([]byte(kustomizeCanary))) {
		t.Errorf("fairlead %s tells a Secret's value", strings.Join(args, " "))
	}
}

func (k kustomized) pods(t *testing.T) []*corev1.Pod {
	return staying(k.cluster.pods(t, "kustomized", "app", "web"))
}

// variables are those of each pod's program, by pod.
func (k kustomized) variables(t *testing.T) map[string][]string {
	out := make(map[string][]string)
	for _, p := range k.pods(t) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", k.process(t, p)))
		if err != nil {
			t.Fatal(err)
		}
		out[p.Name] = strings.Split(string(text), "\x00")
	}
	return out
}

// firstPush brings base and overlay: the generated values arrive, the Secret's on no disk.
func (k kustomized) firstPush(t *testing.T) {
	k.w.write(t, kustomizedTree)
	k.says(t, []string{`base/deployment.yaml:1`}, "plan", "--source", "kustomized", k.w.dir)
	k.push(t, "base and overlay")
	all := k.variables(t)
	if len(all) != 2 {
		t.Errorf("%d pods, want 2: %v", len(all), all)
	}
	for pod, have := range all {
		for _, want := range []string{"GREETING=" + kustomizedGreeting, "PASSWORD=" + kustomizeCanary} {
			if !slices.Contains(have, want) {
				t.Errorf("%s has no %s: %q", pod, want, have)
			}
		}
	}
	for _, p := range k.pods(t) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/keys/PASSWORD", k.process(t, p)))
		if err != nil || string(text) != kustomizeCanary {
			t.Errorf("the file in %s: %q, %v", p.Name, text, err)
		}
	}
	k.isOnNoDisk(t)
}

// isOnNoDisk looks for the Secret's value in all that the cluster keeps, where a
// ConfigMap's is found. Git's objects are compressed, and hold both as they were pushed.
func (k kustomized) isOnNoDisk(t *testing.T) {
	texts := [][]byte{[]byte(kustomizedGreeting), []byte(kustomizeCanary), []byte(base64.StdEncoding.EncodeToString([]byte(kustomizeCanary)))}
	found := make([][]string, len(texts))
	err := filepath.WalkDir(k.dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil // it is gone, or holds nothing
		}
		content, err := os.ReadFile(name)
		for i, text := range texts {
			if err == nil && bytes.Contains(content, text) {
				found[i] = append(found[i], name)
			}
		}
		return nil
	})
	if err != nil || len(found[0]) == 0 {
		t.Errorf("the ConfigMap's value is not found either: %v", err)
	}
	if holders := append(found[1], found[2]...); len(holders) > 0 {
		t.Errorf("the Secret's value is held by %q", holders)
	}
}

// secondPatch changes the overlay's patch and a generator: what asks is pointed at them,
// and other pods come.
func (k kustomized) secondPatch(t *testing.T) {
	before := k.variables(t)
	k.w.write(t, map[string]string{"overlays/prod/patch.yaml": strings.Replace(kustomizedTree["overlays/prod/patch.yaml"], "info", "debug", 1)})
	k.says(t, []string{`base/deployment.yaml:1:1`}, "diff", "--source", "kustomized", k.w.dir)
	k.says(t, []string{`Plan: 0 to create, 1 to change, 0 to prune; 2 pods to start, 2 to stop`, `set by a patch of overlays/prod, overlays/prod/patch.yaml:11:`}, "plan", "--source", "kustomized", k.w.dir)
	k.says(t, []string{`name: prod-web$`, `value: debug$`, `name: prod-settings-[0-9a-z]{10}$`, `name: prod-password-[0-9a-z]{10}$`}, "render", filepath.Join(k.w.dir, "overlays/prod"))
	k.push(t, "say more")
	after := k.variables(t)
	for pod, have := range after {
		if before[pod] != nil || !slices.Contains(have, "LOG=debug") {
			t.Errorf("after the second push, %s has %q", pod, have)
		}
	}
	k.says(t, []string{`^Deployment kustomized/prod-web: Healthy$`, `base/deployment.yaml:1 +of source kustomized, built by the kustomization in overlays/prod$`, `set by +overlays/prod/patch.yaml:5 +a patch of overlays/prod: spec.replicas`}, "why", "-n", "kustomized", "deployment/prod-web")
}

// brokenOverlay is refused by the push, where it is broken.
func (k kustomized) brokenOverlay(t *testing.T) {
	before := k.variables(t)
	for file, want := range map[string][2]string{
		"overlays/prod/patch.yaml":         {"replicas: 2", `overlays/prod/patch.yaml:5:3: unknown field "replica"`},
		"overlays/prod/kustomization.yaml": {"../../base", `overlays/prod/kustomization.yaml:1:13: there is no file or directory nowhere`},
	} {
		text := strings.ReplaceAll(strings.Replace(kustomizedTree[file], want[0], "replica: 2", 1), "[replica: 2]", "[../../nowhere]")
		k.w.write(t, map[string]string{file: text})
		out, err := k.w.push(t, "a slip of the pen")
		if err == nil || !strings.Contains(out, want[1]) {
			t.Errorf("pushed, and said is not %s: %v\n%s", want[1], err, out)
		}
		k.w.git(t, "reset", "--quiet", "--hard", "HEAD~1")
	}
	if after := k.variables(t); len(after) != len(before) || fmt.Sprint(sorted(after)) != fmt.Sprint(sorted(before)) {
		t.Errorf("pods %v, before %v", sorted(after), sorted(before))
	}
}

// failsAndGoesBack pushes a patch whose program ends at once: the overlay before runs
// again, built from the base as it was. It alone has little time: the others may start on a
// busy machine.
func (k kustomized) failsAndGoesBack(t *testing.T) {
	patch := strings.Replace(kustomizedTree["overlays/prod/patch.yaml"], "      - name: web", "      - name: web\n        args: [-need, /nowhere]", 1)
	patch = strings.Replace(patch, "  replicas: 2", "  progressDeadlineSeconds: 5\n  replicas: 2", 1)
	base := strings.Replace(kustomizedTree["base/kustomization.yaml"], "GREETING=", "GREETING=another-", 1)
	k.w.write(t, map[string]string{"overlays/prod/patch.yaml": patch, "base/kustomization.yaml": base})
	out, err := k.w.push(t, "a program that needs more")
	if err != nil || !strings.Contains(out, "remote: FAILED kustomized-") {
		t.Fatalf("push: %v\n%s", err, out)
	}
	eventually(t, kustomizeTimeout, "what ran before runs again", func() (bool, string) {
		pods := k.pods(t)
		for _, p := range pods {
			if !ready(p) || len(p.Spec.Containers[0].Args) > 0 {
				return false, describe(pods)
			}
		}
		return len(pods) == 2, describe(pods)
	})
	for pod, have := range k.variables(t) {
		if !slices.Contains(have, "GREETING="+kustomizedGreeting) || !slices.Contains(have, "LOG=debug") {
			t.Errorf("after going back, %s has %q", pod, have)
		}
	}
	k.isOnNoDisk(t)
}

// kustomizedTree is a base with generators and an overlay with a patch.
var kustomizedTree = map[string]string{
	"base/kustomization.yaml": `resources: [deployment.yaml]
configMapGenerator:
- name: settings
  literals: [GREETING=` + kustomizedGreeting + `]
secretGenerator:
- name: password
  literals: [PASSWORD=` + kustomizeCanary + `]
`,
	"base/deployment.yaml": `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  progressDeadlineSeconds: 120
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      volumes: [{name: keys, secret: {secretName: password}}]
      containers:
      - name: web
        image: ` + witnessImage + `
        imagePullPolicy: Never
        envFrom: [{configMapRef: {name: settings}}, {secretRef: {name: password}}]
        volumeMounts: [{name: keys, mountPath: /keys}]
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
        resources: {requests: {cpu: 10m, memory: 16Mi}}
`,
	"overlays/prod/kustomization.yaml": "resources: [../../base]\nnamePrefix: prod-\npatches: [{path: patch.yaml}]\n",
	"overlays/prod/patch.yaml": `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  template:
    spec:
      containers:
      - name: web
        env:
        - {name: LOG, value: info}
`,
}
