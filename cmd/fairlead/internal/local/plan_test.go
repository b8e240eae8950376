package local

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fairlead/schema/chance"
)

func TestPlan(t *testing.T) {
	c := Plan("/data", Settings{Slot: 1, Nodes: 2, Subnet: netip.MustParsePrefix("172.31.1.0/24")})
	got := []string{
		c.RunDir, c.Gateway.String(), c.Table, c.Cgroup, c.API(), c.GitRemote(), c.Kubeconfig(),
		string(c.Nodes[0].Name), c.Nodes[0].IP.String(), c.Nodes[0].Dir, c.Nodes[0].NetNS, c.Nodes[0].Cgroup,
		string(c.Nodes[1].Name), c.Nodes[1].IP.String(),
	}
	want := []string{
		"/run/fairlead/1", "172.31.1.1", "fairlead-up-1", "/fairlead/1", "https://172.31.1.1:6444", "/data/git/main.git", "/data/kubeconfig",
		"n1", "172.31.1.2", "/data/nodes/n1", "/run/fairlead/1/n1/net", "/fairlead/1/n1/daemons",
		"n2", "172.31.1.3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// No two clusters, and no two nodes, share a name, an address or a port; every
// link name fits the kernel's 15 bytes.
func TestPlansAreDisjoint(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		slots := rapid.SliceOfNDistinct(rapid.IntRange(0, MaxSlots-1), 2, 4, rapid.ID).Draw(t, "slots")
		seen := make(map[string]int)
		for _, slot := range slots {
			subnet, err := ChooseSubnet(slot, nil)
			if err != nil {
				t.Fatal(err)
			}
			c := Plan("/data", Settings{Slot: slot, Nodes: rapid.IntRange(1, MaxNodes).Draw(t, "nodes"), Subnet: subnet})
			names := []string{c.RunDir, c.Bridge, c.Gateway.String(), c.Table, c.Cgroup, c.API()}
			for _, n := range c.Nodes {
				names = append(names, n.IP.String(), n.Link, n.NetNS, n.MntNS, n.Cgroup)
				if !subnet.Contains(n.IP) {
					t.Fatalf("node %s has %s, outside of %s", n.Name, n.IP, subnet)
				}
			}
			for _, name := range names {
				if seen[name]++; seen[name] > 1 {
					t.Fatalf("%q is used twice", name)
				}
				if strings.HasPrefix(name, "fl-") && len(name) > 15 {
					t.Fatalf("link name %q is longer than 15 bytes", name)
				}
			}
		}
	})
}

func TestChooseSubnet(t *testing.T) {
	prefixes := func(text ...string) (out []netip.Prefix) {
		for _, s := range text {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	for _, test := range []struct {
		name   string
		routes []netip.Prefix
		want   string
	}{
		{"nothing in the way", nil, "172.31.2.0/24"},
		{"a default route is no clash", prefixes("0.0.0.0/0"), "172.31.2.0/24"},
		{"another subnet is no clash", prefixes("172.31.3.0/24"), "172.31.2.0/24"},
		{"a wider route", prefixes("172.31.0.0/16"), "172.30.2.0/24"},
		{"a host route inside", prefixes("172.31.2.7/32", "172.16.0.0/12"), "192.168.2.0/24"},
		{"everything private", prefixes("172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/8"), ""},
	} {
		got, err := ChooseSubnet(2, test.routes)
		if test.want == "" {
			if err == nil || !strings.Contains(err.Error(), "overlaps a route") {
				t.Errorf("%s: got %v, %v; want a refusal", test.name, got, err)
			}
			continue
		}
		if err != nil || got.String() != test.want {
			t.Errorf("%s: got %v, %v; want %s", test.name, got, err, test.want)
		}
	}
}

func TestShare(t *testing.T) {
	got := share(2, 24<<30+12345, 3)
	if cpu, memory := got.Cpu().String(), got.Memory().String(); cpu != "666m" || memory != "8Gi" {
		t.Errorf("got %s and %s, want 666m and 8Gi", cpu, memory)
	}
}

func TestResolvConf(t *testing.T) {
	for _, test := range []struct{ name, host, fallback, want string }{
		{"usable as it is", "search a\nnameserver 10.0.0.1\n", "", "search a\nnameserver 10.0.0.1\n"},
		{"loopback among others", "nameserver 127.0.0.1\nnameserver 10.0.0.1\n", "", "nameserver 10.0.0.1\n"},
		{"only loopback", "nameserver 127.0.0.53\n", "nameserver 10.0.0.2\n", "nameserver 10.0.0.2\n"},
		{"only loopback, nothing better", "search a\nnameserver ::1\n", "nameserver 127.0.0.1\n", "search a\n"},
	} {
		if got := string(resolvConf([]byte(test.host), []byte(test.fallback))); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}
