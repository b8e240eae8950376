package settle

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/control"
	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// Action is what applying a tree does to one object.
type Action string

// The actions.
const (
	Create Action = "create"
	Update Action = "update"
	// Replace is an update that the object cannot take: it goes, with what it made, and
	// comes anew. It asks for that itself.
	Replace Action = "replace"
	Prune   Action = "prune"
)

// ObjectChange is one object that a tree creates, changes or no longer contains.
type ObjectChange struct {
	Action   Action
	Key      schema.Key
	Position schema.Position // where the object stands; for a prune where it stood
	Commit   schema.Commit   // the commit that position belongs to
	Fields   []schema.FieldChange
	Desired  *schema.Desired // what the tree asks for; nil where that is not known, and for a prune
	live     schema.Object
	next     schema.Object // nil for a prune
}

// Difference compares a source's desired objects with what is applied. Both an
// apply and a plan start from it; there is no other comparison of objects.
// Changes are sorted by key. Diagnostics tell of objects this source may not
// touch and of changes to immutable fields; with an error among them nothing
// may be applied.
func Difference(r state.Reader, source schema.SourceName, desired []*schema.Desired) ([]ObjectChange, schema.Diagnostics) {
	return difference(r, source, desired, false)
}

// DifferenceBack is the difference to a tree that was applied before and takes a failed
// one's place. It leaves what has done its work, so that a fix does not do it once more.
func DifferenceBack(r state.Reader, source schema.SourceName, desired []*schema.Desired) ([]ObjectChange, schema.Diagnostics) {
	changes, diags := difference(r, source, desired, true)
	return slices.DeleteFunc(changes, func(ch ObjectChange) bool { return ch.Action == Prune && didItsWork(ch.live) }), diags
}

func difference(r state.Reader, source schema.SourceName, desired []*schema.Desired, back bool) ([]ObjectChange, schema.Diagnostics) {
	finished := finishedWork(r, source, back)
	var changes []ObjectChange
	var diags schema.Diagnostics
	stays := 0 // objects that are applied and still desired
	last, isSet := schema.Key{}, true
	homes, kept := newHomes(r, source), keptFrom(r, source)
	for _, d := range desired {
		key := schema.KeyOf(d.Object)
		homes.see(key, d)
		isSet = isSet && last.Compare(key) < 0
		last = key
		live := r.Get(key)
		if live != nil && d.Same.As(live) {
			stays++
			continue
		}
		if err := wire.CheckDesired(d.Object); err != nil {
			diags = append(diags, schema.Diagnostic{Position: d.Position, Severity: schema.Error, Message: fmt.Sprintf("%s cannot be stored: %v", key, err), Hint: "split it"})
			continue
		}
		isDone := finished(d.Object)
		if live == nil && isDone {
			continue
		}
		diags = append(diags, takes(kept, d, live)...)
		if live == nil {
			changes = append(changes, ObjectChange{Action: Create, Key: key, Position: d.Position, Commit: schema.OriginOf(d.Object).Commit, Desired: d, next: d.Object})
			continue
		}
		if diag, ok := foreign(source, live, d); ok {
			diags = append(diags, diag)
			continue
		}
		ours := schema.SourceOf(live) == source
		if ours {
			stays++
		}
		next, fields, ok := merge(schema.Of(key.Kind), live, d.Object)
		if !ok {
			diags = append(diags, unknownKind(key, d.Position))
			continue
		}
		if len(fields) == 0 && ours {
			d.Same.Found(live)
			continue
		}
		change, refused := changed(d, live, next, fields, isDone, back)
		changes, diags = append(changes, change), append(diags, refused...)
	}
	// Which objects go is asked only when some do: it takes a table of all keys.
	if !isSet || stays != health.CountObjects(r, source) {
		changes = append(changes, homes.kept(pruned(r, source, desired))...)
	}
	made, refused := homes.made()
	changes, diags = append(changes, made...), append(diags, refused...)
	slices.SortFunc(changes, func(a, b ObjectChange) int { return a.Key.Compare(b.Key) })
	return changes, append(diags, weighing{r, source, changes, back}.tooMuch()...)
}

// changed is what becomes of a live object that is to be next: where it may not become
// that, work that is done goes, and what may be made anew is replaced.
func changed(d *schema.Desired, live, next schema.Object, fields []schema.FieldChange, isDone, back bool) (ObjectChange, schema.Diagnostics) {
	key := schema.KeyOf(live)
	c := ObjectChange{Action: Update, Key: key, Position: d.Position, Commit: schema.OriginOf(d.Object).Commit, Fields: fields, Desired: d, live: live, next: next}
	refused := schema.ValidateUpdate(live, next)
	switch {
	case len(refused) == 0:
	case isDone:
		c.Action, c.Commit, c.Fields, c.Desired, c.next = Prune, schema.OriginOf(live).Commit, nil, nil, nil
		return c, nil
	case schema.Replaceable(d.Object) || back && schema.Replaceable(live):
		c.Action, c.next = Replace, d.Object
		return c, nil
	}
	var diags schema.Diagnostics
	for _, p := range refused {
		at, by := d.Written(p.Field)
		if by != "" {
			by = ", set by " + by
		}
		diags = append(diags, schema.Diagnostic{Position: at, Severity: schema.Error, Message: key.String() + ": " + p.Message + by, Hint: p.Hint})
	}
	return c, diags
}

// finishedWork reports whether an object did what it is asked for now, and is not to do
// it again. What the applied tree does not ask for counts while that tree may have to
// make way: a tree that is well has taken it out for good, unless it was gone back to.
func finishedWork(r state.Reader, source schema.SourceName, back bool) func(schema.Object) bool {
	src, ok := state.Source(r, source)
	if !ok || len(src.Status.Finished) == 0 {
		return func(schema.Object) bool { return false }
	}
	rev, ok := health.Applied(r, src)
	outlived := back || ok && rev.Status.Phase != schema.PhaseHealthy
	return func(obj schema.Object) bool {
		had, ok := schema.Finished(src.Status.Finished, obj)
		return ok && (outlived || !had.Left || had.Back)
	}
}

// didItsWork reports whether an object has done its work.
func didItsWork(obj schema.Object) bool {
	row := control.Of(schema.KindOf(obj))
	return row != nil && row.Done.Do != nil && row.Done.Do(obj)
}

// Finished is what a source remembers of objects that did their work, once a tree is
// applied with these changes: those that it asks for and does not make anew; and those
// that go, while the tree before may be gone back to. back says that the tree is.
func Finished(r state.Reader, src *schema.Source, desired []*schema.Desired, changes []ObjectChange, back bool) (kept []schema.FinishedRecord) {
	records, asked := askedAgain(src.Status.Finished, desired)
	anew := map[string]bool{}
	for _, ch := range changes {
		if ch.Action != Create && ch.Action != Replace {
			continue
		}
		if did, ok := schema.Finished(records, ch.next); ok {
			anew[did.String()] = true
		}
	}
	rev, ok := health.Applied(r, src)
	proven := ok && rev.Status.ProvenAt != nil
	for _, did := range records {
		isAsked := asked[did.String()]
		if anew[did.String()] || !isAsked && did.Left && !did.Back && proven {
			continue
		}
		did.Left, did.Back = !isAsked, !isAsked && back
		kept = append(kept, did)
	}
	for _, ch := range changes {
		if (ch.Action != Prune && ch.Action != Replace) || !didItsWork(ch.live) {
			continue
		}
		did := schema.FinishedRecordOf(ch.live)
		did.Left, did.Back = true, back
		if more, ok := schema.Remember(kept, did); ok {
			kept = more
		}
	}
	return kept
}

// askedAgain tells which of the records are of what is desired. Where that is done work in
// another size it is remembered as well: the next size may follow from it, and the one
// before is gone back to.
func askedAgain(had []schema.FinishedRecord, desired []*schema.Desired) (records []schema.FinishedRecord, asked map[string]bool) {
	records, asked = had, map[string]bool{}
	if len(had) == 0 {
		return records, asked
	}
	for _, d := range desired {
		did, ok := schema.Finished(had, d.Object)
		if !ok {
			continue
		}
		if now, ok := did.Resized(d.Object); ok {
			if more, ok := schema.Remember(records, now); ok {
				records, did = more, now
			}
		}
		asked[did.String()] = true
	}
	return records, asked
}

// unknownKind refuses a change that could lose what the cluster knows of an object.
func unknownKind(key schema.Key, at schema.Position) schema.Diagnostic {
	return schema.Diagnostic{
		Position: at, Severity: schema.Error, Message: key.String() + " cannot be changed: this version does not know what of a " + string(key.Kind) + " to keep",
		Hint: "leave it as it is, or give it another name",
	}
}

// foreign refuses an object that belongs to another source, to the master's
// configuration, or that the cluster itself made.
func foreign(source schema.SourceName, live schema.Object, d *schema.Desired) (schema.Diagnostic, bool) {
	key := schema.KeyOf(live)
	owner := schema.OriginOf(live)
	diag := schema.Diagnostic{Position: d.Position, Severity: schema.Error}
	switch {
	case metav1.GetControllerOf(live) != nil:
		diag.Message = key.String() + " is made by " + metav1.GetControllerOf(live).Kind + " " + metav1.GetControllerOf(live).Name
		diag.Hint = "choose another name"
	case owner.Source == source:
		return diag, false
	case owner.Source != "":
		diag.Message = key.String() + " belongs to source " + string(owner.Source) + " (" + schema.Position{Path: owner.Path, Line: owner.Line}.String() + ")"
		diag.Hint = "an object may stand in one source only"
		diag.Elsewhere = true
	default: // made by the cluster, as namespace default is: the source takes it over
		row := control.Of(key.Kind)
		if row == nil || row.Configured.Do == "" {
			return diag, false
		}
		diag.Message = key.String() + " is " + row.Configured.Do
	}
	return diag, true
}

// applied reports whether obj was put by a source itself and not derived.
func applied(info schema.KindInfo, obj schema.Object) bool {
	return info.Desired && metav1.GetControllerOfNoCopy(obj) == nil
}

func pruned(r state.Reader, source schema.SourceName, desired []*schema.Desired) []ObjectChange {
	wanted := make(map[schema.Key]bool, len(desired))
	for _, d := range desired {
		wanted[schema.KeyOf(d.Object)] = true
	}
	var out []ObjectChange
	for _, info := range schema.Kinds() {
		if !info.Desired {
			continue
		}
		for obj := range r.BySource(info.Kind, source) {
			key := schema.KeyOf(obj)
			if wanted[key] || !applied(info, obj) || obj.GetDeletionTimestamp() != nil {
				continue
			}
			o := schema.OriginOf(obj)
			out = append(out, ObjectChange{Action: Prune, Key: key, Position: schema.Position{Path: o.Path, Line: o.Line}, Commit: o.Commit, live: obj})
		}
	}
	return out
}

// Apply makes the changes. They are all of one Difference, made in the same
// transaction: the desired set of a source switches as one.
func Apply(c *control.Context, changes []ObjectChange) {
	for _, ch := range changes {
		switch ch.Action {
		case Create:
			create(c, ch)
		case Replace:
			c.Tx.Delete(ch.Key)
			create(c, ch)
		case Update:
			c.Tx.Put(state.Edit(ch.next))
		case Prune:
			if row := control.Of(ch.Key.Kind); row != nil && row.Remove.Do != nil {
				row.Remove.Do(c, ch.live, "no longer in source "+string(schema.SourceOf(ch.live)))
				continue
			}
			c.Tx.Delete(ch.Key)
		}
	}
}

func create(c *control.Context, ch ObjectChange) {
	obj := state.Edit(ch.next)
	obj.SetCreationTimestamp(c.Stamp())
	obj.SetGeneration(1)
	if row := control.Of(ch.Key.Kind); row != nil && row.Created.Do != nil {
		row.Created.Do(c, obj)
	}
	c.Tx.Put(obj)
}

// merge is the desired object with what the cluster wrote on the live one:
// identity, status, and what was allocated for it; and how it differs from the
// live one. row is the kind's; without one nobody knows what to keep, and false says
// so.
func merge(row *schema.Row, live, desired schema.Object) (next schema.Object, fields []schema.FieldChange, ok bool) {
	if row == nil {
		return nil, nil, false
	}
	next = state.Edit(desired)
	next.SetUID(live.GetUID())
	next.SetCreationTimestamp(live.GetCreationTimestamp())
	next.SetResourceVersion(live.GetResourceVersion())
	next.SetDeletionTimestamp(live.GetDeletionTimestamp())
	next.SetDeletionGracePeriodSeconds(live.GetDeletionGracePeriodSeconds())
	next.SetGeneration(live.GetGeneration())
	for _, key := range control.OwnAnnotations {
		if v, ok := live.GetAnnotations()[key]; ok {
			a := next.GetAnnotations()
			if a == nil {
				a = map[string]string{}
			}
			a[key] = v
			next.SetAnnotations(a)
		}
	}
	if row.Carry.Do != nil {
		row.Carry.Do(live, next)
	}
	fields = schema.Diff(live, next)
	if slices.ContainsFunc(fields, func(f schema.FieldChange) bool { return !strings.HasPrefix(f.Path, "metadata") }) {
		next.SetGeneration(live.GetGeneration() + 1)
	}
	return next, fields, true
}
