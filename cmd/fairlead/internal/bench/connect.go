package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/nodeagent/network"
	"fairlead/nodeagent/pod"
	"fairlead/nodeagent/proxy"
	"fairlead/schema/wire"
)

const (
	dials      = 4_000
	warmDials  = 400
	serverPort = 8080
)

// onThread runs f on a thread that ends with it, so that f may leave it in any
// namespace.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		if unix.Gettid() == unix.Getpid() {
			done <- onThread(f) // the first thread cannot end
			runtime.UnlockOSThread()
			return
		}
		done <- f()
	}()
	return <-done
}

// inFreshNetwork runs f, and the commands it starts, in a network namespace that
// is gone afterwards.
func inFreshNetwork(f func() error) error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace: %w", err)
		}
		if err := raiseLoopback(); err != nil {
			return err
		}
		return f()
	})
}

// raiseLoopback brings the loopback link of the thread's network namespace up.
func raiseLoopback() error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	return nil
}

// inNetwork runs f in the network namespace pinned at path.
func inNetwork(path string, f func() error) error {
	return onThread(func() error {
		pin, err := os.Open(path)
		if err != nil {
			return err
		}
		defer pin.Close()
		if err := unix.Setns(int(pin.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter %s: %w", path, err)
		}
		return f()
	})
}

// connections measures P15 between two pods of one node: the first and the last
// of 10,000 services lead to the server that is also reached directly.
func connections(dir string) ([]row, error) {
	if err := raiseLoopback(); err != nil {
		return nil, err
	}
	links := network.New(filepath.Join(dir, "run"))
	if err := links.Set(nodeConfig()); err != nil {
		return nil, err
	}
	client, server := podCIDR.Addr().Next(), podCIDR.Addr().Next().Next()
	clientBox, err := links.CreateSandbox(pod.SandboxConfig{UID: "client", IP: client, Hostname: "client"})
	if err != nil {
		return nil, err
	}
	serverBox, err := links.CreateSandbox(pod.SandboxConfig{UID: "server", IP: server, Hostname: "server"})
	if err != nil {
		return nil, err
	}
	table := tableOf(manyServices)
	for _, i := range []int{0, manyServices - 1} {
		s := table.Services[serviceName(i)]
		s.Endpoints = []wire.Endpoint{{IP: server.String(), Ports: []uint16{serverPort}, Node: nodeName, Pod: "server"}}
		table.Services[serviceName(i)] = s
	}
	p, err := proxy.Open()
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if _, err := p.Set(table); err != nil {
		return nil, err
	}
	var listener net.Listener
	err = inNetwork(serverBox.Net, func() (err error) {
		listener, err = net.Listen("tcp4", netip.AddrPortFrom(server, serverPort).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	go acceptAll(listener)
	var took [3]samples
	err = inNetwork(clientBox.Net, func() (err error) {
		took, err = dialInTurn([3]netip.AddrPort{
			netip.AddrPortFrom(server, serverPort),
			netip.AddrPortFrom(netip.MustParseAddr(serviceIP(0)), 80),
			netip.AddrPortFrom(netip.MustParseAddr(serviceIP(manyServices-1)), 80),
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	direct, first, last := took[0].median(), took[1].median(), took[2].median()
	return []row{
		{bar: "P15", what: "connection through a service of 10,000, p50", measured: micro(first), goal: goal{most: micro(direct + 3*time.Microsecond)}, against: "direct", baseline: micro(direct)},
		{bar: "P15", what: "the last service to the first, p50", measured: micro(last), goal: goal{mostRatio: 1.05}, against: "first", baseline: micro(first)},
		{bar: "P15", what: "connection through a service of 10,000, p99", measured: micro(slices.Concat(took[1], took[2]).at(99)), against: "direct", baseline: micro(took[0].at(99))},
	}, nil
}

func acceptAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.Close()
	}
}

// dialInTurn connects to each address in turn, so that what disturbs one
// disturbs all.
func dialInTurn(to [3]netip.AddrPort) (took [3]samples, err error) {
	for i := range dials + warmDials {
		for j := range to {
			d, err := dial(to[(i+j)%len(to)])
			if err != nil {
				return took, fmt.Errorf("connect to %s: %w", to[(i+j)%len(to)], err)
			}
			if i >= warmDials {
				took[(i+j)%len(to)] = append(took[(i+j)%len(to)], d)
			}
		}
	}
	return took, nil
}

// dial connects with nothing between it and the kernel, and leaves no TIME_WAIT.
func dial(to netip.AddrPort) (time.Duration, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	address := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	start := time.Now()
	if err := unix.Connect(fd, address); err != nil {
		return 0, err
	}
	took := time.Since(start)
	return took, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}
