package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

const apiURL = "http://api.shop.svc.cluster.local"

// answer is what the shop's api service says of itself.
type answer struct {
	Version string `json:"version"`
	Pod     string `json:"pod"`
	Node    string `json:"node"`
}

// The whole path, in the order a team would take it: each step builds on the
// one before.
func testShop(t *testing.T) {
	c := fresh(t, nodeCount)
	w := c.clone(t)
	for _, step := range []struct {
		name string
		run  func(*testing.T, *cluster, worktree)
	}{
		{"first push runs it", testFirstPush},
		{"a service answers from every endpoint", testService},
		{"the NodePort answers on every node", testNodePort},
		{"an invalid push changes nothing", testInvalidPush},
		{"a second version rolls without an error", testSecondVersion},
		{"a killed master is no outage", testKilledMaster},
		{"what left the tree is pruned", testPrune},
		{"a lost store is recovered from the nodes", testWipedStore},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(t, c, w) }) {
			t.FailNow()
		}
	}
}

func testFirstPush(t *testing.T, c *cluster, w worktree) {
	w.write(t, shopTree(t, "v1"))
	planned := c.plan(t, w)
	out, err := w.push(t, "shop: v1")
	if err != nil || !strings.Contains(out, "remote: HEALTHY main-") {
		t.Fatalf("push: %v\n%s", err, out)
	}
	c.checkPlacements(t, planned)
	for app, want := range map[string]int{"web": 2, "api": 3, "store": 1} {
		if pods := staying(c.pods(t, "shop", "app", app)); len(pods) != want {
			t.Errorf("%d pods of %s, want %d", len(pods), app, want)
		}
	}
}

func testService(t *testing.T, c *cluster, _ worktree) {
	from := staying(c.pods(t, "shop", "app", "web"))[0]
	pods, nodes := make(map[string]bool), make(map[string]bool)
	eventually(t, time.Minute, "all three api pods answer", func() (bool, string) {
		a, err := c.ask(t, from)
		if err != nil { // a node's table may lag behind what is healthy
			return false, fmt.Sprintf("from %s on %s: %v", from.Name, from.Spec.NodeName, err)
		}
		pods[a.Pod], nodes[a.Node] = true, true
		return len(pods) == 3, fmt.Sprint(slices.Sorted(maps.Keys(pods)))
	})
	delete(nodes, from.Spec.NodeName)
	if len(nodes) == 0 {
		t.Errorf("only pods on the asking node %s answered", from.Spec.NodeName)
	}
}

func testNodePort(t *testing.T, c *cluster, _ worktree) {
	for _, n := range c.Nodes {
		body, err := getFromHost(nodePort(n.Address))
		if err != nil || !strings.Contains(body, `"version":"v1"`) {
			t.Errorf("%s: %v %s", n.Name, err, body)
		}
	}
}

func testInvalidPush(t *testing.T, c *cluster, w worktree) {
	before := c.containers(t)
	broken := strings.Replace(shopTree(t, "v1")["api.yaml"], "replicas: 3", "replicass: 3", 1)
	line := 1 + strings.Count(broken[:strings.Index(broken, "replicass")], "\n")
	w.write(t, map[string]string{"api.yaml": broken})
	out, err := w.push(t, "shop: a slip of the pen")
	if err == nil {
		t.Fatalf("accepted:\n%s", out)
	}
	for _, want := range []string{fmt.Sprintf("remote: api.yaml:%d:", line), "replicass", "did you mean", "replicas"} {
		if !strings.Contains(out, want) {
			t.Errorf("the answer lacks %q:\n%s", want, out)
		}
	}
	if after := c.containers(t); !maps.Equal(before, after) {
		t.Errorf("containers %v, before %v", after, before)
	}
	w.git(t, "reset", "--quiet", "--hard", "HEAD~1")
}

func testSecondVersion(t *testing.T, c *cluster, w worktree) {
	w.write(t, shopTree(t, "v2"))
	planned := c.plan(t, w)
	var traffic sync.WaitGroup
	stop, failures := make(chan struct{}), make(chan error, 1)
	traffic.Go(func() { failures <- ceaselessly(nodePort(c.Nodes[0].Address), stop) })
	out, err := w.push(t, "shop: v2")
	close(stop)
	traffic.Wait()
	if err != nil || !strings.Contains(out, "remote: HEALTHY main-") {
		t.Fatalf("push: %v\n%s", err, out)
	}
	// store is recreated as it asks for; web and api are not, so only what web
	// says of its dependency may fail.
	if err := <-failures; err != nil {
		t.Errorf("while it rolled: %v", err)
	}
	c.checkPlacements(t, planned)
	body, err := getFromHost(nodePort(c.Nodes[1].Address))
	if err != nil || !strings.Contains(body, "web v2") || !strings.Contains(body, `"version":"v2"`) {
		t.Errorf("after the rollout: %v %s", err, body)
	}
}

func testKilledMaster(t *testing.T, c *cluster, w worktree) {
	before := c.containers(t)
	if err := unix.Kill(c.daemon(t, "master"), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if body, err := getFromHost(nodePort(c.Nodes[2].Address)); err != nil {
		t.Errorf("right after the kill: %v %s", err, body)
	}
	if err := c.up(); err != nil {
		t.Fatal(err)
	}
	if after := c.containers(t); !maps.Equal(before, after) {
		t.Errorf("containers %v, before %v", after, before)
	}
	tree := shopTree(t, "v2")
	w.write(t, map[string]string{"web.yaml": strings.Replace(tree["web.yaml"], "replicas: 2", "replicas: 3", 1)})
	if out, err := w.push(t, "shop: one more web"); err != nil || !strings.Contains(out, "remote: HEALTHY main-") {
		t.Fatalf("next push: %v\n%s", err, out)
	}
	if pods := staying(c.pods(t, "shop", "app", "web")); len(pods) != 3 {
		t.Errorf("%d pods of web, want 3", len(pods))
	}
}

func testPrune(t *testing.T, c *cluster, w worktree) {
	w.write(t, map[string]string{"web.yaml": ""})
	if out, err := w.push(t, "shop: no web"); err != nil || !strings.Contains(out, "remote: HEALTHY main-") {
		t.Fatalf("push: %v\n%s", err, out)
	}
	eventually(t, time.Minute, "web is gone", func() (bool, string) {
		left := c.pods(t, "shop", "app", "web")
		return len(left) == 0, fmt.Sprintf("%d pods", len(left))
	})
	if _, err := getFromHost(nodePort(c.Nodes[0].Address)); err == nil {
		t.Error("its NodePort still answers")
	}
	if pods := staying(c.pods(t, "shop", "app", "api")); len(pods) != 3 {
		t.Errorf("%d pods of api, want 3", len(pods))
	}
}

func nodePort(address string) string { return "http://" + address + ":30080/" }

// shopTree is examples/shop with its images at a version.
func shopTree(t *testing.T, version string) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../../../examples/shop/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests in examples/shop: %v", err)
	}
	tree := make(map[string]string)
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		tree[filepath.Base(f)] = strings.ReplaceAll(string(data), ":v1", ":"+version)
	}
	return tree
}

// probedOften has the shop's pods probed each second, not every other: a pod that is asked
// before it listens is ready that much sooner, in a test that starts many.
func probedOften(tree map[string]string) map[string]string {
	for name, text := range tree {
		tree[name] = strings.ReplaceAll(text, "periodSeconds: 2\n", "periodSeconds: 1\n")
	}
	return tree
}

// ask calls the api service by name from inside a pod.
func (c *cluster) ask(t *testing.T, from *corev1.Pod) (answer, error) {
	t.Helper()
	body, err := c.get(t, from, apiURL)
	if err != nil {
		return answer{}, err
	}
	var a answer
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		return a, fmt.Errorf("%q: %w", body, err)
	}
	return a, nil
}

// plan asks what the work tree would change: the pods it would start, and where.
func (c *cluster) plan(t *testing.T, w worktree) map[string]string {
	t.Helper()
	out, code := c.fairlead(t, "plan", "--kubeconfig", c.Kubeconfig, "-o", "json", w.dir)
	if code != 0 {
		t.Fatalf("plan: exit %d: %s", code, out)
	}
	var p struct {
		Pods []struct{ Action, Namespace, Name, Node string }
	}
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatalf("plan printed %q: %v", out, err)
	}
	started := make(map[string]string)
	for _, pod := range p.Pods {
		if pod.Action == "start" {
			started[pod.Namespace+"/"+pod.Name] = pod.Node
		}
	}
	return started
}

// checkPlacements holds what was planned against what runs.
func (c *cluster) checkPlacements(t *testing.T, planned map[string]string) {
	t.Helper()
	got := make(map[string]string)
	for _, app := range []string{"web", "api", "store"} {
		for _, p := range c.pods(t, "shop", "app", app) {
			got[p.Namespace+"/"+p.Name] = p.Spec.NodeName
		}
	}
	for pod, node := range planned {
		if got[pod] != node {
			t.Errorf("planned %s on %s, got it on %q; all: %v", pod, node, got[pod], got)
		}
	}
	if len(planned) == 0 {
		t.Error("the plan started nothing")
	}
}

// containers maps each running container to its id and start, as pods that
// stay tell.
func (c *cluster) containers(t *testing.T) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, app := range []string{"web", "api", "store"} {
		for _, p := range staying(c.pods(t, "shop", "app", app)) {
			for _, s := range p.Status.ContainerStatuses {
				if s.State.Running != nil {
					out[p.Name+"/"+s.Name] = s.ContainerID + " since " + s.State.Running.StartedAt.UTC().Format(time.RFC3339)
				}
			}
		}
	}
	if len(out) == 0 {
		t.Fatal("no container runs")
	}
	return out
}

// ceaselessly fetches a URL until stop is closed. A refused or broken
// connection is an error; an answer, whatever its status, is none.
func ceaselessly(url string, stop <-chan struct{}) error {
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for n := 1; ; n++ {
		_, err := getFromHost(url)
		if err != nil && !strings.HasPrefix(err.Error(), "502 ") {
			return fmt.Errorf("request %d: %w", n, err)
		}
		select {
		case <-stop:
			return nil
		case <-pause.C:
		}
	}
}
