package local

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func goodHost() Facts {
	return Facts{
		Root: true, Cgroups: CgroupV2, SysResource: true, OpenFiles: 20000, Threads: 1000, Forwarding: true,
		Programs: map[string]Program{
			"podman": {"/usr/bin/podman", "4.3.1"}, "conmon": {"/usr/bin/conmon", "2.1.6"}, "nft": {"/usr/sbin/nft", "1.0.6"},
			"git": {"/usr/bin/git", "2.39.5"}, "runc": {"/usr/sbin/runc", "1.1.5"}, "crun": {"/usr/bin/crun", "1.8"},
		},
	}
}

func TestJudge(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Facts)
		check  string
		level  Level
		text   string // in what was found or how to fix it
	}{
		{"all well", func(*Facts) {}, "runtime", OK, "crun 1.8"},
		{"not root", func(f *Facts) { f.Root = false }, "root", Blocks, "run as root"},
		{"no cgroups", func(f *Facts) { f.Cgroups = CgroupNone }, "cgroups", Blocks, "mount"},
		{"hybrid", func(f *Facts) { f.Cgroups = CgroupHybrid }, "cgroups", OK, "hybrid"},
		{"cgroups that cannot be made", func(f *Facts) { f.CgroupsFail = "mkdir x: read-only file system" }, "cgroups", Blocks, "read-only file system"},
		{"storage that is read-only", func(f *Facts) { f.Storage, f.StorageFail = "/srv", "open /srv/x: read-only file system" }, "storage", Blocks, "/srv"},
		{"hybrid needs runc", func(f *Facts) { f.Cgroups = CgroupHybrid }, "runtime", OK, "crun refuses"},
		{"hybrid without runc", func(f *Facts) { f.Cgroups = CgroupHybrid; delete(f.Programs, "runc") }, "runtime", Blocks, "apt-get install runc"},
		{"a runtime that is configured", func(f *Facts) { f.Runtime, f.Programs["youki"] = "youki", Program{"/opt/youki", "0.3"} }, "runtime", OK, "youki 0.3"},
		{"whatever else is there", func(f *Facts) {
			f.Cgroups, f.Runtime, f.Programs = CgroupHybrid, "/opt/run", map[string]Program{"/opt/run": {Path: "/opt/run"}}
		}, "runtime", OK, "/opt/run, which is configured"},
		{"and is not there", func(f *Facts) { f.Runtime = "youki" }, "runtime", Blocks, "podman.runtime is youki, which is not installed"},
		{"no podman", func(f *Facts) { delete(f.Programs, "podman") }, "podman", Blocks, "apt-get install podman"},
		{"old podman", func(f *Facts) { f.Programs["podman"] = Program{"/usr/bin/podman", "3.4.2"} }, "podman", Blocks, "4.0.0"},
		{"no nft", func(f *Facts) { delete(f.Programs, "nft") }, "nft", Blocks, "apt-get install nftables"},
		{"a feature fails", func(f *Facts) { f.Features = []Feature{{"veth", "operation not supported"}} }, "kernel: veth", Blocks, "not supported"},
		{"no CAP_SYS_RESOURCE", func(f *Facts) { f.SysResource = false }, "CAP_SYS_RESOURCE", Info, "limits that fit"},
		{"forwarding off", func(f *Facts) { f.Forwarding = false }, "ip_forward", Info, "turns it on"},
		{"overlapping route", func(f *Facts) { f.Routes = []netip.Prefix{netip.MustParsePrefix("10.96.4.0/24")} }, "address ranges", Warns, "10.96.4.0/24 overlaps 10.96.0.0/16"},
		{"no free slot", func(f *Facts) { f.FreeSlot = -1 }, "slot", Blocks, "none of 64"},
		{"second slot", func(f *Facts) { f.FreeSlot, f.TakenSlots = 1, []int{0} }, "slot", OK, "port 6444, nodes in 172.31.1.0/24; taken: [0]"},
	} {
		facts := goodHost()
		test.change(&facts)
		found := false
		for _, c := range Judge(facts) {
			if c.Name != test.check {
				continue
			}
			found = true
			if c.Level != test.level || !strings.Contains(c.Found+" "+c.Fix, test.text) {
				t.Errorf("%s: got %+v, want level %s and %q", test.name, c, test.level, test.text)
			}
			if c.Level == Blocks && c.Fix == "" {
				t.Errorf("%s: %s blocks without a word on how to fix it", test.name, c.Name)
			}
		}
		if !found {
			t.Errorf("%s: no check %q", test.name, test.check)
		}
	}
	if blocking := Blocking(Judge(goodHost())); len(blocking) > 0 {
		t.Errorf("a good host is blocked by %+v", blocking)
	}
}

// A node is kept from work by what its containers need, and by nothing that only a
// cluster of `up` does; each check that is named is one that is made.
func TestNodeLacks(t *testing.T) {
	f := goodHost()
	f.Features = []Feature{{Name: "network and mount namespaces"}, {Name: "veth"}, {Name: "bridge"}, {Name: "nf_tables"}, {Name: "overlay"}, {Name: "openat2"}}
	for _, name := range nodeChecks {
		if !slices.ContainsFunc(Judge(f), func(c Check) bool { return c.Name == name }) {
			t.Errorf("there is no check %q", name)
		}
	}
	f.FreeSlot = -1
	delete(f.Programs, "git")
	if got := NodeLacks(f); got != "" {
		t.Errorf("a node that lacks git and a slot: %s", got)
	}
	f.Cgroups = CgroupNone
	delete(f.Programs, "conmon")
	got := NodeLacks(f)
	for _, want := range []string{"cgroups: no cgroup hierarchy is mounted (mount one: mount -t cgroup2 ", "; conmon: not installed", "(apt-get install conmon)"} {
		if !strings.Contains(got, want) {
			t.Errorf("a node without cgroups and conmon: %s, want %q", got, want)
		}
	}
}

func TestOlder(t *testing.T) {
	for _, test := range []struct {
		version, than string
		want          bool
	}{{"4.3.1", "4.0.0", false}, {"3.9", "4.0.0", true}, {"10.0", "4.0.0", false}, {"4.0.0-rc1", "4.0.0", false}, {"dev", "4.0.0", false}} {
		if got := older(test.version, test.than); got != test.want {
			t.Errorf("older(%s, %s) = %v", test.version, test.than, got)
		}
	}
}

// Where files cannot be kept, that alone is told: no feature of the kernel is to blame.
func TestStorageThatFailsBlamesNoKernel(t *testing.T) {
	names := func(f Facts) (out []string) {
		for _, t := range f.trials() {
			out = append(out, t.name)
		}
		return out
	}
	all := names(Facts{})
	some := names(Facts{StorageFail: "no space left on device"})
	for _, name := range []string{"overlay", "openat2"} {
		if !slices.Contains(all, name) || slices.Contains(some, name) {
			t.Errorf("%s: tried with room %v and without %v", name, all, some)
		}
	}
	if len(some)+2 != len(all) {
		t.Errorf("tried %v without room, %v with", some, all)
	}
}

// An agent programs its tables without the program: a node that lacks it works.
func TestNftablesAreTriedWithoutTheProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if err := onFreshThread(tryTables); err != nil {
		t.Error(err)
	}
}
