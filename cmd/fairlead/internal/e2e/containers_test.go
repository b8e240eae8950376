package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// madeTimeout is for the starts of a few pods on a busy machine.
const madeTimeout = 90 * time.Second

// Containers find what Kubernetes has them find: variables, directories, a place to say
// why they end, a probe that asks as it is written. What comes later restarts none.
func testContainersAreMade(t *testing.T) {
	c, w := shared, shared.clone(t)
	seen := t.TempDir()
	w.write(t, map[string]string{
		"made/namespace.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: made}\n",
		"made/services.yaml":  madeServices,
		"made/pods.yaml":      fmt.Sprintf(madePods, witnessImage, seen),
	})
	if out, err := w.push(t, "containers as Kubernetes makes them", "-o", "e2e"); err != nil {
		t.Fatalf("push: %v\n%s", err, out)
	}
	var got map[string][]string
	eventually(t, madeTimeout, "the witness has looked around", func() (bool, string) {
		got = notes(t, seen, "ends")
		return len(got["end"]) > 0, fmt.Sprint(got)
	})
	env := unquoted(t, got["env"])
	redis := env["REDIS_SERVICE_HOST"]
	for name, want := range map[string]string{
		"REDIS": "redis://" + redis + ":6379", "REDIS_PORT_6379_TCP_ADDR": redis, "REDIS_SERVICE_PORT_MAIN": "6379",
		"plain": "text", "K": "\xe9", "DOLLAR": "$(REDIS) $(NOBODY)", "dotted.name-1": "x",
	} {
		if have, ok := env[name]; !ok || have != want {
			t.Errorf("variable %s: %q, want %q", name, have, want)
		}
	}
	if _, ok := env["blob"]; ok || redis == "" {
		t.Errorf("environment: %q", env)
	}
	at := []string{
		"/cfg/one -rw-r----- 0", "/cfg/run drwxrwxrwx 0", "/cfg/run/deeper drwxrwxrwx 0", "/dev/termination-log -rw-rw-rw- 0",
		"/new/path drwxrwxrwx 0", "/work/here drwxr-xr-x 0",
	}
	if !slices.Equal(got["at"], at) || len(got["missing"]) > 0 {
		t.Errorf("found %q, missing %q, want %q", got["at"], got["missing"], at)
	}
	eventually(t, madeTimeout, "the ends tell why", func() (bool, string) { return ends(c.pods(t, "made", "app", "ends")) })
	eventually(t, madeTimeout, "a probe that is sent on makes ready", func() (bool, string) {
		pods := c.pods(t, "made", "app", "serves")
		return len(pods) == 1 && ready(pods[0]), describe(pods)
	})

	c.seeStaged(t, seen)
	serving := c.pods(t, "made", "app", "serves")[0]
	before := c.process(t, serving)
	w.write(t, map[string]string{"made/later.yaml": strings.ReplaceAll(madeServices, "redis", "later")})
	if out, err := w.push(t, "a service more", "-o", "e2e"); err != nil {
		t.Fatalf("push: %v\n%s", err, out)
	}
	c.seeRestricted(t)
	agent := look(c.daemon(t, serving.Spec.NodeName+"/agent"))
	agent.kill(t)
	eventually(t, madeTimeout, "another agent has the node", func() (bool, string) {
		pid, err := c.daemons()
		return err == nil && pid[serving.Spec.NodeName+"/agent"] != agent.pid, fmt.Sprint(pid, err)
	})
	w.write(t, map[string]string{"made/last.yaml": fmt.Sprintf(madeLast, witnessImage, seen)})
	if out, err := w.push(t, "a pod more", "-o", "e2e"); err != nil {
		t.Fatalf("push: %v\n%s", err, out)
	}
	eventually(t, madeTimeout, "a later pod is told of the later service", func() (bool, string) {
		got := notes(t, seen, "last")
		return len(got["end"]) > 0 && unquoted(t, got["env"])["LATER_SERVICE_HOST"] != "", fmt.Sprint(got)
	})
	if after := c.process(t, serving); after != before {
		t.Errorf("a service that came restarted a container: process %d, then %d", before, after)
	}

	w.write(t, map[string]string{"made/pods.yaml": "", "made/last.yaml": "", "made/later.yaml": "", "made/services.yaml": ""})
	w.pushHealthy(t, "none of them\n\nFairlead-Allow-Prune: 100")
	c.awaitRest(t)
	if got, want := story(t, seen, "hooked"), []string{"start", "stage bye", "term", "end"}; !slices.Equal(leftOut(got, "stage hello"), want) || !slices.Contains(got, "stage hello") {
		t.Errorf("a container with hooks lived through %q, want %q and its postStart hook", got, want)
	}
}

// seeStaged holds a pod with init containers and a sidecar to their order, and to what it
// is told of itself.
func (c *cluster) seeStaged(t *testing.T, seen string) {
	t.Helper()
	var pods []*corev1.Pod
	eventually(t, madeTimeout, "the staged pod has done its work", func() (bool, string) {
		pods = c.pods(t, "made", "app", "staged")
		return len(pods) == 1 && pods[0].Status.Phase == corev1.PodSucceeded, describe(pods)
	})
	want := []string{"stage first", "start", "stage second", "stage main", "term", "end"}
	if got := story(t, seen, "staged"); !slices.Equal(got, want) {
		t.Errorf("a pod with a sidecar lived through %q, want %q", got, want)
	}
	got := notes(t, seen, "staged")["holds"]
	labels := `/me/labels "app=\"staged\""`
	if !slices.Contains(got, labels) || !slices.Contains(got, `/me/cpu "250"`) || !slices.ContainsFunc(got, func(s string) bool {
		return strings.HasPrefix(s, "/etc/hosts") && strings.Contains(s, `192.0.2.5\talias`)
	}) {
		t.Errorf("a pod is told of itself %q", got)
	}
	if inits := pods[0].Status.InitContainerStatuses; len(inits) != 3 || inits[0].State.Terminated == nil || inits[0].State.Terminated.Reason != "Completed" || !inits[2].Ready {
		t.Errorf("init containers: %+v", inits)
	}
}

// story is what the containers of a pod wrote down of their lives, in the order of time.
func story(t *testing.T, dir, prefix string) (out []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, prefix+".*"))
	if err != nil {
		t.Fatal(err)
	}
	var lines [][]string
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			lines = append(lines, strings.Fields(line))
		}
	}
	slices.SortFunc(lines, func(a, b []string) int { return strings.Compare(a[1], b[1]) }) // nanoseconds, of equal length
	for _, line := range lines {
		switch line[0] {
		case "stage":
			out = append(out, "stage "+line[2])
		case "start", "term", "end":
			out = append(out, line[0])
		}
	}
	return out
}

func leftOut(all []string, one string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == one })
}

// seeRestricted looks from outside at a pod that passes the strictest level: whom it runs
// as, what it may, and whose its volumes are.
func (c *cluster) seeRestricted(t *testing.T) {
	t.Helper()
	var pods []*corev1.Pod
	eventually(t, madeTimeout, "the restricted pod is ready", func() (bool, string) {
		pods = c.pods(t, "made", "app", "restricted")
		return len(pods) == 1 && ready(pods[0]), describe(pods)
	})
	pid := c.process(t, pods[0])
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"Uid": "1000 1000 1000 1000", "Gid": "3000 3000 3000 3000", "Groups": "2000 3000 4000", "NoNewPrivs": "1", "CapBnd": "0000000000000000",
	} {
		_, after, _ := strings.Cut(string(status), "\n"+key+":")
		line, _, _ := strings.Cut(after, "\n")
		if got := strings.Join(strings.Fields(line), " "); got != want {
			t.Errorf("%s of a restricted pod: %q, want %q", key, got, want)
		}
	}
	for path, want := range map[string]string{
		"net/ipv4/ping_group_range": "5 6", "kernel/shm_rmid_forced": "1", // its own
		"net/ipv4/ip_unprivileged_port_start": "0", // every pod's
	} {
		out, err := exec.CommandContext(t.Context(), "nsenter", "-t", strconv.Itoa(pid), "-n", "-i", "cat", "/proc/sys/"+path).Output()
		if got := strings.Join(strings.Fields(string(out)), " "); err != nil || got != want {
			t.Errorf("%s of a restricted pod: %q, %v, want %q", path, got, err, want)
		}
	}
	for path, perm := range map[string]os.FileMode{"data": 0o777, "key/k": 0o440} {
		info, err := os.Stat(fmt.Sprintf("/proc/%d/root/%s", pid, path))
		if err != nil {
			t.Fatal(err)
		}
		if gid := info.Sys().(*syscall.Stat_t).Gid; gid != 2000 || info.Mode().Perm() != perm {
			t.Errorf("/%s: mode %s of group %d, want %s of group 2000", path, info.Mode(), gid, perm)
		}
	}
}

func unquoted(t *testing.T, quoted []string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, q := range quoted {
		text, err := strconv.Unquote(q)
		if err != nil {
			t.Fatal(err)
		}
		name, value, _ := strings.Cut(text, "=")
		out[name] = value
	}
	return out
}

// ends reports whether the containers of the one pod say of their ends what they should.
func ends(pods []*corev1.Pod) (ok bool, state string) {
	got := map[string]string{}
	for _, p := range pods {
		for _, s := range p.Status.ContainerStatuses {
			if s.State.Terminated != nil {
				got[s.Name] = s.State.Terminated.Message
			}
		}
	}
	// The log has the time before the line.
	return got["says"] == "why" && strings.HasSuffix(got["logs"], " the disk is full\n") && got["looks"] == "", fmt.Sprintf("%q", got)
}

const madeServices = `apiVersion: v1
kind: Service
metadata: {name: redis, namespace: made}
spec:
  selector: {app: serves}
  ports: [{name: main, port: 6379, targetPort: 8080}]
`

// madePods takes an image and a directory of the host.
const madePods = `apiVersion: v1
kind: ConfigMap
metadata: {name: mixed, namespace: made}
data: {plain: text, dotted.name-1: x}
binaryData: {blob: AAEC/w==}
---
apiVersion: v1
kind: Secret
metadata: {name: latin, namespace: made}
data: {k: 6Q==}
---
apiVersion: v1
kind: Pod
metadata: {name: serves, namespace: made, labels: {app: serves}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: %[1]s
    imagePullPolicy: Never
    ports: [{name: web, containerPort: 8080}]
    readinessProbe:
      httpGet: {path: /moved, port: web, httpHeaders: [{name: User-Agent, value: e2e}, {name: Host, value: witness.example}]}
---
apiVersion: v1
kind: Pod
metadata: {name: restricted, namespace: made, labels: {app: restricted}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000, supplementalGroups: [4000], seccompProfile: {type: RuntimeDefault}, sysctls: [{name: net.ipv4.ping_group_range, value: "5 6"}, {name: kernel/shm_rmid_forced, value: "1"}]}
  volumes: [{name: data, emptyDir: {}}, {name: key, secret: {secretName: latin, defaultMode: 0400}}]
  containers:
  - name: c
    image: %[1]s
    imagePullPolicy: Never
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: data, mountPath: /data}, {name: key, mountPath: /key}]
    readinessProbe: {httpGet: {path: /, port: 8080}}
---
apiVersion: v1
kind: Pod
metadata: {name: staged, namespace: made, labels: {app: staged}}
spec:
  restartPolicy: Never
  activeDeadlineSeconds: 600
  hostAliases: [{ip: 192.0.2.5, hostnames: [alias]}]
  volumes:
  - {name: diaries, hostPath: {path: %[2]q, type: Directory}}
  - {name: logs, emptyDir: {}}
  - name: me
    projected:
      sources:
      - downwardAPI:
          items:
          - {path: labels, fieldRef: {fieldPath: metadata.labels}}
          - {path: cpu, resourceFieldRef: {containerName: main, resource: requests.cpu, divisor: 1m}}
  initContainers:
  - {name: first, image: %[1]s, imagePullPolicy: Never, args: [stage, first], env: [{name: WITNESS_DIR, value: /diaries}], volumeMounts: [{name: diaries, mountPath: /diaries}]}
  - name: helper
    image: %[1]s
    imagePullPolicy: Never
    restartPolicy: Always
    env: [{name: WITNESS_DIR, value: /diaries}]
    volumeMounts: [{name: diaries, mountPath: /diaries}]
    startupProbe: {httpGet: {path: /healthz, port: 8080}}
  - {name: second, image: %[1]s, imagePullPolicy: Never, args: [stage, second], env: [{name: WITNESS_DIR, value: /diaries}], volumeMounts: [{name: diaries, mountPath: /diaries}]}
  containers:
  - name: main
    image: %[1]s
    imagePullPolicy: Never
    args: [stage, main, /me/labels, /me/cpu, /etc/hosts]
    resources: {requests: {cpu: 250m}}
    env: [{name: WITNESS_DIR, value: /diaries}, {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    volumeMounts: [{name: me, mountPath: /me}, {name: diaries, mountPath: /diaries}, {name: logs, mountPath: /logs, subPathExpr: "of/$(POD)"}]
---
apiVersion: v1
kind: Pod
metadata: {name: hooked, namespace: made, labels: {app: hooked}}
spec:
  terminationGracePeriodSeconds: 20
  volumes: [{name: diaries, hostPath: {path: %[2]q, type: Directory}}]
  containers:
  - name: c
    image: %[1]s
    imagePullPolicy: Never
    env: [{name: WITNESS_DIR, value: /diaries}]
    volumeMounts: [{name: diaries, mountPath: /diaries}]
    lifecycle:
      postStart: {exec: {command: [/witness, stage, hello]}}
      preStop: {exec: {command: [/witness, stage, bye]}}
---
apiVersion: v1
kind: Pod
metadata: {name: ends, namespace: made, labels: {app: ends}}
spec:
  restartPolicy: Never
  volumes:
  - {name: diaries, hostPath: {path: %[2]q, type: Directory}}
  - {name: cfg, configMap: {name: mixed}}
  - {name: key, secret: {secretName: latin, defaultMode: 0o640}}
  - {name: d, emptyDir: {}}
  - {name: e, emptyDir: {}}
  containers:
  - name: looks
    image: %[1]s
    imagePullPolicy: Never
    args: [inspect, /cfg/one, /cfg/run, /cfg/run/deeper, /new/path, /dev/termination-log]
    workingDir: /work/here
    envFrom: [{configMapRef: {name: mixed}}]
    env:
    - {name: WITNESS_DIR, value: /diaries}
    - {name: REDIS, value: "redis://$(REDIS_SERVICE_HOST):$(REDIS_SERVICE_PORT)"}
    - {name: DOLLAR, value: "$$(REDIS) $(NOBODY)"}
    - {name: K, valueFrom: {secretKeyRef: {name: latin, key: k}}}
    volumeMounts:
    - {name: diaries, mountPath: /diaries}
    - {name: e, mountPath: /cfg/run/deeper}
    - {name: d, mountPath: /cfg/run}
    - {name: key, mountPath: /cfg/one, subPath: k}
    - {name: cfg, mountPath: /cfg}
    - {name: d, mountPath: /new/path, subPath: made/here}
  - name: says
    image: %[1]s
    imagePullPolicy: Never
    args: [say, /dev/termination-log, why]
  - name: logs
    image: %[1]s
    imagePullPolicy: Never
    args: [say, "-", the disk is full]
    terminationMessagePath: /say/it/here
    terminationMessagePolicy: FallbackToLogsOnError
`

// madeLast is one pod more; it takes the same.
const madeLast = `apiVersion: v1
kind: Pod
metadata: {name: last, namespace: made}
spec:
  restartPolicy: Never
  volumes: [{name: diaries, hostPath: {path: %[2]q, type: Directory}}]
  containers:
  - name: looks
    image: %[1]s
    imagePullPolicy: Never
    args: [inspect]
    env: [{name: WITNESS_DIR, value: /diaries}]
    volumeMounts: [{name: diaries, mountPath: /diaries}]
`
