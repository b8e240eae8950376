package api

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

var kubectlDir string

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if kubectlDir != "" {
			os.RemoveAll(kubectlDir)
		}
		os.Exit(code)
	}))
}

// buildKubectl links the kubectl of the k8s.io/kubectl module, once a test run.
var buildKubectl = sync.OnceValues(func() (string, error) {
	var err error
	if kubectlDir, err = os.MkdirTemp("", "fairlead-kubectl-"); err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2", "-o", filepath.Join(kubectlDir, "kubectl"), "fairlead/cmd/fairlead-kubectl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build kubectl: %w\n%s", err, out)
	}
	return kubectlDir, nil
})

// TestKubectl holds conversations of an unmodified kubectl with the server over
// the sample cluster. Ages are counted from sampleNow, so output is exact. With
// UPDATE set in the environment the output found is written into the cases.
func TestKubectl(t *testing.T) {
	dir, err := buildKubectl()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/kubectl",
		UpdateScripts: os.Getenv("UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			ts := startServer(env.T().(testing.TB))
			env.Values["server"] = ts
			env.Values["follow"] = &follower{}
			env.Setenv("PATH", dir+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TZ", "UTC")
			env.Setenv("SERVER", ts.url)
			env.Setenv("KUBECONFIG", filepath.Join(env.WorkDir, "kubeconfig"))
			return writeKubeconfig(ts, filepath.Join(env.WorkDir, "kubeconfig"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"change": cmdChange, "agent": cmdAgent, "follow": cmdFollow},
	})
}

func writeKubeconfig(ts *testServer, path string) error {
	cert := ts.ca.issue(ts.t, "reader:ada")
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return err
	}
	text := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	config := map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []any{map[string]any{"name": "test", "cluster": map[string]any{"server": ts.url, "certificate-authority-data": ts.ca.pem()}}},
		"users": []any{map[string]any{"name": "ada", "user": map[string]any{
			"client-certificate-data": text("CERTIFICATE", cert.Certificate[0]), "client-key-data": text("PRIVATE KEY", key),
		}}},
		"contexts": []any{map[string]any{"name": "test", "context": map[string]any{"cluster": "test", "user": "ada", "namespace": "shop"}}},
	}
	data, err := json.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// cmdChange changes the cluster: "change ready POD", "change delete POD".
func cmdChange(ts *testscript.TestScript, _ bool, args []string) {
	server := ts.Value("server").(*testServer)
	server.publish(func(tx *state.Txn) {
		switch args[0] {
		case "ready":
			pod, _ := state.Get[*corev1.Pod](tx, "shop", args[1])
			pod = state.Edit(pod)
			pod.Status.ContainerStatuses[0].Ready = true
			pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
			tx.Put(pod)
		case "delete":
			tx.Delete(schema.Key{Kind: schema.KindPod, Namespace: "shop", Name: args[1]})
		default:
			ts.Fatalf("change %s is unknown", args[0])
		}
	})
}

// cmdAgent connects a node's agent: "agent NODE FILE". It answers every log
// request with the options it was asked with and the file; a followed log stays
// open. Options "previous" finds nothing.
func cmdAgent(ts *testscript.TestScript, _ bool, args []string) {
	server, client := ts.Value("server").(*testServer), ts.Value("server").(*testServer).client("node:"+args[0])
	content := ts.ReadFile(args[1])
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.url+wire.PathWork, nil)
	ts.Check(err)
	resp, err := client.Do(req)
	ts.Check(err)
	var posts sync.WaitGroup
	done := make(chan struct{})
	go func() {
		defer close(done)
		frames := json.NewDecoder(resp.Body)
		for {
			var frame wire.Frame
			if frames.Decode(&frame) != nil {
				return
			}
			for _, req := range frame.Logs {
				posts.Go(func() { answerLog(ctx, server.url, client, req, content) })
			}
		}
	}()
	ts.Defer(func() {
		cancel()
		resp.Body.Close()
		<-done
		posts.Wait()
	})
}

func answerLog(ctx context.Context, url string, client *http.Client, log wire.LogRequest, content string) {
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+wire.PathLogs+log.ID, r)
	if err != nil {
		panic(err)
	}
	if log.Options.Previous {
		req.Header.Set(wire.HeaderLogError, "previous container \""+log.Container+"\" not found")
	}
	go func() {
		if log.Options.Previous {
			w.Close()
			return
		}
		opts, _ := json.Marshal(log.Options)
		fmt.Fprintf(w, "%s %s\n%s", log.Pod, opts, content)
		if !log.Options.Follow {
			w.Close()
		}
	}()
	if resp, err := client.Do(req); err == nil {
		resp.Body.Close()
	}
	r.Close()
}

// follower is a command that goes on while the script does.
type follower struct {
	cmd   *exec.Cmd
	lines chan string
	seen  []string
}

// cmdFollow runs a command beside the script: "follow start CMD...", "follow
// watching" waits until the server has a watch open, "follow lines N" until the
// command has printed N lines in all, "follow stop" interrupts it and prints them.
func cmdFollow(ts *testscript.TestScript, _ bool, args []string) {
	f, server := ts.Value("follow").(*follower), ts.Value("server").(*testServer)
	switch args[0] {
	case "start":
		f.start(ts, args[1:])
	case "watching":
		await(server.t, func() bool { return server.watches.Load() == 1 })
	case "lines":
		want, err := strconv.Atoi(args[1])
		ts.Check(err)
		late := time.After(patience)
		for len(f.seen) < want {
			select {
			case line, ok := <-f.lines:
				if !ok {
					ts.Fatalf("ended after %q", f.seen)
				}
				f.seen = append(f.seen, line)
			case <-late:
				ts.Fatalf("got %d lines in time, want %d: %q", len(f.seen), want, f.seen)
			}
		}
	case "stop":
		ts.Check(f.cmd.Process.Signal(os.Interrupt))
		kill := time.AfterFunc(5*time.Second, func() { _ = f.cmd.Process.Kill() }) // what it printed is still judged
		for line := range f.lines {
			f.seen = append(f.seen, line)
		}
		kill.Stop()
		_ = f.cmd.Wait() // interrupted
		await(server.t, func() bool { return server.watches.Load() == 0 })
		fmt.Fprintln(ts.Stdout(), strings.Join(f.seen, "\n"))
		*f = follower{}
	}
}

func (f *follower) start(ts *testscript.TestScript, args []string) {
	f.cmd = exec.Command(filepath.Join(kubectlDir, args[0]), args[1:]...)
	f.cmd.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"), "KUBECONFIG="+ts.Getenv("KUBECONFIG"), "TZ=UTC")
	out, err := f.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(f.cmd.Start())
	f.lines = make(chan string, 1000)
	go func(lines chan<- string) {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}(f.lines)
	ts.Defer(func() {
		if f.cmd != nil {
			_ = f.cmd.Process.Kill() // the script failed before its stop
			_ = f.cmd.Wait()
		}
	})
}
