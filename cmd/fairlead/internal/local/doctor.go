package local

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Level is how much a Check matters.
type Level string

// The levels; only Blocks keeps a cluster from running.
const (
	OK     Level = "ok"
	Info   Level = "info"
	Warns  Level = "warning"
	Blocks Level = "blocks"
)

// Check is one thing looked at on the host: what was found and, unless all is
// well, how to fix it.
type Check struct {
	Name  string `json:"name"`
	Level Level  `json:"level"`
	Found string `json:"found"`
	Fix   string `json:"fix,omitempty"`
}

// Facts is what Examine saw of the host; Judge needs nothing else.
type Facts struct {
	Root         bool
	Cgroups      CgroupMode
	CgroupsFail  string // why none can be made in it; "" when one can
	Storage      string // the directory below which containers are kept, or where it will be
	StorageFail  string // why nothing can be kept there; "" when it can
	Runtime      string // the OCI runtime that is configured; "" leaves the choice
	SysResource  bool   // CAP_SYS_RESOURCE
	OpenFiles    uint64 // hard limit
	Threads      uint64 // hard limit of processes
	Programs     map[string]Program
	Features     []Feature // tried, in order; without room for files not all
	Forwarding   bool      // ip_forward
	BridgeFilter bool      // bridge-nf-call-iptables
	Routes       []netip.Prefix
	TakenSlots   []int
	FreeSlot     int // -1: none
}

// Program is an outside program Fairlead uses. An empty Path is not installed.
type Program struct {
	Path    string
	Version string
}

// Feature is a kernel feature that was tried; an empty Failure means it works.
type Feature struct {
	Name    string
	Failure string
}

// Checks that are for `up` alone.
const (
	checkRanges = "address ranges"
	checkSlot   = "slot"
)

const (
	// minOpenFiles is what Podman and a few dozen containers need.
	minOpenFiles = 4096
	// minPodman is the oldest whose API the bindings accept.
	minPodman = "4.0.0"
)

// needs is every program, who needs it and the Debian package that brings it.
var needs = []struct{ program, pkg, why string }{
	{"podman", "podman", "runs the containers"},
	{"conmon", "conmon", "watches each container for Podman"},
	{"nft", "nftables", "lets the nodes of `up` reach the outside"},
	{"git", "git", "takes pushes"},
}

// Judge turns facts into checks, in a fixed order.
func Judge(f Facts) []Check {
	out := []Check{
		judge("root", f.Root, "running as root", Blocks, "not running as root", "run as root: namespaces, cgroups and nftables need it"),
		judgeCgroups(f),
		judge("CAP_SYS_RESOURCE", f.SysResource, "present", Info, "missing: containers get no limits above the current ones",
			"nothing to do: Podman is configured with limits that fit"),
		judge("open files", f.OpenFiles >= minOpenFiles, fmt.Sprintf("hard limit %d", f.OpenFiles), Warns,
			fmt.Sprintf("hard limit %d is below %d", f.OpenFiles, minOpenFiles), fmt.Sprintf("raise it: ulimit -Hn %d", minOpenFiles)),
		{Name: "processes", Level: OK, Found: fmt.Sprintf("hard limit %d", f.Threads)},
	}
	for _, n := range needs {
		out = append(out, judgeProgram(n.program, n.pkg, n.why, f.Programs[n.program]))
	}
	out = append(out, judgeRuntime(f), judge("storage", f.StorageFail == "", f.Storage+" can be written to", Blocks, f.StorageFail,
		"give the file system of "+f.Storage+" room, and mount it writable"))
	for _, feature := range f.Features {
		out = append(out, judge("kernel: "+feature.Name, feature.Failure == "", "works", Blocks, feature.Failure,
			"a kernel with "+feature.Name+" is needed (modprobe, or another kernel)"))
	}
	out = append(out, judge("ip_forward", f.Forwarding, "on", Info, "off: `up` turns it on and `down` off again", ""))
	out = append(out, judge("bridge filter", !f.BridgeFilter, "off", Info,
		"on: bridged packets between nodes pass the host's firewall", "if pods of different nodes do not reach each other, allow forwarding there"))
	return append(out, judgeRanges(f), judgeSlot(f))
}

func judge(name string, ok bool, found string, otherwise Level, wrong, fix string) Check {
	if ok {
		return Check{Name: name, Level: OK, Found: found}
	}
	return Check{Name: name, Level: otherwise, Found: wrong, Fix: fix}
}

func judgeCgroups(f Facts) Check {
	found := map[CgroupMode]string{
		CgroupV2:     "v2",
		CgroupHybrid: "hybrid (v1 with an empty v2 beside it)",
		CgroupV1:     "v1",
	}[f.Cgroups]
	if found != "" && f.CgroupsFail != "" {
		return Check{"cgroups", Blocks, found + ", and none can be made: " + f.CgroupsFail, "mount them writable, or run on the host rather than in a container"}
	}
	return judge("cgroups", found != "", found, Blocks, "no cgroup hierarchy is mounted", "mount one: mount -t cgroup2 cgroup2 "+cgroupRoot)
}

func judgeProgram(name, pkg, why string, p Program) Check {
	if p.Path == "" {
		return Check{name, Blocks, "not installed; it " + why, "apt-get install " + pkg}
	}
	if name == "podman" && older(p.Version, minPodman) {
		return Check{name, Blocks, p.Version + " at " + p.Path, "Podman " + minPodman + " or newer is needed"}
	}
	return Check{Name: name, Level: OK, Found: strings.TrimSpace(p.Version + " at " + p.Path)}
}

// ChooseRuntime picks the OCI runtime that works with the host's cgroups and
// says why; empty if none does. crun is the faster one but refuses hybrid
// hierarchies.
func ChooseRuntime(f Facts) (runtime, reason string) {
	crun, runc := f.Programs["crun"], f.Programs["runc"]
	switch {
	case crun.Path != "" && f.Cgroups != CgroupHybrid:
		return "crun", "crun " + crun.Version
	case runc.Path != "" && crun.Path != "":
		return "runc", "runc " + runc.Version + ", since crun refuses hybrid cgroups"
	case runc.Path != "":
		return "runc", "runc " + runc.Version
	}
	return "", "no OCI runtime that works here"
}

func judgeRuntime(f Facts) Check {
	if found := f.Programs[f.Runtime]; f.Runtime != "" {
		return judge("runtime", found.Path != "", strings.TrimSpace(f.Runtime+" "+found.Version)+", which is configured", Blocks,
			"podman.runtime is "+f.Runtime+", which is not installed", "install it, or take podman.runtime out of the agent's configuration: it chooses one that works")
	}
	runtime, reason := ChooseRuntime(f)
	return judge("runtime", runtime != "", reason, Blocks, reason, "apt-get install runc")
}

func judgeRanges(f Facts) Check {
	var clashes []string
	for _, r := range []string{podRange, serviceRange} {
		for _, route := range overlapping(netip.MustParsePrefix(r), f.Routes) {
			clashes = append(clashes, fmt.Sprintf("route %s overlaps %s", route, r))
		}
	}
	return judge(checkRanges, len(clashes) == 0, fmt.Sprintf("no route of this host overlaps pods (%s) or services (%s)", podRange, serviceRange),
		Warns, strings.Join(clashes, "; "), "pods will not reach what lies behind those routes")
}

func judgeSlot(f Facts) Check {
	const name = checkSlot
	if f.FreeSlot < 0 {
		return Check{name, Blocks, fmt.Sprintf("none of %d is free", MaxSlots), "bring a cluster down, or free a port from " + fmt.Sprint(baseAPIPort) + " on"}
	}
	subnet, err := ChooseSubnet(f.FreeSlot, f.Routes)
	if err != nil {
		return Check{name, Blocks, err.Error(), "remove the overlapping route"}
	}
	found := fmt.Sprintf("%d is free: port %d, nodes in %s", f.FreeSlot, baseAPIPort+f.FreeSlot, subnet)
	if len(f.TakenSlots) > 0 {
		found += fmt.Sprintf("; taken: %v", f.TakenSlots)
	}
	return Check{Name: name, Level: OK, Found: found}
}

// nodeChecks are the checks that a machine must pass to run containers as a node; the
// others are about a cluster of `up`. Those of kernel features are named by their
// feature.
var nodeChecks = []string{
	"root", "cgroups", "podman", "conmon", "runtime", "storage",
	"kernel: network and mount namespaces", "kernel: veth", "kernel: nf_tables", "kernel: overlay", "kernel: openat2",
}

// NodeLacks tells in one line all that keeps a machine from running containers as a
// node, and what to do about it; "" when nothing does.
func NodeLacks(f Facts) string {
	var lacks []string
	for _, c := range Blocking(Judge(f)) {
		if slices.Contains(nodeChecks, c.Name) {
			lacks = append(lacks, fmt.Sprintf("%s: %s (%s)", c.Name, c.Found, c.Fix))
		}
	}
	return strings.Join(lacks, "; ")
}

// Blocking returns the checks that keep a cluster from running.
func Blocking(checks []Check) []Check {
	return slices.DeleteFunc(slices.Clone(checks), func(c Check) bool { return c.Level != Blocks })
}

// older compares dotted versions by their leading numbers; what is no version
// is not older.
func older(version, than string) bool {
	v, ok1 := numbers(version)
	t, ok2 := numbers(than)
	return ok1 && ok2 && slices.Compare(v, t) < 0
}

func numbers(version string) (out []int, ok bool) {
	for part := range strings.SplitSeq(version, ".") {
		n, digits := 0, 0
		for _, r := range part {
			if r < '0' || r > '9' {
				break
			}
			n, digits = n*10+int(r-'0'), digits+1
		}
		if digits == 0 {
			break
		}
		out = append(out, n)
	}
	return out, cmp.Compare(len(out), 1) >= 0
}
