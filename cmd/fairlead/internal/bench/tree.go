package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// files is a tree: path -> content.
type files map[string]string

// manyObjects is a tree of n objects, one a file, a hundred files a directory:
// Deployments, their Services and ConfigMaps in equal parts. The Deployments
// have no replicas, so that objects alone are measured.
func manyObjects(n int) files {
	tree := files{}
	for i := range n {
		tree[objectPath(i)] = object(i, 1)
	}
	return tree
}

func objectPath(i int) string { return fmt.Sprintf("team-%d/object-%d.yaml", i/100, i) }

func object(i, version int) string {
	name := fmt.Sprintf("app-%d", i/3)
	switch i % 3 {
	case 0:
		return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, labels: {app: %[1]s}}
spec:
  replicas: 0
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      containers:
      - name: main
        image: localhost/app:%[2]d
        args: [serve, --port=8080]
        ports: [{name: http, containerPort: 8080}]
        env: [{name: LEVEL, value: info}]
        resources:
          requests: {cpu: 10m, memory: 16Mi}
          limits: {memory: 64Mi}
`, name, version)
	case 1:
		return fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec:
  selector: {app: %[1]s}
  ports: [{name: http, port: 80, targetPort: http}]
`, name)
	}
	return fmt.Sprintf(`apiVersion: v1
kind: ConfigMap
metadata: {name: %s}
data: {version: "%d", greeting: hello}
`, name, version)
}

// repository is a bare Git repository that commits are written into without a
// working tree.
type repository struct {
	dir     string
	commits int
}

// gitEnvironment keeps the user's configuration out of the figures.
func gitEnvironment(home string) []string {
	return append(os.Environ(), "HOME="+home, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "KUBECONFIG=")
}

func newRepository(ctx context.Context, dir string) (*repository, error) {
	cmd := exec.CommandContext(ctx, "git", "init", "--quiet", "--bare", "--initial-branch=main", dir)
	_, err := output(cmd)
	return &repository{dir: dir}, err
}

func (r *repository) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.dir
	cmd.Env = gitEnvironment(r.dir)
	out, err := output(cmd)
	return strings.TrimSpace(out), err
}

// commit puts files into the tree of branch main and takes gone out of it.
func (r *repository) commit(ctx context.Context, message string, changed files, gone ...string) error {
	var b strings.Builder
	r.commits++
	fmt.Fprintf(&b, "commit refs/heads/main\ncommitter Bench <bench@localhost> %d +0000\ndata %d\n%s\n", 1_700_000_000+r.commits, len(message), message)
	if r.commits > 1 {
		b.WriteString("from refs/heads/main^0\n")
	}
	for _, path := range gone {
		fmt.Fprintf(&b, "D %s\n", path)
	}
	for _, path := range slices.Sorted(maps.Keys(changed)) {
		fmt.Fprintf(&b, "M 100644 inline %s\ndata %d\n%s\n", path, len(changed[path]), changed[path])
	}
	cmd := exec.CommandContext(ctx, "git", "fast-import", "--quiet")
	cmd.Dir = r.dir
	cmd.Env = gitEnvironment(r.dir)
	cmd.Stdin = strings.NewReader(b.String())
	_, err := output(cmd)
	return err
}
