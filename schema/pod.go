package schema

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// KindPod is the kind of Kubernetes' Pod.
const KindPod Kind = "Pod"

var podRow = Row{
	KindInfo: KindInfo{
		Kind: KindPod, Version: "v1", Resource: "pods", Singular: "pod", Short: []string{"po"},
		Namespaced: true, Desired: true, Logs: true, All: true, New: func() Object { return &corev1.Pod{} },
	},
	Name:       subdomain,
	Supported:  supportedCell{Do: []string{below("spec", podSpecFields)}},
	Defaults:   defaultsCell{None: likeAllPods},
	Judge:      judgeCell{None: likeAllPods},
	Update:     updateCell{Do: updatePod},
	Work:       workCell{None: neverDone},
	Pods:       podsCell{Do: podsOfPod},
	References: referencesCell{Do: referencesOf(podsOfPod)},
	Data:       dataCell{None: noData},
	Backends:   backendsCell{None: noBackends},
	Claims:     claimsCell{None: "its node's ports are the scheduler's to give"},
	Declares:   declaresCell{None: declaresNone},
	Rights:     rightsCell{None: noRights},
	Owns:       ownsCell{None: ownsNothing},
	Carry:      carryCell{Do: carryPod},
	Memory:     memoryCell{Do: Memory{Kept: unboundAndMissed, Lean: leanPod}},
	Whole:      wholeCell{Do: func(obj Object) bool { return len(obj.(*corev1.Pod).Spec.Containers) > 0 }},
}

// likeAllPods is why a Pod's row does not say what is done for pods of any kind.
const likeAllPods = "its pods are treated like those of any kind"

// PodTemplate is the pods that an object makes, with the path at which their template
// stands.
type PodTemplate struct {
	Meta       *metav1.ObjectMeta
	MetaField  string
	Spec       *corev1.PodSpec
	SpecField  string
	Count      int64  // how many there are at most, ended ones included
	CountField string // where that is said; empty for a pod of its own
	Between    int64  // objects that are made on the way to them, each with the template in it
}

// PodTemplateOf is the pods of an object; false for a kind that makes none.
func PodTemplateOf(obj Object) (PodTemplate, bool) {
	pods := rowOf(obj).Pods.Do
	if pods == nil {
		return PodTemplate{}, false
	}
	return pods(obj), true
}

func podsOfPod(obj Object) PodTemplate {
	p := obj.(*corev1.Pod)
	return PodTemplate{Meta: &p.ObjectMeta, MetaField: ownMeta, Spec: &p.Spec, SpecField: "spec", Count: 1}
}

// countOf is a number of replicas, of an object that may not have been judged yet.
func countOf(replicas *int32) int64 {
	if replicas == nil {
		return 0
	}
	return max(0, int64(*replicas))
}

// updatePod keeps a Pod's spec apart from images and added tolerations. What the
// cluster gave old, its node, may be missing in new.
func updatePod(p *problems, old, new Object) {
	before, after := old.(*corev1.Pod).DeepCopy(), new.(*corev1.Pod).DeepCopy()
	for i := range before.Spec.Containers {
		before.Spec.Containers[i].Image = ""
	}
	for i := range after.Spec.Containers {
		after.Spec.Containers[i].Image = ""
	}
	for i := range before.Spec.InitContainers {
		before.Spec.InitContainers[i].Image = ""
	}
	for i := range after.Spec.InitContainers {
		after.Spec.InitContainers[i].Image = ""
	}
	if after.Spec.NodeName == "" {
		before.Spec.NodeName = ""
	}
	if tolerationsOnlyAdded(before.Spec.Tolerations, after.Spec.Tolerations) {
		before.Spec.Tolerations = after.Spec.Tolerations
	}
	p.unchanged("spec", before, after, "use a Deployment, or delete the Pod in one revision and add it in the next")
}

func tolerationsOnlyAdded(old, new []corev1.Toleration) bool {
	for i := range old {
		if !slices.ContainsFunc(new, func(t corev1.Toleration) bool { return t.MatchToleration(&old[i]) }) {
			return false
		}
	}
	return true
}

// carryPod keeps the node, and the tolerations that every pod is given.
func carryPod(live, next Object) {
	was, is := live.(*corev1.Pod), next.(*corev1.Pod)
	is.Status, is.Spec.NodeName = was.Status, was.Spec.NodeName
	if len(is.Spec.Tolerations) < len(was.Spec.Tolerations) {
		is.Spec.Tolerations = was.Spec.Tolerations
	}
}

// unboundAndMissed reports whether the pod is to be kept by all nodes: no node has it,
// and it stands in Git or is counted by whoever made it, as a finalizer says. One that is
// bound is in its node's work, and kept there. One that its controller would make again
// is not kept: of such there may be far more than a node can be sent.
func unboundAndMissed(obj Object) bool {
	isMissed := metav1.GetControllerOfNoCopy(obj) == nil || len(obj.GetFinalizers()) > 0
	return obj.(*corev1.Pod).Spec.NodeName == "" && isMissed
}

// leanPod is without the status, which its node reports.
func leanPod(obj Object) Object {
	out := *obj.(*corev1.Pod)
	out.Status, out.ResourceVersion = corev1.PodStatus{}, ""
	return &out
}
