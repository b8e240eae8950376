package health

import "fairlead/schema"

// idle are the kinds that run nothing of their own: the objects of those that stand
// in Git are well as soon as they are applied.
var idle = []row{
	runsNothing(schema.KindNamespace, "it only holds others"),
	runsNothing(schema.KindService, "it leads to pods, which are judged themselves"),
	runsNothing(schema.KindConfigMap, "it is only read"),
	runsNothing(schema.KindSecret, "it is only read"),
	runsNothing(schema.KindSource, "its revisions say how it is"),
	runsNothing(schema.KindRevision, "it is what its workloads are"),
	runsNothing(schema.KindNode, "OfNode judges it"),
	runsNothing(schema.KindEvent, "it tells of the past"),
	runsNothing(schema.KindEndpointSlice, "it tells of pods, which are judged themselves"),
}

func runsNothing(kind schema.Kind, reason string) row {
	return row{kind: kind, of: schema.Cell[judgement]{None: reason}, in: schema.Cell[workloads]{None: reason}, current: schema.Cell[owning]{None: reason}}
}
