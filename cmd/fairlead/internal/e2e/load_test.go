package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// loadVariable makes the test binary fetch URLs until its input ends, so
	// that it can be run inside a pod's network.
	loadVariable = "FAIRLEAD_E2E_LOAD"
	// loadPause is between two requests of one client.
	loadPause = 20 * time.Millisecond
	// loadTimeout is when a request counts as failed: on a busy machine one takes seconds
	// that is not lost.
	loadTimeout = 15 * time.Second
	// maxFailures bounds what a tally quotes.
	maxFailures = 10
)

// tally is what a client lived through.
type tally struct {
	Requests int
	Failed   int
	Failures []string // the first ones
	Slowest  time.Duration
	SlowAt   time.Time // when the slowest began
}

func (s *tally) count(url string, began time.Time, err error) {
	s.Requests++
	if took := time.Since(began); took > s.Slowest {
		s.Slowest, s.SlowAt = took, began
	}
	if err == nil {
		return
	}
	if s.Failed++; len(s.Failures) < maxFailures {
		s.Failures = append(s.Failures, fmt.Sprintf("%s %s: %v", began.Format(clock), url, err))
	}
}

// fetchAll asks each URL in turn, a new connection each time, until stop is closed.
func fetchAll(client *http.Client, urls []string, stop <-chan struct{}) (s tally) {
	pause := time.NewTicker(loadPause)
	defer pause.Stop()
	for n := 0; ; n++ {
		url, began := urls[n%len(urls)], time.Now()
		_, err := fetch(client, url)
		s.count(url, began, err)
		select {
		case <-stop:
			return s
		case <-pause.C:
		}
	}
}

// load is the other side of cluster.load: it prints its tally when its input ends.
func load(urls []string) int {
	client := clientInPod(loadTimeout)
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // the end of it is all there is
		close(stop)
	}()
	if err := json.NewEncoder(os.Stdout).Encode(fetchAll(client, urls, stop)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// traffic is clients at work. End stops them and returns their tallies by name.
type traffic struct {
	t       *testing.T
	stop    []func() (tally, error)
	names   []string
	endOnce sync.Once
	tallies map[string]tally
}

// fromHost adds a client on the host.
func (f *traffic) fromHost(name string, urls ...string) {
	stop, done := make(chan struct{}), make(chan tally, 1)
	client := &http.Client{Timeout: loadTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	go func() { done <- fetchAll(client, urls, stop) }()
	f.add(name, func() (tally, error) { close(stop); return <-done, nil })
}

// fromPod adds a client in the network of a pod.
func (f *traffic) fromPod(name string, c *cluster, pod *corev1.Pod, urls ...string) {
	f.t.Helper()
	cmd := c.inPod(f.t, pod, loadVariable+"="+strings.Join(urls, " "))
	var out, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.add(name, func() (s tally, err error) {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			return s, fmt.Errorf("client %s: %w\n%s", name, err, stderr.String())
		}
		return s, json.Unmarshal([]byte(out.String()), &s)
	})
}

func (f *traffic) add(name string, stop func() (tally, error)) {
	f.names = append(f.names, name)
	f.stop = append(f.stop, stop)
}

// newTraffic is without clients. It ends with the test at the latest.
func newTraffic(t *testing.T) *traffic {
	f := &traffic{t: t, tallies: make(map[string]tally)}
	t.Cleanup(func() { f.end() })
	return f
}

func (f *traffic) end() map[string]tally {
	f.endOnce.Do(func() {
		for i, stop := range f.stop {
			s, err := stop()
			if err != nil {
				f.t.Error(err)
			}
			f.tallies[f.names[i]] = s
		}
	})
	return f.tallies
}

// tell ends the clients and puts what they lived through in the test's log.
func (f *traffic) tell() map[string]tally {
	f.t.Helper()
	for _, name := range sorted(f.end()) {
		s := f.tallies[name]
		f.t.Logf("%s: %d requests, %d failed, the slowest took %v at %s", name, s.Requests, s.Failed, s.Slowest.Round(time.Millisecond), s.SlowAt.Format(clock))
	}
	return f.tallies
}

// endFlawless ends the clients and fails the test for every request that failed.
func (f *traffic) endFlawless() {
	f.t.Helper()
	all := f.tell()
	for _, name := range sorted(all) {
		if s := all[name]; s.Failed > 0 || s.Requests == 0 {
			f.t.Errorf("%s: %d of %d requests failed:\n%s", name, s.Failed, s.Requests, strings.Join(s.Failures, "\n"))
		}
	}
}

// inPod prepares a run of this test binary in the network of a pod, resolving
// names as its containers do.
func (c *cluster) inPod(t *testing.T, pod *corev1.Pod, setting string) *exec.Cmd {
	t.Helper()
	pid := c.process(t, pod)
	resolv, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/etc/resolv.conf", pid))
	if err != nil {
		t.Fatal(err)
	}
	// A copy: the process may be gone when the client asks its next name.
	own, err := os.CreateTemp(t.TempDir(), "resolv.conf-*")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if _, err := own.Write(resolv); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", pid), self)
	cmd.Env = append(os.Environ(), setting, resolvConfigure+"="+own.Name())
	return cmd
}
