package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/cmd/fairlead/internal/config"
	"fairlead/cmd/fairlead/internal/local"
	"fairlead/nodeagent"
	"fairlead/nodeagent/dns"
	"fairlead/nodeagent/join"
	"fairlead/nodeagent/network"
	"fairlead/nodeagent/pod"
	"fairlead/nodeagent/podman"
	"fairlead/nodeagent/proxy"
	"fairlead/nodeagent/uplink"
	"fairlead/nodeagent/volume"
	"fairlead/schema/wire"
)

const (
	joinRetry  = 2 * time.Second
	renewCheck = time.Hour
	// podsPerNode is what a node takes unless its configuration says otherwise.
	podsPerNode = 250
)

func agentCommand() *cobra.Command {
	path := "/etc/fairlead/agent.yaml"
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run a node's agent: runs the pods the master binds to this node",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.ReadAgent(path)
			if err != nil {
				return err
			}
			return runAgent(cmd.Context(), c, logrus.WithFields(logrus.Fields{"daemon": "agent", "node": c.NodeName}))
		},
	}
	cmd.Flags().StringVar(&path, "config", path, "configuration file")
	return cmd
}

// runAgent joins the cluster if need be and works until ctx ends.
func runAgent(ctx context.Context, c config.Agent, log *logrus.Entry) error {
	ip, err := nodeIP(c)
	if err != nil {
		return err
	}
	pki := filepath.Join(c.Dir, "pki")
	if err := joinCluster(ctx, c, ip, pki, log); err != nil || ctx.Err() != nil {
		return err
	}
	tls, err := join.ClientTLS(pki)
	if err != nil {
		return err
	}
	capacity := machineCapacity(c.Capacity)
	node := nodeagent.Config{
		Node: c.NodeName, NodeIP: ip.String(), Dir: c.Dir, Info: systemInfo(ctx, c.RunDir),
		Capacity: capacity, Allocatable: capacity, Labels: c.Labels, Taints: c.Taints, UnsafeSysctls: c.UnsafeSysctls,
		Checks: func(context.Context) string { return local.NodeLacks(local.Examine(c.Dir, c.Podman.Runtime)) },
		Master: masterLink{uplink.New(uplink.Config{Server: c.Server, TLS: tls, Log: log})}, Log: log,
	}
	// Nothing below can be made on a machine that lacks what containers need.
	if nodeagent.AwaitFit(ctx, node); ctx.Err() != nil {
		return nil
	}
	containers, err := openPodman(c, log)
	if err != nil {
		return err
	}
	links, err := newNodeNetwork(c, ip, log)
	if err != nil {
		return err
	}
	defer links.close()
	node.Runtime, node.Network, node.Volumes = containers, links, volume.New(nodeagent.PodsDir(c.Dir))
	agent := nodeagent.New(node)
	// The steps under way when ctx ends still need Podman.
	serviceCtx, stopService := context.WithCancel(context.WithoutCancel(ctx))
	var beside sync.WaitGroup
	beside.Go(func() {
		if err := containers.Run(serviceCtx); err != nil {
			log.WithError(err).Error("podman cannot be run")
		}
	})
	beside.Go(func() { renewCertificate(ctx, c.Server, pki, log) })
	err = agent.Run(ctx)
	stopService()
	beside.Wait()
	return err
}

// openPodman readies the node's Podman with the runtime that works here.
func openPodman(c config.Agent, log *logrus.Entry) (*podman.Podman, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ociRuntime := c.Podman.Runtime
	if ociRuntime == "" {
		ociRuntime, _ = local.ChooseRuntime(local.Examine(c.Dir, ""))
	}
	return podman.New(podman.Config{
		Node: c.NodeName, StorageDir: filepath.Join(c.Dir, "storage"), RunDir: c.RunDir,
		CgroupParent: fmt.Sprintf("/fairlead/%s/%s", c.Slot, c.NodeName),
		Runtime:      ociRuntime, Helper: filepath.Join(filepath.Dir(self), "fairlead-oci"), AdditionalStores: c.Podman.AdditionalStores,
		AuthFile: c.Podman.AuthFile, RegistriesConf: c.Podman.RegistriesConf,
		NoImage: nodeagent.ErrNoImage, NoRegistry: nodeagent.ErrNoRegistry, Denied: nodeagent.ErrDenied, NodeFails: nodeagent.ErrNode, Unavailable: nodeagent.ErrUnavailable, Log: log,
	})
}

// joinCluster makes this machine a node; a master that is away is waited for.
func joinCluster(ctx context.Context, c config.Agent, ip netip.Addr, pki string, log *logrus.Entry) error {
	for told := false; ; told = true {
		token, unread := os.ReadFile(c.TokenFile)
		err := join.Cluster(ctx, c.Server, string(token), c.NodeName, ip.String(), pki)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, join.ErrRefused) && unread != nil {
			return fmt.Errorf("read join token: %w (make one on the master: fairlead token)", unread)
		}
		if errors.Is(err, join.ErrRefused) {
			return err
		}
		if !told {
			log.WithError(err).Warn("waiting to join the cluster")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(joinRetry):
		}
	}
}

func renewCertificate(ctx context.Context, server, pki string, log *logrus.Entry) {
	tick := time.NewTicker(renewCheck)
	defer tick.Stop()
	for {
		due, err := join.RenewDue(pki, time.Now())
		if err == nil && due {
			err = join.Renew(ctx, server, pki)
		}
		if err != nil && ctx.Err() == nil {
			log.WithError(err).Warn("the node's certificate is due and could not be renewed")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// nodeIP is the configured address, or the one this machine reaches the master from.
func nodeIP(c config.Agent) (netip.Addr, error) {
	if len(c.NodeIPs) > 0 {
		ip, err := netip.ParseAddr(c.NodeIPs.First())
		if err != nil {
			return ip, fmt.Errorf("configuration: nodeIP: %w", err)
		}
		return ip, nil
	}
	u, err := url.Parse(c.Server)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("configuration: server: %w", err)
	}
	conn, err := net.Dial("udp4", u.Host) // sends nothing: it asks the routes
	if err != nil {
		return netip.Addr{}, fmt.Errorf("node address: %w", err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// nodeNetwork joins the node's routes, services and names to the one Network
// the agent programs.
type nodeNetwork struct {
	config config.Agent
	ip     netip.Addr
	links  *network.Network
	proxy  *proxy.Proxy
	names  *dns.TableFile
	log    *logrus.Entry

	mu  sync.Mutex
	ips map[types.UID]netip.Addr // of sandboxes
}

func newNodeNetwork(c config.Agent, ip netip.Addr, log *logrus.Entry) (*nodeNetwork, error) {
	p, err := proxy.Open()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return &nodeNetwork{
		config: c, ip: ip, links: network.New(c.RunDir), proxy: p, log: log,
		names: dns.NewTableFile(dns.TablePath(c.Dir)), ips: map[types.UID]netip.Addr{},
	}, nil
}

func (n *nodeNetwork) close() { n.proxy.Close() }

func (n *nodeNetwork) Set(work *wire.Work, hostPorts []pod.HostPort) error {
	if len(work.PodCIDRs) == 0 {
		return nil // the master has not heard of this node yet: its range comes with the next work
	}
	podCIDR, err1 := netip.ParsePrefix(work.PodCIDRs.First())
	clusterCIDR, err2 := netip.ParsePrefix(work.Cluster.PodCIDRs.First())
	serviceCIDR, err3 := netip.ParsePrefix(work.Cluster.ServiceCIDRs.First())
	resolver, err4 := netip.ParseAddr(work.Cluster.DNS.First())
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return fmt.Errorf("the master's network configuration: %w", err)
	}
	c := network.Config{
		Node: n.config.NodeName, NodeIP: n.ip, PodCIDR: podCIDR, ClusterPodCIDR: clusterCIDR, ServiceCIDR: serviceCIDR, DNS: resolver,
	}
	for name, p := range work.Peers {
		peerIP, err1 := netip.ParseAddr(p.NodeIPs.First())
		peerCIDR, err2 := netip.ParsePrefix(p.PodCIDRs.First())
		if err := errors.Join(err1, err2); err != nil {
			continue // not registered in full yet: it comes again when it is
		}
		c.Peers = append(c.Peers, network.Peer{Name: name, NodeIP: peerIP, PodCIDR: peerCIDR})
	}
	err := n.links.Set(c)
	if partial := (*network.PartialError)(nil); errors.As(err, &partial) {
		n.log.WithError(err).Warn("some node cannot be reached")
	} else if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	_, err = n.proxy.Set(proxy.Table{
		Node: n.config.NodeName, NodeIP: n.ip, PodCIDR: podCIDR, ClusterPodCIDR: clusterCIDR, Services: work.Services, HostPorts: hostPorts,
	})
	if partial := (*proxy.PartialError)(nil); errors.As(err, &partial) {
		n.log.WithError(err).Warn("some service cannot be programmed")
	} else if err != nil {
		return fmt.Errorf("services: %w", err)
	}
	if err := n.names.Write(work); err != nil {
		return fmt.Errorf("names: %w", err)
	}
	return nil
}

func (n *nodeNetwork) CreateSandbox(c pod.SandboxConfig) (pod.Sandbox, error) {
	s, err := n.links.CreateSandbox(c)
	if err == nil {
		n.mu.Lock()
		n.ips[c.UID] = c.IP
		n.mu.Unlock()
	}
	return s, err
}

func (n *nodeNetwork) DeleteSandbox(uid types.UID) error {
	if err := n.links.DeleteSandbox(uid); err != nil {
		return err
	}
	n.mu.Lock()
	ip, ok := n.ips[uid]
	delete(n.ips, uid)
	n.mu.Unlock()
	if !ok {
		return nil
	}
	return n.proxy.Forget(ip)
}

func (n *nodeNetwork) Sandboxes() (map[types.UID]netip.Addr, error) {
	infos, err := n.links.Sandboxes()
	if err != nil {
		return nil, err
	}
	out := make(map[types.UID]netip.Addr, len(infos))
	for _, i := range infos {
		out[i.UID] = i.IP
		if i.IP.IsValid() {
			n.mu.Lock()
			n.ips[i.UID] = i.IP
			n.mu.Unlock()
		}
	}
	return out, nil
}

// masterLink is the agents' door as the agent's loop wants it.
type masterLink struct{ *uplink.Client }

func (m masterLink) Follow(ctx context.Context, version uint64, items wire.Items, emit func(nodeagent.Update)) {
	m.Client.Follow(ctx, version, items, func(u uplink.Update) {
		emit(nodeagent.Update{
			Version: u.Version, Items: u.Items, Work: u.Work, Logs: u.Logs,
			Changed: nodeagent.FamiliesOf(u.Changed),
		})
	})
}

// machineCapacity is the machine, but for what the configuration says.
func machineCapacity(configured corev1.ResourceList) corev1.ResourceList {
	var info unix.Sysinfo_t
	_ = unix.Sysinfo(&info) // fails only for a bad pointer
	out := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(int64(info.Totalram)*int64(info.Unit), resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(podsPerNode, resource.DecimalSI),
	}
	for name, q := range configured {
		out[name] = q
	}
	return out
}

// systemInfo describes the machine; what cannot be found out stays empty.
func systemInfo(ctx context.Context, runDir string) corev1.NodeSystemInfo {
	var u unix.Utsname
	_ = unix.Uname(&u) // fails only for a bad pointer
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	podmanVersion, _ := exec.CommandContext(ctx, "podman", "--version").Output()
	fields := strings.Fields(string(podmanVersion))
	runtimeVersion := ""
	if len(fields) > 0 {
		runtimeVersion = "podman://" + fields[len(fields)-1]
	}
	machineID := firstLine("/etc/machine-id")
	return corev1.NodeSystemInfo{
		MachineID: machineID, SystemUUID: machineID, BootID: bootID(runDir),
		KernelVersion: string(bytes.TrimRight(u.Release[:], "\x00")), OSImage: osImage(), OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH,
		ContainerRuntimeVersion: runtimeVersion, KubeletVersion: "fairlead-" + version,
	}
}

// bootID changes with each boot of the machine, and with each `fairlead down`, which
// switches the nodes of `up` off: what is in memory then is gone with their run
// directory, as on a machine that boots.
func bootID(runDir string) string {
	kernel, mark := firstLine("/proc/sys/kernel/random/boot_id"), config.BootMark(runDir)
	own := firstLine(mark)
	if own == "" {
		own = rand.Text()
		if os.MkdirAll(runDir, 0o711) != nil || os.WriteFile(mark, []byte(own+"\n"), 0o600) != nil {
			return kernel // the node's checks tell what is the matter
		}
	}
	return kernel + "-" + own
}

func firstLine(path string) string {
	data, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}

func osImage() string {
	data, _ := os.ReadFile("/etc/os-release")
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return runtime.GOOS
}
