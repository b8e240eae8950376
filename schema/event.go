package schema

import corev1 "k8s.io/api/core/v1"

// KindEvent is the kind of Kubernetes' Event.
const KindEvent Kind = "Event"

var eventRow = Row{
	KindInfo: KindInfo{
		Kind: KindEvent, Version: "v1", Resource: "events", Singular: "event", Short: []string{"ev"},
		Namespaced: true, OfItself: true, New: func() Object { return &corev1.Event{} },
	},
	Name:       subdomain,
	Supported:  supportedCell{None: notInGit},
	Defaults:   defaultsCell{None: notInGit},
	Judge:      judgeCell{None: notInGit},
	Update:     updateCell{None: notInGit},
	Work:       workCell{None: neverDone},
	Pods:       podsCell{None: noPods},
	References: referencesCell{None: namesNothing},
	Data:       dataCell{None: noData},
	Backends:   backendsCell{None: noBackends},
	Claims:     claimsCell{None: claimsNone},
	Declares:   declaresCell{None: declaresNone},
	Rights:     rightsCell{None: notInGit},
	Owns:       ownsCell{None: ownsNothing},
	Carry:      carryCell{None: notInGit},
	Memory:     memoryCell{None: "it tells of the past"},
	Whole:      wholeCell{None: anyIsWhole},
}
