// Package network answers where a pod's packets go: it gives every pod its
// namespaces, address and link, and the node its routes to pods on other nodes
// and to service addresses. It does not know services (package proxy) nor
// containers; the agent calls it, and it works in the network and mount
// namespaces of the calling thread, which it never changes.
package network

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"

	"fairlead/schema"
)

// Config is everything the node's own routing depends on. The zero Config means
// "nothing of ours".
type Config struct {
	Node           schema.NodeName
	NodeIP         netip.Addr   // put on the loopback link if no link has it
	PodCIDR        netip.Prefix // this node's pods
	ClusterPodCIDR netip.Prefix // all nodes' pods
	ServiceCIDR    netip.Prefix
	DNS            netip.Addr // cluster DNS address, answered on this node; may be zero
	Peers          []Peer
}

// Peer is another node: its pods are reached by way of its address, which must
// be on a link of this node.
type Peer struct {
	Name    schema.NodeName
	NodeIP  netip.Addr
	PodCIDR netip.Prefix
}

// Info is one sandbox found on the node.
type Info struct {
	UID      types.UID
	IP       netip.Addr // zero unless Complete
	Complete bool       // everything is in place; an incomplete one is remade by CreateSandbox
}

// Network programs the node. What is programmed is read from the kernel each
// time, so a restarted agent goes on where it was. One caller at a time may use
// Set; sandboxes of different pods may be made and deleted concurrently.
type Network struct {
	runDir string
	mtu    atomic.Int64 // of the node's own link, 0 until Set
}

// New returns a Network that keeps sandboxes under runDir/pods.
func New(runDir string) *Network { return &Network{runDir: runDir} }

// PartialError is the error of a Set that programmed everything but what it
// names: trying again without another configuration or node is of no use.
type PartialError struct{ Left []error }

func (e *PartialError) Error() string { return errors.Join(e.Left...).Error() }

// Unwrap gives what was left out.
func (e *PartialError) Unwrap() []error { return e.Left }

// Set makes the node's forwarding, routes and loopback addresses equal to c and
// changes nothing that is right already. Peers that are on no link are left out
// and named in a *PartialError. After any other error Set may be repeated.
func (n *Network) Set(c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	seen, err := observe()
	if err != nil {
		return err
	}
	n.mtu.Store(int64(seen.mtuOf(c.NodeIP)))
	wanted, left := c.wants(seen)
	var errs []error
	for _, o := range plan(wanted, seen) {
		if err := o.do(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", o, err))
		}
	}
	if len(errs) == 0 && len(left) > 0 {
		return &PartialError{Left: left}
	}
	return errors.Join(append(errs, left...)...)
}

func (c Config) zero() bool { return !c.NodeIP.IsValid() && !c.ClusterPodCIDR.IsValid() }

func (c Config) check() error {
	if c.zero() {
		return nil
	}
	for _, a := range []netip.Addr{c.NodeIP, c.ClusterPodCIDR.Addr(), c.ServiceCIDR.Addr()} {
		if !a.Is4() {
			return fmt.Errorf("network of node %s: node address %s, pod range %s and service range %s must be IPv4", c.Node, c.NodeIP, c.ClusterPodCIDR, c.ServiceCIDR)
		}
	}
	return nil
}
