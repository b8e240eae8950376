package nodeagent

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/pod"
	"fairlead/schema"
)

// Hook is a hook of a container to run beside everything else, for Limit at most. Hooked
// answers, unless the container has ended meanwhile. One that is cut short with the agent
// is handed out again by the next: a hook runs at least once.
type Hook struct {
	Pod   types.UID
	ID    string // of the container
	IP    string
	Spec  *corev1.Container
	Kind  schema.HookKind
	Limit time.Duration
}

func hookKey(id string, kind schema.HookKind) string { return string(kind) + " " + id }

// begins notes when the pod as a whole began to end.
func (e *entry) begins(op pod.Operation, now time.Time) {
	if op.Ending && e.obs.EndingAt.IsZero() {
		e.obs.EndingAt, e.unsaved = now, true
	}
}

// hook hands out a hook that is not running. Of a preStop hook it is noted that it began:
// how much of the grace is left is known to whoever comes after this agent.
func (m *machine) hook(e *entry, op pod.Operation, now time.Time, fx *effects) {
	key := hookKey(op.ID, op.Hook)
	if e.hooks[key] {
		return
	}
	if e.hooks == nil {
		e.hooks = map[string]bool{}
	}
	e.hooks[key] = true
	e.begins(op, now)
	if c := e.obs.Containers[op.Container]; op.Hook == schema.PreStop && c.PreStopAt.IsZero() {
		c.PreStopAt, c.StopReason, c.StopGrace = now, op.Reason, op.Grace
		e.obs.Containers[op.Container] = c
		e.touch()
		m.event(e, corev1.EventTypeNormal, "Killing", op.Container, "stopping container "+op.Container+": "+op.Reason+"; its preStop hook runs", now)
	}
	h := Hook{Pod: e.obs.UID, ID: op.ID, IP: e.obs.IPs.First(), Spec: containerSpec(e.wanted, op.Container), Kind: op.Hook, Limit: op.Grace}
	if left, ok := sleepLeft(h, e.obs.Containers[op.Container], now); ok {
		h.Limit = min(h.Limit, left)
	}
	fx.hooks = append(fx.hooks, h)
}

// sleepLeft is how much a preStop hook that only waits has still to wait; ok is false for
// any other. Part of it may have passed under an earlier agent.
func sleepLeft(h Hook, c pod.Container, now time.Time) (left time.Duration, ok bool) {
	if h.Kind != schema.PreStop || h.Spec == nil {
		return 0, false
	}
	hook := schema.Hooks(h.Spec)[h.Kind]
	if hook == nil || hook.Sleep == nil {
		return 0, false
	}
	return max(0, c.PreStopAt.Add(time.Duration(hook.Sleep.Seconds)*time.Second).Sub(now)), true
}

// hooked notes how a hook ended, failed "" for well. A preStop hook that failed keeps no
// container from its end; a postStart hook that failed ends it.
func (m *machine) hooked(uid types.UID, id string, kind schema.HookKind, failed string, now time.Time) {
	e, name, c := m.container(uid, id)
	if e == nil {
		return
	}
	delete(e.hooks, hookKey(id, kind))
	if c.State != pod.StateRunning {
		return
	}
	failed = schema.FitText(failed, messageBytes)
	switch {
	case kind == schema.PreStop:
		c.PreStopped = true
	case failed == "":
		c.PostStarted = true
	default:
		c.PostStartFailed = "its postStart hook failed: " + failed
	}
	e.obs.Containers[name] = c
	if failed != "" {
		reason := schema.ReasonPostStartFailed
		if kind == schema.PreStop {
			reason = schema.ReasonPreStopFailed
		}
		m.event(e, corev1.EventTypeWarning, reason, name, fmt.Sprintf("%s hook failed: %s", kind, failed), now)
	}
	e.touch()
	m.gate(e)
}

// forgetHooks takes back what runs for a container that has ended, or that Podman does not
// know any more: its hooks were cut short, and one that is back is to have them again.
func (e *entry) forgetHooks(id string) {
	for _, kind := range []schema.HookKind{schema.PostStart, schema.PreStop} {
		delete(e.hooks, hookKey(id, kind))
	}
}
