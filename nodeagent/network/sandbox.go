package network

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/dirfd"
	"fairlead/nodeagent/pod"
	"fairlead/schema"
)

const (
	linkPrefix = "fl-"  // of the node's end of a pod's link
	podLink    = "eth0" // the pod's end
	// shmBytes bounds /dev/shm, as container runtimes do.
	shmBytes = 64 << 20
)

// gateway is every pod's way out: an address that no machine has, answered by
// the permanent neighbour entry that leads to the node's end of the link.
var gateway = netip.AddrFrom4([4]byte{169, 254, 1, 1})

// baseSysctls is what a pod's namespace is given: ping without privilege and
// ports from 0 for everyone, as container runtimes for Kubernetes do; no IPv6
// address on its link.
var baseSysctls = [][2]string{
	{"net/ipv4/ping_group_range", "0 2147483647"},
	{"net/ipv4/ip_unprivileged_port_start", "0"},
	{"net/ipv6/conf/default/disable_ipv6", "1"},
}

// linkName is the node's end of the pod's link.
func linkName(uid types.UID) string { return linkPrefix + schema.ShortHash(string(uid)) }

// macs derives the two ends' addresses: locally administered, unicast.
func macs(uid types.UID) (node, pod net.HardwareAddr) {
	sum := sha256.Sum256([]byte(uid))
	node, pod = slices.Clone(sum[:6]), slices.Clone(sum[6:12])
	node[0], pod[0] = node[0]&0xfc|2, pod[0]&0xfc|2
	return node, pod
}

func (n *Network) dir(uid types.UID) string {
	return filepath.Join(n.runDir, "pods", string(uid))
}

func (n *Network) sandbox(uid types.UID) pod.Sandbox {
	d := n.dir(uid)
	return pod.Sandbox{Net: d + "/net", IPC: d + "/ipc", UTS: d + "/uts", Shm: d + "/shm"}
}

// CreateSandbox gives the pod its namespaces, hostname, shared memory, link and
// address, or returns those it has. It takes a few milliseconds. A sandbox that
// a crash left half-made is made again; a whole one with another address is an
// error, because containers may live in it.
//
// The pod's directory is made first and removed last, and the node's route to
// the pod is the last step: with the route in place the sandbox is complete.
func (n *Network) CreateSandbox(c pod.SandboxConfig) (pod.Sandbox, error) {
	uid, ip := c.UID, c.IP
	if err := checkUID(uid); err != nil {
		return pod.Sandbox{}, err
	}
	if !ip.Is4() {
		return pod.Sandbox{}, fmt.Errorf("sandbox of pod %s: %s is not an IPv4 address", uid, ip)
	}
	err := os.Mkdir(n.dir(uid), 0o711)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err = os.MkdirAll(n.dir(uid), 0o711); err != nil {
			return pod.Sandbox{}, fmt.Errorf("sandbox of pod %s: %w", uid, err)
		}
	case errors.Is(err, fs.ErrExist):
		if done, err := n.adopt(uid, ip); done || err != nil {
			return n.sandbox(uid), err
		}
	case err != nil:
		return pod.Sandbox{}, fmt.Errorf("sandbox of pod %s: %w", uid, err)
	}
	if err := n.build(c); err != nil {
		return pod.Sandbox{}, fmt.Errorf("sandbox of pod %s: %w", uid, err)
	}
	return n.sandbox(uid), nil
}

// adopt reports whether the pod's sandbox is whole; what is half-made it clears
// away, up to the directory.
func (n *Network) adopt(uid types.UID, ip netip.Addr) (done bool, err error) {
	routes, err := podRoutes()
	if err != nil {
		return false, err
	}
	if has, ok := n.complete(uid, routes); ok {
		if has != ip {
			return true, fmt.Errorf("sandbox of pod %s has address %s, not %s, and containers may live in it: restart the agent, which takes over the addresses it finds", uid, has, ip)
		}
		return true, nil
	}
	return false, n.clear(uid)
}

// checkUID keeps a UID from naming anything outside its own directory.
func checkUID(uid types.UID) error {
	if uid == "" || string(uid) != filepath.Base(string(uid)) || uid[0] == '.' {
		return fmt.Errorf("pod UID %q cannot name a directory", uid)
	}
	return nil
}

func (n *Network) build(c pod.SandboxConfig) error {
	s := n.sandbox(c.UID)
	if err := os.Mkdir(s.Shm, 0o711); err != nil {
		return err
	}
	if err := unix.Mount("shm", s.Shm, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, fmt.Sprintf("mode=1777,size=%d", shmBytes)); err != nil {
		return fmt.Errorf("mount %s: %w", s.Shm, err)
	}
	node, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer node.Close()
	err = onDiscardedThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("make namespaces: %w", err)
		}
		if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
			return fmt.Errorf("set hostname %s: %w", c.Hostname, err)
		}
		if err := n.podSide(c.UID, c.IP, int(node.Fd())); err != nil {
			return err
		}
		if err := podSysctls(c.Sysctls); err != nil {
			return err
		}
		return pinNamespaces(s)
	})
	if err != nil {
		return err
	}
	return nodeSide(c.UID, c.IP)
}

// podSide runs in the pod's namespace: sysctls, the link with its far end on the
// node, address and routes.
func (n *Network) podSide(uid types.UID, ip netip.Addr, node int) error {
	for _, s := range baseSysctls {
		if err := writeSysctl(s[0], s[1]); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(loopbackLink()); err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	nodeMAC, podMAC := macs(uid)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = podLink, podMAC, int(n.mtu.Load())
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: linkName(uid), PeerHardwareAddr: nodeMAC, PeerMTU: uint32(n.mtu.Load()), PeerNamespace: netlink.NsFd(node)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make link %s: %w", linkName(uid), err)
	}
	link, err := netlink.LinkByName(podLink)
	if err != nil {
		return fmt.Errorf("find %s: %w", podLink, err)
	}
	index := link.Attrs().Index
	steps := []struct {
		what string
		do   func() error
	}{
		{"add address", func() error {
			return netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(ip, 32))})
		}},
		{"bring link up", func() error { return netlink.LinkSetUp(link) }},
		{"add gateway", func() error { return netlink.NeighSet(neighbour(index, gateway, nodeMAC)) }},
		{"add gateway route", func() error {
			return netlink.RouteAdd(&netlink.Route{LinkIndex: index, Dst: ipNet(netip.PrefixFrom(gateway, 32)), Scope: unix.RT_SCOPE_LINK})
		}},
		{"add default route", func() error {
			return netlink.RouteAdd(&netlink.Route{LinkIndex: index, Dst: ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0)), Gw: gateway.AsSlice()})
		}},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("%s in the pod: %w", s.what, err)
		}
	}
	return nil
}

// podSysctls sets what the pod asks for itself, in the calling thread's namespaces. What
// the kernel does not take, or does not have, only the manifest can mend.
func podSysctls(all []pod.Sysctl) error {
	for _, s := range all {
		err := os.WriteFile("/proc/sys/"+s.Path, []byte(s.Value), 0o644)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return pod.UnusableError(fmt.Sprintf("sysctl %s: the node's kernel does not have it for a pod of its own", s.Path))
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE), errors.Is(err, fs.ErrPermission):
			return pod.UnusableError(fmt.Sprintf("sysctl %s: the node's kernel does not take %q for it", s.Path, s.Value))
		case err != nil:
			return fmt.Errorf("set %s: %w", s.Path, err)
		}
	}
	return nil
}

// nodeSide brings the node's end up and, last of all, adds the route.
func nodeSide(uid types.UID, ip netip.Addr) error {
	name := linkName(uid)
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	// Strict: what leaves the pod must carry the pod's address.
	if err := writeSysctl("net/ipv4/conf/"+name+"/rp_filter", "1"); err != nil {
		return err
	}
	if err := writeSysctl("net/ipv6/conf/"+name+"/disable_ipv6", "1"); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	_, podMAC := macs(uid)
	index := link.Attrs().Index
	if err := netlink.NeighSet(neighbour(index, ip, podMAC)); err != nil {
		return fmt.Errorf("add neighbour %s: %w", ip, err)
	}
	r := route{dst: netip.PrefixFrom(ip, 32), link: index}
	if err := netlink.RouteAdd(r.netlink()); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add route %s: another sandbox has this address", r.dst)
		}
		return fmt.Errorf("add route %s: %w", r.dst, err)
	}
	return nil
}

func neighbour(link int, ip netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: link, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT, IP: ip.AsSlice(), HardwareAddr: mac}
}

// writeSysctl sets one in the calling thread's network namespace; a kernel
// without IPv6 has nothing to turn off.
func writeSysctl(name, value string) error {
	err := os.WriteFile("/proc/sys/"+name, []byte(value), 0o644)
	if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(name, "net/ipv6/") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}

// pinNamespaces binds the calling thread's namespaces to the sandbox's paths.
func pinNamespaces(s pod.Sandbox) error {
	for _, b := range [][2]string{{"ipc", s.IPC}, {"uts", s.UTS}, {"net", s.Net}} {
		f, err := os.OpenFile(b[1], os.O_CREATE|os.O_RDONLY, 0o444)
		if err != nil {
			return err
		}
		f.Close()
		if err := unix.Mount("/proc/thread-self/ns/"+b[0], b[1], "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", b[1], err)
		}
	}
	return nil
}

// DeleteSandbox removes the pod's link, route and mounts; a sandbox that is not
// there is no error. Processes still in the namespaces lose their network.
func (n *Network) DeleteSandbox(uid types.UID) error {
	if err := checkUID(uid); err != nil {
		return err
	}
	if _, err := os.Lstat(n.dir(uid)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := n.clear(uid); err != nil {
		return err
	}
	if err := os.Remove(n.dir(uid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete sandbox of pod %s: %w", uid, err)
	}
	return nil
}

// clear removes everything but the directory. The route goes with the link.
func (n *Network) clear(uid types.UID) error {
	link, err := netlink.LinkByName(linkName(uid))
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete link %s: %w", linkName(uid), err)
	}
	s := n.sandbox(uid)
	for _, path := range []string{s.Net, s.UTS, s.IPC, s.Shm} {
		if err := dirfd.Unmount(path); err != nil {
			return fmt.Errorf("delete sandbox of pod %s: %w", uid, err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delete sandbox of pod %s: %w", uid, err)
		}
	}
	return nil
}

// Sandboxes lists what is on the node, sorted by UID, half-made ones included.
func (n *Network) Sandboxes() ([]Info, error) {
	entries, err := os.ReadDir(filepath.Join(n.runDir, "pods"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	if len(entries) == 0 {
		return nil, nil
	}
	routes, err := podRoutes()
	if err != nil {
		return nil, err
	}
	out := make([]Info, 0, len(entries))
	for _, e := range entries {
		uid := types.UID(e.Name())
		ip, ok := n.complete(uid, routes)
		out = append(out, Info{UID: uid, IP: ip, Complete: ok})
	}
	return out, nil
}

// complete reports whether the pod's sandbox is whole, and its address.
func (n *Network) complete(uid types.UID, routes map[string]netip.Addr) (netip.Addr, bool) {
	ip, ok := routes[linkName(uid)]
	s := n.sandbox(uid)
	if !ok || !isFilesystem(s.Net, unix.NSFS_MAGIC) || !isFilesystem(s.IPC, unix.NSFS_MAGIC) ||
		!isFilesystem(s.UTS, unix.NSFS_MAGIC) || !isFilesystem(s.Shm, unix.TMPFS_MAGIC) || !isMountPoint(s.Shm) {
		return netip.Addr{}, false
	}
	return ip, true
}

func isFilesystem(path string, magic int64) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && int64(st.Type) == magic
}

// isMountPoint tells a mount from a directory: its device is not its parent's.
func isMountPoint(path string) bool {
	var st, parent unix.Stat_t
	return unix.Stat(path, &st) == nil && unix.Stat(filepath.Dir(path), &parent) == nil && st.Dev != parent.Dev
}

// podRoutes gives the pod address behind each of our links that has its route.
func podRoutes() (map[string]netip.Addr, error) {
	links, err := whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	filter := &netlink.Route{Table: unix.RT_TABLE_MAIN, Protocol: routeProtocol}
	routes, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	out := map[string]netip.Addr{}
	for _, r := range routes {
		if d := fromNetlink(r).dst; d.Bits() == 32 {
			out[names[r.LinkIndex]] = d.Addr()
		}
	}
	return out, nil
}
