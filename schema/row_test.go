package schema_test

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/google/go-cmp/cmp"

	"fairlead/schema"
	"fairlead/schema/rowtest"
)

func TestEveryKindHasItsRow(t *testing.T) { rowtest.Check(t, schema.RowsForTest()) }

// What stands in Git is updated and gone back to: for none of these kinds may the
// reason be that it never stands there, and the other way about.
func TestRowsAgreeWithWhatStandsInGit(t *testing.T) {
	for _, row := range schema.RowsForTest().All() {
		for cell, none := range map[string]string{
			"Supported": row.Supported.None, "Defaults": row.Defaults.None, "Judge": row.Judge.None, "Update": row.Update.None,
			"Rights": row.Rights.None, "Carry": row.Carry.None,
		} {
			if got := none != schema.NotInGitForTest; got != row.Desired {
				t.Errorf("kind %s: stands in Git: %v, but cell %s says: %q", row.Kind, row.Desired, cell, none)
			}
		}
	}
}

// Whoever makes pods has the one who made them looked after: its pods are its own kind's
// or those of what it owns.
func TestOwnedKindsAreKnown(t *testing.T) {
	for _, row := range schema.RowsForTest().All() {
		for _, owned := range row.Owns.Do {
			if schema.Of(owned) == nil {
				t.Errorf("kind %s owns %s, which nobody knows", row.Kind, owned)
			}
		}
	}
}

func TestReferencesHaveFieldsOfTheirObject(t *testing.T) {
	spec := corev1.PodSpec{Containers: []corev1.Container{{
		EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "key"}}}},
		Env: []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Key: "a",
		}}}},
	}}}
	d := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: spec}}}
	for _, c := range []struct {
		obj schema.Object
		at  string
	}{
		{d, "spec.template.spec."}, {&appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Template: d.Spec.Template}}, "spec.template.spec."}, {&corev1.Pod{Spec: spec}, "spec."},
	} {
		var got []string
		for r := range schema.ReferencesOf(c.obj) {
			got = append(got, string(r.Kind)+" "+r.Name+" "+r.Field+" "+r.KeyField)
		}
		want := []string{
			"Secret key " + c.at + "containers[0].envFrom[0].secretRef.name ",
			"ConfigMap conf " + c.at + "containers[0].env[0].valueFrom.configMapKeyRef.name " + c.at + "containers[0].env[0].valueFrom.configMapKeyRef.key",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%T: %s", c.obj, diff)
		}
	}
	if got := slices.Collect(schema.ReferencesOf(&corev1.ConfigMap{})); len(got) > 0 {
		t.Errorf("a ConfigMap refers to %+v", got)
	}
}

// What the judgement of a tree asks of a Service and of a Namespace.
func TestWhatATreeIsJudgedBy(t *testing.T) {
	svc := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.7", Selector: map[string]string{"app": "api"}, Ports: []corev1.ServicePort{
		{Protocol: "TCP", NodePort: 30080, TargetPort: intstr.FromString("web")}, {Protocol: "UDP", TargetPort: intstr.FromInt32(53), NodePort: 70000},
	}}}
	row := schema.Of(schema.KindOf(svc))
	backends := schema.Backends{Selector: map[string]string{"app": "api"}, SelectorField: "spec.selector", Ports: []schema.BackendPort{{Field: "spec.ports[0].targetPort", Name: "web", Protocol: "TCP"}}}
	if diff := cmp.Diff(backends, row.Backends.Do(svc)); diff != "" {
		t.Error(diff)
	}
	var claims []string
	for _, c := range row.Claims.Do(svc) {
		claims = append(claims, c.String())
	}
	if diff := cmp.Diff([]string{"spec.ports[0].nodePort 30080/TCP", "spec.clusterIP 10.96.0.7"}, claims); diff != "" {
		t.Error(diff)
	}
	svc.Spec.ClusterIP = corev1.ClusterIPNone
	if got := row.Claims.Do(svc); len(got) != 1 {
		t.Errorf("a headless service claims %v", got)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.20"}}}
	declared := schema.Declared{Namespace: "shop", Security: schema.NamespaceSecurity{Enforce: schema.BaselineLevel}, Aged: []string{"pod-security.kubernetes.io/enforce-version"}}
	if diff := cmp.Diff(declared, schema.Of(schema.KindOf(ns)).Declares.Do(ns)); diff != "" {
		t.Error(diff)
	}
}

// Without a replica set there are none, and none is fewer than no pods.
func TestHowManyPodsAreAskedFor(t *testing.T) {
	three, negative := int32(3), int32(-1)
	for _, c := range []struct {
		obj           schema.Object
		pods, between int64
	}{
		{&appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: &three}}, 3, 1},
		{&appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: &negative}}, 0, 1},
		{&appsv1.Deployment{}, 0, 1},
		{&appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Replicas: &three}}, 3, 0},
		{&corev1.Pod{}, 1, 0},
	} {
		if got, ok := schema.PodTemplateOf(c.obj); !ok || got.Count != c.pods || got.Between != c.between {
			t.Errorf("%T: got %d pods and %d objects between", c.obj, got.Count, got.Between)
		}
	}
	if _, ok := schema.PodTemplateOf(&corev1.Service{}); ok {
		t.Error("a Service makes pods")
	}
}
