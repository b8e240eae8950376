package nodeagent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead/nodeagent/pod"
	"fairlead/schema"
)

const (
	// probeBody is how much of an HTTP answer is read and told.
	probeBody = 1 << 10
	// A container that was never ready is probed more often than its period
	// says, so that it is ready as soon as it answers; one failure a period
	// counts. These are the first and the longest wait between such probes.
	eagerFirst = 10 * time.Millisecond
	eagerMost  = time.Second
	// livenessFirst is the least time from start to the first liveness probe.
	livenessFirst = time.Second
)

// probe is one probe of one running container.
type probe struct {
	kind      pod.ProbeKind
	spec      *corev1.Probe
	container *corev1.Container
	id        string
	ip        string
	startedAt time.Time
	exec      func(ctx context.Context, command []string, limit time.Duration) (pod.ExecResult, error)
	// decided is called when the verdict changes; failing for each failure that counts.
	decided func(v pod.Verdict, message string)
	failing func(message string)
}

// run probes until ctx ends, or for good once a startup probe has decided.
func (p probe) run(ctx context.Context) {
	if !sleep(ctx, time.Until(p.startedAt.Add(p.delay()))) {
		return
	}
	count, last := pod.ProbeCount{}, pod.Undecided
	period := pod.ProbePeriod(p.spec)
	eager := p.kind != pod.ProbeLiveness && p.spec.Exec == nil
	for {
		var err error
		if eager {
			err = p.soon(ctx, period)
		} else {
			err = p.once(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrUnavailable) { // says nothing about the container
			if !sleep(ctx, period) {
				return
			}
			continue
		}
		if err != nil {
			p.failing(err.Error())
		}
		if v := count.Count(err == nil, p.spec); v != pod.Undecided && v != last {
			last = v
			p.decided(v, p.message(err))
			if p.kind == pod.ProbeStartup {
				return
			}
		}
		waited := eager && err != nil
		eager = eager && last != pod.Passed
		if !waited && !sleep(ctx, period) {
			return
		}
	}
}

// delay is when the first probe runs. Liveness leaves a process that was only
// just started a moment to begin.
func (p probe) delay() time.Duration {
	d := pod.ProbeDelay(p.spec)
	if p.kind == pod.ProbeLiveness {
		d = max(d, livenessFirst)
	}
	return d
}

// soon tries until the container answers or the period is over; then the last
// failure stands for the whole period.
func (p probe) soon(ctx context.Context, period time.Duration) error {
	end := time.Now().Add(period)
	for wait := eagerFirst; ; wait = min(2*wait, eagerMost) {
		err := p.once(ctx)
		left := time.Until(end)
		if err == nil || left <= 0 || !sleep(ctx, min(wait, left)) {
			return err
		}
	}
}

func (p probe) message(err error) string {
	if err == nil {
		return ""
	}
	return schema.ProbeFailure(string(p.kind), max(1, p.spec.FailureThreshold), err.Error())
}

// once probes. A time-out begins with the question, for a command with its start:
// what comes before is the node's doing, not the container's.
func (p probe) once(ctx context.Context) error {
	if exec := p.spec.Exec; exec != nil {
		return p.command(ctx, exec.Command)
	}
	limit := pod.ProbeTimeout(p.spec)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := p.connect(ctx)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s: %w", limit, err)
	}
	return err
}

// connect asks over the network.
func (p probe) connect(ctx context.Context) error {
	switch h := p.spec.ProbeHandler; {
	case h.HTTPGet != nil:
		return p.http(ctx, h.HTTPGet)
	case h.TCPSocket != nil:
		return p.tcp(ctx, h.TCPSocket)
	default:
		return errors.New("this kind of probe is not supported")
	}
}

func (p probe) address(host string, port intstr.IntOrString) (string, error) {
	if host == "" {
		host = p.ip
	}
	n := port.IntValue()
	if port.Type == intstr.String {
		n = 0
		for _, cp := range p.container.Ports {
			if cp.Name == port.StrVal {
				n = int(cp.ContainerPort)
			}
		}
	}
	if n <= 0 {
		return "", fmt.Errorf("no port %q", port.String())
	}
	return net.JoinHostPort(host, strconv.Itoa(n)), nil
}

// probeClient follows no redirect and keeps no connection: each probe is a new
// conversation. Certificates are not verified, as Kubernetes does.
var probeClient = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (p probe) http(ctx context.Context, get *corev1.HTTPGetAction) error {
	address, err := p.address(get.Host, get.Port)
	if err != nil {
		return err
	}
	u, err := url.Parse(get.Path)
	if err != nil {
		return fmt.Errorf("path: %w", err)
	}
	u.Scheme, u.Host = "http", address
	if get.Scheme != "" {
		u.Scheme = strings.ToLower(string(get.Scheme))
	}
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "fairlead-probe")
	for _, h := range get.HTTPHeaders {
		if strings.EqualFold(h.Name, "Host") {
			req.Host = h.Value
		}
		req.Header.Add(h.Name, h.Value)
	}
	res, err := probeClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= 200 && res.StatusCode < 400 {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(res.Body, probeBody))
	return fmt.Errorf("HTTP probe failed with statuscode: %d %s", res.StatusCode, strings.TrimSpace(string(body)))
}

func (p probe) tcp(ctx context.Context, socket *corev1.TCPSocketAction) error {
	address, err := p.address(socket.Host, socket.Port)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (p probe) command(ctx context.Context, command []string) error {
	limit := pod.ProbeTimeout(p.spec)
	r, err := p.exec(ctx, command, limit)
	switch {
	case err != nil:
		return err
	case r.TimedOut:
		said := strings.TrimSpace(r.Output)
		if said != "" {
			said = ": " + said
		}
		return fmt.Errorf("command did not end within %s and was killed%s", limit, said)
	case r.Code != 0:
		return fmt.Errorf("command exited with code %d: %s", r.Code, strings.TrimSpace(r.Output))
	}
	return nil
}

// sleep waits and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
