package proxy

import "testing"

// BenchmarkTransaction is the kernel's share of a change (P13): one endpoint of
// 10,000 services replaced, the operations known.
func BenchmarkTransaction(b *testing.B) {
	p := openIn(b, newSpace(b))
	table := bigTable(10_000)
	if _, err := p.Set(table); err != nil {
		b.Fatal(err)
	}
	element := p.programmed.services[7].elements(nil)[1]
	for i := 0; b.Loop(); i++ {
		next := element
		next.Value.Port = uint16(1000 + i%1000)
		if next == element {
			continue
		}
		ops := []Op{{Kind: OpDeleteElement, Element: element}, {Kind: OpAddElement, Element: next}}
		if err := p.kernel.commit(p.programmed.base, ops); err != nil {
			b.Fatal(err)
		}
		element = next
	}
}
