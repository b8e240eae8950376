package proxy

import (
	"cmp"
	"fmt"
	"slices"
)

// OpKind is what an Op does.
type OpKind uint8

// The kinds, in the order in which a transaction must hold them: what is gone to
// before what goes there, deletions before additions of the same key.
const (
	OpDeleteTable OpKind = iota
	OpCreateTable        // with its sets and fixed chains, without rules
	OpSetRules           // replaces the rules of all fixed chains
	OpAddChain           // with its rules
	OpDeleteElement
	OpAddElement
	OpDeleteChain
)

// Op is one change of the table. Element and Chain are used by their kinds only.
type Op struct {
	Kind    OpKind
	Chain   Chain
	Element Element
}

func (o Op) String() string {
	switch o.Kind {
	case OpDeleteTable:
		return "delete table"
	case OpCreateTable:
		return "create table"
	case OpSetRules:
		return "set rules"
	case OpAddChain:
		return fmt.Sprintf("add chain %s", o.Chain)
	case OpDeleteChain:
		return fmt.Sprintf("delete chain %s", o.Chain)
	case OpAddElement:
		return fmt.Sprintf("add element %s %s", sets[o.Element.Key.Set].name, o.Element)
	default:
		return fmt.Sprintf("delete element %s %s", sets[o.Element.Key.Set].name, o.Element)
	}
}

// Difference is the ops that take the kernel from old to new, in order; none if
// they are equal.
func Difference(old, new Ruleset) []Op {
	if new.base == (base{}) {
		if old.base == (base{}) {
			return nil
		}
		return []Op{{Kind: OpDeleteTable}}
	}
	var d difference
	switch {
	case old.base == (base{}):
		d.ops = append(d.ops, Op{Kind: OpCreateTable}, Op{Kind: OpSetRules})
	case old.base != new.base:
		d.ops = append(d.ops, Op{Kind: OpSetRules})
	}
	d.chains(old.chains, new.chains)
	changed(old.services, new.services, func(a, b *service, _ int) {
		d.old, d.new = a.elements(d.old[:0]), b.elements(d.new[:0])
		d.elements(d.old, d.new)
	})
	d.elements(old.hostPorts, new.hostPorts)
	d.elements(old.hairpin, new.hairpin)
	return d.assemble()
}

// transactions splits ops, which are in order, into what is to be committed one
// after the other. Chains come before what leads to them: a packet that is in the
// table during a commit goes on with the chains of before but finds the elements
// of after, and to it a chain that came with them is empty. To a table that is
// made anew no packet has come yet.
func transactions(ops []Op) [][]Op {
	if len(ops) == 0 {
		return nil
	}
	chains, rest := []Op(nil), make([]Op, 0, len(ops))
	for _, op := range ops {
		if op.Kind == OpAddChain {
			chains = append(chains, op)
		} else {
			rest = append(rest, op)
		}
	}
	if len(chains) == 0 || len(rest) == 0 || ops[0].Kind <= OpCreateTable {
		return [][]Op{ops}
	}
	return [][]Op{chains, rest}
}

// difference collects ops by kind; old and new are scratch space.
type difference struct {
	ops, deletes, adds, deleteChains []Op
	old, new                         []Element
}

// assemble puts the ops in order, elements of one set together: they travel in
// one message.
func (d *difference) assemble() []Op {
	bySet := func(a, b Op) int { return cmp.Compare(a.Element.Key.Set, b.Element.Key.Set) }
	slices.SortStableFunc(d.deletes, bySet)
	slices.SortStableFunc(d.adds, bySet)
	return slices.Concat(d.ops, d.deletes, d.adds, d.deleteChains)
}

// chains compares sorted lists.
func (d *difference) chains(old, new []Chain) {
	for _, c := range new {
		if _, ok := slices.BinarySearchFunc(old, c, compareChains); !ok {
			d.ops = append(d.ops, Op{Kind: OpAddChain, Chain: c})
		}
	}
	for _, c := range old {
		if _, ok := slices.BinarySearchFunc(new, c, compareChains); !ok {
			d.deleteChains = append(d.deleteChains, Op{Kind: OpDeleteChain, Chain: c})
		}
	}
}

// elements compares two lists, which it sorts unless one is empty.
func (d *difference) elements(old, new []Element) {
	if len(old) > 0 && len(new) > 0 {
		slices.SortFunc(old, compareElements)
		slices.SortFunc(new, compareElements)
	}
	i, j := 0, 0
	for i < len(old) || j < len(new) {
		order := 0
		switch {
		case i == len(old):
			order = 1
		case j == len(new):
			order = -1
		default:
			order = compareElements(old[i], new[j])
		}
		// The kernel cannot change a value in place: delete and add, in one
		// transaction, is a change no packet sees half of.
		if order < 0 || order == 0 && old[i] != new[j] {
			d.deletes = append(d.deletes, Op{Kind: OpDeleteElement, Element: old[i]})
		}
		if order > 0 || order == 0 && old[i] != new[j] {
			d.adds = append(d.adds, Op{Kind: OpAddElement, Element: new[j]})
		}
		if order <= 0 {
			i++
		}
		if order >= 0 {
			j++
		}
	}
}
