package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	forwardFile = "/proc/sys/net/ipv4/ip_forward"
	// forwardWas keeps what the first cluster found, so that the last one to
	// go can put it back.
	forwardWas = runRoot + "/ip_forward.was"
	nodeLink   = "eth0" // the node's end of its link
	// nftTimeout bounds one run of nft.
	nftTimeout = 20 * time.Second
)

// ensureHost gives the host its side of the cluster's network: the bridge, a
// way out for the nodes, forwarding. It changes nothing that is as it should be.
func ensureHost(c Cluster) error {
	if err := ensureBridge(c); err != nil {
		return fmt.Errorf("bridge %s: %w", c.Bridge, err)
	}
	if err := ensureForwarding(); err != nil {
		return fmt.Errorf("ip_forward: %w", err)
	}
	return nft(renderEgress(c))
}

func ensureBridge(c Cluster) error {
	link, err := netlink.LinkByName(c.Bridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		// A fixed address: otherwise the bridge takes its lowest port's, and
		// the nodes' neighbour entries go stale when a node comes or goes.
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = c.Bridge, hardwareAddr(c.Bridge)
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return err
		}
		link, err = netlink.LinkByName(c.Bridge)
	}
	if err != nil {
		return err
	}
	addr := netlink.Addr{IPNet: ipNet(c.Gateway, c.Settings.Subnet.Bits())}
	if err := netlink.AddrReplace(link, &addr); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// hardwareAddr derives a locally administered unicast address.
func hardwareAddr(name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(name))
	return net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}
}

func ipNet(ip netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(bits, ip.BitLen())}
}

// ensureForwarding is called under the run directory's lock.
func ensureForwarding() error {
	now, err := os.ReadFile(forwardFile)
	if err != nil {
		return err
	}
	if bytes.Equal(bytes.TrimSpace(now), []byte("1")) {
		return nil
	}
	if err := os.WriteFile(forwardWas, now, 0o600); err != nil {
		return err
	}
	return os.WriteFile(forwardFile, []byte("1"), 0)
}

// restoreForwarding undoes ensureForwarding, once no cluster is left.
func restoreForwarding() error {
	was, err := os.ReadFile(forwardWas)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.WriteFile(forwardFile, bytes.TrimSpace(was), 0); err != nil {
		return fmt.Errorf("restore ip_forward: %w", err)
	}
	return os.Remove(forwardWas)
}

// renderEgress is the host's table of the cluster: what nodes send to the
// outside takes the host's address; what they send each other stays as it is,
// also where br_netfilter shows bridged packets to this hook.
func renderEgress(c Cluster) string {
	return fmt.Sprintf(`table inet %[1]s
delete table inet %[1]s
table inet %[1]s {
	chain egress {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr %[2]s ip daddr != %[2]s oifname != %[3]q masquerade
	}
}
`, c.Table, c.Settings.Subnet, c.Bridge)
}

// nft runs one transaction through the nft program.
func nft(script string) error {
	ctx, cancel := context.WithTimeout(context.Background(), nftTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// ensureLink joins a node to the bridge and gives it its address and its way
// out.
func ensureLink(c Cluster, n Node) error {
	if err := connect(c, n); err != nil {
		return fmt.Errorf("node %s: link %s: %w", n.Name, n.Link, err)
	}
	err := n.inNetwork(func() error {
		for _, name := range []string{"lo", nodeLink} {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(link); err != nil {
				return err
			}
			if name == "lo" {
				continue
			}
			if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: ipNet(n.IP, c.Settings.Subnet.Bits())}); err != nil {
				return err
			}
			if err := netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: c.Gateway.AsSlice()}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("node %s: network: %w", n.Name, err)
	}
	return nil
}

// connect makes the node's pair of links unless both ends stand.
func connect(c Cluster, n Node) error {
	bridge, err := netlink.LinkByName(c.Bridge)
	if err != nil {
		return err
	}
	inside := n.inNetwork(func() error {
		_, err := netlink.LinkByName(nodeLink)
		return err
	})
	outside, err := netlink.LinkByName(n.Link)
	if err == nil && inside != nil {
		// The other end went with an earlier namespace.
		if err := netlink.LinkDel(outside); err != nil {
			return err
		}
	}
	if err != nil || inside != nil {
		fd, err := unix.Open(n.NetNS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		attrs := netlink.NewLinkAttrs()
		attrs.Name = n.Link
		pair := &netlink.Veth{LinkAttrs: attrs, PeerName: nodeLink, PeerNamespace: netlink.NsFd(fd)}
		if err := netlink.LinkAdd(pair); err != nil {
			return err
		}
		if outside, err = netlink.LinkByName(n.Link); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetMaster(outside, bridge); err != nil {
		return err
	}
	return netlink.LinkSetUp(outside)
}

// removeHost takes back what ensureHost and ensureLink gave the host. Links
// are found by the bridge they are on as well as by name.
func removeHost(c Cluster) error {
	var errs []error
	errs = append(errs, nft(fmt.Sprintf("table inet %[1]s\ndelete table inet %[1]s\n", c.Table)))
	names := make(map[string]bool)
	for _, n := range c.Nodes {
		names[n.Link] = true
	}
	bridge, err := netlink.LinkByName(c.Bridge)
	index := -1
	if err == nil {
		index = bridge.Attrs().Index
	}
	links, err := netlink.LinkList()
	errs = append(errs, err)
	for _, link := range links {
		if a := link.Attrs(); names[a.Name] || a.MasterIndex == index && index > 0 {
			errs = append(errs, netlink.LinkDel(link))
		}
	}
	if bridge != nil {
		errs = append(errs, netlink.LinkDel(bridge))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove the host's side of the network: %w", err)
	}
	return nil
}

// hostRoutes lists the destinations of the host's IPv4 routes, without those
// of links in not.
func hostRoutes(not ...string) ([]netip.Prefix, error) {
	routes, err := netlink.RouteList(nil, unix.AF_INET)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	skip := make(map[int]bool)
	for _, name := range not {
		if link, err := netlink.LinkByName(name); err == nil {
			skip[link.Attrs().Index] = true
		}
	}
	var out []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil || skip[r.LinkIndex] {
			continue
		}
		if ip, ok := netip.AddrFromSlice(r.Dst.IP.To4()); ok {
			bits, _ := r.Dst.Mask.Size()
			out = append(out, netip.PrefixFrom(ip, bits))
		}
	}
	return out, nil
}

// prepareResolvConf writes the resolv.conf of each node.
func prepareResolvConf(c Cluster) error {
	host, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read resolv.conf: %w", err)
	}
	fallback, _ := os.ReadFile("/run/systemd/resolve/resolv.conf") // only some hosts have it
	conf := resolvConf(host, fallback)
	for _, n := range c.Nodes {
		if err := os.MkdirAll(n.Dir, 0o700); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
		if err := os.WriteFile(filepath.Join(n.Dir, "resolv.conf"), conf, 0o644); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
	}
	return nil
}
