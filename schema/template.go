package schema

import (
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// HasTemplateOf reports whether a replica set makes the pods that a deployment asks
// for: its template is the deployment's, but for the label by which a deployment's
// replica sets tell their pods apart. The templates themselves are compared: a hash
// costs more, and one that another version made says nothing.
func HasTemplateOf(rs *appsv1.ReplicaSet, d *appsv1.Deployment) bool {
	have, want := &rs.Spec.Template, &d.Spec.Template
	labels := maps.Clone(have.Labels)
	delete(labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return equality.Semantic.DeepEqual(labels, want.Labels) &&
		equality.Semantic.DeepEqual(have.Annotations, want.Annotations) &&
		equality.Semantic.DeepEqual(have.Spec, want.Spec)
}
