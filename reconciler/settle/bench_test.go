package settle

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/objecttest"
)

// big is a cluster of deployments with a service each, all in one namespace, and
// agents that do at once what they are told.
type big struct {
	b      *testing.B
	engine *Engine
	queue  *Queue
	at     *state.Snapshot
	given  int // addresses
}

// newBig has the nodes only.
func newBig(b *testing.B, nodes int) *big {
	c := &big{b: b, engine: engine(), queue: NewQueue(), at: state.Empty(state.Counters{})}
	c.round(func(tx *state.Txn) {
		for i := range nodes {
			tx.Put(objecttest.Node(fmt.Sprintf("n%04d", i), "64", "256Gi", roomy))
		}
	})
	return c
}

// fill applies so many pods in deployments of that size.
func (c *big) fill(pods, each int) {
	var objects []schema.Object
	for i := range pods / each {
		name := fmt.Sprintf("app-%05d", i)
		d := deployment(name, int32(each))
		d.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(fmt.Sprintf("%dm", 10*(1+i%5))), corev1.ResourceMemory: resource.MustParse("64Mi"),
		}
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Port: 80}}}}
		schema.Default(svc)
		objects = append(objects, d, svc)
	}
	changes, diags := Difference(c.at, "main", desired(objects...))
	if len(diags) > 0 {
		c.b.Fatal(diags)
	}
	c.round(func(tx *state.Txn) { Apply(c.engine.Context(tx, now), changes) })
}

// round is one of the loop's, and then as many as it takes to come to rest.
func (c *big) round(begin func(tx *state.Txn)) {
	for {
		tx := c.at.Begin()
		begin(tx)
		c.engine.Run(tx, c.queue, now)
		changes := tx.Changes()
		c.at = tx.Commit()
		if len(changes) == 0 && c.queue.Rested() {
			return
		}
		begin = func(tx *state.Txn) { c.agents(tx, changes) }
	}
}

// agents make pods that were bound ready, and let go those that terminate.
func (c *big) agents(tx *state.Txn, changes []state.Change) {
	for _, ch := range changes {
		pod, ok := ch.New.(*corev1.Pod)
		switch {
		case !ok || pod.Spec.NodeName == "":
		case pod.DeletionTimestamp != nil:
			tx.Delete(ch.Key)
		case pod.Status.Phase == corev1.PodPending:
			next := state.Edit(pod)
			c.given++
			next.Status.Phase, next.Status.PodIP = corev1.PodRunning, fmt.Sprintf("10.%d.%d.%d", 128+c.given>>16&127, c.given>>8&255, c.given&255)
			next.Status.Conditions = append(next.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now)})
			tx.Put(next)
		}
	}
}

// BenchmarkScaleByOne adds or takes one pod of one deployment among many: what it
// costs must not depend on how many there are.
func BenchmarkScaleByOne(b *testing.B) {
	for _, pods := range []int{1_000, 10_000, 100_000} {
		var c *big // made once: it takes longer than what is measured
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) {
			if c == nil {
				c = newBig(b, pods/20)
				c.fill(pods, 10)
			}
			c.b = b
			if n := c.at.Len(schema.KindPod); n < pods {
				b.Fatalf("%d pods", n)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				name, want := fmt.Sprintf("app-%05d", (7919*i/2)%(pods/10)), int32(11-i%2)
				c.round(func(tx *state.Txn) {
					d, _ := state.Get[*appsv1.Deployment](tx, "default", name)
					d = state.Edit(d)
					d.Spec.Replicas = &want
					d.Generation++
					tx.Put(d)
				})
			}
		})
	}
}

// BenchmarkFill brings up whole clusters through the engine: deployments, replica
// sets, pods, placement, readiness and endpoints.
func BenchmarkFill(b *testing.B) {
	for _, size := range []struct{ pods, nodes, each int }{{10_000, 1_000, 100}, {100_000, 5_000, 100}, {10_000, 1_000, 1}} {
		b.Run(fmt.Sprintf("pods=%d/nodes=%d/each=%d", size.pods, size.nodes, size.each), func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				c := newBig(b, size.nodes)
				b.StartTimer()
				c.fill(size.pods, size.each)
				if n := c.at.Len(schema.KindPod); n != size.pods {
					b.Fatalf("%d pods", n)
				}
			}
			b.ReportMetric(float64(b.N*size.pods)/b.Elapsed().Seconds(), "pods/s")
		})
	}
}
