package proxy

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"fairlead/schema"
)

// masqueradeMark is set on a packet that came to a node port of cluster policy,
// until it leaves the node.
const masqueradeMark = 0x00100000

// chainDef is a chain of the table with its rules, told twice: as nft prints it
// and as the kernel takes it. A test holds the two together.
type chainDef struct {
	name  string
	hook  string // "" for a chain that is only jumped to
	chain nftables.Chain
	rules []rule
}

// rule is one rule. Its comment carries its reason and a hash of its text, by
// which a listed rule is recognised.
type rule struct {
	reason string
	text   string
	exprs  [][]expr.Any
}

func (r rule) comment() string { return r.reason + " #" + schema.ShortHash(r.text) }

func (r rule) expressions() []expr.Any { return slices.Concat(r.exprs...) }

// chains are the fixed chains. Packets to services are rewritten in prerouting
// and, for processes of the node, in output; README.md tells why each rule
// stands where it does.
func (b base) chains() []chainDef {
	nat := []rule{
		{"a packet to a service address", "ip daddr . meta l4proto . th dport vmap @services",
			[][]expr.Any{isIPv4(), load(fieldAddr, 0), load(fieldProto, 1), load(fieldPort, 2), verdictOf(SetServices)}},
		{"a packet to the node itself", "fib daddr type local ip daddr != 127.0.0.0/8 jump local",
			[][]expr.Any{daddrType(unix.RTN_LOCAL), isIPv4(), notLoopback(), verdict(expr.VerdictJump, "local")}},
	}
	toService := [][]expr.Any{isIPv4(), load(fieldAddr, 0), load(fieldProto, 1), load(fieldPort, 2)}
	refuse := verdict(expr.VerdictGoto, "refuse")
	return []chainDef{
		{name: "refuse", rules: []rule{
			{"a reset is not rate limited", "meta l4proto tcp reject with tcp reset",
				[][]expr.Any{isTCP(), {&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}}},
			{"refused at once", "reject",
				[][]expr.Any{{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}}}},
		}},
		{name: "local", rules: []rule{
			{"a host port of one address", "dnat ip to ip daddr . meta l4proto . th dport map @hostaddrports",
				[][]expr.Any{isIPv4(), load(fieldAddr, 0), load(fieldProto, 1), load(fieldPort, 2), dnatBy(SetHostAddrPorts)}},
			{"a host port", "dnat ip to meta l4proto . th dport map @hostports",
				[][]expr.Any{load(fieldProto, 0), load(fieldPort, 1), dnatBy(SetHostPorts)}},
			{"a node port", "meta l4proto . th dport vmap @nodeports",
				[][]expr.Any{load(fieldProto, 0), load(fieldPort, 1), verdictOf(SetNodePorts)}},
		}},
		{name: "nat-prerouting", hook: "type nat hook prerouting priority dstnat; policy accept;",
			chain: nftables.Chain{Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest}, rules: nat},
		{name: "nat-output", hook: "type nat hook output priority -100; policy accept;",
			chain: nftables.Chain{Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest}, rules: nat},
		{name: "nat-postrouting", hook: "type nat hook postrouting priority srcnat; policy accept;",
			chain: nftables.Chain{Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource}, rules: b.masquerades()},
		{name: "filter-forward", hook: "type filter hook forward priority filter; policy accept;",
			chain: nftables.Chain{Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter}, rules: []rule{
				{"a service without endpoints", "ip daddr . meta l4proto . th dport @noendpoints goto refuse",
					append(slices.Clone(toService), in(SetNoEndpoints), refuse)},
				{"an address no service has", `oifname "lo" goto refuse`,
					[][]expr.Any{outByLoopback(), refuse}},
			}},
		{name: "filter-output", hook: "type filter hook output priority filter; policy accept;",
			chain: nftables.Chain{Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter}, rules: []rule{
				{"a service without endpoints", "ip daddr . meta l4proto . th dport @noendpoints goto refuse",
					append(slices.Clone(toService), in(SetNoEndpoints), refuse)},
				{"an address no service has", `oifname "lo" fib daddr type unicast ct status ! dnat goto refuse`,
					[][]expr.Any{outByLoopback(), daddrType(unix.RTN_UNICAST), notTranslated(), refuse}},
			}},
	}
}

// masquerades are the only rules that change a source address.
func (b base) masquerades() []rule {
	snat := "snat ip to " + b.nodeIP.String() + " fully-random"
	toNode := [][]expr.Any{
		{&expr.Immediate{Register: reg(0), Data: b.nodeIP[:]}},
		{&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg(0), FullyRandom: true}},
	}
	return []rule{
		{"a pod reaching itself", "ct status dnat ip saddr . ip daddr @hairpin " + snat,
			append([][]expr.Any{translated(), isIPv4(), loadSource(0), load(fieldAddr, 1), in(SetHairpin)}, toNode...)},
		{"from outside to a node port", fmt.Sprintf("meta mark & 0x%08x == 0x%08x ip saddr != %s %s", masqueradeMark, masqueradeMark, b.podCIDR, snat),
			append([][]expr.Any{marked(), isIPv4(), source(expr.CmpOpNeq, b.podCIDR)}, toNode...)},
		{"from a pod out of the cluster", fmt.Sprintf("ip saddr %s ip daddr != %s masquerade fully-random", b.podCIDR, b.clusterPodCIDR),
			[][]expr.Any{isIPv4(), source(expr.CmpOpEq, b.podCIDR), destination(expr.CmpOpNeq, b.clusterPodCIDR), {&expr.Masq{FullyRandom: true}}}},
	}
}

// def is the shared chain of everything that has c.Count endpoints.
func (c Chain) def() chainDef {
	d := chainDef{name: c.String()}
	mark := rule{"may need masquerading", fmt.Sprintf("meta mark set meta mark | 0x%08x", masqueradeMark), [][]expr.Any{setMark()}}
	random := fmt.Sprintf(" . numgen random mod %d map ", c.Count)
	switch c.Kind {
	case chainService:
		d.rules = []rule{{"one endpoint of many", "dnat ip to ip daddr . meta l4proto . th dport" + random + "@endpoints",
			[][]expr.Any{isIPv4(), load(fieldAddr, 0), load(fieldProto, 1), load(fieldPort, 2), c.numgen(3), dnatBy(SetEndpoints)}}}
	default:
		choose := rule{"one endpoint of many", "dnat ip to meta l4proto . th dport" + random + "@nodeendpoints",
			[][]expr.Any{load(fieldProto, 0), load(fieldPort, 1), c.numgen(2), dnatBy(SetNodeEndpoints)}}
		d.rules = []rule{choose}
		if c.Kind == chainNodePort {
			d.rules = []rule{mark, choose}
		}
	}
	return d
}

func (c Chain) numgen(register int) []expr.Any {
	return []expr.Any{&expr.Numgen{Register: reg(register), Modulus: c.Count, Type: unix.NFT_NG_RANDOM}}
}

// reg is the n-th 4-byte register; keys that are concatenated stand in
// neighbouring ones. The first has a second number, which nft uses.
func reg(n int) uint32 {
	if n == 0 {
		return unix.NFT_REG_1
	}
	return uint32(unix.NFT_REG32_00 + n)
}

// Offsets in the IPv4 header.
const (
	offsetSource      = 12
	offsetDestination = 16
)

func ipHeader(offset, length uint32, register int) expr.Any {
	return &expr.Payload{DestRegister: reg(register), Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length}
}

func load(f field, register int) []expr.Any {
	switch f {
	case fieldAddr:
		return []expr.Any{ipHeader(offsetDestination, 4, register)}
	case fieldProto:
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(register)}}
	default: // the destination port is at 2 in TCP, UDP and SCTP
		return []expr.Any{&expr.Payload{DestRegister: reg(register), Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}}
	}
}

func loadSource(register int) []expr.Any { return []expr.Any{ipHeader(offsetSource, 4, register)} }

func equals(op expr.CmpOp, data ...byte) expr.Any {
	return &expr.Cmp{Op: op, Register: reg(0), Data: data}
}

func native(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func isIPv4() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg(0)}, equals(expr.CmpOpEq, unix.NFPROTO_IPV4)}
}

func isTCP() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(0)}, equals(expr.CmpOpEq, protoTCP)}
}

func daddrType(routeType uint32) []expr.Any {
	return []expr.Any{&expr.Fib{Register: reg(0), FlagDADDR: true, ResultADDRTYPE: true}, equals(expr.CmpOpEq, native(routeType)...)}
}

func notLoopback() []expr.Any {
	return []expr.Any{ipHeader(offsetDestination, 1, 0), equals(expr.CmpOpNeq, 127)}
}

func outByLoopback() []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, "lo")
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg(0)}, equals(expr.CmpOpEq, name...)}
}

func masked(mask []byte) expr.Any {
	return &expr.Bitwise{SourceRegister: reg(0), DestRegister: reg(0), Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))}
}

// ctStatusDNAT is the conntrack status bit of a translated destination.
const ctStatusDNAT = 1 << 5

func ctDNAT(op expr.CmpOp) []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeySTATUS, Register: reg(0)}, masked(native(ctStatusDNAT)), equals(op, native(0)...)}
}

func translated() []expr.Any { return ctDNAT(expr.CmpOpNeq) }

func notTranslated() []expr.Any { return ctDNAT(expr.CmpOpEq) }

func marked() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: reg(0)}, masked(native(masqueradeMark)), equals(expr.CmpOpEq, native(masqueradeMark)...)}
}

func setMark() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg(0)},
		&expr.Bitwise{SourceRegister: reg(0), DestRegister: reg(0), Len: 4, Mask: native(^uint32(masqueradeMark)), Xor: native(masqueradeMark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg(0)},
	}
}

func source(op expr.CmpOp, p netip.Prefix) []expr.Any { return inPrefix(offsetSource, op, p) }

func destination(op expr.CmpOp, p netip.Prefix) []expr.Any {
	return inPrefix(offsetDestination, op, p)
}

func inPrefix(offset uint32, op expr.CmpOp, p netip.Prefix) []expr.Any {
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-p.Bits()))
	return []expr.Any{ipHeader(offset, 4, 0), masked(mask), equals(op, p.Masked().Addr().AsSlice()...)}
}

func verdictOf(s Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg(0), SetName: sets[s].name, IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT}}
}

func in(s Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg(0), SetName: sets[s].name}}
}

// dnatBy sends the packet where the map says; without an entry the rule ends.
func dnatBy(s Set) []expr.Any {
	return []expr.Any{
		&expr.Lookup{SourceRegister: reg(0), SetName: sets[s].name, IsDestRegSet: true, DestRegister: reg(0)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg(0), RegProtoMin: reg(1)},
	}
}

func verdict(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}
