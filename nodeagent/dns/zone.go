package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"fairlead/schema/wire"
)

// ttlSeconds is how long an answer may be kept: names follow endpoints.
const ttlSeconds = 5

// zone is the cluster's names, ready to be sent, never changed.
type zone struct {
	names    map[string]*records // by name in wire form, lower case
	domain   string              // wire form
	pod      string              // wire form of pod.<domain>
	dns      netip.Addr
	podCIDR  netip.Prefix
	services netip.Prefix
	soa      []byte // from the type on; the owner is put before it
}

// records are the answers to one name, each record in wire form with a pointer
// to the question as its owner. A name without any exists all the same.
type records struct {
	a, ptr, srv, txt rrset
	extra            rrset // addresses of the targets in srv
}

type rrset struct {
	count uint16
	wire  []byte
}

// Types, classes and pointers of RFC 1035 and its like.
const (
	typeA, typeSOA, typePTR, typeTXT, typeSRV, typeOPT, typeANY = 1, 6, 12, 16, 33, 41, 255

	classIN, classANY = 1, 255

	pointer       = 0xc000
	questionName  = 12 // offset of the question's name in every message
	aRecordBytes  = 16
	maxNameBytes  = 255
	maxLabelBytes = 63
)

// newZone makes the zone of t; serial is its SOA's. A service that cannot be
// served is left out and named in refused.
func newZone(t table, serial uint32) (z *zone, refused, err error) {
	z = &zone{names: make(map[string]*records, 2*len(t.Services))}
	if err := z.setCluster(t.Cluster); err != nil {
		return nil, nil, err
	}
	z.pod = "\x03pod" + z.domain
	z.soa = z.makeSOA(serial)
	for _, labels := range [][]string{nil, {"svc"}, {"pod"}} {
		if _, err := z.at(labels...); err != nil {
			return nil, nil, err
		}
	}
	version, err := z.at("dns-version")
	if err != nil {
		return nil, nil, err
	}
	version.txt.add(typeTXT, []byte("\x051.1.0"))
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(t.Services)) {
		if err := z.addService(key, t.Services[key]); err != nil {
			errs = append(errs, fmt.Errorf("service %s: %w", key, err))
		}
	}
	return z, errors.Join(errs...), nil
}

// setCluster reads what all names have in common.
func (z *zone) setCluster(c wire.ClusterInfo) (err error) {
	if z.domain, err = wireName(strings.Split(c.Domain, ".")...); err != nil {
		return fmt.Errorf("cluster domain %q: %w", c.Domain, err)
	}
	if z.dns, err = netip.ParseAddr(c.DNS.First()); err != nil {
		return fmt.Errorf("cluster DNS address: %w", err)
	}
	if z.podCIDR, err = netip.ParsePrefix(c.PodCIDRs.First()); err != nil {
		return fmt.Errorf("pod range: %w", err)
	}
	if z.services, err = netip.ParsePrefix(c.ServiceCIDRs.First()); err != nil {
		return fmt.Errorf("service range: %w", err)
	}
	return nil
}

// wireName is a name as messages carry it, in lower case.
func wireName(labels ...string) (string, error) {
	var b strings.Builder
	for _, l := range labels {
		if l == "" || len(l) > maxLabelBytes {
			return "", fmt.Errorf("%q cannot be part of a name", l)
		}
		b.WriteByte(byte(len(l)))
		b.WriteString(strings.ToLower(l))
	}
	b.WriteByte(0)
	if b.Len() > maxNameBytes {
		return "", fmt.Errorf("%q is longer than a name can be", strings.Join(labels, "."))
	}
	return b.String(), nil
}

// name is labels under the cluster's domain, in wire form.
func (z *zone) name(labels ...string) (string, error) {
	n, err := wireName(labels...)
	if err != nil {
		return "", err
	}
	if n = n[:len(n)-1] + z.domain; len(n) > maxNameBytes {
		return "", fmt.Errorf("%q is longer than a name can be", strings.Join(labels, "."))
	}
	return n, nil
}

// at gives the records of a name under the domain, made if need be.
func (z *zone) at(labels ...string) (*records, error) {
	n, err := z.name(labels...)
	if err != nil {
		return nil, err
	}
	return z.records(n), nil
}

func (z *zone) records(name string) *records {
	r := z.names[name]
	if r == nil {
		r = &records{}
		z.names[name] = r
	}
	return r
}

// add appends a record for the question's name.
func (s *rrset) add(rrtype uint16, rdata []byte) {
	s.addFor(nil, rrtype, rdata)
}

// addFor appends a record for owner in wire form; nil means the question's name.
func (s *rrset) addFor(owner []byte, rrtype uint16, rdata []byte) {
	if owner == nil {
		s.wire = binary.BigEndian.AppendUint16(s.wire, pointer|questionName)
	}
	s.wire = append(s.wire, owner...)
	s.wire = binary.BigEndian.AppendUint16(s.wire, rrtype)
	s.wire = binary.BigEndian.AppendUint16(s.wire, classIN)
	s.wire = binary.BigEndian.AppendUint32(s.wire, ttlSeconds)
	s.wire = binary.BigEndian.AppendUint16(s.wire, uint16(len(rdata)))
	s.wire = append(s.wire, rdata...)
	s.count++
}

// makeSOA gives the start of authority, which negative answers carry.
func (z *zone) makeSOA(serial uint32) []byte {
	rdata := []byte("\x02ns\x03dns" + z.domain + "\x0ahostmaster" + z.domain)
	for _, n := range []uint32{serial, 7200, 1800, 86400, ttlSeconds} { // refresh, retry, expire, negative TTL
		rdata = binary.BigEndian.AppendUint32(rdata, n)
	}
	var s rrset
	s.add(typeSOA, rdata)
	return s.wire[2:]
}

func (z *zone) addService(key string, s wire.Service) error {
	namespace, name, ok := strings.Cut(key, "/")
	if !ok {
		return fmt.Errorf("no namespace")
	}
	if _, err := z.at(namespace, "svc"); err != nil {
		return err
	}
	target, err := z.name(name, namespace, "svc")
	if err != nil {
		return err
	}
	if s.Headless {
		return z.addHeadless(target, name, namespace, s)
	}
	if len(s.ClusterIPs) == 0 {
		return nil // not yet given one
	}
	ip, err := netip.ParseAddr(s.ClusterIPs.First())
	if err != nil || !ip.Is4() {
		return fmt.Errorf("cluster address %q is not IPv4", s.ClusterIPs.First())
	}
	z.records(target).a.add(typeA, ip.AsSlice())
	z.records(reverseName(ip)).ptr.add(typePTR, []byte(target))
	for _, p := range s.Ports {
		if err := z.addSRV(p, p.Port, target, ip, name, namespace); err != nil {
			return err
		}
	}
	return nil
}

// addHeadless adds a service that is its endpoints. Without any ready the name
// is not there.
func (z *zone) addHeadless(service, name, namespace string, s wire.Service) error {
	for _, e := range s.Endpoints {
		ip, err := netip.ParseAddr(e.IP)
		if err != nil || !ip.Is4() {
			return fmt.Errorf("endpoint %q is not IPv4", e.IP)
		}
		hostname := e.Hostname
		if hostname == "" {
			hostname = strings.ReplaceAll(e.IP, ".", "-")
		}
		target, err := z.name(hostname, name, namespace, "svc")
		if err != nil {
			return err
		}
		z.records(service).a.add(typeA, ip.AsSlice())
		z.records(target).a.add(typeA, ip.AsSlice())
		z.records(reverseName(ip)).ptr.add(typePTR, []byte(target))
		for i, p := range s.Ports {
			if i >= len(e.Ports) || e.Ports[i] == 0 {
				continue
			}
			if err := z.addSRV(p, e.Ports[i], target, ip, name, namespace); err != nil {
				return err
			}
		}
	}
	return nil
}

// addSRV adds the record of a named port; one without a name has none.
func (z *zone) addSRV(p wire.ServicePort, port uint16, target string, ip netip.Addr, name, namespace string) error {
	if p.Name == "" {
		return nil
	}
	proto := "_" + strings.ToLower(string(p.Protocol))
	if proto == "_" {
		proto = "_tcp"
	}
	if _, err := z.at(proto, name, namespace, "svc"); err != nil {
		return err
	}
	r, err := z.at("_"+p.Name, proto, name, namespace, "svc")
	if err != nil {
		return err
	}
	rdata := binary.BigEndian.AppendUint16([]byte{0, 0, 0, 100}, port) // priority 0, weight 100
	r.srv.add(typeSRV, append(rdata, target...))
	r.extra.addFor([]byte(target), typeA, ip.AsSlice())
	return nil
}

const reverseDomain = "\x07in-addr\x04arpa\x00"

// reverseName is the name under in-addr.arpa of an address.
func reverseName(ip netip.Addr) string {
	var b []byte
	a := ip.As4()
	for _, octet := range slices.Backward(a[:]) {
		text := fmt.Sprint(octet)
		b = append(append(b, byte(len(text))), text...)
	}
	return string(b) + reverseDomain
}
