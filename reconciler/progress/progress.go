// Package progress answers "how far is it?": a revision and the workloads of its
// source, told in lines. A push that waits and `fairlead status` read the same
// lines. Pure; it imports nothing of the master's, since the client uses it on
// what the API gave it.
package progress

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
)

// Ended reports whether the revision's story is over, and whether it ended well. A
// held one waits for another commit: nothing more happens to it by itself.
func Ended(rev *schema.Revision) (ended, healthy bool) {
	switch rev.Status.Phase {
	case schema.PhaseHealthy:
		return true, true
	case schema.PhaseInvalid, schema.PhaseHeld, schema.PhaseFailed, schema.PhaseRolledBack, schema.PhaseSuperseded:
		return true, false
	}
	return false, false
}

// Reason is why the revision is in its phase.
func Reason(rev *schema.Revision) string {
	if n := len(rev.Status.Phases); n > 0 {
		return rev.Status.Phases[n-1].Reason
	}
	return ""
}

// Line is one workload's state: "deployment shop/api: 1 of 3 updated, 2 ready".
func Line(d *appsv1.Deployment) string {
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	name := fmt.Sprintf("deployment %s/%s", d.Namespace, d.Name)
	s := d.Status
	switch {
	case s.ObservedGeneration < d.Generation:
		return name + ": not looked at yet"
	case s.UpdatedReplicas < want:
		return fmt.Sprintf("%s: %d of %d updated, %d available", name, s.UpdatedReplicas, want, s.AvailableReplicas)
	case s.Replicas > s.UpdatedReplicas:
		return fmt.Sprintf("%s: %d old to stop, %d of %d available", name, s.Replicas-s.UpdatedReplicas, s.AvailableReplicas, want)
	case s.AvailableReplicas < want:
		return fmt.Sprintf("%s: %d of %d available", name, s.AvailableReplicas, want)
	}
	return fmt.Sprintf("%s: %d of %d available, done", name, s.AvailableReplicas, want)
}

// Lines tells every deployment's state, sorted by name.
func Lines(deployments []*appsv1.Deployment) []string {
	out := make([]string, 0, len(deployments))
	for _, d := range deployments {
		out = append(out, Line(d))
	}
	slices.Sort(out)
	return out
}

// Trouble tells why pods do not run, a line each, sorted: the container's
// waiting reason or the scheduler's refusal.
func Trouble(pods []*corev1.Pod) []string {
	var out []string
	for _, p := range pods {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
				out = append(out, line("pod %s/%s: %s: %s", p.Namespace, p.Name, c.Reason, c.Message))
			}
		}
		for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			w := c.State.Waiting
			if w == nil || w.Reason == "" || w.Reason == "ContainerCreating" || w.Reason == "PodInitializing" {
				continue
			}
			out = append(out, strings.TrimSuffix(line("pod %s/%s: container %s: %s: %s", p.Namespace, p.Name, c.Name, w.Reason, w.Message), ": "))
		}
	}
	slices.Sort(out)
	return out
}

// Nodes tells which nodes are not what they should be, a line each, in the order
// given.
func Nodes(nodes []*corev1.Node) []string {
	var out []string
	for _, n := range nodes {
		for _, c := range n.Status.Conditions {
			if (c.Type == corev1.NodeReady) != (c.Status == corev1.ConditionTrue) {
				out = append(out, line("node %s: %s: %s", n.Name, c.Reason, c.Message))
			}
		}
	}
	return out
}

// Verdict is the last line of a story: "HEALTHY main-4f2a1c0d9b3e: ..." or
// "FAILED ...". A story that goes on is "ROLLING OUT".
func Verdict(rev *schema.Revision) string {
	ended, healthy := Ended(rev)
	word := "ROLLING OUT"
	switch {
	case healthy:
		word = "HEALTHY"
	case ended && rev.Status.Phase == schema.PhaseSuperseded:
		word = "SUPERSEDED"
	case ended:
		word = "FAILED"
	}
	verdict := word + " " + rev.Name
	if rev.Status.Phase == schema.PhaseHeld {
		verdict += ": held"
	}
	if r := Reason(rev); r != "" {
		verdict += ": " + r
	}
	return schema.Printable(verdict)
}

// line is one line, whatever nodes and registries said.
func line(format string, args ...any) string {
	return schema.Printable(fmt.Sprintf(format, args...))
}
