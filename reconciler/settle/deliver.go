package settle

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"

	"fairlead/reconciler/control"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// deliveryBound is one of those on what every node is sent.
type deliveryBound struct {
	most int64
	of   func(wire.Takes) int64
	what string // that sources take of it
	hint string // before where
	// passes is set where it becomes less by itself.
	passes bool
}

var deliveryBounds = []deliveryBound{
	{schema.MaxDeliveredBytes, func(t wire.Takes) int64 { return t.Asked }, "of what every node is sent", "remove objects or make them smaller", false},
	{schema.MaxKeptBytes, func(t wire.Takes) int64 { return t.Kept }, "of what every node keeps for the master", "wait until rollouts and Jobs that run side by side have ended, or remove objects", true},
	{schema.MaxToldBytes, func(t wire.Takes) int64 { return t.Told }, "of what every node is told of Services", "remove Services, or let them select fewer pods", false},
}

// tooMuch refuses changes after which every node would be sent more than fits. Its cost
// follows the changes and the number of sources. What takes no more than before is never
// refused, so that there is a way back from too much.
// Nor is a tree that ran before and takes a failed one's place, for what it will no longer
// keep.
func tooMuch(r state.Reader, source schema.SourceName, changes []ObjectChange, back bool) (diags schema.Diagnostics) {
	for _, b := range deliveryBounds {
		if back && b.passes {
			continue
		}
		grows, at := b.growth(changes)
		if grows > 0 {
			diags = append(diags, b.check(r, source, grows, at)...)
		}
		if len(diags) > 0 {
			break // one reason is enough: the bounds go together
		}
	}
	return diags
}

func (b deliveryBound) check(r state.Reader, source schema.SourceName, grows int64, at schema.Position) schema.Diagnostics {
	takes := map[schema.SourceName]int64{source: grows}
	for other, t := range r.Delivered() {
		takes[other] += b.of(t)
	}
	for _, s := range control.SharesOf(source, control.IsDeclared(r, source)) {
		total := int64(0)
		counted := map[schema.SourceName]int64{}
		for other, bytes := range takes {
			if s.Of(other, control.IsDeclared(r, other)) {
				counted[other] = bytes
				total += bytes
			}
		}
		if most := s.Most(b.most); total > most {
			return schema.Diagnostics{{
				Position: at, Severity: schema.Error, Hint: b.hint + ", " + s.Where, Elsewhere: counted[source] <= most,
				Message: fmt.Sprintf("%s would take %d bytes %s, at most %d: %s", s.Whose, total, b.what, most, largest(counted)),
			}}
		}
	}
	return nil
}

// growth is how much more the changes take than what they replace, and where the object
// stands that adds most.
func (b deliveryBound) growth(changes []ObjectChange) (grows int64, at schema.Position) {
	most := int64(0)
	for _, c := range changes {
		adds := int64(0)
		if c.next != nil {
			adds += b.of(takesNext(c))
		}
		if c.live != nil && schema.SourceOf(c.live) != "" {
			adds -= b.of(wire.TakesOf(c.live))
		}
		if grows += adds; adds > most {
			most, at = adds, c.Position
		}
	}
	return grows, at
}

// takesNext is what an object is to take, with what is made from a template that is new:
// the templates before it stay until their pods are gone.
func takesNext(c ObjectChange) wire.Takes {
	takes := wire.TakesOf(c.next)
	if makesAnother(c.live, c.next) {
		takes.Kept *= 2
	}
	return takes
}

// makesAnother reports whether the object makes others that hold its template, as a
// Deployment does, and the template is not the one that it had.
func makesAnother(live, next schema.Object) bool {
	is, ok := schema.PodTemplateOf(next)
	if !ok || is.Between == 0 {
		return false
	}
	if live == nil {
		return true
	}
	was, ok := schema.PodTemplateOf(live)
	return !ok || !equality.Semantic.DeepEqual(was.Meta, is.Meta) || !equality.Semantic.DeepEqual(was.Spec, is.Spec)
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
