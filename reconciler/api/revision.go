package api

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"fairlead/schema"
)

var revisionRow = row{
	kind: schema.KindRevision,
	columns: []column{
		nameColumn, {name: "Source"}, {name: "Commit"}, {name: "Phase"}, {name: "Sync"}, {name: "Health"}, {name: "Subject"}, ageColumn,
		{name: "Author", wide: true}, {name: "Reason", wide: true}, {name: "Now", wide: true},
	},
	cells:    typedCells(revisionCells),
	fields:   fieldsCell{Do: typedFields(revisionFields)},
	narrow:   narrowCell{None: noIndex},
	shared:   sharedCell{None: notShared},
	concerns: concernsCell{None: notOwn},
	maker:    makerCell{Do: "is what became of a commit: push another one, or use `fairlead rollback`"},
	refuse:   refuseCell{None: byOrigin},
	reach:    reachCell{None: noAddress},
	fresh:    freshCell{None: allStored},
}

func revisionCells(r *schema.Revision, now metav1.Time) []any {
	reason, sync, health := "", standingOf(r.Status.Sync), standingOf(r.Status.Health)
	if n := len(r.Status.Phases); n > 0 {
		reason = r.Status.Phases[n-1].Reason
	}
	return []any{
		r.Name, string(r.Spec.Source), orNone(r.Spec.Commit.Short()), string(r.Status.Phase), orNone(sync.Word), orNone(health.Word), r.Spec.Subject,
		age(r.CreationTimestamp, now), r.Spec.Author, reason, orNone(health.Reason),
	}
}

// standingOf is empty for a revision that does not stand anywhere.
func standingOf(s *schema.Standing) schema.Standing {
	if s == nil {
		return schema.Standing{}
	}
	return *s
}

func revisionFields(set fields.Set, o *schema.Revision) {
	set["spec.source"] = string(o.Spec.Source)
	set["status.phase"] = string(o.Status.Phase)
}
