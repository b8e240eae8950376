package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"fairlead/schema"
	"fairlead/schema/wire"
)

// Bounds of the registry.
const (
	// nodeBits is a node's share of the pod range: with addresses resting 60 s
	// after use, a /24 runs dry.
	nodeBits = 22
	// maxNodeName keeps "node:<name>" within the 64 characters of a common name
	// (RFC 5280, appendix A.1).
	maxNodeName = 64 - len(wire.NodePrefix)
	// maxCSRBytes bounds what a machine may send to be signed.
	maxCSRBytes = 16 << 10
)

// NodeRecord is a registered node, with what it cannot say of itself: its pod range
// and its address, which no other node has while it is registered, and its reserved
// labels.
type NodeRecord struct {
	Name       schema.NodeName
	PodCIDR    netip.Prefix      // IPv4
	Address    netip.Addr        // IPv4; the zero Addr until it is settled
	Labels     map[string]string // shared; do not change it
	Registered time.Time
}

// registration is a node in nodes.json. Its lists have one for each family of
// addresses: IPv4 so far.
type registration struct {
	PodCIDRs   schema.List[netip.Prefix] `json:"podCIDR"`
	Addresses  schema.List[netip.Addr]   `json:"address,omitempty"`
	Labels     map[string]string         `json:"labels,omitempty"`
	Registered time.Time                 `json:"registered"`
	Key        string                    `json:"key"` // hash of the node's public key
}

// Nodes lists the registered nodes by name.
func (a *Authority) Nodes() []NodeRecord {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]NodeRecord, 0, len(a.nodes))
	for _, name := range slices.Sorted(maps.Keys(a.nodes)) {
		out = append(out, a.nodes[name].record(name))
	}
	return out
}

// Node finds a registered node.
func (a *Authority) Node(name schema.NodeName) (NodeRecord, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.nodes[name]
	return r.record(name), ok
}

func (r registration) record(name schema.NodeName) NodeRecord {
	return NodeRecord{Name: name, PodCIDR: r.PodCIDRs.First(), Address: r.Addresses.First(), Labels: r.Labels, Registered: r.Registered}
}

// ErrJoinRefused is wrapped by every answer of Join and Renew that is the
// asker's fault: a bad token, name or request. Trying again does not help.
var ErrJoinRefused = errors.New("join refused")

// Join registers the node that holds a valid token and signs its certificate.
// Asking again with the same key is answered again, also when the token was
// good for one node only. A name that is registered with another key, or address,
// is refused unless the token was made for that very node. The token's labels take
// the place of those the node had.
func (a *Authority) Join(req wire.JoinRequest) (wire.JoinResponse, error) {
	var resp wire.JoinResponse
	err := a.locked(func() error {
		token, err := a.checkToken(req.Token, req.Node)
		if err != nil {
			return err
		}
		csr, err := parseRequest(req.CSR, req.Node)
		if err != nil {
			return err
		}
		key := keyHash(csr)
		if !token.admits(req.Node, key) {
			return refused("token %s is used up", token.ID)
		}
		if err := a.register(req, key, token); err != nil {
			return err
		}
		if err := a.countUse(token, req.Node, key); err != nil {
			return err
		}
		resp, err = a.signNode(req.Node, csr)
		return err
	})
	if err != nil {
		return wire.JoinResponse{}, fmt.Errorf("join %s: %w", req.Node, err)
	}
	return resp, nil
}

// Renew signs a fresh certificate for a registered node that proved, by the
// connection it asks over, that it is node. The key stays the one it joined
// with.
func (a *Authority) Renew(node schema.NodeName, req wire.RenewRequest) (wire.JoinResponse, error) {
	csr, err := parseRequest(req.CSR, node)
	if err != nil {
		return wire.JoinResponse{}, fmt.Errorf("renew %s: %w", node, err)
	}
	a.mu.Lock()
	r, ok := a.nodes[node]
	a.mu.Unlock()
	if !ok || r.Key != keyHash(csr) {
		return wire.JoinResponse{}, fmt.Errorf("renew %s: %w", node, refused("no node is registered under this name and key: join with a token"))
	}
	return a.signNode(node, csr)
}

func (a *Authority) signNode(node schema.NodeName, csr *x509.CertificateRequest) (wire.JoinResponse, error) {
	cert, err := a.issueClient(wire.NodePrefix+string(node), []string{OrgNodes}, nodeLife, csr.PublicKey)
	if err != nil {
		return wire.JoinResponse{}, fmt.Errorf("sign certificate: %w", err)
	}
	return wire.JoinResponse{Certificate: certificatePEM(cert), CA: a.CAPEM()}, nil
}

// parseRequest accepts a signing request for node, signed by its own key.
func parseRequest(data []byte, node schema.NodeName) (*x509.CertificateRequest, error) {
	if errs := validation.IsDNS1123Subdomain(string(node)); len(errs) > 0 {
		return nil, refused("node name %q: %s", node, strings.Join(errs, "; "))
	}
	if len(node) > maxNodeName {
		return nil, refused("node name has %d characters, at most %d are possible", len(node), maxNodeName)
	}
	if len(data) > maxCSRBytes {
		return nil, refused("certificate request has %d bytes, at most %d are read", len(data), maxCSRBytes)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemRequest {
		return nil, refused("certificate request is not PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, refused("certificate request: %v", err)
	}
	if want := wire.NodePrefix + string(node); csr.Subject.CommonName != want {
		return nil, refused("certificate request is for %q, not %q", csr.Subject.CommonName, want)
	}
	return csr, nil
}

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrJoinRefused, fmt.Sprintf(format, args...))
}

func keyHash(csr *x509.CertificateRequest) string {
	sum := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// register enters the node that joins, durably before it is visible. The caller
// holds the directory's lock.
func (a *Authority) register(req wire.JoinRequest, key string, token *storedToken) error {
	return a.changeRegistry(func(nodes map[schema.NodeName]registration) error {
		r, known := nodes[req.Node]
		vouched := token.Node == req.Node
		if known && r.Key != key && !vouched {
			return refused("a node of this name has joined with another key; if this machine replaces it, make a token with `fairlead token --node %s`, else give the machine another nodeName", req.Node)
		}
		if !known {
			cidr, err := firstFree(a.cfg.PodCIDR, nodes)
			if err != nil {
				return err
			}
			r.PodCIDRs = schema.List[netip.Prefix]{cidr}
			r.Registered = a.cfg.Now().UTC().Truncate(time.Second)
		}
		var err error
		if r.Addresses, err = a.joinAddresses(req, r.Addresses, vouched, nodes); err != nil {
			return err
		}
		r.Key, r.Labels = key, token.Labels
		nodes[req.Node] = r
		return nil
	})
}

// joinAddresses are those of a node that joins: what it asks for, if that is free and
// the node has no other, or is vouched for by a token of its own.
func (a *Authority) joinAddresses(req wire.JoinRequest, have schema.List[netip.Addr], vouched bool, nodes map[schema.NodeName]registration) (schema.List[netip.Addr], error) {
	if req.NodeIPs.First() == "" {
		return have, nil // the agent is of a version that says it in its reports only
	}
	want, err := a.freeAddresses(req.Node, req.NodeIPs, nodes)
	if err == nil && len(have) > 0 && !slices.Equal(have, want) && !vouched {
		err = refused("the node is registered with address %s, not %s; to change it, join with a token made with `fairlead token --node %s`", have.First(), want.First(), req.Node)
	}
	return want, err
}

// freeAddresses reads the addresses that a node may have: one, IPv4.
func (a *Authority) freeAddresses(node schema.NodeName, texts schema.List[string], nodes map[schema.NodeName]registration) (schema.List[netip.Addr], error) {
	if len(texts) > 1 {
		return nil, refused("nodeIP has %d addresses: a node has one, IPv4", len(texts))
	}
	addr, err := a.freeAddress(node, texts.First(), nodes)
	return schema.List[netip.Addr]{addr}, err
}

// freeAddress reads an address that a node may have.
func (a *Authority) freeAddress(node schema.NodeName, text string, nodes map[schema.NodeName]registration) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	switch addr = addr.Unmap(); {
	case err != nil || !addr.Is4() || addr.IsUnspecified() || addr.IsMulticast() || addr == broadcast:
		return netip.Addr{}, refused("nodeIP %q is no IPv4 address that a machine can have", text)
	case a.cfg.PodCIDR.Contains(addr):
		return netip.Addr{}, refused("nodeIP %s is in the range of pods, %s", addr, a.cfg.PodCIDR)
	case a.cfg.ServiceCIDR.Contains(addr):
		return netip.Addr{}, refused("nodeIP %s is in the range of services, %s", addr, a.cfg.ServiceCIDR)
	}
	for _, other := range slices.Sorted(maps.Keys(nodes)) {
		if other != node && slices.Contains(nodes[other].Addresses, addr) {
			return netip.Addr{}, refused("nodeIP %s is that of node %s: give this machine another, or let it join as %s; a node that is gone for good is taken out of the registry, %s", addr, other, other, fileNodes)
		}
	}
	return addr, nil
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// SettleAddress gives a node that has none, because it joined before addresses were
// registered, the address it reports, and returns the node. An error that wraps
// ErrJoinRefused says why it may not have that one. A node that has one keeps it.
func (a *Authority) SettleAddress(node schema.NodeName, reported schema.List[string]) (NodeRecord, error) {
	record, ok := a.Node(node)
	switch {
	case !ok:
		return record, fmt.Errorf("node %s is not registered", node)
	case record.Address.IsValid():
		return record, nil
	}
	err := a.locked(func() error {
		return a.changeRegistry(func(nodes map[schema.NodeName]registration) error {
			r, ok := nodes[node]
			if !ok || len(r.Addresses) > 0 {
				return nil
			}
			var err error
			if r.Addresses, err = a.freeAddresses(node, reported, nodes); err != nil {
				return err
			}
			nodes[node] = r
			return nil
		})
	})
	if err != nil {
		return record, fmt.Errorf("settle the address of node %s: %w", node, err)
	}
	record, _ = a.Node(node)
	return record, nil
}

// changeRegistry reads the registry, which another process may have changed, and
// writes what change made of it, durably before it is visible. The caller holds the
// directory's lock.
func (a *Authority) changeRegistry(change func(nodes map[schema.NodeName]registration) error) error {
	nodes, err := readRegistry(a.path(fileNodes))
	if err != nil {
		return err
	}
	before := maps.Clone(nodes)
	if err := change(nodes); err != nil {
		return err
	}
	if !maps.EqualFunc(before, nodes, registration.equal) {
		if err := writeRegistry(a.path(fileNodes), nodes); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.nodes = nodes
	return nil
}

func (r registration) equal(o registration) bool {
	return slices.Equal(r.PodCIDRs, o.PodCIDRs) && slices.Equal(r.Addresses, o.Addresses) && r.Registered.Equal(o.Registered) && r.Key == o.Key && maps.Equal(r.Labels, o.Labels)
}

// firstFree is the lowest slice of the cluster's range that no node has.
func firstFree(cluster netip.Prefix, nodes map[schema.NodeName]registration) (netip.Prefix, error) {
	if !cluster.IsValid() {
		return netip.Prefix{}, errors.New("the pod range is not configured")
	}
	taken := make(map[netip.Prefix]bool, len(nodes))
	for _, r := range nodes {
		taken[r.PodCIDRs.First()] = true
	}
	count := 1 << (nodeBits - cluster.Bits())
	for i := range count {
		if slice := nodeSlice(cluster, i); !taken[slice] {
			return slice, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("pod range %s is exhausted: it has room for %d nodes, %d are registered", cluster, count, len(nodes))
}

func nodeSlice(cluster netip.Prefix, i int) netip.Prefix {
	base := cluster.Masked().Addr().As4()
	n := binary.BigEndian.Uint32(base[:]) + uint32(i)<<(32-nodeBits)
	binary.BigEndian.PutUint32(base[:], n)
	return netip.PrefixFrom(netip.AddrFrom4(base), nodeBits)
}

// checkRange refuses a pod range that cannot be dealt out, or that the nodes
// registered so far are not of.
func checkRange(cluster netip.Prefix, nodes map[schema.NodeName]registration) error {
	if !cluster.Addr().Is4() || cluster.Bits() > nodeBits {
		return fmt.Errorf("pod range %s: want an IPv4 range of /%d or larger", cluster, nodeBits)
	}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		if given := nodes[name].PodCIDRs.First(); !cluster.Contains(given.Addr()) {
			return fmt.Errorf("pod range %s: node %s is registered with %s, which is outside", cluster, name, given)
		}
	}
	return nil
}

func readRegistry(path string) (map[schema.NodeName]registration, error) {
	nodes := map[schema.NodeName]registration{}
	return nodes, readJSON(path, &nodes)
}

func writeRegistry(path string, nodes map[schema.NodeName]registration) error {
	if nodes == nil {
		nodes = map[schema.NodeName]registration{}
	}
	return replaceJSON(path, nodes)
}
