package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

const (
	// impatient pods are replaced this many seconds after their node is lost.
	impatience = 5
	// When a silent node's pods are stale, and when the node is NotReady.
	staleAfter  = 5 * time.Second
	silentAfter = 40 * time.Second
	// beforehand is how long before a cut a node may have reported last: the period of
	// reports, and as much again on a machine that has other work.
	beforehand = 2 * reportInterval
	// tolerance is how much later than it is due something may be seen there.
	tolerance = 30 * time.Second
)

// Nodes that are cut off, come back, and boot, on one cluster.
func testNodes(t *testing.T) {
	c := fresh(t, nodeCount)
	n := nodes{c: c, w: c.clone(t), seen: t.TempDir(), boots: t.TempDir(), kernel: c.openTables(t)}
	n.w.write(t, labTree([]string{"n1"},
		workload{name: "witness", replicas: nodeCount, diaries: n.seen, tolerate: impatience},
		workload{name: "patient", replicas: 1, diaries: n.seen, node: "n3"},
	))
	n.w.pushHealthy(t, "witnesses on every node")
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"a node cut off and returned", n.cutOff},
		{"a node boots while the master is away", n.bootAlone},
		{"a node boots", n.boot},
		{"most nodes silent at once", n.mostSilent},
	} {
		if !t.Run(step.name, step.run) {
			t.FailNow()
		}
		c.awaitReady(t)
		c.awaitRest(t)
		c.awaitNoStrangers(t)
	}
}

// nodes is what the steps share.
type nodes struct {
	c      *cluster
	w      worktree
	seen   string
	boots  string // holds the id of each boot
	kernel tables
}

// cut drops everything on a node's link, both ways, until the returned function
// is called.
func (n *nodes) cut(t *testing.T, node string) (heal func()) {
	t.Helper()
	n.c.onNode(t, node, `table inet e2e-cut {
	chain in { type filter hook prerouting priority raw; iifname "eth0" drop; }
	chain out { type filter hook postrouting priority raw; oifname "eth0" drop; }
}
`, "nft", "-f", "-")
	return func() { n.c.onNode(t, node, "delete table inet e2e-cut\n", "nft", "-f", "-") }
}

func on(node string, pods []*corev1.Pod) (out []*corev1.Pod) {
	for _, p := range pods {
		if p.Spec.NodeName == node {
			out = append(out, p)
		}
	}
	return out
}

func stale(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == "Stale" && c.Status == corev1.ConditionTrue
	})
}

// between wants a moment to have come neither early nor late.
func between(t *testing.T, what string, took, earliest, latest time.Duration) {
	t.Helper()
	t.Logf("%s after %v", what, took.Round(time.Millisecond))
	if took < earliest || took > latest {
		t.Errorf("%s after %v, want between %v and %v", what, took, earliest, latest)
	}
}

// cutOff cuts n3 off: its pods are stale, then the node is NotReady and leaves
// every other table, then impatient pods are replaced. Its containers run on
// meanwhile; once it is back those that were replaced stop, the patient one was
// never touched.
func (n *nodes) cutOff(t *testing.T) {
	lost := on("n3", staying(n.c.pods(t, lab, "app", "witness")))
	patient := n.c.one(t, "patient")
	if len(lost) == 0 {
		t.Fatal("no witness on n3")
	}
	before := n.c.truth()
	began := time.Now()
	heal := n.cut(t, "n3")
	eventually(t, staleAfter+tolerance, "the pods of n3 are stale", func() (bool, string) {
		return stale(n.c.one(t, "patient")), ""
	})
	between(t, "stale", time.Since(began), staleAfter-beforehand, staleAfter+tolerance)
	n.c.awaitWhy(t, returnTimeout, "deployment/patient", "NodeSilent")
	n.awaitNotReady(t, "n3", began)
	n.c.awaitWhy(t, returnTimeout, "node/n3", "NodeSilent")
	n.awaitTablesWithout(t, "n3", "n1", "n2")
	eventually(t, impatience*time.Second+tolerance, "the lost witnesses are replaced", func() (bool, string) {
		now := staying(n.c.pods(t, lab, "app", "witness"))
		ready := slices.DeleteFunc(slices.Clone(now), func(p *corev1.Pod) bool { return !ready(p) })
		return len(ready) == nodeCount && len(on("n3", now)) == 0, describe(now)
	})
	between(t, "replaced", time.Since(began), silentAfter+impatience*time.Second-beforehand, silentAfter+impatience*time.Second+2*tolerance)
	if wrong := changes(onNode(before, "n3"), onNode(n.c.truth(), "n3")); len(wrong) > 0 {
		t.Errorf("on the node that was cut off:\n%s", strings.Join(wrong, "\n"))
	}
	heal()
	eventually(t, time.Minute, "the superseded pods stop", func() (bool, string) {
		left := of(n.c.truth(), lost)
		return len(left) == 0, fmt.Sprint(left)
	})
	n.c.awaitReady(t)
	if wrong := changes(of(before, []*corev1.Pod{patient}), of(n.c.truth(), []*corev1.Pod{patient})); len(wrong) > 0 {
		t.Errorf("the patient pod:\n%s", strings.Join(wrong, "\n"))
	}
	eventually(t, tolerance, "the patient pod is as it was", func() (bool, string) {
		p := n.c.one(t, "patient")
		return p.UID == patient.UID && ready(p) && !stale(p), describe([]*corev1.Pod{p})
	})
}

// reportInterval is how long an agent that has nothing to tell stays silent.
const reportInterval = 2 * time.Second

func (n *nodes) awaitNotReady(t *testing.T, node string, began time.Time) {
	t.Helper()
	eventually(t, silentAfter+tolerance, node+" is not Ready", func() (bool, string) {
		conditions, err := n.c.nodeConditions(t)
		return err == nil && conditions[node] != corev1.ConditionTrue, fmt.Sprint(conditions, err)
	})
	between(t, node+" not Ready", time.Since(began), silentAfter-beforehand, silentAfter+tolerance)
}

// awaitTablesWithout waits until no service leads to pods of a lost node.
func (n *nodes) awaitTablesWithout(t *testing.T, lost string, on ...string) {
	t.Helper()
	pods, err := n.c.podsByUID(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range on {
		eventually(t, tolerance, "no service on "+node+" leads to "+lost, func() (bool, string) {
			found, err := n.kernel.endpoints(node)
			if err != nil {
				return false, err.Error()
			}
			for _, p := range pods {
				if ip, err := netip.ParseAddr(p.Status.PodIP); err == nil && p.Spec.NodeName == lost && found[ip] {
					return false, p.Name + " at " + p.Status.PodIP
				}
			}
			return len(found) > 0, fmt.Sprint(found)
		})
	}
}

func onNode(truth map[string]container, node string) map[string]container {
	out := make(map[string]container)
	for id, ctr := range truth {
		if ctr.node == node {
			out[id] = ctr
		}
	}
	return out
}

func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func describe(pods []*corev1.Pod) string {
	var b strings.Builder
	for _, p := range pods {
		fmt.Fprintf(&b, "%s on %s: ready %v, stale %v, deleted %v\n", p.Name, p.Spec.NodeName, ready(p), stale(p), p.DeletionTimestamp != nil)
	}
	return b.String()
}

// sureToNotice is how long after it is due a loss would be seen on a machine that is free:
// what must not happen cannot be awaited.
const sureToNotice = 5 * time.Second

// mostSilent cuts off two of three nodes for longer than it takes to lose a
// node and its impatient pods: evictions are paused and nothing goes.
func (n *nodes) mostSilent(t *testing.T) {
	before, uids := n.c.truth(), n.uids(t)
	heal2, heal3 := n.cut(t, "n2"), n.cut(t, "n3")
	until := time.Now().Add(silentAfter + impatience*time.Second + sureToNotice)
	for time.Now().Before(until) {
		conditions, err := n.c.nodeConditions(t)
		if err != nil {
			t.Fatal(err)
		}
		for node, status := range conditions {
			if status != corev1.ConditionTrue {
				t.Fatalf("%s is %s %v before the end", node, status, time.Until(until))
			}
		}
		if now := n.uids(t); fmt.Sprint(now) != fmt.Sprint(uids) {
			t.Fatalf("pods are %v, were %v", now, uids)
		}
		<-time.After(time.Second)
	}
	n.c.awaitWhy(t, returnTimeout, "node/n2", "MostNodesSilent")
	n.c.awaitWhy(t, returnTimeout, "deployment/patient", "MostNodesSilent")
	heal2()
	heal3()
	n.c.awaitReady(t)
	if wrong := changes(before, n.c.truth()); len(wrong) > 0 {
		t.Errorf("containers changed:\n%s", strings.Join(wrong, "\n"))
	}
}

// uids are the pods that stay, sorted.
func (n *nodes) uids(t *testing.T) (out []string) {
	t.Helper()
	pods, err := n.c.podsByUID(t)
	if err != nil {
		t.Fatal(err)
	}
	for uid, p := range pods {
		if p.DeletionTimestamp == nil {
			out = append(out, uid)
		}
	}
	slices.Sort(out)
	return out
}

// boot lets n2 boot and wants its pods back, the same ones.
func (n *nodes) boot(t *testing.T) {
	n.reboot(t, "n2")
	n.c.awaitReady(t)
}

// bootAlone lets n2 boot while there is no master: it starts its pods from its
// own disk, and services work there.
func (n *nodes) bootAlone(t *testing.T) {
	asker := n.c.one(t, "client-n1")
	restore := n.c.withoutMaster(t)
	n.reboot(t, "n2")
	// Nobody tells who is ready, so a pod that begins to run is asked too early.
	answers := 0
	eventually(t, returnTimeout, "ten answers in a row", func() (bool, string) {
		_, err := getFromHost(witnessAt(n.c.address("n2")))
		if err == nil {
			_, err = n.c.get(t, asker, witnessURL)
		}
		if answers++; err != nil {
			answers = 0
		}
		return answers == 10, fmt.Sprint(err)
	})
	// The supervisor starts one again and again, which ends at once.
	if conditions, err := n.c.nodeConditions(t); err == nil {
		t.Errorf("a master answers: %v", conditions)
	}
	restore()
}

// reboot does to a node what a boot does: every process ends at once, /run and
// /dev/shm, cgroups, rules and pod links are gone, there is a new boot id; the
// disk stays. Then its daemons start, and so must its pods.
func (n *nodes) reboot(t *testing.T, node string) {
	t.Helper()
	before := onNode(n.c.truth(), node)
	if len(before) == 0 {
		t.Fatalf("nothing runs on %s", node)
	}
	supervisor := n.c.living("supervisor")
	if err := unix.Kill(supervisor.pid, unix.SIGSTOP); err != nil { // it would start the daemons amid all this
		t.Fatal(err)
	}
	n.endEverything(t, node)
	bootID := filepath.Join(n.boots, fmt.Sprint(time.Now().UnixNano()))
	if err := os.WriteFile(bootID, fmt.Appendf(nil, "00000000-0000-4000-8000-%012d\n", time.Now().Unix()), 0o644); err != nil {
		t.Fatal(err)
	}
	n.c.onNode(t, node, `
awk '$5 ~ "^/(run|dev/shm)/" {print $5}' /proc/self/mountinfo | tac | xargs -r -n1 umount -l
awk -v dir="$DIR" 'index($5, dir "/") == 1 {print $5}' /proc/self/mountinfo | tac | xargs -r -n1 umount -l
find /run /dev/shm -mindepth 1 -delete
mkdir /run/lock /run/fairlead
nft flush ruleset
for _ in $(seq 100); do # the kernel takes a link away by itself once the pod's namespace has gone
	links=$(ip -o link | sed -n 's/^[0-9]*: \(fl-[^@:]*\).*/\1/p')
	[ -n "$links" ] || break
	for link in $links; do ip link del "$link" 2>/dev/null || true; done
done
[ -z "$links" ]
! mountpoint -q /proc/sys/kernel/random/boot_id || umount /proc/sys/kernel/random/boot_id
mount --bind "$BOOT_ID" /proc/sys/kernel/random/boot_id
`, "env", "DIR="+filepath.Join(n.c.dir, "nodes", node), "BOOT_ID="+bootID, "sh", "-eu")
	began := time.Now()
	if err := unix.Kill(supervisor.pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "every pod of "+node+" runs again", func() (bool, string) {
		now := onNode(n.c.truth(), node)
		return fmt.Sprint(podsOf(now)) == fmt.Sprint(podsOf(before)) && whole(now), fmt.Sprintf("%v, before %v", now, before)
	})
	t.Logf("%d pods ran again after %v", len(before), time.Since(began).Round(time.Millisecond))
	for id := range onNode(n.c.truth(), node) {
		if _, ok := before[id]; ok {
			t.Errorf("container %.12s has outlived the boot", id)
		}
	}
}

// endEverything ends every process of a node, in its cgroups and namespaces, and
// removes its pods' cgroups.
func (n *nodes) endEverything(t *testing.T, node string) {
	t.Helper()
	var pin, own unix.Stat_t
	if err := unix.Stat(n.c.mntNS(node), &pin); err != nil {
		t.Fatal(err)
	}
	group := fmt.Sprintf(":/fairlead/%d/%s/", n.c.slot, node)
	eventually(t, returnTimeout, "no process on "+node, func() (bool, string) {
		left := 0
		for pid := range pids() {
			groups, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
			inside := unix.Stat(fmt.Sprintf("/proc/%d/ns/mnt", pid), &own) == nil && own.Ino == pin.Ino
			if (inside || strings.Contains(string(groups), group)) && look(pid) != (process{}) {
				left++
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		return left == 0, fmt.Sprint(left, " processes")
	})
	eventually(t, returnTimeout, "no cgroup of a pod on "+node, func() (bool, string) {
		for _, depth := range []string{"pod*/*", "pod*"} {
			dirs, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/*/fairlead/%d/%s/%s", n.c.slot, node, depth))
			for _, d := range dirs {
				if info, err := os.Stat(d); err == nil && info.IsDir() {
					_ = unix.Rmdir(d)
				}
			}
		}
		left, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/*/fairlead/%d/%s/pod*", n.c.slot, node))
		return len(left) == 0, fmt.Sprint(left)
	})
}

// podsOf are the UIDs of the pods that containers are of, sorted.
func podsOf(truth map[string]container) (out []string) {
	for _, ctr := range truth {
		out = append(out, ctr.pod)
	}
	slices.Sort(out)
	return out
}

// whole reports whether every container lives with its conmon.
func whole(truth map[string]container) bool {
	for _, ctr := range truth {
		if !ctr.main.alive() || !ctr.conmon.alive() {
			return false
		}
	}
	return true
}
