package schema

import (
	"maps"
	"reflect"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

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
