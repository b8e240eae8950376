package proxy

import (
	"fmt"
	"slices"
	"strings"
)

// String is the ruleset as `nft list table` prints it, each element on a line
// of its own and sorted.
func (r Ruleset) String() string {
	if r.base == (base{}) {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", tableName)
	elements := r.elements()
	slices.SortFunc(elements, compareElements)
	for s := range setCount {
		writeSet(&b, s, elements)
	}
	for _, c := range r.base.chains() {
		c.write(&b)
	}
	for _, c := range r.chains {
		c.def().write(&b)
	}
	return strings.TrimSuffix(b.String(), "\n") + "}\n"
}

// writeSet prints the part of the sorted elements that is in s.
func writeSet(b *strings.Builder, s Set, elements []Element) {
	d := sets[s]
	fmt.Fprintf(b, "\t%s %s {\n\t\t%s\n", d.keyWord(), d.name, d.typeText())
	var lines []string
	for _, e := range elements {
		if e.Key.Set == s {
			lines = append(lines, e.String())
		}
	}
	if len(lines) > 0 {
		fmt.Fprintf(b, "\t\telements = { %s }\n", strings.Join(lines, ",\n\t\t\t     "))
	}
	b.WriteString("\t}\n\n")
}

func (c chainDef) write(b *strings.Builder) {
	fmt.Fprintf(b, "\tchain %s {\n", c.name)
	if c.hook != "" {
		fmt.Fprintf(b, "\t\t%s\n", c.hook)
	}
	for _, r := range c.rules {
		fmt.Fprintf(b, "\t\t%s comment %q\n", r.text, r.comment())
	}
	b.WriteString("\t}\n\n")
}
