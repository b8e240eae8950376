package settle

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

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
	// passes is set where nothing of a tree that ran before can be too much for long.
	passes bool
}

var deliveryBounds = []deliveryBound{
	{schema.MaxDeliveredBytes, func(t wire.Takes) int64 { return t.Asked }, "of what every node is sent", "remove objects or make them smaller", false},
	{schema.MaxKeptBytes, func(t wire.Takes) int64 { return t.Kept }, "of what every node keeps for the master", "wait until rollouts and Jobs that run side by side have ended, or remove objects", true},
	{schema.MaxToldBytes, func(t wire.Takes) int64 { return t.Told }, "of what every node is told of Services", "remove Services, or let them select fewer pods", false},
}

// weighing is of what a source's changes make of what every node is sent.
type weighing struct {
	r       state.Reader
	source  schema.SourceName
	changes []ObjectChange
	back    bool // to a tree that ran before, in place of one that failed
}

// tooMuch refuses changes after which every node would be sent more than fits. Its cost
// follows the changes and the number of sources. What takes no more than before is never
// refused, so that there is a way back from too much.
// Nor is a tree that ran before and takes a failed one's place, for what it will no longer
// keep.
func (w weighing) tooMuch() schema.Diagnostics {
	for _, b := range deliveryBounds {
		if w.back && b.passes {
			continue
		}
		if grows, at := b.growth(w.changes); grows > 0 {
			if diags := w.check(b, grows, at); len(diags) > 0 {
				return diags // one reason is enough: the bounds go together
			}
		}
	}
	return nil
}

// check refuses what grows by so many bytes. What others take may become less, and so may
// what the cluster made of the source's own objects: what is refused for that waits for it.
func (w weighing) check(b deliveryBound, grows int64, at schema.Position) schema.Diagnostics {
	takes := map[schema.SourceName]int64{w.source: grows}
	for other, t := range w.r.Delivered() {
		takes[other] += b.of(t)
	}
	for _, s := range control.SharesOf(w.source, control.IsDeclared(w.r, w.source)) {
		total := int64(0)
		counted := map[schema.SourceName]int64{}
		for other, bytes := range takes {
			if s.Of(other, control.IsDeclared(w.r, other)) {
				counted[other] = bytes
				total += bytes
			}
		}
		most := s.Most(b.most)
		if total <= most {
			continue
		}
		goes, made := w.derived(b)
		if total -= goes; total > most {
			lasts := counted[w.source] - made
			counted[w.source] -= goes
			return schema.Diagnostics{{
				Position: at, Severity: schema.Error, Hint: b.hint + ", " + s.Where, Elsewhere: lasts <= most,
				Message: fmt.Sprintf("%s would take %d bytes %s, at most %d: %s", s.Whose, total, b.what, most, largest(counted)),
			}}
		}
	}
	return nil
}

// derived is what is taken by all that the cluster made of the source's objects, and by
// what of that the changes end. It takes what there is, not what changes: it is asked
// where something is about to be refused.
func (w weighing) derived(b deliveryBound) (goes, all int64) {
	going := map[types.UID]bool{}
	for _, c := range w.changes {
		// Going back undoes what the failed tree made of an object as well.
		if c.live != nil && (c.next == nil || c.Action == Replace || w.back) {
			going[c.live.GetUID()] = true
		}
	}
	for _, info := range schema.Kinds() {
		for obj := range w.r.BySource(info.Kind, w.source) {
			if metav1.GetControllerOfNoCopy(obj) == nil {
				continue
			}
			takes := b.of(wire.TakesOf(obj))
			if all += takes; takes > 0 && goesWith(w.r, obj, going) {
				goes += takes
			}
		}
	}
	return goes, all
}

// maxOwners bounds how far up owners are looked for: a CronJob's Job's pod has two.
const maxOwners = 4

// goesWith reports whether one of those that own the object, or their owners, goes.
func goesWith(r state.Reader, obj schema.Object, going map[types.UID]bool) bool {
	for range maxOwners {
		ref := metav1.GetControllerOfNoCopy(obj)
		if ref == nil {
			return false
		}
		if going[ref.UID] {
			return true
		}
		if obj = r.Get(schema.Key{Kind: schema.Kind(ref.Kind), Namespace: obj.GetNamespace(), Name: ref.Name}); obj == nil {
			return false
		}
	}
	return false
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
