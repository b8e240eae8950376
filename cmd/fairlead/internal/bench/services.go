package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"fairlead/nodeagent/dns"
	"fairlead/nodeagent/network"
	"fairlead/nodeagent/proxy"
	"fairlead/schema"
	"fairlead/schema/wire"
)

const (
	manyServices = 10_000
	fewServices  = 100
	// endpointChanges are measured for each size; the first ones warm up.
	endpointChanges = 60
	repeats         = 3
)

// services measures P13, P14 and P15 in the process's own network namespace,
// which becomes a node's: the product's proxy and pod network, over netlink.
func services(ctx context.Context, b *bench) ([]row, error) {
	dir := filepath.Join(b.work, "services")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	load, err := programming(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("P14: %w", err)
	}
	change, err := endpointChange(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("P13: %w", err)
	}
	latency, err := connections(dir)
	if err != nil {
		return nil, fmt.Errorf("P15: %w", err)
	}
	return slices.Concat(change, load, latency), nil
}

var (
	nodeName = schema.NodeName("n1")
	nodeIP   = netip.MustParseAddr("172.31.99.1")
	podCIDR  = netip.MustParsePrefix("10.112.0.0/22")
	podRange = netip.MustParsePrefix("10.112.0.0/12")
)

// tableOf has n services of three endpoints on other nodes.
func tableOf(n int) proxy.Table {
	t := proxy.Table{Node: nodeName, NodeIP: nodeIP, PodCIDR: podCIDR, ClusterPodCIDR: podRange, Services: make(map[string]wire.Service, n)}
	for i := range n {
		var endpoints []wire.Endpoint
		for j := range 3 {
			a := 0x10000 + 3*i + j
			endpoints = append(endpoints, wire.Endpoint{IP: fmt.Sprintf("10.%d.%d.%d", 112+a>>16, a>>8&255, a&255), Ports: []uint16{8080}, Node: schema.NodeName(fmt.Sprintf("n%d", 2+a%100))})
		}
		t.Services[serviceName(i)] = wire.Service{ClusterIPs: schema.List[string]{serviceIP(i)}, Ports: []wire.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}}, Endpoints: endpoints}
	}
	return t
}

func serviceName(i int) string { return fmt.Sprintf("ns-%d/service-%d", i%50, i) }
func serviceIP(i int) string   { return fmt.Sprintf("10.96.%d.%d", i>>8, i&255) }

// programming measures P14: a whole table from nothing, each time in a fresh
// network namespace.
func programming(ctx context.Context, dir string) ([]row, error) {
	table := tableOf(manyServices)
	oneMap, chains := filepath.Join(dir, "map.nft"), filepath.Join(dir, "chains.nft")
	if err := os.WriteFile(oneMap, []byte(loadable(proxy.Compile(table).String())), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(chains, []byte(chainsOf(manyServices)), 0o600); err != nil {
		return nil, err
	}
	var ours, nftMap, nftChains samples
	for range repeats {
		err := inFreshNetwork(func() error {
			p, err := proxy.Open()
			if err != nil {
				return err
			}
			defer p.Close()
			took, err := timed(func() error { _, err := p.Set(table); return err })
			ours = append(ours, took)
			return err
		})
		if err != nil {
			return nil, err
		}
		if nftMap, err = loaded(ctx, oneMap, nftMap); err != nil {
			return nil, err
		}
	}
	nftChains, err := loaded(ctx, chains, nil)
	if err != nil {
		return nil, err
	}
	return []row{
		{bar: "P14", what: "program 10,000 services x 3 endpoints from nothing", measured: duration(ours.median()), goal: goal{mostRatio: 1. / 3},
			against: "nft -f, the same table", baseline: duration(nftMap.median())},
		{bar: "P14", what: "the same, against a chain per service and endpoint", measured: duration(ours.median()), goal: goal{mostRatio: 1. / 500},
			against: "nft -f", baseline: duration(nftChains.median())},
	}, nil
}

// loadable is a listed ruleset as nft takes it: it lists the index of the
// endpoint maps as a mark and wants numgen's own type.
func loadable(listed string) string {
	return strings.NewReplacer(
		"type ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service", "typeof ip daddr . meta l4proto . th dport . numgen random mod 2 : ip daddr . tcp dport",
		"type inet_proto . inet_service . mark : ipv4_addr . inet_service", "typeof meta l4proto . th dport . numgen random mod 2 : ip daddr . tcp dport",
	).Replace(listed)
}

// loaded adds how long nft takes to load a file in a fresh network namespace.
func loaded(ctx context.Context, file string, to samples) (samples, error) {
	err := inFreshNetwork(func() error {
		took, err := nft(ctx, file)
		to = append(to, took)
		return err
	})
	return to, err
}

func nft(ctx context.Context, file string) (time.Duration, error) {
	return timed(func() error {
		_, err := output(exec.CommandContext(ctx, "nft", "-f", file))
		return err
	})
}

// chainsOf lays n services out with a chain for each service and for each
// endpoint.
func chainsOf(n int) string {
	var b strings.Builder
	b.WriteString("table inet chains {\n")
	for name, s := range services3(n) {
		for j, e := range s.Endpoints {
			fmt.Fprintf(&b, "chain %s-%d {\nip saddr %s meta mark set 0x4000\nmeta l4proto tcp dnat ip to %s:%d\n}\n", name, j, e.IP, e.IP, e.Ports[0])
		}
		fmt.Fprintf(&b, "chain %s {\n%s\n}\n", name, balance(name, 3))
	}
	b.WriteString("map services {\ntype ipv4_addr . inet_proto . inet_service : verdict\nelements = {\n")
	for name, s := range services3(n) {
		fmt.Fprintf(&b, "%s . tcp . 80 : goto %s,\n", s.ClusterIPs.First(), name)
	}
	b.WriteString("}\n}\nchain prerouting {\ntype nat hook prerouting priority dstnat; policy accept;\nip daddr . meta l4proto . th dport vmap @services\n}\n}\n")
	return b.String()
}

// services3 gives the services of tableOf(n) in order, with names for chains.
func services3(n int) func(yield func(string, wire.Service) bool) {
	table := tableOf(n)
	return func(yield func(string, wire.Service) bool) {
		for i := range n {
			if !yield(fmt.Sprintf("s%d", i), table.Services[serviceName(i)]) {
				return
			}
		}
	}
}

func balance(name string, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "numgen random mod %d vmap { ", n)
	for j := range n {
		fmt.Fprintf(&b, "%d : goto %s-%d, ", j, name, j)
	}
	return b.String() + "}"
}

// endpointChange measures P13: one endpoint of one service changes.
func endpointChange(ctx context.Context, dir string) ([]row, error) {
	few, err := changes(fewServices, dir)
	if err != nil {
		return nil, err
	}
	many, err := changes(manyServices, dir)
	if err != nil {
		return nil, err
	}
	onMap, err := nftChange(ctx, dir, "map.nft", func(i int) string {
		front := serviceIP(7) + " . tcp . 80 . 0"
		change := fmt.Sprintf("add element inet fairlead endpoints { %s : 10.120.0.%d . 8080 }\n", front, 1+i)
		return fmt.Sprintf("delete element inet fairlead endpoints { %s }\n", front) + change
	})
	if err != nil {
		return nil, err
	}
	onChains, err := nftChange(ctx, dir, "chains.nft", func(i int) string {
		return fmt.Sprintf("flush chain inet chains s7-0\nadd rule inet chains s7-0 meta l4proto tcp dnat ip to 10.120.0.%d:8080\nflush chain inet chains s7\nadd rule inet chains s7 %s\n", 1+i, balance("s7", 3))
	})
	if err != nil {
		return nil, err
	}
	return []row{
		{bar: "P13", what: "one endpoint of 10,000 services changes: the agent's event to the kernel's word", measured: duration(many.kernel.median()), goal: goal{most: duration(10 * time.Millisecond)},
			against: "nft, chains", baseline: duration(onChains.median())},
		{bar: "P13", what: "the same, against one map", measured: duration(many.kernel.median()), against: "nft, one map", baseline: duration(onMap.median())},
		{bar: "P13", what: "10,000 services to 100", measured: duration(many.kernel.median()), goal: goal{mostRatio: 1.5}, against: "100 services", baseline: duration(few.kernel.median())},
		{bar: "P13", what: "until stale connections are ended too", measured: duration(many.flows.median()), against: "100 services", baseline: duration(few.flows.median())},
		{bar: "P13", what: "until the name table is looked at too", measured: duration(many.names.median()), against: "100 services", baseline: duration(few.names.median())},
	}, nil
}

// changed is what an endpoint's change takes, from the agent's event until the
// kernel announces it, stale connections are ended, and names are looked at.
type changed struct{ kernel, flows, names samples }

// changes does what an agent does when one endpoint changes: routes, rules, names.
func changes(n int, dir string) (out changed, err error) {
	err = inFreshNetwork(func() error {
		p, err := proxy.Open()
		if err != nil {
			return err
		}
		defer p.Close()
		links, table := network.New(dir), tableOf(n)
		if err := links.Set(nodeConfig()); err != nil {
			return err
		}
		if _, err := p.Set(table); err != nil {
			return err
		}
		announced, err := listenForCommits()
		if err != nil {
			return err
		}
		names := dns.NewTableFile(dns.TablePath(filepath.Join(dir, fmt.Sprint(n))))
		for i := range endpointChanges {
			s := table.Services[serviceName(7)]
			s.Endpoints = slices.Clone(s.Endpoints)
			s.Endpoints[0].Ports = []uint16{uint16(1000 + i)}
			table.Services = maps.Clone(table.Services) // as the agent's stream does
			table.Services[serviceName(7)] = s
			start := time.Now()
			if err := links.Set(nodeConfig()); err != nil {
				return err
			}
			if changed, err := p.Set(table); err != nil || !changed {
				return fmt.Errorf("change %d: changed %v, %w", i, changed, err)
			}
			done := time.Now()
			if err := names.Write(&wire.Work{Services: table.Services}); err != nil {
				return err
			}
			end := time.Now()
			in, err := announced()
			if err != nil {
				return fmt.Errorf("change %d: %w", i, err)
			}
			if i >= endpointChanges/10 {
				out.kernel = append(out.kernel, in.Sub(start))
				out.flows = append(out.flows, done.Sub(start))
				out.names = append(out.names, end.Sub(start))
			}
		}
		return nil
	})
	return out, err
}

func nodeConfig() network.Config {
	return network.Config{
		Node: nodeName, NodeIP: nodeIP, PodCIDR: podCIDR, ClusterPodCIDR: podRange,
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), DNS: netip.MustParseAddr("10.96.0.10"),
	}
}

// nftChange measures changes made by the nft program on a loaded file.
func nftChange(ctx context.Context, dir, file string, change func(i int) string) (took samples, err error) {
	const changes = 5
	err = inFreshNetwork(func() error {
		if _, err := nft(ctx, filepath.Join(dir, file)); err != nil {
			return err
		}
		for i := range changes {
			path := filepath.Join(dir, "change.nft")
			if err := os.WriteFile(path, []byte(change(i)), 0o600); err != nil {
				return err
			}
			d, err := nft(ctx, path)
			if err != nil {
				return err
			}
			took = append(took, d)
		}
		return nil
	})
	return took, err
}
