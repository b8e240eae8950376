package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// A netlink attribute holds 64 KiB; an element takes less than 80 bytes.
	elementsPerMessage = 700
	// A batch is one message to the socket: 600,000 endpoints fit.
	sendBufferBytes    = 32 << 20
	receiveBufferBytes = 4 << 20
	// kernelDeadline bounds one exchange with the kernel, the largest included.
	kernelDeadline = 30 * time.Second
)

// kernel is our table in the kernel, over sockets that stay open.
type kernel struct {
	space   *os.File // the network namespace
	rules   *nftables.Conn
	socket  *netlink.Conn // the one rules uses
	queries *netlink.Conn // for the generation
	table   *nftables.Table
}

func openKernel() (*kernel, error) {
	space, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	k := &kernel{space: space, table: &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}}
	if err := k.dial(); err != nil {
		space.Close()
		return nil, err
	}
	return k, nil
}

func (k *kernel) dial() (err error) {
	fd := int(k.space.Fd())
	if k.queries, err = netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: fd}); err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	k.rules, err = nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(fd), nftables.WithSockOptions(func(c *netlink.Conn) error {
		k.socket = c
		return errors.Join(c.SetWriteBuffer(sendBufferBytes), c.SetReadBuffer(receiveBufferBytes))
	}))
	if err != nil {
		k.queries.Close()
		return fmt.Errorf("open nftables: %w", err)
	}
	return nil
}

// redial starts over with fresh sockets: after an error the old ones may still
// hold answers that nobody read.
func (k *kernel) redial() error {
	k.rules.CloseLasting()
	k.queries.Close()
	return k.dial()
}

func (k *kernel) close() error {
	return errors.Join(k.rules.CloseLasting(), k.queries.Close(), k.space.Close())
}

// generation is nft's commit counter of this network namespace: whoever commits
// raises it by one.
func (k *kernel) generation() (uint32, error) {
	if err := k.queries.SetDeadline(time.Now().Add(kernelDeadline)); err != nil {
		return 0, err
	}
	replies, err := k.queries.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   make([]byte, 4), // struct nfgenmsg
	})
	if err != nil {
		return 0, err
	}
	for _, m := range replies {
		ad, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return 0, err
		}
		ad.ByteOrder = binary.BigEndian
		for ad.Next() {
			if ad.Type() == unix.NFTA_GEN_ID {
				return ad.Uint32(), nil
			}
		}
	}
	return 0, errors.New("no generation in the answer")
}

// commit sends ops as one transaction: all of them or none. b gives the rules
// of the fixed chains.
func (k *kernel) commit(b base, ops []Op) error {
	if err := k.socket.SetDeadline(time.Now().Add(kernelDeadline)); err != nil {
		return err
	}
	for len(ops) > 0 {
		n := 1
		for n < len(ops) && n < elementsPerMessage && groups(ops[0], ops[n]) {
			n++
		}
		if err := k.queue(b, ops[:n]); err != nil {
			return err
		}
		ops = ops[n:]
	}
	return k.rules.Flush()
}

// groups reports whether two ops can travel in one message.
func groups(a, b Op) bool {
	return a.Kind == b.Kind && (a.Kind == OpAddElement || a.Kind == OpDeleteElement) && a.Element.Key.Set == b.Element.Key.Set
}

// queue adds ops, which are one op or a group, to the batch.
func (k *kernel) queue(b base, ops []Op) error {
	switch op := ops[0]; op.Kind {
	case OpDeleteTable:
		k.rules.DelTable(k.table)
	case OpCreateTable:
		return k.create(b)
	case OpSetRules:
		for _, c := range b.chains() {
			k.rules.FlushChain(&nftables.Chain{Table: k.table, Name: c.name})
		}
		for _, c := range b.chains() {
			k.addRules(c)
		}
	case OpAddChain:
		k.rules.AddChain(&nftables.Chain{Table: k.table, Name: op.Chain.String()})
		k.addRules(op.Chain.def())
	case OpDeleteChain:
		k.rules.DelChain(&nftables.Chain{Table: k.table, Name: op.Chain.String()})
	case OpAddElement:
		return k.rules.SetAddElements(op.Element.Key.Set.declare(k.table), encodeAll(ops))
	case OpDeleteElement:
		elements := encodeAll(ops)
		for i := range elements { // the key alone names an element
			elements[i].Val, elements[i].VerdictData = nil, nil
		}
		return k.rules.SetDeleteElements(op.Element.Key.Set.declare(k.table), elements)
	}
	return nil
}

func encodeAll(ops []Op) []nftables.SetElement {
	out := make([]nftables.SetElement, len(ops))
	for i, o := range ops {
		out[i] = o.Element.encode()
	}
	return out
}

func (k *kernel) create(b base) error {
	k.rules.AddTable(k.table)
	for s := range setCount {
		if err := k.rules.AddSet(s.declare(k.table), nil); err != nil {
			return fmt.Errorf("declare set %s: %w", sets[s].name, err)
		}
	}
	for _, c := range b.chains() {
		chain := c.chain
		chain.Table, chain.Name = k.table, c.name
		k.rules.AddChain(&chain)
	}
	return nil
}

func (k *kernel) addRules(c chainDef) {
	for _, r := range c.rules {
		k.rules.AddRule(&nftables.Rule{
			Table: k.table, Chain: &nftables.Chain{Table: k.table, Name: c.name}, Exprs: r.expressions(),
			UserData: userdata.AppendString(nil, userdata.TypeComment, r.comment()),
		})
	}
}

func (k *kernel) present() (bool, error) {
	if err := k.socket.SetDeadline(time.Now().Add(kernelDeadline)); err != nil {
		return false, err
	}
	tables, err := k.rules.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }), nil
}

// held is what a listing found. Rules are known by their comments.
type held struct {
	present  bool
	foreign  bool // has what we never make, or lacks what we always make
	rules    map[string][]string
	chains   []Chain
	elements map[Key]Value
}

// list reads our table.
func (k *kernel) list() (held, error) {
	h := held{rules: map[string][]string{}, elements: map[Key]Value{}}
	var err error
	if h.present, err = k.present(); err != nil || !h.present {
		return h, err
	}
	if err := k.listChains(&h); err != nil {
		return h, err
	}
	listed, err := k.rules.GetSets(k.table)
	if err != nil {
		return h, fmt.Errorf("list sets: %w", err)
	}
	if len(listed) != int(setCount) {
		h.foreign = true
	}
	for s := range setCount {
		if !slices.ContainsFunc(listed, func(l *nftables.Set) bool { return l.Name == sets[s].name }) {
			h.foreign = true
			continue
		}
		if err := k.listElements(&h, s); err != nil {
			return h, fmt.Errorf("list set %s: %w", sets[s].name, err)
		}
	}
	return h, nil
}

func (k *kernel) listChains(h *held) error {
	listed, err := k.rules.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("list chains: %w", err)
	}
	for _, c := range listed {
		if c.Table.Name != tableName {
			continue
		}
		rules, err := k.rules.GetRules(k.table, c)
		if err != nil {
			return fmt.Errorf("list chain %s: %w", c.Name, err)
		}
		comments := make([]string, len(rules))
		for i, r := range rules {
			comments[i], _ = userdata.GetString(r.UserData, userdata.TypeComment)
		}
		h.rules[c.Name] = comments
	}
	return nil
}

func (k *kernel) listElements(h *held, s Set) error {
	listed, err := k.rules.GetSetElements(s.declare(k.table))
	if err != nil {
		return err
	}
	for _, l := range listed {
		e, err := s.decode(l)
		if err != nil {
			h.foreign = true
			continue
		}
		h.elements[e.Key] = e.Value
	}
	return nil
}

// judge sorts the listed chains out against b's: whether the rules of the fixed
// chains are as they should be, and which shared chains there are.
func (h *held) judge(b base) (rulesRight bool) {
	rulesRight = true
	fixed := b.chains()
	for _, c := range fixed {
		comments, ok := h.rules[c.name]
		if !ok {
			h.foreign = true
		}
		if !slices.Equal(comments, c.comments()) {
			rulesRight = false
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.rules)) {
		if slices.ContainsFunc(fixed, func(c chainDef) bool { return c.name == name }) {
			continue
		}
		var c Chain
		if c.parse(name) != nil || !slices.Equal(h.rules[name], c.def().comments()) {
			h.foreign = true
			continue
		}
		h.chains = append(h.chains, c)
	}
	slices.SortFunc(h.chains, compareChains)
	return rulesRight
}

func (c chainDef) comments() []string {
	out := make([]string, len(c.rules))
	for i, r := range c.rules {
		out[i] = r.comment()
	}
	return out
}

// difference is the ops that take what was found to want. A table that is not
// of our shape is made anew, in the same transaction.
func (h held) difference(want Ruleset) []Op {
	if !h.present {
		return Difference(Ruleset{}, want)
	}
	if want.base == (base{}) {
		return []Op{{Kind: OpDeleteTable}}
	}
	rulesRight := h.judge(want.base)
	if h.foreign {
		return append([]Op{{Kind: OpDeleteTable}}, Difference(Ruleset{}, want)...)
	}
	var d difference
	if !rulesRight {
		d.ops = append(d.ops, Op{Kind: OpSetRules})
	}
	d.chains(h.chains, want.chains)
	found := make([]Element, 0, len(h.elements))
	for k, v := range h.elements {
		found = append(found, Element{Key: k, Value: v})
	}
	slices.SortFunc(found, compareElements)
	d.elements(found, want.elements())
	return d.assemble()
}
