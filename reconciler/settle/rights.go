package settle

import (
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// maxSourceDepth bounds how deep sources declare sources: a chain that is longer, or
// goes round in a circle, has no rights.
const maxSourceDepth = 32

// EffectiveRights are those of a source that are in force: what it names itself, and
// every source above it, each declared by the next, to the master's configuration. Who
// is narrowed narrows all below. A source that is declared by none that is there has
// at most what one that names nothing has.
func EffectiveRights(r state.Reader, source schema.SourceName) schema.Rights {
	rights := schema.AllRights()
	for range maxSourceDepth {
		src, ok := state.Source(r, source)
		if !ok {
			narrow := schema.DefaultSourceSpec(schema.SourceSpec{})
			return rights.And(narrow.Rights())
		}
		rights = rights.And(src.Spec.Rights())
		if source = schema.SourceOf(src); source == "" {
			return rights
		}
	}
	return schema.Rights{PodSecurity: schema.RestrictedLevel}
}

// JudgedUnder is all that a tree of a source is judged by besides the tree and what others
// have: the source's rights, and what its spec says otherwise than by default of how
// trees are read.
func JudgedUnder(r state.Reader, source schema.SourceName) string {
	under := EffectiveRights(r, source).String()
	if src, ok := state.Source(r, source); ok {
		under += src.Spec.Reading()
	}
	return under
}
