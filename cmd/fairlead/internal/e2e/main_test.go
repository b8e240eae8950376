package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/cmd/fairlead/internal/client"
)

const (
	buildTimeout = 10 * time.Minute
	upTimeout    = 4 * time.Minute
	downTimeout  = 2 * time.Minute
	nodeCount    = 3
)

// binaries is where TestMain builds fairlead and its hook.
var binaries string

func TestMain(m *testing.M) {
	if url := os.Getenv(getVariable); url != "" {
		os.Exit(get(url))
	}
	if urls := os.Getenv(loadVariable); urls != "" {
		os.Exit(load(strings.Fields(urls)))
	}
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	work, err := os.MkdirTemp("", "fairlead-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(work)
	binaries = filepath.Join(work, "bin")
	if err := build(work); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// build makes the binaries, the images of the example and that of the witnesses, all
// three at once: each mostly waits for one linker.
func build(work string) error {
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	root, err := output(exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}"))
	if err != nil {
		return err
	}
	root = strings.TrimSpace(root)
	var all sync.WaitGroup
	var errs [3]error
	all.Go(func() {
		errs[0] = compile(ctx, root, binaries, "./cmd/fairlead", "./cmd/fairlead-hook", "./cmd/fairlead-oci")
	})
	all.Go(func() {
		_, errs[1] = output(exec.CommandContext(ctx, filepath.Join(root, "examples/shop/images/build.sh"), "v1", "v2"))
	})
	all.Go(func() { errs[2] = buildWitness(ctx, root, filepath.Join(work, "witness")) })
	all.Wait()
	return errors.Join(errs[:]...)
}

// compile builds programs of the tree into a directory.
func compile(ctx context.Context, root, dir string, programs ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-trimpath", "-ldflags", "-s -w", "-o", dir + "/"}, programs...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	_, err := output(cmd)
	return err
}

// output runs a command and returns its standard output; the error carries
// what it said on standard error.
func output(cmd *exec.Cmd) (string, error) {
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, stderr.String())
	}
	return string(out), nil
}

// cluster is one cluster that `fairlead up` made.
type cluster struct {
	dir  string
	home string // where its commands find ~/.config
	result
	slot   int // where all that is its own on the host is found
	api    *client.Client
	before traces // of the host, before up
	links  []string
}

// result is what `fairlead up -o json` promises.
type result struct {
	Git        string `json:"git"`
	API        string `json:"api"`
	Kubeconfig string `json:"kubeconfig"`
	Nodes      []struct {
		Name    string `json:"name"`
		Address string `json:"address"`
	} `json:"nodes"`
	NotServing []string `json:"notServing"`
}

// command prepares a call of fairlead as this cluster's user.
func (c *cluster) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(binaries, "fairlead"), args...)
	cmd.Env = append(os.Environ(), "HOME="+c.home, "KUBECONFIG=")
	return cmd
}

func (c *cluster) up(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), upTimeout)
	defer cancel()
	if c.before.tables == nil {
		if err := c.before.take(); err != nil {
			return err
		}
	}
	out, err := output(c.command(ctx, append([]string{"up", "--dir", c.dir, "-o", "json"}, args...)...))
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), &c.result); err != nil {
		return fmt.Errorf("up -o json printed %q: %w", out, err)
	}
	if err := c.remember(); err != nil {
		return err
	}
	c.api, err = client.Open(c.Kubeconfig)
	return err
}

// downClean takes the cluster down and fails if anything of it is left.
func (c *cluster) downClean() error {
	ctx, cancel := context.WithTimeout(context.Background(), downTimeout)
	defer cancel()
	remembered := c.remember() // a failed up leaves something too
	if _, err := output(c.command(ctx, "down", "--dir", c.dir)); err != nil {
		return err
	}
	if remembered != nil {
		return nil // it never had a slot
	}
	left, err := c.left()
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("down left behind:\n%s", strings.Join(left, "\n"))
	}
	return nil
}
