package reconciler

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/control"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// Restore builds the snapshot that a store's records describe, and tells which of
// them cannot be read: the cluster is there without them.
func Restore(records []wire.Record, counters state.Counters) (*state.Snapshot, []wire.Unreadable) {
	objects := make([]schema.Object, len(records))
	problems := make([]error, len(records))
	_ = onAllCores(len(records), func(i int) error {
		objects[i], problems[i] = decodeRecord(records[i])
		return nil
	})
	var unreadable []wire.Unreadable
	tx := state.Empty(counters).Begin()
	for i, obj := range objects {
		if problems[i] != nil {
			unreadable = append(unreadable, wire.Unreadable{Key: wire.StoreKey(records[i].Key), Why: problems[i].Error()})
			continue
		}
		tx.Restore(obj)
	}
	return tx.Commit(), unreadable
}

// decodeRecord reads a record and refuses what the loop could not work with. What is
// damaged may do anything to who reads it.
func decodeRecord(rec wire.Record) (obj schema.Object, err error) {
	defer func() {
		if r := recover(); r != nil {
			obj, err = nil, fmt.Errorf("stored object %s: %v", rec.Key, r)
		}
	}()
	obj, err = wire.DecodeObject(rec.Key.Kind, rec.Object)
	if err == nil && schema.KeyOf(obj) != rec.Key {
		err = fmt.Errorf("it holds %s", schema.KeyOf(obj))
	}
	if err == nil {
		err = whole(obj)
	}
	if err != nil {
		return nil, fmt.Errorf("stored object %s: %w", rec.Key, err)
	}
	schema.AddLaterDefaults(obj)
	obj.SetResourceVersion(strconv.FormatUint(rec.ResourceVersion, 10))
	return obj, nil
}

var errCutShort = errors.New("the record is incomplete")

// whole refuses objects without what every one has that was accepted, and those of
// which nobody knows what that is.
func whole(obj schema.Object) error {
	kind := schema.KindOf(obj)
	row := schema.Of(kind)
	switch {
	case row == nil:
		return fmt.Errorf("this version cannot judge records of kind %s", kind)
	case row.Whole.Do != nil && !row.Whole.Do(obj):
		return errCutShort
	}
	return nil
}

// Missing tells the machine, before its first Step, which records could not be read.
// Every source is then asked to make whole what it applied.
func (m *Machine) Missing(records []wire.Unreadable) { m.missing = records }

// tellMissing marks every source as incomplete: nobody knows whose the objects were.
// What others depend on is replaced by a stand-in, so that nothing is taken for left
// behind until its node reports or its source is read.
func (m *Machine) tellMissing(c *control.Context) {
	if len(m.missing) == 0 {
		return
	}
	for _, r := range m.missing {
		key, ok := wire.KeyOfStore(r.Key)
		if !ok || c.Tx.Get(key) != nil {
			continue
		}
		if row := control.Of(key.Kind); row != nil && row.StandIn.Do != nil {
			c.Tx.Put(row.StandIn.Do(c, metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, CreationTimestamp: c.Stamp()}))
		}
	}
	message := fmt.Sprintf("records that cannot be read were set aside at the master's start: %d; objects that are still in Git are recreated", len(m.missing))
	for src := range state.All[*schema.Source](c.Tx, "") {
		incomplete(c, src, message)
	}
	m.missing = nil
}

// incomplete tells on a source that not all it applied is there; the same word again
// writes nothing.
func incomplete(c *control.Context, src *schema.Source, message string) {
	want := metav1.Condition{Type: schema.ConditionComplete, Status: metav1.ConditionFalse, Reason: schema.ReasonSetAside, Message: schema.FitText(message, schema.MaxReasonText), LastTransitionTime: c.Stamp()}
	if have := meta.FindStatusCondition(src.Status.Conditions, want.Type); have != nil && have.Status == want.Status && have.Message == want.Message {
		return
	}
	next := state.Edit(src)
	setCondition(&next.Status.Conditions, want)
	c.Tx.Put(next)
	control.Event(c, next, corev1.EventTypeWarning, want.Reason, want.Message)
}

// isIncomplete reports whether what the source applied is to be completed.
func isIncomplete(src *schema.Source) bool {
	return meta.IsStatusConditionFalse(src.Status.Conditions, schema.ConditionComplete)
}

// completed notes on a source, which it changes in place, that all is there again.
func completed(c *control.Context, src *schema.Source, changes int) {
	if isIncomplete(src) {
		setCondition(&src.Status.Conditions, metav1.Condition{
			Type: schema.ConditionComplete, Status: metav1.ConditionTrue, Reason: schema.ReasonMadeAnew,
			Message: fmt.Sprintf("objects created or corrected: %d", changes), LastTransitionTime: c.Stamp(),
		})
	}
}

// applyAgain makes whole what a source has applied: what is missing is made, what
// differs is put right, and nothing is pruned. The revision stays as it is; one that
// is missing itself begins anew.
func applyAgain(c *control.Context, cand Candidate) {
	src, ok := state.Source(c.Tx, cand.Source)
	if !ok || src.Status.Applied.Commit != cand.Commit.Hash {
		return
	}
	changes, diags := settle.Difference(c.Tx, cand.Source, cand.Objects)
	if bad := slices.Concat(cand.Diagnostics, diags); bad.HasErrors() {
		incomplete(c, src, "records were set aside at the master's start, and what was applied cannot be created again: "+firstError(bad))
		return
	}
	changes = slices.DeleteFunc(changes, func(ch settle.ObjectChange) bool { return ch.Action == settle.Prune })
	next := state.Edit(src)
	next.Status.SecretKiB = secretKiB(cand.secrets.size())
	completed(c, next, len(changes))
	c.Tx.Put(next)
	if _, ok := state.Revision(c.Tx, schema.RevisionOf(cand.Source, cand.Commit.Hash)); !ok {
		rev := newRevision(c, cand)
		rev.Enter(schema.PhaseRollingOut, c.Stamp(), "applied before; its record could not be read")
		c.Tx.Put(rev)
	}
	settle.Apply(c, changes)
}
