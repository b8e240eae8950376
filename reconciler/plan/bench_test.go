package plan

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/control"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// benchTree is n objects: a deployment of one pod for each service and two config
// maps.
func benchTree(n int) []*schema.Desired {
	out := make([]*schema.Desired, 0, n)
	add := func(o schema.Object) {
		schema.Default(o)
		at := schema.Position{Path: "all.yaml", Line: len(out) + 1}
		schema.SetOrigin(o, schema.Origin{Source: "main", Path: at.Path, Line: at.Line, Commit: "c"})
		out = append(out, &schema.Desired{Object: o, Position: at, Locate: func(string) schema.Position { return at }})
	}
	for i := 0; len(out) < n; i++ {
		name := fmt.Sprintf("app-%05d", i)
		meta, labels, one := metav1.ObjectMeta{Name: name, Namespace: "default"}, map[string]string{"app": name}, int32(1)
		add(&appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
			Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "localhost/c:v1"}}}},
		}})
		add(&corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 80}}}})
		add(&corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"k": "v"}})
		add(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name + "-more", Namespace: "default"}, Data: map[string]string{"k": "v"}})
	}
	return out
}

// benchCluster runs a tree on 50 nodes.
func benchCluster(tree []*schema.Desired) (*settle.Engine, *fork) {
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	engine := settle.NewEngine(control.Config{ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), NodePortFirst: 30000, NodePortLast: 32767})
	tx := state.Empty(state.Counters{}).Begin()
	tx.Put(&schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: schema.DefaultSourceSpec(schema.SourceSpec{Embedded: true})})
	for i := range 50 {
		tx.Put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%02d", i)}, Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("1000")},
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		}})
	}
	f := newFork(engine, tx.Commit(), settle.NewQueue(), now)
	changes, _ := settle.Difference(f.tx, "main", tree)
	settle.Apply(f.context(), changes)
	f.run()
	return engine, f.next()
}

// BenchmarkPlanOneChange plans a new image for one deployment among many objects.
func BenchmarkPlanOneChange(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		b.Run(fmt.Sprintf("objects=%d", n), func(b *testing.B) {
			tree := benchTree(n)
			engine, f := benchCluster(tree)
			changed := state.Edit(tree[0].Object.(*appsv1.Deployment))
			changed.Spec.Template.Spec.Containers[0].Image = "localhost/c:v2"
			tree[0].Object = changed
			b.ResetTimer()
			for range b.N {
				p := Compute(engine, f.base, f.queue, Candidate{Source: "main", Objects: tree}, f.now)
				if len(p.Objects) != 1 || len(p.Pods) != 2 {
					b.Fatalf("%s", p.Summary())
				}
			}
		})
	}
}
