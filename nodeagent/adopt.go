package nodeagent

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/pod"
	"fairlead/schema"
)

// adopt takes over what an earlier life of the agent left: its records, the
// node's containers and sandboxes. Containers are believed before records.
func (m *machine) adopt(records []pod.Observed, found []pod.Found, sandboxes map[types.UID]netip.Addr, now time.Time) {
	alive := slices.ContainsFunc(found, lives)
	for _, o := range records {
		booted := !m.sameBoot(o.BootID) && !alive
		if booted {
			ended(&o)
		}
		o.BootID = m.bootID
		if o.StartedAt.IsZero() {
			o.StartedAt, o.Grace = now, strayGrace
		}
		e := &entry{obs: o, booted: booted}
		m.pods[o.UID] = e
		e.touch()
	}
	for uid := range sandboxes {
		e := m.entry(uid, now)
		e.obs.Released = false
	}
	m.sync(found, nil, now)
	for uid, ip := range sandboxes {
		// An agent that lost its directory, or has an old one back, has no or another
		// address on record; containers may live with the one that the sandbox has.
		if e := m.pods[uid]; ip.IsValid() && e.obs.IPs.First() != ip.String() {
			e.obs.IPs = schema.List[string]{ip.String()}
			e.touch()
		}
	}
	for uid, e := range m.pods {
		if ip, err := netip.ParseAddr(e.obs.IPs.First()); err == nil && !e.obs.Released {
			m.addresses.keep(uid, ip, now)
		}
	}
}

// lives reports whether something runs. Whatever the boot id says, nothing of a node
// has ended with a boot when that is so of anything: a boot ends all of it.
func lives(f pod.Found) bool { return f.State != pod.StateCreated && f.State != pod.StateExited }

// sameBoot reports whether a record is of this boot. Earlier versions wrote the
// kernel's part of the id alone.
func (m *machine) sameBoot(id string) bool {
	return id == m.bootID || id != "" && strings.HasPrefix(m.bootID, id+"-")
}

// ended is a pod's record after the machine booted: nothing of it runs, and what failed
// before says nothing of now. What is tried again is tried at once.
func ended(o *pod.Observed) {
	o.Setup = pod.Failure{}
	for name, c := range o.Containers {
		if c.State == pod.StateRunning || c.State == pod.StateUnknown {
			c = c.Exited(pod.Exit{Code: 137, Unknown: true, Rebooted: true, FinishedAt: c.StartedAt})
		}
		c.Crashes, c.Failure = 0, pod.Failure{}
		o.Containers[name] = c
	}
}

// startOver makes the init containers of a pod due again: what they prepared in
// memory is gone with the boot. A pod that had ended stays so.
func (e *entry) startOver() {
	e.booted = false
	p := e.wanted.Pod
	if _, done := pod.Outcome(p, &e.obs); done {
		return
	}
	e.obs.Initialized = len(p.Spec.InitContainers) == 0
	for i := range p.Spec.InitContainers {
		name := p.Spec.InitContainers[i].Name
		if c, ok := e.obs.Containers[name]; ok && c.State != pod.StateRunning {
			c.State = pod.StateNone
			e.obs.Containers[name] = c
		}
	}
}

// listing remembers, per pod, the change count at the time a listing began.
func (m *machine) listing() map[types.UID]uint64 {
	seen := make(map[types.UID]uint64, len(m.pods))
	for uid, e := range m.pods {
		if !e.busy {
			seen[uid] = e.changes
		}
	}
	return seen
}

// listed is sync with a listing that the runtime answered.
func (m *machine) listed(found []pod.Found, seen map[types.UID]uint64, now time.Time) {
	m.problem.runtime.over()
	m.sync(found, seen, now)
}

// sync corrects what the agent believes by what the runtime lists. A pod that
// changed since the listing began (seen, from listing) is left for the next
// one; seen nil believes the list for every pod.
func (m *machine) sync(found []pod.Found, seen map[types.UID]uint64, now time.Time) {
	byPod := map[types.UID][]pod.Found{}
	for _, f := range found {
		byPod[f.Pod] = append(byPod[f.Pod], f)
	}
	for uid := range byPod {
		if m.pods[uid] == nil && (seen == nil || m.work != nil) {
			e := m.entry(uid, now)
			if seen != nil {
				seen[uid] = e.changes
			}
		}
	}
	for uid, e := range m.pods {
		if at, ok := seen[uid]; seen != nil && (!ok || at != e.changes || e.busy) {
			continue
		}
		m.syncPod(e, byPod[uid], now)
		if e.suspect {
			e.suspect, e.touched = false, true
		}
	}
}

func (m *machine) syncPod(e *entry, found []pod.Found, now time.Time) {
	// Newest attempt last, so that it wins.
	slices.SortFunc(found, func(a, b pod.Found) int {
		if c := attempt(a) - attempt(b); c != 0 {
			return c
		}
		return a.CreatedAt.Compare(b.CreatedAt)
	})
	changed := false
	listed := map[string]bool{}
	var left []pod.Leftover
	for _, f := range found {
		listed[f.ID] = true
		news, rest := m.syncContainer(e, f, now)
		changed, left = changed || news, append(left, rest...)
	}
	if e.missed(listed, now) || !slices.Equal(left, e.obs.Leftovers) {
		e.obs.Leftovers, changed = left, true
	}
	if changed {
		m.gate(e)
		e.touch()
	}
}

// syncContainer takes in one container that the runtime lists: whether it changes what is known
// of the pod, and what of it or before it is to be removed.
func (m *machine) syncContainer(e *entry, f pod.Found, now time.Time) (changed bool, left []pod.Leftover) {
	name := f.Labels[pod.LabelContainer]
	c, known := e.obs.Containers[name]
	switch {
	case f.State == pod.StateStray:
		left = append(left, pod.Leftover{ID: f.ID, Alive: true, Reason: "a live container that Podman never finished making"})
	case known && c.ID == f.ID:
		changed = m.syncKnown(e, f, now)
	case f.State == pod.StateUnknown && e.obs.Name != "":
		left = append(left, pod.Leftover{ID: f.ID, Alive: true, Reason: "its start was cut short"})
	case !known || c.ID == "" || attempt(f) > c.Attempt:
		if c.Present {
			left = append(left, pod.Leftover{ID: c.ID, Reason: "replaced by attempt " + f.Labels[pod.LabelAttempt]})
		}
		n := adopted(c, f)
		e.obs.Containers[name], changed = n, true
		e.markExit(name, n, now)
		m.adoptLabels(e, f)
	default:
		left = append(left, pod.Leftover{ID: f.ID, Reason: "older attempt of " + name})
	}
	return changed, left
}

// syncKnown takes in what the runtime says of a container that is known, and reports
// whether it is news.
func (m *machine) syncKnown(e *entry, f pod.Found, now time.Time) bool {
	name := f.Labels[pod.LabelContainer]
	c := e.obs.Containers[name]
	n := seenAgain(c, f, now)
	if n.State == pod.StateRunning && f.Unmonitored && n.Unmonitored.IsZero() {
		n.Unmonitored = now
		m.event(e, corev1.EventTypeWarning, schema.ReasonConmonDied, name, "the conmon of container "+name+" died: its output is lost, it is replaced", now)
	}
	e.obs.Containers[name] = n
	if n.State != pod.StateRunning {
		e.forgetHooks(n.ID)
	}
	if c.State != pod.StateExited {
		e.markExit(name, n, now)
	}
	return n != c
}

// missed notes which of the pod's containers the runtime no longer lists, and reports
// whether there are any.
func (e *entry) missed(listed map[string]bool, now time.Time) (changed bool) {
	for name, c := range e.obs.Containers {
		if c.ID == "" || listed[c.ID] || !c.Present && c.State != pod.StateRunning {
			continue
		}
		c.Present = false
		switch c.State {
		case pod.StateRunning, pod.StateUnknown:
			c = c.Exited(pod.Exit{Code: 137, Unknown: true, FinishedAt: c.StartedAt})
		case pod.StateCreated:
			c.State, c.ID = pod.StateNone, ""
		}
		e.obs.Containers[name], changed = c, true
		e.markExit(name, c, now)
	}
	return changed
}

// seenAgain is a known container with what the runtime says of it. A death that
// somebody waits for is not taken from here: Wait knows more.
func seenAgain(c pod.Container, f pod.Found, now time.Time) pod.Container {
	c.Present = true
	switch {
	case c.State == f.State:
	case f.State == pod.StateUnknown && c.State == pod.StateRunning,
		f.State == pod.StateRunning && (c.State == pod.StateUnknown || c.State == pod.StateCreated):
		c.State = f.State
	case f.State == pod.StateExited && (c.State == pod.StateUnknown || c.State == pod.StateCreated):
		c = c.Exited(exitOf(f))
	case f.State == pod.StateCreated && c.State == pod.StateUnknown:
		// What Podman forgot has died since.
		c = c.Exited(pod.Exit{Code: 137, Unknown: true, FinishedAt: now})
	case f.State == pod.StateCreated && c.State == pod.StateNone:
		c.State = f.State
	}
	return c
}

// adopted is a container of which the labels alone tell; before is what the
// record has of an older attempt.
func adopted(before pod.Container, f pod.Found) pod.Container {
	c := before.Next(f.ID, attempt(f), f.Labels[pod.LabelSpecHash], "", f.ImageID, f.StartedAt)
	c.State = f.State
	if f.State == pod.StateExited {
		c = c.Exited(exitOf(f))
	}
	return c
}

func (m *machine) adoptLabels(e *entry, f pod.Found) {
	o := &e.obs
	if o.Name == "" {
		o.Namespace, o.Name = f.Labels[pod.LabelNamespace], f.Labels[pod.LabelPod]
		o.Epoch, _ = strconv.ParseInt(f.Labels[pod.LabelEpoch], 10, 64)
		o.Status.Phase = corev1.PodUnknown
	}
	if ips := f.Labels[pod.LabelIP]; len(o.IPs) == 0 && ips != "" {
		o.IPs = strings.Split(ips, pod.LabelListSeparator)
	}
}

func exitOf(f pod.Found) pod.Exit {
	return pod.Exit{Code: f.ExitCode, FinishedAt: f.FinishedAt}
}

func attempt(f pod.Found) int {
	n, _ := strconv.Atoi(f.Labels[pod.LabelAttempt])
	return n
}
