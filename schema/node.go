package schema

import corev1 "k8s.io/api/core/v1"

// KindNode is the kind of Kubernetes' Node.
const KindNode Kind = "Node"

var nodeRow = Row{
	KindInfo: KindInfo{
		Kind: KindNode, Version: "v1", Resource: "nodes", Singular: "node", Short: []string{"no"},
		Instead: "a node joins with a token", New: func() Object { return &corev1.Node{} },
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
	Owns:       ownsCell{None: "the pods on it are their owners', and end with it where nobody else can report them"},
	Carry:      carryCell{None: notInGit},
	Memory:     memoryCell{Do: Memory{Lean: leanNode}},
	Whole:      wholeCell{None: anyIsWhole},
}

// leanNode is without the status, which it reports.
func leanNode(obj Object) Object {
	out := *obj.(*corev1.Node)
	out.Status, out.ResourceVersion = corev1.NodeStatus{}, ""
	return &out
}
