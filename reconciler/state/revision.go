package state

import (
	"iter"

	"fairlead/schema"
)

// RevisionsBySource: spec.source.
var RevisionsBySource = Index{schema.KindRevision, 0, func(o schema.Object) []string { return []string{string(o.(*schema.Revision).Spec.Source)} }}

var revisionIndexes = []Index{RevisionsBySource}

// Source is the source of a name, if there is one.
func Source(r Reader, name schema.SourceName) (*schema.Source, bool) {
	return Get[*schema.Source](r, "", string(name))
}

// Revisions are those of a source, by name.
func Revisions(r Reader, source schema.SourceName) iter.Seq[*schema.Revision] {
	return By[*schema.Revision](r, RevisionsBySource, string(source))
}

// Revision is the revision of a name, if there is one.
func Revision(r Reader, name schema.RevisionName) (*schema.Revision, bool) {
	return Get[*schema.Revision](r, "", string(name))
}
