package state

import "fairlead/schema"

// RevisionsBySource: spec.source.
var RevisionsBySource = Index{schema.KindRevision, 0, func(o schema.Object) []string { return []string{o.(*schema.Revision).Spec.Source} }}

var revisionIndexes = []Index{RevisionsBySource}
