package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
)

// kills is how often each daemon is killed: fifty rounds for three nodes. The
// supervisor lets a daemon wait longer after each quick death: killed more often,
// the master would hardly be there.
var kills = map[string]int{"master": 5, "supervisor": 3, "agent": 4, "podman": 6, "dns": 4}

// calmKills is how many of the rounds pass while nothing is rolled out.
const calmKills = 20

// longestGap is the most time between two rounds.
const longestGap = 600 * time.Millisecond

// Faults on one cluster, each step leaving it as it found it.
func testFaults(t *testing.T) {
	c := fresh(t, nodeCount)
	f := faults{c: c, w: c.clone(t), seen: t.TempDir(), chance: chance(t)}
	f.w.write(t, f.tree(t))
	f.w.pushHealthy(t, "the shop and the lab")
	for _, node := range clientNodes {
		f.askers = append(f.askers, c.one(t, "client-"+node))
	}
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"killed daemons are no outage", f.killedDaemons},
		{"without a control plane all stays as it is", f.noControlPlane},
		{"a hung Podman service is replaced", f.hungPodman},
		{"a killed container starts again, later each time", f.killedContainer},
		{"a container whose conmon died is replaced in order", f.killedConmon},
		{"a container out of memory is told as such", f.outOfMemory},
		{"SIGKILL waits for the grace period", f.stubborn},
		{"nothing is left over", func(t *testing.T) { c.awaitNoStrangers(t) }},
	} {
		if !t.Run(step.name, step.run) {
			t.FailNow()
		}
	}
}

// faults is what the steps share.
type faults struct {
	c      *cluster
	w      worktree
	seen   string // where witnesses write
	chance *rand.Rand
	turn   int
	askers []*corev1.Pod // on clientNodes
}

var clientNodes = []string{"n1", "n2"}

// shopGrace is in seconds. A process that is asked to end before it has begun to
// listen for that takes all of it: it is the first of its process namespace,
// which the kernel spares a signal it does not handle.
const shopGrace = 5

// tree is the shop and the lab as of the current turn.
func (f *faults) tree(t *testing.T) map[string]string {
	tree := probedOften(shopTree(t, fmt.Sprint("v", 1+f.turn%2)))
	for name, text := range tree {
		tree[name] = strings.ReplaceAll(text, "    spec:\n      containers:\n", fmt.Sprintf("    spec:\n      terminationGracePeriodSeconds: %d\n      containers:\n", shopGrace))
	}
	for name, text := range labTree(clientNodes,
		workload{name: "witness", replicas: 3, diaries: f.seen, turn: f.turn, args: []string{"-linger=200ms"}, grace: shopGrace},
		workload{name: "victim", replicas: 1},
		workload{name: "loner", replicas: 1},
		workload{name: "glutton", replicas: 1, memory: "40Mi"},
		workload{name: "stubborn", replicas: 1, diaries: f.seen, args: []string{"-stubborn"}, grace: stubbornGrace},
	) {
		tree[name] = text
	}
	return tree
}

// clients ask the witnesses: from outside, and from a pod by name and by address.
func (f *faults) clients(t *testing.T) *traffic {
	clients := newTraffic(t)
	clients.fromHost("outside, through NodePorts", witnessAt(f.c.address("n1")), witnessAt(f.c.address("n3")))
	for _, pod := range f.askers {
		clients.fromPod("a pod on "+pod.Spec.NodeName, f.c, pod, "http://"+f.c.serviceAddress(t, lab, "witness"))
	}
	return clients
}

// schedule is the order of the kills, by chance.
func (f *faults) schedule() (out []string) {
	for _, name := range f.c.targets() {
		kind := name[strings.LastIndex(name, "/")+1:]
		for range kills[kind] {
			out = append(out, name)
		}
	}
	f.chance.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// killedDaemons kills every daemon at moments of chance: first while nothing
// changes, when no process and no rule may change either, then while the shop
// and the witnesses are rolled out again and again.
func (f *faults) killedDaemons(t *testing.T) {
	calm := f.roll(t)
	clients := f.clients(t)
	schedule := f.schedule()
	before, rules := f.c.truth(), f.c.rules(t)
	for i, name := range schedule[:calmKills] {
		f.kill(t, name)
		if wrong := changes(before, f.c.truth()); len(wrong) > 0 {
			t.Fatalf("kill %d, of %s, changed containers:\n%s", i, name, strings.Join(wrong, "\n"))
		}
	}
	f.c.awaitReady(t)
	f.same(t, "by kills alone", before, rules)
	f.awaitName(t)

	clients.endFlawless()

	// A node whose agent is dead for more than 5 s is not waited for when a pod
	// goes: what is lost to that while the shop rolls is a fault's.
	clients = f.clients(t)
	endRolling := f.rollOn(t)
	for _, name := range schedule[calmKills:] {
		f.kill(t, name)
	}
	t.Logf("%d kills; %d pushes were accepted meanwhile", len(schedule), endRolling())
	f.c.awaitReady(t)
	f.rollToRest(t, calm)
	clients.tell()
	f.c.awaitNoStrangers(t)
}

// kill waits for a moment of chance and kills a daemon. Nobody starts the
// supervisor again but `up`.
func (f *faults) kill(t *testing.T, name string) {
	t.Helper()
	<-time.After(time.Duration(f.chance.Int64N(int64(longestGap))))
	f.c.killDaemon(t, name)
	if name == "supervisor" {
		if err := f.c.up(); err != nil {
			t.Fatal(err)
		}
	}
}

// rollOn pushes turn after turn without waiting for health, until end is called,
// by the end of the test at the latest. A push that finds no master is refused,
// which is right.
func (f *faults) rollOn(t *testing.T) (end func() (accepted int)) {
	stop, rolled := make(chan struct{}), make(chan int, 1)
	go func() {
		accepted := 0
		defer func() { rolled <- accepted }()
		for {
			f.turn++
			f.w.write(t, f.tree(t))
			if out, err := f.w.push(t, fmt.Sprint("turn ", f.turn), "-o", "e2e"); err == nil {
				accepted++
			} else if !strings.Contains(out, "remote:") {
				t.Errorf("turn %d: %v\n%s", f.turn, err, out)
			}
			select {
			case <-stop:
				return
			case <-time.After(longestGap):
			}
		}
	}()
	end = sync.OnceValue(func() int { close(stop); return <-rolled })
	t.Cleanup(func() { end() })
	return end
}

// roll rolls everything out and returns how long it took until all was at rest.
func (f *faults) roll(t *testing.T) time.Duration {
	t.Helper()
	f.turn++
	f.w.write(t, f.tree(t))
	began := time.Now()
	f.w.pushHealthy(t, fmt.Sprint("turn ", f.turn))
	f.c.awaitRest(t)
	return time.Since(began)
}

// restTimeout is what the cluster has, once faults stop, to be as Git asks; restFactor
// times what the same takes without faults where the machine is slow.
const (
	restTimeout = 90 * time.Second
	restFactor  = 3
)

func (f *faults) rollToRest(t *testing.T, calm time.Duration) {
	t.Helper()
	took := f.roll(t)
	if t.Logf("at rest after %v, %v without faults", took.Round(time.Millisecond), calm.Round(time.Millisecond)); took > max(restTimeout, restFactor*calm) {
		t.Errorf("at rest only after %v", took)
	}
}

// noControlPlane takes away supervisor, master and agents: processes, rules and
// answers stay as they are, names too. Then the agents come back and find no
// master: they restart what dies and change nothing else.
func (f *faults) noControlPlane(t *testing.T) {
	loner := f.c.one(t, "loner")
	before, rules := f.c.truth(), f.c.rules(t)
	clients := f.clients(t)
	supervisor := f.c.living("supervisor")
	if err := unix.Kill(supervisor.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	resume := func() { _ = unix.Kill(supervisor.pid, unix.SIGCONT) } // ended with the cluster at the latest
	defer resume()
	restore := f.c.withoutMaster(t)
	for _, name := range f.agents() {
		f.c.killDaemon(t, name)
	}
	f.awaitName(t)
	<-time.After(3 * time.Second) // for whatever could go wrong by itself
	f.same(t, "without a control plane", before, rules)

	resume()
	for _, name := range f.agents() {
		f.c.awaitDaemon(t, name, process{})
	}
	id, ctr := f.aContainer(t, loner, returnTimeout, "")
	ctr.main.kill(t)
	f.aContainer(t, loner, returnTimeout, id)
	delete(before, id)
	f.same(t, "with agents and without a master", before, rules, loner)
	restore()
	f.c.awaitReady(t)
	f.same(t, "with the master back", before, nil, loner)
	clients.endFlawless()
}

// same wants containers, those of some pods aside, and rules to be as before.
func (f *faults) same(t *testing.T, when string, before map[string]container, rules map[string]string, aside ...*corev1.Pod) {
	t.Helper()
	now := f.c.truth()
	for id := range of(now, aside) {
		delete(now, id)
	}
	if wrong := changes(before, now); len(wrong) > 0 {
		t.Errorf("containers changed %s:\n%s", when, strings.Join(wrong, "\n"))
	}
	if rules == nil {
		return
	}
	after := f.c.rules(t)
	for _, node := range sorted(rules) {
		if after[node] != rules[node] {
			t.Errorf("the table of %s changed %s, from\n%s\nto\n%s", node, when, rules[node], after[node])
		}
	}
}

func (f *faults) agents() (out []string) {
	for _, n := range f.c.names() {
		out = append(out, n+"/agent")
	}
	return out
}

// hungPodman stops a node's Podman service: it is noticed and replaced, no
// container changes, and the node goes on.
func (f *faults) hungPodman(t *testing.T) {
	before := f.c.truth()
	node := f.c.one(t, "victim").Spec.NodeName
	hung := f.c.living(node + "/podman")
	if err := unix.Kill(hung.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, hungTimeout, "another Podman service on "+node, func() (bool, string) {
		now := f.c.living(node + "/podman")
		return now != hung && now != process{}, fmt.Sprint(now)
	})
	t.Logf("replaced after %v", time.Since(began).Round(time.Millisecond))
	f.same(t, "with Podman hung", before, nil)
}

// hungTimeout is a ping's period, its time-out, and what an end and a start take on a
// busy machine.
const hungTimeout = 90 * time.Second

// aContainer is the container of a pod as /proc has it, once it runs and is
// another than before.
func (f *faults) aContainer(t *testing.T, pod *corev1.Pod, timeout time.Duration, not string) (id string, ctr container) {
	t.Helper()
	eventually(t, timeout, "a container of pod "+pod.Name+" other than "+not, func() (bool, string) {
		for other, found := range of(f.c.truth(), []*corev1.Pod{pod}) {
			if other != not && found.main.runs() && found.conmon.alive() {
				id, ctr = other, found
				return true, ""
			}
		}
		return false, "none runs"
	})
	return id, ctr
}

// restartPause is what a second restart waits for at the least, and a first does not: the
// pause of ten seconds, less what passes until the agent has seen the end.
const restartPause = 9 * time.Second

// killedContainer kills a container twice in a row: it comes back at once,
// then only after a pause.
func (f *faults) killedContainer(t *testing.T) {
	pod := f.c.one(t, "victim")
	id, ctr := f.aContainer(t, pod, returnTimeout, "")
	ctr.main.kill(t)
	began := time.Now()
	next, ctr := f.aContainer(t, pod, returnTimeout, id)
	t.Logf("the first restart took %v", time.Since(began).Round(time.Millisecond))
	if f.happened(t, pod, "BackOff") {
		t.Error("the first restart waited")
	}
	ctr.main.kill(t)
	began = time.Now()
	eventually(t, returnTimeout, "the pause is told", func() (bool, string) {
		got, whole := f.c.why(t, "pod/"+pod.Name) // while it lasts; the event stays
		return got == "CrashLoop" || f.happened(t, pod, "BackOff"), whole
	})
	f.aContainer(t, pod, time.Minute, next)
	if took := time.Since(began); took < restartPause {
		t.Errorf("the second restart came after %v, without its pause", took)
	}
}

// killedConmon kills what watches a container. The container lives on with a
// broken output; it must not be trusted: it leaves the tables, then hears
// SIGTERM, and a new one takes its place in the same pod.
func (f *faults) killedConmon(t *testing.T) {
	clients := f.clients(t)
	pod := staying(f.c.pods(t, lab, "app", "witness"))[0]
	id, old := f.aContainer(t, pod, returnTimeout, "")
	watcher := f.c.watchTables(t)
	old.conmon.kill(t)
	killed := time.Now()
	f.c.awaitWhy(t, time.Minute, "pod/"+pod.Name, "ConmonDied")
	_, replaced := f.aContainer(t, pod, time.Minute, id)
	t.Logf("replaced after %v", time.Since(killed).Round(time.Millisecond))
	watcher.stop()
	if old.main.alive() {
		t.Errorf("the old container runs beside the new one: %v and %v", old, replaced)
	}
	for _, d := range diaries(t, f.seen) {
		if d.pod != pod.Name || d.start.IsZero() || d.start.After(killed) {
			continue // the new container has begun by now and may have written nothing yet
		}
		if d.term.IsZero() {
			t.Errorf("the old container ended without SIGTERM: %+v", d)
		}
		if len(d.late) > 0 {
			t.Errorf("the old container heard SIGTERM at %s and was sent requests after it: %v", d.term.Format(clock), d.late)
		}
	}
	clients.endFlawless()
	f.c.awaitReady(t)
}

// outOfMemory makes a container eat more than its limit.
func (f *faults) outOfMemory(t *testing.T) {
	pod := f.c.one(t, "glutton")
	id, _ := f.aContainer(t, pod, returnTimeout, "")
	_, _ = f.c.get(t, f.askers[0], "http://"+pod.Status.PodIP+":8080/eat") // it dies of it
	eventually(t, time.Minute, "the reason is told", func() (bool, string) {
		now := f.c.one(t, "glutton")
		for _, s := range now.Status.ContainerStatuses {
			for _, ended := range []*corev1.ContainerStateTerminated{s.State.Terminated, s.LastTerminationState.Terminated} {
				if ended != nil && ended.ContainerID == "podman://"+id {
					return ended.Reason == "OOMKilled" && ended.ExitCode == 137, fmt.Sprintf("%+v", ended)
				}
			}
		}
		return false, fmt.Sprintf("%+v", now.Status.ContainerStatuses)
	})
	eventually(t, time.Minute, "the second time is told as the cause", func() (bool, string) {
		_, _ = f.c.get(t, f.askers[0], "http://"+pod.Status.PodIP+":8080/eat") // once it listens again
		got, whole := f.c.why(t, "deployment/glutton")
		return got == "OOMKilled", whole
	})
}

// stubbornGrace is in seconds.
const stubbornGrace = 3

// noticing is how long a process on a loaded machine may take to write down the
// SIGTERM it was sent.
const noticing = time.Second

// stubborn takes a workload out of the tree that does not end at SIGTERM.
func (f *faults) stubborn(t *testing.T) {
	pod := f.c.one(t, "stubborn")
	_, ctr := f.aContainer(t, pod, returnTimeout, "")
	died := make(chan time.Time, 1)
	go func() { died <- awaitDeath(ctr.main, time.Minute) }()
	f.w.write(t, map[string]string{"lab/stubborn.yaml": ""})
	began := time.Now()
	f.w.pushHealthy(t, "without the stubborn one")
	t.Logf("the push took %v", time.Since(began).Round(time.Millisecond))
	at := <-died
	eventually(t, time.Minute, "an event tells that it ignored the stop signal", func() (bool, string) {
		return f.happened(t, pod, schema.ReasonExceededGracePeriod), ""
	})
	for _, d := range diaries(t, f.seen) {
		if d.pod != pod.Name {
			continue
		}
		if took := at.Sub(d.term); d.term.IsZero() || took < stubbornGrace*time.Second-noticing || took > stubbornGrace*time.Second+returnTimeout {
			t.Errorf("SIGTERM at %s, dead at %s, with a grace period of %d s", d.term.Format(clock), at.Format(clock), stubbornGrace)
		}
	}
}

// happened reports whether a pod has an event with that reason.
func (f *faults) happened(t *testing.T, pod *corev1.Pod, reason string) bool {
	t.Helper()
	for _, e := range told(t, f.c, schema.KindEvent, func(e *corev1.Event) string { return string(e.InvolvedObject.UID) + " " + e.Reason }) {
		if strings.HasSuffix(e, string(pod.UID)+" "+reason) {
			return true
		}
	}
	return false
}

// awaitDeath waits in the kernel for the end of a process and returns when it
// was; the zero time if it still lives.
func awaitDeath(p process, timeout time.Duration) time.Time {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil || !p.alive() {
		return time.Now()
	}
	defer unix.Close(fd)
	deadline := time.Now().Add(timeout)
	for time.Now().Before(deadline) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds()))
		if err == nil && n > 0 {
			return time.Now()
		}
	}
	return time.Time{}
}

// awaitNoStrangers gives the sweep its minute.
func (c *cluster) awaitNoStrangers(t *testing.T) {
	t.Helper()
	began := time.Now()
	eventually(t, time.Minute, "nothing of the cluster belongs to no pod", func() (bool, string) {
		found := c.strangers(t)
		return len(found) == 0, strings.Join(found, "\n")
	})
	t.Logf("all clean after %v", time.Since(began).Round(time.Millisecond))
}

// awaitName waits until DNS answers the clients.
func (f *faults) awaitName(t *testing.T) {
	t.Helper()
	for _, pod := range f.askers {
		eventually(t, returnTimeout, "names are answered on "+pod.Spec.NodeName, func() (bool, string) {
			_, err := f.c.get(t, pod, witnessURL)
			return err == nil, fmt.Sprint(err)
		})
	}
}
