package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/nftables"
	nlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
)

// process names one process for good: a pid is used again, a pid with its start
// time is not.
type process struct {
	pid   int
	start uint64 // field 22 of proc_pid_stat(5)
}

// look reads the start time of a living process; the zero process if there is
// none. A zombie is dead.
func look(pid int) process {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return process{}
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return process{}
	}
	return process{pid, start}
}

func (p process) alive() bool { return p != process{} && look(p.pid) == p }

// runs reports whether the process has become the container's own program: before,
// it is the runtime making it, and who kills that makes a start fail.
func (p process) runs() bool {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.pid))
	return err == nil && !strings.HasPrefix(string(comm), "runc") && p.alive()
}

func (p process) kill(t *testing.T) {
	t.Helper()
	if !p.alive() {
		t.Fatalf("process %v does not live", p)
	}
	if err := unix.Kill(p.pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func pids() iter.Seq[int] {
	return func(yield func(int) bool) {
		entries, _ := os.ReadDir("/proc")
		for _, e := range entries {
			if pid, err := strconv.Atoi(e.Name()); err == nil && !yield(pid) {
				return
			}
		}
	}
}

// container is one container as /proc shows it.
type container struct {
	node, pod    string // pod is its UID
	main, conmon process
}

func (c container) String() string {
	return fmt.Sprintf("pod %s on %s: pid %d since %d, conmon %d since %d", c.pod, c.node, c.main.pid, c.main.start, c.conmon.pid, c.conmon.start)
}

// truth is every container of the cluster, by id, without a word of Podman's.
func (c *cluster) truth() map[string]container {
	member := regexp.MustCompile(fmt.Sprintf(`:/fairlead/%d/([^/\n]+)/pod([^/\n]+)/(?:libpod-([0-9a-f]{64})|conmon)`, c.slot))
	out := make(map[string]container)
	for pid := range pids() {
		groups, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		m := member.FindStringSubmatch(string(groups))
		if m == nil {
			continue
		}
		p := look(pid)
		if p == (process{}) {
			continue
		}
		switch id := m[3]; {
		case id == "":
			if id, ok := monitored(pid); ok {
				known := out[id]
				known.node, known.pod, known.conmon = m[1], m[2], p
				out[id] = known
			}
		case first(pid):
			known := out[id]
			known.node, known.pod, known.main = m[1], m[2], p
			out[id] = known
		}
	}
	return out
}

// monitored is the container that a conmon watches; not so for the conmon of a
// command run inside one.
func monitored(pid int) (id string, ok bool) {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	args := strings.Split(string(data), "\x00")
	if !strings.HasSuffix(args[0], "conmon") || slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--exec") || a == "-e" }) {
		return "", false
	}
	i := slices.Index(args, "-c")
	if i < 0 || i+1 >= len(args) {
		return "", false
	}
	return args[i+1], true
}

// first reports whether a process is the first of its container: number one in
// its own process namespace.
func first(pid int) bool {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok {
			all := strings.Fields(numbers)
			return len(all) > 1 && all[len(all)-1] == "1"
		}
	}
	return false
}

// of is the part of the truth that concerns these pods.
func of(truth map[string]container, pods []*corev1.Pod) map[string]container {
	out := make(map[string]container)
	for id, ctr := range truth {
		if slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return string(p.UID) == ctr.pod }) {
			out[id] = ctr
		}
	}
	return out
}

// changes tells what became of containers between two looks.
func changes(before, after map[string]container) (out []string) {
	for _, id := range sorted(before) {
		if now, ok := after[id]; !ok {
			out = append(out, fmt.Sprintf("container %.12s is gone (%v)", id, before[id]))
		} else if now != before[id] {
			out = append(out, fmt.Sprintf("container %.12s is %v, was %v", id, now, before[id]))
		}
	}
	for _, id := range sorted(after) {
		if _, ok := before[id]; !ok {
			out = append(out, fmt.Sprintf("container %.12s is new (%v)", id, after[id]))
		}
	}
	return out
}

// allRules are the nodes' tables as nft prints them.
func (c *cluster) allRules(t *testing.T) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, n := range c.names() {
		out[n] = c.onNode(t, n, "", "nft", "list", "table", "inet", "fairlead")
	}
	return out
}

// rules are the nodes' tables, each with the number of transactions its kernel
// has seen.
func (c *cluster) rules(t *testing.T) map[string]string {
	t.Helper()
	out := c.allRules(t)
	for n, text := range out {
		out[n] = fmt.Sprintf("# transaction %d\n%s", c.transactions(t, n), text)
	}
	return out
}

// transactions is nft's count of commits in a node's network.
func (c *cluster) transactions(t *testing.T, node string) uint32 {
	t.Helper()
	ns, err := netns.GetFromPath(c.netNS(node))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	conn, err := nlink.Dial(unix.NETLINK_NETFILTER, &nlink.Config{NetNS: int(ns)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers, err := conn.Execute(nlink.Message{
		Header: nlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: nlink.Request},
		Data:   make([]byte, 4), // struct nfgenmsg
	})
	if err != nil || len(answers) == 0 || len(answers[0].Data) < 12 {
		t.Fatalf("ask %s for nft's generation: %v %v", node, answers, err)
	}
	return binary.BigEndian.Uint32(answers[0].Data[8:12]) // the first attribute, NFTA_GEN_ID
}

// tables asks the nodes' kernels where their services lead, over netlink.
type tables map[string]*nftables.Conn // by node

func (c *cluster) openTables(t *testing.T) tables {
	t.Helper()
	out := make(tables)
	for _, n := range c.names() {
		ns, err := netns.GetFromPath(c.netNS(n))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := nftables.New(nftables.WithNetNSFd(int(ns)), nftables.AsLasting())
		ns.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.CloseLasting() })
		out[n] = conn
	}
	return out
}

// endpoints are the addresses a node's services lead to.
func (s tables) endpoints(node string) (map[netip.Addr]bool, error) {
	out := make(map[netip.Addr]bool)
	table := &nftables.Table{Name: "fairlead", Family: nftables.TableFamilyINet}
	for _, name := range []string{"endpoints", "nodeendpoints"} {
		elements, err := s[node].GetSetElements(&nftables.Set{Table: table, Name: name})
		if err != nil {
			return nil, fmt.Errorf("%s: list %s: %w", node, name, err)
		}
		for _, e := range elements {
			if len(e.Val) >= 4 {
				out[netip.AddrFrom4([4]byte(e.Val[:4]))] = true
			}
		}
	}
	return out, nil
}

// strangers lists what of the cluster stands on its nodes and belongs to no pod
// that the API knows.
func (c *cluster) strangers(t *testing.T) (out []string) {
	t.Helper()
	known, err := c.podsByUID(t)
	if err != nil {
		return []string{err.Error()}
	}
	truth := c.truth()
	for _, id := range sorted(truth) {
		ctr := truth[id]
		switch p := known[ctr.pod]; {
		case p == nil || p.Spec.NodeName != ctr.node:
			out = append(out, fmt.Sprintf("container %.12s of no pod: %v", id, ctr))
		case ctr.main == process{}:
			out = append(out, fmt.Sprintf("conmon without container %.12s: %v", id, ctr))
		case ctr.conmon == process{}:
			out = append(out, fmt.Sprintf("container %.12s without conmon: %v", id, ctr))
		}
	}
	for _, node := range c.names() {
		here := make(map[string]bool) // pods by UID
		for uid, p := range known {
			if p.Spec.NodeName == node {
				here[uid] = true
			}
		}
		out = append(out, c.strangeCgroups(node, here)...)
		out = append(out, c.strangeMounts(t, node, here, truth)...)
		out = append(out, c.strangeLinks(t, node, here)...)
		out = append(out, c.strangeStorage(t, node, here, truth)...)
	}
	return append(out, c.strangeEndpoints(t, known)...)
}

func (c *cluster) strangeCgroups(node string, here map[string]bool) (out []string) {
	dirs, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/*/fairlead/%d/%s/pod*", c.slot, node))
	unified, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/fairlead/%d/%s/pod*", c.slot, node))
	for _, d := range append(dirs, unified...) {
		if !here[strings.TrimPrefix(filepath.Base(d), "pod")] {
			out = append(out, "cgroup "+d)
		}
	}
	return out
}

// strangeMounts looks through the node's mounts and the directory its sandboxes
// are pinned in. A running container has one overlay.
func (c *cluster) strangeMounts(t *testing.T, node string, here map[string]bool, truth map[string]container) (out []string) {
	const run, pods = "/run/fairlead", "/run/fairlead/pods/" // not there on a node that never had a pod
	for _, uid := range strings.Fields(c.onNode(t, node, "", "find", run, "-mindepth", "2", "-maxdepth", "2", "-path", pods+"*", "-printf", "%f\n")) {
		if !here[uid] {
			out = append(out, node+": "+pods+uid)
		}
	}
	overlays, running := 0, 0
	for line := range strings.Lines(c.onNode(t, node, "", "cat", "/proc/self/mountinfo")) {
		fields := strings.Fields(line)
		path := fields[4]
		if strings.HasPrefix(path, pods) && !here[strings.Split(path, "/")[4]] {
			out = append(out, node+": mount "+path)
		}
		if strings.HasPrefix(path, c.dir) && strings.HasSuffix(path, "/merged") {
			overlays++
		}
	}
	for _, ctr := range truth {
		if ctr.node == node {
			running++
		}
	}
	if overlays > running {
		out = append(out, fmt.Sprintf("%s: %d overlays are mounted, %d containers run", node, overlays, running))
	}
	return out
}

func (c *cluster) strangeLinks(t *testing.T, node string, here map[string]bool) (out []string) {
	t.Helper()
	ns, err := netns.GetFromPath(c.netNS(node))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{"lo": true, "eth0": true}
	for uid := range here {
		names["fl-"+schema.ShortHash(uid)] = true
	}
	for _, l := range links {
		if name := l.Attrs().Name; !names[name] {
			out = append(out, node+": link "+name)
		}
	}
	return out
}

// strangeStorage reads what Podman keeps on disk: a container that does not run
// may stay for its logs as long as its pod does.
func (c *cluster) strangeStorage(t *testing.T, node string, here map[string]bool, truth map[string]container) (out []string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(c.dir, "nodes", node, "storage/overlay-containers/containers.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var kept []struct {
		ID    string   `json:"id"`
		Names []string `json:"names"`
	}
	if err := errors.Join(err, json.Unmarshal(data, &kept)); err != nil {
		t.Fatal(err)
	}
	prefixes := make(map[string]bool)
	for uid := range here {
		prefixes["fl-"+uid[:8]+"-"] = true
	}
	for _, k := range kept {
		ours := slices.ContainsFunc(k.Names, func(n string) bool { return len(n) > 12 && prefixes[n[:12]] })
		if _, runs := truth[k.ID]; !runs && !ours {
			out = append(out, fmt.Sprintf("%s: Podman keeps container %.12s %v", node, k.ID, k.Names))
		}
	}
	return out
}

func (c *cluster) strangeEndpoints(t *testing.T, known map[string]*corev1.Pod) (out []string) {
	t.Helper()
	addresses := make(map[string]bool)
	for _, p := range known {
		addresses[p.Status.PodIP] = true
	}
	kernel := c.openTables(t)
	for _, node := range c.names() {
		found, err := kernel.endpoints(node)
		if err != nil {
			out = append(out, err.Error())
		}
		for ip := range found {
			if !addresses[ip.String()] {
				out = append(out, fmt.Sprintf("%s: a service leads to %s", node, ip))
			}
		}
	}
	slices.Sort(out)
	return out
}
