package schema

import (
	"maps"
	"reflect"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// KindReplicaSet is the kind of apps' ReplicaSet.
const KindReplicaSet Kind = "ReplicaSet"

var replicaSetRow = Row{
	KindInfo: KindInfo{
		Kind: KindReplicaSet, Group: "apps", Version: "v1", Resource: "replicasets", Singular: "replicaset", Short: []string{"rs"},
		Namespaced: true, All: true, Instead: "write a Deployment", New: func() Object { return &appsv1.ReplicaSet{} },
	},
	Name:       subdomain,
	Supported:  supportedCell{None: notInGit},
	Defaults:   defaultsCell{None: notInGit},
	Judge:      judgeCell{None: notInGit},
	Update:     updateCell{None: notInGit},
	Work:       workCell{None: neverDone},
	Pods:       podsCell{Do: podsOfReplicaSet},
	References: referencesCell{Do: referencesOf(podsOfReplicaSet)},
	Data:       dataCell{None: noData},
	Backends:   backendsCell{None: noBackends},
	Claims:     claimsCell{None: claimsNone},
	Declares:   declaresCell{None: declaresNone},
	Rights:     rightsCell{None: notInGit},
	Owns:       ownsCell{Do: []Kind{KindPod}},
	Carry:      carryCell{None: notInGit},
	Memory:     memoryCell{Do: Memory{Lean: leanReplicaSet, Brief: runningReplicaSet}},
	Whole:      wholeCell{Do: wholeReplicaSet},
}

func podsOfReplicaSet(obj Object) PodTemplate {
	spec := &obj.(*appsv1.ReplicaSet).Spec
	return PodTemplate{
		Meta: &spec.Template.ObjectMeta, MetaField: "spec.template.metadata", Spec: &spec.Template.Spec, SpecField: "spec.template.spec",
		Count: countOf(spec.Replicas), CountField: "spec.replicas",
	}
}

// HasTemplateOf reports whether a replica set makes the pods that a deployment asks
// for: its template is the deployment's, but for the label by which a deployment's
// replica sets tell their pods apart. The templates themselves are compared: a hash
// costs more, and one that another version made says nothing.
//
// A replica set made by this process shares what its template points to with the
// deployment's, which is seen at a glance; any other costs a comparison in depth.
func HasTemplateOf(rs *appsv1.ReplicaSet, d *appsv1.Deployment) bool {
	have, want := &rs.Spec.Template, &d.Spec.Template
	own := 0
	if _, ok := have.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; ok {
		own = 1
	}
	if len(have.Labels)-own != len(want.Labels) || !maps.Equal(have.Annotations, want.Annotations) {
		return false
	}
	for key, value := range want.Labels {
		if had, ok := have.Labels[key]; !ok || had != value || key == appsv1.DefaultDeploymentUniqueLabelKey {
			return false
		}
	}
	return identical(reflect.ValueOf(&have.Spec).Elem(), reflect.ValueOf(&want.Spec).Elem()) || equality.Semantic.DeepEqual(have.Spec, want.Spec)
}

// identical reports whether two structs hold the same values and point to the same
// memory: frozen, they are then equal. It says no more of those that do not.
func identical(a, b reflect.Value) bool {
	for i := range a.NumField() {
		switch x, y := a.Field(i), b.Field(i); x.Kind() {
		case reflect.Slice:
			if x.Len() != y.Len() || x.UnsafePointer() != y.UnsafePointer() {
				return false
			}
		case reflect.Map:
			if x.UnsafePointer() != y.UnsafePointer() {
				return false
			}
		default:
			if !x.Comparable() || !x.Equal(y) {
				return false
			}
		}
	}
	return true
}

// leanReplicaSet is without the status, which is counted anew.
func leanReplicaSet(obj Object) Object {
	out := *obj.(*appsv1.ReplicaSet)
	out.Status, out.ResourceVersion = appsv1.ReplicaSetStatus{}, ""
	return &out
}

// runningReplicaSet is nil for one that has no pods and wants none: its Deployment makes
// it again when it needs it.
func runningReplicaSet(obj Object) Object {
	rs := obj.(*appsv1.ReplicaSet)
	if rs.Spec.Replicas != nil && *rs.Spec.Replicas == 0 && rs.Status.Replicas == 0 {
		return nil
	}
	return leanReplicaSet(rs)
}

func wholeReplicaSet(obj Object) bool {
	spec := &obj.(*appsv1.ReplicaSet).Spec
	return spec.Replicas != nil && spec.Selector != nil && len(spec.Template.Spec.Containers) > 0
}
