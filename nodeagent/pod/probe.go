package pod

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// ProbeKind is what a probe decides.
type ProbeKind string

// The kinds.
const (
	ProbeStartup   ProbeKind = "Startup"
	ProbeReadiness ProbeKind = "Readiness"
	ProbeLiveness  ProbeKind = "Liveness"
)

// ProbeCount counts a probe's results in a row. The zero value has seen none.
type ProbeCount struct{ successes, failures int32 }

// ProbeResult is what a probe comes to after one more answer.
type ProbeResult int

// The results; Undecided leaves things as they are.
const (
	Undecided ProbeResult = iota
	Passed
	Failed
)

// Count adds one result and tells what it decides.
func (n *ProbeCount) Count(ok bool, p *corev1.Probe) ProbeResult {
	if ok {
		n.successes, n.failures = n.successes+1, 0
		if n.successes >= max(1, p.SuccessThreshold) {
			return Passed
		}
		return Undecided
	}
	n.successes, n.failures = 0, n.failures+1
	if n.failures >= orDefault(p.FailureThreshold, 3) {
		return Failed
	}
	return Undecided
}

// ProbeDelay is how long after the container's start the first probe runs.
func ProbeDelay(p *corev1.Probe) time.Duration {
	return time.Duration(p.InitialDelaySeconds) * time.Second
}

// ProbePeriod is the time between probes.
func ProbePeriod(p *corev1.Probe) time.Duration {
	return time.Duration(orDefault(p.PeriodSeconds, 10)) * time.Second
}

// ProbeTimeout is how long one probe may take.
func ProbeTimeout(p *corev1.Probe) time.Duration {
	return time.Duration(orDefault(p.TimeoutSeconds, 1)) * time.Second
}

func orDefault(v, d int32) int32 {
	if v <= 0 {
		return d
	}
	return v
}

// ProbesOf lists a container's probes in the order they gate each other.
func ProbesOf(c *corev1.Container) map[ProbeKind]*corev1.Probe {
	out := map[ProbeKind]*corev1.Probe{}
	if c.StartupProbe != nil {
		out[ProbeStartup] = c.StartupProbe
	}
	if c.ReadinessProbe != nil {
		out[ProbeReadiness] = c.ReadinessProbe
	}
	if c.LivenessProbe != nil {
		out[ProbeLiveness] = c.LivenessProbe
	}
	return out
}
