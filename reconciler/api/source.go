package api

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

var sourceRow = row{
	kind: schema.KindSource,
	columns: []column{
		nameColumn, {name: "Branch"}, {name: "Applied"}, {name: "Desired"}, {name: "Ready"}, ageColumn,
		{name: "Remote", wide: true}, {name: "Path", wide: true}, {name: "Message", wide: true},
	},
	cells:    typedCells(sourceCells),
	fields:   fieldsCell{None: onlyNames},
	narrow:   narrowCell{None: noIndex},
	shared:   sharedCell{None: notShared},
	concerns: concernsCell{None: notOwn},
	maker:    makerCell{Do: "is one of the sources in the master's configuration: change it there and restart the master"},
	refuse:   refuseCell{None: byOrigin},
	reach:    reachCell{None: noAddress},
	fresh:    freshCell{None: allStored},
}

func sourceCells(s *schema.Source, now metav1.Time) []any {
	ready, message := "Unknown", ""
	for _, c := range s.Status.Conditions {
		if c.Type == "Ready" {
			ready, message = string(c.Status), c.Message
		}
	}
	remote := s.Spec.URL
	if s.Spec.Embedded {
		remote = "embedded"
	}
	return []any{
		s.Name, s.Spec.Branch, orNone(s.Status.Applied.Commit.Short()), orNone(s.Status.Desired.Commit.Short()), ready,
		age(s.CreationTimestamp, now), orNone(remote), orNone(s.Spec.Path), message,
	}
}

// hasSource reports whether the cluster has a source of that name.
func hasSource(r state.Reader, name schema.SourceName) bool {
	_, ok := state.Source(r, name)
	return ok
}
