// Package proxy answers which pod a packet to a service goes to: it turns the
// service table into one nftables ruleset in the node's own table and applies
// it as a difference. README.md follows a packet through it. It does not route
// (package network) nor resolve names (package dns); the agent calls it.
package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"fairlead/nodeagent/pod"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// Table is everything the ruleset depends on. The zero Table means "nothing of
// ours"; any other needs the addresses and ranges, which are IPv4.
type Table struct {
	Node           schema.NodeName
	NodeIP         netip.Addr
	PodCIDR        netip.Prefix            // this node's pods
	ClusterPodCIDR netip.Prefix            // all nodes' pods
	Services       map[string]wire.Service // "namespace/name"; their slices must not change after Set
	HostPorts      []pod.HostPort          // of pods on this node
}

func (t Table) zero() bool {
	return t.Node == "" && !t.NodeIP.IsValid() && len(t.Services) == 0 && len(t.HostPorts) == 0
}

func (t Table) check() error {
	if !t.zero() && (!t.NodeIP.Is4() || !t.PodCIDR.Addr().Is4() || !t.ClusterPodCIDR.Addr().Is4()) {
		return fmt.Errorf("services of node %q: node address %s, pod range %s and cluster range %s must be IPv4", t.Node, t.NodeIP, t.PodCIDR, t.ClusterPodCIDR)
	}
	return nil
}

// Proxy is the one writer of table inet fairlead in the network namespace it
// was opened in. Its methods may be called from any goroutine.
type Proxy struct {
	mu         sync.Mutex
	kernel     ruleTables
	flows      connections
	compiled   Ruleset // of the last Set
	programmed Ruleset // what the kernel holds: compiled with the vacated slots
	generation uint32  // nft's, after our last transaction
	known      bool    // programmed and generation say what the kernel holds
	broken     bool    // the sockets may hold answers to an exchange that failed
}

// ruleTables is where rulesets are programmed: the kernel's nftables or Memory.
type ruleTables interface {
	// generation counts the commits of everybody.
	generation() (uint32, error)
	// commit does ops as one transaction: all of them or none. b gives the rules
	// of the fixed chains.
	commit(b base, ops []Op) error
	list() (held, error)
	// redial starts over after an error.
	redial() error
	close() error
}

// connections are those that a change of the rules may leave leading nowhere.
type connections interface {
	settle(old, new Ruleset) error
	forget(addr netip.Addr) error
	close()
}

// Open connects to nftables and conntrack in the calling thread's network
// namespace. Nothing is changed before Set.
func Open() (*Proxy, error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	f, err := openFlows()
	if err != nil {
		k.close()
		return nil, err
	}
	return &Proxy{kernel: k, flows: f}, nil
}

// Close disconnects; the ruleset stays.
func (p *Proxy) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flows.close()
	return p.kernel.close()
}

// PartialError is the error of a Set that programmed everything but what it
// names: trying again with the same table is of no use.
type PartialError struct{ Left []error }

func (e *PartialError) Error() string { return errors.Join(e.Left...).Error() }

// Unwrap gives what was left out.
func (e *PartialError) Unwrap() []error { return e.Left }

// Set makes the kernel's table equal to t: in one transaction, before which new
// shared chains may come in one of their own, or in none if it already is, which
// changed tells. Connections that a change does not concern go on. What cannot be
// programmed (an address that is none, a port two services claim) is left out and
// named in a *PartialError. After any other error packets go where they went, and
// Set may be repeated.
func (p *Proxy) Set(t Table) (changed bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := t.check(); err != nil {
		return false, err
	}
	if p.broken {
		if err := p.kernel.redial(); err != nil {
			return false, err
		}
	}
	p.broken = true // unless every answer is read
	changed, left, err := p.set(t)
	if err != nil {
		p.known = false
		return false, err
	}
	p.broken = false
	if len(left) > 0 {
		return changed, &PartialError{Left: left}
	}
	return changed, nil
}

// set is Set; left names what could not be done.
func (p *Proxy) set(t Table) (changed bool, left []error, err error) {
	generation, err := p.kernel.generation()
	if err != nil {
		return false, nil, fmt.Errorf("read nftables generation: %w", err)
	}
	want := p.compiled.compile(t)
	next := p.programmed.Next(want)
	if want.same(p.compiled) {
		next = p.programmed // vacated slots stay until something changes
	}
	var ops []Op
	if p.known && generation == p.generation {
		ops = Difference(p.programmed, next)
	} else if ops, err = p.relist(next); err != nil {
		return false, nil, err
	}
	for _, transaction := range transactions(ops) {
		if err := p.kernel.commit(next.base, transaction); err != nil {
			return false, nil, fmt.Errorf("program services: %w", err)
		}
		// If somebody else's commit came in between, the numbers differ at the
		// next Set and the table is listed again.
		generation++
	}
	before := p.programmed
	p.compiled, p.programmed, p.generation, p.known = want, next, generation, true
	left = want.refused
	if err := p.flows.settle(before, next); err != nil {
		left = append(slices.Clone(left), fmt.Errorf("end stale connections: %w", err))
	}
	return len(ops) > 0, left, nil
}

// relist compares next with what the kernel really holds: at the first Set, and
// when somebody else committed to nftables.
func (p *Proxy) relist(next Ruleset) ([]Op, error) {
	found, err := p.kernel.list()
	if err != nil {
		return nil, fmt.Errorf("list table %s: %w", tableName, err)
	}
	return found.difference(next), nil
}

// Forget ends the connections through services to a pod address that is gone
// for good, established ones included, so that clients learn it at once.
func (p *Proxy) Forget(addr netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flows.forget(addr)
}
