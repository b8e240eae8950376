package scheduler

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler/state"
	"fairlead/schema/objecttest"
)

// benchNodes is n nodes in three zones, each a bit busy so that no two are quite
// alike.
func benchNodes(n int) *state.Txn {
	tx := cluster()
	for i := range n {
		name := fmt.Sprintf("n%04d", i)
		tx.Put(objecttest.Node(name, "64", "256Gi", label("zone", string(rune('a'+i%3))), func(n *corev1.Node) { n.Status.Allocatable["pods"] = resource.MustParse("1000000") }))
		tx.Put(pod("busy-"+name, fmt.Sprintf("%dm", 10*(i%97)), "1Gi", on(name)))
	}
	return tx
}

// benchPods is n pods of so many owners, one owner after the other; pods of one
// owner share what a replica set's pods share.
func benchPods(n, owners int, change ...func(*corev1.Pod)) []*corev1.Pod {
	pods := make([]*corev1.Pod, n)
	var template *corev1.Pod
	for i := range pods {
		owner := i * owners / n
		if i == 0 || owner != (i-1)*owners/n {
			template = pod("", "1m", "1Mi", append(change, ownedBy(fmt.Sprint("rs", owner), fmt.Sprint("app=", owner)))...)
		}
		p := *template
		p.Name, p.UID = fmt.Sprintf("p%06d", i), types.UID(fmt.Sprint("u", i))
		pods[i] = &p
	}
	return pods
}

var benchCases = []struct {
	name          string
	nodes, owners int // owners of each 10,000 pods
	change        []func(*corev1.Pod)
}{
	{"basic/nodes=5000", 5_000, 0, []func(*corev1.Pod){func(p *corev1.Pod) { p.OwnerReferences = nil }}},
	{"spread/nodes=5000", 5_000, 1, nil},
	{"spread-and-prefer/nodes=5000", 5_000, 1, []func(*corev1.Pod){preferZone("b")}},
	{"spread-and-require/nodes=5000", 5_000, 1, []func(*corev1.Pod){requireZone("a", "b")}},
	{"owners=100/nodes=5000", 5_000, 100, nil},
	{"owners=1000/nodes=5000", 5_000, 1000, nil},
	{"owners=100/nodes=1000", 1_000, 100, nil},
}

// BenchmarkPlace places pods one after the other. "scan" asks every node, as the
// index must not have to.
func BenchmarkPlace(b *testing.B) {
	for _, c := range benchCases {
		place := func(b *testing.B, v *View, p *corev1.Pod, scanned bool) {
			if scanned {
				v.Assume(p, v.Scan(p))
			} else {
				v.Assume(p, v.Schedule(p, "").Node)
			}
		}
		for _, way := range []string{"index", "scan"} {
			b.Run(c.name+"/"+way, func(b *testing.B) {
				tx := benchNodes(c.nodes)
				v := NewView(tx)
				pods := benchPods(10_000, max(1, c.owners), c.change...)
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					if i > 0 && i%len(pods) == 0 {
						b.StopTimer()
						v = NewView(tx)
						b.StartTimer()
					}
					place(b, v, pods[i%len(pods)], way == "scan")
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
			})
		}
	}
}
