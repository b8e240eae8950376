package settle

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// share bounds what some sources take together of what every node is sent.
type share struct {
	most  int64
	whose string // before what they take, for people
	hint  string
	of    func(source schema.SourceName, declared bool) bool // which sources count
}

// shares are those that concern a source. A source that a tree declares can leave neither
// the master's own nor another such source without room.
func shares(source schema.SourceName, declared bool) []share {
	out := []share{{
		most: schema.MaxDeliveredBytes, whose: "the objects of all sources", hint: "remove objects or make them smaller, here or in the largest source",
		of: func(schema.SourceName, bool) bool { return true },
	}}
	if !declared {
		return out
	}
	return append(out,
		share{
			most: schema.MaxDeliveredBytes / schema.DeclaredShare, whose: "the objects of source " + string(source) + ", which a tree declares,", hint: "remove objects or make them smaller",
			of: func(other schema.SourceName, _ bool) bool { return other == source },
		},
		share{
			most: schema.MaxDeliveredBytes - schema.MaxDeliveredBytes/schema.ReservedShare, whose: "the objects of the sources that trees declare",
			hint: "remove objects or make them smaller, here or in the largest of these sources",
			of:   func(_ schema.SourceName, declared bool) bool { return declared },
		})
}

// tooMuch refuses changes after which every node would be sent more than fits. Its cost
// follows the changes and the number of sources. What takes no more than before is never
// refused, so that there is a way back from too much.
func tooMuch(r state.Reader, source schema.SourceName, changes []ObjectChange) schema.Diagnostics {
	grows, at := growth(changes)
	if grows <= 0 {
		return nil
	}
	takes := map[schema.SourceName]int64{source: grows}
	for other, bytes := range r.Delivered() {
		takes[other] += bytes
	}
	for _, s := range shares(source, isDeclared(r, source)) {
		total := int64(0)
		counted := map[schema.SourceName]int64{}
		for other, bytes := range takes {
			if s.of(other, isDeclared(r, other)) {
				counted[other] = bytes
				total += bytes
			}
		}
		if total > s.most {
			return schema.Diagnostics{{
				Position: at, Severity: schema.Error, Hint: s.hint,
				Message: fmt.Sprintf("%s would take %d bytes of what every node is sent, at most %d: %s", s.whose, total, s.most, largest(counted)),
			}}
		}
	}
	return nil
}

// growth is how much more the changes take than what they replace, and where the object
// stands that adds most.
func growth(changes []ObjectChange) (grows int64, at schema.Position) {
	most := int64(0)
	for _, c := range changes {
		adds := int64(0)
		if c.next != nil {
			adds += wire.Delivered(c.next)
		}
		if c.live != nil && schema.SourceOf(c.live) != "" {
			adds -= wire.Delivered(c.live)
		}
		if grows += adds; adds > most {
			most, at = adds, c.Position
		}
	}
	return grows, at
}

// isDeclared reports whether a source is not one of the master's configuration. What is
// left of one that is gone counts as declared.
func isDeclared(r state.Reader, source schema.SourceName) bool {
	src, ok := state.Source(r, source)
	return !ok || schema.SourceOf(src) != ""
}

// toldSources are named with their sizes where they take too much together.
const toldSources = 5

// largest names the sources that take most.
func largest(takes map[schema.SourceName]int64) string {
	var names []schema.SourceName
	for source := range takes {
		names = append(names, source)
	}
	slices.SortFunc(names, func(a, b schema.SourceName) int { return cmp.Or(cmp.Compare(takes[b], takes[a]), cmp.Compare(a, b)) })
	var out []string
	for _, source := range names[:min(len(names), toldSources)] {
		out = append(out, fmt.Sprintf("source %s %d", source, takes[source]))
	}
	if rest := len(names) - len(out); rest > 0 {
		out = append(out, fmt.Sprintf("%d others less each", rest))
	}
	return strings.Join(out, ", ")
}
