package proxy

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const tableName = "fairlead"

// field is a part of a concatenated key. Each takes whole 4-byte registers.
type field uint8

const (
	fieldAddr field = iota
	fieldAddr2
	fieldProto
	fieldPort
	fieldIndex
)

// setDef is the shape of a set.
type setDef struct {
	name    string
	key     []field
	verdict bool // maps to a chain
	addr    bool // maps to an address and port
}

// sets is every set of the table. Index is the type mark because that is nft's
// four-byte integer in the machine's byte order, which numgen gives; the type
// integer would be listed in the wrong order.
var sets = [setCount]setDef{
	SetServices:      {name: "services", key: []field{fieldAddr, fieldProto, fieldPort}, verdict: true},
	SetEndpoints:     {name: "endpoints", key: []field{fieldAddr, fieldProto, fieldPort, fieldIndex}, addr: true},
	SetNodePorts:     {name: "nodeports", key: []field{fieldProto, fieldPort}, verdict: true},
	SetNodeEndpoints: {name: "nodeendpoints", key: []field{fieldProto, fieldPort, fieldIndex}, addr: true},
	SetHostPorts:     {name: "hostports", key: []field{fieldProto, fieldPort}, addr: true},
	SetHostAddrPorts: {name: "hostaddrports", key: []field{fieldAddr, fieldProto, fieldPort}, addr: true},
	SetHairpin:       {name: "hairpin", key: []field{fieldAddr, fieldAddr2}},
	SetNoEndpoints:   {name: "noendpoints", key: []field{fieldAddr, fieldProto, fieldPort}},
}

func (f field) datatype() nftables.SetDatatype {
	switch f {
	case fieldAddr, fieldAddr2:
		return nftables.TypeIPAddr
	case fieldProto:
		return nftables.TypeInetProto
	case fieldPort:
		return nftables.TypeInetService
	default:
		return nftables.TypeMark
	}
}

// declare is the set as nftables is told of it.
func (s Set) declare(t *nftables.Table) *nftables.Set {
	d := sets[s]
	types := make([]nftables.SetDatatype, len(d.key))
	for i, f := range d.key {
		types[i] = f.datatype()
	}
	out := &nftables.Set{Table: t, Name: d.name, Concatenation: true, KeyType: nftables.MustConcatSetType(types...)}
	switch {
	case d.verdict:
		out.IsMap, out.DataType = true, nftables.TypeVerdict
	case d.addr:
		out.IsMap, out.DataType = true, nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	}
	return out
}

// typeText is the set's type as nft prints it.
func (d setDef) typeText() string {
	text := "type "
	for i, f := range d.key {
		if i > 0 {
			text += " . "
		}
		text += f.datatype().Name
	}
	switch {
	case d.verdict:
		text += " : verdict"
	case d.addr:
		text += " : ipv4_addr . inet_service"
	}
	return text
}

// keyWord is "map" or "set".
func (d setDef) keyWord() string {
	if d.verdict || d.addr {
		return "map"
	}
	return "set"
}

// encode gives the element's registers.
func (e Element) encode() nftables.SetElement {
	d := sets[e.Key.Set]
	key := make([]byte, 4*len(d.key))
	for i, f := range d.key {
		reg := key[4*i : 4*i+4]
		switch f {
		case fieldAddr:
			copy(reg, e.Key.Addr[:])
		case fieldAddr2:
			copy(reg, e.Key.Addr2[:])
		case fieldProto:
			reg[0] = e.Key.Proto
		case fieldPort:
			binary.BigEndian.PutUint16(reg, e.Key.Port)
		case fieldIndex:
			binary.NativeEndian.PutUint32(reg, e.Key.Index)
		}
	}
	out := nftables.SetElement{Key: key}
	switch {
	case d.verdict:
		out.VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: e.Value.Chain.String()}
	case d.addr:
		out.Val = make([]byte, 8)
		copy(out.Val, e.Value.Addr[:])
		binary.BigEndian.PutUint16(out.Val[4:], e.Value.Port)
	}
	return out
}

// decode is encode's inverse.
func (s Set) decode(in nftables.SetElement) (Element, error) {
	d := sets[s]
	e := Element{Key: Key{Set: s}}
	if len(in.Key) != 4*len(d.key) {
		return e, fmt.Errorf("key of %d bytes in set %s", len(in.Key), d.name)
	}
	for i, f := range d.key {
		reg := in.Key[4*i : 4*i+4]
		switch f {
		case fieldAddr:
			e.Key.Addr = ip4(reg)
		case fieldAddr2:
			e.Key.Addr2 = ip4(reg)
		case fieldProto:
			e.Key.Proto = reg[0]
		case fieldPort:
			e.Key.Port = binary.BigEndian.Uint16(reg)
		case fieldIndex:
			e.Key.Index = binary.NativeEndian.Uint32(reg)
		}
	}
	switch {
	case d.verdict:
		return e, e.Value.Chain.decode(in.Val)
	case d.addr:
		if len(in.Val) < 6 {
			return e, fmt.Errorf("value of %d bytes in map %s", len(in.Val), d.name)
		}
		e.Value.Addr, e.Value.Port = ip4(in.Val[:4]), binary.BigEndian.Uint16(in.Val[4:])
	}
	return e, nil
}

// decode reads the verdict a map element holds: netlink attributes, the chain's
// name among them.
func (c *Chain) decode(verdict []byte) error {
	ad, err := netlink.NewAttributeDecoder(verdict)
	if err != nil {
		return fmt.Errorf("verdict: %w", err)
	}
	var name string
	for ad.Next() {
		if ad.Type() == unix.NFTA_VERDICT_CHAIN {
			name = ad.String()
		}
	}
	if err := ad.Err(); err != nil {
		return fmt.Errorf("verdict: %w", err)
	}
	return c.parse(name)
}

// parse reads a shared chain's name.
func (c *Chain) parse(name string) error {
	if len(name) < 2 {
		return fmt.Errorf("chain %q is none of ours", name)
	}
	count, err := strconv.ParseUint(name[1:], 10, 32)
	kind := ChainKind(name[0])
	if err != nil || count == 0 || kind != chainService && kind != chainNodePort && kind != chainLocalPort {
		return fmt.Errorf("chain %q is none of ours", name)
	}
	*c = Chain{Kind: kind, Count: uint32(count)}
	return nil
}
