package settle

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"fairlead/reconciler/control"
	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// GivesUp is what SourceStatus.GivenUp is once a tree is applied with these changes: what
// goes now, beside what went since the revision that would be gone back to. Not what the
// tree itself refers to: it waits for another source to bring that. Nor what another
// source has taken since, or gave up after that itself.
func GivesUp(r state.Reader, src *schema.Source, desired []*schema.Desired, changes []ObjectChange, now time.Time) []string {
	gone := map[string]bool{}
	if rev, ok := health.Applied(r, src); ok && !health.IsProven(src, rev, now) {
		for _, what := range src.Status.GivenUp {
			gone[what] = true
		}
	}
	leave(gone, changes)
	if len(gone) == 0 {
		return nil
	}
	for _, d := range desired {
		for _, ref := range referred(d.Object) {
			delete(gone, ref.String())
		}
	}
	kept := control.GivenUp(r, src.SourceName())
	maps.DeleteFunc(gone, func(what string, _ bool) bool {
		return kept[what] != nil || control.AnotherHas(r, src.SourceName(), what)
	})
	out := slices.Sorted(maps.Keys(gone))
	return out[:min(len(out), schema.MaxGivenUp)]
}

// leave adds to what is gone what goes with the changes; what moves within the tree is not
// given up.
func leave(gone map[string]bool, changes []ObjectChange) {
	for _, ch := range changes {
		if ch.Action == Prune {
			gone[ch.Key.String()] = true
		}
		for what := range claimsOf(ch.live) {
			gone[what] = true
		}
	}
	for _, ch := range changes {
		if ch.Action == Create {
			delete(gone, ch.Key.String())
		}
		for what := range claimsOf(ch.next) {
			delete(gone, what)
		}
	}
}

// claimsOf is what an object, if there is one, has that no other can have, and in which
// field.
func claimsOf(obj schema.Object) map[string]string {
	if obj == nil {
		return nil
	}
	row := schema.Of(schema.KindOf(obj))
	if row == nil || row.Claims.Do == nil {
		return nil
	}
	out := map[string]string{}
	for _, c := range row.Claims.Do(obj) {
		out[c.Value()] = c.Field
	}
	return out
}

// referred are the objects that an object's pods cannot do without.
func referred(obj schema.Object) (out []schema.Key) {
	template, ok := schema.PodTemplateOf(obj)
	if !ok {
		return nil
	}
	for ref := range schema.References(template.Spec) {
		if ref.Optional {
			continue
		}
		out = append(out, schema.Key{Kind: ref.Kind, Namespace: obj.GetNamespace(), Name: ref.Name})
	}
	return out
}

// keptFrom is what other sources gave up and this one may not take. What it gave up
// itself it may always take again.
func keptFrom(r state.Reader, source schema.SourceName) map[string]*schema.Source {
	kept := control.GivenUp(r, source)
	if src, ok := state.Source(r, source); ok {
		for _, what := range src.Status.GivenUp {
			delete(kept, what)
		}
	}
	return kept
}

// takes refuses an object, or what it claims anew, that another source gave up and may
// come to need again.
func takes(kept map[string]*schema.Source, d *schema.Desired, live schema.Object) (diags schema.Diagnostics) {
	if len(kept) == 0 {
		return nil
	}
	key := schema.KeyOf(d.Object)
	if by := kept[key.String()]; by != nil && live == nil {
		return schema.Diagnostics{refusedFor(by, d.Position, key.String())}
	}
	had, claims := claimsOf(live), claimsOf(d.Object)
	for _, what := range slices.Sorted(maps.Keys(claims)) {
		if by := kept[what]; by != nil && had[what] == "" {
			diags = append(diags, refusedFor(by, d.Locate(claims[what]), claims[what]+": "+what))
		}
	}
	return diags
}

func refusedFor(by *schema.Source, at schema.Position, what string) schema.Diagnostic {
	return schema.Diagnostic{
		Position: at, Severity: schema.Error, Elsewhere: true,
		Message: fmt.Sprintf("%s was given up by source %s, which may still go back from commit %s", what, by.Name, by.Status.Applied.Commit.Short()),
		Hint:    "it is free once that rollout has ended",
	}
}
