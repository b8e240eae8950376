package work

import (
	"cmp"
	"maps"
	"slices"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// Briefly are the sources of whose history, what the cluster can do without, nodes keep
// nothing: those that have most, so many that the rest fits. One that was among them comes
// back when there is ample room, so that none goes to and fro.
func Briefly(r state.Reader, was map[schema.SourceName]bool) map[schema.SourceName]bool {
	takes := maps.Collect(r.Delivered())
	total := int64(0)
	for _, t := range takes {
		total += t.Spare
	}
	sources := slices.SortedFunc(maps.Keys(takes), func(a, b schema.SourceName) int {
		return cmp.Or(cmp.Compare(takes[b].Spare, takes[a].Spare), cmp.Compare(a, b))
	})
	out := map[schema.SourceName]bool{}
	for _, source := range sources {
		if total > schema.MaxSpareBytes || was[source] && total > schema.MaxSpareBytes/4*3 {
			out[source] = true
			total -= takes[source].Spare
		}
	}
	return out
}

// History yields the keys of the records that differ where a source's history is not kept.
func History(r state.Reader, sources map[schema.SourceName]bool) (keys []string) {
	for _, info := range schema.Kinds() {
		row := schema.Of(info.Kind)
		if row == nil || row.Memory.Do.Brief == nil {
			continue
		}
		for obj := range r.List(info.Kind, "") {
			if !sources[schema.BelongsTo(obj)] || wire.TakesOf(obj).Spare == 0 {
				continue
			}
			if key, kept := RecordKey(obj); kept {
				keys = append(keys, key)
			}
		}
	}
	return keys
}
