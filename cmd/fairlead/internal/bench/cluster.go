package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"fairlead/cmd/fairlead/internal/local"
)

const (
	// image holds the program that the measured containers run.
	image       = "localhost/fairlead-bench:1"
	clusterSize = 2
	upTimeout   = 3 * time.Minute
	downTimeout = 2 * time.Minute
	// runningTimeout bounds the wait for containers after a push.
	runningTimeout = time.Minute
	// logPoll is how often new logs are looked for; what is measured stands in
	// them and does not depend on it.
	logPoll = 20 * time.Millisecond
)

// cluster is one that `fairlead up` made for the bench.
type cluster struct {
	bench  *bench
	dir    string
	home   string
	remote string
	pids   map[string]int // of its daemons: master, n1/agent, n1/dns, ...
	work   *repository
	tree   files
	seen   map[string]bool // logs of containers already counted
	raw    []*rawPodman    // of each node, once started
}

// onCluster measures P17, P5 and P4 on a cluster of two nodes.
func onCluster(ctx context.Context, b *bench) (rows []row, err error) {
	if err := b.buildImage(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, removeImage()) }()
	c, err := b.up(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.down()) }()
	for _, measure := range []func(context.Context) ([]row, error){c.idle, c.compared} {
		more, err := measure(ctx)
		rows = append(rows, more...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// compared are the measurements beside raw Podman services.
func (c *cluster) compared(ctx context.Context) ([]row, error) {
	if err := c.startRaw(ctx); err != nil {
		return nil, err
	}
	rows, err := c.replica(ctx)
	if err != nil {
		return rows, err
	}
	more, err := c.burst(ctx)
	return append(rows, more...), err
}

// buildImage puts the image into the host's storage, which the nodes see.
func (b *bench) buildImage(ctx context.Context) error {
	dir := filepath.Join(b.work, "image")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "program"), "fairlead/cmd/fairlead/internal/bench/program")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if _, err := output(build); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "Containerfile"), []byte("FROM scratch\nCOPY program /program\nENTRYPOINT [\"/program\"]\n"), 0o600); err != nil {
		return err
	}
	_, err := output(exec.CommandContext(ctx, "podman", "build", "--quiet", "--tag", image, dir))
	return err
}

func removeImage() error {
	ctx, cancel := context.WithTimeout(context.Background(), downTimeout)
	defer cancel()
	_, err := output(exec.CommandContext(ctx, "podman", "rmi", "--force", image))
	return err
}

func (b *bench) up(ctx context.Context) (*cluster, error) {
	c := &cluster{bench: b, dir: filepath.Join(b.work, "up"), home: filepath.Join(b.work, "home"), tree: files{}, seen: map[string]bool{}}
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	out, err := output(c.fairlead(ctx, "up", "--dir", c.dir, "--nodes", fmt.Sprint(clusterSize), "-o", "json"))
	if err != nil {
		return nil, errors.Join(err, c.down())
	}
	var result struct{ Git string }
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		return nil, errors.Join(err, c.down())
	}
	c.remote = result.Git
	if c.pids, err = c.daemons(); err == nil {
		c.work, err = newRepository(ctx, filepath.Join(b.work, "work.git"))
	}
	if err != nil {
		return nil, errors.Join(err, c.down())
	}
	return c, nil
}

func (c *cluster) fairlead(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bench.bin, "fairlead"), args...)
	cmd.Env = gitEnvironment(c.home)
	return cmd
}

func (c *cluster) down() error {
	for _, service := range c.raw {
		service.end()
	}
	ctx, cancel := context.WithTimeout(context.Background(), downTimeout)
	defer cancel()
	_, err := output(c.fairlead(ctx, "down", "--purge", "--dir", c.dir))
	removeCgroups(c.cgroup())
	return err
}

// cgroup is the parent of what the bench runs beside the product.
func (c *cluster) cgroup() string { return "/" + filepath.Base(c.bench.work) }

// daemons reads the supervisor's file.
func (c *cluster) daemons() (map[string]int, error) {
	data, err := os.ReadFile(filepath.Join(c.dir, "supervisor.json"))
	if err != nil {
		return nil, err
	}
	var state struct {
		Children map[string]struct {
			PID int `json:"pid"`
		} `json:"children"`
	}
	if err := json.Unmarshal(data, &state); err != nil {
		return nil, err
	}
	out := map[string]int{}
	for name, child := range state.Children {
		out[name] = child.PID
	}
	return out, nil
}

func node(i int) string { return fmt.Sprintf("n%d", i%clusterSize+1) }

// startRaw starts a raw Podman service on every node.
func (c *cluster) startRaw(ctx context.Context) error {
	logs := filepath.Join(c.bench.work, "logs")
	if err := os.MkdirAll(logs, 0o700); err != nil {
		return err
	}
	runtime, _ := local.ChooseRuntime(local.Examine(local.DefaultDir, ""))
	for i := range clusterSize {
		service, err := startRaw(ctx, c.pids[node(i)+"/agent"], runtime, c.cgroup(), logs)
		if err != nil {
			return err
		}
		c.raw = append(c.raw, service)
	}
	return nil
}

// push commits a change of the tree and pushes it. The time it returns is of
// just before the push.
func (c *cluster) push(ctx context.Context, message string, changed files, gone ...string) (time.Time, error) {
	if err := c.work.commit(ctx, message, changed, gone...); err != nil {
		return time.Time{}, err
	}
	start := time.Now()
	_, err := c.work.git(ctx, "push", "--quiet", c.remote, "main")
	return start, err
}

// awaitRunning waits for n containers that have not been seen before, and
// returns when the last of them said that it runs, and where.
func (c *cluster) awaitRunning(ctx context.Context, n int) (last time.Time, log string, err error) {
	ctx, cancel := context.WithTimeout(ctx, runningTimeout)
	defer cancel()
	for found := 0; ; {
		logs, err := filepath.Glob(filepath.Join(c.dir, "nodes", "*", "pods", "*", "logs", "*", "*.log"))
		if err != nil {
			return last, log, err
		}
		for _, l := range logs {
			if c.seen[l] {
				continue
			}
			if at, ok := spoke(l); ok {
				c.seen[l] = true
				found++
				if at.After(last) {
					last, log = at, l
				}
			}
		}
		if found >= n {
			return last, log, nil
		}
		select {
		case <-time.After(logPoll):
		case <-ctx.Done():
			return last, log, fmt.Errorf("%d of %d containers run: %w", found, n, ctx.Err())
		}
	}
}

// settled waits until the cluster has rolled the last push out.
func (c *cluster) settled(ctx context.Context) error {
	_, err := output(c.fairlead(ctx, "status", "--wait", "--kubeconfig", filepath.Join(c.dir, "kubeconfig"), "--timeout", "1m"))
	return err
}

// awaitPods waits until the nodes keep n pods and no more.
func (c *cluster) awaitPods(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, runningTimeout)
	defer cancel()
	for {
		pods, err := filepath.Glob(filepath.Join(c.dir, "nodes", "*", "pods", "*"))
		if err != nil || len(pods) == n {
			return err
		}
		select {
		case <-time.After(logPoll):
		case <-ctx.Done():
			return fmt.Errorf("%d pods are there, not %d: %w", len(pods), n, ctx.Err())
		}
	}
}

// pause lets what a measurement set in motion come to an end.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pods is n pods of one container in one manifest.
func pods(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: Pod
metadata: {name: burst-%d}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: main
    image: %s
    resources: {requests: {cpu: 5m, memory: 4Mi}}
`, i, image)
	}
	return b.String()
}

func deployment(replicas int) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: replica}
spec:
  replicas: %d
  selector: {matchLabels: {app: replica}}
  template:
    metadata: {labels: {app: replica}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: main
        image: %s
        resources: {requests: {cpu: 5m, memory: 4Mi}}
`, replicas, image)
}
