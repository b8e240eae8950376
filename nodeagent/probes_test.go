package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead/nodeagent/pod"
	"fairlead/schema"
)

// heard collects what a probe decides, with the second it did.
type heard struct {
	began   time.Time
	said    []string
	failing int
	warned  int
}

func (h *heard) probe(kind pod.ProbeKind, spec *corev1.Probe, answers func(at time.Duration) error) probe {
	h.began = time.Now()
	return probe{
		kind: kind, spec: spec, container: &corev1.Container{}, startedAt: h.began,
		exec: func(context.Context, []string, time.Duration) (pod.ExecResult, error) {
			return pod.ExecResult{}, answers(time.Since(h.began))
		},
		decided: func(v pod.ProbeResult, message string) {
			word := map[pod.ProbeResult]string{pod.Passed: "passed", pod.Failed: "failed"}[v]
			h.said = append(h.said, time.Since(h.began).String()+" "+word+" "+message)
		},
		failing: func(string) { h.failing++ },
		warned:  func(string) { h.warned++ },
	}
}

func command(period, delay, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}},
		PeriodSeconds: period, InitialDelaySeconds: delay, FailureThreshold: failures, SuccessThreshold: 1,
	}
}

func TestProbesInTime(t *testing.T) {
	down := errors.New("down")
	between := func(from, to time.Duration) func(time.Duration) error {
		return func(at time.Duration) error {
			if at >= from && at < to {
				return down
			}
			return nil
		}
	}
	tests := []struct {
		name    string
		kind    pod.ProbeKind
		spec    *corev1.Probe
		answers func(time.Duration) error
		want    []string
	}{
		{"ready after its delay", pod.ProbeReadiness, command(10, 5, 3), between(0, 0), []string{"5s passed "}},
		{"unready after three failures, ready after one success", pod.ProbeReadiness, command(10, 0, 3), between(15*time.Second, 45*time.Second),
			[]string{"0s passed ", "40s failed readiness probe failed 3 times: down", "50s passed "}},
		{"liveness begins after a moment", pod.ProbeLiveness, command(10, 0, 2), between(5*time.Second, time.Hour), []string{"1s passed ", "21s failed liveness probe failed 2 times: down"}},
		{"a runtime that is away decides nothing", pod.ProbeLiveness, command(10, 0, 1), func(at time.Duration) error {
			if at > 5*time.Second {
				return ErrUnavailable
			}
			return nil
		}, []string{"1s passed "}},
		{"startup decides once", pod.ProbeStartup, command(1, 0, 5), between(0, 3*time.Second), []string{"3s passed "}},
		{"startup gives up", pod.ProbeStartup, command(1, 0, 5), between(0, time.Hour), []string{"4s failed startup probe failed 5 times: down"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &heard{}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				h.probe(test.kind, test.spec, test.answers).run(ctx)
				if diff := cmp.Diff(test.want, h.said); diff != "" {
					t.Errorf("decided (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// A command's time-out is the runtime's to count, from the command's start: waiting
// for a turn is no failure, however long.
func TestACommandsTimeoutBeginsWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		spec := command(10, 0, 2)
		spec.TimeoutSeconds = 3
		p := h.probe(pod.ProbeReadiness, spec, nil)
		p.exec = func(ctx context.Context, _ []string, limit time.Duration) (pod.ExecResult, error) {
			if at, ok := ctx.Deadline(); ok && at.Before(h.began.Add(time.Hour)) || limit != 3*time.Second {
				t.Errorf("the command may take %s, all of it until %v", limit, at)
			}
			time.Sleep(time.Minute) // others are before it
			return pod.ExecResult{TimedOut: time.Since(h.began) > 2*time.Minute}, ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		time.AfterFunc(5*time.Minute, cancel)
		p.run(ctx)
		want := []string{"1m0s passed ", "3m20s failed readiness probe failed 2 times: command did not end within 3s and was killed"}
		if diff := cmp.Diff(want, h.said); diff != "" {
			t.Errorf("decided (-want +got):\n%s", diff)
		}
	})
}

func portOf(t *testing.T, address string) intstr.IntOrString {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return intstr.FromInt(n)
}

func TestHTTPAndTCPProbes(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(probed))
	defer server.Close()
	u, _ := url.Parse(server.URL)
	port := portOf(t, u.Host)
	get := func(path string) corev1.ProbeHandler {
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: port}}
	}
	withHeaders := get("/header?q=1")
	withHeaders.HTTPGet.HTTPHeaders = []corev1.HTTPHeader{{Name: "X-A", Value: "b"}, {Name: "Host", Value: "shop.example"}}
	named := get("/")
	named.HTTPGet.Port = intstr.FromString("web")
	unnamed := get("/")
	unnamed.HTTPGet.Port = intstr.FromString("nothing")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closedPort := portOf(t, closed.Addr().String())
	closed.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(probed))
	defer secure.Close()
	v, _ := url.Parse(secure.URL)
	https := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Scheme: corev1.URISchemeHTTPS, Port: portOf(t, v.Host)}}
	long := strings.Repeat("x", 8<<10)
	tests := []struct {
		name          string
		handler       corev1.ProbeHandler
		want, warning string // parts of the error and of the warning; empty is none
	}{
		{"ok", get("/"), "", ""},
		{"a path without a slash", get("healthz"), "", ""},
		{"a path that is no part of an address", get("/100%"), "", ""},
		{"https, whoever signed the certificate", https, "", ""},
		{"a redirect is followed, to its end", get("/moved"), "statuscode: 500 out of order", ""},
		{"to one that is well", get("/to?" + url.QueryEscape("/")), "", ""},
		{"with the headers of the first request", get("/to-header"), "", ""},
		{"nine times", get("/hops/9"), "", ""},
		{"and no more", get("/hops/10"), "stopped after 10 redirects", ""},
		{"but not to another host", get("/to?" + url.QueryEscape("http://elsewhere.example/")), "", "302 to http://elsewhere.example/, which is not followed"},
		{"and tells of it neither query nor user", get("/to?" + url.QueryEscape("http://u:p@elsewhere.example/a?token="+long)), "", "302 to http://elsewhere.example/a, which is not followed"},
		{"nor more than its beginning", get("/to?" + url.QueryEscape("http://elsewhere.example/"+long)), "", "/xxx"},
		{"as in an error", get("/to?" + url.QueryEscape("http://127.0.0.1:1/a?token="+long)), `Get "http://127.0.0.1:1/a": `, ""},
		{"nor to nowhere", get("/nowhere"), "", "304 to nowhere"},
		{"an error is no success", get("/broken"), "statuscode: 500 out of order", ""},
		{"what breaks off is none", get("/cut"), "the answer, 200, broke off", ""},
		{"what never ends is one", get("/endless"), "", ""},
		{"headers, host and query", withHeaders, "", ""},
		{"a named port", named, "", ""},
		{"a port that has no such name", unnamed, `no port "nothing"`, ""},
		{"TCP", corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: port}}, "", ""},
		{"TCP, closed", corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: closedPort}}, "refused", ""},
		{"nothing", corev1.ProbeHandler{}, "not supported", ""},
	}
	for _, test := range tests {
		if test.name == "with the headers of the first request" {
			test.handler.HTTPGet.HTTPHeaders = withHeaders.HTTPGet.HTTPHeaders
		}
		p := probe{
			spec: &corev1.Probe{ProbeHandler: test.handler, TimeoutSeconds: 60}, ip: "127.0.0.1",
			container: &corev1.Container{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: port.IntVal}}},
		}
		warning, err := p.once(t.Context())
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
		if (test.warning == "") != (warning == "") || !strings.Contains(warning, test.warning) {
			t.Errorf("%s: warned %q, want %q", test.name, warning, test.warning)
		}
		if said := warning + fmt.Sprint(err); len(said) > 4*probeLocation+probeTold {
			t.Errorf("%s: tells %d bytes", test.name, len(said))
		}
	}
}

// However much a container makes of a message, what waits for the master is bounded.
func TestMessagesAreBounded(t *testing.T) {
	long := errors.New(strings.Repeat("x", 1<<20))
	p := probe{kind: pod.ProbeLiveness, spec: &corev1.Probe{}}
	if got := p.message(long); len(got) > messageBytes+100 {
		t.Errorf("a result of %d bytes", len(got))
	}
	m := newMachine("n1", "192.0.2.1", "boot", nil)
	m.event(m.entry("uid-1", time.Time{}), corev1.EventTypeWarning, schema.ReasonUnhealthy, "c", long.Error(), time.Time{})
	if got := m.events.waiting[0].Message; len(got) > messageBytes {
		t.Errorf("an event of %d bytes", len(got))
	}
}

// probed answers as containers do.
func probed(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case path == "/moved":
		http.Redirect(w, r, "/broken", http.StatusFound)
	case path == "/to":
		to, _ := url.QueryUnescape(r.URL.RawQuery)
		http.Redirect(w, r, to, http.StatusFound)
	case path == "/to-header":
		http.Redirect(w, r, "/header?q=1", http.StatusTemporaryRedirect)
	case strings.HasPrefix(path, "/hops/"):
		if n, _ := strconv.Atoi(path[len("/hops/"):]); n > 0 {
			http.Redirect(w, r, "/hops/"+strconv.Itoa(n-1), http.StatusMovedPermanently)
		}
	case path == "/nowhere":
		w.WriteHeader(http.StatusNotModified)
	case path == "/broken":
		http.Error(w, "out of order", http.StatusInternalServerError)
	case path == "/cut":
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "too little")
	case path == "/endless":
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<10)); err != nil {
				return
			}
		}
	case path == "/header":
		if r.Header.Get("X-A") != "b" || r.Host != "shop.example" || r.URL.Query().Get("q") != "1" {
			http.Error(w, "wrong", http.StatusBadRequest)
		}
	}
}

// What is written is sent, and nothing else but what Kubernetes sends too.
func TestHeadersOfProbes(t *testing.T) {
	const agent = "kube-probe/" + schema.KubernetesMajor + "." + schema.KubernetesMinor
	var got http.Header
	var host string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got, host = r.Header, r.Host }))
	defer server.Close()
	u, _ := url.Parse(server.URL)
	tests := []struct {
		name    string
		headers []corev1.HTTPHeader
		want    http.Header
		host    string
	}{
		{"none", nil, http.Header{"User-Agent": {agent}, "Accept": {"*/*"}}, u.Host},
		{"instead of the defaults", []corev1.HTTPHeader{{Name: "User-Agent", Value: "mine"}, {Name: "Accept", Value: "text/plain"}},
			http.Header{"User-Agent": {"mine"}, "Accept": {"text/plain"}}, u.Host},
		{"whatever their case", []corev1.HTTPHeader{{Name: "user-agent", Value: "mine"}, {Name: "ACCEPT", Value: "a/b"}, {Name: "x-tok_en", Value: "T"}},
			http.Header{"User-Agent": {"mine"}, "Accept": {"a/b"}, "X-Tok_en": {"T"}}, u.Host},
		{"an empty value takes a default away", []corev1.HTTPHeader{{Name: "User-Agent"}, {Name: "Accept"}}, http.Header{}, u.Host},
		{"an empty value of another is sent", []corev1.HTTPHeader{{Name: "X-Empty"}}, http.Header{"User-Agent": {agent}, "Accept": {"*/*"}, "X-Empty": {""}}, u.Host},
		{"a name twice", []corev1.HTTPHeader{{Name: "X-A", Value: "1"}, {Name: "X-A", Value: "2"}},
			http.Header{"User-Agent": {agent}, "Accept": {"*/*"}, "X-A": {"1", "2"}}, u.Host},
		{"a host", []corev1.HTTPHeader{{Name: "host", Value: "shop.example:81"}}, http.Header{"User-Agent": {agent}, "Accept": {"*/*"}}, "shop.example:81"},
	}
	for _, test := range tests {
		p := probe{ip: "127.0.0.1", container: &corev1.Container{}, spec: &corev1.Probe{TimeoutSeconds: 60, ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Port: portOf(t, u.Host), HTTPHeaders: test.headers},
		}}}
		if _, err := p.once(t.Context()); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		got.Del("Connection")
		if diff := cmp.Diff(test.want, got); diff != "" || host != test.host {
			t.Errorf("%s: host %s, headers (-want +got):\n%s", test.name, host, diff)
		}
	}
}

// A container is ready as soon as it answers, not a period later.
func TestReadinessIsEager(t *testing.T) {
	up := atomic.Bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	u, _ := url.Parse(server.URL)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	time.AfterFunc(50*time.Millisecond, func() { up.Store(true) })
	p := probe{
		kind: pod.ProbeReadiness, ip: "127.0.0.1", container: &corev1.Container{}, startedAt: time.Now(),
		spec:    &corev1.Probe{PeriodSeconds: 3600, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: portOf(t, u.Host)}}},
		decided: func(pod.ProbeResult, string) { cancel() },
		failing: func(message string) { t.Errorf("told as a failure: %s", message) },
	}
	p.run(ctx)
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Error("not ready in time")
	}
}
