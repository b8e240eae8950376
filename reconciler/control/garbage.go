package control

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// collected and needed are the rows of the kinds that end with another object and of
// those that others end with. They are few: looking through them costs less than to
// ask for a row at every change.
var (
	collected = slices.DeleteFunc(slices.Clone(rows.All()), func(r Row) bool { return r.Collect.Do == nil })
	needed    = slices.DeleteFunc(slices.Clone(rows.All()), func(r Row) bool { return r.Dependents.Do == nil })
)

func among(rows []Row, kind schema.Kind) *Row {
	for i := range rows {
		if rows[i].Kind == kind {
			return &rows[i]
		}
	}
	return nil
}

// garbageTriggers visits what may have lost what it depends on: the object itself
// when it appears, and the dependents of whatever went.
func garbageTriggers(r state.Reader, c state.Change) []schema.Key {
	var keys []schema.Key
	if c.Old == nil && among(collected, c.Key.Kind) != nil {
		keys = append(keys, c.Key)
	}
	if c.Old == nil || c.New != nil && c.New.GetUID() == c.Old.GetUID() {
		return keys
	}
	if row := among(needed, c.Key.Kind); row != nil {
		for obj := range row.Dependents.Do(r, c.Old) {
			keys = append(keys, schema.KeyOf(obj))
		}
	}
	return keys
}

// reconcileGarbage lets the object's kind remove it if what it depends on is gone, or
// another one by now. What is of a kind that nobody knows stays.
func reconcileGarbage(c *Context, key schema.Key) (wake time.Time) {
	if obj := c.Tx.Get(key); obj != nil {
		if row := among(collected, key.Kind); row != nil {
			row.Collect.Do(c, obj)
		}
	}
	return wake
}

// ownerGone reports whether the object had a controlling owner that is no more, and
// names it. Owners of kinds that it does not know count as living.
func ownerGone(r state.Reader, obj schema.Object) (owner string, gone bool) {
	ref := metav1.GetControllerOf(obj)
	if ref == nil {
		return "", false
	}
	info, ok := schema.Lookup(schema.Kind(ref.Kind))
	if !ok {
		return "", false
	}
	key := schema.Key{Kind: info.Kind, Name: ref.Name}
	if info.Namespaced {
		key.Namespace = obj.GetNamespace()
	}
	have := r.Get(key)
	return ref.Kind + " " + ref.Name, have == nil || have.GetUID() != ref.UID
}
