package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead/nodeagent/pod"
	"fairlead/schema"
)

const (
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
	// decided is called when the result changes; failing for each failure that counts,
	// warned for each success that is ambiguous.
	decided func(v pod.ProbeResult, message string)
	failing func(message string)
	warned  func(message string)
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
		var warning string
		var err error
		if eager {
			warning, err = p.soon(ctx, period)
		} else {
			warning, err = p.once(ctx)
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
		switch {
		case err != nil:
			p.failing(err.Error())
		case warning != "":
			p.warned(warning)
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
func (p probe) soon(ctx context.Context, period time.Duration) (warning string, err error) {
	end := time.Now().Add(period)
	for wait := eagerFirst; ; wait = min(2*wait, eagerMost) {
		warning, err = p.once(ctx)
		left := time.Until(end)
		if err == nil || left <= 0 || !sleep(ctx, min(wait, left)) {
			return warning, err
		}
	}
}

func (p probe) message(err error) string {
	if err == nil {
		return ""
	}
	return schema.ProbeFailure(string(p.kind), max(1, p.spec.FailureThreshold), schema.FitText(err.Error(), messageBytes))
}

// once probes. A time-out begins with the question, for a command with its start:
// what comes before is the node's doing, not the container's. A warning tells of a
// success that may not be what was meant.
func (p probe) once(ctx context.Context) (warning string, err error) {
	if exec := p.spec.Exec; exec != nil {
		return "", p.command(ctx, pod.StaticCommand(p.container, exec.Command), pod.ProbeTimeout(p.spec))
	}
	limit := pod.ProbeTimeout(p.spec)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	warning, err = p.connect(ctx)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return "", fmt.Errorf("no answer within %s: %w", limit, err)
	}
	return warning, err
}

// connect asks over the network.
func (p probe) connect(ctx context.Context) (warning string, err error) {
	switch h := p.spec.ProbeHandler; {
	case h.HTTPGet != nil:
		return p.http(ctx, h.HTTPGet)
	case h.TCPSocket != nil:
		return "", p.tcp(ctx, h.TCPSocket)
	case h.GRPC != nil:
		return "", p.grpc(ctx, h.GRPC)
	default:
		return "", errors.New("this kind of probe is not supported")
	}
}

// hook does what a handler of a container's lifecycle says, for limit at most. What is
// asked over HTTP need only answer, whatever it says, as in Kubernetes. While the runtime
// does not answer a command waits.
func (p probe) hook(ctx context.Context, h *corev1.LifecycleHandler, limit time.Duration) error {
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := p.handle(bounded, h, limit)
	for errors.Is(err, ErrUnavailable) && sleep(bounded, retryInterval) {
		err = p.handle(bounded, h, limit)
	}
	if err != nil && errors.Is(bounded.Err(), context.DeadlineExceeded) && h.Exec == nil {
		return fmt.Errorf("it did not end within %s: %w", limit, err)
	}
	return err
}

func (p probe) handle(ctx context.Context, h *corev1.LifecycleHandler, limit time.Duration) error {
	switch {
	case h.Exec != nil:
		return p.command(ctx, h.Exec.Command, limit)
	case h.HTTPGet != nil:
		return p.ask(ctx, h.HTTPGet)
	case h.TCPSocket != nil:
		return p.tcp(ctx, h.TCPSocket)
	case h.Sleep != nil:
		sleep(ctx, time.Duration(h.Sleep.Seconds)*time.Second) // or as long as it may
		return nil
	}
	return errors.New("this kind of hook is not supported")
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

func (p probe) command(ctx context.Context, command []string, limit time.Duration) error {
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
