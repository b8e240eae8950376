package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler/scheduler"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

const (
	placedNodes = 5_000
	// placedPods are placed by the index, scannedPods by asking every node.
	placedPods  = 100_000
	scannedPods = 1_000
	// yunikorn and nomad place so many pods a second on this class of machine; see
	// docs/performance.md.
	yunikorn    = 2_400.
	nomad       = 4_400.
	nomadSpread = 96.
)

// placement measures P1 and P2: decisions of the scheduler alone, each counted on
// its node before the next. The scan that the index must equal is the baseline.
func placement(ctx context.Context, _ *bench) ([]row, error) {
	var rows []row
	for _, c := range []struct {
		bar, what   string
		owned, zone bool
		most        float64 // microseconds
		note        string
	}{
		{"P1", "place a pod, basic, 5,000 nodes", false, false, 1e6 / max(100*yunikorn, 50*nomad),
			fmt.Sprintf("the goal is 100 times YuniKorn's core (%.0f/s) and 50 times Nomad (%.0f/s)", yunikorn, nomad)},
		{"P2", "place a pod of a deployment spread over 5,000 nodes", true, false, 10,
			fmt.Sprintf("the goal is 1,000 times Nomad's spread (%.0f/s)", nomadSpread)},
		{"P2", "... that prefers a zone", true, true, 10, ""},
	} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r := state.Empty(state.Counters{}).Begin()
		for i := range placedNodes {
			r.Put(placedNode(i))
		}
		indexed, err := placeAll(r, placedPods, c.owned, c.zone, func(v *scheduler.View, p *corev1.Pod) string { return string(v.Schedule(p, "").Node) })
		if err != nil {
			return nil, err
		}
		scanned, err := placeAll(r, scannedPods, c.owned, c.zone, func(v *scheduler.View, p *corev1.Pod) string { return string(v.Scan(p)) })
		if err != nil {
			return nil, err
		}
		for i, node := range scanned.nodes {
			if indexed.nodes[i] != node {
				return nil, fmt.Errorf("%s: pod %d goes to %s, a scan says %s", c.what, i, indexed.nodes[i], node)
			}
		}
		rows = append(rows, row{
			bar: c.bar, what: c.what, measured: micro(indexed.each), goal: goal{most: quantity{c.most, "us"}},
			against: "asking every node", baseline: micro(scanned.each), note: c.note,
		})
	}
	return rows, nil
}

func placedNode(i int) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%04d", i), Labels: map[string]string{corev1.LabelTopologyZone: string(rune('a' + i%3))}},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse(fmt.Sprint(32 << (i % 2))), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("250"),
			},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

// placedPod is like the pods of one replica set: what they have in common is
// shared in memory.
func placedPod(owned, zone bool) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi"),
		}}}}},
	}
	yes := true
	if owned {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web", UID: "web", Controller: &yes}}
	}
	if zone {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
			Weight: 10, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: []string{"b"}}}},
		}}}}
	}
	return p
}

// placements are where pods went, in order, and how long each took.
type placements struct {
	nodes []string
	each  time.Duration
}

func placeAll(r state.Reader, n int, owned, zone bool, choose func(*scheduler.View, *corev1.Pod) string) (placements, error) {
	template := placedPod(owned, zone)
	pods := make([]corev1.Pod, n)
	for i := range pods {
		pods[i] = *template
		pods[i].Name, pods[i].UID = fmt.Sprintf("p%06d", i), types.UID(fmt.Sprint("u", i))
	}
	out := placements{nodes: make([]string, n)}
	v := scheduler.NewView(r)
	began := time.Now()
	for i := range pods {
		node := choose(v, &pods[i])
		if node == "" {
			return out, fmt.Errorf("no node takes pod %d", i)
		}
		v.Assume(&pods[i], schema.NodeName(node))
		out.nodes[i] = node
	}
	out.each = time.Since(began) / time.Duration(n)
	return out, nil
}
