package proxy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// ip4 is an IPv4 address, as short as it can be: there are many.
type ip4 [4]byte

func (a ip4) String() string { return fmt.Sprintf("%d.%d.%d.%d", a[0], a[1], a[2], a[3]) }

// Set is one of the table's sets and maps.
type Set uint8

// The sets. What stands in a key or value of each: sets.go.
const (
	SetServices Set = iota
	SetEndpoints
	SetNodePorts
	SetNodeEndpoints
	SetHostPorts
	SetHostAddrPorts
	SetHairpin
	SetNoEndpoints
	setCount
)

// Key is an element's key; only the fields that its set uses are not zero.
type Key struct {
	Set   Set
	Proto uint8
	Port  uint16
	Addr  ip4
	Addr2 ip4 // SetHairpin only
	Index uint32
}

// Value is an element's value: a chain for verdict maps, an address and port
// for the others, nothing for plain sets.
type Value struct {
	Chain Chain
	Addr  ip4
	Port  uint16
}

// Chain names a chain shared by everything that has Count endpoints.
type Chain struct {
	Kind  ChainKind
	Count uint32
}

// ChainKind is the letter a shared chain's name starts with.
type ChainKind byte

const (
	chainService   ChainKind = 'n' // a cluster address
	chainNodePort  ChainKind = 'p' // a node port, cluster policy
	chainLocalPort ChainKind = 'l' // a node port, local policy
)

func (c Chain) String() string { return fmt.Sprintf("%c%d", c.Kind, c.Count) }

func compareChains(a, b Chain) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Count, b.Count))
}

// Element is one entry of a set or map.
type Element struct {
	Key   Key
	Value Value
}

func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Set, b.Set), slices.Compare(a.Addr[:], b.Addr[:]), slices.Compare(a.Addr2[:], b.Addr2[:]),
		cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Index, b.Index))
}

func compareElements(a, b Element) int { return compareKeys(a.Key, b.Key) }

// String is the element as nft prints it.
func (e Element) String() string {
	key := e.Key.String()
	switch {
	case e.Value.Chain.Kind != 0:
		return key + " : goto " + e.Value.Chain.String()
	case e.Value.Port != 0:
		return fmt.Sprintf("%s : %s . %d", key, e.Value.Addr, e.Value.Port)
	}
	return key
}

func (k Key) String() string {
	d := sets[k.Set]
	var parts []string
	for _, f := range d.key {
		switch f {
		case fieldAddr:
			parts = append(parts, k.Addr.String())
		case fieldAddr2:
			parts = append(parts, k.Addr2.String())
		case fieldProto:
			parts = append(parts, protoName(k.Proto))
		case fieldPort:
			parts = append(parts, fmt.Sprint(k.Port))
		case fieldIndex:
			parts = append(parts, fmt.Sprintf("0x%08x", k.Index))
		}
	}
	return strings.Join(parts, " . ")
}

// IP protocol numbers, IANA.
const (
	protoTCP  = 6
	protoUDP  = 17
	protoSCTP = 132
)

func protoName(p uint8) string {
	switch p {
	case protoTCP:
		return "tcp"
	case protoUDP:
		return "udp"
	case protoSCTP:
		return "sctp"
	}
	return fmt.Sprint(p)
}
