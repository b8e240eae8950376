// Package local answers how a whole cluster lives on one machine: which names,
// subnets and ports it takes (Plan), how its nodes' namespaces are made and
// entered, who keeps its processes running (Supervise), how it comes up, what
// may stand in its way (Examine) and how it goes without a trace (Down).
// It decides nothing about pods; the commands up, down, doctor and supervise
// call it and nothing else does.
package local

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"

	"fairlead/schema"
)

const (
	// DefaultDir is where `up` keeps its cluster unless told otherwise.
	DefaultDir = "/var/lib/fairlead/up"
	// DefaultNodes is how many nodes a new cluster gets.
	DefaultNodes = 3
	// MaxNodes bounds a cluster on one machine: each node costs an agent, a
	// Podman service and a DNS server.
	MaxNodes = 32
	// MaxSlots bounds the clusters of one machine; a slot is also the third
	// byte of its node subnet.
	MaxSlots = 64

	runRoot     = "/run/fairlead"
	baseAPIPort = 6443

	podRange     = "10.112.0.0/12"
	serviceRange = "10.96.0.0/16"
)

// subnetBases are the /16 ranges a cluster's node subnet is looked for in, in
// this order.
var subnetBases = []string{"172.31", "172.30", "192.168", "10.250"}

// Settings is what a cluster's directory remembers between runs: enough to
// derive everything else.
type Settings struct {
	Slot   int          `json:"slot"`
	Nodes  int          `json:"nodes"`
	Subnet netip.Prefix `json:"subnet"` // the nodes' addresses, a /24
}

// Cluster is every name, address and path of one cluster on this machine. It
// is a value derived from Dir and Settings alone.
type Cluster struct {
	Dir      string // configuration, data, logs; also the master's directory
	RunDir   string // sockets and namespace pins; gone after a reboot
	Settings Settings
	Bridge   string     // link in the host's namespace that joins the nodes
	Gateway  netip.Addr // the bridge's address: the host, as nodes see it
	Table    string     // nft table of family inet in the host's namespace
	Cgroup   string     // parent of every cgroup of this cluster
	APIPort  int
	Nodes    []Node // sorted by number
}

// Node is one node's part of a Cluster.
type Node struct {
	Name   schema.NodeName
	IP     netip.Addr
	Dir    string // the agent's directory
	Link   string // the host's end of the node's link
	NetNS  string // where its network namespace is pinned
	MntNS  string // where its mount namespace is pinned
	Cgroup string // of its daemons; pods are beside it, under the parent
}

// Plan derives a cluster from what its directory remembers.
func Plan(dir string, s Settings) Cluster {
	slot := strconv.Itoa(s.Slot)
	c := Cluster{
		Dir:      dir,
		RunDir:   filepath.Join(runRoot, slot),
		Settings: s,
		Bridge:   linkName("bridge", slot),
		Gateway:  s.Subnet.Masked().Addr().Next(),
		Table:    "fairlead-up-" + slot,
		Cgroup:   "/fairlead/" + slot,
		APIPort:  baseAPIPort + s.Slot,
	}
	ip := c.Gateway
	for i := 1; i <= s.Nodes; i++ {
		name := "n" + strconv.Itoa(i)
		ip = ip.Next()
		c.Nodes = append(c.Nodes, Node{
			Name:   schema.NodeName(name),
			IP:     ip,
			Dir:    filepath.Join(dir, "nodes", name),
			Link:   linkName(name, slot),
			NetNS:  filepath.Join(c.RunDir, name, "net"),
			MntNS:  filepath.Join(c.RunDir, name, "mnt"),
			Cgroup: c.Cgroup + "/" + name + "/daemons",
		})
	}
	return c
}

// linkName keeps below the kernel's 15 bytes whatever the slot.
func linkName(what, slot string) string {
	return "fl-" + schema.ShortHash("up/"+slot+"/"+what)
}

// ChooseSubnet returns the node subnet of a slot: the first candidate that
// overlaps neither a route of the host nor the ranges of pods and services.
func ChooseSubnet(slot int, routes []netip.Prefix) (netip.Prefix, error) {
	taken := append([]netip.Prefix{netip.MustParsePrefix(podRange), netip.MustParsePrefix(serviceRange)}, routes...)
	for _, base := range subnetBases {
		candidate := netip.MustParsePrefix(fmt.Sprintf("%s.%d.0/24", base, slot))
		if len(overlapping(candidate, taken)) == 0 {
			return candidate, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("no free node subnet for slot %d: every candidate (%v, third byte %d) overlaps a route of this host; try another --slot", slot, subnetBases, slot)
}

// overlapping returns the prefixes that share an address with p; default
// routes share every address and say nothing.
func overlapping(p netip.Prefix, with []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, w := range with {
		if w.Bits() > 0 && w.Overlaps(p) {
			out = append(out, w)
		}
	}
	return out
}

func (c Cluster) path(name string) string { return filepath.Join(c.Dir, name) }

// Kubeconfig is where the cluster's administrator credentials stand.
func (c Cluster) Kubeconfig() string { return c.path("kubeconfig") }

// GitRemote is the bare repository of the source main; plain `git push` takes it.
func (c Cluster) GitRemote() string { return c.path("git/main.git") }

// API is the address of the cluster's one TLS port.
func (c Cluster) API() string {
	return "https://" + netip.AddrPortFrom(c.Gateway, uint16(c.APIPort)).String()
}

func (c Cluster) masterConfig() string     { return c.path("config.yaml") }
func (c Cluster) stateFile() string        { return c.path("supervisor.json") }
func (c Cluster) supervisorCgroup() string { return c.Cgroup + "/supervisor" }
func (c Cluster) supervisorLog() string    { return c.path("supervisor.log") }
func (c Cluster) masterLog() string        { return c.path("master.log") }
func (n Node) config() string              { return filepath.Join(n.Dir, "config.yaml") }
func (n Node) token() string               { return filepath.Join(n.Dir, "token") }
func (n Node) log(process string) string   { return filepath.Join(n.Dir, process+".log") }
