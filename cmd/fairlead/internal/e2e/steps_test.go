package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/schema"
)

const (
	pushTimeout = 3 * time.Minute
	callTimeout = 30 * time.Second
	// getVariable makes the test binary fetch one URL and end, so that it can
	// be run inside a pod's network.
	getVariable     = "FAIRLEAD_E2E_GET"
	resolvConfigure = "FAIRLEAD_E2E_RESOLV_CONF"
)

// eventually waits until done reports true; the last word of done says what is
// missing when it does not.
func eventually(t *testing.T, timeout time.Duration, what string, done func() (ok bool, state string)) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		began := time.Now()
		ok, state := done()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v; last: %s", what, timeout, state)
		}
		time.Sleep(min(max(shortestPause, lookCost*time.Since(began)), longestPause))
	}
}

// Between two looks, so that looking takes a small part of the machine from what is
// waited for: a look that starts a program is dearer than one at a file.
const (
	shortestPause = 50 * time.Millisecond
	longestPause  = time.Second
	lookCost      = 4
)

// fairlead calls the binary and returns its output and exit code.
func (c *cluster) fairlead(t *testing.T, args ...string) (stdout string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), pushTimeout)
	defer cancel()
	cmd := c.command(ctx, args...)
	out, err := output(cmd)
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if err != nil {
		out += err.Error()
	}
	return out, cmd.ProcessState.ExitCode()
}

// worktree is a clone of the cluster's repository that tests push from.
type worktree struct {
	dir string
}

func (c *cluster) clone(t *testing.T) worktree {
	t.Helper()
	w := worktree{dir: t.TempDir()}
	w.git(t, "clone", "--quiet", c.Git, ".")
	w.git(t, "symbolic-ref", "HEAD", "refs/heads/main")
	w.git(t, "config", "user.name", "e2e")
	w.git(t, "config", "user.email", "e2e@example.invalid")
	return w
}

// git runs git in the work tree and returns all it said; it must succeed.
func (w worktree) git(t *testing.T, args ...string) string {
	t.Helper()
	out, err := w.tryGit(t, args...)
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (w worktree) tryGit(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), pushTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// write puts files into the work tree; an empty text removes one.
func (w worktree) write(t *testing.T, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(w.dir, name)
		if text == "" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// push commits everything and pushes it, with -o wait unless other options are
// given. It returns what the remote said and git's error.
func (w worktree) push(t *testing.T, subject string, options ...string) (string, error) {
	t.Helper()
	w.git(t, "add", "--all")
	w.git(t, "commit", "--quiet", "--allow-empty", "-m", subject)
	if len(options) == 0 {
		options = []string{"-o", "wait"}
	}
	return w.tryGit(t, append(append([]string{"push"}, options...), "origin", "HEAD:main")...)
}

// pods returns the pods of a namespace whose labels hold key=value.
func (c *cluster) pods(t *testing.T, namespace, key, value string) (out []*corev1.Pod) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	all, _, err := client.List[*corev1.Pod](ctx, c.api, schema.KindPod)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if p.Namespace == namespace && p.Labels[key] == value {
			out = append(out, p)
		}
	}
	return out
}

// staying leaves out pods that are on their way out.
func staying(pods []*corev1.Pod) []*corev1.Pod {
	return slices.DeleteFunc(pods, func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
}

// process finds a process of the pod's containers by the pod's cgroup, in a
// network that is not the node's. Pods of two clusters may have one UID.
func (c *cluster) process(t *testing.T, pod *corev1.Pod) int {
	t.Helper()
	var node, own unix.Stat_t
	if err := unix.Stat(c.netNS(pod.Spec.NodeName), &node); err != nil {
		t.Fatal(err)
	}
	for pid := range pids() {
		cgroup, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if !strings.Contains(string(cgroup), fmt.Sprintf("/fairlead/%d/%s/pod%s", c.slot, pod.Spec.NodeName, pod.UID)) {
			continue
		}
		if unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &own) == nil && own.Ino != node.Ino {
			return pid
		}
	}
	t.Fatalf("pod %s/%s: no process in a cgroup of pod%s", pod.Namespace, pod.Name, pod.UID)
	return 0
}

// get fetches a URL from inside the pod's network.
func (c *cluster) get(t *testing.T, from *corev1.Pod, url string) (string, error) {
	t.Helper()
	return output(c.inPod(t, from, getVariable+"="+url))
}

// get is the other side of cluster.get: it prints the body of url.
func get(url string) int {
	body, err := fetch(clientInPod(callTimeout), url)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Print(body)
	return 0
}

// clientInPod resolves names as the pod's containers do and makes a new
// connection for each request.
func clientInPod(timeout time.Duration) *http.Client {
	dialer := &net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		server, err := nameserver(os.Getenv(resolvConfigure))
		if err != nil {
			return nil, err
		}
		var d net.Dialer
		return d.DialContext(ctx, network, net.JoinHostPort(server, "53"))
	}}}
	return &http.Client{Timeout: timeout, Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
}

func nameserver(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == "nameserver" {
			return fields[1], nil
		}
	}
	return "", fmt.Errorf("%s names no server", path)
}

func fetch(client *http.Client, url string) (string, error) {
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), err
}

// getFromHost fetches a URL from the host, a new connection each time.
func getFromHost(url string) (string, error) {
	return fetch(&http.Client{Timeout: callTimeout, Transport: &http.Transport{DisableKeepAlives: true}}, url)
}

// daemon is the pid of one of the cluster's daemons, as the supervisor wrote it.
func (c *cluster) daemon(t *testing.T, name string) int {
	t.Helper()
	pid, err := c.daemons()
	if err != nil {
		t.Fatal(err)
	}
	if pid[name] == 0 {
		t.Fatalf("daemon %s does not run: %v", name, pid)
	}
	return pid[name]
}
